"""A frame, and what every camera has in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wire.process.lifecycle import Stop

Image = npt.NDArray[np.uint8]
"""Height x width x 3, blue, green, red."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a camera."""

    image: Image
    """Height x width x 3, blue, green, red."""
    captured_at: datetime
    """UTC."""
    clock: float
    """Seconds on the camera's own clock, which never goes back within a scene; a file's own time for a file."""
    new_scene: bool = False
    """Nothing in it continues from the frame before: another image, a file's start, a camera opened again."""


class Camera(Protocol):
    """Where frames come from."""

    is_live: bool
    """Whether it goes on by itself. Otherwise every frame of it is searched, and its time is the frames' own."""
    skipped: int
    """Frames that a live camera delivered and nobody had time for."""
    reopened: int
    """How often a live camera was opened again after it had failed or hung."""
    spoiled: int
    """Frames of a live camera that were green, cut off, or no pictures at all."""
    passed: int
    """Frames of a live camera that were let pass without a look, while nothing moved."""
    resting: bool
    """Set by whoever looks: nothing moves, and a live camera need not give every frame."""

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield frames until the camera ends or ``stop`` is set.

        Raises:
            ConfigurationError: there is no such camera, or nothing in it that can be read.
        """
        ...
