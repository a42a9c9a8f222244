"""The web application: its routes, and its answers to errors."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cloud.gallery.bucket import NotFound, Unavailable
from cloud.gallery.index.filters import BadQuery
from cloud.gallery.pictures import NotAPicture
from cloud.gallery.web import static_files
from cloud.gallery.web.api import Api
from cloud.gallery.web.events import Events
from cloud.gallery.web.pages import Pages
from cloud.gallery.web.shown import Shown

RETRY_AFTER_SECONDS = 5


def make_app(gallery: Shown) -> Starlette:
    """Return the application. It trusts each request: the guard in ``access`` decides who may look."""
    pages, api, events = Pages(gallery), Api(gallery), Events(gallery)
    name = "{device}/{camera}/{id}"
    routes = [
        Route("/", pages.faces),
        Route("/devices", pages.devices),
        Route("/api/faces", api.faces),
        Route(f"/api/face/{name}", api.face),
        Route(f"/api/visit/{name}", api.visit),
        Route("/api/days", api.days),
        Route("/api/cameras", api.cameras),
        Route("/api/devices", api.devices),
        Route("/api/state", api.state),
        Route("/api/events", events.stream),
        Route("/api/delete", api.delete, methods=["POST"]),
        Route(f"/faces/{name}.jpg", api.picture),
        Route("/static/{version}/{name}", static_files.serve),
        Route("/health", _health),
    ]

    async def on_http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404 and not request.url.path.startswith(("/api/", "/faces/", "/static/")):
            return pages.not_found()
        words = {404: "there is nothing at this address", 405: "this address has no such method"}
        return _error(words.get(status, "the request was refused"), status)

    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: on_http_error,
            BadQuery: _on_bad_query,
            NotFound: _on_not_found,
            NotAPicture: _on_not_a_picture,
            Unavailable: _on_unavailable,
            Exception: _on_failure,
        },
    )


async def _health(request: Request) -> Response:
    return Response(status_code=204)


async def _on_bad_query(request: Request, error: Exception) -> Response:
    return _error(str(error), 400)


async def _on_not_found(request: Request, error: Exception) -> Response:
    return _error("there is no such face: it was deleted, or the address is wrong", 404)


async def _on_not_a_picture(request: Request, error: Exception) -> Response:
    return _error("the object in S3 is not a JPEG, and is not shown", 404)


async def _on_unavailable(request: Request, error: Exception) -> Response:
    return _error(f"S3 is away: {error}", 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _on_failure(request: Request, error: Exception) -> Response:
    return _error("the gallery has failed: its log has the reason", 500)


def _error(words: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": words}, status, headers={"Cache-Control": "no-store", **(headers or {})})
