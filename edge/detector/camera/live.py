"""Cameras that are live: always the newest frame, and a watchdog that opens the camera again when it hangs.

``cv2.VideoCapture.read`` can block for good on a lost network camera and cannot be interrupted. So each capture has
a thread of its own, which the watchdog leaves behind when it opens another; only so many of them.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import cv2
import structlog

from edge.detector.camera.corruption import CorruptionFilter
from edge.detector.camera.frame import Frame
from wire.errors import ConfigurationError, ExitCode
from wire.process.backoff import delay_seconds
from wire.process.lifecycle import Stop

HANG_SECONDS = 10.0
"""A camera without a frame for this long is opened again, whatever its pace."""
MIN_HANG_SECONDS = 4.0
HANG_GAPS = 20
"""One that has shown its pace is opened again after so many times its longest gap, but not before the above."""
MAX_HUNG_CAPTURES = 8
"""Captures left behind that still hang: then another is opened only once one of them has ended."""
OPEN_SECONDS = 20.0
"""How long opening a camera may take."""
INITIAL_REOPEN_SECONDS = 0.5
MAX_REOPEN_SECONDS = 3.0
"""The longest pause before a camera that is gone is opened again."""
RELEASE_SECONDS = 1.0
"""How long the end of the process waits for a camera to be let go."""
RESTING_EVERY = 3
"""While nothing moves, so many frames make one that is looked at: at 30 frames/s a movement is seen 0.1 s later."""
_POLL_SECONDS = 0.2
"""How soon a wait for a frame notices that the process is to stop."""

_log = structlog.get_logger("camera")


class LiveCamera:
    """A V4L2 device, a network stream or a GStreamer pipeline."""

    is_live = True

    def __init__(
        self, name: str, open_capture: Callable[[], cv2.VideoCapture], hang_seconds: float = HANG_SECONDS
    ) -> None:
        """Set up a camera; nothing is opened yet.

        Args:
            name: what the log calls it, without credentials.
            open_capture: opens it.
            hang_seconds: how long it may go without a frame at the most.
        """
        self.skipped = 0
        self.reopened = 0
        self.spoiled = 0
        self.passed = 0
        self.resting = False
        self._name, self._open_capture, self._hang_seconds = name, open_capture, hang_seconds

    def frames(self, stop: Stop) -> Iterator[Frame]:
        """Yield the newest frame, over and over; see :class:`edge.detector.camera.frame.Camera`."""
        reader = _Reader(self._open_capture)
        if not reader.wait_open(OPEN_SECONDS, stop):
            raise ConfigurationError(
                f"CAMERA_SOURCE is '{self._name}': expected a camera that can be opened", ExitCode.NO_INPUT
            )
        failures = 0
        left_behind: list[_Reader] = []
        while not stop:
            for frame in self._read(reader, stop):
                yield frame
                failures = 0
            reader.abandon()
            if stop:
                reader.wait_end(RELEASE_SECONDS)
                return
            self.reopened += 1
            failures += 1
            stop.wait(delay_seconds(failures, INITIAL_REOPEN_SECONDS, MAX_REOPEN_SECONDS))
            left_behind = [one for one in (*left_behind, reader) if not one.ended]
            while len(left_behind) >= MAX_HUNG_CAPTURES and not stop:
                stop.wait(_POLL_SECONDS)
                left_behind = [one for one in left_behind if not one.ended]
            reader = _Reader(self._open_capture)
            reader.wait_open(OPEN_SECONDS, stop)

    def _read(self, reader: "_Reader", stop: Stop) -> Iterator[Frame]:
        """Yield the sound frames of one capture, until it ends or hangs; the first begins a scene."""
        damage, shape = CorruptionFilter(), None
        patience, came_at, has_paced = self._hang_seconds, time.monotonic(), False
        longest_gap = 0.0
        while not stop:
            reader.every = RESTING_EVERY if self.resting else 1
            taken = reader.take(_POLL_SECONDS)
            now = time.monotonic()
            if taken is not None:
                self.skipped += taken.skipped
                self.passed += taken.passed
                if has_paced:
                    longest_gap = max(longest_gap, (now - came_at) / (1 + taken.skipped + taken.passed))
                    patience = min(self._hang_seconds, max(MIN_HANG_SECONDS, HANG_GAPS * longest_gap))
                came_at, has_paced = now, True
                image = damage.sound(taken.image, taken.clock)
                if image is None:
                    self.spoiled += 1
                    continue
                yield Frame(image, taken.captured_at, taken.clock, new_scene=image.shape != shape)
                shape = image.shape
            elif reader.ended:
                _log.warning("the camera is gone, opening it again", camera=self._name, reason=reader.reason)
                return
            elif now - came_at > patience:
                _log.warning("the camera hangs, opening it again", camera=self._name, seconds=round(patience, 1))
                return


class _CapturedFrame:
    """The newest frame of a capture, how many before it nobody took, and how many were let pass."""

    def __init__(self, image: Any, skipped: int, passed: int) -> None:
        self.image, self.skipped, self.passed = image, skipped, passed
        self.captured_at, self.clock = datetime.now(UTC), time.monotonic()


class _Reader:
    """One capture in a thread of its own."""

    def __init__(self, open_capture: Callable[[], cv2.VideoCapture]) -> None:
        self._open_capture = open_capture
        self._changed = threading.Condition()
        self._newest: _CapturedFrame | None = None
        self._abandoned = False
        self.every = 1
        """Which of its frames are pictures: every one, or every so many."""
        self.opened = False
        self.ended = False
        self.reason: str | None = None
        """What the driver complained of."""
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def wait_open(self, seconds: float, stop: Stop) -> bool:
        """Wait until the camera is open, and tell whether it is (or whether waiting was called off)."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (self.opened or self.ended or stop) and time.monotonic() < deadline:
                self._changed.wait(_POLL_SECONDS)
        return self.opened or bool(stop)

    def take(self, seconds: float) -> _CapturedFrame | None:
        """Return the newest frame that nobody has taken yet; None where none has come within ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.ended, seconds)
            candidate, self._newest = self._newest, None
        return candidate

    def abandon(self) -> None:
        """Leave the thread to itself; it lets the camera go as soon as it can."""
        self._abandoned = True

    def wait_end(self, seconds: float) -> None:
        """Wait until the camera has been let go, at most ``seconds``: it may hang."""
        self._thread.join(seconds)

    def _run(self) -> None:
        capture = None
        try:
            capture = self._open_capture()
            with self._changed:
                self.opened = capture.isOpened()
                self._changed.notify_all()
            passed = 0
            while self.opened and not self._abandoned and capture.grab():
                if passed + 1 < self.every:
                    passed += 1
                    continue
                read, image = capture.retrieve()
                if not read:
                    break
                with self._changed:
                    if self._newest is not None:
                        passed += self._newest.passed
                    skipped = self._newest.skipped + 1 if self._newest is not None else 0
                    self._newest = _CapturedFrame(image, skipped, passed)
                    self._changed.notify_all()
                passed = 0
        except Exception as failure:  # noqa: BLE001 (whatever a driver does, the camera is opened again)
            self.reason = " ".join(str(failure).split())
        finally:
            if capture is not None:
                with contextlib.suppress(Exception):
                    capture.release()
            with self._changed:
                self._newest = None if self._abandoned else self._newest
                self.ended = True
                self._changed.notify_all()
