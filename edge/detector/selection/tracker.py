"""Tracks faces: gives the same face the same number from frame to frame.

A face is matched by its predicted position and by its appearance, so it keeps its number if another person passes in
front of it. Weak detections, whose score is too low for them to be sent, continue a track too, as in Zhang et al.,
«ByteTrack: Multi-Object Tracking by Associating Every Detection Box», ECCV 2022.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.detector.camera.frame import Image
from edge.detector.selection.crop import crop

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""
Appearance = npt.NDArray[np.float32]
"""Descriptor of what a face looks like: a unit vector."""

MAX_UNSEEN_SECONDS = 2.0
"""A track that is not seen for longer than this ends."""
_MAX_DISTANCE, _MAX_DISTANCE_PER_SECOND = 0.8, 1.5
"""Maximum distance of a face from its predicted position, in face widths: at once, and added per second unseen."""
_MAX_PREDICTION_SECONDS = 1.0
"""Positions are predicted at most this far ahead."""
_VELOCITY_SMOOTHING_SECONDS = 0.25
"""Time constant of the velocity's average: boxes jitter by a few pixels."""
_MIN_SIZE_RATIO = 0.4
"""Minimum ratio of the areas of two boxes of the same face, the smaller to the larger."""
_MIN_APPEARANCE_SIMILARITY = 0.1
"""Minimum cosine similarity of a face after it was out of sight. That of one person after 1 s is 0.6 or more."""
_OUT_OF_SIGHT_SECONDS = 0.4
"""A face that was unseen for longer than this must be similar to be matched."""
_MIN_OCCLUSION_OVERLAP = 0.05
"""Intersection over union from which one face may cover part of another."""
_APPEARANCE_PIXELS = 8
"""Width and height of the thumbnail that describes a face."""
_APPEARANCE_MARGIN = 0.2
_APPEARANCE_LEARNING_RATE = 0.2
"""Weight of a new frame in the average appearance of a track."""


@dataclass(slots=True)
class Track:
    """One face over successive frames."""

    number: int
    box: Box
    last_seen: float
    """Time of the last frame in which it was seen, in seconds on the camera's clock."""
    appearance: Appearance | None = None
    velocity: tuple[float, float] = (0.0, 0.0)
    """Velocity of the box's centre, in pixels per second."""
    sightings: int = 1
    """Number of frames in which it was detected, including weak detections."""


