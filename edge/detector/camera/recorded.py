"""Recorded cameras: a video file or a folder of images. No frame is skipped, however long the search takes."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import structlog

from edge.detector.camera.frame import Camera, Frame, Image
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process.clock import is_set, now, seconds_since_boot
from wire.process.lifecycle import Stop

_MAX_STEP_SECONDS = 3600.0
"""Maximum time between two frames of a video; a larger step is a corrupt timestamp."""
IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))

_log = structlog.get_logger("camera")


class Recording(Camera):
    """A camera that reads files. Every frame is processed."""

    is_live = False

    def __init__(self, path: Path, loop: bool) -> None:
        self._path, self._loop = path, loop

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield every readable frame; see :class:`edge.detector.camera.frame.Camera`."""
        yield from self._once(stop)
        while self._loop and not stop:
            yield from self._once(stop)

    @abstractmethod
    def _once(self, stop: Stop) -> Iterator[Frame]:
        """Yield the frames once, from the first to the last."""

    def _error(self, expected: str) -> ConfigurationError:
        return ConfigurationError(f"CAMERA_SOURCE is '{printable(self._path)}': expected {expected}", ExitCode.BAD_DATA)


class VideoFile(Recording):
    """A video file. Its frames keep their intervals; the first is captured when the file is opened."""

    def _once(self, stop: Stop) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        try:
            opened_at, clock, previous, count = seconds_since_boot(), 0.0, 0.0, 0
            while not stop:
                read, image = capture.read()
                if not read:
                    break
                position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                clock += min(max(position - previous, 0.0), _MAX_STEP_SECONDS)  # spliced files jump
                previous = position
                yield Frame(image, opened_at + clock, clock, new_scene=count == 0, is_clock_set=is_set(now()))  # type: ignore[arg-type]
                count += 1
            if count == 0 and not stop:
                raise self._error("a video with at least one readable frame")
            expected = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if not stop and count < expected:
                _log.warning("video ends early", path=str(self._path), frames=count, expected=expected)
        finally:
            capture.release()


class ImageFolder(Recording):
    """A folder of images, in the order of their names. Each image is a separate scene, captured when it is read."""

    def _once(self, stop: Stop) -> Iterator[Frame]:
        count = 0
        try:
            paths = sorted(self._path.iterdir())
        except OSError as error:
            raise self._error(f"a readable folder ({error.strerror})") from None
        for path in paths:
            if stop:
                return
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            image = _read(path)
            if image is None:
                _log.warning("unreadable image skipped", path=printable(path))
                continue
            yield Frame(image, seconds_since_boot(), float(count), new_scene=True, is_clock_set=is_set(now()))
            count += 1
        if count == 0:
            raise self._error(f"a folder with at least one readable image ({', '.join(sorted(IMAGE_SUFFIXES))})")


def printable(path: Path) -> str:
    """Return a path as printable text, even if its name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _read(path: Path) -> Image | None:
    """Return the image, or None if OpenCV cannot read it.

    The file is read here and decoded from memory: OpenCV crashes on a name that is not UTF-8.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None  # type: ignore[return-value]
    except (OSError, cv2.error):
        return None
