"""One direction of a link with a limited rate."""

import asyncio
import contextlib
import math
import socket

from tests.chaos.listener import CHUNK_BYTES

_CHUNK_SECONDS = 0.02
_MIN_CHUNK_BYTES = 256
_BURST_SECONDS = 0.1
_BUFFER_SECONDS = 0.2
_MIN_BUFFER_BYTES = 8192
_MAX_BUFFER_BYTES = 1 << 20


class Narrow:
    """One direction of a link. Connections share it in the order in which they ask."""

    def __init__(self) -> None:
        self.bytes_per_second: float | None = None
        """Rate; None: unlimited. Set it with :meth:`set_rate`."""
        self.carried = 0
        """Bytes carried since the start."""
        self._free_at = 0.0
        self._changed = asyncio.Event()

    @property
    def chunk_bytes(self) -> int:
        """How many bytes to read at once, so that connections alternate and a new rate applies soon."""
        if self.bytes_per_second is None:
            return CHUNK_BYTES
        return min(CHUNK_BYTES, max(_MIN_CHUNK_BYTES, int(self.bytes_per_second * _CHUNK_SECONDS)))

    def set_rate(self, bytes_per_second: float | None) -> None:
        """Change the rate. Data that waits for its turn goes at the new rate. Called in the proxy's thread."""
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._changed.set()
        self._changed = asyncio.Event()

    async def carry(self, size: int) -> None:
        """Return when ``size`` bytes have passed the link."""
        loop = asyncio.get_running_loop()
        while (rate := self.bytes_per_second) is not None:
            # A late timer may catch up, so that a busy machine does not make the link slower than its rate.
            self._free_at = max(loop.time() - _BURST_SECONDS, self._free_at) + size / rate
            if not await self._changes_before(self._free_at):
                break
        self.carried += size

    async def _changes_before(self, moment: float) -> bool:
        """Wait until ``moment`` on the loop's clock; return at once with True when the rate changes."""
        try:
            async with asyncio.timeout_at(moment):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def limit_buffer(self, receiver: socket.socket) -> None:
        """Make the receive buffer of a connection, or of those that a socket will accept, fit the rate.

        Without this, the kernel would take megabytes from the sender at once, and the sender would not notice the link.
        """
        rate = math.inf if self.bytes_per_second is None else self.bytes_per_second
        size = min(_MAX_BUFFER_BYTES, max(_MIN_BUFFER_BYTES, rate * _BUFFER_SECONDS))
        with contextlib.suppress(OSError):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(size))
