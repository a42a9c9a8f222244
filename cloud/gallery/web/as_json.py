"""Faces and tiles as JSON, and the faces in a request."""

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from cloud.gallery.bucket import NotFound
from cloud.gallery.index.face import IndexedFace, Tile
from cloud.gallery.index.filters import BadQuery
from wire.errors import BadMessage
from wire.ids import time_of_any_id
from wire.timestamps import format_time
from wire.topics import Origin, is_name

MAX_DELETED = 1000
"""Maximum number of faces in one request to delete."""


def of_time(ms: int) -> str:
    """Return a time, in milliseconds since 1970, as RFC 3339 in UTC."""
    return format_time(datetime.fromtimestamp(ms / 1000, UTC))


def of_name(origin: Origin, face_id: str) -> dict[str, Any]:
    """Return what names a face."""
    return {"device": origin.device, "camera": origin.camera, "id": face_id}


def of_face(shown: IndexedFace) -> dict[str, Any]:
    """Return a face."""
    return {
        **of_name(shown.origin, shown.id),
        "time": of_time(shown.captured_ms),
        "confidence": shown.confidence,
        "track": shown.track,
        "box": shown.box,
        "framesize": shown.framesize,
        "quality": shown.quality,
    }


def of_tile(tile: Tile) -> dict[str, Any]:
    """Return a tile."""
    return {
        **of_face(tile.face),
        "count": tile.count,
        "best": {"id": tile.best.id, "confidence": tile.best.confidence, "quality": tile.best.quality},
        "first": of_time(tile.first_ms),
    }


def name_in_path(request: Request) -> tuple[Origin, str]:
    """Return the face in the path of a request.

    Raises:
        NotFound: there cannot be such a face.
    """
    values = request.path_params
    try:
        return _name(values["device"], values["camera"], values["id"])
    except BadMessage:
        raise NotFound("there is no such face") from None


def names_in_body(body: Any) -> list[tuple[Origin, str]]:
    """Return the faces in ``{"faces": [{"device", "camera", "id"}]}``.

    Raises:
        BadQuery: the body has another form.
    """
    faces = body.get("faces") if isinstance(body, dict) else None
    if not isinstance(faces, list) or not 1 <= len(faces) <= MAX_DELETED:
        raise BadQuery(f"faces: expected a list of 1 to {MAX_DELETED} faces")
    try:
        return list(dict.fromkeys(_name(one["device"], one["camera"], one["id"]) for one in faces))
    except (BadMessage, KeyError, TypeError):
        raise BadQuery("faces: expected the device, the camera and the id of each face") from None


def _name(device: str, camera: str, face_id: str) -> tuple[Origin, str]:
    origin = Origin(device, camera)
    if not all(is_name(name) for name in origin):
        raise BadMessage("expected names of a device and a camera")
    time_of_any_id(face_id)
    return origin, face_id
