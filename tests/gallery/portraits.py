"""Pictures of faces for the tests: heads of real people, each a little different."""

from functools import cache

import cv2
import numpy as np

from demo.film import clip

HEADS = ((212, 61, 91, 115), (315, 234, 95, 129), (531, 305, 94, 131), (686, 292, 101, 132))
VARIANTS = 24


@cache
def portrait(number: int) -> bytes:
    """A JPEG like those of the detector. Equal numbers modulo 96 give the same picture."""
    return _portrait(number % (len(HEADS) * VARIANTS))


@cache
def _portrait(number: int) -> bytes:
    people = cv2.imread(str(clip("multi_face.jpg")))
    assert people is not None
    random = np.random.default_rng(number)
    x, y, width, height = HEADS[number % len(HEADS)]
    margin = int(width * random.uniform(0.1, 0.45))
    left, top = (max(0, int(start + random.integers(-8, 9)) - margin) for start in (x, y))
    head = people[top : top + height + 2 * margin, left : left + width + 2 * margin]
    if random.random() < 0.5:
        head = head[:, ::-1]
    head = cv2.convertScaleAbs(head, alpha=random.uniform(0.7, 1.15), beta=random.uniform(-25, 20))
    return cv2.imencode(".jpg", head, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
