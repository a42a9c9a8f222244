"""Synthetic films for the tests: the heads of real people, moved over a background."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from demo.film import clip
from edge.detector.camera.frame import Frame, Image

RATE = 25
SIZE = (960, 540)
"""Width and height of a film, in pixels."""
OPENED_AT = 1000.0
"""When a film is opened, in seconds since boot."""

Motion = Callable[[float], tuple[float, float]]
"""The centre of a head, x and y in pixels, at a time in seconds."""


def cut_out_heads() -> list[tuple[Image, Any]]:
    """Return four heads of ``multi_face.jpg``, 150 pixels wide, each with its mask: height x width x 1, 0 to 1."""
    people = cv2.imread(str(clip("multi_face.jpg")))
    assert people is not None
    heads = []
    for x, y, width, height in ((212, 61, 91, 115), (315, 234, 95, 129), (531, 305, 94, 131), (686, 292, 101, 132)):
        head = people[y - height // 3 : y + height * 6 // 5, x - width // 4 : x + width * 5 // 4]
        head = cv2.resize(head, (150, round(150 * head.shape[0] / head.shape[1])), interpolation=cv2.INTER_CUBIC)
        mask = np.zeros((*head.shape[:2], 1), np.float32)
        centre = (head.shape[1] // 2, head.shape[0] // 2)
        cv2.ellipse(mask, centre, (centre[0] - 8, centre[1] - 8), 0, 0, 360, 1, -1)
        heads.append((head, cv2.GaussianBlur(mask, (0, 0), 3)[:, :, np.newaxis]))
    return heads  # type: ignore[return-value]


def render_frames(motions: Sequence[Motion], seconds: float, rate: float = RATE, noise: float = 2.0) -> Iterator[Frame]:
    """Yield the frames of a film with one head for each motion. Later ones are in front of earlier ones."""
    background = cv2.GaussianBlur(cv2.imread(str(clip("multi_face.jpg"))), (0, 0), 25)  # type: ignore[arg-type]
    background = cv2.resize(background, SIZE)
    heads, random = cut_out_heads(), np.random.default_rng(1)
    noisy = [np.clip(background + random.normal(0, noise, background.shape), 0, 255).astype(np.uint8) for _ in range(7)]
    for number in range(round(seconds * rate)):
        clock = number / rate
        image = noisy[number % len(noisy)].copy()
        for (head, mask), motion in zip(heads, motions, strict=False):
            _paste(image, head, mask, *motion(clock))
        yield Frame(image, OPENED_AT + clock, clock, new_scene=number == 0)


def _paste(image: Any, head: Image, mask: Any, x: float, y: float) -> None:
    """Paste a head into an image, centred on x and y. The part beyond the image's edge is cut off."""
    left, top = round(x - head.shape[1] / 2), round(y - head.shape[0] / 2)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + head.shape[1], image.shape[1]), min(top + head.shape[0], image.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    visible = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    behind = image[y0:y1, x0:x1].astype(np.float32)
    image[y0:y1, x0:x1] = behind + mask[visible] * (head[visible] - behind)
