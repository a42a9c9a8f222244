"""Decides from its progress whether a connection is alive.

A broker disconnects a client from which it has received no complete packet for 1.5 times the keepalive. A message of
128 KiB takes 65 s at 16 kbit/s, so the keepalive must be long, and cannot be what finds a dead connection. This module
finds it sooner. A connection is dead if

- data is queued, but nothing of it has reached the peer's host for :data:`STALLED_SECONDS`, or
- a PINGREQ has reached the peer's host, but no PINGRESP comes, and nothing else either, for :data:`PONG_SECONDS`, or
- no PINGRESP has come for :data:`MAX_PING_SECONDS`, whatever else has come, or
- the broker has answered a PINGREQ that was sent after a PUBLISH, and does not answer the PUBLISH for
  :data:`UNANSWERED_SECONDS`. A broker that limits the rate may discard a message without an answer, and the message may
  be sent again only on a new connection.

Both times are longer by what the data that is queued may take in buffers on the way, at the measured rate of the link.

A PINGREQ is sent after :data:`PING_SECONDS` without a packet in one direction; sooner if an answer is due.
"""

import enum
import fcntl
import struct
import termios
import threading
import time
from collections.abc import Callable

PING_SECONDS = 7.0
DUE_PING_SECONDS = 5.0
"""Seconds without an answer to a PUBLISH after which a PINGREQ is sent."""
STALLED_SECONDS = 12.0
PONG_SECONDS = 10.0
MAX_PING_SECONDS = 90.0
SLOW_BYTES_PER_SECOND = 2000.0
"""Assumed rate of the link while none has been measured: 16 kbit/s."""
UNANSWERED_SECONDS = 60.0
BUFFER_BYTES = 65_536
"""Assumed size of the buffers on the way. What they hold looks as if it had arrived, and they may take new data only
when half of it has left."""
_MIN_SAMPLE_BYTES = 8192


class Verdict(enum.Enum):
    """What to do about a connection."""

    ALIVE = "alive"
    PING = "send a PINGREQ"
    DEAD = "no answer, and no progress"
    """Close the connection, for this reason."""
    UNANSWERED = "the broker has not answered a message"
    """Close the connection, for this reason."""


