"""Packs and unpacks the properties of an MQTT 5 PUBLISH packet.

paho's own class searches its tables of names for every property and copies the rest of the packet, payload included, at
each step: 240 µs to unpack and 50 µs to pack the properties of one face. It also drops the connection over a character
that brokers accept (U+FEFF in a user property). The broker then delivers the message again, so one such message would
lock a subscriber out for good. This module is strict about structure and lenient about text: whoever uses a property
validates its value.

On arrival the structure is checked, and each property is unpacked only when somebody asks for it: whoever passes a
message on needs none of them, and sends the bytes that have arrived.

A property of 5 bytes becomes objects of about 250 bytes. So the properties of a message that has more of them than any
honest message are kept as bytes, whoever asks.

Layout: MQTT 5.0 (OASIS Standard, 7 March 2019), sections 2.2.2 and 3.3.2.3.
"""

import struct
from dataclasses import dataclass, field, fields
from typing import Any

from wire.errors import BadMessage

_PAYLOAD_FORMAT = 0x01
_MESSAGE_EXPIRY = 0x02
_CONTENT_TYPE = 0x03
_RESPONSE_TOPIC = 0x08
_CORRELATION_DATA = 0x09
_SUBSCRIPTION_IDENTIFIER = 0x0B
_TOPIC_ALIAS = 0x23
_USER_PROPERTY = 0x26

