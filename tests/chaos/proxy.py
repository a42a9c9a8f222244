"""A TCP proxy that stands for a link between two machines, and can be as bad as one.

with TcpProxy(port_of_the_server) as link:
    ...                       # clients connect to link.port
    link.mode = Mode.CUT

It runs in a thread of its own; the mode may be set from any other.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from enum import Enum, StrEnum
from types import TracebackType
from typing import Any, Self, TypeVar

from demo.stack import HOST

_CHUNK_BYTES = 65536
_QUEUED_CHUNKS = 64
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: the connection ends with RST, not with FIN."""

T = TypeVar("T")


class Mode(StrEnum):
    """How a link behaves."""

    PASS = "pass"
    """As it should."""
    CUT = "cut"
    """Connections are reset, new ones are refused."""
    BLACK_HOLE = "black hole"
    """Nothing gets through either way and nobody is told: a router that has forgotten its connections. Those that
    were there stay dead when the link is whole again."""
    STALL = "stall"
    """Nothing gets through until the link is whole again; then everything does, late, as TCP sends it again."""
    DELAY = "delay"
    """Everything arrives later by ``latency_seconds``, each way."""
    CLIENT_GONE = "client gone"
    """Half-open: clients see their connections reset, the server sees them open. New ones pass."""
    SERVER_GONE = "server gone"
    """Half-open the other way round: the server sees a reset, the clients do not. New ones pass."""
    UP_LOST = "up lost"
    """What clients send is lost, what the server sends arrives. The connections stay so."""
    DOWN_LOST = "down lost"
    """What the server sends is lost, what clients send arrives. The connections stay so."""


class Way(Enum):
    """A direction."""

    UP = "from the client to the server"
    DOWN = "from the server to the client"


_LOST = {
    Mode.BLACK_HOLE: frozenset(Way),
    Mode.CLIENT_GONE: frozenset(Way),
    Mode.SERVER_GONE: frozenset(Way),
    Mode.UP_LOST: frozenset((Way.UP,)),
    Mode.DOWN_LOST: frozenset((Way.DOWN,)),
}
"""What a connection never carries again: bytes that are missing from a TCP stream break it for good."""


class Listener(ABC):
    """A server of ours on a free port, in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        """Where clients connect, once it has been started."""
        self.target_port = target_port
        """Where the server listens for which it stands."""
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
        """Listen."""
        self._thread.start()
        self.call(self.listen())
        return self

    def close(self) -> None:
        """End, and reset all connections."""
        if self._thread.is_alive():
            self.call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the proxy's thread and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def listen(self) -> None:
        """Take connections, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Take no connections: the system refuses them."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @abstractmethod
    async def serve(self, client: "End") -> None:
        """Serve one connection to its end."""

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
    async def connect(cls, port: int) -> Self:
        """Connect to a server.

        Raises:
            OSError: nobody listens.
        """
        return cls(*await asyncio.open_connection(HOST, port))

    def reset(self) -> None:
        """End the connection with RST, unless it has ended."""
        if not self.writer.transport.is_closing():
            peer: socket.socket = self.writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """Swallow what comes until the other side closes."""
        with contextlib.suppress(OSError):
            while await self.reader.read(_CHUNK_BYTES):
                pass


class TcpProxy(Listener):
    """A link that can be cut, stalled, delayed and half lost."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.latency_seconds = 0.5
        """How late everything is in :attr:`Mode.DELAY`."""
        self.flowing = asyncio.Event()
        """Not set while the link is stalled."""
        self._mode = Mode.PASS
        self._connections: set[_Connection] = set()

    @property
    def mode(self) -> Mode:
        """How the link behaves. Setting it applies to connections that are there and to new ones."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self.call(self._set_mode(mode))

    @property
    def lateness_seconds(self) -> float:
        """How late what arrives now will be passed on."""
        return self.latency_seconds if self._mode is Mode.DELAY else 0.0

    async def listen(self) -> None:
        """Take connections; at first the link is whole."""
        await super().listen()
        if self._mode is Mode.PASS:
            self.flowing.set()

    async def serve(self, client: End) -> None:
        """Carry one connection."""
        connection = _Connection(self, client)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            connection.reset()
            self._connections.discard(connection)

    async def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        for connection in list(self._connections):
            connection.suffer(mode)
        if mode is Mode.STALL:
            self.flowing.clear()
        else:
            self.flowing.set()
        if mode is Mode.CUT:
            await self.refuse()
        else:
            await self.listen()


class _Connection:
    """One connection through a :class:`TcpProxy`."""

    def __init__(self, proxy: TcpProxy, client: End) -> None:
        self._proxy, self._client = proxy, client
        self._server: End | None = None
        self._lost: set[Way] = set()
        if proxy.mode not in (Mode.CLIENT_GONE, Mode.SERVER_GONE):  # which spare new connections
            self._lost |= _LOST.get(proxy.mode, frozenset())

    def suffer(self, mode: Mode) -> None:
        """Take what a new mode does to a connection that is there."""
        self._lost |= _LOST.get(mode, frozenset())
        if mode in (Mode.CUT, Mode.CLIENT_GONE):
            self._client.reset()
        if mode in (Mode.CUT, Mode.SERVER_GONE) and self._server is not None:
            self._server.reset()

    def reset(self) -> None:
        """End it on both sides."""
        self._client.reset()
        if self._server is not None:
            self._server.reset()

    async def run(self) -> None:
        """Carry bytes until both sides have closed, or been told that the other has."""
        await self._proxy.flowing.wait()
        if self._lost == set(Way):
            await self._client.until_closed()
            return
        try:
            self._server = await End.connect(self._proxy.target_port)
        except OSError:
            return
        await asyncio.gather(
            self._carry(Way.UP, self._client, self._server), self._carry(Way.DOWN, self._server, self._client)
        )

    async def _carry(self, way: Way, source: End, goal: End) -> None:
        """Read from one side until its end; what is due is written by a second task, so that latency costs no rate."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        delivery = asyncio.create_task(self._deliver(way, queue, goal))
        clock = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while data := await source.reader.read(_CHUNK_BYTES):
                    await queue.put((clock() + self._proxy.lateness_seconds, data))
            await queue.put((clock() + self._proxy.lateness_seconds, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(self, way: Way, queue: "asyncio.Queue[tuple[float, bytes]]", goal: End) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - clock()))
            await self._proxy.flowing.wait()
            if way in self._lost or goal.writer.is_closing():
                pass  # but read on, until the source ends
            elif not data:
                goal.writer.close()
            else:
                with contextlib.suppress(OSError):
                    goal.writer.write(data)
                    await goal.writer.drain()
            if not data:
                return
