"""Keys of faces in S3. They are built and parsed only in this module.

    <prefix>/device=<device>/camera=<camera>/date=2026-11-22/150405.123Z-<id>.jpg

Date and time are those in the id, in UTC. So a key follows from its prefix, its origin and its id.
"""

import re
from datetime import date, datetime

from wire.errors import BadMessage
from wire.ids import time_of_any_id
from wire.topics import Origin, is_name

_FILE = re.compile(r"(?P<time>[0-9]{6}\.[0-9]{3}Z)-(?P<id>[0-9a-f-]{36})\.jpg")


def of_face(prefix: str, origin: Origin, captured_at: datetime, face_id: str) -> str:
    """Return the key of a face or picture that was captured at ``captured_at``."""
    return f"{folder_of_day(prefix, origin, captured_at.date())}{_time_of_day(captured_at)}-{face_id}.jpg"


def of_id(prefix: str, origin: Origin, face_id: str) -> str:
    """Return the key of a face or picture, given its id.

    Raises:
        BadMessage: a name or the id is not valid.
    """
    for name in origin:
        if not is_name(name):
            raise BadMessage(f"{name!r} is not a valid name of a device or a camera")
    return of_face(prefix, origin, time_of_any_id(face_id), face_id)


def parse(prefix: str, key: str) -> tuple[Origin, str]:
    """Return the origin and the id in a key.

    Raises:
        BadMessage: it is not the key of a face or picture below ``prefix``.
    """
    match key.removeprefix(f"{prefix}/").split("/"):
        case [device, camera, _, file] if (found := _FILE.fullmatch(file)) is not None:
            origin = Origin(device.removeprefix("device="), camera.removeprefix("camera="))
            if of_id(prefix, origin, found["id"]) == key:
                return origin, found["id"]
    raise BadMessage(f"{key!r} is not the key of a face below {prefix!r}")


def folder_of_day(prefix: str, origin: Origin, day: date) -> str:
    """Return the prefix of the keys of one camera and one day in UTC, with a slash at its end."""
    return f"{prefix}/device={origin.device}/camera={origin.camera}/date={day:%Y-%m-%d}/"


def _time_of_day(moment: datetime) -> str:
    return f"{moment:%H%M%S}.{moment.microsecond // 1000:03d}Z"
