"""What the pages load and request: faces, days, devices and pictures."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloud.gallery.index.face import ms_of_id
from cloud.gallery.index.filters import BadQuery, Filters
from cloud.gallery.web import as_json
from cloud.gallery.web.shown import Shown

TILES_PER_PAGE = 60
MAX_TILES_PER_PAGE = 200
PICTURE_HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
NO_STORE = {"Cache-Control": "no-store"}


class Api:
    """Answers the requests of the pages."""

    def __init__(self, gallery: Shown) -> None:
        self._gallery = gallery

    async def faces(self, request: Request) -> Response:
        """Return a page of tiles, newest first; and the id of the last change before it was read."""
        query = request.query_params
        changes = self._gallery.changes.last_id
        page = await run_in_threadpool(
            self._gallery.index.page,
            Filters.parse(query),
            before=query.get("before") or None,
            limit=_limit(query.get("limit")),
            stacked=query.get("single") != "1",
        )
        return _answer({"tiles": [as_json.of_tile(tile) for tile in page.tiles], "next": page.next, "changes": changes})

    async def face(self, request: Request) -> Response:
        """Return a face with its attributes in S3 and its neighbours in time."""
        origin, face_id = as_json.name_in_path(request)
        index, filters = self._gallery.index, Filters.parse(request.query_params)
        picture = await run_in_threadpool(self._gallery.pictures.read, origin, face_id)
        known = await run_in_threadpool(index.get, origin, face_id)
        newer, older = await run_in_threadpool(index.neighbours, origin, face_id, filters)
        named = {**as_json.of_name(origin, face_id), "time": as_json.of_time(ms_of_id(face_id))}
        return _answer(
            {
                **(as_json.of_face(known) if known else named),
                "bytes": len(picture.jpeg),
                "attributes": picture.attributes,
                "newer": as_json.of_face(newer) if newer else None,
                "older": as_json.of_face(older) if older else None,
            }
        )

    async def visit(self, request: Request) -> Response:
        """Return the pictures of the visit that a face is part of, newest first."""
        origin, face_id = as_json.name_in_path(request)
        visit = partial(self._gallery.index.visit, origin, face_id, Filters.parse(request.query_params))
        return _answer({"faces": [as_json.of_face(face) for face in await run_in_threadpool(visit)]})

    async def days(self, request: Request) -> Response:
        """Return the days that have faces, newest first."""
        days = await run_in_threadpool(self._gallery.index.days, Filters.parse(request.query_params))
        return _answer({"days": [{"day": f"{day:%Y-%m-%d}", "count": count} for day, count in days]})

    async def cameras(self, request: Request) -> Response:
        """Return the cameras of which there are faces."""
        cameras = await run_in_threadpool(self._gallery.index.cameras)
        return _answer(
            {
                "cameras": [
                    {**camera.origin._asdict(), "count": camera.count, "newest": as_json.of_time(camera.newest_ms)}
                    for camera in cameras
                ]
            }
        )

    async def devices(self, request: Request) -> Response:
        """Return the devices."""
        return _answer({"devices": await run_in_threadpool(self._gallery.devices.list)})

    async def state(self, request: Request) -> Response:
        """Return whether new faces arrive, and what is away."""
        return _answer(await run_in_threadpool(self._gallery.state))

    async def delete(self, request: Request) -> Response:
        """Delete faces from S3, and return which ones are deleted."""
        if not self._gallery.settings.gallery_delete:
            return _answer({"error": "deleting is not allowed here: expected GALLERY_DELETE=true"}, 403)
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            raise BadQuery("the body is not JSON: expected an object with faces") from None
        names = as_json.names_in_body(body)
        deleted = await run_in_threadpool(self._gallery.pictures.delete, names, request.state.user)
        return _answer({"deleted": _names(deleted.done), "failed": deleted.failed})

    async def picture(self, request: Request) -> Response:
        """Return the JPEG of a face."""
        origin, face_id = as_json.name_in_path(request)
        picture = await run_in_threadpool(self._gallery.pictures.read, origin, face_id)
        headers = dict(PICTURE_HEADERS)
        if request.query_params.get("download") == "1":
            name = f"{origin.device}-{origin.camera}-{face_id}.jpg"  # only letters, digits, - and _
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(picture.jpeg, media_type="image/jpeg", headers=headers)


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, headers=NO_STORE)


def _names(faces: Sequence[tuple[Any, str]]) -> list[dict[str, Any]]:
    return [as_json.of_name(origin, face_id) for origin, face_id in faces]


def _limit(text: str | None) -> int:
    if not text:
        return TILES_PER_PAGE
    if text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= MAX_TILES_PER_PAGE:
        return int(text)
    raise BadQuery(f"limit is {text[:80]!r}: expected a number from 1 to {MAX_TILES_PER_PAGE}")
