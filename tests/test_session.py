"""The MQTT session, against real brokers: what paho gets wrong, and what a network does."""

import socket
import subprocess
from concurrent.futures import Future
from pathlib import Path

import pytest

from demo.program import HOST, await_true, find_program, free_port, listens
from demo.stack import Stack
from tests.builders import Peer
from wire.errors import LinkLost, Refused
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, SUCCESS, Message
from wire.mqtt.properties import Properties
from wire.process.backoff import delay_seconds

ACL = "topic readwrite open/#\n"


@pytest.fixture(scope="module")
def strict_port(tmp_path_factory: pytest.TempPathFactory, servers: Stack):
    """A broker that lets nobody write but below open/, takes 10 kB at most, and 5 messages at once."""
    folder, port = tmp_path_factory.mktemp("strict"), free_port()
    folder.chmod(0o755)
    acl = folder / "acl"
    acl.write_text(ACL)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} {HOST}\nallow_anonymous true\nacl_file {acl}\nmessage_size_limit 10000\n"
        "max_inflight_messages 5\nuser root\n"
    )
    process = subprocess.Popen([find_program("mosquitto"), "-c", str(config)], stderr=subprocess.DEVNULL)
    await_true(lambda: listens(port), 10, "the strict broker listens")
    yield port
    process.terminate()
    process.wait()


def result(answer: "Future[int]") -> int:
    return answer.result(timeout=10)


@pytest.mark.parametrize("qos", [1, 2])
def test_publishing_succeeds_only_on_a_positive_answer(strict_port: int, qos: int):
    """paho marks a message as published although the broker's ACL has refused it."""
    with Peer(strict_port, "open/#") as peer:
        assert result(peer.session.publish("open/a", b"x", qos=qos)) == SUCCESS
        with pytest.raises(Refused, match="Not authorized"):
            result(peer.session.publish("closed/a", b"x", qos=qos))
        assert result(peer.session.publish("open/b", b"x", qos=qos)) == SUCCESS
        assert [message.topic for message in peer.await_messages(2)] == ["open/a", "open/b"]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_is_too_large_is_refused_and_the_link_stays(strict_port: int, qos: int):
    """Mosquitto answers with a reason code that paho's table lacks; paho would drop the connection, over and over."""
    with Peer(strict_port, "open/#") as peer:
        with pytest.raises(Refused, match="Packet too large"):
            result(peer.session.publish("open/a", bytes(10001), qos=qos))
        assert result(peer.session.publish("open/a", b"x", qos=qos)) == SUCCESS
        assert peer.session.connected


def test_a_message_over_the_limit_that_the_broker_tells_is_not_even_sent(servers: Stack):
    """Mosquitto would end the connection over it; a forwarder would send it again, and again."""
    with Peer(servers.watch_port, "large/#") as peer:
        with pytest.raises(Refused, match="packet too large"):
            result(peer.session.publish("large/a", bytes(163_840), qos=1))
        assert result(peer.session.publish("large/a", bytes(163_000), qos=1)) == SUCCESS
        assert peer.session.connected


def test_nobody_has_subscribed_is_told(servers: Stack):
    """The broker accepts such a message and forgets it: the forwarder must know."""
    with Peer(servers.local_port) as peer:
        assert result(peer.session.publish("nobody/listens", b"x", qos=1)) == NO_MATCHING_SUBSCRIBERS


def test_more_is_published_than_the_broker_takes_at_once(strict_port: int):
    """Its receive maximum is kept to; a client that exceeds it would be thrown out."""
    with Peer(strict_port, "open/#") as peer:
        answers = [peer.session.publish("open/a", b"%d" % i, qos=1) for i in range(200)]
        assert [result(answer) for answer in answers] == [SUCCESS] * 200
        assert [message.payload for message in peer.await_messages(200)] == [b"%d" % i for i in range(200)]


def test_any_text_in_a_property_arrives(servers: Stack):
    """paho drops the connection over U+FEFF; the broker delivers the message again, and again."""
    sent = Properties(
        content_type="image/jpeg",
        correlation_data=b"\x00\xff",
        user_properties=(("name", "\ufeffvalue"), ("name", "twice")),
        response_topic="a/b",
        payload_format=0,
        message_expiry_seconds=100,
    )
    with Peer(servers.local_port, "strange/#") as peer:
        for qos in (0, 1, 2):
            result(peer.session.publish("strange/text", b"x", qos=qos, properties=sent))
        assert [message.properties for message in peer.await_messages(3)] == [sent] * 3


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_are_acknowledged_in_the_order_of_arrival(servers: Stack, qos: int):
    """MQTT asks for it. Writes to S3 finish out of order: nothing is acknowledged past one that is not done."""
    port = servers.watch_port
    with Peer(port, "ordered/#", client_id="ordered", session_expiry_seconds=60) as peer:
        peer.on_message = lambda message: None
        for i in range(5):
            result(peer.session.publish("ordered/a", b"%d" % i, qos=qos))
        messages = peer.await_messages(5)
        for i in (4, 2, 0):
            peer.session.acknowledge(messages[i])
    with Peer(port, "ordered/#", client_id="ordered", session_expiry_seconds=60) as peer:
        assert [message.payload for message in peer.await_messages(4)] == [b"1", b"2", b"3", b"4"]


