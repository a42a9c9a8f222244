"""What a connection has sent in the last second, and what the stand-in has counted."""

from collections import Counter, deque
from dataclasses import dataclass, field


class Meter:
    """Messages and bytes in one direction in the last second."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self._bytes = 0
        self.most_messages = self.most_bytes = 0
        """The most in any second."""

    def messages(self, now: float) -> int:
        """Return the number of messages in the last second."""
        while self._recent and now - self._recent[0][0] >= 1.0:
            self._bytes -= self._recent.popleft()[1]
        return len(self._recent)

    def until_fewer(self, now: float, limit: int) -> float:
        """Return the seconds until fewer than ``limit`` messages are in the last second."""
        excess = self.messages(now) - limit
        return self._recent[excess][0] + 1.0 - now if excess >= 0 else 0.0

    def delay(self, now: float, size: int, limit: int) -> float:
        """Return the seconds until ``size`` more bytes do not exceed ``limit``."""
        self.messages(now)
        excess, wait = self._bytes + size - limit, 0.0
        for at, one in self._recent:
            if excess <= 0:
                break
            excess -= one
            wait = at + 1.0 - now
        return wait

    def note(self, now: float, size: int) -> None:
        """Count a message."""
        self._recent.append((now, size))
        self._bytes += size
        self.most_messages = max(self.most_messages, self.messages(now))
        self.most_bytes = max(self.most_bytes, self._bytes)


@dataclass
class Counts:
    """What the stand-in has counted for one client id."""

    connections: int = 0
    published: int = 0
    """Messages from the client that were accepted."""
    delivered: int = 0
    """Messages to the client."""
    discarded: int = 0
    """Messages from the client that exceeded the rate, and got no answer."""
    delayed: int = 0
    """Messages from the client that exceeded the throughput, and were processed later."""
    delivered_later: int = 0
    """Messages to the client that waited for its rate, its throughput or its acknowledgements."""
    disconnected: Counter[str] = field(default_factory=Counter)
    """Connections that the stand-in has ended, by reason."""
    most_messages: int = 0
    """The most messages from the client in any second."""
    most_bytes: int = 0
    """The same in bytes."""
    most_unacknowledged: int = 0
