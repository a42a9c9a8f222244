"""Conflation of status messages: of several that wait under one topic, only the newest is forwarded.

A status is acknowledged when it arrives: only the newest one matters, and it is published again at regular intervals.
"""

import time
from collections import deque
from collections.abc import Callable

from wire.mqtt.connection import Message

BURST = 2
"""Number of messages of one topic that may be forwarded within :data:`BURST_SECONDS`, so that they are a small part of
a thin link. A change is still forwarded at once if the last one was long ago."""
BURST_SECONDS = 60.0
MAX_TOPICS = 64
"""Maximum number of topics. Messages of further topics are dropped while so many wait."""


class ConflatedMessages:
    """The newest message of each topic that waits. Not thread-safe: the relay holds a lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, Message] = {}
        self._sent_at: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return len(self._waiting)

    def put(self, message: Message) -> bool:
        """Add a message, in the place of an older one with its topic. Return False if there are too many topics."""
        if message.topic not in self._waiting and len(self._waiting) >= MAX_TOPICS:
            return False
        self._waiting[message.topic] = message
        return True

    def take(self) -> Message | None:
        """Remove and return the message that may be sent first; None if there is none."""
        if not self._waiting:
            return None
        now = self._clock()
        for topic, times in list(self._sent_at.items()):
            if now - times[-1] > BURST_SECONDS:
                del self._sent_at[topic]
        for topic, message in self._waiting.items():
            times = self._sent_at.setdefault(topic, deque(maxlen=BURST))
            if len(times) < BURST or now - times[0] >= BURST_SECONDS:
                times.append(now)
                del self._waiting[topic]
                return message
        return None

    def put_back(self, message: Message) -> None:
        """Return a message that could not be sent, unless a newer one has arrived since."""
        self._waiting.setdefault(message.topic, message)
