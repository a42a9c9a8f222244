"""A relay: publishes the messages that arrive on one session on another session.

A message is acknowledged to its broker only after the other broker has accepted it. Until then it is either under way
(published, not yet answered) or waiting (for the connection, or for a subscriber). The receive maximum of the source
session limits the number of unacknowledged messages, so an outage fills the memory of neither process nor broker.
(:class:`wire.mqtt.connection.ConnectOptions` describes what limits them under a flood.)
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from wire.errors import BadMessage, Refused
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, Message
from wire.mqtt.session import Session
from wire.process.lifecycle import Stop

MAX_UNACKNOWLEDGED = 64
"""Maximum number of unacknowledged messages, of up to 128 KiB each. QoS 0 messages beyond it are dropped."""

_log = structlog.get_logger("forwarder")


@dataclass(slots=True)
class Counts:
    """Messages of one direction since the start."""

    forwarded: int = 0
    """Accepted by the other broker."""
    refused: int = 0
    """Refused by the other broker, or not covered by the topic mapping."""
    dropped: int = 0
    """QoS 0 messages dropped because too many messages were unacknowledged."""


class Relay:
    """Forwards messages from one session to another."""

    def __init__(
        self,
        name: str,
        source: Callable[[], Session],
        target: Callable[[], Session],
        stop: Stop,
        *,
        map_topic: Callable[[str], str],
        qos_of: Callable[[Message], int] = lambda message: 1,
        needs_subscriber: Callable[[Message], bool] = lambda message: False,
        on_forwarded: Callable[[Message], None] = lambda message: None,
    ) -> None:
        """Set up the relay.

        ``map_topic`` and ``qos_of`` give the topic and the QoS on the other side; ``map_topic`` raises BadMessage if
        there is no topic. A message that ``needs_subscriber`` is retried while nobody has subscribed to it.
        ``on_forwarded`` is called after the other broker has accepted a message. ``stop`` is set if a callback fails.
        """
        self.counts = Counts()
        self._name, self._source, self._target, self._stop = name, source, target, stop
        self._map_topic, self._qos_of = map_topic, qos_of
        self._needs_subscriber, self._on_forwarded = needs_subscriber, on_forwarded
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._underway = 0
        self._waiting: list[Message] = []
        self._has_logged_no_subscriber = False

    @property
    def unacknowledged(self) -> int:
        """Number of messages that are under way or waiting."""
        with self._lock:
            return self._underway + len(self._waiting)

    def forward(self, message: Message) -> None:
        """Forward a message. Called in the source session's thread; does not block."""
        if self._stop:
            return  # it is not acknowledged, so the broker delivers it again
        if message.qos == 0 and self.unacknowledged >= MAX_UNACKNOWLEDGED:
            self.counts.dropped += 1
            _log.warning("QoS 0 message dropped", relay=self._name, topic=message.topic)
            return
        self._publish(message)

    def flush(self) -> None:
        """Publish the waiting messages, except those whose connection has ended: their broker delivers them again."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for message in waiting:
            if message.qos == 0 or not message.connection.ended.is_set():
                self._publish(message)

    def drain(self, seconds: float) -> None:
        """Wait until no message is under way, at most ``seconds``."""
        with self._idle:
            self._idle.wait_for(lambda: self._underway == 0, seconds)

    def _publish(self, message: Message) -> None:
        try:
            topic = self._map_topic(message.topic)
        except BadMessage as error:
            self._refuse(message, str(error))
            return
        with self._lock:
            self._underway += 1
        future = self._target().publish(
            topic, message.payload, qos=self._qos_of(message), properties=message.properties
        )
        future.add_done_callback(self._stop.guard(lambda done: self._on_published(message, done)))

    def _on_published(self, message: Message, done: "Future[int]") -> None:
        error = done.exception()
        if isinstance(error, Refused):
            self._refuse(message, str(error))
        elif error is None and not (done.result() == NO_MATCHING_SUBSCRIBERS and self._needs_subscriber(message)):
            self._has_logged_no_subscriber = False
            self.counts.forwarded += 1
            self._on_forwarded(message)
            self._source().acknowledge(message)
        else:
            if error is None and not self._has_logged_no_subscriber:
                self._has_logged_no_subscriber = True
                _log.warning("no subscriber yet, retrying", relay=self._name, topic=message.topic)
            with self._lock:
                self._waiting.append(message)
        with self._idle:
            self._underway -= 1
            self._idle.notify_all()

    def _refuse(self, message: Message, reason: str) -> None:
        """Acknowledge a refused message, so it does not block those behind it. A face stays in its outbox."""
        self.counts.refused += 1
        face_id = (message.properties.correlation_data or b"").decode("ascii", "replace")
        _log.error("message refused", relay=self._name, topic=message.topic, reason=reason, id=face_id)
        self._source().acknowledge(message)
