"""The dispatcher: publishes the faces in the outbox, and deletes each when its receipt arrives.

At most a window of faces is under way, that is published and not yet receipted. The rest waits on disk, so an outage
fills the edge's disk and never a broker's memory. While there is a backlog, every other face to be published is the
newest one, so live faces do not wait for the backlog.

The dispatcher has no thread and no clock of its own. Its owner reports events to it and calls :meth:`Dispatcher.step`.
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

FULL_DISK_RETRY_SECONDS = 5.0
"""Pause before receipts that could not be written to a full disk are tried again."""
MAX_RECEIPT_TIMEOUT_SECONDS = 300.0
"""Maximum time to wait for a receipt before a face is sent again."""

_log = structlog.get_logger("dispatcher")


@dataclass(frozen=True, slots=True)
class _Sent:
    """A face that is under way."""

    id: str
    attempts: int
    overdue_at: float
    """When its receipt is overdue, on the dispatcher's clock."""


class Dispatcher:
    """Decides when each face is published, and deletes faces that are receipted."""

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
        """Set up the dispatcher; at most ``window`` faces are under way.

        ``publish`` publishes a face, given the seconds until it is published again; for the first time, these are
        ``resend_after``. It may fail silently, as only a receipt counts. ``chance`` is for the jitter, 0 to 1.
        """
        self.published = 0
        """Faces published since the start, including those sent again."""
        self.resent = 0
        """Faces sent again since the start."""
        self.receipted = 0
        """Faces receipted since the start."""
        self._outbox, self._publish = outbox, publish
        self._window, self._resend_after = window, resend_after
        self._clock, self._chance = clock, chance
        self._lock = threading.Lock()
        self._receipts: list[tuple[str, str]] = []
        """Id and camera of each receipt that is not processed yet."""
        self._is_link_up = False
        self._is_cloud_down = False
        self._must_resend_all = False
        self._underway: dict[int, _Sent] = {}
        """The faces under way, by sequence number."""

    @property
    def underway(self) -> int:
        """Number of faces under way."""
        return len(self._underway)

    def on_receipt(self, face_id: str, camera: str) -> None:
        """Report that the receipt of a face has arrived."""
        with self._lock:
            self._receipts.append((face_id, camera))

    def on_link_up(self) -> None:
        """Report that the local broker is connected. It may have lost the faces under way, so they are sent again."""
        with self._lock:
            self._is_link_up = self._must_resend_all = True

    def on_link_down(self) -> None:
        """Report that the local broker is disconnected."""
        with self._lock:
            self._is_link_up = self._is_cloud_down = False

    def on_cloud_up(self) -> None:
        """Report that a forwarder has reconnected to the cloud. The faces under way may be lost and are sent again."""
        with self._lock:
            self._is_cloud_down = False
            self._must_resend_all = True

    def on_cloud_down(self) -> None:
        """Report that no forwarder is connected to the cloud. More faces would fill the local broker's memory."""
        with self._lock:
            self._is_cloud_down = True

    def step(self) -> float:
        """Process receipts, publish faces, and return the seconds until the next step at the latest."""
        with self._lock:
            receipts, self._receipts = self._receipts, []
            can_send = self._is_link_up and not self._is_cloud_down
            resend_all = self._must_resend_all and can_send
            if resend_all:
                self._must_resend_all = False
        if receipts and not self._delete_receipted(receipts):
            return FULL_DISK_RETRY_SECONDS
        if not can_send:
            return MAX_RECEIPT_TIMEOUT_SECONDS
        self._resend(resend_all)
        self._fill_window()
        now = self._clock()
        seconds_left = (sent.overdue_at - now for sent in self._underway.values())
        return max(0.0, min(seconds_left, default=MAX_RECEIPT_TIMEOUT_SECONDS))

    def _delete_receipted(self, receipts: list[tuple[str, str]]) -> bool:
        """Delete receipted faces, and return whether that worked."""
        try:
            self.receipted += self._outbox.delete_receipted(receipts)
        except sqlite3.OperationalError as error:  # the disk is full, and may have room later
            _log.error("receipts not written, retrying", receipts=len(receipts), reason=str(error))
            with self._lock:
                self._receipts = list(dict.fromkeys((*receipts, *self._receipts)))
            return False
        receipted_ids = {face_id for face_id, _ in receipts}
        self._underway = {seq: sent for seq, sent in self._underway.items() if sent.id not in receipted_ids}
        return True

    def _resend(self, resend_all: bool) -> None:
        """Send again the faces whose receipt is overdue, or all that are under way."""
        now = self._clock()
        for seq, sent in list(self._underway.items()):
            if resend_all:
                self.resent += self._send(seq, 1)
            elif sent.overdue_at <= now:
                self.resent += self._send(seq, sent.attempts + 1)

    def _fill_window(self) -> None:
        """Publish faces until the window is full: the newest and the oldest in equal parts."""
        room = self._window - len(self._underway)
        if room <= 0:
            return
        newest = self._outbox.waiting(self._underway, (room + 1) // 2, newest_first=True)
        oldest = self._outbox.waiting({*self._underway, *newest}, room - len(newest), newest_first=False)
        for seq in (*newest, *oldest):
            self._send(seq, 1)

    def _send(self, seq: int, attempt: int) -> bool:
        """Publish a face, and return whether it was still in the outbox. The first ``attempt`` is 1."""
        face = self._outbox.get(seq)
        if face is None:  # dropped, as the outbox was full
            self._underway.pop(seq, None)
            return False
        timeout = delay_seconds(
            attempt - 1, self._resend_after, MAX_RECEIPT_TIMEOUT_SECONDS, jitter=0.25, chance=self._chance()
        )
        self._underway[seq] = _Sent(face.id, attempt, self._clock() + timeout)
        self._publish(face, timeout)
        self.published += 1
        return True
