"""A gallery's web server in this process, with the guard in front of a tiny application, and clients for it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from cloud.gallery.settings import GallerySettings
from cloud.gallery.web.access.access import Access
from cloud.gallery.web.access.guard import guard
from cloud.gallery.web.server import serve
from demo.ports import HOST, free_port
from demo.program import await_true, listens
from wire.process.lifecycle import Stop

OWN_HEADER = {"X-Gallery": "1"}


def settings_of(folder: Path, **settings: str) -> GallerySettings:
    """The settings of a gallery with a folder."""
    environ = {"S3_BUCKET": "faces", "CLOUD_MQTT_HOST": HOST, "GALLERY_FOLDER": str(folder), **settings}
    return GallerySettings.from_environment(environ)


class GalleryServer:
    """Serves a tiny application behind the guard."""

    def __init__(self, folder: Path, /, app: ASGIApp | None = None, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://{HOST}:{self.port}"
        self.settings = settings_of(folder, GALLERY_PORT=str(self.port), **settings)
        self.scheme = "https" if self.settings.gallery_https else "http"
        self.access = Access.from_settings(self.settings)
        self._app = app or tiny_app()
        self._stop = Stop()
        self._thread = threading.Thread(target=self._stop.guard(self._serve))

    def __enter__(self) -> Self:
        self._thread.start()
        await_true(lambda: listens(self.port) or bool(self._stop), 10, "the gallery listens")
        assert self._stop.failure is None, self._stop.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self._stop.failure is None, self._stop.failure

    def _serve(self) -> None:
        serve(guard(self._app, self.access), self.settings, self._stop)

    @property
    def password(self) -> str:
        """The password, which nobody has been shown yet."""
        return (self.folder / "password-to-show").read_text().strip()

    @property
    def own_headers(self) -> dict[str, str]:
        """The headers with which the page's own code sends a changing request."""
        return {"Origin": f"{self.scheme}://{HOST}:{self.port}", **OWN_HEADER}

    def client(self, **headers: str) -> httpx.Client:
        """A client that sends the headers of the page's own code."""
        return httpx.Client(base_url=self.address, headers={**self.own_headers, **headers}, timeout=30)

    def signed_in(self) -> httpx.Client:
        """A client that is signed in."""
        client = self.client()
        assert sign_in(client, self.password).status_code == 204
        return client


def sign_in(client: httpx.Client, password: str) -> httpx.Response:
    """Try to sign in."""
    content = json.dumps({"password": password})
    return client.post("/api/sign-in", content=content, headers={"Content-Type": "application/json"})


def tiny_app() -> Starlette:
    """An application that tells what reaches it."""

    def health(request: Request) -> Response:
        return Response(status_code=204)

    async def told(request: Request) -> Response:
        body = (await request.body()).decode()
        headers = [[name.decode(), value.decode()] for name, value in request.scope["headers"]]
        return JSONResponse({"user": request.state.user, "body": body, "headers": headers})

    def static(request: Request) -> Response:
        return PlainTextResponse("own code", headers={"Cache-Control": "public, max-age=31536000, immutable"})

    def picture(request: Request) -> Response:
        return Response(b"jpeg", headers={"Content-Security-Policy": "default-src 'none'; sandbox"})

    async def events(request: Request) -> Response:
        async def ticks() -> AsyncIterator[str]:
            while True:
                yield f"data: {request.state.user}\n\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(ticks(), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/static/{name}", static),
            Route("/faces/{device}/{camera}/{name}", picture),
            Route("/api/events", events),
            Route("/{path:path}", told, methods=["GET", "POST"]),
        ]
    )
