"""Runs a GStreamer pipeline as a child process, whose frames come through a pipe.

OpenCV's wheel is built without GStreamer, so ``gst-launch-1.0`` runs the pipeline. Its frames arrive in the GStreamer
Data Protocol (GDP, the element ``gdppay``): each message has a header with its type and length, and a message with the
format precedes the frames. So size and length of the frames are known, also if they change while the pipeline runs.

Frames are transferred as I420, half the size of BGR, which most decoders produce anyway. OpenCV converts only those
frames that are processed.
"""

import contextlib
import os
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import time
from typing import Any

import cv2
import numpy as np

from edge.detector.camera.frame import Image
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process.credentials import without_credentials

GST_LAUNCH = "gst-launch-1.0"
INSTALL = "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-{good,bad}"
"""What installs GStreamer on Debian and Ubuntu. gdppay is in plugins-bad."""
END_SECONDS = 0.5
"""Time for a pipeline to end after SIGINT, before SIGKILL: a sensor's driver wants to be closed."""
_POLL_SECONDS = 0.1
"""Interval at which a wait for data checks whether the capture was interrupted."""
_FORMAT = "video/x-raw,format=I420,colorimetry={bt601,bt709}"
"""Limited range, which is what OpenCV's conversion expects: videoconvert converts the full range of a JPEG."""
_HEADER = struct.Struct(">BBBxHI52x")
"""Version 1.0 of a GDP header, 62 bytes: version, type and length of the payload. Times and checksums are not used."""
_VERSION, _BUFFER, _CAPS = (1, 0), 1, 2
_MAX_MESSAGE_BYTES = 1 << 27
"""A longer message is none: a frame of 8192x8192 has 100 MB."""
_MAX_ERROR_BYTES, _MAX_REASON_CHARACTERS = 4096, 300
_SIZE = re.compile(rb"\b(width|height)=\(int\)(\d+)")
_APPSINK = re.compile(r"\s*!\s*appsink\b[^!]*$")
"""The end of a pipeline that was written for OpenCV."""
_CAUSES = re.compile(r"^(?:WARNING: erroneous pipeline|ERROR: from element|ERROR)\b.*", re.MULTILINE)


def launch_arguments(pipeline: str, name: str) -> list[str]:
    """Return the elements of a pipeline as arguments, split as a shell would split them, without running one.

    Args:
        pipeline: its last element yields raw video; there is no sink.
        name: the pipeline for errors, without credentials.

    Raises:
        ConfigurationError: GStreamer is not installed, or a quotation mark is missing.
    """
    if shutil.which(GST_LAUNCH) is None:
        raise ConfigurationError(
            f"CAMERA_SOURCE is '{name}': {GST_LAUNCH} is not installed; expected GStreamer: {INSTALL}, "
            "or an image of the detector that was built with GSTREAMER=yes",
            ExitCode.NO_INPUT,
        )
    try:
        arguments = shlex.split(_APPSINK.sub("", pipeline))
    except ValueError as error:
        arguments, problem = [], f" ({error})"
    else:
        problem = ""
    if not arguments:
        raise ConfigurationError(
            f"CAMERA_SOURCE is '{name}': expected gstreamer:<pipeline>{problem}", ExitCode.NO_INPUT
        )
    return arguments


class PipelineError(Exception):
    """The pipeline ended. The message is one line without credentials: the error that gst-launch-1.0 printed last."""


