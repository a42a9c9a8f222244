"""The messages that a relay holds: under way to the other broker, or waiting, in the order of arrival."""

import heapq
import time
from dataclasses import dataclass, field, replace

from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties
from wire.process.congestion import Flight

_Key = tuple[str, bytes]


@dataclass(slots=True, eq=False)
class Held:
    """A message that is not yet acknowledged to its broker."""

    number: int
    """Position in the order of arrival."""
    message: Message
    """The copy to acknowledge when the message has been forwarded."""
    topic: str
    """Topic at the other broker."""
    size: int
    """Bytes of payload and properties."""
    key: _Key | None
    """By which a copy is found; None if none can be recognised."""
    arrived_at: float = field(default_factory=time.monotonic)
    """Seconds on the monotonic clock."""
    postponed: int = 0
    """How often the other broker has answered that it accepts no more at present."""
    flight: Flight | None = field(default=None)
    """While it is under way, if a window bounds it."""

    @property
    def is_stranded(self) -> bool:
        """Whether its connection has ended, so that it cannot be acknowledged: its broker delivers it again."""
        return self.message.qos > 0 and self.message.connection.ended.is_set()


class HeldMessages:
    """Messages under way and waiting. Not thread-safe: the relay holds a lock."""

    def __init__(self) -> None:
        self.bytes = 0
        """Size of all messages."""
        self._waiting: list[tuple[int, Held]] = []
        """A heap, so that the message that arrived first is the first one."""
        self._underway: set[Held] = set()
        self._by_key: dict[_Key, Held] = {}
        self._arrived = 0

    def __len__(self) -> int:
        """Return the number of messages under way and waiting."""
        return len(self._waiting) + len(self._underway)

    @property
    def underway(self) -> int:
        """Number of messages under way."""
        return len(self._underway)

    @property
    def waiting(self) -> int:
        """Number of messages that wait."""
        return len(self._waiting)

    def add(self, message: Message, topic: str) -> Held | None:
        """Add a message that waits. If a copy of it is held, do not add it, and return the one that is held.

        All is the same in a copy but the message expiry.
        """
        key = _key_of(message)
        copy = None if key is None else self._by_key.get(key)
        if copy is not None and _are_copies(copy.message, message):
            return copy
        self._arrived += 1
        held = Held(self._arrived, message, topic, size_of(message), key)
        self.bytes += held.size
        heapq.heappush(self._waiting, (held.number, held))
        if key is not None:
            self._by_key.setdefault(key, held)
        return None

    def first(self) -> Held | None:
        """Return the message that has waited longest and can still be acknowledged. Remove those that cannot."""
        while self._waiting:
            held = self._waiting[0][1]
            if not held.is_stranded:
                return held
            heapq.heappop(self._waiting)
            self._forget(held)
        return None

    def send_first(self) -> None:
        """Move the message that :meth:`first` has returned to those under way."""
        self._underway.add(heapq.heappop(self._waiting)[1])

    def put_back(self, held: Held) -> None:
        """Move a message that is under way back to its place among those that wait."""
        self._underway.discard(held)
        held.flight = None
        heapq.heappush(self._waiting, (held.number, held))

    def remove(self, held: Held) -> None:
        """Remove a message that was under way."""
        self._underway.discard(held)
        self._forget(held)

    def remove_stranded(self) -> None:
        """Remove the waiting messages that cannot be acknowledged."""
        for _, held in self._waiting:
            if held.is_stranded:
                self._forget(held)
        self._waiting = [entry for entry in self._waiting if not entry[1].is_stranded]
        heapq.heapify(self._waiting)

    def _forget(self, held: Held) -> None:
        self.bytes -= held.size
        if held.key is not None and self._by_key.get(held.key) is held:
            del self._by_key[held.key]


def size_of(message: Message) -> int:
    """Return how many bytes a message has without its topic."""
    return len(message.payload) + len(message.properties.pack())


def _key_of(message: Message) -> _Key | None:
    """Return topic and id of a face; None if a message is not a face, so that its copies cannot be recognised."""
    number = message.properties.correlation_data
    if not number or message.qos == 0:
        return None
    return (message.topic, number) if message.properties.may_have("id", number) else None


def _are_copies(one: Message, other: Message) -> bool:
    """Return whether two messages with the same key are the same face."""
    number = (one.properties.correlation_data or b"").decode("ascii", "replace")
    if one.payload != other.payload or ("id", number) not in one.properties.user_properties:
        return False
    return _without_expiry(one) == _without_expiry(other)


def _without_expiry(message: Message) -> Properties:
    return replace(message.properties, message_expiry_seconds=None)
