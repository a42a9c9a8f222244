"""A TCP load balancer, as users put in front of a cluster: each connection goes to the next node that accepts it."""

import asyncio
import contextlib
from collections.abc import Sequence

from tests.chaos.listener import CHUNK_BYTES, End, Listener


class Balancer(Listener):
    """Listens on one port, and distributes connections among several."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(ports[0])
        self._ports = list(ports)
        self._next = 0

    async def serve(self, client: End) -> None:
        """Forward one connection until one of its ends is closed."""
        server = await self._connect()
        if server is None:
            return
        try:
            await asyncio.wait(
                [asyncio.create_task(_forward(client, server)), asyncio.create_task(_forward(server, client))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            server.writer.close()
            client.writer.close()

    async def _connect(self) -> End | None:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            with contextlib.suppress(OSError):
                return await End.connect(port)
        return None


async def _forward(source: End, target: End) -> None:
    with contextlib.suppress(OSError):
        while data := await source.reader.read(CHUNK_BYTES):
            target.writer.write(data)
            await target.writer.drain()
