"""Converts a message to the S3 object to write: a face, a plain picture, or an object in quarantine. Does no I/O.

    <prefix>/device=<device>/camera=<camera>/date=2026-11-22/150405.123Z-<id>.jpg    see :mod:`wire.keys`
    <prefix>/quarantine/device=<device>/date=2026-11-22/<sha-256 of the message>

Device and camera come from the topic, which the broker's ACL guarantees. Time and id come from a strictly validated id.
So a device cannot put any other text into a key. The receipt's topic comes from the message's topic too, so a device
cannot cause a receipt for a face of another device.
"""

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Protocol

from wire import face, jpeg, keys, topics
from wire.errors import BadMessage, DamagedMessage
from wire.ids import id_from_hash
from wire.mqtt.properties import MAX_BYTES, MAX_USER_PROPERTIES, Properties
from wire.timestamps import format_time
from wire.topics import Origin

UNKNOWN_DEVICE = "_"
"""Used if the topic does not name a device. It is not a valid name of a device."""
_MAX_RECEIPT_ID_BYTES = 64
"""Maximum size of the correlation data that a receipt returns, so that a device cannot fill the broker's memory."""
_MAX_METADATA_CHARS = 384
"""Maximum length of a text in the metadata."""
_MAX_METADATA_BYTES = 2048
"""S3's limit on the names and values of an object's metadata."""
PACKED_PROPERTIES = "mqtt-properties"
"""Metadata of an object in quarantine: the properties of the MQTT 5 PUBLISH packet, in base64."""
PROPERTIES_BYTES = "mqtt-properties-bytes"
"""Metadata instead of them if they do not fit: the number of bytes in front of the payload that are the properties."""


class Publication(Protocol):
    """A published message, from the broker or out of quarantine."""

    @property
    def topic(self) -> str:
        """The topic in the cloud's broker."""

    @property
    def payload(self) -> bytes:
        """The payload as it arrived."""

    @property
    def properties(self) -> Properties:
        """The MQTT properties as they arrived."""


class Kind(Enum):
    """What a message is, which decides about its key and its receipt."""

    FACE = "face"
    """A valid face. It is never put into quarantine."""
    PICTURE = "picture"
    """A valid JPEG of another publisher."""
    INVALID = "invalid"
    """It does not follow the contract. It goes to quarantine and gets a receipt."""
    DAMAGED = "damaged"
    """A face that has changed on the way. It goes to quarantine without a receipt, so the face is sent again."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object to write, and the receipt to send afterwards."""

    key: str
    body: bytes
    content_type: str
    metadata: dict[str, str]
    """ASCII only."""
    receipt_topic: str | None
    """None if the message did not arrive on a topic for faces."""
    receipt_id: bytes | None
    """Correlation data of the receipt. None: no receipt is sent."""
    kind: Kind
    sha256: str
    """SHA-256 of the body, hexadecimal."""
    quarantine_reason: str | None = None
    """Why the object is in quarantine; None if it is not."""


def make_object(message: Publication, prefix: str, arrived_at: datetime, now: datetime | None = None) -> S3Object:
    """Return the object for ``message``. An invalid message goes to quarantine.

    Args:
        message: the message.
        prefix: of the key.
        arrived_at: when it was delivered for the first time.
        now: a face may be captured at most a day later; None: at any time.
    """
    try:
        origin = topics.origin_of(message.topic)
        if message.properties.excess is not None:
            raise BadMessage(
                f"it has more than {MAX_USER_PROPERTIES} user properties, or more than {MAX_BYTES} bytes of properties"
            )
        if face.is_cloudevent(message.properties):
            return _make_face(message, prefix, origin, now)
        return _make_picture(message, prefix, origin, arrived_at)
    except DamagedMessage as error:
        return replace(make_quarantined(message, prefix, arrived_at, str(error), Kind.DAMAGED), receipt_id=None)
    except BadMessage as error:
        return make_quarantined(message, prefix, arrived_at, str(error))


