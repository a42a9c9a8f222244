"""Selects the pictures of a face that are sent: the first one at once, then the best one of each interval."""

from collections.abc import Callable
from dataclasses import dataclass

from edge.detector.camera.frame import Frame, Image
from edge.detector.model.yunet import Detection
from edge.detector.selection.crop import crop

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
    """The current interval of one track."""

    ends_at: float
    """On the camera's clock."""
    best: Candidate | None = None


class BestShotSelector:
    """Keeps the best candidate of each track until the track's interval ends."""

    def __init__(self, interval_seconds: float) -> None:
        """Set up the selector. Intervals are on the camera's clock; with 0, every candidate is returned at once."""
        self._seconds = interval_seconds
        self._intervals: dict[int, _Interval] = {}

    def is_improvement(self, track: int, quality: float) -> bool:
        """Return whether a candidate of this quality would be the best one of the track's interval."""
        interval = self._intervals.get(track)
        return interval is None or interval.best is None or quality > interval.best.quality

    def offer(self, candidate: Candidate, clock: float) -> list[Candidate]:
        """Add a candidate. Return it if it is to be sent at once: the first of its track, or after an empty interval.

        Otherwise it replaces the best one so far; see :meth:`is_improvement`.
        """
        interval = self._intervals.get(candidate.track)
        if interval is None or clock >= interval.ends_at - _TOLERANCE_SECONDS:
            self._intervals[candidate.track] = _Interval(clock + self._seconds)
            return [candidate]
        interval.best = candidate
        return []

    def take_finished(self, clock: float) -> list[Candidate]:
        """Return the best candidate of each interval that has ended by ``clock``, and begin the next interval."""
        candidates = []
        for interval in self._intervals.values():
            if interval.best is not None and clock >= interval.ends_at - _TOLERANCE_SECONDS:
                candidates.append(interval.best)
                late = clock - interval.ends_at
                interval.ends_at += self._seconds if late < self._seconds else late + self._seconds
                interval.best = None
        return candidates

    def flush(self) -> list[Candidate]:
        """Return the best candidate so far of every track. Their intervals continue."""
        candidates = [interval.best for interval in self._intervals.values() if interval.best is not None]
        for interval in self._intervals.values():
            interval.best = None
        return candidates

    def end(self, is_active: Callable[[int], bool] = lambda track: False) -> list[Candidate]:
        """End the tracks that are no longer active, by default all, and return their best candidates so far."""
        ended = [self._intervals.pop(track) for track in list(self._intervals) if not is_active(track)]
        return [interval.best for interval in ended if interval.best is not None]
