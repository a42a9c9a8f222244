"""What has been published on a connection and not been answered by the broker.

The broker limits how many QoS 1 and 2 messages may be unanswered, and the owner may limit what is sent per second. What
is published beyond these limits waits here, in its order.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from wire.errors import LinkLost, Refused
from wire.mqtt.reason_codes import MIN_FAILURE_CODE, reason_text
from wire.process.rate_limit import RateLimit

Pieces = tuple[bytes, ...]
"""A packet, in pieces that are sent one after the other."""
MAX_UNANSWERED = 65_535
"""The number of packet identifiers."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message that has not been sent."""

    size: int
    """Bytes of its packet."""
    is_answerable: bool
    """Whether the broker answers it: at QoS 1 and 2."""
    send: Callable[[], None]


class Publications:
    """The unanswered publications of one connection. Thread-safe."""

    def __init__(self, transmit: Callable[[int, Pieces], None], rate: RateLimit | None = None) -> None:
        """Set up without a limit on the unanswered messages.

        Args:
            transmit: sends a QoS 1 or 2 message; gets its packet identifier and the packet.
            rate: how much may be sent per second; None: unlimited.
        """
        self.receive_maximum = MAX_UNANSWERED
        """How many messages the broker allows to be unanswered."""
        self._transmit, self._rate = transmit, rate
        self._lock = threading.Lock()
        self._unanswered: dict[int, Future[int]] = {}
        self._waiting: deque[_Waiting] = deque()
        """Messages that have not been sent yet, because of a limit."""
        self._underway = 0
        """Number of QoS 1 and 2 messages that were sent and are unanswered."""
        self._unsent: set[Future[int]] = set()
        """QoS 0 messages that have not been sent."""
        self._last_mid = 0
        self._end_reason: str | None = None

    def add(self, packet: Callable[[int], Pieces]) -> "Future[int]":
        """Send a QoS 1 or 2 message, or let it wait, and return the future of its answer.

        Args:
            packet: returns the packet with a packet identifier.
        """
        future: Future[int] = Future()
        with self._lock:
            if self._end_reason is None and len(self._unanswered) < MAX_UNANSWERED:
                mid = self._next_mid()
                self._unanswered[mid] = future
                pieces = packet(mid)
                if self._rate is None and not self._waiting and self._underway < self.receive_maximum:
                    self._underway += 1
                    self._transmit(mid, pieces)
                    return future
                self._waiting.append(_Waiting(sum(map(len, pieces)), True, partial(self._transmit, mid, pieces)))
                self._send_waiting()
                return future
            reason = self._end_reason or "too many publications are unanswered"
        future.set_exception(LinkLost(reason))
        return future

    def add_unanswerable(self, size: int, send: Callable[[Callable[[], None]], None]) -> "Future[int]":
        """Send a QoS 0 message, or let it wait for the rate, and return its future.

        Args:
            size: bytes of its packet.
            send: sends it; gets what to call when it has been sent.
        """
        future: Future[int] = Future()
        with self._lock:
            reason = self._end_reason
            if reason is None:
                self._unsent.add(future)
                if self._rate is None:
                    send(lambda: self._on_sent(future))
                else:
                    self._waiting.append(_Waiting(size, False, partial(send, lambda: self._on_sent(future))))
                    self._send_waiting()
        if reason is not None:
            future.set_exception(LinkLost(reason))
        return future

    def send_waiting(self) -> float:
        """Send what may be sent. Return the seconds until the rate allows the next message; infinity if it need not."""
        if self._rate is None:
            return math.inf
        with self._lock:
            self._send_waiting()
            if not self._waiting or self._is_window_full():
                return math.inf
            return self._rate.wait_seconds(self._waiting[0].size)

    def reserve_mid(self) -> int:
        """Return a packet identifier that no message has."""
        with self._lock:
            return self._next_mid()

    def answer(self, mid: int, reason_code: int) -> None:
        """Report the final answer to a message, and send the next one that waits."""
        with self._lock:
            future = self._unanswered.pop(mid, None)
            if future is not None:
                self._underway = max(0, self._underway - 1)
            self._send_waiting()
        if future is None:
            return
        if reason_code >= MIN_FAILURE_CODE:
            future.set_exception(Refused(reason_code, reason_text(reason_code)))
        else:
            future.set_result(reason_code)

    def end(self, reason: str) -> None:
        """Report that the connection has ended: everything that is unanswered fails, and whatever is added later."""
        with self._lock:
            self._end_reason = reason
            lost = [*self._unanswered.values(), *self._unsent]
            self._unanswered.clear()
            self._unsent.clear()
            self._waiting.clear()
        for future in lost:
            future.set_exception(LinkLost(reason))

    def _is_window_full(self) -> bool:
        return self._waiting[0].is_answerable and self._underway >= self.receive_maximum

    def _send_waiting(self) -> None:
        while self._waiting and not self._is_window_full():
            first = self._waiting[0]
            if self._rate is not None:
                if self._rate.wait_seconds(first.size) > 0:
                    return
                self._rate.note(first.size)
            self._waiting.popleft()
            self._underway += first.is_answerable
            first.send()

    def _on_sent(self, future: "Future[int]") -> None:
        with self._lock:
            if future not in self._unsent:
                return
            self._unsent.discard(future)
        future.set_result(0)

    def _next_mid(self) -> int:
        while True:
            self._last_mid = self._last_mid % MAX_UNANSWERED + 1
            if self._last_mid not in self._unanswered:
                return self._last_mid
