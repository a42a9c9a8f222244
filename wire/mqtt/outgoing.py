"""The packets that wait to be sent on a connection. Many of them go to the operating system with one call.

A packet is a few pieces of bytes, so that a payload is copied only when it is sent.
"""

from collections import deque
from collections.abc import Callable

SEND_BYTES = 65_536
"""How much is sent with one call, if there is more than one packet."""
_Packet = tuple[tuple[bytes, ...], Callable[[], None] | None]


class Outgoing:
    """The packets that wait. Any thread may add one; only one thread sends."""

    def __init__(self) -> None:
        self._waiting: deque[_Packet] = deque()
        self._sending: memoryview | None = None
        """What is left of what was given to the operating system and not taken as a whole."""
        self._when_sent: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return self._sending is not None or bool(self._waiting)

    def add(self, pieces: tuple[bytes, ...], when_sent: Callable[[], None] | None = None) -> None:
        """Add a packet. ``when_sent`` is called once the operating system has taken all of it."""
        self._waiting.append((pieces, when_sent))

    def clear(self) -> None:
        """Forget everything. Nothing is sent after this."""
        self._waiting.clear()
        self._sending = None

    def send(self, send: Callable[[memoryview], int], *, may_call: bool = True) -> bool:
        """Send once. Return whether more can be tried.

        Args:
            send: gives bytes to the operating system, and returns how many it has taken.
            may_call: whether this thread may call ``when_sent``. If not, packets with one wait.

        Raises:
            OSError: what ``send`` raises; BlockingIOError if nothing could be sent now. The next call tries again.
        """
        if self._when_sent and not may_call:
            return False
        if self._sending is None:
            data = self._take(may_call)
            if not data:
                return False
            self._sending = memoryview(data)
        sent = send(self._sending)
        if sent < len(self._sending):
            self._sending = self._sending[sent:]
            return sent > 0
        self._sending = None
        for when_sent in self._when_sent:
            when_sent()
        self._when_sent.clear()
        return bool(self._waiting)

    def _take(self, may_call: bool) -> bytes:
        """Return the bytes of as many packets as are sent together."""
        pieces: list[bytes] = []
        size = 0
        while self._waiting:
            packet, when_sent = self._waiting[0]
            size += sum(map(len, packet))
            if (pieces and size > SEND_BYTES) or (when_sent is not None and not may_call):
                break
            self._waiting.popleft()
            pieces += packet
            if when_sent is not None:
                self._when_sent.append(when_sent)
        return b"".join(pieces)
