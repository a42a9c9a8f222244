"""MQTT 5 packets as bytes, also such as no client library would send.

Source: MQTT Version 5.0, OASIS Standard, chapters 2 and 3.
"""

import socket
import ssl
from collections.abc import Sequence

from demo.ports import HOST
from wire.mqtt.tls import TlsFiles

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
USER_PROPERTY = 0x26


def number(value: int) -> bytes:
    """Encode a variable byte integer."""
    encoded = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        encoded.append(digit | 0x80 if value else digit)
        if not value:
            return bytes(encoded)


def text(value: bytes) -> bytes:
    """Encode a string: its length in two bytes, and its bytes."""
    return len(value).to_bytes(2) + value


def packet(first: int, body: bytes) -> bytes:
    """Return a packet with its fixed header."""
    return bytes([first]) + number(len(body)) + body


def connect(
    client_id: str,
    *,
    properties: bytes = b"",
    will: tuple[str, bytes, bytes] | None = None,
    keepalive: int = 60,
    user: str | None = None,
    clean: bool = True,
) -> bytes:
    """Return a CONNECT. ``will``: topic, payload and properties of the last will."""
    flags = (0x02 if clean else 0) | (0x0C if will is not None else 0) | (0x80 if user is not None else 0)
    body = text(b"MQTT") + bytes([5, flags]) + keepalive.to_bytes(2)
    body += number(len(properties)) + properties + text(client_id.encode())
    if will is not None:
        topic, payload, will_properties = will
        body += number(len(will_properties)) + will_properties + text(topic.encode()) + text(payload)
    if user is not None:
        body += text(user.encode())
    return packet(CONNECT, body)


def user_properties(count: int, name: bytes = b"a", value: bytes = b"b") -> bytes:
    """Encode many user properties."""
    return (bytes([USER_PROPERTY]) + text(name) + text(value)) * count


def publish(topic: str, payload: bytes, *, qos: int = 1, packet_id: int = 1, properties: bytes = b"") -> bytes:
    """Return a PUBLISH."""
    identifier = packet_id.to_bytes(2) if qos else b""
    body = text(topic.encode()) + identifier + number(len(properties)) + properties + payload
    return packet(PUBLISH | qos << 1, body)


def subscribe(filters: Sequence[str], packet_id: int = 1) -> bytes:
    """Return a SUBSCRIBE with QoS 1 for each filter."""
    return packet(SUBSCRIBE, packet_id.to_bytes(2) + b"\0" + b"".join(text(one.encode()) + b"\1" for one in filters))


class RawClient:
    """A TLS connection to a broker, without an MQTT library."""

    def __init__(
        self,
        port: int,
        tls: TlsFiles,
        address: str = HOST,
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Connect from ``address``, and make the TLS handshake, or resume ``session`` in its ``context``."""
        plain = socket.create_connection((HOST, port), timeout=10, source_address=(address, 0))
        self.socket: ssl.SSLSocket = (context or tls.context()).wrap_socket(
            plain, server_hostname=HOST, session=session
        )
        self._received = bytearray()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection without a DISCONNECT."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Return the first byte and the body of the next packet.

        Raises:
            OSError: the broker has closed the connection.
        """
        first = self._take(1)[0]
        length, shift = 0, 0
        while True:
            digit = self._take(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return first, self._take(length)

    def connect(self, client_id: str) -> int:
        """Send a CONNECT, and return the reason code of the CONNACK."""
        self.send(connect(client_id))
        first, body = self.receive()
        assert first == CONNACK, first
        return body[1]

    def publish(self, topic: str, payload: bytes = b"x", **options: object) -> int:
        """Publish at QoS 1, and return the reason code of the PUBACK."""
        self.send(publish(topic, payload, **options))  # type: ignore[arg-type]
        first, body = self.receive()
        assert first == PUBACK, first
        return body[2] if len(body) > 2 else 0

    def subscribe(self, *filters: str) -> list[int]:
        """Subscribe, and return the reason code of each filter."""
        self.send(subscribe(filters))
        first, body = self.receive()
        assert first == SUBACK, first
        return list(body[3:])

    @property
    def is_open(self) -> bool:
        """Whether the broker has not closed the connection. What it has sent is discarded."""
        self.socket.settimeout(0.05)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(10)
        return False

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("the broker has closed the connection")
            self._received += data
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken
