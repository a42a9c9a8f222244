"""Lets only requests reach the application that are allowed to.

In this order: the security headers of every response, the method and the size of the head, the host, the target, who is
signed in, from which page the request comes, and the size of its body.
"""

import asyncio
from urllib.parse import quote

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.gallery.web.access import limits, origin, sign_in, targets
from cloud.gallery.web.access.access import Access
from cloud.gallery.web.access.refusal import Refusal
from cloud.gallery.web.access.security_headers import with_security_headers
from wire.errors import ConfigurationError

_HEALTH = "/health"
_STATIC = "/static/"
_STREAM = "/api/events"

_log = structlog.get_logger("access")


def guard(app: ASGIApp, access: Access) -> ASGIApp:
    """Return ``app`` behind the guard. The user's name is in ``scope["state"]["user"]``."""
    return with_security_headers(_Guard(app, access), https=access.https)


class _Guard:
    """Decides about each request, and answers those that it refuses."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._sign_in = sign_in.SignInRoutes(access).app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = await self._answer(scope, receive, send)
            if answer is not None:
                await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Pass a request on. Return the answer if it is refused, None if it has been answered."""
        try:
            if scope["path"] == _HEALTH and scope["method"] in limits.SAFE_METHODS:
                await self._app(scope, receive, send)  # its checker does not know GALLERY_HOSTS, and it tells nothing
                return None
            return await self._checked(scope, receive, send)
        except Refusal as refusal:
            return refusal.response()
        except ConfigurationError as error:
            _log.error("sign-in is not available", reason=str(error))
            return Refusal(503, "sign-in is not available: the log says why", retry_seconds=10).response()
        except ClientDisconnect:
            return None

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        access = self._access
        limits.check_head(scope)
        host = access.hosts.check(scope["headers"])
        targets.check(scope)
        path = scope["path"]
        user = access.user(scope)
        origin.check(scope, host, https=access.https)
        if path in sign_in.PATHS:
            app: ASGIApp = self._sign_in
        elif user is not None or path.startswith(_STATIC):
            app = self._app
        elif scope["method"] in limits.SAFE_METHODS and targets.is_page(path):
            return RedirectResponse(_sign_in_address(scope), 303)
        else:
            raise Refusal(401, "not signed in")
        body = await limits.whole_body(scope, receive)
        inner = dict(scope)
        inner["state"] = {**scope.get("state", {}), "user": user}
        receive = limits.replay(body, receive)
        if path == _STREAM and user is not None:
            await self._stream(user, inner, receive, send)
        else:
            if app is self._app:
                access.proxy.hide(inner)
            await app(inner, receive, send)
        return None

    async def _stream(self, user: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request for events on, and end the stream with the session."""
        credentials = dict(scope)  # the session ends by sign-out, by time, or by another password
        self._access.proxy.hide(scope)
        with self._access.streams.one_more(user):
            serving = asyncio.current_task()
            has_ended = False

            async def send_while_signed_in(message: Message) -> None:
                nonlocal has_ended
                if has_ended:
                    return
                if message["type"] == "http.response.body" and self._access.user(credentials) != user:
                    has_ended = True
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    if serving is not None:
                        serving.cancel()
                    return
                await send(message)

            try:
                await self._app(scope, receive, send_while_signed_in)
            except asyncio.CancelledError:
                if not has_ended or serving is None:
                    raise
                serving.uncancel()


def _sign_in_address(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    destination = targets.safe_next(scope["path"] + (f"?{query}" if query else ""))
    return sign_in.PAGE if destination == "/" else f"{sign_in.PAGE}?next={quote(destination, safe='/')}"
