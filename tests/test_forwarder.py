"""The forwarder as a process, between two real brokers."""

from pathlib import Path

import pytest

from demo.program import await_true
from demo.stack import DEVICE, Stack
from tests.builders import Peer, make_face
from wire import face, status
from wire.mqtt.properties import Properties

FACES = f"devices/{DEVICE}/faces"


@pytest.fixture
def brokers(stack: Stack) -> Stack:
    """Two brokers of the test's own."""
    stack.start_broker("local-broker")
    stack.start_broker("cloud-broker")
    return stack


def start(stack: Stack, **settings: str) -> None:
    """Start the forwarder and wait until it says that both its links are up."""
    stack.start("forwarder", **settings)
    with Peer(stack.local_port, "status/forwarder/+") as watcher:
        await_true(
            lambda: any(status.decode(message.payload).get("cloud") == "up" for message in watcher.messages),
            10,
            "the forwarder is connected",
        )


EVERY_PROPERTY = Properties(
    content_type="image/jpeg",
    correlation_data=b"\x00\x01",
    user_properties=(("b", "2"), ("a", "1"), ("a", "\u00fc\ufeff")),
    response_topic="answers/here",
    payload_format=0,
    message_expiry_seconds=1000,
)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_everything_about_a_message_survives_the_way_up(brokers: Stack, qos: int):
    """Payload and every MQTT 5 property; the topic by the one mapping rule."""
    start(brokers, MQTT_QOS=str(qos))
    with Peer(brokers.watch_port, "devices/#") as cloud, Peer(brokers.local_port) as local:
        local.session.publish("faces/door", b"picture", qos=qos, properties=EVERY_PROPERTY)
        await_true(lambda: any("faces" in message.topic for message in cloud.messages), 10, "the face is up")
        (got,) = [message for message in cloud.messages if "faces" in message.topic]
    assert (got.topic, got.payload, got.properties) == (f"{FACES}/door", b"picture", EVERY_PROPERTY)
    assert got.qos == qos


def test_a_receipt_comes_down_with_its_id(brokers: Stack):
    """And one of another device does not."""
    start(brokers)
    with Peer(brokers.local_port, "receipts/#") as local, Peer(brokers.watch_port) as cloud:
        for device, number in (("jetson-2", b"theirs"), (DEVICE, b"ours")):
            cloud.session.publish(
                f"devices/{device}/receipts/door", b"", qos=1, properties=Properties(correlation_data=number)
            )
        (got,) = local.await_messages(1)
    assert (got.topic, got.payload, got.properties.correlation_data) == ("receipts/door", b"", b"ours")
    assert len(local.messages) == 1


def test_a_message_is_acknowledged_only_once_the_cloud_has_it(brokers: Stack):
    """With the cloud away the forwarder is killed: the local broker delivers all of it again."""
    start(brokers)
    brokers.programs["cloud-broker"].kill()
    with Peer(brokers.local_port) as local:
        for number in range(20):
            local.session.publish("faces/door", b"%d" % number, qos=1).result(10)
    brokers.programs["forwarder"].kill()
    brokers.start_broker("cloud-broker")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        start(brokers)
        got = cloud.await_messages(20)
    assert sorted(int(message.payload) for message in got) == list(range(20))


def test_what_waits_sets_out_when_the_cloud_returns(brokers: Stack):
    """Without a restart; more than it may hold at once waits in the local broker."""
    start(brokers)
    brokers.programs["cloud-broker"].kill()
    with Peer(brokers.local_port) as local:
        for number in range(200):
            local.session.publish("faces/door", b"%d" % number, qos=1).result(10)
    brokers.start_broker("cloud-broker")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        await_true(lambda: len({message.payload for message in cloud.messages}) == 200, 40, "all have arrived")


def test_a_face_waits_until_somebody_in_the_cloud_takes_faces(brokers: Stack):
    """The broker would accept and forget it. At the first start the edge is often up before the sink is."""
    start(brokers)
    with Peer(brokers.local_port) as local:
        for number in range(5):
            local.session.publish("faces/door", b"%d" % number, qos=1).result(10)
        await_true(lambda: "nobody has subscribed" in brokers.programs["forwarder"].output(), 10, "it says so")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        cloud.await_messages(5)
    assert brokers.programs["forwarder"].output().count("nobody has subscribed") == 1


