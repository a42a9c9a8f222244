"""The page and the requests with which one signs in and out."""

import json
from pathlib import Path

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, Router

from cloud.gallery.web import static_files
from cloud.gallery.web.access import password
from cloud.gallery.web.access.access import OWNER, Access
from cloud.gallery.web.access.refusal import Refusal, error
from cloud.gallery.web.access.targets import safe_next

PAGE = "/sign-in"
PATHS = frozenset({PAGE, "/api/sign-in", "/api/sign-out", "/api/session"})
_TEMPLATES = Path(__file__).parent.parent / "templates"
_JSON = "application/json"

_log = structlog.get_logger("access")


class SignInRoutes:
    """Signs in with the password, and out again."""

    def __init__(self, access: Access) -> None:
        self._access = access
        templates = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
        templates.globals["static"] = static_files.url_of
        self._template = templates.get_template("sign_in.html")

    def app(self) -> Router:
        """Return the routes in :data:`PATHS`. They raise Refusal."""
        return Router(
            routes=[
                Route(PAGE, self._page, methods=["GET"]),
                Route("/api/sign-in", self._sign_in, methods=["POST"]),
                Route("/api/sign-out", self._sign_out, methods=["POST"]),
                Route("/api/session", self._session, methods=["GET"]),
            ],
            redirect_slashes=False,
        )

    async def _page(self, request: Request) -> Response:
        destination = safe_next(request.query_params.get("next", "/"))
        if self._access.user(request.scope) is not None:
            return RedirectResponse(destination, 303)
        text = self._template.render(destination=destination, is_by_password=self._access.is_by_password)
        return HTMLResponse(text)

    async def _session(self, request: Request) -> Response:
        """Answer who is signed in; null if nobody is. The sign-in page asks it after a link in another program."""
        return JSONResponse({"user": self._access.user(request.scope)})

    async def _sign_in(self, request: Request) -> Response:
        access = self._access
        if not access.is_by_password:
            raise Refusal(403, "users sign in at the reverse proxy (GALLERY_TRUSTED_HEADER), not with the password")
        entered = _password_in(await request.body(), request.headers.get("content-type", ""))
        client, is_known = access.client(request.scope)
        hashed = access.sign_in.current().hashed
        async with access.attempts.one_of(client, is_known=is_known) as attempt:
            attempt.succeeded = await run_in_threadpool(password.matches, entered, hashed)
        if not attempt.succeeded:
            _log.warning("sign-in failed", client=client)
            raise Refusal(401, "the password is wrong")
        self._end_session(request)
        response = Response(status_code=204)
        access.cookies.write_session(response, access.sessions.start(OWNER), access.sessions.seconds)
        access.cookies.write_known_browser(response, access.sessions.make_known_browser())
        _log.info("signed in", user=OWNER, client=client)
        return response

    async def _sign_out(self, request: Request) -> Response:
        is_stored = self._end_session(request)
        response = Response(status_code=204) if is_stored else error(503, "signed out, but only until the next restart")
        self._access.cookies.remove_session(response)
        return response

    def _end_session(self, request: Request) -> bool:
        """End the session of a request, and return whether that is stored."""
        session = self._access.session(request.scope)
        if session is not None:
            try:
                self._access.sessions.end(session)
            except OSError as reason:
                _log.error("sign-out not stored, it is in force until the next restart", reason=str(reason))
                return False
            _log.info("signed out", user=session.user)
        return True


def _password_in(body: bytes, content_type: str) -> str:
    if content_type.partition(";")[0].strip().lower() == _JSON:
        try:
            entered = json.loads(body)["password"]
        except (ValueError, KeyError, TypeError, RecursionError):
            entered = None
        if isinstance(entered, str):
            return entered
    raise Refusal(400, f'the request is not valid: expected {_JSON} such as {{"password": "..."}}')
