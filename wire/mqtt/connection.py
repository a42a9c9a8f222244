"""One MQTT 5 connection: connects, subscribes, publishes, receives and acknowledges, until it ends.

A connection is never reused. When it ends, every unanswered publication fails with :class:`LinkLost`, and the broker
keeps every unacknowledged message and delivers it again later. The owner decides whether to connect again.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from wire.errors import ConfigurationError, LinkLost, NotTrusted, Refused
from wire.mqtt.client import Client
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.granted import Granted
from wire.mqtt.properties import NO_PROPERTIES, Properties
from wire.mqtt.reason_codes import (
    NO_MATCHING_SUBSCRIBERS,
    NO_SHARED_SUBSCRIPTIONS,
    PACKET_TOO_LARGE,
    SESSION_TAKEN_OVER,
    SUCCESS,
    TOPIC_NAME_INVALID,
)
from wire.mqtt.tls import tls_problem
from wire.process.rate_limit import RateLimit

__all__ = ["NO_MATCHING_SUBSCRIBERS", "SUCCESS", "Connection", "Message"]

_RETAINED_IF_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
_DISCONNECT_WITH_WILL = 0x04
_FIXED_HEADER_BYTES = 5
_MAX_TOPIC_BYTES = 65_535
_RESPONSE_SECONDS = 10.0
"""Maximum wait for CONNACK, for SUBACK and for UNSUBACK."""
_SHARED = "$share/"
_NOT_SHARED = "the broker has no shared subscriptions"


@dataclass(slots=True, eq=False)
class Message:
    """A received message. Acknowledge it with :meth:`Connection.acknowledge`."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    connection: "Connection" = field(repr=False)
    mid: int = field(repr=False)
    """The packet identifier."""
    is_acknowledged: bool = field(default=False, repr=False)
    """The owner has acknowledged it. The packet is sent once all earlier messages are acknowledged too."""