class PipelineCapture:
    """One run of a pipeline, with those methods of ``cv2.VideoCapture`` that a live camera uses.

    All of them are called in one thread, except :meth:`interrupt`.
    """

    def __init__(self, arguments: list[str]) -> None:
        """Start the pipeline; ``arguments`` come from :func:`launch_arguments`."""
        self._frames, frames = os.pipe()
        self._errors, errors = os.pipe()
        try:
            # Without fault handlers: gst-launch-1.0 would not end after a segmentation fault but wait for a debugger.
            self._process = subprocess.Popen(
                [
                    *(GST_LAUNCH, "--quiet", "--no-fault", *arguments),
                    *("!", "videoconvert", "!", _FORMAT, "!", "gdppay", "!", "fdsink", f"fd={frames}", "sync=false"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(frames,),
                process_group=0,
            )
        except BaseException:
            os.close(self._frames)
            os.close(self._errors)
            raise
        finally:
            os.close(frames)
            os.close(errors)
        self._is_interrupted = self._is_released = self._has_unread_frame = False
        self._printed = b""
        self._size: tuple[int, int] | None = None
        self._frame = bytearray()
        self._poll = select.poll()
        self._poll.register(self._frames, select.POLLIN)
        self._poll.register(self._errors, select.POLLIN)

    def interrupt(self) -> None:
        """Let the call that waits for a frame fail soon. Any thread may call this."""
        self._is_interrupted = True

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        """Wait for the first frame.

        Raises:
            PipelineError: the pipeline ended before.
        """
        self._has_unread_frame = self.grab()
        return self._has_unread_frame

    def grab(self) -> bool:
        """Wait for the next frame; return False if the capture was interrupted.

        Raises:
            PipelineError: the pipeline ended, or wrote something else than frames.
        """
        if self._has_unread_frame:
            self._has_unread_frame = False
            return True
        try:
            while not self._is_interrupted:
                if self._receive_message() == _BUFFER:
                    return True
        except _InterruptedError:
            pass
        return False

    def retrieve(self) -> tuple[bool, Image | None]:
        """Return True and the frame that was grabbed.

        Raises:
            PipelineError: its length does not fit its format.
        """
        width, height = self._size or (0, 0)
        luma_stride, chroma_stride = _round_up(width, 4), _round_up(_round_up(width, 2) // 2, 4)
        rows, columns = _round_up(height, 2), _round_up(width, 2)
        luma_bytes, chroma_bytes = luma_stride * rows, chroma_stride * rows // 2
        if not self._size or len(self._frame) != luma_bytes + 2 * chroma_bytes:
            raise PipelineError(f"a frame of {width}x{height} has {len(self._frame)} bytes")
        data = np.frombuffer(self._frame, np.uint8)
        if luma_stride == width and 2 * chroma_stride == width:
            packed = data.reshape(rows * 3 // 2, columns)
        else:
            packed = np.empty((rows * 3 // 2, columns), np.uint8)
            packed[:rows, :width] = data[:luma_bytes].reshape(rows, luma_stride)[:, :width]
            chroma = data[luma_bytes:].reshape(rows, chroma_stride)[:, : columns // 2]
            packed[rows:] = chroma.reshape(rows // 2, columns)
        image: Any = cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_I420)
        return True, image if image.shape[:2] == (height, width) else image[:height, :width].copy()

    def release(self) -> None:
        """End the pipeline with everything it started, and wait until it has ended.

        If the kernel cannot end a process, because a driver hangs, this does not return.
        """
        if self._is_released:
            return
        self._is_released = True
        self._signal_group(signal.SIGINT)
        self._drain(time.monotonic() + END_SECONDS)
        self._signal_group(signal.SIGKILL)
        self._process.wait()  # only now, so that nobody else can have got the number of the group
        os.close(self._frames)
        os.close(self._errors)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: no permission to signal a zombie
            os.killpg(self._process.pid, number)

    def _drain(self, deadline: float) -> None:
        """Read what the pipeline still writes until it has ended or until ``deadline``."""
        open_files = {self._frames, self._errors}
        while open_files and (remaining := deadline - time.monotonic()) > 0:
            for file, _ in self._poll.poll(remaining * 1000):
                data = os.read(file, 1 << 16)
                if not data:
                    self._poll.unregister(file)
                    open_files.remove(file)
                elif file == self._errors:
                    self._printed = (self._printed + data)[-_MAX_ERROR_BYTES:]

    def _receive_message(self) -> int:
        """Read one message, keep its frame or its size, and return its type."""
        header = bytearray(_HEADER.size)
        self._receive(header)
        *version, _, kind, length = _HEADER.unpack(header)
        if tuple(version) != _VERSION or length > _MAX_MESSAGE_BYTES:
            raise PipelineError("the pipeline wrote something else than frames")
        if kind == _BUFFER:
            if len(self._frame) != length:
                self._frame = bytearray(length)
            self._receive(self._frame)
            return kind if length else 0
        payload = bytearray(length)
        self._receive(payload)
        if kind == _CAPS:
            size = {name: int(number) for name, number in _SIZE.findall(payload)}
            self._size = size.get(b"width", 0), size.get(b"height", 0)
        return int(kind)

    def _receive(self, target: bytearray) -> None:
        """Fill ``target`` from the pipe, and read meanwhile what the pipeline prints: it must not block on that."""
        view = memoryview(target)
        while view:
            if self._is_interrupted:
                raise _InterruptedError
            for file, _ in self._poll.poll(_POLL_SECONDS * 1000):
                if file == self._frames:
                    count = os.readv(file, [view])
                    if not count:
                        self.release()
                        raise PipelineError(self._reason())
                    view = view[count:]
                elif data := os.read(file, 1 << 16):
                    self._printed = (self._printed + data)[-_MAX_ERROR_BYTES:]
                else:
                    self._poll.unregister(file)

    def _reason(self) -> str:
        """Return the error that the pipeline printed last, or how it ended."""
        printed = self._printed.decode(errors="replace")
        causes: list[str] = _CAUSES.findall(printed)
        lines = [line for line in printed.splitlines() if line.strip()]
        specific = [cause for cause in causes if not cause.startswith("ERROR: pipeline")]
        for candidates in (specific, causes, lines):
            if candidates:
                reason = without_credentials(" ".join(candidates[-1].split()))[:_MAX_REASON_CHARACTERS]
                hint = f" ({INSTALL})" if "no element" in reason else ""
                return f"{reason}{hint}"
        code = self._process.returncode
        return f"{GST_LAUNCH} was ended by signal {-code}" if code < 0 else f"{GST_LAUNCH} ended with exit code {code}"


class _InterruptedError(Exception):
    """The capture was interrupted."""


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
