"""YuNet: finds faces, with five landmarks each, in a frame.

Wu, Peng, Yu: «YuNet: A Tiny Millisecond-level Face Detector», Machine Intelligence Research 20, 2023. The weights are
the file of the OpenCV Zoo (``face_detection_yunet_2023mar.onnx.md`` beside it tells origin, licence and hash).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wire.errors import ConfigurationError, ExitCode

MODEL = "yunet-2023mar"
MODEL_PATH = Path(__file__).with_name("face_detection_yunet_2023mar.onnx")
MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_NMS_THRESHOLD = 0.3
_TOP_K = 5000

Image = npt.NDArray[np.uint8]
"""Height x width x 3, blue, green, red."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in one frame."""

    box: tuple[float, float, float, float]
    """x, y, width, height in pixels of the frame; may reach beyond its edges."""
    landmarks: tuple[tuple[float, float], ...]
    """Right eye, left eye, nose tip, right and left corner of the mouth: x, y in pixels of the frame."""
    confidence: float
    """The model's score, 0 to 1."""


class FaceDetector:
    """Runs YuNet on frames of any size."""

    def __init__(self, size: int, confidence: float, model_path: Path = MODEL_PATH) -> None:
        """Load the model.

        Args:
            size: longest side, in pixels, of the picture that the model sees. Frames are scaled down, never up.
            confidence: the least score of a face, 0 to 1.
            model_path: the weights.

        Raises:
            ConfigurationError: the weights are missing or not the ones that belong here.
        """
        try:
            found = hashlib.sha256(model_path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigurationError(
                f"the model {model_path} cannot be read: {error.strerror}", ExitCode.BAD_DATA
            ) from None
        if found != MODEL_SHA256:
            raise ConfigurationError(
                f"the model {model_path} is damaged: its SHA-256 is {found}, expected {MODEL_SHA256}", ExitCode.BAD_DATA
            )
        self._size = size
        self._network = cv2.FaceDetectorYN.create(str(model_path), "", (size, size), confidence, _NMS_THRESHOLD, _TOP_K)

    def detect(self, image: Image) -> list[Detection]:
        """Find the faces in ``image``, the most confident first; boxes and landmarks in its own pixels."""
        height, width = image.shape[:2]
        scale = min(1.0, self._size / max(height, width))
        seen_width, seen_height = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1.0:
            image = cv2.resize(image, (seen_width, seen_height)).astype(np.uint8, copy=False)
        self._network.setInputSize((seen_width, seen_height))
        rows: Any = self._network.detect(image)[1]  # None where there is no face, whatever the stub says
        if rows is None:
            return []
        back = np.tile((width / seen_width, height / seen_height), 7)
        return [_detection(row[:14] * back, float(row[14])) for row in rows]


def _detection(numbers: npt.NDArray[np.float64], score: float) -> Detection:
    x, y, width, height, *points = (float(number) for number in numbers)
    return Detection((x, y, width, height), tuple(zip(points[::2], points[1::2], strict=True)), min(score, 1.0))
