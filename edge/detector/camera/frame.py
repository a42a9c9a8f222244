"""A frame, and the interface of every camera."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wire.process.lifecycle import Stop

Image = npt.NDArray[np.uint8]
"""Height x width x 3, blue, green, red."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a camera."""

    image: Image
    captured_at: float
    """Capture time in seconds since boot; see :mod:`wire.process.clock`."""
    clock: float
    """Capture time in seconds on the camera's clock, which never goes back within a scene. A file has its own clock."""
    new_scene: bool = False
    """Whether the frame is unrelated to the one before: another image, the start of a file, or a reopened camera."""
    is_clock_set: bool = True
    """Whether the machine's wall clock was set when the frame was captured."""
    after_cut: bool = False
    """Whether the camera shows another shot than in the frame before; found by the motion gate."""


class Camera(Protocol):
    """A source of frames."""

    is_live: bool
    """Whether frames arrive in real time and may be skipped. A recording waits for its consumer and skips none."""
    skipped: int = 0
    """Frames of a live camera that were replaced by a newer one before they were processed."""
    reopened: int = 0
    """Number of times a live camera was reopened after it had failed or hung."""
    corrupt: int = 0
    """Frames of a live camera that were discarded as corrupt."""
    ignored: int = 0
    """Frames of a live camera that were left out at the reduced rate."""
    reduced_rate: bool = False
    """Set by the consumer while nothing moves: a live camera may then leave out some of its frames."""

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield frames until the camera ends or ``stop`` is set.

        Raises:
            ConfigurationError: the camera does not exist, nothing in it can be read, or it hangs again and again.
        """
