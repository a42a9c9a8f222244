"""The forwarder on links that are neither up nor down: thin ones, and a cloud in which nobody has subscribed."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from demo.program import await_true
from demo.stack import DEVICE, Stack
from edge.forwarder.conflation import BURST
from tests.builders import Peer, make_faces
from tests.chaos.proxy import Mode, TcpProxy
from wire import face, probe, status
from wire.face import Face

FACES = f"devices/{DEVICE}/faces/#"
STATUS = f"devices/{DEVICE}/status/#"
FACE_BYTES = 20_000
LATER = make_faces(1)[0]
"""A face that is published last: when it has arrived, nothing before it is still on its way."""


@pytest.fixture
def brokers(stack: Stack) -> Stack:
    """A local and a cloud broker of this test."""
    stack.start_broker("local-broker")
    stack.start_broker("cloud-broker")
    return stack


@pytest.fixture
def link(brokers: Stack) -> Iterator[TcpProxy]:
    """The link to the cloud, with a connected forwarder."""
    with TcpProxy(brokers.cloud_port) as proxy:
        brokers.start_connected("forwarder", CLOUD_MQTT_PORT=str(proxy.port))
        yield proxy


def large_faces(count: int) -> list[Face]:
    return [replace(one, jpeg=b"\xff\xd8" + bytes(FACE_BYTES - 4) + b"\xff\xd9") for one in make_faces(count)]


def publish(peer: Peer, faces: list[Face]) -> None:
    """Publish faces as a detector does, and wait until the local broker has them."""
    answers = [peer.session.publish("faces/door", one.jpeg, qos=1, properties=face.encode(one)) for one in faces]
    for answer in answers:
        answer.result(40)


def arrived(peer: Peer) -> Counter[str]:
    """The ids of the faces that have arrived, with the number of uploads."""
    ids = [message.properties.correlation_data for message in peer.messages if "/faces/" in message.topic]
    return Counter(number.decode() for number in ids if number is not None)


@pytest.mark.slow
def test_copies_of_a_face_are_uploaded_once_while_the_link_is_thin(brokers: Stack, link: TcpProxy):
    """The detector sends a face again when its receipt is overdue; the first copy is still on its way."""
    faces = large_faces(5)
    with Peer(brokers.watch_port, FACES) as cloud, Peer(brokers.local_port) as local:
        link.bytes_per_second = 25_000.0
        before = link.bytes_up
        for _ in range(3):
            publish(local, faces)
        await_true(lambda: len(arrived(cloud)) == 5, 30, "every face has arrived")
        publish(local, [LATER])
        await_true(lambda: LATER.id in arrived(cloud), 30, "a later face has arrived")
        assert link.bytes_up - before < 5 * FACE_BYTES * 1.3
        assert set(arrived(cloud).values()) == {1}


@pytest.mark.slow
def test_copies_are_uploaded_once_if_the_local_broker_is_restarted(brokers: Stack, link: TcpProxy):
    """The broker has lost everything, but what is under way to the cloud still is."""
    faces = large_faces(2)
    with Peer(brokers.watch_port, FACES) as cloud, Peer(brokers.local_port) as local:
        before = link.bytes_up
        link.bytes_per_second = 5_000.0
        publish(local, faces)
        await_true(lambda: link.bytes_up > before, 20, "the upload has begun")
        brokers.programs["local-broker"].kill()
        brokers.start_broker("local-broker")
        watcher_of = f"status/forwarder/{DEVICE}"
        with Peer(brokers.local_port, watcher_of) as watcher:
            watcher.await_messages(1, 20)
            publish(watcher, faces)
            await_true(lambda: len(arrived(cloud)) == 2, 30, "every face has arrived")
        link.bytes_per_second = None
        await_true(lambda: local.session.connected, 20, "the publisher is connected again")
        publish(local, [LATER])
        await_true(lambda: LATER.id in arrived(cloud), 20, "a later face has arrived")
        assert set(arrived(cloud).values()) == {1}


def test_while_nobody_has_subscribed_no_face_is_uploaded(brokers: Stack, link: TcpProxy):
    """A probe asks. The rest waits, and goes up when there is a subscriber."""
    faces = large_faces(5)
    with Peer(brokers.local_port) as local:
        before = link.bytes_up
        publish(local, faces)
        forwarder = brokers.programs["forwarder"]
        await_true(lambda: "no subscriber yet" in forwarder.output(), 10, "the warning is logged")
        asked = link.bytes_up
        await_true(lambda: link.bytes_up > asked, 20, "it asks again")
        assert link.bytes_up - before < FACE_BYTES / 4
        with Peer(brokers.watch_port, FACES) as cloud:
            await_true(lambda: len(arrived(cloud)) == 5, 30, "every face has arrived")
            assert set(arrived(cloud).values()) == {1}
            probes = [m for m in cloud.messages if probe.is_probe(m.properties, m.payload)]
            assert len(probes) <= 1


def test_a_new_connection_to_the_cloud_asks_at_once(brokers: Stack, link: TcpProxy):
    """It may be another broker, whose subscribers have not come back."""
    with Peer(brokers.local_port) as local:
        link.mode = Mode.CUT
        publish(local, large_faces(3))
        before = link.bytes_up
        link.mode = Mode.PASS
        forwarder = brokers.programs["forwarder"]
        await_true(lambda: "no subscriber yet" in forwarder.output(), 30, "it has asked")
        assert link.bytes_up - before < FACE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("qos", ["1", "2"])
def test_the_faces_under_way_are_bounded_by_the_link(brokers: Stack, qos: str):
    """What does not fit waits in the forwarder. When the link is cut, little of it is lost on the way."""
    faces = large_faces(20)
    with TcpProxy(brokers.cloud_port) as link:
        brokers.start_connected("forwarder", CLOUD_MQTT_PORT=str(link.port), MQTT_QOS=qos)
        with Peer(brokers.watch_port, FACES) as cloud, Peer(brokers.local_port) as local:
            before = link.bytes_up
            link.bytes_per_second = 20_000.0
            publish(local, faces)
            await_true(lambda: link.bytes_up - before > 3 * FACE_BYTES, 20, "some faces have been sent")
            link.mode = Mode.CUT
            link.bytes_per_second = None
            link.mode = Mode.PASS
            await_true(lambda: len(arrived(cloud)) == 20, 30, "every face has arrived")
            assert sum(arrived(cloud).values()) <= 20 + 3
            assert link.bytes_up - before < 27 * FACE_BYTES


@pytest.mark.slow
def test_after_an_outage_only_the_newest_status_goes_up(brokers: Stack, link: TcpProxy):
    """Statuses do not go ahead of the faces in a crowd."""
    with Peer(brokers.watch_port, FACES, STATUS) as cloud, Peer(brokers.local_port) as local:
        await_true(lambda: any("status" in message.topic for message in cloud.messages), 20, "a status is in the cloud")
        link.mode = Mode.CUT
        numbers = itertools.count()
        for _ in range(200):
            payload = status.encode(frames=next(numbers))
            local.session.publish("status/detector/door", payload, qos=1, properties=status.PROPERTIES).result(40)
        publish(local, make_faces(1))
        link.mode = Mode.PASS
        await_true(lambda: len(arrived(cloud)) == 1, 30, "the face has arrived")
        ours = [message for message in cloud.messages if message.topic.endswith("status/detector/door")]
        await_true(lambda: any(b":199" in message.payload for message in cloud.messages), 30, "the newest has arrived")
        assert len(ours) <= BURST
        assert all(message.properties.message_expiry_seconds for message in ours)


def test_the_retained_status_of_the_forwarder_expires(brokers: Stack, link: TcpProxy):
    """So that it is never old."""
    with Peer(brokers.local_port, f"status/forwarder/{DEVICE}") as local:
        (message, *_) = local.await_messages(1)
        assert 0 < (message.properties.message_expiry_seconds or 0) <= 60


@pytest.mark.slow
def test_a_face_of_110_kb_arrives_over_a_link_of_32_kbit_per_second(brokers: Stack, link: TcpProxy):
    """It takes 27 s, more than any keepalive that would find a dead link soon. Nothing is uploaded twice."""
    faces = [replace(one, jpeg=b"\xff\xd8" + bytes(109_996) + b"\xff\xd9") for one in make_faces(2)]
    with Peer(brokers.watch_port, FACES) as cloud, Peer(brokers.local_port) as local:
        link.bytes_per_second = 4_000.0
        publish(local, faces)
        await_true(lambda: len(arrived(cloud)) == 2, 90, "both have arrived")
        assert set(arrived(cloud).values()) == {1}
    assert brokers.programs["forwarder"].output().count("not connected") == 0
