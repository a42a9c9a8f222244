"""One MQTT 5 connection, from CONNECT to its end: what is published on it, what arrives, what is acknowledged.

A connection is never reused. When it ends, every publication under way fails with :class:`LinkLost` and every
message not yet acknowledged is the broker's to deliver again. What to do then is the owner's to decide.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from wire.errors import ConfigurationError, LinkLost, NotTrusted, Refused
from wire.mqtt.client import REFUSED_FROM, Client, reason_text
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import NO_PROPERTIES, Properties
from wire.mqtt.tls import tls_problem

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
"""The broker accepts a message that nobody has subscribed to, and forgets it."""

_RETAINED_IF_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
_DISCONNECT_WITH_WILL = 0x04
_PACKET_TOO_LARGE = 0x95
_FIXED_HEADER_BYTES = 5
_ANSWER_SECONDS = 10.0
"""How long CONNACK and SUBACK may take."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection ends in whatever way."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What a connection is opened with."""

    client_id: str
    will: Will | None = None
    receive_maximum: int = 64
    """How many messages of QoS 1 and 2 the broker may have sent that are not yet acknowledged.

    Mosquitto 2.0 keeps to it until the first acknowledgement, and then sends as many again for each one: under a flood,
    what is held is bounded by the broker's ``max_queued_bytes``.
    """
    session_expiry_seconds: int = 0
    """How long the broker keeps subscriptions and messages for a client that is away."""
    keepalive_seconds: int = 10


@dataclass(slots=True, eq=False)
class Message:
    """A message as it arrived, to be acknowledged by :meth:`Connection.acknowledge`."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    connection: "Connection" = field(repr=False)
    mid: int = field(repr=False)
    done: bool = field(default=False, repr=False)


