"""Measures the quality of a picture of a face: to choose among pictures of one face, and as an attribute of each face.

The parts are elements of ISO/IEC 29794-5 (face image quality) that the box, five landmarks and the pixels can tell:
exposure, sharpness, size, pose and occlusion. Each is a factor from 0 to 1; the quality is their product. Closed eyes
and expressions are not measured: five landmarks do not tell them.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from edge.detector.camera.frame import Image
from edge.detector.model.yunet import Detection
from edge.detector.selection.crop import clamp

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels of the frame."""

_WIDTH_PIXELS = 64
"""Larger faces are scaled down to this width before they are measured, so that size has no effect on sharpness."""
_INNER_MARGIN = 0.2
"""Part of the box on each side that is not measured for exposure: hair and background."""
_MIN_GREY, _LEAST_GOOD_GREY = 16.0, 48.0
"""Mean grey of a face of which nothing can be seen, and from which darkness does not matter, 0 to 255.

The second is low, so that dark skin in good light has full exposure.
"""
_MOST_GOOD_GREY, _MAX_GREY = 200.0, 255.0
_CLIPPED_GREY = 250
"""Grey from which a pixel is overexposed."""
_MIN_EXPOSURE = 0.02
_HALF_SHARPNESS = 1000.0
"""Variance of the Laplacian, in squared levels of grey, at which the factor for sharpness is 0.5."""
_LAPLACIAN_GAIN = 20.0
"""Variance of the Laplacian of white noise of variance 1: the sum of the squares of its kernel."""
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Immerkaer's operator: the difference of two Laplacians. Its response to straight edges is small."""
_FULL_SIZE_PIXELS = 112.0
"""Shorter side of a face from which size no longer improves quality: face recognition uses this input size."""
_TRUNCATED_FACTOR = 0.5
"""Factor for a face that is cut off by the edge of the frame."""
_CONFIDENCE_EXPONENT = 5
"""Weight of the score. The scores of one face differ little; lower ones mean that it is turned, blurred or covered."""
_MIN_POSE = 0.2
_LEVEL_NOSE_HEIGHT = (0.38, 0.54)
"""Position of the nose tip between mouth (0) and eyes (1) in faces that look neither up nor down."""
_NOSE_HEIGHT_TOLERANCE = 0.2
"""Distance from these positions at which the factor for pitch is at its minimum."""


def face_quality(image: Image, detection: Detection, others: Sequence[Box] = ()) -> float:
    """Return the quality of a picture of a face, 0 to 1. ``others`` are the boxes in the frame."""
    face = grey_face(image, detection.box)
    sharp = sharpness(face)
    quality: float = detection.confidence**_CONFIDENCE_EXPONENT * sharp / (sharp + _HALF_SHARPNESS) * exposure(face)
    quality *= min(1.0, min(detection.box[2:]) / _FULL_SIZE_PIXELS) ** 0.5
    quality *= frontality(detection) * levelness(detection) * visible_share(detection.box, others)
    return quality * _TRUNCATED_FACTOR if _is_truncated(detection.box, image) else quality


def grey_face(image: Image, box: Box) -> Any:
    """Return the part of a frame in ``box`` as grey levels, uint8, scaled down to at most 64 pixels of width."""
    left, top, width, height = clamp(box, image.shape[1], image.shape[0])
    face: Any = cv2.cvtColor(image[top : top + height, left : left + width], cv2.COLOR_BGR2GRAY)
    if width <= _WIDTH_PIXELS:
        return face
    size = (_WIDTH_PIXELS, max(1, round(height * _WIDTH_PIXELS / width)))
    return cv2.resize(face, size, interpolation=cv2.INTER_AREA)


def sharpness(face: Any) -> float:
    """Return the variance of the Laplacian of a grey face without that of its noise, in squared levels of grey.

    Pech-Pacheco et al., «Diatom autofocusing in brightfield microscopy: a comparative study», ICPR 2000. The noise is
    estimated by Immerkaer, «Fast noise variance estimation», CVIU 64(2), 1996.
    """
    variance = float(cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_16S))[1][0, 0]) ** 2
    return max(0.0, variance - _LAPLACIAN_GAIN * noise(face) ** 2)


