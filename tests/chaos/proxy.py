"""A TCP proxy that simulates a network link with faults.

with TcpProxy(port_of_the_server) as link:
    ...                       # clients connect to link.port
    link.mode = Mode.CUT
    link.bytes_per_second = 4000.0  # 32 kbit/s in each direction

The proxy runs in its own thread. Mode and rate may be set from any thread.
"""

import asyncio
import contextlib
from enum import Enum, StrEnum

from tests.chaos.listener import End, Listener
from tests.chaos.narrow import Narrow

_QUEUED_CHUNKS = 64


class Mode(StrEnum):
    """How a link behaves."""

    PASS = "pass"
    """The link works."""
    CUT = "cut"
    """Existing connections are reset and new ones are refused."""
    BLACK_HOLE = "black hole"
    """All data is dropped silently in both directions, as by a router that has lost its connection state.

    Existing connections stay broken when the link works again.
    """
    STALL = "stall"
    """Data is held back until the link works again, and is then delivered, as by TCP retransmission."""
    DELAY = "delay"
    """Data is delayed by ``latency_seconds`` in each direction."""
    CLIENT_GONE = "client gone"
    """Half-open: clients see their connections reset, the server sees them open. New connections work."""
    SERVER_GONE = "server gone"
    """Half-open: the server sees its connections reset, clients see them open. New connections work."""
    UP_LOST = "up lost"
    """Data from clients is lost, data from the server arrives. Affected connections never recover."""
    DOWN_LOST = "down lost"
    """Data from the server is lost, data from clients arrives. Affected connections never recover."""


class Direction(Enum):
    """Direction of data on a connection."""

    UP = "from the client to the server"
    DOWN = "from the server to the client"


_LOST = {
    Mode.BLACK_HOLE: frozenset(Direction),
    Mode.CLIENT_GONE: frozenset(Direction),
    Mode.SERVER_GONE: frozenset(Direction),
    Mode.UP_LOST: frozenset((Direction.UP,)),
    Mode.DOWN_LOST: frozenset((Direction.DOWN,)),
}
"""Directions that a connection loses for good, because a TCP stream cannot continue after missing bytes."""


class TcpProxy(Listener):
    """A link whose faults are set by :attr:`mode` and :attr:`bytes_per_second`."""

    buffer_bytes = 4096

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.latency_seconds = 0.5
        """Delay in each direction in :attr:`Mode.DELAY`. It comes on top of the time that a narrow link takes."""
        self.flowing = asyncio.Event()
        """Cleared while the link is stalled."""
        self.pipes = {direction: Narrow() for direction in Direction}
        """One direction of the link each, shared by all connections."""
        self._mode = Mode.PASS
        self._connections: set[_Connection] = set()

    @property
    def bytes_per_second(self) -> float | None:
        """Rate of the link in each direction, shared by all connections; None: unlimited (the default)."""
        return self.pipes[Direction.UP].bytes_per_second

    @bytes_per_second.setter
    def bytes_per_second(self, rate: float | None) -> None:
        self.call(self._set_rate(rate))

    @property
    def bytes_up(self) -> int:
        """Bytes that clients have sent through the link since the start, also those that were lost behind it."""
        return self.pipes[Direction.UP].carried

    @property
    def bytes_down(self) -> int:
        """Bytes that the server has sent through the link since the start, also those that were lost behind it."""
        return self.pipes[Direction.DOWN].carried

    @property
    def mode(self) -> Mode:
        """How the link behaves. A new mode applies to existing and new connections."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self.call(self._set_mode(mode))

    @property
    def delay_seconds(self) -> float:
        """Delay of data that arrives now."""
        return self.latency_seconds if self._mode is Mode.DELAY else 0.0

    async def listen(self) -> None:
        """Accept connections. The link works initially."""
        await super().listen()
        if self.bytes_per_second is not None:
            self._limit_buffers()
        if self._mode is Mode.PASS:
            self.flowing.set()

    async def serve(self, client: End) -> None:
        """Forward one connection."""
        connection = _Connection(self, client)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            connection.reset()
            self._connections.discard(connection)

    async def _set_rate(self, rate: float | None) -> None:
        for pipe in self.pipes.values():
            pipe.set_rate(rate)
        self._limit_buffers()
        for connection in list(self._connections):
            connection.apply_rate()

    def _limit_buffers(self) -> None:
        for listener in self.listening():
            self.pipes[Direction.UP].limit_buffer(listener)

    async def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        for connection in list(self._connections):
            connection.apply(mode)
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
        self._lost: set[Direction] = set()
        if proxy.mode not in (Mode.CLIENT_GONE, Mode.SERVER_GONE):  # these modes do not affect new connections
            self._lost |= _LOST.get(proxy.mode, frozenset())

    def apply(self, mode: Mode) -> None:
        """Apply a new mode to this existing connection."""
        self._lost |= _LOST.get(mode, frozenset())
        if mode in (Mode.CUT, Mode.CLIENT_GONE):
            self._client.reset()
        if mode in (Mode.CUT, Mode.SERVER_GONE):
            self._server_gone = True
            if self._server is not None:
                self._server.reset()

    def apply_rate(self) -> None:
        """Make the receive buffers of this connection fit the rate of the link."""
        for end, direction in ((self._client, Direction.UP), (self._server, Direction.DOWN)):
            if end is not None:
                self._proxy.pipes[direction].limit_buffer(end.writer.get_extra_info("socket"))

    def reset(self) -> None:
        """Reset the connection on both sides."""
        self._client.reset()
        if self._server is not None:
            self._server.reset()

    async def run(self) -> None:
        """Forward data in both directions until both sides are closed or reset."""
        await self._proxy.flowing.wait()
        if self._lost == set(Direction):
            await self._client.until_closed()
            return
        try:
            self._server = await End.connect(self._proxy.target_port, self._proxy.buffer_bytes)
        except OSError:
            return
        if self._proxy.bytes_per_second is not None:
            self.apply_rate()
        if self._server_gone:  # the mode changed during the connect
            self._server.reset()
        await asyncio.gather(
            self._forward(Direction.UP, self._client, self._server),
            self._forward(Direction.DOWN, self._server, self._client),
        )

    async def _forward(self, direction: Direction, source: End, target: End) -> None:
        """Read from the source until it ends, at the rate of the link.

        A second task writes, so that the delay does not reduce throughput.
        """
        pipe = self._proxy.pipes[direction]
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        delivery = asyncio.create_task(self._deliver(direction, queue, target))
        clock = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while data := await source.reader.read(pipe.chunk_bytes):
                    await pipe.carry(len(data))
                    await queue.put((clock() + self._proxy.delay_seconds, data))
            await queue.put((clock() + self._proxy.delay_seconds, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(self, direction: Direction, queue: "asyncio.Queue[tuple[float, bytes]]", target: End) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            deliver_at, data = await queue.get()
            await asyncio.sleep(max(0.0, deliver_at - clock()))
            await self._proxy.flowing.wait()
            if direction in self._lost or target.writer.is_closing():
                pass  # discard the data, but drain the queue until the source ends
            elif not data:
                target.writer.close()
            else:
                with contextlib.suppress(OSError):
                    target.writer.write(data)
                    await target.writer.drain()
            if not data:
                return
