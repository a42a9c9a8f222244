"""A face on the wire: its JPEG as the payload, its metadata as CloudEvents 1.0 attributes.

It uses the MQTT 5 binary mode of CloudEvents 1.0.2: each attribute is a user property, ``datacontenttype`` is the MQTT
content type, and the payload is the data itself. Any CloudEvents consumer can read it, and any image consumer can show
it.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from wire.errors import BadMessage, DamagedMessage
from wire.ids import time_of_id
from wire.mqtt.properties import Properties
from wire.timestamps import format_time, parse_time
from wire.topics import Origin

TYPE = "facewire.face.v1"
CONTENT_TYPE = "image/jpeg"

_OF_CLOUDEVENTS = ("specversion", "id", "type", "source", "time")
REQUIRED = (*_OF_CLOUDEVENTS, "confidence", "box", "landmarks", "framesize", "track", "model")
_SIGNS_OF_METADATA = frozenset(("specversion", "id", "type", "sha256"))
OPTIONAL = ("latitude", "longitude", "sha256", "clock", "quality")
ATTRIBUTES = REQUIRED + OPTIONAL
_ATTRIBUTES = frozenset(ATTRIBUTES)

_MAX_VALUE_BYTES = 256
"""Maximum length of one attribute. S3 accepts at most 2 KiB of metadata per object."""

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""A face is captured later than this. An unset clock often shows 1970."""
MAX_AHEAD = timedelta(days=1)
"""A face may be captured so much later than now, as clocks differ."""
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")
_4_INTEGERS = re.compile(r"-?[0-9]{1,9}(?:,-?[0-9]{1,9}){3}")
_10_DECIMALS = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?(?:,-?[0-9]{1,9}(?:\.[0-9]{1,9})?){9}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FRAMESIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")

CORRECTED, UNKNOWN = "corrected", "unknown"
"""Values of the attribute ``clock``. It is absent if the device's clock was set when the face was captured.

corrected: the clock was set later, and the capture time was computed with the monotonic clock.
unknown: the capture time is unknown. The time is when the clock was next set, so the capture was earlier.
"""

Point = tuple[float, float]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Face:
    """A face in one frame of one camera."""

    id: str
    """UUIDv7 whose milliseconds are the capture time."""
    origin: Origin
    """The device and the camera."""
    captured_at: datetime
    """When the frame was captured: UTC, whole milliseconds."""
    jpeg: bytes
    """The face, cropped from the frame."""
    confidence: float
    """The detector's score, 0 to 1."""
    box: Box
    """x, y, width, height in pixels of the frame."""
    landmarks: tuple[Point, Point, Point, Point, Point]
    """Right eye, left eye, nose tip, right and left corner of the mouth: x, y in pixels of the frame."""
    framesize: tuple[int, int]
    """Width and height of the frame in pixels."""
    track: int
    """Number of the track: the same for the same face in successive frames of one camera."""
    model: str
    """The detector's model, such as ``yunet-2023mar``."""
    latitude: float | None = None
    """Degrees north, WGS 84."""
    longitude: float | None = None
    """Degrees east, WGS 84."""
    sha256: str | None = None
    """SHA-256 of the JPEG when the face was made, 64 hexadecimal digits. Version 0.1 made faces without it."""
    clock: str | None = None
    """How far ``captured_at`` can be trusted: None, :data:`CORRECTED` or :data:`UNKNOWN`."""
    quality: float | None = None
    """Quality of the picture, 0 to 1, as the detector measured it. None: made by a version without this attribute."""


def encode(face: Face) -> Properties:
    """Return the MQTT properties of ``face``. The payload is ``face.jpeg``."""
    attributes = {
        "specversion": "1.0",
        "id": face.id,
        "type": TYPE,
        "source": source_of(face.origin),
        "time": format_time(face.captured_at),
        "confidence": f"{face.confidence:.3f}",
        "box": ",".join(map(str, face.box)),
        "landmarks": ",".join(f"{number:.1f}" for point in face.landmarks for number in point),
        "framesize": f"{face.framesize[0]}x{face.framesize[1]}",
        "track": str(face.track),
        "model": face.model,
    }
    if face.latitude is not None and face.longitude is not None:
        attributes["latitude"] = f"{face.latitude:.6f}"
        attributes["longitude"] = f"{face.longitude:.6f}"
    attributes |= {name: value for name, value in (("sha256", face.sha256), ("clock", face.clock)) if value is not None}
    if face.quality is not None:
        attributes["quality"] = f"{face.quality:.3f}"
    return Properties(CONTENT_TYPE, face.id.encode("ascii"), tuple(attributes.items()))


