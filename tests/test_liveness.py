"""Whether a connection is alive, decided from its progress, with a clock that the test sets."""

import socket

import pytest

from demo.ports import HOST
from demo.program import await_true
from wire.mqtt.liveness import (
    BUFFER_BYTES,
    MAX_PING_SECONDS,
    PING_SECONDS,
    SLOW_BYTES_PER_SECOND,
    STALLED_SECONDS,
    UNANSWERED_SECONDS,
    Liveness,
    Verdict,
    unacknowledged_bytes,
)

KEEPALIVE_SECONDS = 60.0
FACE_BYTES = 110_000


class Link:
    """A connection whose liveness is checked once a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.liveness = Liveness(lambda: self.now)
        self.unacknowledged = 0

    def publish(self, number: int, size: int) -> None:
        """Queue a PUBLISH, which the operating system takes at once."""
        self.liveness.on_queued(size, number)
        self.liveness.on_sent(size)
        self.unacknowledged += size

    def ping(self) -> None:
        self.liveness.on_queued(2, is_ping=True)
        self.liveness.on_sent(2)
        self.unacknowledged += 2

    def check(self) -> Verdict:
        return self.liveness.check(self.unacknowledged, KEEPALIVE_SECONDS)

    def run(self, seconds: float, carried: int = 0) -> Verdict:
        """Let time pass, with so many bytes carried each second, until the connection is dead."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            self.unacknowledged = max(0, self.unacknowledged - carried)
            verdict = self.check()
            if verdict is Verdict.PING:
                self.ping()
            if verdict in (Verdict.DEAD, Verdict.UNANSWERED):
                return verdict
        return Verdict.ALIVE


def test_an_idle_connection_is_pinged():
    """After a time without a packet in either direction."""
    link = Link()
    link.now = PING_SECONDS - 1
    assert link.check() is Verdict.ALIVE
    link.now = PING_SECONDS
    assert link.check() is Verdict.PING


def test_an_idle_connection_through_a_black_hole_is_dead_within_20_seconds():
    """The packets arrive at the other host or not."""
    for carried in (0, 10):
        link = Link()
        assert link.run(60, carried) is Verdict.DEAD
        assert link.now <= 20


def test_a_connection_on_which_data_does_not_move_is_dead():
    """Whatever arrives from the other side: acknowledgements of TCP do not."""
    link = Link()
    link.publish(1, 1000)
    for _ in range(30):
        link.liveness.on_received(100)
        if link.run(1) is Verdict.DEAD:
            break
    assert STALLED_SECONDS < link.now <= STALLED_SECONDS + 2


@pytest.mark.parametrize("rate", [2_000, 4_000, 50_000])
def test_a_thin_link_with_a_long_queue_is_alive(rate: int):
    """Ten faces one after the other, each answered when all of it has arrived."""
    link = Link()
    for number in range(10):
        link.publish(number, FACE_BYTES)
    for number in range(10):
        assert link.run(FACE_BYTES / rate, rate) is Verdict.ALIVE
        link.liveness.on_received(4)
        link.liveness.on_answer(number)


def test_what_buffers_on_the_way_hold_may_take_its_time():
    """They take 64 KiB at once, and pass it on at 16 kbit/s."""
    link = Link()
    link.publish(1, BUFFER_BYTES)
    assert link.run(BUFFER_BYTES / SLOW_BYTES_PER_SECOND, BUFFER_BYTES) is Verdict.ALIVE


def test_a_connection_that_was_fast_is_dead_soon():
    """Buffers on the way hold nothing for long."""
    link = Link()
    for number in range(20):
        link.publish(number, FACE_BYTES)
        assert link.run(1, FACE_BYTES) is Verdict.ALIVE
        link.liveness.on_received(4)
        link.liveness.on_answer(number)
    died_after = link.now
    link.publish(20, FACE_BYTES)
    assert link.run(60) is Verdict.DEAD
    assert link.now - died_after <= STALLED_SECONDS + 3


def test_a_connection_that_only_receives_is_dead_in_the_end():
    """What is sent does not arrive, but the broker goes on sending."""
    link = Link()
    while link.run(1, carried=1000) is Verdict.ALIVE:
        link.liveness.on_received(100)
    assert link.now <= PING_SECONDS + MAX_PING_SECONDS + 2


def test_a_slow_answer_to_a_publish_is_not_a_dead_connection():
    """The broker answers to PINGREQ, so it is alive. The answer may take a minute."""
    link = Link()
    for number in range(10):
        link.publish(number, 1000)
        for _ in range(55):
            assert link.run(1, carried=1000) is Verdict.ALIVE
            link.liveness.on_received(2)
            link.liveness.on_pong()
        link.liveness.on_answer(number)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_message_that_the_broker_discards_ends_the_connection(is_busy: bool):
    """It may be sent again only on a new one. Other messages may be sent and answered all the time."""
    link = Link()
    link.publish(1, 1000)
    verdict = Verdict.ALIVE
    while verdict is Verdict.ALIVE and link.now < 300:
        if is_busy:
            link.publish(2, 1000)
            link.liveness.on_answer(2)
        verdict = link.run(1, carried=10_000)
        link.liveness.on_received(2)
        link.liveness.on_pong()
    assert verdict is Verdict.UNANSWERED
    assert UNANSWERED_SECONDS < link.now <= 2 * UNANSWERED_SECONDS + 5


def test_the_operating_system_tells_what_has_not_been_acknowledged():
    """What the receiver's buffers have taken counts as arrived, and the rest does not."""
    with socket.create_server((HOST, 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_connection(server.getsockname()) as client:
            peer, _ = server.accept()
            client.setblocking(False)
            sent = client.send(bytes(1 << 20))
            assert 0 < unacknowledged_bytes(client.fileno()) < sent
            received = 0
            while received < sent:
                received += len(peer.recv(65536))
            await_true(lambda: unacknowledged_bytes(client.fileno()) == 0, 10, "everything is acknowledged")
            peer.close()
    assert unacknowledged_bytes(-1) == 0
