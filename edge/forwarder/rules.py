"""The rules by which a relay treats messages."""

from collections.abc import Callable
from dataclasses import dataclass

from wire.mqtt.connection import Message


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
    on_forwarded: Callable[[Message], None] = lambda message: None
    """Called after the other broker has accepted a message."""