MAX_USER_PROPERTIES = 64
MAX_BYTES = 9 * 1024
"""Limits of what is unpacked. A face has up to 15 user properties of 600 bytes in all. What the cloud's broker allows
is within the limits: 64 properties, and 8 KiB without the 5 bytes that each needs besides."""
_OF_CONNECTION = frozenset((_SUBSCRIPTION_IDENTIFIER, _TOPIC_ALIAS))
"""Properties that belong to one connection, and are not passed on."""
_NOT_IN_EXCESS = _OF_CONNECTION | {_CORRELATION_DATA, _MESSAGE_EXPIRY}


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of a PUBLISH packet that are forwarded end to end.

    Topic alias and subscription identifier are not among them: they belong to one connection, and are skipped.
    """

    content_type: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    """Names and values in the order in which they were sent. A name may occur more than once."""
    response_topic: str | None = None
    payload_format: int | None = None
    """1 if the payload is UTF-8 text, 0 if it is bytes."""
    message_expiry_seconds: int | None = None
    excess: bytes | None = field(default=None, repr=False)
    """All other properties as they arrived, if they are beyond the limits; otherwise None. Then only the correlation
    data and the message expiry are unpacked: a receipt needs the former, and each broker changes the latter."""
    _packed: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """The bytes from the property length to the last property, as they arrived; None if this was made otherwise."""

    @classmethod
    def _arrived(cls, packed: bytes, correlation_data: bytes | None) -> "Properties":
        """Return properties that are unpacked when another one is read. Their structure has been checked."""
        made = cls.__new__(cls)
        object.__setattr__(made, "_packed", packed)
        object.__setattr__(made, "correlation_data", correlation_data)
        return made

    def __getattr__(self, name: str) -> Any:
        """Unpack, and return a property. Called only while there is no value."""
        if name not in _NAMES:
            raise AttributeError(name)
        unpacked = _unpack_all(self.pack())
        for each in _NAMES:
            object.__setattr__(self, each, getattr(unpacked, each))
        return getattr(unpacked, name)

    def may_have(self, name: str, value: bytes) -> bool:
        """Return False if there is no user property with this name and value. True may be an error if it is packed."""
        if self._packed is not None:
            return bytes((_USER_PROPERTY,)) + _pack_text(name) + _pack_binary(value) in self._packed
        return (name, value.decode("utf-8", "surrogateescape")) in self.user_properties

    def pack(self) -> bytes:
        """Return the bytes of a PUBLISH packet from the property length to the last property."""
        if self._packed is not None:
            return self._packed
        parts: list[bytes] = []
        if self.payload_format is not None:
            parts.append(bytes((_PAYLOAD_FORMAT, self.payload_format)))
        if self.message_expiry_seconds is not None:
            parts.append(struct.pack("!BI", _MESSAGE_EXPIRY, self.message_expiry_seconds))
        if self.content_type is not None:
            parts.append(bytes((_CONTENT_TYPE,)) + _pack_text(self.content_type))
        if self.response_topic is not None:
            parts.append(bytes((_RESPONSE_TOPIC,)) + _pack_text(self.response_topic))
        if self.correlation_data is not None:
            parts.append(bytes((_CORRELATION_DATA,)) + _pack_binary(self.correlation_data))
        for name, value in self.user_properties:
            parts.append(bytes((_USER_PROPERTY,)) + _pack_text(name) + _pack_text(value))
        if self.excess is not None:
            parts.append(self.excess)
        body = b"".join(parts)
        return pack_length(len(body)) + body


_NAMES = frozenset(each.name for each in fields(Properties) if each.init)

NO_PROPERTIES = Properties()


def pack_length(value: int) -> bytes:
    """Return a variable byte integer."""
    packed = bytearray()
    while value > 0x7F:
        packed.append(value & 0x7F | 0x80)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def unpack(packet: bytes, start: int) -> tuple[Properties, int]:
    """Check the structure of the properties of a PUBLISH packet. Each is unpacked when it is read.

    Args:
        packet: the packet without its fixed header.
        start: offset of the property length, in bytes.

    Returns:
        The properties, and the offset of the payload in bytes.

    Raises:
        BadMessage: the bytes are not MQTT 5 properties of a PUBLISH packet.
    """
    try:
        length, first = _unpack_variable_byte_integer(packet, start)
        at, end = first, first + length
        if end > len(packet):
            raise BadMessage(f"the properties have {length} bytes, but the packet has only {len(packet) - at} left")
        count, correlation_data = 0, None
        others: list[int] = []
        while at < end:
            identifier = packet[at]
            if identifier == _USER_PROPERTY:  # most of them; the same as in _end_of_property, but faster
                at += 3 + (packet[at + 1] << 8 | packet[at + 2])
                at += 2 + (packet[at] << 8 | packet[at + 1])
                count += 1
            else:
                others.append(identifier)
                began, at = at, _end_of_property(packet, at)
                if identifier == _CORRELATION_DATA:
                    correlation_data = packet[began + 3 : at]
    except (IndexError, struct.error) as error:
        raise BadMessage("the properties are truncated") from error
    if at != end:
        raise BadMessage("a property extends beyond the property length")
    if length > MAX_BYTES or count > MAX_USER_PROPERTIES:
        return _keep_bytes(packet, first, end), end
    if not _OF_CONNECTION.isdisjoint(others) or len(set(others)) < len(others):  # not as they are to be sent
        return _unpack_all(packet[start:end]), end
    return Properties._arrived(packet[start:end], correlation_data), end  # noqa: SLF001 (of this module)


def _unpack_all(packed: bytes) -> Properties:
    """Unpack properties whose structure has been checked, and which are within the limits."""
    _, at = _unpack_variable_byte_integer(packed, 0)
    content_type = correlation_data = response_topic = payload_format = message_expiry = None
    user_properties: list[tuple[str, str]] = []
    while at < len(packed):
        identifier = packed[at]
        at += 1
        if identifier == _USER_PROPERTY:
            name, at = _unpack_text(packed, at)
            value, at = _unpack_text(packed, at)
            user_properties.append((name, value))
        elif identifier == _CONTENT_TYPE:
            content_type, at = _unpack_text(packed, at)
        elif identifier == _RESPONSE_TOPIC:
            response_topic, at = _unpack_text(packed, at)
        elif identifier == _CORRELATION_DATA:
            correlation_data, at = _unpack_binary(packed, at)
        elif identifier == _PAYLOAD_FORMAT:
            payload_format = packed[at]
            at += 1
        elif identifier == _MESSAGE_EXPIRY:
            (message_expiry,) = struct.unpack_from("!I", packed, at)
            at += 4
        else:
            at = _end_of_property(packed, at - 1)
    return Properties(
        content_type, correlation_data, tuple(user_properties), response_topic, payload_format, message_expiry
    )


def _keep_bytes(packet: bytes, at: int, end: int) -> Properties:
    """Check the structure of properties beyond the limits, and return them without unpacking each."""
    kept: list[bytes] = []
    correlation_data = message_expiry = None
    start = at
    while at < end:
        property_at, identifier = at, packet[at]
        at = _end_of_property(packet, at)
        if identifier in _NOT_IN_EXCESS:
            kept.append(packet[start:property_at])
            start = at
            if identifier == _CORRELATION_DATA:
                correlation_data = packet[property_at + 3 : at]
            elif identifier == _MESSAGE_EXPIRY:
                message_expiry = int.from_bytes(packet[property_at + 1 : at])
    if at != end:
        raise BadMessage("a property extends beyond the property length")
    kept.append(packet[start:end])
    return Properties(correlation_data=correlation_data, message_expiry_seconds=message_expiry, excess=b"".join(kept))


def _end_of_property(packet: bytes, at: int) -> int:
    """Return the offset after the property at ``at``."""
    identifier = packet[at]
    at += 1
    if identifier == _USER_PROPERTY:
        return _end_of_binary(packet, _end_of_binary(packet, at))
    if identifier in (_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA):
        return _end_of_binary(packet, at)
    if identifier == _SUBSCRIPTION_IDENTIFIER:
        return _unpack_variable_byte_integer(packet, at)[1]
    size = {_PAYLOAD_FORMAT: 1, _MESSAGE_EXPIRY: 4, _TOPIC_ALIAS: 2}.get(identifier)
    if size is None:
        raise _not_allowed(identifier)
    return at + size


def _not_allowed(identifier: int) -> BadMessage:
    return BadMessage(f"property 0x{identifier:02x} is not allowed in a PUBLISH packet")


def _pack_binary(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value


def _pack_text(value: str) -> bytes:
    return _pack_binary(value.encode("utf-8", "surrogateescape"))


def _unpack_binary(packet: bytes, at: int) -> tuple[bytes, int]:
    end = _end_of_binary(packet, at)
    return packet[at + 2 : end], end


def _end_of_binary(packet: bytes, at: int) -> int:
    (length,) = struct.unpack_from("!H", packet, at)
    end: int = at + 2 + length
    if end > len(packet):
        raise BadMessage(f"a property has {length} bytes, but the packet has only {len(packet) - at - 2} left")
    return end


def _unpack_text(packet: bytes, at: int) -> tuple[str, int]:
    """Decode UTF-8 so that :func:`_pack_text` restores even invalid bytes unchanged."""
    raw, at = _unpack_binary(packet, at)
    return raw.decode("utf-8", "surrogateescape"), at


def _unpack_variable_byte_integer(packet: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(4):
        digit = packet[at + position]
        value |= (digit & 0x7F) << (7 * position)
        if digit < 0x80:
            return value, at + position + 1
    raise BadMessage("a variable byte integer has more than four bytes")
