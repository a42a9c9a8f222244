"""What the cameras see: frames of a film, and frames without a face."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from demo.film import clip

_FILM = "WolfgangLanger_Pexels.mp4"
"""A film of one person, with a face in every frame."""
_FRAMES = 40
_FRAME_SIZE = (640, 360)
_EMPTY_FRAMES_PER_FACE = 19
"""Number of frames without a face after each frame with one, in a folder. It limits the rate of faces."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the cameras see."""

    faces: Sequence[bytes]
    """JPEGs of frames, most of them with a face. Successive ones differ."""
    folder: Path
    """The same with frames without a face between them, as files."""
    empty: bytes
    """A frame without a face."""


def make_pictures(folder: Path) -> Pictures:
    """Make the pictures that the cameras see, from frames of a film.

    A folder of pictures is a recording whose capture times are the times at which they are read.
    """
    folder.mkdir(parents=True)
    capture = cv2.VideoCapture(str(clip(_FILM)))
    step = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // _FRAMES
    empty = cv2.imencode(".jpg", np.full((_FRAME_SIZE[1], _FRAME_SIZE[0], 3), 127, np.uint8))[1].tobytes()
    faces = []
    for number in range(_FRAMES):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number * step)
        read, image = capture.read()
        if not read:
            raise ValueError(f"{_FILM}: expected {_FRAMES * step} frames or more")
        faces.append(cv2.imencode(".jpg", cv2.resize(image, _FRAME_SIZE))[1].tobytes())
        for position, picture in enumerate((faces[-1], *(empty,) * _EMPTY_FRAMES_PER_FACE)):
            (folder / f"{number:04d}-{position}.jpg").write_bytes(picture)
    capture.release()
    return Pictures(faces, folder, empty)
