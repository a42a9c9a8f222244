"""Splits what arrives on a connection into MQTT packets.

Many packets are read at once, and a packet may arrive in any number of pieces. paho reads the first bytes of each
packet one by one: five system calls for each packet.
"""

from collections.abc import Callable, Iterator

from wire.errors import BadMessage

BUFFER_BYTES = 131_072
"""Size of the buffer. It grows for a larger packet, and only as far as the packet has arrived."""
_MAX_LENGTH_BYTES = 4


class Incoming:
    """The packets that arrive on one connection. Used by one thread."""

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._start = self._end = 0
        """What has arrived and has not been taken is between these offsets."""

    @property
    def is_full(self) -> bool:
        """Whether the buffer has no more room before packets are taken."""
        return self._end == len(self._buffer)

    def receive(self, receive_into: Callable[[memoryview], int]) -> None:
        """Receive once, as much as there is room for. Take all complete packets first if the buffer is full.

        Raises:
            OSError: what ``receive_into`` raises.
        """
        self._make_room()
        with memoryview(self._buffer) as view, view[self._end :] as room:
            self._end += receive_into(room)

    def packets(self) -> Iterator[tuple[int, bytes]]:
        """Yield the complete packets: the first byte and the packet without its fixed header.

        Raises:
            BadMessage: this is not MQTT.
        """
        while (found := self._find()) is not None:
            first, start, end = self._buffer[self._start], *found
            self._start = end
            with memoryview(self._buffer) as view:
                body = bytes(view[start:end])
            yield first, body

    def _find(self) -> tuple[int, int] | None:
        """Return where the body of the next packet begins and ends; None if it has not arrived completely."""
        buffer, at, end = self._buffer, self._start + 1, self._end
        length = shift = 0
        while at < end:
            digit = buffer[at]
            at += 1
            length |= (digit & 0x7F) << shift
            if digit < 0x80:
                return (at, at + length) if at + length <= end else None
            shift += 7
            if shift == 7 * _MAX_LENGTH_BYTES:
                raise BadMessage("the length of a packet has more than four bytes")
        return None

    def _make_room(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > BUFFER_BYTES:
                self._buffer = bytearray(BUFFER_BYTES)
        elif self._end == len(self._buffer):
            if self._start == 0:
                self._buffer = self._buffer + bytes(len(self._buffer))
            else:
                self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
                self._start, self._end = 0, self._end - self._start
