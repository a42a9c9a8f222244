"""Detects corrupt frames: frames that are not images, and frames that are partly or wholly green or grey.

A decoder that runs out of data, or a driver that loses part of a transfer, leaves the rest of the frame at the codec's
zero level, which is green (luma and chroma 0), or at grey (128). So a frame is corrupt if more rows than usual, counted
from the bottom, have one of these colours without any noise. Black and white are accepted: a covered or a dazzled lens
gives those.
"""

from typing import Any

import cv2
import numpy as np

from edge.detector.camera.frame import Image

_TO_BGR = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}
"""Conversion to three channels, by the number of channels."""
_SAMPLED_ROWS = 33
"""Number of rows of a frame that are examined, evenly spaced."""
_MAX_LEVEL_DIFFERENCE = 4
"""Levels, of 255, within which pixels count as the same colour: compression leaves as much."""
_MIN_GREEN, _MAX_OTHER_CHANNELS, _GREY = 100, 40, 128
_MIN_EXTRA_ROWS = 3
"""A frame is corrupt if it has this many more uniform rows than usual, of those sampled: a tenth of its height."""
ACCEPT_SECONDS = 2.0
"""Frames that look corrupt for this long are accepted: the camera shows a wall or a test card."""


class CorruptionFilter:
    """Separates the corrupt frames of one camera from the intact ones."""

    def __init__(self) -> None:
        self._usual_rows = 0
        """Uniform rows at the bottom of the last intact frame."""
        self._corrupt_since: float | None = None

    def filter(self, image: Any, clock: float) -> Image | None:
        """Return the frame with three channels if it is intact, or None. ``clock`` is the frame's time in seconds.

        Whatever the driver returned that is not an array of uint8 with 1, 3 or 4 channels counts as corrupt.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            return None
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels not in (1, 3, 4):
            return None
        intact: Image = image if channels == 3 else np.asarray(cv2.cvtColor(image, _TO_BGR[channels]), np.uint8)
        uniform_rows = _count_uniform_rows(intact)
        if uniform_rows >= self._usual_rows + _MIN_EXTRA_ROWS:
            if self._corrupt_since is None:
                self._corrupt_since = clock
            if clock - self._corrupt_since < ACCEPT_SECONDS:
                return None
        self._usual_rows, self._corrupt_since = uniform_rows, None
        return intact


def _count_uniform_rows(image: Image) -> int:
    """Return how many of the sampled rows, from the bottom up, have the same green or grey throughout."""
    blue, green, red = (int(level) for level in image[-1, 0])
    is_green = green >= _MIN_GREEN and max(blue, red) <= _MAX_OTHER_CHANNELS
    is_grey = all(abs(level - _GREY) <= _MAX_LEVEL_DIFFERENCE for level in (blue, green, red))
    if not (is_green or is_grey) or np.ptp(image[-1], axis=0).max() > _MAX_LEVEL_DIFFERENCE:
        return 0  # the usual case: only the last row has been read
    rows = image[np.linspace(image.shape[0] - 1, 0, _SAMPLED_ROWS).astype(int)].astype(np.int16)
    is_uniform = (np.abs(rows - rows[0, 0]).max(axis=(1, 2)) <= _MAX_LEVEL_DIFFERENCE).tolist()
    return is_uniform.index(False) if False in is_uniform else _SAMPLED_ROWS
