"""Selects the pictures of a face that are sent: a first one soon, then the best one of each interval.

The first picture may wait for a better one, as a face is often blurred, turned away or cut off when it comes into view.
An interval ends a little later if its best picture is so new that the next ones may be better still.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge.detector.camera.frame import Frame, Image
from edge.detector.model.yunet import Detection
from edge.detector.selection.crop import crop

MIN_APART_SECONDS = 0.3
"""Two pictures of a track that were captured less than this apart are near twins. It is at most half an interval."""
FAR_BETTER = 2.0
"""Ratio of two qualities from which a near twin is not rejected, and a picture is not held until its interval ends."""
_MIN_COMPARED_QUALITY = 0.01
"""Lower qualities are compared as this one: of two pictures that show nothing, none is far better."""
_GOOD_QUALITY = 0.5
"""Quality from which a first picture does not wait for a better one."""
_SETTLED_SECONDS = 0.2
"""An interval ends when its best picture is this old, at most this much late; at most a quarter of an interval."""
_TOLERANCE_SECONDS = 0.01
"""An interval may end this much early rather than one frame late: frames do not fall on whole intervals."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One picture of one face that may be sent."""

    image: Image
    """The cropped face, a copy and not a view of the frame."""
    captured_at: float
    """Capture time of the frame, in seconds since boot."""
    framesize: tuple[int, int]
    """Width and height of the frame, in pixels."""
    detection: Detection
    track: int
    """Number of the face's track."""
    quality: float
    """0 to 1, for comparison with other pictures of the same face, and sent with the face."""
    is_clock_set: bool = True
    """Whether the machine's wall clock was set when the frame was captured."""


def make_candidate(frame: Frame, detection: Detection, track: int, margin: float, quality: float) -> Candidate:
    """Return a candidate with the face cropped from its frame; ``margin`` of the box's size is added on each side."""
    height, width = frame.image.shape[:2]
    image = crop(frame.image, detection.box, margin).copy()
    return Candidate(image, frame.captured_at, (width, height), detection, track, quality, frame.is_clock_set)


@dataclass(slots=True)
class _Interval:
    """The current interval of one track. Times are on the camera's clock, unless stated otherwise."""

    began_at: float
    ends_at: float
    is_first_wait: bool
    """Whether this is the short wait for a first picture, at the begin of the interval."""
    best: Candidate | None = None
    best_at: float = -math.inf
    sent_at: float = -math.inf
    """Capture time of the last picture sent, in seconds since boot."""
    sent_quality: float = 0.0

    def is_far_better(self, quality: float) -> bool:
        """Return whether a picture of this quality is far better than the last one sent."""
        return quality >= FAR_BETTER * max(self.sent_quality, _MIN_COMPARED_QUALITY)


class BestShotSelector:
    """Keeps the best candidate of each track until the track's interval ends."""

    def __init__(self, interval_seconds: float, first_wait_seconds: float = 0.0) -> None:
        """Set up the selector. Intervals are on the camera's clock; with 0, every candidate is returned at once.

        A first picture that is not good enough waits ``first_wait_seconds`` for a better one, at most an interval.
        """
        self._seconds = interval_seconds
        self._first_wait_seconds = min(first_wait_seconds, interval_seconds)
        self._min_apart_seconds = min(MIN_APART_SECONDS, interval_seconds / 2)
        self._settled_seconds = min(_SETTLED_SECONDS, interval_seconds / 4)
        self._intervals: dict[int, _Interval] = {}

    def is_improvement(self, track: int, quality: float, captured_at: float) -> bool:
        """Return whether a candidate of this quality would be the best one of the track's interval.

        A near twin of the last picture sent is not, unless it is far better. ``captured_at`` is in seconds since boot.
        """
        interval = self._intervals.get(track)
        if interval is None:
            return True
        is_twin = 0 <= captured_at - interval.sent_at < self._min_apart_seconds
        if is_twin and not interval.is_far_better(quality):
            return False
        return interval.best is None or quality > interval.best.quality

    def offer(self, candidate: Candidate, clock: float, may_wait: bool = True) -> list[Candidate]:
        """Add a candidate that is an improvement; see :meth:`is_improvement`. Return it if it is to be sent at once.

        That is a first picture, or one after an empty interval, if it is good enough or ``may_wait`` is false; and a
        picture that is far better than the last one sent. Others become the best one so far.
        """
        interval = self._intervals.get(candidate.track)
        if interval is None or (interval.best is None and clock >= interval.ends_at - _TOLERANCE_SECONDS):
            before, interval = interval, _Interval(clock, clock + self._first_wait_seconds, is_first_wait=True)
            if before is not None:
                interval.sent_at, interval.sent_quality = before.sent_at, before.sent_quality
            self._intervals[candidate.track] = interval
        interval.best, interval.best_at = candidate, clock
        if interval.is_first_wait:
            is_good = candidate.quality >= min(_GOOD_QUALITY, interval.sent_quality or _GOOD_QUALITY)
            return self._take(interval) if is_good or not may_wait or not self._first_wait_seconds else []
        is_apart = candidate.captured_at - interval.sent_at >= self._min_apart_seconds
        if is_apart and interval.is_far_better(candidate.quality):
            interval.ends_at = clock + self._seconds
            return self._take(interval)
        return []

    def take_finished(self, clock: float) -> list[Candidate]:
        """Return the best candidate of each interval or first wait that has ended by ``clock``."""
        candidates: list[Candidate] = []
        for interval in self._intervals.values():
            if interval.best is not None and self._has_ended(interval, clock):
                if not interval.is_first_wait:
                    late = clock - interval.ends_at
                    interval.ends_at += self._seconds if late < self._seconds else late + self._seconds
                candidates += self._take(interval)
        return candidates

    def flush(self) -> list[Candidate]:
        """Return the best candidate so far of every track. Their intervals continue."""
        return [candidate for interval in self._intervals.values() for candidate in self._take(interval)]

    def end(self, is_active: Callable[[int], bool] = lambda track: False) -> list[Candidate]:
        """End the tracks that are no longer active, by default all, and return their best candidates so far."""
        ended = [self._intervals.pop(track) for track in list(self._intervals) if not is_active(track)]
        return [interval.best for interval in ended if interval.best is not None]

    def _has_ended(self, interval: _Interval, clock: float) -> bool:
        late, age = clock - interval.ends_at + _TOLERANCE_SECONDS, clock - interval.best_at + _TOLERANCE_SECONDS
        return late >= 0 and (interval.is_first_wait or max(late, age) >= self._settled_seconds)

    def _take(self, interval: _Interval) -> list[Candidate]:
        """Take the best candidate of an interval, if any, to send it. A first wait becomes the interval it began."""
        best, interval.best = interval.best, None
        if best is None:
            return []
        if interval.is_first_wait:
            interval.is_first_wait, interval.ends_at = False, interval.began_at + self._seconds
        interval.sent_at, interval.sent_quality = best.captured_at, best.quality
        return [best]
