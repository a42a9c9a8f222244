"""A proxy in front of S3 that simulates faults of S3, for all requests, for one prefix or for one key.

Requests and responses are forwarded unchanged, because the signature covers the ``Host`` header. Both sides use the
proxy's host name. In the most difficult faults, S3 stores the object and only the response is lost, or S3 does not
store the object and answers that it exists already.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs, unquote

from tests.chaos.listener import End, Listener

_HEAD_END = b"\r\n\r\n"
_NO_BODY = frozenset((204, 304))


class Answer(Enum):
    """A wrong response of S3: HTTP status and error code, or None for no response."""

    INTERNAL_ERROR = (500, "InternalError")
    SLOW_DOWN = (503, "SlowDown")
    NOT_IMPLEMENTED = (501, "NotImplemented")
    REQUEST_TIMEOUT = (400, "RequestTimeout")
    ACCESS_DENIED = (403, "AccessDenied")
    NO_SUCH_BUCKET = (404, "NoSuchBucket")
    REQUEST_TIMEOUT_408 = (408, "RequestTimeout")
    CONFLICT = (409, "ConditionalRequestConflict")
    PRECONDITION_FAILED = (412, "PreconditionFailed")
    TOO_MANY_REQUESTS = (429, "TooManyRequests")
    NOT_MODIFIED = (304, "NotModified")
    """No body, as HTTP requires."""
    NONE = None
    """No response until the client times out."""
    RESET = (0, "reset")
    """The connection is reset."""
    TRUNCATED = (0, "truncated")
    """The response is cut in the middle, and the connection is closed."""
    SLOW = (0, "slow")
    """The right response, after :attr:`S3Fault.seconds`."""


@dataclass(frozen=True, slots=True)
class S3Fault:
    """A fault that affects requests."""

    answer: Answer
    after: bool
    """Whether S3 executes the request before the fault occurs."""
    share: float
    """Share of affected requests, from 0 to 1."""
    under: str = ""
    """Path of the affected objects: bucket and prefix such as ``/faces/faces/device=jetson-1/``, or bucket and key.

    A request that lists the bucket has the path of the prefix that it lists. Empty: every request is affected.
    """
    seconds: float = 5.0
    """How long :attr:`Answer.SLOW` takes."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A request or a response."""

    raw: bytes
    words: list[str]
    """Words of the first line."""

    @property
    def status(self) -> int:
        return int(self.words[1])