def test_the_broker_sends_no_more_than_the_receive_maximum(servers: Stack):
    """What is not acknowledged bounds what a process has to hold in memory."""
    with Peer(servers.local_port, "bounded/#", receive_maximum=3) as peer:
        peer.on_message = lambda message: None
        answers = [peer.session.publish("bounded/a", b"%d" % i, qos=1) for i in range(10)]
        assert all(result(answer) == SUCCESS for answer in answers)
        first = peer.await_messages(3)
        assert len(peer.messages) == 3
        for message in first:
            peer.session.acknowledge(message)
        assert [message.payload for message in peer.await_messages(6)][3:] == [b"3", b"4", b"5"]


def test_a_lost_link_fails_what_is_under_way_and_mends_itself(stack: Stack):
    """Each publication ends, one way or the other; the session comes back and subscribes again."""
    broker = stack.start_broker("local-broker")
    with Peer(stack.local_port, "a/#") as peer:
        result(peer.session.publish("a/b", b"before", qos=1))
        broker.kill()
        await_true(lambda: not peer.session.connected, 10, "the loss is noticed")
        with pytest.raises(LinkLost):
            result(peer.session.publish("a/b", b"during", qos=1))
        stack.start_broker("local-broker")
        await_true(lambda: peer.session.connected, 20, "the session is back")
        result(peer.session.publish("a/b", b"after", qos=1))
        assert [message.payload for message in peer.await_messages(2)] == [b"before", b"after"]


def test_an_acknowledgement_for_a_lost_connection_does_nothing(stack: Stack):
    """Its number may stand for another message by now."""
    broker = stack.start_broker("local-broker")
    with Peer(stack.local_port, "a/#") as peer:
        peer.on_message = lambda message: None
        result(peer.session.publish("a/b", b"x", qos=1))
        (old,) = peer.await_messages(1)
        broker.kill()
        stack.start_broker("local-broker")
        await_true(lambda: not peer.session.connected, 10, "the loss is noticed")
        await_true(lambda: peer.session.connected, 20, "the session is back")
        result(peer.session.publish("a/b", b"y", qos=1))
        peer.await_messages(2)
        peer.session.acknowledge(old)
        assert peer.session.connected


def test_a_broker_that_is_away_is_mentioned_once(capfd: pytest.CaptureFixture[str], stack: Stack):
    """Then the session keeps trying quietly until it is back."""
    peer = Peer(stack.local_port)
    with socket.create_server((HOST, stack.local_port)) as closed_door:
        peer.session.start()
        for _ in range(4):
            closed_door.accept()[0].close()
    stack.start_broker("local-broker")
    await_true(lambda: peer.session.connected, 20, "the session is there")
    peer.session.close()
    out, err = capfd.readouterr()
    assert (out + err).count("no connection, trying again") == 1


def test_a_peer_that_never_answers_is_given_up(servers: Stack):
    """A port that takes connections and says nothing must not hold the session for good."""
    with socket.create_server((HOST, 0)) as mute:
        peer = Peer(mute.getsockname()[1])
        peer.session.start()
        mute.settimeout(40)
        for _ in range(2):  # the second connection shows that the first was given up
            connection, _ = mute.accept()
            connection.setblocking(True)
        peer.session.close()


def test_the_will_is_published_however_the_connection_ends(servers: Stack, tmp_path: Path):
    """A graceful end says «offline» as well."""
    from wire.mqtt.connection import Will

    with Peer(servers.local_port, "status/#") as watcher:
        with Peer(servers.local_port, will=Will("status/x/y", b"gone")):
            pass
        (message,) = watcher.await_messages(1)
        assert message.payload == b"gone"
        result(watcher.session.publish("status/x/y", b"", qos=1, retain=True))


def test_a_failing_callback_is_a_failure_of_the_process(servers: Stack):
    """paho would swallow it, and the broker would deliver the message again for ever."""
    peer = Peer(servers.local_port, "failing/#")

    def fail(message: Message) -> None:
        raise ZeroDivisionError

    peer.on_message = fail
    peer.session.start()
    await_true(lambda: peer.session.connected, 10, "the peer is connected")
    peer.session.publish("failing/a", b"x", qos=1)
    assert peer.stop.wait(10)
    assert isinstance(peer.stop.failure, ZeroDivisionError)
    peer.session.close()


def test_backoff_grows_with_jitter_and_stays_within_bounds():
    """From nothing to the bound, whatever the attempt; without jitter exactly the bound."""
    assert [delay_seconds(attempt, 0.5, 15, chance=1.0) for attempt in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]
    assert delay_seconds(3, 0.5, 15, chance=0.0) == 0
    assert delay_seconds(3, 0.5, 15, jitter=0.25, chance=0.0) == 3
    assert delay_seconds(10_000, 0.5, 15, chance=1.0) == 15
    assert all(0 <= delay_seconds(5, 0.5, 15) <= 15 for _ in range(100))
