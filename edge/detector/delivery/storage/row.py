"""A row of the outbox: a face as it is stored, and the digest that shows whether it is still what was stored."""

import hashlib
import struct
from dataclasses import dataclass, replace
from datetime import datetime

from wire import face, jpeg
from wire.errors import BadMessage, DamagedMessage
from wire.face import Face, encode
from wire.ids import new_id
from wire.mqtt import properties
from wire.mqtt.properties import Properties
from wire.timestamps import format_time
from wire.topics import Origin

_CLOUDEVENTS_SOURCE = ("", "devices", "cameras")


@dataclass(frozen=True, slots=True)
class OutboxFace:
    """A face in the outbox, encoded for publishing."""

    id: str
    camera: str
    properties: Properties
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table ``faces``."""

    id: str
    camera: str
    properties: bytes
    """As in an MQTT 5 PUBLISH packet."""
    jpeg: bytes
    digest: bytes | None
    """What :func:`digest_of` returned when the row was written; None if version 1 of the schema wrote it."""
    boot: str | None = None
    """Id of the boot in which the face was captured; None if its capture time is known."""
    captured: float | None = None
    """Seconds from that boot to the capture; None if the capture time is known."""

    def checked(self) -> OutboxFace:
        """Return the face if the row is what was written.

        Without a digest, only the structure can be checked: the attributes, and that the JPEG is complete.

        Raises:
            BadMessage: it is not.
        """
        if self.digest is not None and self.digest != digest_of(self):
            raise DamagedMessage("the row does not have the digest with which it was written")
        unpacked, _ = properties.unpack(self.properties, 0)
        if self.digest is None:
            if unpacked.correlation_data != self.id.encode("utf-8", "replace"):
                raise BadMessage("the properties are those of another face")
            decoded = face.decode(unpacked, self.jpeg, Origin(device_of(self.properties) or "", self.camera))
            if dict(unpacked.user_properties)["source"] != face.source_of(decoded.origin):
                raise BadMessage("the attribute source names another camera")
            jpeg.check(self.jpeg)
            if not self.jpeg.endswith(b"\xff\xd9"):
                raise BadMessage("the JPEG does not end with its end-of-image marker")
        return OutboxFace(self.id, self.camera, unpacked, self.jpeg)

    def with_time(self, captured_at: datetime, clock: str) -> "Row":
        """Return the row with a capture time, the id that follows from it, and the attribute ``clock``.

        Raises:
            BadMessage: the row is damaged.
        """
        unpacked = self.checked().properties
        face_id = new_id(captured_at)
        settled = {"id": face_id, "time": format_time(captured_at)}
        attributes = [(name, settled.get(name, value)) for name, value in unpacked.user_properties if name != "clock"]
        changed = replace(
            unpacked,
            correlation_data=face_id.encode("ascii"),
            user_properties=(*attributes, ("clock", clock)),
        )
        return _with_digest(replace(self, id=face_id, properties=changed.pack(), boot=None, captured=None))


def row_of(made: Face, boot: str | None = None, captured: float | None = None) -> Row:
    """Return the row of a face. ``boot`` and ``captured`` are for a face whose capture time is unknown."""
    return _with_digest(Row(made.id, made.origin.camera, encode(made).pack(), made.jpeg, None, boot, captured))


def digest_of(row: Row) -> bytes:
    """Return the SHA-256 over all columns of a row that tell something about the face, each with its length."""
    captured = None if row.captured is None else struct.pack(">d", row.captured)
    digest = hashlib.sha256()
    for column in (row.id, row.camera, row.properties, row.jpeg, row.boot, captured):
        data = column.encode("utf-8", "surrogateescape") if isinstance(column, str) else column
        digest.update(b"\0" if data is None else b"\1" + len(data).to_bytes(8))
        digest.update(data or b"")
    return digest.digest()


def device_of(packed: bytes) -> str | None:
    """Return the device in the packed properties of a face; None if they have none."""
    try:
        attributes = dict(properties.unpack(packed, 0)[0].user_properties)
    except BadMessage:
        return None
    parts = attributes.get("source", "").split("/")
    return parts[2] if len(parts) == 5 and (parts[0], parts[1], parts[3]) == _CLOUDEVENTS_SOURCE else None


def _with_digest(row: Row) -> Row:
    return replace(row, digest=digest_of(row))
