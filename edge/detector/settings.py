"""What the detector can be told."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from wire.mqtt.broker_settings import DeviceSettings, QosSettings
from wire.process.settings import Expected, Fraction, Name, Seconds, Switch, Text

MAX_PAYLOAD_BYTES = 128 * 1024
"""What AWS IoT Core takes in one message; properties come on top of it elsewhere."""

_USER_INFO = re.compile(r"(://)\S*@")
_QUERY = re.compile(r"(?i)((?:user|usr|login|pass\w*|pwd|token|key|user-pw|user-id)=)[^&\s]+")


def without_credentials(source: str) -> str:
    """Return a camera's address, or a pipeline with addresses in it, as it may be logged."""
    return _QUERY.sub(r"\1**********", _USER_INFO.sub(r"\1**********@", source))


class DetectorSettings(DeviceSettings, QosSettings):
    """The detector's settings."""

    camera_source: Text = "/dev/video0"
    """V4L2 device or index, rtsp:// or http:// address, video file, folder of images, gstreamer:<pipeline>."""
    camera_name: Name = "camera"
    camera_loop: Switch = False
    """Start a file again when it ends."""
    device_latitude: Annotated[float, Field(ge=-90, le=90), Expected("degrees from -90 to 90")] | None = None
    device_longitude: Annotated[float, Field(ge=-180, le=180), Expected("degrees from -180 to 180")] | None = None
    detect_size: Annotated[int, Field(ge=32, le=4096), Expected("pixels from 32 to 4096")] = 640
    """Longest side, in pixels, of the picture that the model sees."""
    detect_threads: Annotated[int, Field(ge=1, le=64), Expected("threads from 1 to 64")] | None = None
    """Frames that are searched at once, each by one thread. Default: as many as there are cores, 4 at most."""
    detect_providers: Annotated[
        str,
        Field(pattern=r"^(tensorrt|cuda|cpu)(,(tensorrt|cuda|cpu))*$"),
        Expected("tensorrt, cuda and cpu, or some of them, comma separated, best first"),
    ] = "tensorrt,cuda,cpu"
    """What may run the model, best first; what is not there is passed over."""
    face_confidence: Fraction = 0.7
    """The least score of a face."""
    face_min_size: Annotated[int, Field(ge=1, le=4096), Expected("pixels from 1 to 4096")] = 32
    """Pixels of the frame: the shorter side of the box."""
    face_margin: Annotated[float, Field(ge=0, le=4), Expected("a number from 0 to 4")] = 0.25
    """Of the box, added on each side of the crop."""
    face_interval: Seconds = 1.0
    """Seconds from one best picture of a face to the next; 0 sends every detection."""
    face_jpeg_quality: Annotated[int, Field(ge=10, le=100), Expected("a JPEG quality from 10 to 100")] = 90
    face_max_bytes: Annotated[
        int, Field(ge=4096, le=MAX_PAYLOAD_BYTES), Expected(f"bytes from 4096 to {MAX_PAYLOAD_BYTES}")
    ] = 120_000
    """Quality gives way where the crop would be larger."""
    outbox_path: Annotated[Path, Expected("a path")] = Path("/var/lib/facewire/outbox.db")
    outbox_max_bytes: Annotated[int, Field(ge=1 << 20), Expected("bytes, 1048576 or more")] = 1 << 30
    """When it is full, the oldest face gives way."""
    outbox_window: Annotated[int, Field(ge=1, le=1000), Expected("faces from 1 to 1000")] = 64
    """Faces under way without a receipt."""
    resend_after: Annotated[float, Field(ge=1, le=300), Expected("seconds from 1 to 300")] = 30.0
    """Seconds until a receipt is overdue; grows with each attempt, to 5 minutes."""

    def resolved(self) -> dict[str, str]:
        """Return every variable and its value; a camera's address without the credentials in it."""
        return super().resolved() | {"CAMERA_SOURCE": without_credentials(self.camera_source)}

    @model_validator(mode="after")
    def _place_is_whole(self) -> Self:
        if (self.device_latitude is None) != (self.device_longitude is None):
            raise ValueError("DEVICE_LATITUDE and DEVICE_LONGITUDE: expected both or neither")
        return self
