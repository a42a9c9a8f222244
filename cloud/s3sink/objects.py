"""What a message becomes in S3: a face, a plain image, or an object in quarantine. Pure; nothing is written here.

    <prefix>/device=<device>/camera=<camera>/date=2026-11-22/150405.123Z-<id>.jpg
    <prefix>/quarantine/device=<device>/date=2026-11-22/<sha-256 of the message>

Device and camera come from the topic, which the broker's ACL vouches for; time and id from a strictly checked id. So
no text that a device sends finds its way into a key.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from wire import face, jpeg, topics
from wire.errors import BadMessage
from wire.mqtt.connection import Message
from wire.topics import Origin

NO_DEVICE = "_"
"""Stands for the device where the topic does not name one. No device can be called so."""
_MAX_RECEIPT_ID_BYTES = 64
"""Bytes of correlation data that a receipt gives back: more would let a device fill the broker with receipts."""
_MAX_REASON_CHARS = 512
"""Characters of a reason that are kept with an object: S3 takes 2 KiB of metadata."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object as it is to be written, and the receipt that follows."""

    key: str
    body: bytes
    content_type: str
    metadata: dict[str, str]
    """ASCII only."""
    receipt_topic: str | None
    """None where the topic is not one on which faces arrive."""
    receipt_id: bytes | None
    """Correlation data of the receipt."""
    quarantined: str | None = None
    """Why it is in quarantine; None where it is not."""


def object_of(message: Message, prefix: str, arrived_at: datetime) -> S3Object:
    """Return the object that ``message`` becomes. Whatever the message is, there is one."""
    try:
        origin = topics.origin_of(message.topic)
        jpeg.check(message.payload)
        if face.is_cloudevent(message.properties):
            return _face(message, prefix, origin)
        return _plain(message, prefix, origin, arrived_at)
    except BadMessage as error:
        return quarantined(message, prefix, arrived_at, str(error))


def quarantined(message: Message, prefix: str, arrived_at: datetime, reason: str) -> S3Object:
    """Return the object that keeps a message which is not what the contract says, whole, with the reason."""
    device = topics.device_of(message.topic) or NO_DEVICE
    try:
        receipt_topic = topics.receipts_for(message.topic)
    except BadMessage:
        receipt_topic = None
    digest = hashlib.sha256()
    lasting = replace(message.properties, message_expiry_seconds=None)  # it is counted down from delivery to delivery
    for part in (message.topic.encode("utf-8", "surrogateescape"), lasting.pack(), message.payload):
        digest.update(len(part).to_bytes(4) + part)
    return S3Object(
        key=f"{prefix}/quarantine/device={device}/date={arrived_at:%Y-%m-%d}/{digest.hexdigest()}",
        body=message.payload,
        content_type="application/octet-stream",
        metadata={
            "reason": _ascii(reason),
            "topic": _ascii(message.topic),
            "arrived": face.format_time(arrived_at),
            "properties": _ascii(repr(message.properties)),
        },
        receipt_topic=receipt_topic,
        receipt_id=_short(message.properties.correlation_data),
        quarantined=reason,
    )


def key_of(prefix: str, origin: Origin, captured_at: datetime, face_id: str, suffix: str = ".jpg") -> str:
    """Return the key of a face: it follows from device, camera and id."""
    clock = f"{captured_at:%H%M%S}.{captured_at.microsecond // 1000:03d}Z"
    return (
        f"{prefix}/device={origin.device}/camera={origin.camera}/date={captured_at:%Y-%m-%d}/{clock}-{face_id}{suffix}"
    )


def _face(message: Message, prefix: str, origin: Origin) -> S3Object:
    seen = face.decode(message.properties, message.payload, origin)
    attributes = face.attributes_of(message.properties.user_properties)
    return S3Object(
        key=key_of(prefix, origin, seen.captured_at, seen.id),
        body=message.payload,
        content_type=face.CONTENT_TYPE,
        metadata={**attributes, "source": face.source_of(origin), "time": face.format_time(seen.captured_at)},
        receipt_topic=topics.receipts_for(message.topic),
        receipt_id=seen.id.encode("ascii"),
    )


def _plain(message: Message, prefix: str, origin: Origin, arrived_at: datetime) -> S3Object:
    digest = hashlib.sha256(message.payload).digest()
    image_id = face.id_from_hash(arrived_at, digest)
    return S3Object(
        key=key_of(prefix, origin, arrived_at, image_id),
        body=message.payload,
        content_type=face.CONTENT_TYPE,
        metadata={
            "id": image_id,
            "source": face.source_of(origin),
            "time": face.format_time(arrived_at),
            "sha256": digest.hex(),
        },
        receipt_topic=topics.receipts_for(message.topic),
        receipt_id=_short(message.properties.correlation_data) or image_id.encode("ascii"),
    )


def _short(correlation_data: bytes | None) -> bytes | None:
    return correlation_data if correlation_data and len(correlation_data) <= _MAX_RECEIPT_ID_BYTES else None


def _ascii(text: str) -> str:
    """Return ``text`` as printable ASCII of bounded length, single-spaced, as signed HTTP headers want it."""
    printable = "".join(char if " " <= char <= "~" else f"\\u{ord(char):04x}" for char in text[:_MAX_REASON_CHARS])
    return " ".join(printable[:_MAX_REASON_CHARS].split())