def test_a_refused_message_is_logged_with_its_reason_and_does_not_stop_those_behind_it(stack: Stack):
    """The detector keeps it in its outbox; the forwarder counts it."""
    acl = stack.folder / "acl"
    stack.folder.chmod(0o755)
    acl.write_text(f"topic readwrite {FACES}/door\ntopic read devices/#\ntopic write devices/{DEVICE}/status/#\n")
    stack.start_broker("local-broker")
    stack.start_broker("cloud-broker", f"acl_file {acl}\n")
    start(stack, **stack.in_the_open())
    refused = make_face()
    with Peer(stack.watch_port, "devices/+/faces/#") as cloud, Peer(stack.local_port) as local:
        local.session.publish("faces/garden", refused.jpeg, qos=1, properties=face.encode(refused))
        local.session.publish("faces/door", b"behind", qos=1)
        (got,) = cloud.await_messages(1)
    assert got.payload == b"behind"
    (line,) = [
        line for line in stack.programs["forwarder"].output().splitlines() if "refused" in line and "id=" in line
    ]
    assert "Not authorized" in line
    assert refused.id in line
    assert "faces/garden" in line


def test_with_receipts_by_the_broker_the_forwarder_signs(brokers: Stack):
    """For a cloud broker that delivers to S3 by itself: on its acceptance, with or without a subscriber."""
    start(brokers, RECEIPTS="broker")
    with Peer(brokers.local_port, "receipts/#") as local:
        for number in (b"a", b"b"):
            local.session.publish("faces/door", b"x", qos=1, properties=Properties(correlation_data=number))
        local.session.publish("faces/deep/down", b"x", qos=1, properties=Properties(correlation_data=b"c"))
        local.session.publish("faces/door", b"without an id", qos=1)
        got = local.await_messages(2)
    assert {(message.topic, message.properties.correlation_data) for message in got} == {
        ("receipts/door", b"a"),
        ("receipts/door", b"b"),
    }
    assert len(local.messages) == 2


def _last(peer: Peer) -> str:
    return peer.messages[-1].payload.decode() if peer.messages else ""


def test_its_status_says_offline_when_it_is_killed(brokers: Stack):
    """Detectors hold back while it is away, also those that come later; the cloud's broker keeps nothing for later."""
    topic = f"status/forwarder/{DEVICE}"
    with Peer(brokers.watch_port, f"devices/{DEVICE}/{topic}") as cloud:
        start(brokers)
        await_true(
            lambda: '"cloud":"up"' in _last(cloud) or '"cloud": "up"' in _last(cloud), 10, "it says that it is up"
        )
        brokers.programs["forwarder"].kill()
        await_true(lambda: cloud.messages[-1].payload == status.OFFLINE, 10, "the last will arrives")
        assert not any(message.retain for message in cloud.messages)
    with Peer(brokers.local_port, topic) as later:
        (kept,) = later.await_messages(1)
    assert kept.payload == status.OFFLINE


def test_a_broker_that_wants_a_password_gets_it(stack: Stack, tmp_path: Path):
    """From a file, for the cloud's broker; without it the reason is logged."""
    import subprocess

    stack.folder.chmod(0o755)
    passwords, secret = stack.folder / "passwords", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), DEVICE, "hush"], check=True)
    secret.write_text("hush\n")
    stack.start_broker("local-broker")
    lines = f"password_file {passwords}\n"
    stack.start_broker("cloud-broker", lines + "allow_anonymous false\n")
    way = stack.in_the_open() | {"CLOUD_MQTT_USERNAME": DEVICE}
    wrong = stack.start("forwarder", **way, CLOUD_MQTT_PASSWORD="wrong")
    await_true(lambda: "Not authorized" in wrong.output(), 10, "the refusal is logged")
    wrong.stop()
    start(stack, **way, CLOUD_MQTT_PASSWORD_FILE=str(secret))
    assert "hush" not in stack.programs["forwarder"].output()
