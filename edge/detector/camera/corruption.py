"""Frames that a camera, its driver or its link has spoiled: none at all, green or grey all over, or cut off half-way.

A decoder that runs out of data, or a driver that loses part of a transfer, leaves the rest of the picture at what a
codec calls nothing: green (luma and chroma 0) or grey (128). So a frame is spoiled where more of it than usual, from
the bottom up, is of one of these colours, without any noise. Black and white are left alone: a lens has those.
"""

from typing import Any

import cv2
import numpy as np

from edge.detector.camera.frame import Image

_ROWS = 33
"""How many rows of a frame are looked at."""
_FLAT_LEVELS = 4
"""Levels, of 255, that the pixels of a filled part differ by at most: what compression leaves of one colour."""
_MIN_GREEN, _MAX_OTHER_CHANNELS, _GREY = 100, 40, 128
_MORE_ROWS = 3
"""Of those looked at: a tenth of a frame. So much more of one colour than usual is damage."""
ACCEPT_SECONDS = 2.0
"""What has looked like damage for this long is what the camera shows: a wall, a test card."""


class CorruptionFilter:
    """Tells spoiled frames of one camera from sound ones."""

    def __init__(self) -> None:
        self._usual = 0
        """Rows of one colour at the bottom of a sound frame."""
        self._spoiled_since: float | None = None

    def sound(self, image: Any, clock: float) -> Image | None:
        """Return a frame with three channels where it is sound; None where it is spoiled.

        Args:
            image: what the driver gave: 8 bits a channel, with 1, 3 or 4 channels, or anything else.
            clock: the frame's time, in seconds.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            return None
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels == 1:
            picture: Any = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        elif channels == 4:
            picture = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
        elif channels == 3:
            picture = image
        else:
            return None
        flat = _flat_rows(picture)
        if flat >= self._usual + _MORE_ROWS:
            if self._spoiled_since is None:
                self._spoiled_since = clock
            if clock - self._spoiled_since < ACCEPT_SECONDS:
                return None
        self._usual, self._spoiled_since = flat, None
        sound: Image = picture
        return sound


def _flat_rows(image: Image) -> int:
    """Return how many of some rows, from the bottom up, are of the same green or grey throughout."""
    blue, green, red = (int(level) for level in image[-1, 0])
    is_green = green >= _MIN_GREEN and max(blue, red) <= _MAX_OTHER_CHANNELS
    is_grey = all(abs(level - _GREY) <= _FLAT_LEVELS for level in (blue, green, red))
    if not (is_green or is_grey) or np.ptp(image[-1], axis=0).max() > _FLAT_LEVELS:
        return 0  # as in nearly every frame
    rows = image[np.linspace(image.shape[0] - 1, 0, _ROWS).astype(int)].astype(np.int16)
    flat = (np.abs(rows - rows[0, 0]).max(axis=(1, 2)) <= _FLAT_LEVELS).tolist()
    return flat.index(False) if False in flat else _ROWS
