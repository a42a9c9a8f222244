"""The faces that were sent and have no receipt yet: those that count in the window, and those that are parked.

A face waits for its receipt as long as the link needs for it and for what was under way before it, and ``RESEND_AFTER``
beyond that. Then it is sent again, after waits that double. If others are receipted meanwhile, the face is parked: it
does not count in the window while it waits, so faces that never get a receipt do not keep the others back. If nothing
is receipted at all, the fault is not the face's: the window becomes small and the waits grow for all faces together.
"""

import enum
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from wire.process.congestion import CongestionWindow, Flight

MAX_RECEIPT_TIMEOUT_SECONDS = 300.0
"""Maximum time to wait for a receipt, beyond what the link needs, before a face is sent again."""
SLOW_BYTES_PER_SECOND = 1000.0
"""Assumed rate of the link while none has been measured."""
MIN_GRACE_SECONDS = 1.0
MAX_GRACE_SECONDS = 5.0
"""When a link comes back, receipts may be on their way: seconds to wait for them before faces are sent again."""
_NEED_FACTOR = 2.0
_JITTER = 0.25
_MAX_REMEMBERED = 4096


class Reason(enum.Enum):
    """Why a face is parked."""

    LINK_BACK = "a link has come back, and the face may be lost"
    OVERTAKEN = "faces that were sent later were receipted"
    SILENCE = "no face was receipted"
    REPEATED = "the outbox has returned it again, or not at all"


@dataclass(frozen=True, slots=True)
class Sent:
    """A face that is under way."""

    id: str
    attempts: int
    flight: Flight
    slot_seconds: float
    """How long it counts in the window, beyond what the link needs, while others are receipted."""
    patience_seconds: float
    """How long it waits for its receipt, beyond what the link needs."""
    is_suspect: bool
    """Whether it has been overtaken by others before."""
    hurried_until: float = math.inf
    """When it is sent again, as a link has come back."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A face that was sent, got no receipt, and does not count in the window."""

    id: str
    attempts: int
    due_at: float
    """When it may be sent again."""
    reason: Reason


