"""The rules by which a relay treats messages."""

from collections.abc import Callable
from dataclasses import dataclass

from wire.mqtt.connection import Message

MAX_BYTES = 1 << 20
"""More than any broker of ours accepts."""


def _never(message: Message) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a relay does with each message of its direction."""

    map_topic: Callable[[str], str]
    """Returns the topic at the other broker. Raises BadMessage if there is none."""
    qos_of: Callable[[Message], int] = lambda message: 1
    """Returns the QoS at the other broker."""
    needs_subscriber: Callable[[Message], bool] = _never
    """Whether a message waits while nobody has subscribed to it."""
    is_conflated: Callable[[Message], bool] = _never
    """Whether only the newest message of its topic is forwarded."""
    max_bytes: int = MAX_BYTES
    """Bytes of payload and properties beyond which a message is refused."""
    on_forwarded: Callable[[Message], None] = lambda message: None
    """Called after the other broker has accepted a message."""