def decode(properties: Properties, payload: bytes, origin: Origin) -> Face:
    """Parse a face that arrived on a topic of ``origin``. Of the payload, only the SHA-256 is checked.

    Raises:
        BadMessage: an attribute is missing, repeated or not valid.
        DamagedMessage: the payload does not have the SHA-256 that the attributes give.
    """
    attributes = attributes_of(properties.user_properties)
    for name in REQUIRED:
        if name not in attributes:
            raise BadMessage(f"attribute {name} is missing")
    for name, expected in (("specversion", "1.0"), ("type", TYPE)):
        if attributes[name] != expected:
            raise _bad_attribute(attributes, name, expected)
    captured_at = time_of_id(attributes["id"])
    if parse_time(attributes["time"]) != captured_at:
        raise _bad_attribute(attributes, "time", f"the time in id, {format_time(captured_at)}")
    if properties.correlation_data not in (None, attributes["id"].encode("ascii")):
        raise BadMessage("correlation data is not the id")
    framesize = _FRAMESIZE.fullmatch(attributes["framesize"])
    if framesize is None:
        raise _bad_attribute(attributes, "framesize", "WIDTHxHEIGHT in pixels")
    if _MODEL.fullmatch(attributes["model"]) is None:
        raise _bad_attribute(attributes, "model", "a name such as yunet-2023mar")
    x, y, width, height = _numbers(attributes, "box", 4, _4_INTEGERS)
    if width < 1 or height < 1:
        raise _bad_attribute(attributes, "box", "a width and a height of 1 pixel or more")
    flat = _numbers(attributes, "landmarks", 10, _10_DECIMALS)
    right_eye, left_eye, nose, right_mouth, left_mouth = zip(flat[::2], flat[1::2], strict=True)
    if ("latitude" in attributes) != ("longitude" in attributes):
        raise BadMessage("latitude and longitude: expected both or neither")
    if attributes.get("clock", CORRECTED) not in (CORRECTED, UNKNOWN):
        raise _bad_attribute(attributes, "clock", f"{CORRECTED} or {UNKNOWN}")
    if "sha256" in attributes:
        if _SHA256.fullmatch(attributes["sha256"]) is None:
            raise _bad_attribute(attributes, "sha256", "64 lower-case hexadecimal digits")
        if attributes["sha256"] != (found := digest_of(payload)):
            raise DamagedMessage(f"attribute sha256 is {attributes['sha256']}, but the payload has {found}")
    return Face(
        id=attributes["id"],
        origin=origin,
        captured_at=captured_at,
        jpeg=payload,
        confidence=_number_within(attributes, "confidence", 0, 1),
        box=(int(x), int(y), int(width), int(height)),
        landmarks=(right_eye, left_eye, nose, right_mouth, left_mouth),
        framesize=(int(framesize[1]), int(framesize[2])),
        track=int(_number_within(attributes, "track", 0, 999_999_999, _INTEGER)),
        model=attributes["model"],
        latitude=_number_within(attributes, "latitude", -90, 90) if "latitude" in attributes else None,
        longitude=_number_within(attributes, "longitude", -180, 180) if "longitude" in attributes else None,
        sha256=attributes.get("sha256"),
        clock=attributes.get("clock"),
        quality=_number_within(attributes, "quality", 0, 1) if "quality" in attributes else None,
    )


def check_time(face: Face, now: datetime | None) -> None:
    """Check that the capture time of a face is plausible.

    A device whose clock is not set may send any earlier time if it says that the time is unknown. Version 0.1 could not
    say so; its faces have no SHA-256.

    Args:
        face: the face.
        now: the capture may be at most a day later; None if this is not known.

    Raises:
        BadMessage: it is not.
    """
    if face.captured_at < EARLIEST and face.clock != UNKNOWN and face.sha256 is not None:
        time = format_time(face.captured_at)
        raise BadMessage(f"time is {time}: expected {format_time(EARLIEST)} or later, or the attribute clock={UNKNOWN}")
    if now is not None and face.captured_at - now > MAX_AHEAD:
        time = format_time(face.captured_at)
        raise BadMessage(f"time is {time}: expected at most a day later than now, {format_time(now)}")


def digest_of(jpeg: bytes) -> str:
    """Return the SHA-256 of a JPEG as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(jpeg).hexdigest()


def is_cloudevent(properties: Properties) -> bool:
    """Return whether a message has metadata: any of the attributes that an image of another publisher does not have.

    CloudEvents requires ``specversion`` in each event. If only its name has been damaged on the way, the others show
    that the message is not a plain image.
    """
    return any(name in _SIGNS_OF_METADATA for name, _ in properties.user_properties)


def attributes_of(user_properties: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the known attributes among the user properties, in the order of :data:`ATTRIBUTES`.

    Raises:
        BadMessage: an attribute is repeated, too long, or not printable ASCII.
    """
    attributes: dict[str, str] = {}
    for name, value in user_properties:
        if name not in _ATTRIBUTES:
            continue
        if name in attributes:
            raise BadMessage(f"attribute {name} is repeated")
        if not (value.isascii() and value.isprintable() and 0 < len(value) <= _MAX_VALUE_BYTES):
            raise BadMessage(f"attribute {name} is not 1 to {_MAX_VALUE_BYTES} characters of printable ASCII")
        attributes[name] = value
    return {name: attributes[name] for name in ATTRIBUTES if name in attributes}


def source_of(origin: Origin) -> str:
    """Return the CloudEvents source of a camera."""
    return f"/devices/{origin.device}/cameras/{origin.camera}"


def _numbers(attributes: Mapping[str, str], name: str, count: int, pattern: re.Pattern[str]) -> list[float]:
    text = attributes[name]
    if pattern.fullmatch(text) is None:
        raise _bad_attribute(attributes, name, f"{count} numbers, comma separated")
    return [float(part) for part in text.split(",")]


def _number_within(
    attributes: Mapping[str, str], name: str, low: float, high: float, pattern: re.Pattern[str] = _DECIMAL
) -> float:
    text = attributes[name]
    number = float(text) if pattern.fullmatch(text) else math.nan
    if not low <= number <= high:
        raise _bad_attribute(attributes, name, f"a number from {low} to {high}")
    return number


def _bad_attribute(attributes: Mapping[str, str], name: str, expected: str) -> BadMessage:
    return BadMessage(f"attribute {name} is {attributes[name]!r}: expected {expected}")
