"""The ids of faces and pictures: UUIDs that contain a time (RFC 9562)."""

import re
import secrets
import uuid
from datetime import UTC, datetime, timedelta

from wire.errors import BadMessage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""In its canonical form, with the variant of RFC 9562. The group is the version."""


def new_id(captured_at: datetime) -> str:
    """Return a new id for a face captured at ``captured_at``: a UUIDv7 (RFC 9562, section 5.7)."""
    return _uuid(captured_at, version=7, tail=secrets.randbits(74))


def id_from_hash(arrived_at: datetime, digest: bytes) -> str:
    """Return an id made of the time of arrival and a hash of at least 10 bytes: a UUIDv8 (RFC 9562, section 5.8).

    Its layout is that of version 7, with bits of the hash instead of random bits.
    """
    return _uuid(arrived_at, version=8, tail=int.from_bytes(digest[:10]) >> 6)


def time_of_id(face_id: str, version: int = 7) -> datetime:
    """Return the time in an id: the capture time of a face (version 7), or the arrival time of a picture (version 8).

    Raises:
        BadMessage: the id is not a UUID of that version in its canonical, lower-case form.
    """
    match = _UUID.fullmatch(face_id)
    if match is None or match[1] != str(version):
        raise BadMessage(f"id {face_id[:64]!r} is not a lower-case UUIDv{version}")
    try:
        return _EPOCH + timedelta(milliseconds=int(face_id[:8] + face_id[9:13], 16))
    except OverflowError:
        raise BadMessage(f"the time of id {face_id!r} is after the year 9999") from None


def time_of_any_id(face_id: str) -> datetime:
    """Return the time in the id of a face (version 7) or of a picture of another publisher (version 8).

    Raises:
        BadMessage: the id is neither.
    """
    return time_of_id(face_id, version=8 if face_id[14:15] == "8" else 7)


def _uuid(moment: datetime, version: int, tail: int) -> str:
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    high, low = divmod(tail, 1 << 62)
    return str(uuid.UUID(int=milliseconds << 80 | version << 76 | high << 64 | 0b10 << 62 | low))
