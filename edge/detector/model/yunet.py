"""YuNet: finds faces, with five landmarks each, in a frame.

Wu, Peng, Yu: «YuNet: A Tiny Millisecond-level Face Detector», Machine Intelligence Research 20, 2023. ONNX Runtime runs
it; the weights are the file of the OpenCV Zoo (``face_detection_yunet_2023mar.onnx.md`` beside it tells origin, licence
and hash), and boxes and scores are those of ``cv2.FaceDetectorYN``, which the tests hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.detector.camera.frame import Image
from edge.detector.model.inference import STRIDES, Network, Numbers
from edge.detector.model.weights import FOLDER

MODEL = "yunet-2023mar"

_MAX_OVERLAP = 0.3
"""Intersection over union at which the less confident of two boxes gives way."""
_MAX_CANDIDATES = 5000
_EPSILON = 1e-6


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
    """Runs YuNet on frames of any size; several threads may use it at once."""

    def __init__(
        self, size: int, confidence: float, providers: Sequence[str] = ("cpu",), folder: Path = FOLDER
    ) -> None:
        """Load the model.

        Args:
            size: longest side, in pixels, of the picture that the model sees. Frames are scaled down, never up.
            confidence: the least score of a face, 0 to 1.
            providers: what may run it, the preferred one first; see :class:`edge.detector.model.inference.Network`.
            folder: where the model files are.

        Raises:
            ConfigurationError: a model file is missing or damaged.
        """
        self._size, self._confidence = size, confidence
        self._network = Network(providers, folder)

    @property
    def provider(self) -> str:
        """The provider that runs the model, by its name in ONNX Runtime."""
        return self._network.provider

    def detect(self, image: Image) -> list[Detection]:
        """Find the faces in ``image``, the most confident first; boxes and landmarks in its own pixels."""
        height, width = image.shape[:2]
        scale = min(1.0, self._size / max(height, width))
        seen_width, seen_height = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1.0:
            image = cv2.resize(image, (seen_width, seen_height)).astype(np.uint8, copy=False)
        rows = _decode(self._network.run(image), self._confidence)
        if not len(rows):
            return []
        rows = rows[_suppress(rows)].astype(np.float64)
        rows[:, :14] *= np.tile((width / seen_width, height / seen_height), 7)
        return [_detection(row) for row in rows.tolist()]


def _decode(outputs: Sequence[Numbers], confidence: float) -> Numbers:
    """Return what the network has seen as rows of 15: box, landmarks, score, in pixels of its input.

    As OpenCV's ``FaceDetectorYN`` does (``modules/objdetect/src/face_detect.cpp``), but only where the score will do.

    Args:
        outputs: of each grid 1 x 16 x rows x columns; see :data:`edge.detector.model.inference.OUTPUTS`.
        confidence: the least score.
    """
    # A score is the square root of two probabilities' product, so neither may be less than its square.
    least = min(confidence, 1 - _EPSILON) ** 2
    logit = math.log(max(least, _EPSILON) / (1 - least))
    found = []
    for stride, (numbers,) in zip(STRIDES, outputs, strict=True):
        flat = numbers.reshape(16, -1)
        cells = np.flatnonzero(flat[:2].min(axis=0) >= logit)
        if not len(cells):
            continue
        chosen = flat[:, cells].T
        scores = np.sqrt(np.prod(1 / (1 + np.exp(-chosen[:, :2])), axis=1))
        corners = np.stack(np.divmod(cells, numbers.shape[2])[::-1], axis=1).astype(np.float32)
        rows = np.empty((len(cells), 15), np.float32)
        rows[:, 2:4] = np.exp(chosen[:, 4:6]) * stride
        rows[:, :2] = (corners + chosen[:, 2:4]) * stride - rows[:, 2:4] / 2
        rows[:, 4:14] = (np.tile(corners, 5) + chosen[:, 6:]) * stride
        rows[:, 14] = scores
        found.append(rows[scores > confidence])
    return np.concatenate(found) if found else np.empty((0, 15), np.float32)


def _suppress(rows: Numbers) -> npt.NDArray[np.int32]:
    """Return which rows are left, the most confident first, where of overlapping boxes only the best stays.

    Boxes are cut to whole pixels for this, as ``FaceDetectorYN`` does.
    """
    boxes: Any = np.trunc(rows[:, :4]).astype(np.float64)
    scores: Any = rows[:, 14]
    kept: Any = cv2.dnn.NMSBoxes(boxes, scores, 0.0, _MAX_OVERLAP, top_k=_MAX_CANDIDATES)
    return np.asarray(kept, np.int32)


def _detection(numbers: list[float]) -> Detection:
    x, y, width, height, *points, score = numbers
    return Detection((x, y, width, height), tuple(zip(points[::2], points[1::2], strict=True)), min(score, 1.0))
