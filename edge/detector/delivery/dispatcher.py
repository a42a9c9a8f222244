"""The dispatcher: publishes the faces in the outbox, and deletes each when its receipt arrives.

What is under way, that is published and not yet receipted, is bounded by a number of faces and by what the link carries
in a few seconds. The rest waits on disk, so an outage fills the edge's disk and never a broker's memory. While there is
a backlog, every other face to be published is the newest one, so live faces do not wait for the backlog.

The dispatcher has no thread and no clock of its own. Its owner reports events to it and calls :meth:`Dispatcher.step`.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable

from edge.detector.delivery.outbox import Outbox, OutboxFace
from edge.detector.delivery.underway import Reason, Underway
from wire.process.congestion import MIN_MESSAGES, CongestionWindow
from wire.receipt import Receipt

TARGET_SECONDS = 1.0
"""How long a face may wait behind others on its way to S3. Longer than the forwarder's, which needs faces to send. A
thousand devices that send as fast as they can share one queue in the cloud's broker. With 4 s, it was full."""
UNREADABLE_RETRY_SECONDS = 30.0
"""Pause before a face that the outbox lists but does not return is asked for again."""
IDLE_STEP_SECONDS = 30.0
"""Interval between two steps while nothing is under way."""
CLOCK_POLL_SECONDS = 1.0
"""Interval at which faces that were captured before the clock was set check whether it is set."""
MAINTENANCE_SECONDS = 0.05
"""Pause between two steps of the outbox's maintenance."""
_BATCH = 8
"""Number of new faces that the outbox is asked for at once, from either end."""


