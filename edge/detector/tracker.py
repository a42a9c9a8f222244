"""Which face is which from frame to frame, and whose turn it is to have its picture sent."""

from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""

LEAST_OVERLAP = 0.3
"""Intersection over union at which two boxes of successive frames are one face."""
FORGET_AFTER_SECONDS = 1.0
"""How long a face may be out of sight and keep its number."""
_HALF_A_FRAME_SECONDS = 0.01
"""Frames do not fall on whole intervals; a picture may come this much early rather than one frame late."""


@dataclass(slots=True)
class Track:
    """One face over successive frames."""

    number: int
    box: Box
    seen: float
    """When it was last seen, in seconds of the camera's clock."""
    sent: float | None = None
    """When its picture was last sent, in seconds of the camera's clock."""


class Tracker:
    """Gives each face a number, by the overlap of its box with the last one seen."""

    def __init__(self, interval_seconds: float) -> None:
        """Set up a tracker.

        Args:
            interval_seconds: the least time between two pictures of one face; 0 sends every one.
        """
        self._interval = interval_seconds
        self._tracks: list[Track] = []
        self._last_number = 0

    def forget(self) -> None:
        """Forget every face, for what comes next is another scene. Numbers are not used again."""
        self._tracks.clear()

    def follow(self, boxes: Sequence[Box], clock: float) -> list[Track]:
        """Assign each box of one frame to a track, the best overlap first.

        Args:
            boxes: the faces in the frame.
            clock: the frame's time, in seconds.

        Returns:
            A track for each box, in their order.
        """
        self._tracks = [track for track in self._tracks if clock - track.seen <= FORGET_AFTER_SECONDS]
        pairs = sorted(
            ((overlap(box, track.box), index, track) for index, box in enumerate(boxes) for track in self._tracks),
            key=lambda pair: -pair[0],
        )
        assigned: dict[int, Track] = {}
        taken: set[int] = set()
        for score, index, track in pairs:
            if score >= LEAST_OVERLAP and index not in assigned and track.number not in taken:
                assigned[index] = track
                taken.add(track.number)
        return [self._update(assigned.get(index), box, clock) for index, box in enumerate(boxes)]

    def is_due(self, track: Track, clock: float) -> bool:
        """Tell whether it is time for a picture of ``track``, and if so, note that it has been taken."""
        if track.sent is not None and clock - track.sent < self._interval - _HALF_A_FRAME_SECONDS:
            return False
        track.sent = clock
        return True

    def _update(self, track: Track | None, box: Box, clock: float) -> Track:
        if track is None:
            self._last_number += 1
            track = Track(self._last_number, box, clock)
            self._tracks.append(track)
        track.box, track.seen = box, clock
        return track


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
