"""Base class of the proxies: a TCP server on a free port in a separate thread."""

import asyncio
import contextlib
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from demo.ports import HOST

CHUNK_BYTES = 65536
_CALL_SECONDS = 10.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: closing the connection sends RST instead of FIN."""

T = TypeVar("T")


class Listener(ABC):
    """A TCP server on a free port in a separate thread."""

    buffer_bytes = CHUNK_BYTES
    """Reading from a connection pauses when twice as many bytes have been received and not yet read."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        """Port for clients. 0 before the start."""
        self.target_port = target_port
        """Port of the real server."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Start the thread and listen."""
        self._thread.start()
        self.call(self.listen())
        return self

    def close(self) -> None:
        """Stop listening, reset all connections and stop the thread."""
        if self._thread.is_alive():
            self.call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the proxy's thread and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=self.buffer_bytes)
            self.port = self._server.sockets[0].getsockname()[1]

    def listening(self) -> Sequence[socket.socket]:
        """Return the sockets that accept connections; empty while connections are refused."""
        return () if self._server is None else self._server.sockets

    async def refuse(self) -> None:
        """Stop listening, so that the operating system refuses connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @abstractmethod
    async def serve(self, client: "End") -> None:
        """Serve one connection until it ends."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(End(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: "End") -> None:
        try:
            await self.serve(client)
        finally:
            client.reset()

    async def _end(self) -> None:
        await self.refuse()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class End:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, buffer_bytes: int = CHUNK_BYTES) -> Self:
        """Connect to a server. ``buffer_bytes`` is as in :attr:`Listener.buffer_bytes`.

        Raises:
            OSError: no server listens on the port.
        """
        return cls(*await asyncio.open_connection(HOST, port, limit=buffer_bytes))

    def reset(self) -> None:
        """Close the connection with RST, unless it is closed already."""
        if not self.writer.transport.is_closing():
            peer: socket.socket = self.writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """Discard incoming data until the peer closes the connection."""
        with contextlib.suppress(OSError):
            while await self.reader.read(CHUNK_BYTES):
                pass