class S3Proxy(Listener):
    """A proxy in front of an S3 server that counts the objects stored."""

    def __init__(self, target_port: int, seed: int, on_written: Callable[[str], None] = lambda path: None) -> None:
        """Create a proxy.

        Args:
            target_port: port of the S3 server.
            seed: seed for drawing the affected requests, if the fault does not affect all.
            on_written: called with the path of each stored object after the client has received the response.
        """
        super().__init__(target_port)
        self.faults: tuple[S3Fault, ...] = ()
        """The current faults. A request is affected by the first one that applies to it. May be set from any thread."""
        self.written: Counter[str] = Counter()
        """Number of successful writes by object path. More than one means that the object was overwritten."""
        self.already_there = 0
        """Number of writes that S3 rejected because the object existed."""
        self._on_written = on_written
        self._rng = random.Random(seed)

    @property
    def fault(self) -> S3Fault | None:
        """The first current fault. Setting it replaces all faults; None ends them. May be set from any thread."""
        faults = self.faults
        return faults[0] if faults else None

    @fault.setter
    def fault(self, fault: S3Fault | None) -> None:
        self.faults = () if fault is None else (fault,)

    async def serve(self, client: End) -> None:
        """Serve one connection."""
        try:
            while True:
                request = await _read_request(client)
                fault = self._draw_fault(request)
                if fault is None or fault.after or fault.answer is Answer.SLOW:
                    if fault and not fault.after:
                        await asyncio.sleep(fault.seconds)
                    response = await self._forward(request)
                    self._count(request, response)
                    if fault and fault.after and fault.answer is Answer.SLOW:
                        await asyncio.sleep(fault.seconds)
                else:
                    response = None
                if fault and fault.answer is not Answer.SLOW:
                    await self._fail(fault, request, response, client)
                elif response:
                    client.writer.write(response.raw)
                    await client.writer.drain()
                    if _has_written(request, response):
                        self._on_written(_path(request))
        except (OSError, asyncio.IncompleteReadError):
            return  # one side has closed; the caller resets the other one

    def _draw_fault(self, request: _Message) -> S3Fault | None:
        for fault in self.faults:
            if _object_path(request).startswith(fault.under) and self._rng.random() < fault.share:
                return fault
        return None

    async def _forward(self, request: _Message) -> _Message:
        """Forward a request and return the response. Each request uses a new connection to the server."""
        server = await End.connect(self.target_port)
        try:
            server.writer.write(request.raw)
            await server.writer.drain()
            return await _read_response(server, request.words[0])
        finally:
            server.writer.close()

    async def _fail(self, fault: S3Fault, request: _Message, response: _Message | None, client: End) -> None:
        """Answer wrongly. ``response`` is that of S3, or None if it has not received the request."""
        if fault.answer is Answer.NONE:
            await client.until_closed()
            raise ConnectionResetError
        status, code = fault.answer.value
        if fault.answer is Answer.RESET:
            client.reset()
            raise ConnectionResetError
        if fault.answer is Answer.TRUNCATED:
            whole = (
                response.raw if response else b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: chaos\r\n\r\n"
            )
            client.writer.write(whole[: len(whole) // 2])
            client.writer.write_eof()
            await client.until_closed()
            raise ConnectionResetError
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>chaos</Message></Error>'
        has_body = request.words[0] != "HEAD" and status not in _NO_BODY
        length = "" if status in _NO_BODY else f"Content-Length: {len(body)}\r\n"
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n{length}\r\n"
        client.writer.write((head + (body if has_body else "")).encode())
        await client.writer.drain()

    def _count(self, request: _Message, response: _Message) -> None:
        if _has_written(request, response):
            self.written[_path(request)] += 1
        elif response.status == 412:
            self.already_there += 1


def _has_written(request: _Message, response: _Message) -> bool:
    return request.words[0] == "PUT" and response.status == 200


def _path(request: _Message) -> str:
    target = request.words[1].partition("?")[0]
    if target.startswith("http://"):  # as it is sent to a proxy
        target = "/" + target.split("/", 3)[3]
    return unquote(target)


def _object_path(request: _Message) -> str:
    """Return the path of the object, or that of the prefix which the request lists."""
    prefix = parse_qs(request.words[1].partition("?")[2]).get("prefix")
    return f"{_path(request).rstrip('/')}/{prefix[0]}" if prefix else _path(request)


async def _read_request(client: End) -> _Message:
    head = await client.reader.readuntil(_HEAD_END)
    fields = _fields(head)
    if fields.get("expect", "").lower() == "100-continue":
        client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return _Message(head + await _read_body(client, fields, to_the_end=False), _first_line(head))


async def _read_response(server: End, method: str) -> _Message:
    head = await server.reader.readuntil(_HEAD_END)
    while _first_line(head)[1].startswith("1"):  # 100 Continue: the proxy has already sent it
        head = await server.reader.readuntil(_HEAD_END)
    words = _first_line(head)
    if method == "HEAD" or int(words[1]) in _NO_BODY:
        return _Message(head, words)
    return _Message(head + await _read_body(server, _fields(head), to_the_end=True), words)


async def _read_body(end: End, fields: dict[str, str], *, to_the_end: bool) -> bytes:
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while True:
            line = await end.reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            body += line + await end.reader.readexactly(size + 2)
            if size == 0:
                return body
    if "content-length" in fields:
        return await end.reader.readexactly(int(fields["content-length"]))
    return await end.reader.read() if to_the_end else b""


def _first_line(head: bytes) -> list[str]:
    return head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
