"""YuNet: finds the faces in a frame, with five landmarks each.

Wu, Peng, Yu: «YuNet: A Tiny Millisecond-level Face Detector», Machine Intelligence Research 20, 2023. The weights are
those of the OpenCV Zoo; ``face_detection_yunet_2023mar.onnx.md`` gives their origin, licence and hash. Boxes and scores
are those of ``cv2.FaceDetectorYN``, as the tests verify.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.detector.camera.frame import Image
from edge.detector.model.inference import load_network
from edge.detector.model.network import STRIDES, Numbers, padded
from edge.detector.model.weights import FOLDER

MODEL = "yunet-2023mar"

_MAX_OVERLAP = 0.3
"""Intersection over union above which the less confident of two boxes is suppressed."""
_MAX_CANDIDATES = 5000
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in one frame."""

    box: tuple[float, float, float, float]
    """x, y, width, height in pixels of the frame; may extend beyond its edges."""
    landmarks: tuple[tuple[float, float], ...]
    """x, y in pixels of the frame: right eye, left eye, nose tip, right and left corner of the mouth."""
    confidence: float
    """The model's score, 0 to 1."""


class FaceDetector:
    """Runs YuNet on frames of any size; several threads may use it at once."""

    def __init__(
        self, size: int, confidence: float, providers: Sequence[str] = ("cpu",), folder: Path = FOLDER
    ) -> None:
        """Load the model as :func:`edge.detector.model.inference.load_network` does, with the same errors.

        ``size`` is the longest side of its input in pixels: larger frames are scaled down, none is scaled up.
        ``confidence`` is the minimum score of a face, 0 to 1.
        """
        self._size, self._confidence = size, confidence
        self._network = load_network(providers, folder)
        self.provider = self._network.provider
        """What runs the model, such as a provider of ONNX Runtime."""

    def detect(self, image: Image) -> list[Detection]:
        """Return the faces in ``image``, the most confident first. Boxes and landmarks are in pixels of ``image``."""
        height, width = image.shape[:2]
        scale = min(1.0, self._size / max(height, width))
        input_width, input_height = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1.0:
            image = cv2.resize(image, (input_width, input_height)).astype(np.uint8, copy=False)
        rows = _decode(self._network.run(image), _places(padded(input_height), padded(input_width)), self._confidence)
        if not len(rows):
            return []
        rows = rows[_suppress(rows)].astype(np.float64)
        rows[:, :14] *= np.tile((width / input_width, height / input_height), 7)
        return [_detection(row) for row in rows.tolist()]


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> Numbers:
    """Return column, row and stride of each cell, for an input of this size."""
    grids = []
    for stride in STRIDES:
        rows, columns = np.indices((height // stride, width // stride)).reshape(2, -1)
        grids.append((columns, rows, np.full_like(rows, stride)))
    return np.concatenate(grids, axis=1, dtype=np.float32)


def _decode(cells: Numbers, places: Numbers, confidence: float) -> Numbers:
    """Return the faces in the network's output as rows of 15: box, landmarks, score, in pixels of its input.

    The formulas are those of OpenCV's ``FaceDetectorYN`` (``modules/objdetect/src/face_detect.cpp``), but only cells
    that can have the required score are decoded. :class:`edge.detector.model.network.Network` describes the output.
    """
    # The score is the square root of the product of two probabilities, so neither may be less than its square.
    min_probability = min(confidence, 1 - _EPSILON) ** 2
    min_logit = math.log(max(min_probability, _EPSILON) / (1 - min_probability))
    candidates = np.flatnonzero(np.minimum(cells[14], cells[15]) >= min_logit)
    values, place = cells[:, candidates], places[:, candidates]
    corner, stride = place[:2], place[2]
    faces = np.empty((15, candidates.size), np.float32)
    points = faces[:14].reshape(7, 2, -1)  # the box's centre, its size, and five landmarks
    points[:] = (values[:14].reshape(7, 2, -1) + corner) * stride
    points[1] = np.exp(values[2:4]) * stride
    points[0] -= points[1] / 2
    odds = 1 + np.exp(-values[14:])
    faces[14] = 1 / np.sqrt(odds[0] * odds[1])
    return faces[:, faces[14] > confidence].T


def _suppress(rows: Numbers) -> npt.NDArray[np.int32]:
    """Return the indices of the rows that remain after non-maximum suppression, the most confident first.

    Boxes are truncated to whole pixels before they are compared, as in ``FaceDetectorYN``.
    """
    boxes: Any = np.trunc(rows[:, :4]).astype(np.float64)
    scores: Any = rows[:, 14]
    remaining: Any = cv2.dnn.NMSBoxes(boxes, scores, 0.0, _MAX_OVERLAP, top_k=_MAX_CANDIDATES)
    return np.asarray(remaining, np.int32)


def _detection(row: list[float]) -> Detection:
    x, y, width, height, *points, score = row
    return Detection((x, y, width, height), tuple(zip(points[::2], points[1::2], strict=True)), min(score, 1.0))
