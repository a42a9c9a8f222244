"""Cameras that are files: a video, or a folder of images. No frame of theirs is lost; they take the time it takes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import structlog

from edge.detector.frame import Frame
from wire.errors import ConfigurationError, ExitCode
from wire.process import Stop

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))

_log = structlog.get_logger("camera")


class VideoFile:
    """A video. Its frames are as far apart as they were filmed, counted from the moment when it was opened."""

    skipped = 0
    reopened = 0

    def __init__(self, path: Path, loop: bool) -> None:
        self._path, self._loop = path, loop

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield every frame; see :class:`edge.detector.frame.Camera`."""
        yield from self._once(stop)
        while self._loop and not stop:
            yield from self._once(stop)

    def _once(self, stop: Stop) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        try:
            opened_at, clock, count = datetime.now(UTC), 0.0, 0
            while not stop:
                read, image = capture.read()
                if not read:
                    break
                position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                clock = max(clock, position)
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

    skipped = 0
    reopened = 0

    def __init__(self, path: Path, loop: bool) -> None:
        self._path, self._loop = path, loop

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield every image that can be read; see :class:`edge.detector.frame.Camera`."""
        yield from self._once(stop)
        while self._loop and not stop:
            yield from self._once(stop)

    def _once(self, stop: Stop) -> Iterator[Frame]:
        count = 0
        for path in sorted(self._path.iterdir()):
            if stop:
                return
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                _log.warning("not an image that can be read", path=str(path))
                continue
            yield Frame(image, datetime.now(UTC), float(count), new_scene=True)  # type: ignore[arg-type]
            count += 1
        if count == 0:
            raise ConfigurationError(
                f"CAMERA_SOURCE is '{self._path}': expected a folder with at least one readable image "
                f"({', '.join(sorted(IMAGE_SUFFIXES))})",
                ExitCode.BAD_DATA,
            )
