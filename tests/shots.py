"""Small films of several shots, with cuts between them, and of what resembles a cut but is none.

The pictures are 160 pixels wide, as large as the thumbnails in which cuts are found.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np

from demo.film import clip
from edge.detector.camera.frame import Frame, Image
from tests.films import OPENED_AT, RATE

WIDTH, HEIGHT = 160, 90
_PHOTOS = ("multi_face.jpg", "single_face.jpg", "BWPictureHuman.jpg", "free-mountain-vector-01.jpg")
_CLIPS = {"WolfgangLanger_Pexels.mp4": 60, "face_noface.mov": 60, "noface_face.mov": 60}
"""Clips, each with the number of frames that belong to its first shot and are used."""

_NOISE = np.random.default_rng(1).normal(0, 2, (7, HEIGHT, WIDTH, 3))


def as_frames(images: list[Image]) -> list[Frame]:
    """Return the images as the frames of a film."""
    return [
        Frame(image, OPENED_AT + number / RATE, number / RATE, new_scene=number == 0)
        for number, image in enumerate(images)
    ]


def joined(cuts: int, seed: int = 1) -> tuple[list[Image], list[int]]:
    """Return a film with this many cuts, and the number of the first frame after each."""
    random = np.random.default_rng(seed)
    images: list[Image] = []
    firsts: list[int] = []
    source = -1
    for _ in range(cuts + 1):
        others = [other for other in range(len(_PHOTOS) + len(_CLIPS)) if other != source]
        source = int(random.choice(others))
        firsts.append(len(images))
        images += _shot(random, source, int(random.integers(5, 12)))
    return images, firsts[1:]


def flash(random: np.random.Generator) -> list[Image]:
    """A flash of one to three frames: all of the picture, or a part of it, becomes brighter or white."""
    images = _any_shot(random, 12)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    centre, width = random.uniform(0, (HEIGHT, WIDTH)), WIDTH * random.uniform(0.2, 1.5)
    light = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * width**2))[:, :, np.newaxis]
    for number in range(5, 5 + int(random.integers(1, 4))):
        images[number] = _to_bytes(images[number] + random.uniform(60, 300) * light)
    return images


def light_switched(random: np.random.Generator) -> list[Image]:
    """The light goes on or off, more on one side than on the other."""
    images, is_on_first = _any_shot(random, 12), random.random() < 0.5
    left, right = random.uniform(0.1, 0.6, 2)
    shade = np.linspace(left, right, WIDTH)[np.newaxis, :, np.newaxis]
    return [_to_bytes(image * shade) if (n < 6) != is_on_first else image for n, image in enumerate(images)]


def fade(random: np.random.Generator) -> list[Image]:
    """The picture fades to black or white, and comes back."""
    images, steps, goal = _any_shot(random, 16), int(random.integers(3, 8)), random.choice([0, 255])
    weights = [min(1.0, abs(number - 8) / steps) for number in range(16)]
    return [_to_bytes(image * weight + goal * (1 - weight)) for image, weight in zip(images, weights, strict=True)]


def pan(random: np.random.Generator) -> list[Image]:
    """A fast pan, by up to a fifth of the picture a frame, with the blur of the movement."""
    photo = _photo("multi_face.jpg")
    view = 0.35 * photo.shape[1]
    step = view * random.uniform(0.04, 0.2) * random.choice([-1, 1])
    x, y = random.uniform(0, photo.shape[1] - view), random.uniform(0, photo.shape[0] - view * HEIGHT / WIDTH)
    images = []
    for _ in range(12):
        if not 0 <= x + step <= photo.shape[1] - view:
            step = -step
        x += step
        blur = max(1, round(0.4 * abs(step) * WIDTH / view))
        images.append(_noisy(random, cv2.blur(_view(photo, x, y, view), (blur, 1))))
    return images


def walk_past(random: np.random.Generator) -> list[Image]:
    """Somebody walks past close to the camera in half a second, and covers up to 80 % of the picture's width."""
    frames, width = int(random.integers(12, 20)), int(WIDTH * random.uniform(0.4, 0.8))
    images, clothes = _any_shot(random, frames + 4), random.normal(0, 40, (5, 8, 3)) + random.uniform(40, 140)
    person = _to_bytes(cv2.blur(cv2.resize(clothes, (width, HEIGHT), interpolation=cv2.INTER_CUBIC), (9, 1)))
    for number in range(frames):
        left = round((WIDTH + width) * number / frames) - width
        start, end = max(0, left), min(WIDTH, left + width)
        images[number + 2][:, start:end] = person[:, start - left : end - left]
    return images


NO_CUTS: dict[str, Callable[[np.random.Generator], list[Image]]] = {
    "flash": flash,
    "light": light_switched,
    "fade": fade,
    "pan": pan,
    "walk past": walk_past,
}
"""Films without a cut, by what happens in them."""


def _any_shot(random: np.random.Generator, count: int) -> list[Image]:
    return _shot(random, int(random.integers(len(_PHOTOS) + len(_CLIPS))), count)


def _shot(random: np.random.Generator, source: int, count: int) -> list[Image]:
    """Return frames of a clip, or of a slow pan over a photograph."""
    if source < len(_CLIPS):
        images = _first_frames(list(_CLIPS)[source])
        begin = int(random.integers(len(images) - count))
        return [image.copy() for image in images[begin : begin + count]]
    photo = _photo(_PHOTOS[source - len(_CLIPS)])
    view = min(photo.shape[1], photo.shape[0] * WIDTH / HEIGHT) * random.uniform(0.5, 0.9)
    room = np.array([photo.shape[1] - view, photo.shape[0] - view * HEIGHT / WIDTH])
    begin, step = random.uniform(0.1, 0.9, 2) * room, random.uniform(-0.004, 0.004, 2) * room
    return [_noisy(random, _view(photo, x, y, view)) for x, y in (begin + number * step for number in range(count))]


def _view(photo: Image, x: float, y: float, width: float) -> Any:
    scale = WIDTH / width
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
    return cv2.warpAffine(photo, matrix, (WIDTH, HEIGHT))


def _noisy(random: np.random.Generator, image: Any) -> Image:
    return _to_bytes(image + random.choice(_NOISE))


def _to_bytes(image: Any) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


@cache
def _photo(name: str) -> Image:
    image: Any = cv2.imread(str(clip(name)))
    size = (600, round(600 * image.shape[0] / image.shape[1]))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]


@cache
def _first_frames(name: str) -> list[Image]:
    def read() -> Iterator[Any]:
        capture = cv2.VideoCapture(str(clip(name)))
        for _ in range(_CLIPS[name]):
            yield cv2.resize(capture.read()[1], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)

    return list(read())
