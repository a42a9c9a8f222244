"""paho's client, mended in the places where a face could get lost or stuck.

1. A PUBLISH is read by :mod:`wire.mqtt.properties`: faster, and no text in a property can drop the connection.
2. At QoS 2 a message is handed over when it arrives, and its PUBREC leaves when it is taken care of. paho sends the
   PUBREC at once and keeps the message in memory: a crash would lose it.
3. The answers to what we publish are read here. paho takes a PUBREC that refuses (QoS 2) for consent, and drops
   the connection over a reason code that its table does not list, such as Mosquitto's «packet too large».
4. An error of TLS is kept. With TLS 1.3 the broker refuses a certificate only after the handshake, when we read: paho
   makes «lost» of it.
5. However the network thread ends, even by a defect of paho's, somebody is told.

These are private methods of paho's: the locked requirements pin the version that they fit, and
``tests/test_session.py`` shows each of them at work against a real broker.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Literal

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from wire.errors import BadMessage
from wire.mqtt import properties
from wire.mqtt.properties import Properties

REFUSED_FROM = 0x80
"""MQTT 5 reason codes from here on are failures."""

Arrival = Callable[[int, str, bytes, int, bool, Properties], None]
"""Called with packet identifier, topic, payload, QoS, retain flag and properties."""
Answer = Callable[[int, int], None]
"""Called with packet identifier and reason code: once, when a published message has been taken or refused."""


class Client(paho.Client):
    """A client for one MQTT 5 connection that acknowledges by hand and never reconnects."""

    def __init__(
        self, client_id: str, *, on_arrival: Arrival, on_answer: Answer, on_thread_end: Callable[[str], None]
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._on_arrival = on_arrival
        self._on_answer = on_answer
        self._on_thread_end = on_thread_end
        self.tls_error: ssl.SSLError | None = None
        self.on_publish = lambda _client, _userdata, mid, reason, _properties: on_answer(mid, int(reason.value))

    def limit_underway(self, receive_maximum: int) -> None:
        """Keep to what the broker said in its CONNACK: paho itself lets that be set before connecting only."""
        self._max_inflight_messages = receive_maximum

    def _thread_main(self) -> None:
        reason = "closed"
        try:
            super()._thread_main()
        except Exception as defect:  # noqa: BLE001 (whatever it is, the connection is over)
            reason = f"the MQTT client failed: {defect!r}"
        finally:
            self._on_thread_end(reason)

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            return super()._sock_recv(bufsize)
        except ssl.SSLError as error:
            self.tls_error = error
            raise

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            return super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError:
            # It has closed the connection: why, is still there to be read.
            with contextlib.suppress(OSError):
                self._sock_recv(1)
            raise

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
            found, at = properties.unpack(packet, at)
        except BadMessage:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._on_arrival(mid, topic.decode("utf-8", "surrogateescape"), packet[at:], qos, retain, found)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def acknowledge(self, mid: int, qos: int) -> None:
        """Take over a message that has arrived: PUBACK, or PUBREC at QoS 2."""
        if qos == 1:
            self._send_puback(mid)
        elif qos == 2:
            self._send_pubrec(mid)

    def _handle_pubrel(self) -> MQTTErrorCode:
        return self._send_pubcomp(self._read_answer()[0])

    def _handle_pubrec(self) -> MQTTErrorCode:
        mid, reason_code = self._read_answer()
        if reason_code >= REFUSED_FROM:
            return self._finish(mid, reason_code)
        with self._out_message_mutex:
            if mid in self._out_messages:
                self._out_messages[mid].state = paho.mqtt_ms_wait_for_pubcomp
        return self._send_pubrel(mid)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        return self._finish(*self._read_answer())

    def _read_answer(self) -> tuple[int, int]:
        packet = self._in_packet["packet"]
        return int.from_bytes(packet[:2]), packet[2] if len(packet) > 2 else 0

    def _finish(self, mid: int, reason_code: int) -> MQTTErrorCode:
        with self._out_message_mutex:
            if mid not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            return self._do_on_publish(mid, _Reason(reason_code), _NO_PROPERTIES)  # type: ignore[arg-type]


class _Reason:
    """Stands in for a ``ReasonCode`` that paho would refuse to make."""

    def __init__(self, value: int) -> None:
        self.value = value


_NO_PROPERTIES = PahoProperties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


def reason_text(reason_code: int) -> str:
    """Return what the standard calls a reason code (MQTT 5.0, section 2.4)."""
    return next(iter(ReasonCode.names.get(reason_code, {})), "unknown reason")
