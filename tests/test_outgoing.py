"""How packets are sent: many with one call, and the rest of what the operating system has not taken."""

import random

import pytest

from wire.mqtt.outgoing import SEND_BYTES, Outgoing


class Network:
    """Takes as much of each call as it is told to, and records the calls."""

    def __init__(self, *taken: int) -> None:
        self.taken = list(taken)
        """How many bytes each of the next calls takes; 0: none can be sent now. Afterwards everything is taken."""
        self.calls: list[bytes] = []

    def send(self, data: memoryview) -> int:
        count = min(len(data), self.taken.pop(0)) if self.taken else len(data)
        if count == 0:
            raise BlockingIOError
        self.calls.append(bytes(data[:count]))
        return count


def test_many_packets_are_sent_with_one_call():
    """In the order in which they were added, and with as many bytes as go together."""
    outgoing, network = Outgoing(), Network()
    packets = [b"%d" % number * 1000 for number in range(100)]
    for packet in packets:
        outgoing.add((packet[:3], packet[3:]))
    while outgoing.send(network.send):
        pass
    assert b"".join(network.calls) == b"".join(packets)
    assert not outgoing
    assert all(len(call) > SEND_BYTES - 3000 for call in network.calls[:-1])
    assert all(len(call) <= SEND_BYTES for call in network.calls)


def test_a_packet_larger_than_that_is_sent_alone():
    """With one call."""
    outgoing, network = Outgoing(), Network()
    packets = [b"a", b"b" * 3 * SEND_BYTES, b"c"]
    for packet in packets:
        outgoing.add((packet,))
    while outgoing.send(network.send):
        pass
    assert network.calls == packets


@pytest.mark.parametrize("seed", range(20))
def test_what_is_taken_partly_is_continued(seed: int):
    """Nothing is lost or sent twice, whatever the operating system takes."""
    rng = random.Random(seed)
    outgoing, network = Outgoing(), Network(*(rng.choice((0, 1, 7, 900, 40_000, 90_000)) for _ in range(60)))
    packets = [rng.randbytes(rng.choice((2, 4, 500, 10_000, 130_000))) for _ in range(40)]
    sent: list[int] = []
    for number, packet in enumerate(packets):
        outgoing.add((packet,), lambda number=number: sent.append(number))  # type: ignore[misc]
    while outgoing:
        before = len(b"".join(network.calls))
        try:
            outgoing.send(network.send)
        except BlockingIOError:
            assert len(b"".join(network.calls)) == before
    assert b"".join(network.calls) == b"".join(packets)
    assert sent == list(range(len(packets)))


def test_the_owner_learns_when_a_packet_has_been_taken_as_a_whole():
    """Not before its last byte."""
    outgoing, network, sent = Outgoing(), Network(3, 6), []
    outgoing.add((b"12345", b"67890"), lambda: sent.append("first"))
    assert outgoing.send(network.send)
    assert outgoing.send(network.send)
    assert not sent
    outgoing.send(network.send)
    assert sent == ["first"]


def test_a_packet_with_a_call_waits_for_the_thread_that_may_make_it():
    """Also if a part of it has been sent, and with all packets behind it."""
    outgoing, network, sent = Outgoing(), Network(), []
    outgoing.add((b"first",))
    outgoing.add((b"second",), lambda: sent.append("second"))
    outgoing.add((b"third",))
    for _ in range(2):
        outgoing.send(network.send, may_call=False)
    assert b"".join(network.calls) == b"first"
    network.taken = [3]
    outgoing.send(network.send)
    assert not outgoing.send(network.send, may_call=False)
    assert (b"".join(network.calls), sent) == (b"firstsec", [])
    while outgoing.send(network.send):
        pass
    assert (b"".join(network.calls), sent) == (b"firstsecondthird", ["second"])


def test_a_failed_call_loses_nothing():
    """The next call tries the same bytes again."""
    outgoing, network = Outgoing(), Network(0)
    outgoing.add((b"packet",))
    with pytest.raises(BlockingIOError):
        outgoing.send(network.send)
    assert outgoing
    outgoing.send(network.send)
    assert network.calls == [b"packet"]
