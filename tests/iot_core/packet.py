"""The parts of MQTT 5 packets that the stand-in reads or replaces."""

import asyncio
from dataclasses import dataclass
from typing import Self

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests import packets
from wire.mqtt.properties import unpack

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0x80, 0xE0


async def read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return first byte and body of the next packet.

    Raises:
        OSError, asyncio.IncompleteReadError: the connection has ended.
    """
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return first, await reader.readexactly(length)


@dataclass
class Connect:
    """A CONNECT."""

    flags: int
    keepalive: int
    properties: Properties
    payload: bytes
    """Client id, will, user name and password."""

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Decode a CONNECT of MQTT 5."""
        assert body[:7] == b"\0\4MQTT\5", "not MQTT 5"
        properties, size = Properties(PacketTypes.CONNECT).unpack(body[10:])
        return cls(body[7], int.from_bytes(body[8:10]), properties, body[10 + size :])

    def encode(self) -> bytes:
        """Return the packet."""
        head = b"\0\4MQTT\5" + bytes([self.flags]) + self.keepalive.to_bytes(2)
        return packets.packet(CONNECT, head + self.properties.pack() + self.payload)

    @property
    def client_id(self) -> str:
        """The client id."""
        return _text(self.payload, 0)[0]

    @property
    def will(self) -> tuple[str, int, bool] | None:
        """Topic, QoS and retain flag of the last will."""
        if not self.flags & 0x04:
            return None
        at = _text(self.payload, 0)[1]
        _, size = Properties(PacketTypes.WILLMESSAGE).unpack(self.payload[at:])
        return _text(self.payload, at + size)[0], self.flags >> 3 & 3, bool(self.flags & 0x20)


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH."""

    topic: str
    qos: int
    retain: bool
    mid: int
    payload_bytes: int
    user_property_bytes: int

    @classmethod
    def decode(cls, first: int, body: bytes) -> Self:
        """Decode a PUBLISH."""
        topic, at = _text(body, 0)
        qos = first >> 1 & 3
        mid = int.from_bytes(body[at : at + 2]) if qos else 0
        properties, end = unpack(body, at + 2 if qos else at)
        size = sum(len(name.encode()) + len(value.encode()) for name, value in properties.user_properties)
        return cls(topic, qos, bool(first & 1), mid, len(body) - end, size)


def filters_of(body: bytes) -> list[tuple[str, int]]:
    """Return the filters of a SUBSCRIBE, each with its QoS."""
    _, size = Properties(PacketTypes.SUBSCRIBE).unpack(body[2:])
    at = 2 + size
    found = []
    while at < len(body):
        name, at = _text(body, at)
        found.append((name, body[at] & 3))
        at += 1
    return found


def _text(data: bytes, at: int) -> tuple[str, int]:
    """Return a string, and where the next item begins."""
    end = at + 2 + int.from_bytes(data[at : at + 2])
    return data[at + 2 : end].decode(), end
