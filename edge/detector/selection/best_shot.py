"""Selects the pictures of a face that are sent: the first one at once, then the best one of each interval."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2

from edge.detector.camera.frame import Frame, Image
from edge.detector.model.yunet import Detection
from edge.detector.selection.crop import clamp, crop

_TOLERANCE_SECONDS = 0.01
"""An interval may end this much early rather than one frame late: frames do not fall on whole intervals."""
_SHARPNESS_WIDTH_PIXELS = 64
"""Larger faces are scaled down to this width before their sharpness is measured, so that size has no effect on it."""
_HALF_SHARPNESS = 2000.0
"""Variance of the Laplacian, in squared levels of grey, at which the factor for sharpness is 0.5."""
_FULL_SIZE_PIXELS = 112.0
"""Shorter side of a face from which size no longer improves quality: face recognition uses this input size."""
_TRUNCATED_FACTOR = 0.5
"""Factor for a face that is cut off by the edge of the frame."""
_CONFIDENCE_EXPONENT = 4
"""Weight of the score. The scores of one face differ little; lower ones mean that it is turned, blurred or covered."""


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
    """0 to 1, for comparison with other pictures of the same face; see :func:`face_quality`."""
    is_clock_set: bool = True
    """Whether the machine's wall clock was set when the frame was captured."""


def make_candidate(frame: Frame, detection: Detection, track: int, margin: float, quality: float) -> Candidate:
    """Return a candidate with the face cropped from its frame; ``margin`` of the box's size is added on each side."""
    height, width = frame.image.shape[:2]
    image = crop(frame.image, detection.box, margin).copy()
    return Candidate(image, frame.captured_at, (width, height), detection, track, quality, frame.is_clock_set)


def face_quality(image: Image, detection: Detection) -> float:
    """Return the quality of a picture of a face, 0 to 1: from its score, sharpness, size, pose and completeness."""
    x, y, width, height = detection.box
    frame_height, frame_width = image.shape[:2]
    sharp = sharpness(image, detection.box)
    quality: float = detection.confidence**_CONFIDENCE_EXPONENT * sharp / (sharp + _HALF_SHARPNESS)
    quality *= min(1.0, min(width, height) / _FULL_SIZE_PIXELS) ** 0.5 * frontality(detection)
    is_truncated = x < 0 or y < 0 or x + width > frame_width or y + height > frame_height
    return quality * _TRUNCATED_FACTOR if is_truncated else quality


def sharpness(image: Image, box: tuple[float, float, float, float]) -> float:
    """Return the variance of the Laplacian of the face in ``box``, in squared levels of grey.

    Pech-Pacheco et al., «Diatom autofocusing in brightfield microscopy: a comparative study», ICPR 2000.
    """
    left, top, width, height = clamp(box, image.shape[1], image.shape[0])
    face: Any = cv2.cvtColor(image[top : top + height, left : left + width], cv2.COLOR_BGR2GRAY)
    if width > _SHARPNESS_WIDTH_PIXELS:
        size = (_SHARPNESS_WIDTH_PIXELS, max(1, round(height * _SHARPNESS_WIDTH_PIXELS / width)))
        face = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    return float(cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_32F))[1][0, 0]) ** 2


def frontality(detection: Detection) -> float:
    """Return 1 for a face that looks at the camera, and less the more it is turned to the side; at least 0.2.

    It is measured by the horizontal position of the nose tip: midway between the eyes in a frontal face.
    """
    (right_eye, _), (left_eye, _), (nose, _) = detection.landmarks[:3]
    eye_distance = abs(left_eye - right_eye)
    if eye_distance < 1:
        return 0.2
    return max(0.2, 1 - abs(nose - (right_eye + left_eye) / 2) / eye_distance)


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
