"""Cameras that are files: a video, or a folder of images. No frame of theirs is lost; they take the time it takes."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import structlog

from edge.detector.camera.frame import Frame, Image
from wire.errors import ConfigurationError, ExitCode
from wire.process.lifecycle import Stop

_MAX_STEP_SECONDS = 3600.0
"""From one frame of a film to the next; more is a damaged timestamp."""
IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))

_log = structlog.get_logger("camera")


class VideoFile:
    """A video. Its frames are as far apart as they were filmed, counted from the moment when it was opened."""

    is_live = False
    skipped = 0
    reopened = 0
    spoiled = 0
    passed = 0
    resting = False

    def __init__(self, path: Path, loop: bool) -> None:
        self._path, self._loop = path, loop

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield every frame; see :class:`edge.detector.camera.frame.Camera`."""
        yield from self._once(stop)
        while self._loop and not stop:
            yield from self._once(stop)

    def _once(self, stop: Stop) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        try:
            opened_at, clock, before, count = datetime.now(UTC), 0.0, 0.0, 0
            while not stop:
                read, image = capture.read()
                if not read:
                    break
                position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                clock += min(max(position - before, 0.0), _MAX_STEP_SECONDS)  # it may jump: films are spliced
                before = position
                yield Frame(image, opened_at + timedelta(seconds=clock), clock, new_scene=count == 0)  # type: ignore[arg-type]
                count += 1
            if count == 0 and not stop:
                raise ConfigurationError(
                    f"CAMERA_SOURCE is '{self._path}': expected a video with at least one readable frame",
                    ExitCode.BAD_DATA,
                )
            announced = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if not stop and count < announced:
                _log.warning("the video ends early", path=str(self._path), frames=count, announced=announced)
        finally:
            capture.release()


class ImageFolder:
    """A folder of images, in the order of their names. Each is a scene of its own, captured when it is read."""

    is_live = False
    skipped = 0
    reopened = 0
    spoiled = 0
    passed = 0
    resting = False

    def __init__(self, path: Path, loop: bool) -> None:
        self._path, self._loop = path, loop

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield every image that can be read; see :class:`edge.detector.camera.frame.Camera`."""
        yield from self._once(stop)
        while self._loop and not stop:
            yield from self._once(stop)

    def _once(self, stop: Stop) -> Iterator[Frame]:
        count = 0
        for path in self._paths():
            if stop:
                return
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            image = _read(path)
            if image is None:
                _log.warning("not an image that can be read", path=printable(path))
                continue
            yield Frame(image, datetime.now(UTC), float(count), new_scene=True)
            count += 1
        if count == 0:
            raise ConfigurationError(
                f"CAMERA_SOURCE is '{printable(self._path)}': expected a folder with at least one readable image "
                f"({', '.join(sorted(IMAGE_SUFFIXES))})",
                ExitCode.BAD_DATA,
            )

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._path.iterdir())
        except OSError as error:
            raise ConfigurationError(
                f"CAMERA_SOURCE is '{printable(self._path)}': expected a folder that can be read ({error.strerror})",
                ExitCode.BAD_DATA,
            ) from None


def printable(path: Path) -> str:
    """Return a path as text that can be printed, also where its name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _read(path: Path) -> Image | None:
    """Return the image, or None where it is none that OpenCV can read.

    From bytes: OpenCV does not survive a name that is not UTF-8.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None  # type: ignore[return-value]
    except (OSError, cv2.error):
        return None