class Connection:
    """One connection to one broker."""

    def __init__(self, link: Endpoint, options: ConnectOptions, on_message: Callable[[Message], None]) -> None:
        self.ended = threading.Event()
        self.reason = "closed"
        self._arrivals = 0
        self._on_message = on_message
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._refusal: Refused | None = None
        self._maximum_packet_bytes = 0
        self._underway: dict[int, Future[int]] = {}
        self._early: dict[int, int] = {}
        self._unacknowledged: deque[Message] = deque()
        self._endpoint, self._options = link, options
        self._client = self._make_client()

    def open(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        """Connect and subscribe; returns once the broker has granted it all.

        Args:
            subscriptions: topic filters, each with the highest QoS wanted.

        Raises:
            LinkLost: the broker is out of reach, does not answer, or our own files for TLS cannot be read.
            NotTrusted: one side does not take the other's certificate.
            Refused: it does not let us in, or not subscribe.
        """
        properties = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._options.receive_maximum
        properties.SessionExpiryInterval = self._options.session_expiry_seconds
        try:
            if self._endpoint.tls is not None:
                self._client.tls_set_context(self._endpoint.tls.context())
            self._client.connect(
                self._endpoint.host,
                self._endpoint.port,
                keepalive=self._options.keepalive_seconds,
                clean_start=self._options.session_expiry_seconds == 0,
                properties=properties,
            )
        except (OSError, ValueError, ConfigurationError) as error:
            problem = tls_problem(error)
            self._end(problem or str(error))
            raise (NotTrusted if problem else LinkLost)(self.reason) from error
        self._client.loop_start()
        self._await_answer()
        if subscriptions:
            self._answered.clear()
            self._client.subscribe(
                [
                    (topic, SubscribeOptions(qos=qos, retainAsPublished=True, retainHandling=_RETAINED_IF_NEW))
                    for topic, qos in subscriptions
                ]
            )
            self._await_answer()

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> "Future[int]":
        """Publish a message.

        Returns:
            What comes of it: the broker's reason code where it took the message (:data:`SUCCESS` or
            :data:`NO_MATCHING_SUBSCRIBERS`); else :class:`Refused` or :class:`LinkLost`. At QoS 0: SUCCESS once
            it is on its way. Callbacks run in the connection's own thread and must not block.
        """
        future: Future[int] = Future()
        packed = properties.pack()
        size = _FIXED_HEADER_BYTES + 4 + len(topic.encode("utf-8", "surrogateescape")) + len(packed) + len(payload)
        if self._maximum_packet_bytes and size > self._maximum_packet_bytes:
            future.set_exception(Refused(_PACKET_TOO_LARGE, f"packet too large: {size} bytes"))
            return future
        ready: Any = _Packed(packed)
        try:
            info = self._client.publish(topic, payload, qos, retain, ready)
        except ValueError as error:
            future.set_exception(Refused(0x90, f"topic {topic!r}: {error}"))
            return future
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or self.ended.is_set():
            future.set_exception(LinkLost(self.reason))
            return future
        with self._lock:
            reason_code = self._early.pop(info.mid, None)
            if reason_code is None:
                self._underway[info.mid] = future
        if reason_code is not None:
            _settle(future, reason_code)
        elif self.ended.is_set():
            self._fail_underway()
        return future

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that ``message`` is taken care of. Acknowledgements leave in the order of arrival.

        Nothing happens where the connection has ended: the broker will deliver the message again.
        """
        with self._lock:
            message.done = True
            while self._unacknowledged and self._unacknowledged[0].done:
                first = self._unacknowledged.popleft()
                self._client.acknowledge(first.mid, first.qos)

    def close(self, seconds: float) -> None:
        """Send what is queued, say goodbye so that the will is published, and wait for the end of it."""
        goodbye = ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL)
        self._client.disconnect(goodbye if self._options.will else None)
        self.ended.wait(seconds)

    def _make_client(self) -> Client:
        client = Client(
            self._options.client_id,
            on_arrival=self._arrived,
            on_answer=self._on_answer,
            on_thread_end=self._end,
        )
        if self._endpoint.username is not None:
            client.username_pw_set(self._endpoint.username, self._endpoint.password)
        if self._options.will is not None:
            client.will_set(
                self._options.will.topic, self._options.will.payload, qos=1, retain=self._options.will.retain
            )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        return client

    def _await_answer(self) -> None:
        seen = -1
        while not self._answered.wait(_ANSWER_SECONDS):
            if seen != self._arrivals:  # a slow link: the answer is behind messages that the broker sends again
                seen = self._arrivals
                continue
            self._end("no answer")
            self._client.disconnect()
            raise LinkLost(f"no answer within {_ANSWER_SECONDS:g} s")
        if self._refusal is not None:
            self._client.disconnect()
            raise self._refusal
        if self.ended.is_set():
            raise (NotTrusted if self._refused_by_tls() else LinkLost)(self.reason)

    def _refused_by_tls(self) -> str | None:
        """Return what the broker complained of after the handshake, if it did."""
        error = self._client.tls_error
        return None if error is None else tls_problem(error)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._refusal = Refused(reason.value, f"not let in: {reason}")
        else:
            self._maximum_packet_bytes = getattr(properties, "MaximumPacketSize", 0)
            self._client.limit_underway(getattr(properties, "ReceiveMaximum", 65535))
        self._answered.set()

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if refused is not None:
            self._refusal = Refused(refused.value, f"subscription refused: {refused}")
        self._answered.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        told = str(reason) if flags.is_disconnect_packet_from_server else None
        self._end(told or self._refused_by_tls() or "the connection was lost")

    def _arrived(self, mid: int, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties) -> None:
        self._arrivals += 1
        message = Message(topic, payload, qos, retain, properties, self, mid)
        if qos:
            with self._lock:
                self._unacknowledged.append(message)
        self._on_message(message)

    def _on_answer(self, mid: int, reason_code: int) -> None:
        with self._lock:
            future = self._underway.pop(mid, None)
            if future is None:
                self._early[mid] = reason_code
        if future is not None:
            _settle(future, reason_code)

    def _end(self, reason: str) -> None:
        if self.ended.is_set():
            return
        self.reason = reason
        self._fail_underway()  # before the owner hears of the end, so that it knows what to send again
        self.ended.set()
        self._fail_underway()  # what was published in between
        self._answered.set()

    def _fail_underway(self) -> None:
        with self._lock:
            lost = list(self._underway.values())
            self._underway.clear()
        for future in lost:
            future.set_exception(LinkLost(self.reason))


@dataclass(frozen=True, slots=True)
class _Packed:
    """Properties as bytes, in the one shape in which paho asks for them."""

    packed: bytes

    def pack(self) -> bytes:
        return self.packed


def _settle(future: "Future[int]", reason_code: int) -> None:
    if reason_code >= REFUSED_FROM:
        future.set_exception(Refused(reason_code, reason_text(reason_code)))
    else:
        future.set_result(reason_code)