class Tracker:
    """Assigns detections to tracks."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._matched: set[int] = set()
        """Numbers of the tracks that were detected in the last searched frame."""
        self._last_number = 0

    def reset(self) -> None:
        """End all tracks, at the end of a scene. Their numbers are not used again."""
        self._tracks.clear()

    def update(
        self, boxes: Sequence[Box], clock: float, appearances: Sequence[Appearance | None] | None = None
    ) -> list[Track]:
        """Return a track for each box of the next frame, in their order: the best match, or else a new track.

        ``clock`` is the frame's time in seconds. By default, position alone decides, not appearance.
        """
        self._tracks = [track for track in self._tracks if clock - track.last_seen <= MAX_UNSEEN_SECONDS]
        appearances = appearances or [None] * len(boxes)
        self._matched.clear()
        assigned = self._assign(boxes, clock, appearances)
        for index, (box, appearance) in enumerate(zip(boxes, appearances, strict=True)):
            if index not in assigned:
                self._last_number += 1
                assigned[index] = Track(self._last_number, box, clock, appearance)
                self._tracks.append(assigned[index])
                self._matched.add(self._last_number)
        return [assigned[index] for index in range(len(boxes))]

    def update_weak(self, boxes: Sequence[Box], clock: float, appearances: Sequence[Appearance | None]) -> None:
        """Assign weak detections of the same frame to tracks that have no match in it yet. They begin no tracks."""
        self._assign(boxes, clock, appearances)

    def hold(self, clock: float) -> None:
        """Keep the tracks of the last searched frame alive in a frame in which nothing has moved since."""
        for track in self._tracks:
            if track.number in self._matched:
                track.last_seen = clock

    def is_active(self, number: int) -> bool:
        """Return whether the track with this number has not ended."""
        return any(track.number == number for track in self._tracks)

    def _assign(self, boxes: Sequence[Box], clock: float, appearances: Sequence[Appearance | None]) -> dict[int, Track]:
        """Match boxes with tracks greedily, update these tracks, and return them by the index of their box."""
        pairs = [
            (score, index, track)
            for track in self._tracks
            if track.number not in self._matched
            for index, box in enumerate(boxes)
            if (score := _match_score(track, box, appearances[index], clock)) is not None
        ]
        assigned: dict[int, Track] = {}
        for _, index, track in sorted(pairs, key=lambda pair: -pair[0]):
            if index not in assigned and track.number not in self._matched:
                assigned[index] = track
                self._matched.add(track.number)
        for index, track in assigned.items():
            box, others = boxes[index], (other for other in self._tracks if other is not track)
            # If another track overlaps the box, its appearance may be partly that of the other face.
            is_occluded = any(overlap(other.box, box) > _MIN_OCCLUSION_OVERLAP for other in others)
            _update(track, box, None if is_occluded else appearances[index], clock)
        return assigned


def appearance_of(image: Image, box: Box) -> Appearance:
    """Return the appearance of the face in ``box``: a thumbnail, normalised for brightness and contrast."""
    face = crop(image, box, _APPEARANCE_MARGIN)
    step = max(1, min(face.shape[:2]) // (4 * _APPEARANCE_PIXELS))  # a few samples for each pixel are enough
    size = (_APPEARANCE_PIXELS, _APPEARANCE_PIXELS)
    thumbnail: Any = cv2.resize(face[::step, ::step], size, interpolation=cv2.INTER_AREA)
    vector = thumbnail.astype(np.float32).ravel()
    vector -= vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)  # type: ignore[no-any-return]


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def _match_score(track: Track, box: Box, appearance: Appearance | None, clock: float) -> float | None:
    """Return how well ``box`` matches ``track``, higher is better; None if it cannot be the same face."""
    unseen = clock - track.last_seen
    ahead = min(unseen, _MAX_PREDICTION_SECONDS)
    x, y, width, height = track.box
    predicted = (x + track.velocity[0] * ahead, y + track.velocity[1] * ahead, width, height)
    smaller, larger = sorted((width * height, box[2] * box[3]))
    max_distance = (_MAX_DISTANCE + _MAX_DISTANCE_PER_SECOND * ahead) * (width + box[2]) / 2
    distance = min(math.dist(_centre(predicted), _centre(box)), math.dist(_centre(track.box), _centre(box)))
    if distance > max_distance or smaller < _MIN_SIZE_RATIO * larger:
        return None
    score = overlap(predicted, box) - distance / max_distance
    if appearance is not None and track.appearance is not None:
        similarity = float(appearance @ track.appearance)
        if unseen > _OUT_OF_SIGHT_SECONDS and similarity < _MIN_APPEARANCE_SIMILARITY:
            return None
        score += similarity
    return score


def _update(track: Track, box: Box, appearance: Appearance | None, clock: float) -> None:
    seconds = clock - track.last_seen
    if seconds > 0:
        weight = seconds / (seconds + _VELOCITY_SMOOTHING_SECONDS)
        (x, y), (old_x, old_y) = _centre(box), _centre(track.box)
        track.velocity = (
            track.velocity[0] + weight * ((x - old_x) / seconds - track.velocity[0]),
            track.velocity[1] + weight * ((y - old_y) / seconds - track.velocity[1]),
        )
    if appearance is not None and track.appearance is not None:
        average = track.appearance + _APPEARANCE_LEARNING_RATE * (appearance - track.appearance)
        appearance = (average / max(float(np.linalg.norm(average)), 1e-6)).astype(np.float32)
    track.appearance = appearance if appearance is not None else track.appearance
    track.box, track.last_seen = box, clock
    track.sightings += 1


def _centre(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2
