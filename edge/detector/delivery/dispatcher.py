"""The courier: takes faces from the outbox to the local broker until each has been signed for.

At most a window of them is under way. The rest waits on disk, so an outage fills the edge's disk and never a broker's
memory. While there is a backlog, every other face that sets out is the newest one: live faces are not held up by it.

The courier is a machine without threads or clocks of its own: it is told what happens, and :meth:`step` does what is
due.
"""

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from edge.detector.delivery.outbox import Outbox, OutboxFace
from wire.process.backoff import delay_seconds

FULL_DISK_SECONDS = 5.0
"""The pause before receipts are noted again that could not be."""
MAX_RECEIPT_TIMEOUT_SECONDS = 300.0
"""The longest wait for a receipt before a face is sent again."""

_log = structlog.get_logger("courier")


@dataclass(slots=True)
class _Sent:
    """A face under way."""

    id: str
    attempts: int
    due: float
    """When its receipt is overdue, on the courier's clock."""


class Dispatcher:
    """Decides which face is published when, and deletes those that have been signed for."""

    def __init__(
        self,
        outbox: Outbox,
        publish: Callable[[OutboxFace, float], None],
        *,
        window: int,
        resend_after: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Set up a courier.

        Args:
            outbox: where the faces are.
            publish: sends one on its way and is told for how many seconds its receipt will be waited for; may fail
                silently, as the receipt alone counts.
            window: how many faces may be under way.
            resend_after: seconds until a receipt is overdue for the first time.
            clock: seconds that never go back.
            chance: a random number from 0 to 1, for the jitter.
        """
        self.published = 0
        """Faces sent on their way since the start, again or for the first time."""
        self.resent = 0
        """Faces sent more than once since the start."""
        self.receipted = 0
        """Faces signed for since the start."""
        self._outbox, self._publish = outbox, publish
        self._window, self._resend_after = window, resend_after
        self._clock, self._chance = clock, chance
        self._lock = threading.Lock()
        self._receipts: list[tuple[str, str]] = []
        self._link_up = False
        self._cloud_down = False
        self._send_again = False
        self._underway: dict[int, _Sent] = {}

    @property
    def underway(self) -> int:
        """How many faces are under way."""
        return len(self._underway)

    def receipt(self, face_id: str, camera: str) -> None:
        """Note that a face has been signed for."""
        with self._lock:
            self._receipts.append((face_id, camera))

    def link_up(self) -> None:
        """Note that the local broker can be reached again: what was under way may be lost."""
        with self._lock:
            self._link_up = self._send_again = True

    def link_down(self) -> None:
        """Note that the local broker is away."""
        with self._lock:
            self._link_up = self._cloud_down = False

    def cloud_up(self) -> None:
        """Note that the forwarder has a new link to the cloud: what was under way may be lost."""
        with self._lock:
            self._cloud_down = False
            self._send_again = True

    def cloud_down(self) -> None:
        """Note that the forwarder has no link to the cloud: to send more would fill the local broker's memory."""
        with self._lock:
            self._cloud_down = True

    def step(self) -> float:
        """Do what is due, and return in how many seconds there will be more at the latest."""
        with self._lock:
            receipts, self._receipts = self._receipts, []
            can_send = self._link_up and not self._cloud_down
            send_again = self._send_again and can_send
            if send_again:
                self._send_again = False
        if receipts and not self._settle(receipts):
            return FULL_DISK_SECONDS
        if not can_send:
            return MAX_RECEIPT_TIMEOUT_SECONDS
        self._resend(everything=send_again)
        self._fill_window()
        now = self._clock()
        return max(0.0, min((sent.due - now for sent in self._underway.values()), default=MAX_RECEIPT_TIMEOUT_SECONDS))

    def _settle(self, receipts: list[tuple[str, str]]) -> bool:
        try:
            self.receipted += self._outbox.delete_receipted(receipts)
        except sqlite3.OperationalError as error:  # a full disk: it may have room later
            _log.error("receipts cannot be noted, trying again", receipts=len(receipts), reason=str(error))
            with self._lock:
                self._receipts = list(dict.fromkeys((*receipts, *self._receipts)))
            return False
        signed = {face_id for face_id, _ in receipts}
        for seq in [seq for seq, sent in self._underway.items() if sent.id in signed]:
            del self._underway[seq]
        return True

    def _resend(self, everything: bool) -> None:
        now = self._clock()
        for seq, sent in list(self._underway.items()):
            if not everything and sent.due > now:
                continue
            if everything:
                sent.attempts = 0
            self.resent += self._send(seq, sent.attempts + 1)

    def _fill_window(self) -> None:
        room = self._window - len(self._underway)
        if room <= 0:
            return
        newest = self._outbox.waiting(self._underway, (room + 1) // 2, newest_first=True)
        oldest = self._outbox.waiting({*self._underway, *newest}, room - len(newest), newest_first=False)
        for seq in (*newest, *oldest):
            self._send(seq, 1)

    def _send(self, seq: int, attempt: int) -> bool:
        entry = self._outbox.get(seq)
        if entry is None:  # it has given way to a newer one
            self._underway.pop(seq, None)
            return False
        patience = self._receipt_timeout(attempt)
        self._underway[seq] = _Sent(entry.id, attempt, self._clock() + patience)
        self._publish(entry, patience)
        self.published += 1
        return True

    def _receipt_timeout(self, attempt: int) -> float:
        """Return for how many seconds to wait for the receipt of the given attempt, 1 for the first."""
        return delay_seconds(
            attempt - 1, self._resend_after, MAX_RECEIPT_TIMEOUT_SECONDS, jitter=0.25, chance=self._chance()
        )