class Liveness:
    """The progress of one connection. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._queued = self._sent = self._arrived = 0
        """Bytes queued for sending, given to the operating system, and acknowledged by the peer's, since the start."""
        self._arrived_at = self._queued_at = self._received_at = clock()
        self._answered_at = clock()
        self.received = 0
        """Bytes received since the start."""
        self._rate = SLOW_BYTES_PER_SECOND
        self._publications: dict[int, tuple[float, int]] = {}
        """Packet identifier of each unanswered PUBLISH: when it was queued, and the bytes then queued up to its end."""
        self._ping_end: int | None = None
        """Position of the end of the unanswered PINGREQ in the bytes queued; None if there is none."""
        self._ping_bytes = 0
        """Bytes that were unanswered when the PINGREQ was queued."""
        self._ping_arrived_at: float | None = None
        self._ping_queued_at = clock()
        self._processed: dict[int, float] = {}
        """Unanswered PUBLISHes that the broker must have processed, as it has answered a later PINGREQ: since when."""

    def on_queued(self, size: int, publication: int | None = None, *, is_ping: bool = False) -> None:
        """Report a packet that is queued for sending; ``publication`` is the identifier of a QoS 1 or 2 PUBLISH."""
        with self._lock:
            now = self._clock()
            if self._queued <= self._arrived:
                self._arrived_at = now
            self._queued += size
            self._queued_at = now
            if publication is not None:
                self._publications[publication] = now, self._queued - self._arrived
            if is_ping:
                self._ping_end, self._ping_arrived_at, self._ping_queued_at = self._queued, None, now
                ahead = max((ahead for _, ahead in self._publications.values()), default=0)
                self._ping_bytes = max(ahead, self._queued - self._arrived)

    def on_sent(self, size: int) -> None:
        """Report bytes that the operating system has taken."""
        with self._lock:
            self._sent += size

    def on_received(self, size: int) -> None:
        """Report bytes that have been received."""
        with self._lock:
            self.received += size
            self._received_at = self._clock()

    def on_answer(self, publication: int) -> None:
        """Report the first answer to a PUBLISH."""
        with self._lock:
            now = self._answered_at = self._clock()
            queued_at, ahead = self._publications.pop(publication, (now, 0))
            self._processed.pop(publication, None)
            if ahead >= _MIN_SAMPLE_BYTES:
                rate = ahead / max(1e-3, now - queued_at)
                self._rate += (rate - self._rate) / 4

    def on_deaf(self) -> None:
        """Report that nothing is received at present because there is no room: silence then says nothing."""
        with self._lock:
            self._received_at = self._answered_at = self._clock()
            self._ping_end = self._ping_arrived_at = None
            self._processed.clear()

    def on_pong(self) -> None:
        """Report a PINGRESP."""
        with self._lock:
            if self._ping_end is not None:
                now = self._clock()
                for publication, (queued_at, _) in self._publications.items():
                    if queued_at < self._ping_queued_at:
                        self._processed.setdefault(publication, now)
            self._ping_end = self._ping_arrived_at = None

    def check(self, unacknowledged: int, keepalive_seconds: float) -> Verdict:
        """Return what to do. Called about once a second.

        Args:
            unacknowledged: bytes that the operating system holds for the peer, see :func:`unacknowledged_bytes`.
            keepalive_seconds: the keepalive on which client and broker have agreed.
        """
        with self._lock:
            now = self._clock()
            arrived = self._sent - unacknowledged
            if arrived > self._arrived or self._queued <= self._arrived:
                self._arrived, self._arrived_at = max(arrived, self._arrived), now
            if now - self._arrived_at > STALLED_SECONDS + self._seconds_in_buffers(self._queued - self._arrived):
                return Verdict.DEAD
            if self._ping_end is not None:
                return Verdict.DEAD if self._pong_is_overdue(self._ping_end, now) else Verdict.ALIVE
            if now - min(self._processed.values(), default=now) > UNANSWERED_SECONDS:
                return Verdict.UNANSWERED
            idle_since = min(self._queued_at, self._received_at)
            if now - idle_since >= min(PING_SECONDS, keepalive_seconds):
                return Verdict.PING
            oldest = min((queued_at for queued_at, _ in self._publications.values()), default=now)
            is_due = now - max(oldest, self._answered_at, self._received_at) >= DUE_PING_SECONDS
            is_in_doubt = not self._processed and now - oldest >= UNANSWERED_SECONDS
            return Verdict.PING if is_due or is_in_doubt else Verdict.ALIVE

    def _pong_is_overdue(self, ping_end: int, now: float) -> bool:
        if self._arrived < ping_end:
            return False
        if self._ping_arrived_at is None:
            self._ping_arrived_at = now
        silence = now - max(self._ping_arrived_at, self._received_at)
        allowed = PONG_SECONDS + self._seconds_in_buffers(self._ping_bytes)
        return silence > allowed or now - self._ping_arrived_at > MAX_PING_SECONDS

    def _seconds_in_buffers(self, size: int) -> float:
        """Return how long buffers on the way may take to pass on ``size`` bytes, or to take more of them."""
        return min(BUFFER_BYTES, size) / self._rate


def unacknowledged_bytes(file_descriptor: int) -> int:
    """Return how many bytes of a TCP connection the operating system has not sent, or the peer's not acknowledged.

    Linux knows it (tcp(7), SIOCOUTQ). On other systems this is 0, and what the system has taken counts as arrived.
    """
    try:
        answer = fcntl.ioctl(file_descriptor, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0
    return int(struct.unpack("i", answer)[0])
