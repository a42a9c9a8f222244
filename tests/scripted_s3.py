"""An S3 server that answers what a test tells it, byte for byte, and keeps the requests."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from demo.ports import HOST
from tests.chaos.listener import End, Listener
from tests.chaos.s3proxy import _fields, _first_line, _read_body

_HEAD_END = b"\r\n\r\n"
CLOSE = object()
"""In a script: close the connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """Number of its connection."""


def response(status: int, code: str = "", headers: str = "", more: str = "") -> bytes:
    """Return a response. ``code``: with an error document, with ``more`` in it. ``headers``: whole lines."""
    body = f"<Error><Code>{code}</Code><Message>it was\nscripted</Message>{more}</Error>" if code else ""
    length = "" if status == 304 else f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status} Text\r\n{length}{headers}\r\n{body}".encode()


OK = response(200, headers='ETag: "0"\r\n')


def listing(key: str | None, size: int) -> bytes:
    """Return a response that lists one object, or none."""
    contents = f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>" if key else ""
    body = f"<ListBucketResult><Name>faces</Name>{contents}</ListBucketResult>"
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


Script = Callable[[Request], "list[bytes | object]"]
"""What is sent in answer to a request: bytes, :data:`CLOSE`, or nothing."""


@dataclass(slots=True)
class _Count:
    connections: int = 0
    requests: list[Request] = field(default_factory=list)


class ScriptedS3(Listener):
    """The server. Expects no "100 Continue"."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(0)
        self.script = script
        self._tls, self._count = tls, _Count()

    @property
    def requests(self) -> list[Request]:
        """All requests so far."""
        return self._count.requests

    @property
    def connections(self) -> int:
        """Number of connections so far."""
        return self._count.connections

    async def listen(self) -> None:
        """Accept connections, with TLS if there is a context."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def serve(self, client: End) -> None:
        """Serve one connection."""
        number = self._count.connections
        self._count.connections += 1
        try:
            while True:
                head = await client.reader.readuntil(_HEAD_END)
                fields = _fields(head)
                if fields.get("expect", "").lower() == "100-continue":
                    client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await _read_body(client, fields, to_the_end=False)
                method, target, _ = _first_line(head)
                request = Request(method, target, fields, body, number)
                self._count.requests.append(request)
                for part in self.script(request):
                    if part is CLOSE:
                        client.writer.close()
                        return
                    if isinstance(part, bytes):
                        client.writer.write(part)
                        await client.writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