class Underway:
    """Faces by sequence number. Not thread-safe: the dispatcher's thread uses it."""

    def __init__(
        self,
        window: CongestionWindow,
        *,
        resend_after: float,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """Set up without faces; ``resend_after`` is in seconds, ``chance`` is for the jitter, 0 to 1."""
        self.window = window
        self.sent: dict[int, Sent] = {}
        """The faces that count in the window."""
        self.parked: dict[int, Parked] = {}
        self._resend_after, self._clock, self._chance = resend_after, clock, chance
        self._receipted_at = -math.inf
        self._silences = 0
        """How often in a row nothing was receipted before faces were overdue."""
        self._silent_since = -math.inf
        self._remembered: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """By the id of a face sent lately: the number of attempts, and the earliest time of the next one."""

    @property
    def known(self) -> set[int]:
        """Sequence numbers of the faces that are not to be sent as if for the first time."""
        return self.sent.keys() | self.parked.keys()

    def receipt(self, receipts: Mapping[str, bool]) -> None:
        """Remove faces that are receipted. For each id, ``receipts`` says whether the cloud is congested."""
        self._receipted_at, self._silences = self._clock(), 0
        for seq, sent in list(self.sent.items()):
            if (is_congested := receipts.get(sent.id)) is not None:
                self.window.answer(sent.flight, is_congested=is_congested)
                del self.sent[seq]
        self.parked = {
            seq: replace(parked, reason=Reason.LINK_BACK) if parked.reason is Reason.SILENCE else parked
            for seq, parked in self.parked.items()
            if parked.id not in receipts
        }

    def was_sent(self, face_id: str) -> bool:
        """Return whether a face was sent lately."""
        return face_id in self._remembered

    def earliest(self, face_id: str) -> float:
        """Return when a face may be sent: later than now if it was sent lately and is not parked.

        An outbox whose index is damaged may return a face again that was receipted.
        """
        return self._remembered.get(face_id, (0, -math.inf))[1]

    def add(self, seq: int, face_id: str, size: int) -> float:
        """Report that a face of ``size`` bytes is sent, and return the seconds until it is sent again."""
        parked = self.parked.pop(seq, None)
        attempts = 1 + (parked.attempts if parked else self._remembered.get(face_id, (0, 0.0))[0])
        flight = self.window.send(size, is_first=attempts == 1)
        jitter = 1 - _JITTER + _JITTER * self._chance()
        doublings = min(32, max(attempts - 1, self._silences))
        patience = min(MAX_RECEIPT_TIMEOUT_SECONDS, self._resend_after * 2.0**doublings) * jitter
        is_suspect = parked is not None and parked.reason is Reason.OVERTAKEN
        slot = min(patience, self._resend_after * jitter)
        self.sent[seq] = Sent(face_id, attempts, flight, slot, patience, is_suspect)
        self._remembered.pop(face_id, None)
        self._remembered[face_id] = attempts, flight.sent_at + patience
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return patience + self._need(flight)

    def set_aside(self, seq: int, face_id: str, due_at: float) -> None:
        """Keep the outbox from returning a face before ``due_at``."""
        self.parked[seq] = Parked(face_id, 1, due_at, Reason.REPEATED)

    def hurry(self) -> None:
        """Send every face again soon: a link has come back, and they may be lost. Receipts may be on their way."""
        now = self._clock()
        until = now + self.grace_seconds
        self.sent = {
            seq: replace(sent, hurried_until=min(sent.hurried_until, until)) for seq, sent in self.sent.items()
        }
        self.parked = {
            seq: parked if parked.reason is Reason.REPEATED else replace(parked, due_at=min(parked.due_at, until))
            for seq, parked in self.parked.items()
        }
        self._silences = 0
        self.window.restart()

    @property
    def grace_seconds(self) -> float:
        """Seconds in which a receipt that is on its way arrives: about a round trip."""
        if self.window.round_trip is None:
            return MAX_GRACE_SECONDS
        return min(MAX_GRACE_SECONDS, max(MIN_GRACE_SECONDS, self.window.round_trip + 4 * self.window.deviation))

    def expire(self) -> None:
        """Park the faces whose receipts are overdue."""
        now = self._clock()
        for seq, sent in list(self.sent.items()):
            sent_at, need = sent.flight.sent_at, self._need(sent.flight)
            is_heard = self._receipted_at > sent_at
            due_at = min(sent.hurried_until, sent_at + sent.patience_seconds + need)
            if sent.hurried_until <= now:
                self.window.lose(sent.flight)
                self.parked[seq] = Parked(sent.id, sent.attempts, now, Reason.LINK_BACK)
            elif is_heard and now >= sent_at + sent.slot_seconds + need:
                self.window.lose(sent.flight)
                self.parked[seq] = Parked(sent.id, sent.attempts, max(now, due_at), Reason.OVERTAKEN)
            elif not is_heard and now >= due_at:
                if sent_at >= self._silent_since:
                    self._silences, self._silent_since = self._silences + 1, now
                self.window.time_out(sent.flight)
                self.parked[seq] = Parked(sent.id, sent.attempts, now, Reason.SILENCE)
            else:
                continue
            del self.sent[seq]

    def due(self, reason: Reason) -> list[int]:
        """Return the parked faces that may be sent, those with the fewest attempts first."""
        now = self._clock()
        found = [seq for seq, parked in self.parked.items() if parked.due_at <= now and parked.reason is reason]
        return sorted(found, key=lambda seq: (self.parked[seq].attempts, seq))

    @property
    def suspects(self) -> int:
        """Number of faces under way that have been overtaken by others before."""
        return sum(sent.is_suspect for sent in self.sent.values())

    def seconds_left(self, idle_seconds: float) -> float:
        """Return the seconds until the next face is overdue or may be sent again; ``idle_seconds`` without faces."""
        now = self._clock()
        moments = [parked.due_at for parked in self.parked.values() if parked.due_at > now]
        for sent in self.sent.values():
            end = sent.flight.sent_at + self._need(sent.flight)
            is_heard = self._receipted_at > sent.flight.sent_at
            moments.append(min(sent.hurried_until, end + (sent.slot_seconds if is_heard else sent.patience_seconds)))
        return max(0.0, min(moments, default=now + idle_seconds) - now)

    def _need(self, flight: Flight) -> float:
        """Return the seconds that the link needs for a face and for what was under way before it."""
        if self.window.rate is None:
            return flight.ahead / SLOW_BYTES_PER_SECOND
        return _NEED_FACTOR * flight.ahead / max(self.window.rate, 1.0)
