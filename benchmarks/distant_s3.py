"""A distant S3 server on this machine, in processes of its own: a proxy that delays, and a small server that is fast.

SeaweedFS needs more of this machine's processor for a write than the sink does. So the small server is measured, too.
It stores nothing: it answers each write as S3 does, after the round trip.
"""

import asyncio
import multiprocessing
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from demo.ports import HOST

_HEAD_END = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DATE = b"Date: Thu, 26 Nov 2026 12:00:00 GMT\r\nServer: stand-in\r\nx-amz-request-id: 0123456789ABCDEF\r\n"


@contextmanager
def delayed(target_port: int, seconds: float) -> Iterator[int]:
    """Run a proxy in front of a server, with a round trip of ``seconds``. Yield its port."""
    with _process(_serve_proxy, target_port, seconds / 2) as port:
        yield port


@contextmanager
def stand_in(seconds: float) -> Iterator[int]:
    """Run the small server, with a round trip of ``seconds``. Yield its port."""
    with _process(_serve_stand_in, seconds) as port:
        yield port


@contextmanager
def _process(serve: Callable[..., None], *arguments: float) -> Iterator[int]:
    listener = socket.create_server((HOST, 0), backlog=512)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(listener, *arguments), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        process.kill()
        process.join()


def _serve(listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, sock=listener)
        await server.serve_forever()

    asyncio.run(serve())


def _serve_proxy(listener: socket.socket, target_port: int, seconds: float) -> None:
    _serve(listener, lambda: _Near(target_port, seconds))


def _serve_stand_in(listener: socket.socket, seconds: float) -> None:
    there: set[str] = set()
    _serve(listener, lambda: _StandIn(seconds, there))


class _Later:
    """Writes data to a transport after a delay, in order."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._queue: deque[bytes | None] = deque()
        self.transport: asyncio.Transport | None = None

    def write(self, data: bytes | None) -> None:
        """Write ``data``; None closes."""
        self._queue.append(data)
        if self._seconds:
            asyncio.get_running_loop().call_later(self._seconds, self._next)
        elif self.transport is not None:
            self._next()

    def connected(self, transport: asyncio.Transport) -> None:
        """Write from now on."""
        self.transport = transport
        while not self._seconds and self._queue:
            self._next()

    def _next(self) -> None:
        if self.transport is None:  # connecting takes longer than the delay
            asyncio.get_running_loop().call_later(0.001, self._next)
            return
        data = self._queue.popleft()
        if data is None:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write(data)


class _End(asyncio.Protocol):
    """One side of the proxy, which passes on what it receives."""

    def __init__(self, out: _Later, back: _Later) -> None:
        self._out, self._back = out, back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._back.connected(transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._out.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._out.write(None)


class _Near(_End):
    """The side of the client."""

    def __init__(self, target_port: int, seconds: float) -> None:
        super().__init__(_Later(seconds), _Later(seconds))
        self._target_port = target_port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(
            loop.create_connection(lambda: _End(self._back, self._out), HOST, self._target_port)
        )


class _StandIn(asyncio.Protocol):
    """A connection of the small server. It knows the requests that the sink and boto3 send."""

    def __init__(self, seconds: float, there: set[str]) -> None:
        self._received, self._continued, self._there = b"", False, there
        self._later = _Later(seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._later.connected(transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            first, _, rest = self._received[:end].partition(b"\r\n")
            fields = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in rest.split(b"\r\n"))
            }
            length = int(fields.get(b"content-length", b"0"))
            if len(self._received) < end + len(_HEAD_END) + length:
                if b"expect" in fields and not self._continued:
                    self._continued = True
                    self._later.write(_CONTINUE)
                return
            self._received, self._continued = self._received[end + len(_HEAD_END) + length :], False
            method, target, _ = first.decode().split(" ")
            self._later.write(self._answer(method, unquote(target), fields))

    def _answer(self, method: str, target: str, fields: dict[bytes, bytes]) -> bytes:
        path, _, query = target.partition("?")
        if method == "GET":
            prefix = query.partition("prefix=")[2].partition("&")[0]
            return _response("200 OK", _listing(prefix if f"{path.rstrip('/')}/{prefix}" in self._there else ""))
        if path.endswith("store-check-wrong"):
            return _response("400 Bad Request", "<Error><Code>BadDigest</Code></Error>")
        if path in self._there and b"if-none-match" in fields:
            return _response("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>")
        if path.endswith("store-check"):
            self._there.add(path)
        return _response("200 OK", "", b'ETag: "0"\r\n')


def _listing(key: str) -> str:
    contents = f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" if key else ""
    return f"<ListBucketResult><Name>faces</Name><KeyCount>{int(bool(key))}</KeyCount>{contents}</ListBucketResult>"


def _response(status: str, body: str, fields: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + _DATE + fields + b"\r\n" + body.encode()
