"""The forwarder, as a process between two real brokers."""

from pathlib import Path

import pytest

from demo.ports import free_port
from demo.program import await_true
from demo.stack import DEVICE, OPERATOR, Stack
from edge.forwarder.forwarder import MAX_RECEIPT_BYTES
from edge.forwarder.relay import MAX_HELD_BYTES
from tests.builders import Peer, make_face
from tests.scrape import scrape
from wire import face, probe, status
from wire.mqtt.properties import Properties, unpack

FACES = f"devices/{DEVICE}/faces"


@pytest.fixture
def brokers(stack: Stack) -> Stack:
    """A local and a cloud broker of this test."""
    stack.start_broker("local-broker")
    stack.start_broker("cloud-broker")
    return stack


def start(stack: Stack, **settings: str) -> None:
    """Start the forwarder, and wait until its status says that both brokers are connected."""
    stack.start("forwarder", **settings)
    with Peer(stack.local_port, "status/forwarder/+") as watcher:
        await_true(
            lambda: any(status.decode(message.payload).get("cloud") == "up" for message in watcher.messages),
            10,
            "the forwarder is connected",
        )


def _payloads(peer: Peer) -> list[bytes]:
    """The payloads that have arrived, without probes."""
    return [message.payload for message in peer.messages if not probe.is_probe(message.properties, message.payload)]


EVERY_PROPERTY = Properties(
    content_type="image/jpeg",
    correlation_data=b"\x00\x01",
    user_properties=(("b", "2"), ("a", "1"), ("a", "\u00fc\ufeff")),
    response_topic="answers/here",
    payload_format=0,
    message_expiry_seconds=1000,
)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_is_forwarded_unchanged(brokers: Stack, qos: int):
    """With its payload, its QoS and every MQTT 5 property, under the mapped topic."""
    start(brokers, MQTT_QOS=str(qos))
    with Peer(brokers.watch_port, "devices/#") as cloud, Peer(brokers.local_port) as local:
        local.session.publish("faces/door", b"picture", qos=qos, properties=EVERY_PROPERTY)
        await_true(lambda: b"picture" in _payloads(cloud), 10, "the face is in the cloud")
        (message,) = [arrived for arrived in cloud.messages if arrived.payload == b"picture"]
    assert (message.topic, message.payload, message.properties) == (f"{FACES}/door", b"picture", EVERY_PROPERTY)
    assert message.qos == qos


def test_more_properties_than_are_unpacked_are_forwarded_unchanged(brokers: Stack):
    """To a broker that accepts them. Its subscriber decides what becomes of the message."""
    many = Properties(correlation_data=b"id", user_properties=(("a", "b"),) * 100)
    start(brokers, **brokers.without_tls())
    with Peer(brokers.watch_port, "devices/#") as cloud, Peer(brokers.local_port) as local:
        local.session.publish("faces/door", b"picture", qos=1, properties=many)
        await_true(lambda: b"picture" in _payloads(cloud), 10, "the message is in the cloud")
        (message,) = [arrived for arrived in cloud.messages if arrived.payload == b"picture"]
    assert message.properties == unpack(many.pack(), 0)[0]
    assert message.properties.excess is not None


def test_more_properties_than_the_cloud_accepts_are_refused_and_counted(brokers: Stack):
    """They do not block the messages behind them."""
    port = free_port()
    start(brokers, METRICS_PORT=str(port))
    many = Properties(user_properties=(("a", "b"),) * 100)
    with Peer(brokers.watch_port, "devices/#") as cloud, Peer(brokers.local_port) as local:
        local.session.publish("faces/door", b"many", qos=1, properties=many)
        local.session.publish("faces/door", b"behind", qos=1)
        await_true(lambda: b"behind" in _payloads(cloud), 10, "the message behind it arrives")
    assert b"many" not in _payloads(cloud)
    assert scrape(port)["facewire_messages_refused_total{direction=up}"] == 1


def test_a_receipt_is_forwarded_with_its_id(brokers: Stack):
    """One for another device is not."""
    start(brokers)
    with Peer(brokers.local_port, "receipts/#") as local, Peer(brokers.watch_port) as cloud:
        for device, number in (("jetson-2", b"theirs"), (DEVICE, b"ours")):
            cloud.session.publish(
                f"devices/{device}/receipts/door", b"", qos=1, properties=Properties(correlation_data=number)
            )
        (message,) = local.await_messages(1)
    assert (message.topic, message.payload, message.properties.correlation_data) == ("receipts/door", b"", b"ours")
    assert len(local.messages) == 1


