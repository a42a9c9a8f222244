"""The motion gate: saves the search of frames in which nothing has moved, and finds cuts."""

from typing import Any

import cv2

from edge.detector.camera.frame import Frame
from edge.detector.selection.cuts import CutDetector

MAX_SEARCH_INTERVAL_SECONDS = 1.0
"""A scene is searched at least this often, even if nothing moves."""
STILL_SECONDS = 2.0
"""After this long without movement, a live camera may reduce its frame rate."""
_MAX_SIDE_PIXELS = 160
"""Longest side of the thumbnails that are compared. A face of the minimum size has several pixels in them."""
_MIN_CHANGE = 6
"""Levels of grey, of 255, by which some pixel of the thumbnail changes if something has moved.

Noise with a standard deviation of 8 levels, as in a dark room, changes a pixel by 4. The smallest movement of a person
who sits still in front of a camera changes one by 4 to 9 from frame to frame, and adds up, as the comparison is with
the last frame that was searched.
"""
_TOLERANCE_SECONDS = 0.01
"""A frame may be searched this much early rather than one frame late."""


class MotionGate:
    """Compares a thumbnail of each frame with that of the last frame that was searched."""

    def __init__(self, interval_seconds: float) -> None:
        """Set up the gate for a ``FACE_INTERVAL``; with 0, every frame is searched, and no cut is found.

        A scene is searched at least this often, so that a face that does not move is sent in time.
        """
        self.is_cut = False
        """Whether the last frame that had to be searched shows another shot than the one before."""
        self._cuts = CutDetector()
        self._max_interval_seconds = min(MAX_SEARCH_INTERVAL_SECONDS, interval_seconds) - _TOLERANCE_SECONDS
        self._searched: Any = None
        self._searched_at = 0.0
        self._moved_at = 0.0

    def is_still(self, clock: float) -> bool:
        """Return whether nothing has moved for :data:`STILL_SECONDS`, by the camera's clock."""
        return self._max_interval_seconds > 0 and clock - self._moved_at > STILL_SECONDS

    def needs_search(self, frame: Frame) -> bool:
        """Return whether ``frame`` must be searched. If so, later frames are compared with it. Sets :attr:`is_cut`."""
        self.is_cut = False
        if self._max_interval_seconds <= 0:
            return True
        thumbnail = _thumbnail(frame)
        is_unchanged = (
            self._searched is not None
            and not frame.new_scene
            and frame.clock >= self._searched_at
            and thumbnail.shape == self._searched.shape
            and cv2.absdiff(thumbnail, self._searched).max() < _MIN_CHANGE
        )
        if not is_unchanged:
            self._moved_at = frame.clock
            if frame.new_scene:
                self._cuts.reset()
            self.is_cut = self._cuts.is_cut(thumbnail)
        elif frame.clock - self._searched_at < self._max_interval_seconds:
            return False
        self._searched, self._searched_at = thumbnail, frame.clock
        return True


def _thumbnail(frame: Frame) -> Any:
    """Return the frame in grey at a low resolution, smoothed: averaging many pixels suppresses noise."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, _MAX_SIDE_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    step = max(1, height // (2 * size[1]))  # two rows of the frame for each of the thumbnail are enough
    thumbnail = cv2.resize(frame.image[::step], size, interpolation=cv2.INTER_AREA)
    return cv2.blur(cv2.cvtColor(thumbnail, cv2.COLOR_BGR2GRAY), (3, 3))