class Dispatcher:
    """Decides when each face is published, and deletes faces that are receipted."""

    def __init__(
        self,
        outbox: Outbox,
        publish: Callable[[OutboxFace, float], None],
        *,
        window: int,
        resend_after: float,
        camera: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Set up the dispatcher; at most ``window`` faces are under way.

        ``publish`` publishes a face, given the seconds until it is published again. It may fail silently, as only a
        receipt counts. ``resend_after`` is how long the first receipt is awaited, in seconds, beyond what the link
        needs. ``camera`` is the camera of new faces: receipts of other cameras count only for faces that were sent by
        this dispatcher, as other detectors have them, too; None: all count. ``chance`` is for the jitter, 0 to 1.
        """
        self.published = 0
        """Faces published since the start, including those sent again."""
        self.resent = 0
        """Faces sent again since the start."""
        self.receipted = 0
        """Faces receipted since the start."""
        self._outbox, self._publish, self._clock, self._camera = outbox, publish, clock, camera
        self._lock = threading.Lock()
        self._receipts: list[tuple[Receipt, str]] = []
        """The receipts that are not processed yet, and the camera of each."""
        self._is_link_up = False
        self._is_cloud_down = False
        self._has_come_back = False
        """A link has come back, and the faces under way have not been hurried yet."""
        self._window = CongestionWindow(target_seconds=TARGET_SECONDS, max_messages=window, clock=clock)
        self._underway = Underway(self._window, resend_after=resend_after, clock=clock, chance=chance)
        self._max_suspects = max(1, window // 3)
        self._is_oldest_next = False
        self._has_unread = False
        """Whether the last faces that the outbox listed could not be read, and more may follow."""
        self._maintained_at = clock()

    @property
    def underway(self) -> int:
        """Number of faces under way."""
        return len(self._underway.sent)

    @property
    def parked(self) -> int:
        """Number of faces that were sent, got no receipt, and wait to be sent again."""
        return len(self._underway.parked)

    def on_receipt(self, receipt: Receipt, camera: str) -> None:
        """Report that the receipt of a face has arrived."""
        with self._lock:
            self._receipts.append((receipt, camera))

    def on_link_up(self) -> None:
        """Report that the local broker is connected. It may have lost the faces under way."""
        with self._lock:
            self._is_link_up = self._has_come_back = True

    def on_link_down(self) -> None:
        """Report that the local broker is disconnected."""
        with self._lock:
            self._is_link_up = self._is_cloud_down = False

    def on_cloud_up(self) -> None:
        """Report that a forwarder has reconnected to the cloud. The faces under way may be lost."""
        with self._lock:
            self._is_cloud_down = False
            self._has_come_back = True

    def on_cloud_down(self) -> None:
        """Report that no forwarder is connected to the cloud. More faces would fill the local broker's memory."""
        with self._lock:
            self._is_cloud_down = True

    def step(self) -> float:
        """Process receipts, publish faces, and return the seconds until the next step at the latest."""
        with self._lock:
            receipts, self._receipts = self._receipts, []
            can_send = self._is_link_up and not self._is_cloud_down
            has_come_back = self._has_come_back and can_send
            if has_come_back:
                self._has_come_back = False
        receipts = [(receipt, camera) for receipt, camera in receipts if self._is_ours(receipt.face_id, camera)]
        if receipts:
            self._underway.receipt({receipt.face_id: receipt.is_congested for receipt, _ in receipts})
            self.receipted += self._outbox.delete_receipted([(receipt.face_id, camera) for receipt, camera in receipts])
        seconds = self._settle_times()
        has_published = False
        if can_send:
            if has_come_back:
                self._underway.hurry()
            self._underway.expire()
            has_published = self._fill_window()
            seconds = self._underway.seconds_left(seconds)
            if self._has_unread:
                seconds = min(seconds, MAINTENANCE_SECONDS)
        is_idle = not receipts and not has_published
        if is_idle or self._clock() >= self._maintained_at + IDLE_STEP_SECONDS:
            self._maintained_at = self._clock()
            if self._outbox.maintain():
                seconds = min(seconds, MAINTENANCE_SECONDS)
        return seconds

    def _is_ours(self, face_id: str, camera: str) -> bool:
        return self._camera in (None, camera) or self._underway.was_sent(face_id)

    def _settle_times(self) -> float:
        """Give faces that wait for the clock their time if it is set. Return the seconds until the next step."""
        if not self._outbox.untimed:
            return IDLE_STEP_SECONDS
        while self._outbox.settle_times():
            pass
        return CLOCK_POLL_SECONDS

    def _fill_window(self) -> bool:
        """Publish faces until the window is full, and return whether any was published.

        First those that a link may have lost, then a few of those that others have overtaken, then new ones, and last
        those that got no receipt while no other face got one either.
        """
        published, underway = self.published, self._underway
        for seq in underway.due(Reason.REPEATED):
            del underway.parked[seq]  # the outbox may have repaired it
        for seq in underway.due(Reason.LINK_BACK):
            if not self._window.has_room():
                break
            self._send_again(seq)
        for seq in underway.due(Reason.OVERTAKEN):
            if underway.suspects >= self._max_suspects or not self._window.has_room():
                break
            self._send_again(seq)
        self._send_new()
        for seq in underway.due(Reason.SILENCE):
            if not self._window.has_room():
                break
            self._send_again(seq)
        return self.published > published

    def _send_new(self) -> None:
        """Publish faces that were not published before: the newest and the oldest alternately."""
        self._has_unread = False
        while self._has_room_for_new():
            known = self._underway.known
            newest = deque(self._outbox.waiting(known, _BATCH, newest_first=True))
            oldest = deque(self._outbox.waiting({*known, *newest}, _BATCH, newest_first=False))
            if not newest:
                return
            queues = deque((oldest, newest) if self._is_oldest_next else (newest, oldest))
            published = self.published
            while self._has_room_for_new() and any(queues):
                if queues[0]:
                    self._is_oldest_next = queues[0] is newest
                    self._send(queues[0].popleft())
                queues.rotate()
            if self.published == published:
                self._has_unread = True
                return  # none can be read; the next step goes on, after receipts that have arrived meanwhile

    def _has_room_for_new(self) -> bool:
        """Return whether a new face may be sent. Faces that were overtaken before do not take the last room."""
        others = len(self._underway.sent) - self._underway.suspects
        is_full = len(self._underway.sent) >= self._window.max_messages
        return self._window.has_room() or (others < MIN_MESSAGES and not is_full)

    def _send(self, seq: int) -> None:
        """Publish a face that is not under way, unless it was published a short time ago."""
        now = self._clock()
        face = self._outbox.get(seq)
        if face is None:  # dropped, as the outbox was full, or unreadable
            self._underway.set_aside(seq, "", now + UNREADABLE_RETRY_SECONDS)
        elif self._underway.earliest(face.id) > now:
            self._underway.set_aside(seq, face.id, self._underway.earliest(face.id))
        else:
            self._publish_face(seq, face)

    def _send_again(self, seq: int) -> None:
        """Publish a parked face, if it is still in the outbox."""
        face = self._outbox.get(seq)
        if face is None or face.id != self._underway.parked[seq].id:
            del self._underway.parked[seq]
            return
        self._publish_face(seq, face)
        self.resent += 1

    def _publish_face(self, seq: int, face: OutboxFace) -> None:
        self._publish(face, self._underway.add(seq, face.id, len(face.jpeg)))
        self.published += 1
