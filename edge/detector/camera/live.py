"""Live cameras: yield the newest frame, and reopen the camera if it fails or hangs.

``cv2.VideoCapture.read`` can block forever on a lost network camera and cannot be interrupted. So each capture runs in
its own thread. If it hangs, it is abandoned and a new one is opened. If too many abandoned captures still hang, only a
new process can help, so an error is raised. A GStreamer pipeline can be interrupted: it is a process of its own.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import structlog

from edge.detector.camera.corruption import CorruptionFilter
from edge.detector.camera.frame import Camera, Frame
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process import clock
from wire.process.backoff import delay_seconds
from wire.process.credentials import without_credentials
from wire.process.lifecycle import Stop

MAX_HANG_SECONDS = 10.0
"""A camera that gives no frame for this long is reopened, whatever its frame rate."""
MIN_HANG_SECONDS = 4.0
"""Minimum time without a frame before a camera is reopened."""
HANG_GAPS = 20
"""A camera whose frame rate is known is reopened after this many times the longest gap between its frames."""
MAX_HUNG_CAPTURES = 8
"""Number of abandoned captures that still hang at which the camera ends with an error."""
OPEN_SECONDS = 20.0
"""Maximum time for opening a camera."""
INITIAL_REOPEN_SECONDS = 0.5
"""Base of the exponential backoff before a camera is reopened."""
MAX_REOPEN_SECONDS = 2.0
"""Maximum pause before a camera is reopened."""
RELEASE_SECONDS = 1.0
"""Maximum time for releasing the camera when the process stops: the driver may hang."""
REDUCED_RATE_DIVISOR = 3
"""At the reduced rate, one of this many frames is processed: at 30 frames/s, movement is noticed 0.1 s later."""
_POLL_SECONDS = 0.2
"""Interval at which a wait for a frame checks whether the process is stopping."""

_log = structlog.get_logger("camera")


class Capture(Protocol):
    """The methods of ``cv2.VideoCapture`` that a live camera uses."""

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        """Return whether the camera is open."""

    def grab(self) -> bool:
        """Wait for the next frame; return whether there is one."""

    def retrieve(self) -> tuple[bool, Any]:
        """Return whether the frame that was grabbed could be decoded, and the frame."""

    def release(self) -> None:
        """Close the camera."""


@runtime_checkable
class InterruptibleCapture(Capture, Protocol):
    """A capture whose waiting can be ended by another thread."""

    def interrupt(self) -> None:
        """Let the call that waits for a frame fail soon."""


class LiveCamera(Camera):
    """A V4L2 device, a network stream or a GStreamer pipeline."""

    is_live = True

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture],
        max_hang_seconds: float = MAX_HANG_SECONDS,
        *,
        min_hang_seconds: float | None = None,
    ) -> None:
        """Set up the camera; :meth:`frames` opens it.

        Args:
            name: the camera for logs and errors, without credentials.
            open_capture: opens the camera; called in a thread of its own.
            max_hang_seconds: the camera is reopened when it has given no frame for this long.
            min_hang_seconds: how long at least it must have given none. Default: :data:`MIN_HANG_SECONDS`.
        """
        self._name, self._open_capture = name, open_capture
        self._max_hang_seconds, self._min_hang_seconds = (
            max_hang_seconds,
            (MIN_HANG_SECONDS if min_hang_seconds is None else min_hang_seconds),
        )

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield the newest frame each time; see :class:`edge.detector.camera.frame.Camera`."""
        reader = _Reader(self._open_capture)
        try:
            if not reader.wait_open(stop):
                reason = f"{without_credentials(reader.reason)}; " if reader.reason else ""
                raise ConfigurationError(
                    f"CAMERA_SOURCE is '{self._name}': {reason}expected a camera that can be opened", ExitCode.NO_INPUT
                )
            failures = 0
            abandoned: list[_Reader] = []
            while not stop:
                for frame in self._read(reader, stop):
                    yield frame
                    failures = 0
                reader.abandon()
                if stop:
                    return
                self.reopened += 1
                failures += 1
                stop.wait(delay_seconds(failures, INITIAL_REOPEN_SECONDS, MAX_REOPEN_SECONDS))
                abandoned = [other for other in (*abandoned, reader) if not other.ended]
                if len(abandoned) >= MAX_HUNG_CAPTURES:
                    raise ConfigurationError(
                        f"CAMERA_SOURCE is '{self._name}': expected a camera that gives frames, "
                        f"but {len(abandoned)} attempts to read it have not returned",
                        ExitCode.CAMERA_HANGS,
                    )
                reader = _Reader(self._open_capture)
                reader.wait_open(stop)
        finally:
            reader.abandon()
            reader.thread.join(RELEASE_SECONDS)

    def _read(self, reader: "_Reader", stop: Stop) -> Iterator[Frame]:
        """Yield the intact frames of one capture until it ends or hangs. The first one begins a new scene."""
        corruption_filter, shape = CorruptionFilter(), None
        timeout, last_frame_at, has_frame = self._max_hang_seconds, time.monotonic(), False
        longest_gap = 0.0
        while not stop:
            reader.process_every = REDUCED_RATE_DIVISOR if self.reduced_rate else 1
            captured = reader.take_newest()
            now = time.monotonic()
            if captured is not None:
                self.skipped += captured.skipped
                self.ignored += captured.ignored
                if has_frame:
                    longest_gap = max(longest_gap, (now - last_frame_at) / (1 + captured.skipped + captured.ignored))
                    timeout = min(self._max_hang_seconds, max(self._min_hang_seconds, HANG_GAPS * longest_gap))
                last_frame_at, has_frame = now, True
                image = corruption_filter.filter(captured.image, captured.captured_at)
                if image is None:
                    self.corrupt += 1
                    continue
                yield Frame(
                    image,
                    captured.captured_at,
                    captured.captured_at,
                    new_scene=image.shape != shape,
                    is_clock_set=captured.is_clock_set,
                )
                shape = image.shape
            elif reader.ended:
                _log.warning("camera failed, reopening it", camera=self._name, reason=reader.reason)
                return
            elif now - last_frame_at > timeout:
                _log.warning("camera hangs, reopening it", camera=self._name, seconds=round(timeout, 1))
                return


