"""The interface of every runtime that runs YuNet's network."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.detector.camera.frame import Image

STRIDES = (8, 16, 32)
"""Pixels between two cells of each grid. Height and width of the input are multiples of the largest."""
Numbers = npt.NDArray[np.float32]


class Network(Protocol):
    """YuNet's network. Several threads can run it at once; on a CPU, each run uses one thread."""

    provider: str
    """What runs the network: a provider of ONNX Runtime, or ncnn."""
    runtime: str
    """The library and its version."""

    def run(self, picture: Image) -> Numbers:
        """Return the network's output: 16 x cells, the grids of :data:`STRIDES` one after the other, row by row.

        The 16 numbers of a cell are 4 of the box, 10 of the landmarks, and the logits of class and objectness.
        Pixels beyond the edges of ``picture``, up to the next multiple of the largest stride, count as black.
        """


def padded(size: int) -> int:
    """Return the height or width of the network's input for a picture of this height or width."""
    return -(-size // STRIDES[-1]) * STRIDES[-1]
