"""The messages that a relay holds: under way to the other broker, or waiting, in the order of arrival."""

import bisect
from collections.abc import Callable, Iterator
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
    flight: Flight | None = field(default=None)
    """While it is under way, if a window bounds it."""

    @property
    def is_stranded(self) -> bool:
        """Whether its connection has ended, so that it cannot be acknowledged: its broker delivers it again."""
        return self.message.qos > 0 and self.message.connection.ended.is_set()


class HeldMessages:
    """Messages under way and waiting. Not thread-safe: the relay holds a lock."""

    def __init__(self) -> None:
        self._waiting: list[Held] = []
        self._underway: set[Held] = set()
        self._by_key: dict[_Key, Held] = {}
        self._arrived = 0

    def __len__(self) -> int:
        """Return the number of messages under way and waiting."""
        return len(self._waiting) + len(self._underway)

    def __iter__(self) -> Iterator[Held]:
        """Iterate over the waiting messages in the order of arrival."""
        return iter(self._waiting)

    @property
    def underway(self) -> int:
        """Number of messages under way."""
        return len(self._underway)

    def find_copy(self, message: Message) -> Held | None:
        """Return the held message of which ``message`` is a copy: all is the same but the message expiry."""
        key = _key_of(message)
        held = None if key is None else self._by_key.get(key)
        return held if held is not None and _contents_of(held.message) == _contents_of(message) else None

    def add(self, message: Message, topic: str) -> None:
        """Add a message that waits."""
        self._arrived += 1
        held = Held(self._arrived, message, topic)
        self._waiting.append(held)
        key = _key_of(message)
        if key is not None:
            self._by_key.setdefault(key, held)

    def first(self) -> Held | None:
        """Return the message that has waited longest."""
        return self._waiting[0] if self._waiting else None

    def send(self, held: Held) -> None:
        """Move a waiting message to those under way."""
        self._waiting.remove(held)
        self._underway.add(held)

    def put_back(self, held: Held) -> None:
        """Move a message that is under way back to its place among those that wait."""
        self._underway.discard(held)
        held.flight = None
        bisect.insort(self._waiting, held, key=lambda other: other.number)

    def remove(self, held: Held) -> None:
        """Remove a message that was under way."""
        self._underway.discard(held)
        self._forget(held)

    def remove_waiting(self, is_removed: Callable[[Held], bool]) -> None:
        """Remove the waiting messages for which ``is_removed`` is true."""
        for held in filter(is_removed, self._waiting):
            self._forget(held)
        self._waiting = [held for held in self._waiting if not is_removed(held)]

    def _forget(self, held: Held) -> None:
        key = _key_of(held.message)
        if key is not None and self._by_key.get(key) is held:
            del self._by_key[key]


def _key_of(message: Message) -> _Key | None:
    """Return topic and id of a face; None if a message is not a face, so that its copies cannot be recognised."""
    number = message.properties.correlation_data
    if not number or message.qos == 0:
        return None
    is_face = ("id", number.decode("ascii", "replace")) in message.properties.user_properties
    return (message.topic, number) if is_face else None


def _contents_of(message: Message) -> tuple[bytes, Properties]:
    return message.payload, replace(message.properties, message_expiry_seconds=None)
