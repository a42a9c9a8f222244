"""A subclass of paho's client that fixes six defects which could lose a message or block a session.

1. A PUBLISH packet is parsed by :mod:`wire.mqtt.properties`, which is faster. paho also drops the connection over some
   characters in a property.
2. A QoS 2 message is delivered when it arrives, and its PUBREC is sent when the caller acknowledges it. paho sends the
   PUBREC at once and keeps the message in memory, where a crash would lose it.
3. The answers to our publications are parsed here. paho treats a PUBREC with an error code as success, and drops the
   connection over a reason code that is missing from its table, such as Mosquitto's «packet too large».
4. A TLS error is kept in :attr:`Client.tls_error`. With TLS 1.3 the broker rejects a client certificate only after the
   handshake, when the client reads. paho reports this only as a lost connection.
5. The owner is notified whenever the network thread ends, even if it ends with an exception. paho notifies nobody.
6. Whether the connection is alive is decided from its progress, by :mod:`wire.mqtt.liveness`. paho disconnects if one
   keepalive passes without an answer, also while a large message is still on its way over a thin link.

``tests/test_session.py`` has a test for each of the six against a real broker; it fails without the change.
"""

import contextlib
import importlib.metadata
import math
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MessageType, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from wire.errors import BadMessage
from wire.mqtt import properties
from wire.mqtt.liveness import Liveness, Verdict, unacknowledged_bytes
from wire.mqtt.properties import Properties

PAHO_VERSION = "2.2.0"
"""The only version of paho-mqtt that this module works with, because it replaces private methods of paho."""

_CONNECT_SECONDS = 15.0
"""Maximum wait for each packet of the TCP and TLS handshakes, which may be behind other data on a thin link."""
MIN_FAILURE_CODE = 0x80
"""MQTT 5 reason codes from this value on are failures."""

OnReceived = Callable[[int, str, bytes, int, bool, Properties], None]
"""Called for each received message with packet identifier, topic, payload, QoS, retain flag and properties."""
OnAnswer = Callable[[int, int], None]
"""Called once for each published message, with packet identifier and reason code, when the broker has answered."""


if (_found := importlib.metadata.version("paho-mqtt")) != PAHO_VERSION:
    raise ImportError(
        f"paho-mqtt is {_found}: expected {PAHO_VERSION}; install the locked requirements (requirements/*.txt)"
    )


class Client(paho.Client):
    """A client for one MQTT 5 connection, with manual acknowledgement and without reconnecting."""

    def __init__(
        self, client_id: str, *, on_received: OnReceived, on_answer: OnAnswer, on_thread_end: Callable[[str], None]
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._on_received = on_received
        self._on_thread_end = on_thread_end
        self.tls_error: ssl.SSLError | None = None
        self.liveness = Liveness()
        self.is_dead = False
        """Whether this side has closed the connection because it made no progress."""
        self.connect_timeout = _CONNECT_SECONDS
        self.on_publish = lambda _client, _userdata, mid, reason, _properties: on_answer(mid, int(reason.value))

    def set_max_inflight(self, receive_maximum: int) -> None:
        """Apply the broker's receive maximum from its CONNACK. paho's own setter works only before connecting."""
        self._max_inflight_messages = receive_maximum

    def acknowledge(self, mid: int, qos: int) -> None:
        """Acknowledge a received message: with PUBACK at QoS 1, with PUBREC at QoS 2."""
        if qos == 1:
            self._send_puback(mid)
        elif qos == 2:
            self._send_pubrec(mid)

    def _thread_main(self) -> None:
        reason = "closed"
        try:
            super()._thread_main()
        except Exception as error:  # noqa: BLE001 (any exception ends the connection)
            reason = f"the MQTT client failed: {error!r}"
        finally:
            self._on_thread_end(reason)

    def _packet_queue(
        self, command: int, packet: bytes | bytearray, mid: int, qos: int, info: paho.MQTTMessageInfo | None = None
    ) -> MQTTErrorCode:
        is_publication = command & 0xF0 == MessageType.PUBLISH and qos > 0
        self.liveness.on_queued(
            len(packet), mid if is_publication else None, is_ping=command & 0xF0 == MessageType.PINGREQ
        )
        return super()._packet_queue(command, packet, mid, qos, info)

    def _check_keepalive(self) -> None:
        if self._sock is None:
            return
        match self.liveness.check(unacknowledged_bytes(self._sock.fileno()), self._keepalive or math.inf):
            case Verdict.PING if self.is_connected():
                self._send_simple_command(MessageType.PINGREQ)
            case Verdict.DEAD:
                self.is_dead = True
                self._sock_close()
                self._do_on_disconnect(packet_from_broker=False, v1_rc=MQTTErrorCode.MQTT_ERR_KEEPALIVE)

    def _handle_pingresp(self) -> MQTTErrorCode:
        self.liveness.on_pong()
        return super()._handle_pingresp()

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            received = super()._sock_recv(bufsize)
        except ssl.SSLError as error:
            self.tls_error = error
            raise
        self.liveness.on_received(len(received))
        return received

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            sent = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError:
            # The broker has closed the connection. Its TLS alert may still be waiting in the receive buffer.
            with contextlib.suppress(OSError):
                self._sock_recv(1)
            raise
        self.liveness.on_sent(sent)
        return sent

    def _handle_publish(self) -> MQTTErrorCode:
        header, packet = self._in_packet["command"], bytes(self._in_packet["packet"])
        qos, retain = (header >> 1) & 0x03, bool(header & 0x01)
        try:
            at = 2 + int.from_bytes(packet[:2])
            topic = packet[2:at]
            mid = 0
            if qos:
                mid = int.from_bytes(packet[at : at + 2])
                at += 2
            unpacked, at = properties.unpack(packet, at)
        except BadMessage:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._on_received(mid, topic.decode("utf-8", "surrogateescape"), packet[at:], qos, retain, unpacked)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubrel(self) -> MQTTErrorCode:
        return self._send_pubcomp(self._parse_answer()[0])

    def _handle_pubrec(self) -> MQTTErrorCode:
        mid, reason_code = self._parse_answer()
        self.liveness.on_answer(mid)
        if reason_code >= MIN_FAILURE_CODE:
            return self._finish(mid, reason_code)
        with self._out_message_mutex:
            if mid in self._out_messages:
                self._out_messages[mid].state = paho.mqtt_ms_wait_for_pubcomp
        return self._send_pubrel(mid)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        return self._finish(*self._parse_answer())

    def _parse_answer(self) -> tuple[int, int]:
        """Return packet identifier and reason code of the PUBACK, PUBREC, PUBREL or PUBCOMP just received."""
        packet = self._in_packet["packet"]
        return int.from_bytes(packet[:2]), packet[2] if len(packet) > 2 else 0

    def _finish(self, mid: int, reason_code: int) -> MQTTErrorCode:
        self.liveness.on_answer(mid)
        with self._out_message_mutex:
            if mid not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            # paho's ``ReasonCode`` rejects values that are missing from its table.
            any_reason_code: Any = SimpleNamespace(value=reason_code)
            return self._do_on_publish(mid, any_reason_code, _NO_PROPERTIES)


_NO_PROPERTIES = PahoProperties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


def reason_text(reason_code: int) -> str:
    """Return the name of a reason code (MQTT 5.0, section 2.4)."""
    return next(iter(ReasonCode.names.get(reason_code, {})), "unknown reason")