class _CapturedFrame:
    """The newest frame of a capture, and how many frames since the last one taken were skipped or ignored."""

    def __init__(self, image: Any, skipped: int, ignored: int) -> None:
        self.image, self.skipped, self.ignored = image, skipped, ignored
        self.captured_at, self.is_clock_set = clock.seconds_since_boot(), clock.is_set(clock.now())


class _Reader:
    """Reads one capture in its own thread and keeps the newest frame."""

    def __init__(self, open_capture: Callable[[], Capture]) -> None:
        self._open_capture = open_capture
        self._capture: Capture | None = None
        self._changed = threading.Condition()
        self._newest: _CapturedFrame | None = None
        self.is_abandoned = False
        """Whether the thread shall release the camera and end as soon as the driver returns."""
        self.process_every = 1
        """1: every frame is retrieved; n: every nth frame."""
        self.opened = False
        self.ended = False
        self.reason: str | None = None
        """The driver's error, if it raised one."""
        self.thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self.thread.start()

    def wait_open(self, stop: Stop) -> bool:
        """Wait at most :data:`OPEN_SECONDS` for the camera to open; return whether it did or ``stop`` is set."""
        deadline = time.monotonic() + OPEN_SECONDS
        with self._changed:
            while not (self.opened or self.ended or stop) and time.monotonic() < deadline:
                self._changed.wait(_POLL_SECONDS)
        return self.opened or bool(stop)

    def abandon(self) -> None:
        """Let the thread release the camera and end: at once if the capture can be interrupted."""
        with self._changed:
            self.is_abandoned = True
            capture = self._capture
        if isinstance(capture, InterruptibleCapture):
            capture.interrupt()
            self.thread.join(RELEASE_SECONDS)  # its camera can be opened only once

    def take_newest(self) -> _CapturedFrame | None:
        """Return the newest frame, once; None if no new one arrives within :data:`_POLL_SECONDS`."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.ended, _POLL_SECONDS)
            newest, self._newest = self._newest, None
        return newest

    def _run(self) -> None:
        capture = None
        try:
            capture = self._open_capture()
            with self._changed:
                self._capture = capture
            opened = not self.is_abandoned and capture.isOpened()
            with self._changed:
                self.opened = opened
                self._changed.notify_all()
            ignored = 0
            while self.opened and not self.is_abandoned and capture.grab():
                if ignored + 1 < self.process_every:
                    ignored += 1
                    continue
                read, image = capture.retrieve()
                if not read:
                    break
                with self._changed:
                    if self._newest is not None:
                        ignored += self._newest.ignored
                    skipped = self._newest.skipped + 1 if self._newest is not None else 0
                    self._newest = _CapturedFrame(image, skipped, ignored)
                    self._changed.notify_all()
                ignored = 0
        except Exception as failure:  # noqa: BLE001 (whatever the driver raises, the camera is reopened)
            self.reason = " ".join(str(failure).split())
        finally:
            if capture is not None:
                with contextlib.suppress(Exception):
                    capture.release()
            with self._changed:
                self._newest = None if self.is_abandoned else self._newest
                self.ended = True
                self._changed.notify_all()
