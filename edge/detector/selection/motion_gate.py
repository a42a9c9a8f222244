"""The motion gate: a scene in which nothing moves is not searched over and over."""

from typing import Any

import cv2

from edge.detector.camera.frame import Frame

LOOK_SECONDS = 1.0
"""A scene is searched at least this often, however still."""
REST_SECONDS = 2.0
"""After so long without a movement a live camera need not give every frame."""
_MAX_SIDE_PIXELS = 160
"""Pixels of the small picture that is compared: a face that counts has several of them."""
_MOVED_LEVELS = 6
"""Levels of grey, of 255, by which some spot has changed where something has moved. Noise with a standard deviation of
8 levels, which is a dark room, makes 4; the least that a person sitting still in front of a camera does makes 4 to 9
from one frame to the next, and adds up, since the comparison is with the last frame that was searched."""
_HALF_A_FRAME_SECONDS = 0.01


class MotionGate:
    """Compares each frame, small and grey, with the last one that was searched."""

    def __init__(self, interval_seconds: float) -> None:
        """Set up a gate.

        Args:
            interval_seconds: ``FACE_INTERVAL``: a scene is searched at least this often too, so that a face that keeps
                still has its picture in time; 0: every frame is searched.
        """
        self._longest_seconds = min(LOOK_SECONDS, interval_seconds) - _HALF_A_FRAME_SECONDS
        self._searched: Any = None
        self._searched_at = 0.0
        self._moved_at = 0.0

    def is_at_rest(self, clock: float) -> bool:
        """Tell whether nothing has moved for a while, by the camera's clock."""
        return self._longest_seconds > 0 and clock - self._moved_at > REST_SECONDS

    def needs_search(self, frame: Frame) -> bool:
        """Tell whether ``frame`` is to be searched; if so, the next ones are compared with it."""
        if self._longest_seconds <= 0:
            return True
        small = _small(frame)
        is_still = (
            self._searched is not None
            and not frame.new_scene
            and frame.clock >= self._searched_at
            and small.shape == self._searched.shape
            and cv2.absdiff(small, self._searched).max() < _MOVED_LEVELS
        )
        if not is_still:
            self._moved_at = frame.clock
        elif frame.clock - self._searched_at < self._longest_seconds:
            return False
        self._searched, self._searched_at = small, frame.clock
        return True


def _small(frame: Frame) -> Any:
    """Return the frame at a low resolution, grey and smoothed: averages of many pixels, in which noise is little."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, _MAX_SIDE_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    step = max(1, height // (2 * size[1]))  # two rows for each will do
    small = cv2.resize(frame.image[::step], size, interpolation=cv2.INTER_AREA)
    return cv2.blur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (3, 3))
