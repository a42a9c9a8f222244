"""Which face is which from frame to frame.

A face is looked for where its movement so far takes it, and by what it looks like: so a number survives that somebody
else passes in front of it. Weak detections, of too low a score to be sent, keep a face's number too (the idea of Zhang
et al., «ByteTrack: Multi-Object Tracking by Associating Every Detection Box», ECCV 2022).
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
"""What a face looks like: a unit vector."""

FORGET_AFTER_SECONDS = 2.0
"""How long a face may be out of sight and keep its number."""
_REACH, _REACH_PER_SECOND = 0.8, 1.5
"""How far from where it is expected a face may be, in widths of its own: at once, and more for each second unseen."""
_MAX_PREDICTION_SECONDS = 1.0
"""How far ahead a movement is drawn out."""
_STEADY_SECONDS = 0.25
"""Over how long a movement is averaged: boxes tremble by a few pixels."""
_MIN_SIZE_RATIO = 0.4
"""Of the areas of two boxes that are one face, the smaller over the larger."""
_MIN_APPEARANCE_SIMILARITY = 0.1
"""Of a face that was out of sight for a while: the cosine of two looks. One person's, 1 s apart, is 0.6 or more."""
_OUT_OF_SIGHT_SECONDS = 0.4
_COVERED = 0.05
"""Intersection over union from which two faces may cover each other."""
_LOOK_PIXELS = 8
_LOOK_MARGIN = 0.2
_LOOK_WEIGHT = 1.0
_LOOK_LEARNT = 0.2
"""How much of what a face looks like is taken from each frame."""


@dataclass(slots=True)
class Track:
    """One face over successive frames."""

    number: int
    box: Box
    seen: float
    """When it was last seen, in seconds of the camera's clock."""
    appearance: Appearance | None = None
    velocity: tuple[float, float] = (0.0, 0.0)
    """Of the middle of its box, in pixels a second."""
    sightings: int = 1
    """Frames in which it was found, weakly or not."""


class Tracker:
    """Gives each face a number."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._followed: set[int] = set()
        """Numbers that have been found in the frame at hand."""
        self._last_number = 0

    def forget(self) -> None:
        """Forget every face, for what comes next is another scene. Numbers are not used again."""
        self._tracks.clear()

    def follow(
        self, boxes: Sequence[Box], clock: float, appearances: Sequence[Appearance | None] | None = None
    ) -> list[Track]:
        """Assign each box of one frame to a track, the likeliest first, or to a new one.

        Args:
            boxes: the faces in the frame.
            clock: the frame's time, in seconds.
            looks: what each of them looks like; see :func:`appearance_of`.

        Returns:
            A track for each box, in their order.
        """
        self._tracks = [track for track in self._tracks if clock - track.seen <= FORGET_AFTER_SECONDS]
        appearances = appearances or [None] * len(boxes)
        self._followed.clear()
        assigned = self._assign(boxes, clock, appearances)
        tracks = []
        for index, (box, appearance) in enumerate(zip(boxes, appearances, strict=True)):
            track = assigned.get(index)
            if track is None:
                self._last_number += 1
                track = Track(self._last_number, box, clock, appearance)
                self._tracks.append(track)
                self._followed.add(track.number)
            tracks.append(track)
        return tracks

    def keep_alive(self, boxes: Sequence[Box], clock: float, appearances: Sequence[Appearance | None]) -> None:
        """Let weak detections keep alive those tracks that have not been seen in this frame; none begins a track."""
        self._assign(boxes, clock, appearances)

    def rest(self, clock: float) -> None:
        """Note a frame in which nothing has moved since the last one that was searched."""
        for track in self._tracks:
            if track.number in self._followed:
                track.seen = clock

    def is_known(self, number: int) -> bool:
        """Tell whether a face of this number is still looked for."""
        return any(track.number == number for track in self._tracks)

    def _assign(self, boxes: Sequence[Box], clock: float, appearances: Sequence[Appearance | None]) -> dict[int, Track]:
        pairs = [
            (similarity, index, track)
            for track in self._tracks
            if track.number not in self._followed
            for index, box in enumerate(boxes)
            if (similarity := _similarity(track, box, appearances[index], clock)) is not None
        ]
        assigned: dict[int, Track] = {}
        for _, index, track in sorted(pairs, key=lambda pair: -pair[0]):
            if index not in assigned and track.number not in self._followed:
                assigned[index] = track
                self._followed.add(track.number)
        for index, track in assigned.items():
            appearance = None if self._is_covered(track, boxes[index]) else appearances[index]
            _update(track, boxes[index], appearance, clock)
        return assigned

    def _is_covered(self, track: Track, box: Box) -> bool:
        """Tell whether somebody else is or was where this face is: then its look may be theirs, in part."""
        return any(other is not track and overlap(other.box, box) > _COVERED for other in self._tracks)


def appearance_of(image: Image, box: Box) -> Appearance:
    """Return what the face in ``box`` looks like: its pixels, very few, without their brightness and contrast."""
    face = crop(image, box, _LOOK_MARGIN)
    step = max(1, min(face.shape[:2]) // (4 * _LOOK_PIXELS))  # a few pixels for each that is wanted will do
    few: Any = cv2.resize(face[::step, ::step], (_LOOK_PIXELS, _LOOK_PIXELS), interpolation=cv2.INTER_AREA)
    vector = few.astype(np.float32).ravel()
    vector -= vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)  # type: ignore[no-any-return]


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _similarity(track: Track, box: Box, appearance: Appearance | None, clock: float) -> float | None:
    """Return how likely ``box`` is the face of ``track``; None where it cannot be."""
    unseen = clock - track.seen
    ahead = min(unseen, _MAX_PREDICTION_SECONDS)
    x, y, width, height = track.box
    expected = (x + track.velocity[0] * ahead, y + track.velocity[1] * ahead, width, height)
    sizes = sorted((width * height, box[2] * box[3]))
    reach = (_REACH + _REACH_PER_SECOND * ahead) * (width + box[2]) / 2
    away = min(math.dist(_middle(expected), _middle(box)), math.dist(_middle(track.box), _middle(box)))
    if away > reach or sizes[0] < _MIN_SIZE_RATIO * sizes[1]:
        return None
    similarity = overlap(expected, box) - away / reach
    if appearance is not None and track.appearance is not None:
        same_look = float(appearance @ track.appearance)
        if unseen > _OUT_OF_SIGHT_SECONDS and same_look < _MIN_APPEARANCE_SIMILARITY:
            return None
        similarity += _LOOK_WEIGHT * same_look
    return similarity


def _update(track: Track, box: Box, appearance: Appearance | None, clock: float) -> None:
    seconds = clock - track.seen
    if seconds > 0:
        learnt = seconds / (seconds + _STEADY_SECONDS)
        (x, y), (old_x, old_y) = _middle(box), _middle(track.box)
        track.velocity = (
            track.velocity[0] + learnt * ((x - old_x) / seconds - track.velocity[0]),
            track.velocity[1] + learnt * ((y - old_y) / seconds - track.velocity[1]),
        )
    if appearance is not None and track.appearance is not None:
        mixed = track.appearance + _LOOK_LEARNT * (appearance - track.appearance)
        appearance = (mixed / max(float(np.linalg.norm(mixed)), 1e-6)).astype(np.float32)
    track.box, track.seen, track.appearance = box, clock, appearance if appearance is not None else track.appearance
    track.sightings += 1


def _middle(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2