class Connection:
    """One connection to one broker."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: ConnectOptions,
        on_message: Callable[[Message], None],
        may_receive: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare a connection; :meth:`open` connects.

        Args:
            endpoint: the broker.
            options: how to connect.
            on_message: called for each message in the connection's thread; must not block.
            may_receive: whether there is room for more messages. While there is none, nothing is received once the
                connection is open. When there is room again, call :meth:`look_again`.

        Raises:
            ConfigurationError: the account at the broker cannot be read.
        """
        self.ended = threading.Event()
        self.reason = "closed"
        """Why the connection ended."""
        self.granted = Granted()
        """What the broker has announced in its CONNACK."""
        self._on_message = on_message
        self._lock = threading.Lock()
        self._responded = threading.Event()
        """Set on CONNACK, on SUBACK, on UNSUBACK and when the connection ends."""
        self._refusal: Refused | None = None
        self._may_receive = may_receive
        self._is_open = False
        self._unacknowledged: deque[Message] = deque()
        self._endpoint, self._options = endpoint, options
        self._account = account = endpoint.account()
        self._client_id = account.client_id(options.client_id) if account else options.client_id
        self._client = Client(
            self._client_id,
            on_received=self._on_received,
            on_thread_end=self._end,
            may_receive=lambda: not self._is_open or self._may_receive(),
            rate=_rate_limit(endpoint),
        )
        if account is not None:
            self._client.username_pw_set(account.username, account.password)
        if options.will is not None:
            will = options.will
            self._client.will_set(will.topic, will.payload, 1, will.retain, will.paho_properties())
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = lambda *_: self._responded.set()
        self._client.on_disconnect = self._on_disconnect

    def open(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        """Connect and subscribe. Return when the broker has granted all subscriptions.

        Args:
            subscriptions: topic filters, each with its maximum QoS.

        Raises:
            LinkLost: the broker cannot be reached or does not answer, or a TLS file of this client cannot be read.
            NotTrusted: one side rejected the certificate of the other.
            Refused: the broker refused the connection or a subscription.
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
        self._await_response()
        if subscriptions:
            self.subscribe(subscriptions)
        self._is_open = True

    def subscribe(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        """Subscribe. Return when the broker has granted all subscriptions.

        Raises:
            LinkLost: the connection has ended, or the broker does not answer.
            Refused: the broker refused a subscription. The connection ends.
        """
        if not self.granted.has_shared and any(topic.startswith(_SHARED) for topic, _ in subscriptions):
            self._client.disconnect()
            raise Refused(NO_SHARED_SUBSCRIPTIONS, self._with_hint(NO_SHARED_SUBSCRIPTIONS, _NOT_SHARED))
        self._responded.clear()
        options = partial(SubscribeOptions, retainAsPublished=True, retainHandling=_RETAINED_IF_NEW)
        self._client.subscribe([(topic, options(qos=min(qos, self.granted.max_qos))) for topic, qos in subscriptions])
        self._await_response()

    def unsubscribe(self, topics: Sequence[str], seconds: float = _RESPONSE_SECONDS) -> bool:
        """Unsubscribe, and return whether the broker has answered within ``seconds``. False if it is not open yet.

        All messages that it had sent until then have been received before this returns.
        """
        if not self._is_open:
            return False
        self._responded.clear()
        if not self.ended.is_set():
            self._client.unsubscribe(list(topics))
            self._responded.wait(seconds)
        return self._responded.is_set() and not self.ended.is_set()

    def look_again(self) -> None:
        """Report that there may be room for more messages."""
        self._client.wake()

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> "Future[int]":
        """Publish a message.

        Returns:
            A future. Its result is the reason code with which the broker accepted the message (:data:`SUCCESS` or
            :data:`NO_MATCHING_SUBSCRIBERS`); its exception is :class:`Refused` or :class:`LinkLost`. At QoS 0 the
            result is SUCCESS once the message is sent. Above the broker's maximum QoS, the message has that QoS.
            Callbacks run in the connection's thread and must not block.
        """
        try:
            name = topic.encode()
        except UnicodeEncodeError:
            return _refused(TOPIC_NAME_INVALID, f"topic {topic!r}: expected UTF-8")
        packed = properties.pack()
        size = _FIXED_HEADER_BYTES + 4 + len(name) + len(packed) + len(payload)
        if self.granted.max_packet_bytes and size > self.granted.max_packet_bytes:
            return _refused(PACKET_TOO_LARGE, f"packet too large: {size} bytes")
        if b"+" in name or b"#" in name or not 0 < len(name) <= _MAX_TOPIC_BYTES:
            return _refused(TOPIC_NAME_INVALID, f"topic {topic!r}: expected 1 to {_MAX_TOPIC_BYTES} bytes, no + and #")
        return self._client.send_message(name, payload, min(qos, self.granted.max_qos), retain, packed)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge ``message``. Acknowledgements are sent in the order in which the messages arrived.

        If the connection has ended, this does nothing, and the broker delivers the message again.
        """
        with self._lock:
            message.is_acknowledged = True
            while self._unacknowledged and self._unacknowledged[0].is_acknowledged:
                first = self._unacknowledged.popleft()
                self._client.acknowledge(first.mid, first.qos)

    def close(self, seconds: float, session_expiry_seconds: int | None = None) -> None:
        """Send what is queued, disconnect so that the will is published, and wait up to ``seconds`` for the end.

        Args:
            seconds: how long to wait.
            session_expiry_seconds: how long the broker keeps the session; None: as long as it was told to at first.
        """
        reason_code = ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL)
        properties = None
        if session_expiry_seconds is not None and self._options.session_expiry_seconds:
            properties = PahoProperties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = session_expiry_seconds
        self._client.disconnect(reason_code if self._options.will else None, properties)
        self.ended.wait(seconds)

    def abort(self) -> None:
        """Close the connection without a DISCONNECT packet, as if this process had been killed."""
        self._client.abort()
        self.ended.wait(_RESPONSE_SECONDS)

    def _await_response(self) -> None:
        received = -1
        while not self._responded.wait(_RESPONSE_SECONDS):
            if received != self._client.liveness.received:
                # On a slow link, the response is behind messages that the broker delivers again.
                received = self._client.liveness.received
                continue
            self._end("no answer")
            self._client.disconnect()
            raise LinkLost(f"no answer within {_RESPONSE_SECONDS:g} s")
        if self._refusal is not None:
            self._client.disconnect()
            raise self._refusal
        if self.ended.is_set():
            raise (NotTrusted if tls_problem(self._client.tls_error) else LinkLost)(self.reason)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            user = f", user '{self._account.username}'" if self._account else ""
            self._refusal = Refused(reason.value, self._with_hint(reason.value, f"connection refused: {reason}{user}"))
        else:
            self.granted = Granted.of(properties, is_session_present=bool(flags.session_present))
            self._client.publications.receive_maximum = self.granted.receive_maximum
        self._responded.set()

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if refused is not None:
            self._refusal = Refused(refused.value, self._with_hint(refused.value, f"subscription refused: {refused}"))
        self._responded.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        brokers_reason = None
        if flags.is_disconnect_packet_from_server:
            taken_over = f"another client has connected with the client id '{self._client_id}'"
            brokers_reason = taken_over if reason.value == SESSION_TAKEN_OVER else str(reason)
            brokers_reason = self._with_hint(reason.value, brokers_reason)
        our_reason = self._client.closed_because.value if self._client.closed_because else "the connection was lost"
        self._end(brokers_reason or tls_problem(self._client.tls_error) or our_reason)

    def _with_hint(self, reason_code: int, text: str) -> str:
        hint = self._options.hints.get(reason_code)
        return f"{text}: {hint}" if hint else text

    def _on_received(
        self, mid: int, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties
    ) -> None:
        message = Message(topic, payload, qos, retain, properties, self, mid)
        if qos:
            with self._lock:
                self._unacknowledged.append(message)
        self._on_message(message)

    def _end(self, reason: str) -> None:
        if self.ended.is_set():
            return
        self.reason = reason
        self._client.publications.end(reason)  # before the owner learns of the end, so that it knows what to send again
        self.ended.set()
        with self._lock:
            self._unacknowledged.clear()  # the owner has them, too, and may let them go
        self._responded.set()


def _rate_limit(endpoint: Endpoint) -> RateLimit | None:
    if endpoint.max_messages_per_second is None and endpoint.max_bytes_per_second is None:
        return None
    return RateLimit(endpoint.max_messages_per_second, endpoint.max_bytes_per_second)


def _refused(reason_code: int, text: str) -> "Future[int]":
    future: Future[int] = Future()
    future.set_exception(Refused(reason_code, text))
    return future
