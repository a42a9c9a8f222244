"""Limits of requests: methods, size of the body, and streams per user. The server limits time and connections."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from cloud.gallery.web.access.fields import values
from cloud.gallery.web.access.refusal import Refusal

METHODS = ("GET", "HEAD", "POST")
SAFE_METHODS = ("GET", "HEAD")
MAX_HEAD_BYTES = 16 * 1024
"""Maximum size of all header fields of a request."""
MAX_BODY_BYTES = 256 * 1024
"""Maximum size of a request's body. The names and ids of a thousand faces are not longer."""
MAX_STREAMS_PER_USER = 32
MAX_STREAMS = 96
_BUSY_SECONDS = 10


def check_head(scope: Scope) -> None:
    """Check the method of a request, and the size of its header fields.

    Raises:
        Refusal: no part of the gallery has this method, or the header fields are too long.
    """
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
        raise Refusal(431, f"the header fields are too long: expected at most {MAX_HEAD_BYTES} bytes")
    if scope["method"] not in METHODS:
        raise Refusal(405, f"the method is not valid: expected {', '.join(METHODS)}")


async def whole_body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a request.

    Raises:
        Refusal: it is too long.
        ClientDisconnect: the client has closed the connection.
    """
    lengths = values(scope["headers"], "content-length")
    if any(not text.isdecimal() or len(text) > 9 or int(text) > MAX_BODY_BYTES for text in lengths):
        raise _too_long()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_long()
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``body`` first, and then what ``receive`` gives."""
    given = False

    async def receive_body_first() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body_first


class Streams:
    """The streams of events that are open."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, user: str) -> Iterator[None]:
        """Count a stream of ``user`` while the context lasts.

        Raises:
            Refusal: too many are open.
        """
        if self._open[user] >= MAX_STREAMS_PER_USER or self._open.total() >= MAX_STREAMS:
            raise Refusal(429, "too many pages of the gallery are open: close some", retry_seconds=_BUSY_SECONDS)
        self._open[user] += 1
        try:
            yield
        finally:
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]


def _too_long() -> Refusal:
    return Refusal(413, f"the request is too long: expected at most {MAX_BODY_BYTES} bytes")
