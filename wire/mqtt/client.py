"""The MQTT client: publishes messages, delivers those that arrive, and acknowledges them.

From paho come the connection with its TLS handshake, and the packets of a session: CONNECT, CONNACK, SUBSCRIBE, SUBACK,
PINGREQ, PINGRESP and DISCONNECT. :mod:`wire.mqtt.network_loop` replaces paho's network loop. What happens for each
message is replaced here, because paho could lose or block a message:

1. A PUBLISH packet is parsed by :mod:`wire.mqtt.properties`, which is faster. paho also drops the connection over some
   characters in a property.
2. A QoS 2 message is delivered when it arrives, and its PUBREC is sent when the caller acknowledges it. paho sends the
   PUBREC at once and keeps the message in memory, where a crash would lose it.
3. The answers to our publications are parsed by :mod:`wire.mqtt.publications`. paho treats a PUBREC with an error code
   as success, and drops the connection over a reason code that is missing from its table, such as Mosquitto's «packet
   too large». For each answer, it also looks at every message that is not answered.

``tests/test_session.py`` has a test for each of them against a real broker; it fails without the change.
"""

import struct
from collections.abc import Callable
from concurrent.futures import Future

from paho.mqtt.enums import MQTTErrorCode

from wire.errors import BadMessage
from wire.mqtt import properties
from wire.mqtt.network_loop import NetworkLoop
from wire.mqtt.properties import Properties, pack_length
from wire.mqtt.publications import Pieces, Publications
from wire.mqtt.reason_codes import MIN_FAILURE_CODE
from wire.process.rate_limit import RateLimit

_PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP, _PINGRESP = 0x30, 0x40, 0x50, 0x60, 0x70, 0xD0
"""First bytes of packets, without flags. paho's are members of an enumeration, and slower."""
_PUBREL_FLAGS = 0x02

OnReceived = Callable[[int, str, bytes, int, bool, Properties], None]
"""Called for each received message with packet identifier, topic, payload, QoS, retain flag and properties."""


class Client(NetworkLoop):
    """A client for one MQTT 5 connection, with manual acknowledgement and without reconnecting."""

    def __init__(
        self,
        client_id: str,
        *,
        on_received: OnReceived,
        on_thread_end: Callable[[str], None],
        may_receive: Callable[[], bool] = lambda: True,
        rate: RateLimit | None = None,
    ) -> None:
        """Set up a client.

        Args:
            client_id: its name.
            on_received: gets each message, in the network thread.
            on_thread_end: gets the reason when the network thread ends.
            may_receive: whether there is room for another message. When there is again, call :meth:`wake`.
            rate: how much may be published per second; None: unlimited.
        """
        super().__init__(client_id, on_thread_end, may_receive)
        self._on_received = on_received
        self.publications = Publications(self._transmit, rate)
        self._is_paced = rate is not None

    def send_message(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, packed_properties: bytes
    ) -> "Future[int]":
        """Publish a message, and return a future of the reason code in the broker's final answer.

        Its exceptions are those of :class:`wire.mqtt.publications.Publications`.
        """
        first = _PUBLISH | qos << 1 | retain
        size = 2 + len(topic) + (2 if qos else 0) + len(packed_properties) + len(payload)
        start = bytes((first,)) + pack_length(size) + len(topic).to_bytes(2) + topic
        if qos:
            answer = self.publications.add(lambda mid: (start + mid.to_bytes(2) + packed_properties, payload))
            self._wake_if_paced()
            return answer
        packet = (start + packed_properties, payload)
        future = self.publications.add_unanswerable(
            sum(map(len, packet)), lambda when_sent: self._queue(packet, when_sent)
        )
        self._wake_if_paced()
        return future

    def acknowledge(self, mid: int, qos: int) -> None:
        """Acknowledge a received message: with PUBACK at QoS 1, with PUBREC at QoS 2."""
        if qos:
            self._queue_answer(_PUBACK if qos == 1 else _PUBREC, mid)

    def _wake_if_paced(self) -> None:
        """Let the network thread learn when the message that was added may be sent."""
        if self._is_paced:
            self.wake()

    def _mid_generate(self) -> int:
        return self.publications.reserve_mid()

    def _send_waiting(self) -> float:
        return self.publications.send_waiting()

    def _transmit(self, mid: int, packet: Pieces) -> None:
        self._queue(packet, publication=mid)

    def _queue_answer(self, command: int, mid: int) -> None:
        self._queue((struct.pack("!BBH", command, 2, mid),))

    def _handle(self, first: int, packet: bytes) -> None:
        kind = first & 0xF0
        if kind == _PUBLISH:
            self._handle_message(first, packet)
        elif kind in (_PUBACK, _PUBCOMP):
            mid, reason_code = _parse_answer(packet)
            self.liveness.on_answer(mid)
            self.publications.answer(mid, reason_code)
        elif kind == _PUBREC:
            mid, reason_code = _parse_answer(packet)
            self.liveness.on_answer(mid)
            if reason_code >= MIN_FAILURE_CODE:
                self.publications.answer(mid, reason_code)
            else:
                self._queue_answer(_PUBREL | _PUBREL_FLAGS, mid)
        elif kind == _PUBREL:
            self._queue_answer(_PUBCOMP, _parse_answer(packet)[0])
        elif kind == _PINGRESP:
            self.liveness.on_pong()
        else:
            self._in_packet["command"], self._in_packet["packet"] = first, bytearray(packet)
            self._in_packet["remaining_length"] = len(packet)
            if self._packet_handle() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise BadMessage(f"packet 0x{first:02x}")

    def _handle_message(self, first: int, packet: bytes) -> None:
        qos, retain = (first >> 1) & 0x03, bool(first & 0x01)
        at = 2 + int.from_bytes(packet[:2])
        topic = packet[2:at]
        mid = 0
        if qos:
            mid = int.from_bytes(packet[at : at + 2])
            at += 2
        unpacked, at = properties.unpack(packet, at)
        self._on_received(mid, topic.decode("utf-8", "surrogateescape"), packet[at:], qos, retain, unpacked)


def _parse_answer(packet: bytes) -> tuple[int, int]:
    """Return packet identifier and reason code of a PUBACK, PUBREC, PUBREL or PUBCOMP."""
    return int.from_bytes(packet[:2]), packet[2] if len(packet) > 2 else 0
