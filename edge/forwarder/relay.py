"""One direction of the forwarder: what arrives on one session is published on the other.

A message is acknowledged where it came from only after the other side has taken it. Until then it is *under way*
(published, no answer yet) or *waiting* (for the link, or for a subscriber). How many there can be is bounded by the
receive maximum of the session on which they arrive, so an outage fills the memory of neither process nor broker. (Under
a flood, by what the broker may queue: see ``wire.mqtt.connection.Terms``.)
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
"""Messages held at once, of up to 128 KiB each. QoS 0 knows no back-pressure: beyond this such a message is dropped."""

_log = structlog.get_logger("forwarder")


@dataclass(slots=True)
class Counts:
    """What has become of the messages of one direction since the start."""

    forwarded: int = 0
    refused: int = 0
    """By the other side, or by the mapping rule."""
    dropped: int = 0
    """At QoS 0, while the link was down."""


class Relay:
    """Takes messages from one session and publishes them on another."""

    def __init__(
        self,
        name: str,
        source: Callable[[], Session],
        target: Callable[[], Session],
        stop: Stop,
        *,
        map_topic: Callable[[str], str],
        qos_of: Callable[[Message], int],
        needs_subscriber: Callable[[Message], bool] = lambda message: False,
        on_forwarded: Callable[[Message], None] = lambda message: None,
    ) -> None:
        """Set up one direction.

        Args:
            name: what the log calls it.
            source: where messages come from and are acknowledged.
            target: where they are published.
            stop: is told of a defect.
            map_topic: the topic on the other side; may raise BadMessage.
            qos_of: the QoS on the other side.
            needs_subscriber: whether «nobody has subscribed» means «not yet»: try again.
            on_forwarded: called once the other side has taken a message.
        """
        self.counts = Counts()
        self._name, self._source, self._target, self._stop = name, source, target, stop
        self._map_topic, self._qos_of = map_topic, qos_of
        self._needs_subscriber, self._on_forwarded = needs_subscriber, on_forwarded
        self._lock = threading.Lock()
        self._underway = 0
        self._waiting: list[Message] = []
        self._no_subscriber_logged = False
        self.idle = threading.Condition(self._lock)

    @property
    def held(self) -> int:
        """How many messages are under way or waiting."""
        with self._lock:
            return self._underway + len(self._waiting)

    def take(self, message: Message) -> None:
        """Carry one message over. Called in the source's thread; never blocks."""
        if self._stop:
            return  # not acknowledged: the broker delivers it again
        if message.qos == 0 and self.held >= MAX_UNACKNOWLEDGED:
            self.counts.dropped += 1
            _log.warning("dropped: QoS 0 and no way onward", relay=self._name, topic=message.topic)
            return
        self._publish(message)

    def flush(self) -> None:
        """Publish what waits. What came on a connection that has ended is left to its broker to deliver again."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for message in waiting:
            if message.qos == 0 or not message.connection.ended.is_set():
                self._publish(message)

    def drain(self, seconds: float) -> None:
        """Wait until nothing is under way, at most ``seconds``."""
        with self.idle:
            self.idle.wait_for(lambda: self._underway == 0, seconds)

    def _publish(self, message: Message) -> None:
        try:
            topic = self._map_topic(message.topic)
        except BadMessage as error:
            self._refuse(message, str(error))
            return
        with self._lock:
            self._underway += 1
        self._target().publish(
            topic,
            message.payload,
            qos=self._qos_of(message),
            properties=message.properties,
        ).add_done_callback(self._stop.guard(lambda answer: self._answered(message, answer)))

    def _answered(self, message: Message, answer: "Future[int]") -> None:
        error = answer.exception()
        if isinstance(error, Refused):
            self._refuse(message, str(error))
        elif error is None and not (answer.result() == NO_MATCHING_SUBSCRIBERS and self._needs_subscriber(message)):
            self._no_subscriber_logged = False
            self.counts.forwarded += 1
            self._on_forwarded(message)
            self._source().acknowledge(message)
        else:
            if error is None and not self._no_subscriber_logged:
                self._no_subscriber_logged = True
                _log.warning("nobody has subscribed yet, trying again", relay=self._name, topic=message.topic)
            with self._lock:
                self._waiting.append(message)
        with self.idle:
            self._underway -= 1
            if self._underway == 0:
                self.idle.notify_all()

    def _refuse(self, message: Message, reason: str) -> None:
        """Set a message aside so that it does not stop those behind it; a face stays in its detector's outbox."""
        self.counts.refused += 1
        face = (message.properties.correlation_data or b"").decode("ascii", "replace")
        _log.error("refused", relay=self._name, topic=message.topic, reason=reason, id=face)
        self._source().acknowledge(message)