def make_quarantined(
    message: Publication, prefix: str, arrived_at: datetime, reason: str, kind: Kind = Kind.INVALID
) -> S3Object:
    """Return an object in quarantine, with the complete message and the reason.

    Properties of more than about 1,000 bytes do not fit into S3's metadata. They are put in front of the payload.
    """
    device = topics.device_of(message.topic) or UNKNOWN_DEVICE
    try:
        receipt_topic = topics.receipts_for(message.topic)
    except BadMessage:
        receipt_topic = None
    metadata = {
        "reason": _printable_ascii(reason),
        "topic": _printable_ascii(message.topic),
        "arrived": format_time(arrived_at),
    }
    packed, body = _packed(message), message.payload
    encoded = base64.b64encode(packed).decode("ascii")
    if _size_of(metadata) + len(PACKED_PROPERTIES) + len(encoded) <= _MAX_METADATA_BYTES:
        metadata[PACKED_PROPERTIES] = encoded
    else:
        metadata[PROPERTIES_BYTES], body = str(len(packed)), packed + body
    return S3Object(
        key=f"{prefix}/quarantine/device={device}/date={arrived_at:%Y-%m-%d}/{digest_of(message)}",
        body=body,
        content_type="application/octet-stream",
        metadata=metadata,
        receipt_topic=receipt_topic,
        receipt_id=_receipt_id(message),
        kind=kind,
        sha256=face.digest_of(body),
        quarantine_reason=reason,
    )


def digest_of(message: Publication) -> str:
    """Return a SHA-256 that is the same for each delivery of a message: of its topic, properties and payload."""
    digest = hashlib.sha256()
    for part in (message.topic.encode("utf-8", "surrogateescape"), _packed(message), message.payload):
        digest.update(len(part).to_bytes(4) + part)
    return digest.hexdigest()


def _make_face(message: Publication, prefix: str, origin: Origin, now: datetime | None) -> S3Object:
    try:
        decoded = face.decode(message.properties, message.payload, origin)  # first: damage is not the sender's mistake
    except BadMessage as error:
        # A detector that sends the digest has an outbox, and only sends valid attributes.
        if any(name == "sha256" for name, _ in message.properties.user_properties):
            raise DamagedMessage(str(error)) from None
        raise
    face.check_time(decoded, now)
    jpeg.check(message.payload)
    attributes = face.attributes_of(message.properties.user_properties)
    return S3Object(
        key=keys.of_face(prefix, origin, decoded.captured_at, decoded.id),
        body=message.payload,
        content_type=face.CONTENT_TYPE,
        metadata={**attributes, "source": face.source_of(origin), "time": format_time(decoded.captured_at)},
        receipt_topic=topics.receipts_for(message.topic),
        receipt_id=decoded.id.encode("ascii"),
        kind=Kind.FACE,
        sha256=decoded.sha256 or face.digest_of(message.payload),
    )


def _make_picture(message: Publication, prefix: str, origin: Origin, arrived_at: datetime) -> S3Object:
    jpeg.check(message.payload)
    digest = hashlib.sha256(message.payload).digest()
    picture_id = id_from_hash(arrived_at, digest)
    return S3Object(
        key=keys.of_face(prefix, origin, arrived_at, picture_id),
        body=message.payload,
        content_type=face.CONTENT_TYPE,
        metadata={
            "id": picture_id,
            "source": face.source_of(origin),
            "time": format_time(arrived_at),
            "sha256": digest.hex(),
        },
        receipt_topic=topics.receipts_for(message.topic),
        receipt_id=_receipt_id(message) or picture_id.encode("ascii"),
        kind=Kind.PICTURE,
        sha256=digest.hex(),
    )


def _packed(message: Publication) -> bytes:
    # Brokers count the message expiry down, so it differs when the message is delivered again.
    return replace(message.properties, message_expiry_seconds=None).pack()


def _size_of(metadata: dict[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in metadata.items())


def _receipt_id(message: Publication) -> bytes | None:
    data = message.properties.correlation_data
    return data if data and len(data) <= _MAX_RECEIPT_ID_BYTES else None


def _printable_ascii(text: str) -> str:
    """Return ``text`` as printable ASCII of limited length with single spaces, as signed HTTP headers require."""
    printable = "".join(char if " " <= char <= "~" else f"\\u{ord(char):04x}" for char in text[:_MAX_METADATA_CHARS])
    return " ".join(printable[:_MAX_METADATA_CHARS].split())
