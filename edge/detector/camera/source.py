"""Opens the camera that ``CAMERA_SOURCE`` names."""

import re
from pathlib import Path

import cv2

from edge.detector.camera.frame import Camera
from edge.detector.camera.live import MAX_HANG_SECONDS, OPEN_SECONDS, LiveCamera
from edge.detector.camera.pipeline import PipelineCapture, launch_arguments
from edge.detector.camera.recorded import ImageFolder, VideoFile, printable
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process.credentials import without_credentials

GSTREAMER = "gstreamer:"
MIN_PIPELINE_HANG_SECONDS = 2.5
"""Minimum time without a frame before a pipeline is started again. That takes little time, unlike opening a stream."""
_STREAM = re.compile(r"(rtsp|rtsps|rtmp|http|https|udp|tcp)://", re.IGNORECASE)


def open_camera(source: str, loop: bool) -> Camera:
    """Return the camera that ``source`` names, in the form of ``CAMERA_SOURCE``; ``loop`` repeats a file or folder.

    A live camera is opened later, when its frames are read.

    Raises:
        ConfigurationError: there is no such device, file or folder, or GStreamer is not installed.
    """
    name = without_credentials(source)
    if source.startswith(GSTREAMER):
        arguments = launch_arguments(source.removeprefix(GSTREAMER), name)
        return LiveCamera(name, lambda: PipelineCapture(arguments), min_hang_seconds=MIN_PIPELINE_HANG_SECONDS)
    if source.lower().startswith("srt://"):
        raise ConfigurationError(
            f"CAMERA_SOURCE is '{name}': OpenCV is built without SRT; "
            f"expected {GSTREAMER}srtsrc uri=<address> ! decodebin",
            ExitCode.NO_INPUT,
        )
    if _STREAM.match(source):
        return LiveCamera(name, lambda: _open_stream(source))
    path = Path(f"/dev/video{int(source)}" if re.fullmatch(r"\d{1,3}", source) else source)
    if path.is_char_device():
        return LiveCamera(str(path), lambda: cv2.VideoCapture(str(path), cv2.CAP_V4L2))
    if path.is_dir():
        return ImageFolder(path, loop)
    if path.is_file() and str(path).isprintable():  # OpenCV crashes on a name that is not UTF-8
        return VideoFile(path, loop)
    raise ConfigurationError(
        f"CAMERA_SOURCE is '{printable(Path(name))}': expected an existing device, "
        f"file or folder, an rtsp://, http://, tcp:// or udp:// address, or {GSTREAMER}<pipeline>",
        ExitCode.NO_INPUT,
    )


def _open_stream(address: str) -> cv2.VideoCapture:
    open_limit = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_SECONDS * 1000))
    read_limit = (cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(2 * MAX_HANG_SECONDS * 1000))
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*open_limit, *read_limit])
