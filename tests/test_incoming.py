"""How what arrives on a connection is split into packets: in any pieces, and many at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packets import PUBACK, PUBLISH, packet
from wire.errors import BadMessage
from wire.mqtt.incoming import BUFFER_BYTES, Incoming

SMALL = [(PUBACK, b"\x00\x01"), (0xD0, b""), (PUBLISH, b"\x00\x01a" + bytes(200)), (PUBLISH | 2, b"x" * 20_000)]
LARGE = (PUBLISH, bytes(range(256)) * 1024)
"""256 KiB: larger than the buffer."""


class Wire:
    """What another side sends, handed out in pieces of given sizes, and then as a whole."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def receive_into(self, room: memoryview, size: int | None = None) -> int:
        count = min(len(room), len(self.data), len(room) if size is None else size)
        room[:count] = self.data[:count]
        self.data = self.data[count:]
        return count


def received(data: bytes, *sizes: int) -> list[tuple[int, bytes]]:
    """Return the packets in ``data``, which arrives in pieces of these sizes, and then in pieces that fill the room."""
    wire, incoming, found = Wire(data), Incoming(), []
    for size in sizes:
        if wire.data:
            incoming.receive(lambda room, size=size: wire.receive_into(room, size))  # type: ignore[misc]
            found += list(incoming.packets())
    while wire.data:
        incoming.receive(wire.receive_into)
        found += list(incoming.packets())
    return found


def encoded(packets: list[tuple[int, bytes]]) -> bytes:
    return b"".join(packet(first, body) for first, body in packets)


def test_many_packets_arrive_at_once():
    """In one piece."""
    many = SMALL[:3] * 100
    assert len(encoded(many)) < BUFFER_BYTES
    assert received(encoded(many)) == many


def test_a_packet_may_be_cut_at_every_position():
    """Also in its length, which has up to four bytes."""
    packets = [*SMALL[:3], (PUBLISH, b"y" * 17_000), SMALL[0]]
    data = encoded(packets)
    for cut in [*range(1, 250), *range(len(data) - 30, len(data))]:
        assert received(data, cut) == packets, cut


def test_packets_may_arrive_byte_by_byte():
    """No two bytes together."""
    data = encoded(SMALL[:3] * 2)
    assert received(data, *[1] * len(data)) == SMALL[:3] * 2


def test_a_packet_that_is_larger_than_the_buffer():
    """Before and behind others, and cut anywhere. Afterwards the buffer is small again."""
    packets = [SMALL[3], LARGE, SMALL[0], LARGE, LARGE, SMALL[1]]
    data = encoded(packets)
    for cut in (1, 2, 20_004, 20_005, 20_008, 20_010, BUFFER_BYTES, BUFFER_BYTES + 1, len(data) - 1):
        assert received(data, cut) == packets
    wire, incoming = Wire(encoded([LARGE])), Incoming()
    while wire.data:
        incoming.receive(wire.receive_into)
        list(incoming.packets())
    wire.data = encoded([SMALL[0]])
    incoming.receive(wire.receive_into)
    assert len(incoming._buffer) == BUFFER_BYTES


@given(st.lists(st.sampled_from([*SMALL, LARGE]), max_size=8), st.lists(st.integers(1, 300_000), max_size=10))
def test_any_packets_in_any_pieces(packets: list[tuple[int, bytes]], sizes: list[int]):
    """The packets are those that were sent, in their order."""
    assert received(encoded(packets), *sizes) == packets


def test_packets_that_are_not_taken_stay():
    """The owner may stop after any packet, and go on later."""
    wire, incoming = Wire(encoded(SMALL)), Incoming()
    incoming.receive(wire.receive_into)
    found = [next(incoming.packets())]
    assert not wire.data
    found += [next(incoming.packets()), *incoming.packets()]
    assert found == SMALL


def test_a_length_of_more_than_four_bytes_is_rejected():
    """It is not MQTT."""
    with pytest.raises(BadMessage):
        received(b"\x30\xff\xff\xff\xff\x01")