def test_a_message_is_acknowledged_after_the_cloud_broker_has_accepted_it(brokers: Stack):
    """If the forwarder is killed while the cloud is unreachable, the local broker delivers the messages again."""
    port = free_port()
    start(brokers, METRICS_PORT=str(port))
    brokers.programs["cloud-broker"].kill()
    with Peer(brokers.local_port) as local:
        for number in range(20):
            local.session.publish("faces/door", b"%d" % number, qos=1).result(10)
    await_true(lambda: scrape(port)["facewire_messages_held{direction=up}"] >= 20, 20, "the forwarder has all of them")
    brokers.programs["forwarder"].kill()
    brokers.start_broker("cloud-broker")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        start(brokers)
        await_true(lambda: len(_payloads(cloud)) >= 20, 20, "all have arrived")
    assert sorted(map(int, _payloads(cloud))) == list(range(20))


def test_waiting_messages_are_forwarded_when_the_cloud_returns(brokers: Stack):
    """Those beyond the receive maximum wait in the local broker."""
    start(brokers)
    brokers.programs["cloud-broker"].kill()
    with Peer(brokers.local_port) as local:
        for number in range(200):
            local.session.publish("faces/door", b"%d" % number, qos=1).result(10)
    brokers.start_broker("cloud-broker")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        await_true(lambda: len(set(_payloads(cloud))) == 200, 40, "all have arrived")


@pytest.mark.slow
def test_large_messages_fill_neither_process_nor_broker_while_the_cloud_is_away(brokers: Stack):
    """The forwarder holds as many bytes as it may, the rest waits in the local broker, and nothing is lost."""
    port = free_port()
    start(brokers, METRICS_PORT=str(port))
    brokers.programs["cloud-broker"].kill()
    payloads = [number.to_bytes(2) + bytes(131_072 - 2) for number in range(200)]
    with Peer(brokers.local_port) as local:
        for payload in payloads:
            local.session.publish("faces/door", payload, qos=1).result(10)
    held = "facewire_messages_held_bytes{direction=up}"
    await_true(lambda: scrape(port)[held] >= MAX_HELD_BYTES, 20, "the forwarder holds what it may")
    measured = scrape(port)
    assert measured[held] < MAX_HELD_BYTES + 3 * 131_072
    assert measured["facewire_link_up{broker=local}"] == 1
    brokers.start_broker("cloud-broker")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        await_true(lambda: len(set(_payloads(cloud))) == len(payloads), 40, "all have arrived")
    await_true(lambda: scrape(port)[held] == 0, 20, "the forwarder holds nothing")


def test_a_receipt_that_is_too_large_is_refused(brokers: Stack):
    """Otherwise the cloud could fill the memory of the forwarder. Others pass."""
    port = free_port()
    start(brokers, METRICS_PORT=str(port))
    topic = f"devices/{DEVICE}/receipts/door"
    with Peer(brokers.local_port, "receipts/+") as local, Peer(brokers.watch_port) as cloud:
        for payload in (bytes(MAX_RECEIPT_BYTES), b"small"):
            cloud.session.publish(topic, payload, qos=1).result(10)
        assert local.await_messages(1)[0].payload == b"small"
    assert scrape(port)["facewire_messages_refused_total{direction=down}"] == 1


def test_a_face_waits_for_a_subscriber_in_the_cloud(brokers: Stack):
    """The broker would accept and discard it. The edge is often started before the sink."""
    start(brokers)
    with Peer(brokers.local_port) as local:
        for number in range(5):
            local.session.publish("faces/door", b"%d" % number, qos=1).result(10)
        await_true(lambda: "no subscriber yet" in brokers.programs["forwarder"].output(), 10, "the warning is logged")
    with Peer(brokers.watch_port, "devices/+/faces/#") as cloud:
        await_true(lambda: len(_payloads(cloud)) >= 5, 20, "all have arrived")
    assert sorted(map(int, _payloads(cloud))) == list(range(5))
    assert brokers.programs["forwarder"].output().count("no subscriber yet") == 1


