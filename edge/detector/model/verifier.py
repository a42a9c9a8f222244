"""Tells the face of a person from what only resembles one, such as the face of a dog.

The network is the last stage of MTCNN (Zhang et al.: «Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks», IEEE Signal Processing Letters 23, 2016) up to its 256 features, and one linear classifier of
these. ``face_verification.onnx.md`` gives the origin of both. ``python -m scripts.train_verification`` makes the file.
"""

from pathlib import Path

import cv2
import numpy as np

from edge.detector.camera.frame import Image
from edge.detector.model.onnx_network import PROVIDERS, make_session
from edge.detector.model.weights import FOLDER, VERIFICATION

INPUT_PIXELS = 48
"""Width and height of the network's input."""
_MARGIN = 1 / 12
"""Margin around the box on each side, as a fraction of its longer side."""


class FaceVerifier:
    """Runs the network, always by ONNX Runtime on the CPU: an input is too small for a GPU to help."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Load the network.

        Raises:
            ConfigurationError: the model file is missing or damaged.
        """
        self._session = make_session(VERIFICATION.read(folder), [PROVIDERS["cpu"]], runs_often=False)

    def log_odds(self, image: Image, box: tuple[float, float, float, float]) -> float:
        """Return how likely ``box`` (x, y, width, height in pixels) holds the face of a person, as log odds.

        From 0 on it is a person: :mod:`scripts.train_verification` chose this point.
        """
        patch = cut_patch(image, box, INPUT_PIXELS, _MARGIN)
        (odds,) = self._session.run(["log_odds"], {"patches": np.stack([patch, patch[:, ::-1]])})
        return float(odds[0])


def cut_patch(image: Image, box: tuple[float, float, float, float], pixels: int, margin: float) -> Image:
    """Return the square around a box, scaled to ``pixels`` x ``pixels`` x 3; black beyond the edges of ``image``.

    ``margin`` is added on each side, as a fraction of the longer side of the box.
    """
    x, y, width, height = box
    side = max(round(max(width, height) * (1 + 2 * margin)), 1)
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    rows, columns = image.shape[:2]
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if inside.shape[:2] != (side, side):
        square = np.zeros((side, side, 3), np.uint8)
        square[max(-top, 0) : min(side, rows - top), max(-left, 0) : min(side, columns - left)] = inside
        inside = square
    scaled: Image = cv2.resize(inside, (pixels, pixels), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return scaled
