"""A relay: publishes the messages that arrive on one session on another session.

A message is acknowledged to its broker only after the other broker has accepted it. Until then it is either under way
(published, not yet answered) or waiting (for the connection, for room on the link, or for a subscriber). What a relay
holds is limited by its bytes: beyond them, the source session receives nothing until there is room again. The receive
maximum of the source session limits the number of messages. So an outage fills the memory of neither process nor
broker, and a link that is fast and long is full.

A copy of a message that is still held is acknowledged and not forwarded: the one that is held arrives, or its publisher
sends it again.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from edge.forwarder.conflation import ConflatedMessages
from edge.forwarder.held import Held, HeldMessages, size_of
from edge.forwarder.postponement import Postponement
from edge.forwarder.rules import Rules
from edge.forwarder.subscriber import Subscriber
from wire import probe
from wire.errors import BadMessage, Refused
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, Message
from wire.mqtt.session import Session
from wire.process.congestion import CongestionWindow
from wire.process.lifecycle import Stop

MAX_UNACKNOWLEDGED = 2048
"""Maximum number of unacknowledged messages: 2,000 faces a second over a round trip of a second. QoS 0 messages beyond
it are dropped."""
MAX_HELD_BYTES = 12 << 20
"""Bytes of messages beyond which nothing is received: 300 Mbit/s over a round trip of 300 ms. QoS 0 messages beyond it
are dropped."""
TARGET_SECONDS = 0.5
"""How long a message may wait on the link behind others; see :class:`wire.process.congestion.CongestionWindow`."""

_log = structlog.get_logger("forwarder")


@dataclass(slots=True)
class Counts:
    """Messages of one direction since the start."""

    forwarded: int = 0
    """Accepted by the other broker, without conflated messages: a status that counts itself would always change."""
    refused: int = 0
    """Refused by the other broker, or not covered by the topic mapping."""
    dropped: int = 0
    """QoS 0 messages dropped because too many messages were unacknowledged."""
    copies: int = 0
    """Copies of a message that was still held. They were not forwarded."""


class Relay:
    """Forwards messages from one session to another."""

    def __init__(
        self,
        name: str,
        source: Callable[[], Session],
        target: Callable[[], Session],
        stop: Stop,
        rules: Rules,
        observe_seconds: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Set up the relay.

        Args:
            name: for the log.
            source: returns the session on which messages arrive.
            target: returns the session on which they are published.
            stop: is set if a callback fails.
            rules: how messages are treated.
            observe_seconds: called with the seconds from the arrival of a message to its acceptance.
        """
        self.counts = Counts()
        self.window = CongestionWindow(target_seconds=TARGET_SECONDS, max_messages=MAX_UNACKNOWLEDGED)
        self._name, self._source, self._target, self._stop = name, source, target, stop
        self._rules, self._observe_seconds = rules, observe_seconds
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._held = HeldMessages()
        self._conflated = ConflatedMessages()
        self._subscriber = Subscriber()
        self._is_pumping = False
        self._is_interrupted = False
        """A publication has failed; nothing more is published before the next :meth:`flush`."""
        self._has_logged_no_subscriber = False
        self._postponement = Postponement(name)

    @property
    def has_room(self) -> bool:
        """Whether another message can be held."""
        return self._held.bytes < MAX_HELD_BYTES

    @property
    def held_bytes(self) -> int:
        """Size of the messages that are under way or waiting."""
        return self._held.bytes

    @property
    def unacknowledged(self) -> int:
        """Number of messages that are under way or waiting."""
        with self._lock:
            return len(self._held) + len(self._conflated)

    def forward(self, message: Message) -> None:
        """Forward a message. Called in the source session's thread; does not block."""
        if self._stop:
            return  # it is not acknowledged, so the broker delivers it again
        try:
            topic = self._rules.map_topic(message.topic)
        except BadMessage as error:
            self._refuse(message, str(error))
            return
        if size_of(message) > self._rules.max_bytes:
            self._refuse(message, f"larger than {self._rules.max_bytes} bytes")
            return
        if self._take_over(message, topic):
            self._source().acknowledge(message)
        self._pump()

    def flush(self) -> None:
        """Publish what waits and may be published, except messages whose connection has ended.

        Their broker delivers those again.
        """
        with self._lock:
            had_room = self.has_room
            self._held.remove_stranded()
            self._is_interrupted = False
        self._look_for_more(had_room)
        self._pump()

    def restart(self) -> None:
        """Report that the other broker is connected again, perhaps over another link, and publish what waits."""
        with self._lock:
            self.window.restart()
            self._subscriber.forget()
        self.flush()

    def interrupt(self) -> None:
        """Report that the other broker is disconnected. Whoever had subscribed may be gone when it is back."""
        with self._lock:
            self._subscriber.forget()
            self._is_interrupted = True

    def drain(self, seconds: float) -> None:
        """Wait until no message is under way, at most ``seconds``."""
        with self._idle:
            self._idle.wait_for(lambda: self._held.underway == 0, seconds)

    def _take_over(self, message: Message, topic: str) -> bool:
        """Keep a message, and return whether it can be acknowledged already."""
        with self._lock:
            if self._rules.is_conflated(message):
                self.counts.dropped += not self._conflated.put(message)
                return True
            if message.qos == 0 and self._is_full_for(message):
                self.counts.dropped += 1
                _log.warning("QoS 0 message dropped", relay=self._name, topic=message.topic)
                return False
            held = self._held.add(message, topic)
            if held is None:
                return False
            self.counts.copies += 1
            if held.is_stranded:
                held.message = message  # acknowledged when the message has been forwarded
                return False
            return True

    def _is_full_for(self, message: Message) -> bool:
        return len(self._held) >= MAX_UNACKNOWLEDGED or self._held.bytes + size_of(message) > MAX_HELD_BYTES

    def _look_for_more(self, had_room: bool) -> None:
        """Let the source session receive again if there is room again."""
        if not had_room and self.has_room:
            self._source().look_again()

    def _pump(self) -> None:
        """Publish messages while there is room.

        One thread at a time publishes, in the order of arrival. A thread that finds another one at it returns: that
        one looks again before it ends.
        """
        with self._lock:
            if self._is_pumping:
                return
            self._is_pumping = True
        try:
            while (publish := self._next()) is not None:
                publish()
        except BaseException:
            self._is_pumping = False
            raise

    def _next(self) -> Callable[[], None] | None:
        """Return what to publish next; None if nothing may be published, and then the thread no longer pumps."""
        with self._lock:
            is_idle = not self._held.waiting and not len(self._conflated)
            if not (is_idle or self._is_interrupted or self._stop) and self._target().connected:
                if (status := self._conflated.take()) is not None:
                    return lambda: self._publish_conflated(status)
                if (held := self._held.first()) is not None:
                    if not self._rules.needs_subscriber(held.message) or self._subscriber.is_present:
                        size = len(held.message.payload)
                        if self.window.has_room(size):
                            self._held.send_first()
                            held.flight = self.window.send(size)
                            return lambda: self._publish_held(held)
                    elif self._subscriber.ask():
                        return lambda: self._publish_probe(held.topic)
            self._is_pumping = False
            return None

    def _publish_held(self, held: Held) -> None:
        message = held.message
        future = self._target().publish(
            held.topic, message.payload, qos=self._rules.qos_of(message), properties=message.properties
        )
        future.add_done_callback(self._stop.guard(lambda done: self._on_published(held, done)))

    def _publish_probe(self, topic: str) -> None:
        future = self._target().publish(topic, b"", qos=1, properties=probe.PROPERTIES)
        future.add_done_callback(self._stop.guard(lambda done: self._on_probed(topic, done)))

    def _publish_conflated(self, message: Message) -> None:
        topic = self._rules.map_topic(message.topic)
        future = self._target().publish(topic, message.payload, qos=1, properties=message.properties)
        future.add_done_callback(self._stop.guard(lambda done: self._on_conflated_published(message, done)))

    def _on_published(self, held: Held, done: "Future[int]") -> None:
        error = done.exception()
        is_unheard = (
            error is None and done.result() == NO_MATCHING_SUBSCRIBERS and self._rules.needs_subscriber(held.message)
        )
        is_forwarded = error is None and not is_unheard
        is_refused = isinstance(error, Refused) and not self._postponement.covers(held, error)
        with self._idle:
            had_room = self.has_room
            if held.flight is not None:
                (self.window.lose if error is not None else self.window.answer)(held.flight)
            if is_forwarded or is_refused:
                self._held.remove(held)
            else:
                self._held.put_back(held)
                self._is_interrupted |= error is not None
            if is_unheard:
                self._miss_subscriber(held.topic)
            if not self._held.underway:
                self._idle.notify_all()
        self._look_for_more(had_room)
        if is_forwarded:
            self._has_logged_no_subscriber = False
            self._postponement.note_accepted(held)
            self.counts.forwarded += 1
            self._rules.on_forwarded(held.message)
            self._source().acknowledge(held.message)
            self._observe_seconds(time.monotonic() - held.arrived_at)
        elif is_refused:
            self._refuse(held.message, str(error))
        self._pump()

    def _on_probed(self, topic: str, done: "Future[int]") -> None:
        error = done.exception()
        with self._lock:
            if isinstance(error, Refused):
                self._subscriber.found()  # probes are not permitted: the answer to a face tells
            elif error is not None:
                self._subscriber.forget()
                self._is_interrupted = True
            elif done.result() == NO_MATCHING_SUBSCRIBERS:
                self._miss_subscriber(topic)
            else:
                self._subscriber.found()
        self._pump()

    def _on_conflated_published(self, message: Message, done: "Future[int]") -> None:
        error = done.exception()
        if isinstance(error, Refused):
            self._refuse(message, str(error))
        elif error is not None:
            with self._lock:
                self._conflated.put_back(message)
                self._is_interrupted = True
        self._pump()

    def _miss_subscriber(self, topic: str) -> None:
        self._subscriber.missed()
        if not self._has_logged_no_subscriber:
            self._has_logged_no_subscriber = True
            _log.warning("no subscriber yet, waiting", relay=self._name, topic=topic)

    def _refuse(self, message: Message, reason: str) -> None:
        """Acknowledge a refused message, so it does not block those behind it. A face stays in its outbox."""
        self.counts.refused += 1
        face_id = (message.properties.correlation_data or b"")[:64].decode("ascii", "replace")
        _log.error("message refused", relay=self._name, topic=message.topic, reason=reason, id=face_id)
        self._source().acknowledge(message)
