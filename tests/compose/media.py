"""What the camera of the containers sees."""

from pathlib import Path

import cv2
import numpy as np

from demo.film import clip

_FILM = "WolfgangLanger_Pexels.mp4"
"""A film of one person, with a face in every frame."""
_FRAMES = 40
_EMPTY_FRAMES_PER_FACE = 4
"""Number of frames without a face after each frame with one. It limits the rate to about 20 faces per second."""


def make_pictures(folder: Path, empty: Path) -> None:
    """Fill one folder with frames of a film, and another one with a picture without a face.

    The source is a folder of pictures instead of the film, because the capture time of a picture is the time at which
    it is read. The id of a face in S3 then gives its age.
    """
    for created in (folder, empty):
        created.mkdir(parents=True)
    capture = cv2.VideoCapture(str(clip(_FILM)))
    step = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // _FRAMES
    number = 0
    for _ in range(_FRAMES):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number // (1 + _EMPTY_FRAMES_PER_FACE) * step)
        read, image = capture.read()
        if not read:
            raise ValueError(f"{_FILM}: expected {_FRAMES * step} frames or more")
        for picture in (image, *[np.full_like(image, 127)] * _EMPTY_FRAMES_PER_FACE):
            cv2.imwrite(str(folder / f"{number:04d}.jpg"), picture)
            number += 1
    capture.release()
    cv2.imwrite(str(empty / "nobody.jpg"), np.full((360, 640, 3), 127, np.uint8))