def noise(face: Any) -> float:
    """Return an estimate of the standard deviation of the noise in a grey face, in levels of grey (Immerkaer 1996)."""
    response = cv2.filter2D(face, cv2.CV_16S, _NOISE_KERNEL)
    return math.sqrt(math.pi / 2) / 6 * cv2.norm(response, cv2.NORM_L1) / response.size


def exposure(face: Any) -> float:
    """Return 1 for a well exposed grey face, and less the darker or the more overexposed it is; at least 0.02.

    Only the inner part of the box is measured, so a bright or dark background has no effect.
    """
    height, width = face.shape
    down, across = int(height * _INNER_MARGIN), int(width * _INNER_MARGIN)
    inner = face[down : height - down, across : width - across]
    mean: float = cv2.mean(inner)[0]
    dark = (mean - _MIN_GREY) / (_LEAST_GOOD_GREY - _MIN_GREY)
    bright = (_MAX_GREY - mean) / (_MAX_GREY - _MOST_GOOD_GREY)
    clipped: float = int(np.count_nonzero(inner >= _CLIPPED_GREY)) / inner.size
    return max(_MIN_EXPOSURE, min(1.0, dark, bright, 1 - clipped))


def frontality(detection: Detection) -> float:
    """Return 1 for a face that looks at the camera, and less the more it is turned to the side (yaw); at least 0.2.

    It is measured along the line through the eyes: the nose tip of a frontal face is midway between them.
    """
    right_eye, left_eye, nose = detection.landmarks[:3]
    across = (left_eye[0] - right_eye[0], left_eye[1] - right_eye[1])
    squared = across[0] ** 2 + across[1] ** 2
    if squared < 1:
        return _MIN_POSE
    place = ((nose[0] - right_eye[0]) * across[0] + (nose[1] - right_eye[1]) * across[1]) / squared
    return max(_MIN_POSE, 1 - abs(place - 0.5))


def levelness(detection: Detection) -> float:
    """Return 1 for a face that looks neither up nor down, and less the more it does (pitch); at least 0.2.

    It is measured by the position of the nose tip between mouth and eyes.
    """
    right_eye, left_eye, nose, right_mouth, left_mouth = detection.landmarks
    mouth = ((right_mouth[0] + left_mouth[0]) / 2, (right_mouth[1] + left_mouth[1]) / 2)
    up = ((right_eye[0] + left_eye[0]) / 2 - mouth[0], (right_eye[1] + left_eye[1]) / 2 - mouth[1])
    squared = up[0] ** 2 + up[1] ** 2
    if squared < 1:
        return _MIN_POSE
    height = ((nose[0] - mouth[0]) * up[0] + (nose[1] - mouth[1]) * up[1]) / squared
    low, high = _LEVEL_NOSE_HEIGHT
    away = max(low - height, height - high, 0.0)
    return max(_MIN_POSE, 1 - away / _NOSE_HEIGHT_TOLERANCE * (1 - _MIN_POSE))


def visible_share(box: Box, others: Sequence[Box]) -> float:
    """Return the share of a box that the boxes of larger faces do not cover, 0 to 1: larger faces are nearer."""
    x, y, width, height = box
    covered = 0.0
    for left, top, other_width, other_height in others:
        if other_width * other_height > width * height:
            overlap_width = min(x + width, left + other_width) - max(x, left)
            overlap_height = min(y + height, top + other_height) - max(y, top)
            covered += max(0.0, overlap_width) * max(0.0, overlap_height)
    return max(0.0, 1 - covered / max(1.0, width * height))


def _is_truncated(box: Box, image: Image) -> bool:
    x, y, width, height = box
    return x < 0 or y < 0 or x + width > image.shape[1] or y + height > image.shape[0]
