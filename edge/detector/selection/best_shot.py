"""Which pictures of a face are sent: one at first sight, then the best one of each interval."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import cv2

from edge.detector.camera.frame import Frame, Image
from edge.detector.model.yunet import Detection
from edge.detector.selection.crop import clamp, crop

_HALF_A_FRAME_SECONDS = 0.01
"""Frames do not fall on whole intervals; an interval may end this much early rather than one frame late."""
_SHARPNESS_PIXELS = 64
"""Sharpness is measured in a face scaled to this width, so that a large face is not blurred by its size."""
_HALF_SHARP = 2000.0
"""The variance of the Laplacian, in squared levels of grey, at which a face counts as half sharp."""
_LARGE_PIXELS = 112.0
"""The shorter side of a face beyond which more pixels are no better; face recognition works at this size."""
_CUT = 0.5
"""How good a face is that the edge of the frame cuts."""
_CONFIDENCE_WEIGHT = 4
"""Scores of one face differ by little, and say much: small ones are of faces that are turned, blurred or covered."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One picture of one face, ready to be sent."""

    picture: Image
    """The crop; of its own memory, not a view of the frame."""
    captured_at: datetime
    framesize: tuple[int, int]
    """Width and height of the frame, in pixels."""
    found: Detection
    track: int
    quality: float
    """From 0 to 1; compares pictures of one face."""


def make_candidate(frame: Frame, found: Detection, track: int, margin: float, quality: float) -> Candidate:
    """Cut the picture of one face out of its frame, with ``margin`` of the box's size added on each side."""
    height, width = frame.image.shape[:2]
    return Candidate(
        crop(frame.image, found.box, margin).copy(), frame.captured_at, (width, height), found, track, quality
    )


def picture_quality(image: Image, found: Detection) -> float:
    """Return how good a picture of a face is, from 0 to 1: confident, sharp, large, frontal and whole."""
    x, y, width, height = found.box
    frame_height, frame_width = image.shape[:2]
    sharp = sharpness(image, found.box)
    good: float = found.confidence**_CONFIDENCE_WEIGHT * sharp / (sharp + _HALF_SHARP)
    good *= min(1.0, min(width, height) / _LARGE_PIXELS) ** 0.5 * frontality(found)
    is_cut = x < 0 or y < 0 or x + width > frame_width or y + height > frame_height
    return good * _CUT if is_cut else good


def sharpness(image: Image, box: tuple[float, float, float, float]) -> float:
    """Return the variance of the Laplacian of the face in ``box``, in squared levels of grey.

    Pech-Pacheco et al., «Diatom autofocusing in brightfield microscopy: a comparative study», ICPR 2000.
    """
    left, top, width, height = clamp(box, image.shape[1], image.shape[0])
    face: Any = cv2.cvtColor(image[top : top + height, left : left + width], cv2.COLOR_BGR2GRAY)
    if width > _SHARPNESS_PIXELS:
        size = (_SHARPNESS_PIXELS, max(1, round(height * _SHARPNESS_PIXELS / width)))
        face = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    return float(cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_32F))[1][0, 0]) ** 2


def frontality(found: Detection) -> float:
    """Return 1 for a face that looks at the camera, and less the further it is turned aside; at least 0.2.

    By where the tip of the nose is between the eyes: in the middle, or beyond one of them.
    """
    (right, _), (left, _), (nose, _) = found.landmarks[:3]
    apart = abs(left - right)
    if apart < 1:
        return 0.2
    return max(0.2, 1 - abs(nose - (right + left) / 2) / apart)


@dataclass(slots=True)
class _Interval:
    """What a face has shown since its last picture was due."""

    ends: float
    """On the camera's clock."""
    best: Candidate | None = None


class BestShotSelector:
    """Keeps the best shot of each face until its interval has ended."""

    def __init__(self, interval_seconds: float) -> None:
        """Set up without faces.

        Args:
            interval_seconds: how long an interval lasts, by the camera's clock; 0: every shot is due at once.
        """
        self._seconds = interval_seconds
        self._intervals: dict[int, _Interval] = {}

    def wants(self, track: int, quality: float) -> bool:
        """Tell whether a shot of this quality would be kept."""
        interval = self._intervals.get(track)
        return interval is None or interval.best is None or quality > interval.best.quality

    def offer(self, candidate: Candidate, clock: float) -> list[Candidate]:
        """Take a shot and return it where it is due at once: at first sight, or after an interval without any."""
        interval = self._intervals.get(candidate.track)
        if interval is None or clock >= interval.ends - _HALF_A_FRAME_SECONDS:
            self._intervals[candidate.track] = _Interval(clock + self._seconds)
            return [candidate]
        interval.best = candidate
        return []

    def due(self, clock: float) -> list[Candidate]:
        """Return the best shot of each interval that has ended by ``clock``; the next one begins where it ended."""
        candidates = []
        for interval in self._intervals.values():
            if interval.best is not None and clock >= interval.ends - _HALF_A_FRAME_SECONDS:
                candidates.append(interval.best)
                late = clock - interval.ends
                interval.ends += self._seconds if late < self._seconds else late + self._seconds
                interval.best = None
        return candidates

    def flush(self) -> list[Candidate]:
        """Return what is kept of every face, whose intervals go on: there may be no frame for a while."""
        candidates = [interval.best for interval in self._intervals.values() if interval.best is not None]
        for interval in self._intervals.values():
            interval.best = None
        return candidates

    def end(self, track: int | None = None) -> list[Candidate]:
        """Return what is kept of ``track``, or of every face, and forget it: it will not be seen again."""
        ended = [track] if track is not None else list(self._intervals)
        candidates = [interval.best for number in ended if (interval := self._intervals.pop(number, None)) is not None]
        return [candidate for candidate in candidates if candidate is not None]

    @property
    def tracks(self) -> list[int]:
        """The faces that are known."""
        return list(self._intervals)
