"""Publications and their answers: limits, packet identifiers, and the end of the connection."""

import math
from collections.abc import Callable

import pytest

from wire.errors import LinkLost, Refused
from wire.mqtt.publications import Pieces, Publications
from wire.mqtt.reason_codes import NO_MATCHING_SUBSCRIBERS, PACKET_TOO_LARGE
from wire.process.rate_limit import RateLimit


class Sent:
    """The packets that were sent, by packet identifier."""

    def __init__(self) -> None:
        self.packets: dict[int, Pieces] = {}

    def transmit(self, mid: int, packet: Pieces) -> None:
        assert mid not in self.packets
        self.packets[mid] = packet


def packet(mid: int) -> Pieces:
    return (mid.to_bytes(2),)


def ignore(when_sent: Callable[[], None]) -> None:
    pass


def test_an_answer_is_that_to_its_message():
    """In whatever order the answers come; an error code is an exception."""
    sent = Sent()
    publications = Publications(sent.transmit)
    first, second, third = (publications.add(packet) for _ in range(3))
    publications.answer(3, NO_MATCHING_SUBSCRIBERS)
    publications.answer(1, PACKET_TOO_LARGE)
    assert third.result(0) == NO_MATCHING_SUBSCRIBERS
    assert isinstance(first.exception(0), Refused)
    assert not second.done()
    publications.answer(1, 0)  # answered already
    publications.answer(77, 0)  # never sent
    assert not second.done()
    assert sent.packets == {mid: packet(mid) for mid in (1, 2, 3)}


def test_messages_beyond_the_receive_maximum_wait():
    """They are sent in their order, one for each answer."""
    sent = Sent()
    publications = Publications(sent.transmit)
    publications.receive_maximum = 2
    futures = [publications.add(packet) for _ in range(5)]
    assert list(sent.packets) == [1, 2]
    publications.answer(2, 0)
    assert list(sent.packets) == [1, 2, 3]
    publications.answer(1, 0)
    publications.answer(3, 0)
    assert list(sent.packets) == [1, 2, 3, 4, 5]
    assert [future.done() for future in futures] == [True, True, True, False, False]


def test_a_packet_identifier_is_not_used_twice_at_the_same_time():
    """Identifiers begin again after 65,535, and those of unanswered messages are left out."""
    publications = Publications(lambda mid, packet: None)
    stuck = publications.add(packet)
    for mid in range(2, 65_536):
        publications.add(packet)
        publications.answer(mid, 0)
    sent: list[int] = []
    publications._transmit = lambda mid, packet: sent.append(mid)
    publications.add(packet)
    assert sent == [2]
    assert publications.reserve_mid() == 3
    assert not stuck.done()


def test_what_is_unanswered_fails_when_the_connection_ends():
    """Also what waits, what has QoS 0, and what is published afterwards."""
    publications = Publications(lambda mid, packet: None)
    publications.receive_maximum = 1
    futures = [publications.add(packet), publications.add(packet), publications.add_unanswerable(1, ignore)]
    publications.end("gone")
    futures += [publications.add(packet), publications.add_unanswerable(1, ignore)]
    for future in futures:
        with pytest.raises(LinkLost, match="gone"):
            future.result(0)
    publications.answer(1, 0)


def test_a_qos_0_message_is_done_when_it_is_sent():
    """Once, and not if the connection had ended before."""
    publications = Publications(lambda mid, packet: None)
    sent: list[Callable[[], None]] = []
    future = publications.add_unanswerable(1, sent.append)
    (when_sent,) = sent
    assert not future.done()
    when_sent()
    assert future.result(0) == 0
    when_sent()


def test_messages_beyond_the_rate_wait_in_their_order():
    """Whatever their QoS. Those that wait for the rate and those that wait for answers do not overtake each other."""
    now = [0.0]
    sent = Sent()
    publications = Publications(sent.transmit, RateLimit(1, None, lambda: now[0]))
    publications.receive_maximum = 2
    announced: list[Callable[[], None]] = []
    publications.add(packet)
    publications.add_unanswerable(1, announced.append)
    publications.add(packet)
    publications.add(packet)
    assert (list(sent.packets), len(announced)) == ([1], 0)
    assert publications.send_waiting() == 1.0
    now[0] = 1.0
    assert publications.send_waiting() == 1.0
    assert (list(sent.packets), len(announced)) == ([1], 1)
    now[0] = 2.0
    assert publications.send_waiting() == math.inf  # the broker has to answer first
    assert list(sent.packets) == [1, 2]
    now[0] = 3.0
    publications.answer(1, 0)
    assert list(sent.packets) == [1, 2, 3]


@pytest.mark.parametrize(
    ("messages", "size"), [pytest.param(100, 1, marks=pytest.mark.slow), (10**6, 20_000), (7.5, 3000), (0.2, 10)]
)
def test_a_rate_holds_in_every_second(messages: float, size: int):
    """Wherever the second begins, and as much as is allowed is sent."""
    now = [0.0]
    limit = RateLimit(messages, 500_000, lambda: now[0])
    sent: list[float] = []
    while now[0] < 60:
        wait = limit.wait_seconds(size)
        if wait == 0:
            limit.note(size)
            sent.append(now[0])
        now[0] += wait
    window = max(1.0, 1 / messages)
    allowed = min(math.floor(messages * window), math.floor(500_000 * window / size))
    assert sum(at < 0.2 * window for at in sent) <= 1 + 0.3 * allowed  # spread evenly
    for start in sent:
        assert sum(start <= at < start + window - 1e-4 for at in sent) <= allowed
    assert len(sent) >= 0.95 * allowed * math.floor(60 / window)


def test_a_message_larger_than_the_rate_is_sent_alone():
    """It would wait for ever otherwise."""
    now = [0.0]
    limit = RateLimit(None, 1000, lambda: now[0])
    limit.note(10)
    assert limit.wait_seconds(5000) == 1.0
    now[0] = 1.0
    assert limit.wait_seconds(5000) == 0.0
