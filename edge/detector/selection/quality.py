"""Measures the quality of a picture of a face, to choose among pictures of the same face."""

from typing import Any

import cv2

from edge.detector.camera.frame import Image
from edge.detector.model.yunet import Detection
from edge.detector.selection.crop import clamp

_SHARPNESS_WIDTH_PIXELS = 64
"""Larger faces are scaled down to this width before their sharpness is measured, so that size has no effect on it."""
_HALF_SHARPNESS = 2000.0
"""Variance of the Laplacian, in squared levels of grey, at which the factor for sharpness is 0.5."""
_FULL_SIZE_PIXELS = 112.0
"""Shorter side of a face from which size no longer improves quality: face recognition uses this input size."""
_TRUNCATED_FACTOR = 0.5
"""Factor for a face that is cut off by the edge of the frame."""
_CONFIDENCE_EXPONENT = 4
"""Weight of the score. The scores of one face differ little; lower ones mean that it is turned, blurred or covered."""


def face_quality(image: Image, detection: Detection) -> float:
    """Return the quality of a picture of a face, 0 to 1: from its score, sharpness, size, pose and completeness."""
    x, y, width, height = detection.box
    frame_height, frame_width = image.shape[:2]
    sharp = sharpness(image, detection.box)
    quality: float = detection.confidence**_CONFIDENCE_EXPONENT * sharp / (sharp + _HALF_SHARPNESS)
    quality *= min(1.0, min(width, height) / _FULL_SIZE_PIXELS) ** 0.5 * frontality(detection)
    is_truncated = x < 0 or y < 0 or x + width > frame_width or y + height > frame_height
    return quality * _TRUNCATED_FACTOR if is_truncated else quality


def sharpness(image: Image, box: tuple[float, float, float, float]) -> float:
    """Return the variance of the Laplacian of the face in ``box``, in squared levels of grey.

    Pech-Pacheco et al., «Diatom autofocusing in brightfield microscopy: a comparative study», ICPR 2000.
    """
    left, top, width, height = clamp(box, image.shape[1], image.shape[0])
    face: Any = cv2.cvtColor(image[top : top + height, left : left + width], cv2.COLOR_BGR2GRAY)
    if width > _SHARPNESS_WIDTH_PIXELS:
        size = (_SHARPNESS_WIDTH_PIXELS, max(1, round(height * _SHARPNESS_WIDTH_PIXELS / width)))
        face = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    return float(cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_32F))[1][0, 0]) ** 2


def frontality(detection: Detection) -> float:
    """Return 1 for a face that looks at the camera, and less the more it is turned to the side; at least 0.2.

    It is measured by the horizontal position of the nose tip: midway between the eyes in a frontal face.
    """
    (right_eye, _), (left_eye, _), (nose, _) = detection.landmarks[:3]
    eye_distance = abs(left_eye - right_eye)
    if eye_distance < 1:
        return 0.2
    return max(0.2, 1 - abs(nose - (right_eye + left_eye) / 2) / eye_distance)