def test_a_refused_message_is_logged_and_does_not_block_others(stack: Stack):
    """The log names the reason, the topic and the face's id."""
    acl = stack.folder / "acl"
    stack.folder.chmod(0o755)
    acl.write_text(
        f"topic readwrite {FACES}/door\ntopic read devices/#\ntopic write devices/{DEVICE}/status/#\n"
        f"user {OPERATOR}\ntopic readwrite #\n"
    )
    stack.start_broker("local-broker")
    stack.start_broker("cloud-broker", f"acl_file {acl}\n")
    start(stack, **stack.without_tls())
    refused = make_face()
    with Peer(stack.watch_port, "devices/+/faces/#") as cloud, Peer(stack.local_port) as local:
        local.session.publish("faces/garden", refused.jpeg, qos=1, properties=face.encode(refused))
        local.session.publish("faces/door", b"behind", qos=1)
        await_true(lambda: b"behind" in _payloads(cloud), 10, "the message behind it arrives")
    assert _payloads(cloud) == [b"behind"]
    (line,) = [
        line for line in stack.programs["forwarder"].output().splitlines() if "refused" in line and "id=" in line
    ]
    assert "Not authorized" in line
    assert refused.id in line
    assert "faces/garden" in line


@pytest.mark.slow
def test_messages_above_the_rate_of_the_cloud_wait(stack: Stack):
    """They are published again about once a second, and none is refused."""
    stack.limits = {"byte_burst": 300_000, "bytes_per_second": 200_000}
    stack.start_broker("local-broker")
    stack.start_broker("cloud-broker")
    start(stack, METRICS_PORT=str(port := free_port()))
    faces = [make_face(jpeg=bytes((number,)) * 60_000) for number in range(20)]
    with Peer(stack.watch_port, "devices/+/faces/#") as cloud, Peer(stack.local_port) as local:
        for one in faces:
            local.session.publish("faces/door", one.jpeg, qos=1, properties=face.encode(one))
        await_true(lambda: len(_payloads(cloud)) >= len(faces), 60, "every face is in the cloud")
        assert sorted(_payloads(cloud)) == sorted(one.jpeg for one in faces)
    assert scrape(port)["facewire_messages_refused_total{direction=up}"] == 0
    assert stack.programs["forwarder"].output().count("the broker limits the rate, waiting") == 1


def test_with_receipts_by_the_broker_the_forwarder_sends_them(brokers: Stack):
    """Once the cloud broker has accepted a face, with or without a subscriber."""
    start(brokers, RECEIPTS="broker")
    with Peer(brokers.local_port, "receipts/#") as local:
        for number in (b"a", b"b"):
            local.session.publish("faces/door", b"x", qos=1, properties=Properties(correlation_data=number))
        local.session.publish("faces/deep/down", b"x", qos=1, properties=Properties(correlation_data=b"c"))
        local.session.publish("faces/door", b"without an id", qos=1)
        messages = local.await_messages(2)
    assert {(message.topic, message.properties.correlation_data) for message in messages} == {
        ("receipts/door", b"a"),
        ("receipts/door", b"b"),
    }
    assert len(local.messages) == 2


def _last(peer: Peer) -> str:
    return peer.messages[-1].payload.decode() if peer.messages else ""


def test_the_status_is_offline_when_the_forwarder_is_killed(brokers: Stack):
    """The local status is retained for detectors that connect later; the cloud status is not retained."""
    topic = f"status/forwarder/{DEVICE}"
    with Peer(brokers.watch_port, f"devices/{DEVICE}/{topic}") as cloud:
        start(brokers)
        await_true(
            lambda: '"cloud":"up"' in _last(cloud) or '"cloud": "up"' in _last(cloud),
            10,
            "the status is up",
        )
        brokers.programs["forwarder"].kill()
        await_true(lambda: cloud.messages[-1].payload == status.OFFLINE, 10, "the last will arrives")
        assert not any(message.retain for message in cloud.messages)
    with Peer(brokers.local_port, topic) as later:
        (retained,) = later.await_messages(1)
    assert retained.payload == status.OFFLINE


def test_the_cloud_password_is_read_from_a_file(stack: Stack, tmp_path: Path):
    """With a wrong password, the broker's reason is logged."""
    import subprocess

    stack.folder.chmod(0o755)
    passwords, secret = stack.folder / "passwords", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), DEVICE, "hush"], check=True)
    secret.write_text("hush\n")
    stack.start_broker("local-broker")
    lines = f"password_file {passwords}\n"
    stack.start_broker("cloud-broker", lines + "allow_anonymous false\n")
    way = stack.without_tls() | {"CLOUD_MQTT_USERNAME": DEVICE}
    wrong = stack.start("forwarder", **way, CLOUD_MQTT_PASSWORD="wrong")
    await_true(lambda: "Not authorized" in wrong.output(), 10, "the refusal is logged")
    assert f"expected the certificate or password of device {DEVICE}, see DEVICE_ID" in wrong.output()
    wrong.stop()
    start(stack, **way, CLOUD_MQTT_PASSWORD_FILE=str(secret))
    assert "hush" not in stack.programs["forwarder"].output()
