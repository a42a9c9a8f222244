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
from types import SimpleNamespace
from typing import Any

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from wire.errors import ConfigurationError, LinkLost, NotTrusted, Refused
from wire.mqtt.client import MIN_FAILURE_CODE, Client, reason_text
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import NO_PROPERTIES, Properties
from wire.mqtt.tls import tls_problem

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
"""The broker accepted a message that has no subscriber, and discarded it."""

_RETAINED_IF_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
_DISCONNECT_WITH_WILL = 0x04
_TOPIC_NAME_INVALID = 0x90
_PACKET_TOO_LARGE = 0x95
_FIXED_HEADER_BYTES = 5
_RESPONSE_SECONDS = 10.0
"""Maximum wait for CONNACK and for SUBACK."""


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

    def __init__(self, endpoint: Endpoint, options: ConnectOptions, on_message: Callable[[Message], None]) -> None:
        """Prepare a connection; :meth:`open` connects.

        Raises:
            ConfigurationError: the account at the broker cannot be read.
        """
        self.ended = threading.Event()
        self.reason = "closed"
        """Why the connection ended."""
        self._on_message = on_message
        self._lock = threading.Lock()
        self._responded = threading.Event()
        """Set on CONNACK, on SUBACK and when the connection ends."""
        self._refusal: Refused | None = None
        self._max_packet_bytes = 0
        self._inflight: dict[int, Future[int]] = {}
        self._early_answers: dict[int, int] = {}
        """Answers that arrived before ``publish`` of paho had returned the packet identifier."""
        self._unacknowledged: deque[Message] = deque()
        self._endpoint, self._options = endpoint, options
        self._account = account = endpoint.account()
        self._client = Client(
            account.client_id(options.client_id) if account else options.client_id,
            on_received=self._on_received,
            on_answer=self._on_answer,
            on_thread_end=self._end,
        )
        if account is not None:
            self._client.username_pw_set(account.username, account.password)
        if options.will is not None:
            self._client.will_set(options.will.topic, options.will.payload, qos=1, retain=options.will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
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
            self._responded.clear()
            options = partial(SubscribeOptions, retainAsPublished=True, retainHandling=_RETAINED_IF_NEW)
            self._client.subscribe([(topic, options(qos=qos)) for topic, qos in subscriptions])
            self._await_response()

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> "Future[int]":
        """Publish a message.

        Returns:
            A future. Its result is the reason code with which the broker accepted the message (:data:`SUCCESS` or
            :data:`NO_MATCHING_SUBSCRIBERS`); its exception is :class:`Refused` or :class:`LinkLost`. At QoS 0 the
            result is SUCCESS once the message is sent. Callbacks run in the connection's thread and must not block.
        """
        future: Future[int] = Future()
        packed = properties.pack()
        size = _FIXED_HEADER_BYTES + 4 + len(topic.encode("utf-8", "surrogateescape")) + len(packed) + len(payload)
        if self._max_packet_bytes and size > self._max_packet_bytes:
            future.set_exception(Refused(_PACKET_TOO_LARGE, f"packet too large: {size} bytes"))
            return future
        packed_properties: Any = SimpleNamespace(pack=lambda: packed)  # paho only calls this method
        try:
            info = self._client.publish(topic, payload, qos, retain, packed_properties)
        except ValueError as error:
            future.set_exception(Refused(_TOPIC_NAME_INVALID, f"topic {topic!r}: {error}"))
            return future
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or self.ended.is_set():
            future.set_exception(LinkLost(self.reason))
            return future
        with self._lock:
            reason_code = self._early_answers.pop(info.mid, None)
            if reason_code is None:
                self._inflight[info.mid] = future
        if reason_code is not None:
            _resolve(future, reason_code)
        elif self.ended.is_set():
            self._fail_inflight()
        return future

    def acknowledge(self, message: Message) -> None:
        """Acknowledge ``message``. Acknowledgements are sent in the order in which the messages arrived.

        If the connection has ended, this does nothing, and the broker delivers the message again.
        """
        with self._lock:
            message.is_acknowledged = True
            while self._unacknowledged and self._unacknowledged[0].is_acknowledged:
                first = self._unacknowledged.popleft()
                self._client.acknowledge(first.mid, first.qos)

    def close(self, seconds: float) -> None:
        """Send what is queued, disconnect so that the will is published, and wait up to ``seconds`` for the end."""
        reason_code = ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL)
        self._client.disconnect(reason_code if self._options.will else None)
        self.ended.wait(seconds)

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
            self._refusal = Refused(reason.value, f"connection refused: {reason}{user}")
        else:
            self._max_packet_bytes = getattr(properties, "MaximumPacketSize", 0)
            self._client.set_max_inflight(getattr(properties, "ReceiveMaximum", 65535))
        self._responded.set()

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if refused is not None:
            self._refusal = Refused(refused.value, f"subscription refused: {refused}")
        self._responded.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        brokers_reason = str(reason) if flags.is_disconnect_packet_from_server else None
        our_reason = "no answer, and no progress" if self._client.is_dead else "the connection was lost"
        self._end(brokers_reason or tls_problem(self._client.tls_error) or our_reason)

    def _on_received(
        self, mid: int, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties
    ) -> None:
        message = Message(topic, payload, qos, retain, properties, self, mid)
        if qos:
            with self._lock:
                self._unacknowledged.append(message)
        self._on_message(message)

    def _on_answer(self, mid: int, reason_code: int) -> None:
        with self._lock:
            future = self._inflight.pop(mid, None)
            if future is None:
                self._early_answers[mid] = reason_code
        if future is not None:
            _resolve(future, reason_code)

    def _end(self, reason: str) -> None:
        if self.ended.is_set():
            return
        self.reason = reason
        self._fail_inflight()  # before the owner learns of the end, so that it knows what to send again
        self.ended.set()
        self._fail_inflight()  # publications made in between
        self._responded.set()

    def _fail_inflight(self) -> None:
        with self._lock:
            lost = list(self._inflight.values())
            self._inflight.clear()
        for future in lost:
            future.set_exception(LinkLost(self.reason))


def _resolve(future: "Future[int]", reason_code: int) -> None:
    if reason_code >= MIN_FAILURE_CODE:
        future.set_exception(Refused(reason_code, reason_text(reason_code)))
    else:
        future.set_result(reason_code)
