"""The faces that the thief and the honest devices send."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

from tests import packets
from tests.builders import make_face, make_jpeg
from tests.thief.link import Thief
from wire import face
from wire.face import Face
from wire.mqtt.properties import Properties
from wire.topics import Origin


def face_of(device: str, jpeg: bytes) -> Face:
    """Return a valid face that is captured now."""
    captured_at = datetime.now(UTC)
    captured_at = captured_at.replace(microsecond=captured_at.microsecond // 1000 * 1000)
    return make_face(captured_at=captured_at, origin=Origin(device, "door"), jpeg=jpeg)


def face_parts(thief: Thief, **changes: str) -> tuple[bytes, bytes]:
    """Return the properties, with some attributes changed, and the JPEG of a face."""
    properties = face.encode(face_of(thief.name, _smallest()))
    attributes = [(name, changes.get(name, value)) for name, value in properties.user_properties]
    changed = Properties(
        content_type=properties.content_type,
        correlation_data=changes.get("id", "").encode() or properties.correlation_data,
        user_properties=tuple(attributes),
    )
    return _without_length(changed.pack()), _smallest()


def small_face_parts(thief: Thief) -> tuple[bytes, bytes]:
    """Return the properties and the JPEG of a small valid face."""
    return _without_length(face.encode(face_of(thief.name, _smallest())).pack()), _smallest()


def small_face(thief: Thief) -> bytes:
    """Return a PUBLISH with a small valid face."""
    properties, jpeg = small_face_parts(thief)
    return packets.publish(thief.topic(), jpeg, properties=properties)


def small_faces(thief: Thief) -> Iterator[bytes]:
    """Small faces, each a different one."""
    while True:
        yield small_face(thief)


@cache
def _smallest() -> bytes:
    return make_jpeg(16, 16)


def _without_length(packed: bytes) -> bytes:
    """Return packed properties without their length, a variable byte integer."""
    end = next(i for i, byte in enumerate(packed) if byte < 0x80)
    return packed[end + 1 :]
