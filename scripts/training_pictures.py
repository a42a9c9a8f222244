"""The pictures that the verification of faces is trained with, and what each of them shows.

Caltech-101 is sorted by what a picture shows. Where YuNet finds faces in its animals and things, these are no people.
Those of :data:`_PEOPLE` and of the class ``Faces`` were looked at: all of their detections are people.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.detector.camera.frame import Image

MIN_CONFIDENCE = 0.5
"""Minimum score of the detections that are used."""
_UPSCALED_PIXELS = 480
"""Smaller pictures are enlarged to this longest side: YuNet finds more in them then."""
_NO_PEOPLE = """
    ant beaver brain butterfly cougar_body cougar_face crab crayfish crocodile crocodile_head dalmatian dragonfly
    elephant emu flamingo flamingo_head gerenuk hedgehog kangaroo Leopards llama lotus menorah nautilus octopus okapi
    panda platypus rhino rooster scorpion sea_horse strawberry sunflower tick watch wild_cat
"""
"""Classes in which what YuNet takes for a face is none of a person."""
_PETS_WITH_PEOPLE = {"Abyssinian_94.jpg", "Abyssinian_149.jpg"}
_PEOPLE = {
    "BACKGROUND_Google": (
        "14 27 46 75 85 92 93 94 101 102 106 108 114 119 120 133 136 140 151 154 165 197 204 208 212 221 222 226 233 "
        "256 268 275 276 288 295 302 303 342 343 350 356 366 367 369 379 380 390 395 405 418 420 421 422 435 436 444 "
        "449 455"
    ),
    "accordion": "5 21 27 28 43 50",
    "anchor": "26 33",
    "bonsai": "93",
    "cannon": "14 40",
    "cellphone": "52 55",
    "chandelier": "39",
    "euphonium": "26",
    "saxophone": "3 12 14 29 35 40",
}
"""Numbers of the pictures of people in other classes of Caltech-101."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, and how its detections are used."""

    path: Path
    is_person: bool
    weight: float
    """Weight of each of its examples."""
    variants: int
    """Examples made from each detection, besides itself."""
    scales: tuple[float, ...] = (1.0,)
    """Scales of the picture at which it is searched."""
    min_pixels: int = 20
    min_confidence: float = MIN_CONFIDENCE

    def scaled(self, image: Image) -> Iterator[Image]:
        """Yield the picture at each scale."""
        enlarged = 1.0
        if "101_ObjectCategories" in self.path.parts and self.path.parent.name != "Faces":
            enlarged = max(_UPSCALED_PIXELS / max(image.shape[:2]), 1.0)
        for scale in (enlarged * scale for scale in self.scales):
            filter_of = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            changed = cv2.resize(image, None, fx=scale, fy=scale, interpolation=filter_of)
            yield changed.astype(np.uint8, copy=False)


def all_of(caltech: Path, pets: Path) -> list[Picture]:
    """Return the pictures in the folders of Caltech-101 and of the Oxford-IIIT Pet data set."""
    faces = sorted((caltech / "Faces").glob("*.jpg"))
    people = [
        caltech / name / f"image_{int(number):04d}.jpg"
        for name, numbers in _PEOPLE.items()
        for number in numbers.split()
    ]
    animals = [path for path in sorted(pets.glob("*.jpg")) if path.name not in _PETS_WITH_PEOPLE]
    others = [path for name in _NO_PEOPLE.split() for path in sorted((caltech / name).glob("*.jpg"))]
    return [
        *(Picture(path, True, 0.3, 1, (0.5, 0.25), 24, 0.6) for path in faces),
        *(Picture(path, True, 1.0, 4, (1.0, 0.6), 20, 0.6) for path in people),
        *(Picture(path, False, 1.0, 2, (1.0, 0.7, 0.45)) for path in animals),
        *(Picture(path, False, 0.5, 2, (1.0, 0.6)) for path in others),
    ]
