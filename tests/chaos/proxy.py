"""A TCP proxy that stands for a link between two machines, and can be as bad as one.

with TcpProxy(port_of_the_server) as link:
    ...                       # clients connect to link.port
    link.mode = Mode.CUT

It runs in a thread of its own; the mode may be set from any other.
"""

import asyncio
import contextlib
from enum import Enum, StrEnum

from tests.chaos.listener import CHUNK_BYTES, End, Listener

_QUEUED_CHUNKS = 64


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
        self._server_gone = False
        self._lost: set[Way] = set()
        if proxy.mode not in (Mode.CLIENT_GONE, Mode.SERVER_GONE):  # which spare new connections
            self._lost |= _LOST.get(proxy.mode, frozenset())

    def suffer(self, mode: Mode) -> None:
        """Take what a new mode does to a connection that is there."""
        self._lost |= _LOST.get(mode, frozenset())
        if mode in (Mode.CUT, Mode.CLIENT_GONE):
            self._client.reset()
        if mode in (Mode.CUT, Mode.SERVER_GONE):
            self._server_gone = True
            if self._server is not None:
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
        if self._server_gone:  # while we connected to it
            self._server.reset()
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
                while data := await source.reader.read(CHUNK_BYTES):
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
