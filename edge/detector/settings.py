"""The detector's settings."""

import platform
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from wire.mqtt.broker_settings import DeviceSettings, QosSettings
from wire.process.settings import Expected, Fraction, MayContainSecret, Name, Seconds, Switch, Text

MAX_PAYLOAD_BYTES = 128 * 1024
"""Maximum payload of a message on AWS IoT Core."""


class DetectorSettings(DeviceSettings, QosSettings):
    """The settings of ``python -m edge.detector``."""

    camera_source: Annotated[Text, MayContainSecret()] = "/dev/video0"
    """V4L2 device or its index, rtsp:// or http:// address, video file, folder of images, or gstreamer:<pipeline>."""
    camera_name: Name = "camera"
    """The camera's name: a level of its topics and a part of its keys in S3."""
    camera_loop: Switch = False
    """Start a video file or folder again when it ends."""
    device_latitude: Annotated[float, Field(ge=-90, le=90), Expected("degrees from -90 to 90")] | None = None
    """The device's latitude in degrees (WGS 84), added to each face."""
    device_longitude: Annotated[float, Field(ge=-180, le=180), Expected("degrees from -180 to 180")] | None = None
    """The device's longitude in degrees (WGS 84), added to each face."""
    detect_size: Annotated[int, Field(ge=32, le=4096), Expected("pixels from 32 to 4096")] = 640
    """Longest side of the model's input, in pixels. Larger frames are scaled down."""
    detect_threads: Annotated[int, Field(ge=1, le=64), Expected("threads from 1 to 64")] | None = None
    """Number of frames searched in parallel, each in its own thread. Default: the number of cores, at most 4."""
    detect_providers: Annotated[
        str,
        Field(pattern=r"^(tensorrt|cuda|ncnn|cpu)(,(tensorrt|cuda|ncnn|cpu))*$"),
        Expected("tensorrt, cuda, ncnn and cpu, or some of them, comma separated, best first"),
    ] = "tensorrt,cuda,ncnn,cpu" if platform.machine() == "aarch64" else "tensorrt,cuda,cpu"
    """What may run the model, the preferred one first: ONNX Runtime on a GPU or CPU, or ncnn. Others are skipped."""
    face_confidence: Fraction = 0.7
    """Minimum score of a face, 0 to 1."""
    face_min_size: Annotated[int, Field(ge=1, le=4096), Expected("pixels from 1 to 4096")] = 32
    """Minimum size of a face: the shorter side of its box, in pixels of the frame."""
    face_margin: Annotated[float, Field(ge=0, le=4), Expected("a number from 0 to 4")] = 0.25
    """Margin added on each side of the crop, as a fraction of the box's size."""
    face_interval: Seconds = 1.0
    """Seconds between pictures of the same face: the best one of each interval is sent. 0 sends every detection."""
    face_first_wait: Seconds = 0.3
    """Maximum seconds to wait for a better first picture of a face. 0 sends the first one at once."""
    face_verification: Switch = True
    """Send only what a second model takes for the face of a person too. Without effect if FACE_INTERVAL is 0."""
    face_jpeg_quality: Annotated[int, Field(ge=10, le=100), Expected("a JPEG quality from 10 to 100")] = 90
    """JPEG quality, 10 to 100."""
    face_max_bytes: Annotated[
        int, Field(ge=4096, le=MAX_PAYLOAD_BYTES), Expected(f"bytes from 4096 to {MAX_PAYLOAD_BYTES}")
    ] = 120_000
    """Maximum size of a JPEG, in bytes. Quality is reduced first, then resolution, until the JPEG fits."""
    outbox_path: Annotated[Path, Expected("a path")] = Path("/var/lib/facewire/outbox.db")
    """The outbox, a SQLite file that is created if it does not exist."""
    outbox_max_bytes: Annotated[int, Field(ge=1 << 20), Expected("bytes, 1048576 or more")] = 1 << 30
    """Maximum size of the outbox, in bytes. When it is full, the oldest face is dropped."""
    outbox_window: Annotated[int, Field(ge=1, le=1000), Expected("faces from 1 to 1000")] = 64
    """Maximum number of faces that are sent and not yet receipted."""
    resend_after: Annotated[float, Field(ge=1, le=300), Expected("seconds from 1 to 300")] = 30.0
    """Seconds to wait for a receipt before a face is sent again. Doubles with each attempt, up to 5 minutes."""

    @model_validator(mode="after")
    def _position_is_complete(self) -> Self:
        if (self.device_latitude is None) != (self.device_longitude is None):
            raise ValueError("DEVICE_LATITUDE and DEVICE_LONGITUDE: expected both or neither")
        return self
