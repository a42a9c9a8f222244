"""A device that wants to write or read what is not its own."""

import contextlib

import pytest

from demo.ports import HOST
from demo.program import await_true
from demo.stack import BUCKET, DEVICE, Stack
from tests.builders import make_face, make_jpeg
from tests.intrusion.attacker import (
    CROWD,
    ROGUE,
    Intruder,
    Record,
    check_stored_keys,
    credentials_of,
)
from tests.intrusion.honest_device import HonestDevice
from wire import face
from wire.errors import LinkLost, Refused
from wire.ids import time_of_id
from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import Connection
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import Properties

SINK_IDS = ("facewire.s3sink", "facewire-s3sink", "facewire-s3sink-s3sink", "facewire-check-facewire.s3sink-s3sink")
"""The sink's name in its certificate, and MQTT client ids of sinks: alone, in a group, and with --check."""


@pytest.mark.parametrize(
    "topic",
    [
        f"devices/{DEVICE}/faces/door",
        f"devices/{DEVICE}/status/forwarder/{DEVICE}",
        f"devices/{ROGUE}/receipts/door",
        f"devices/{ROGUE}/other",
        f"devices/{ROGUE}",
        "faces/door",
        "$SYS/broker/version",
        f"devices//{ROGUE}/faces/door",
        f"/devices/{ROGUE}/faces/door",
        f"devices/{ROGUE}/../{DEVICE}/faces/door",
    ],
)
def test_publishing_on_a_forbidden_topic_is_refused(cloud: Stack, record: Record, topic: str):
    """A topic of another device, or a topic of its own that a device may not publish on."""
    before = {key for key in cloud.keys() if f"device={DEVICE}/" not in key}
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder, pytest.raises((Refused, LinkLost)) as refusal:
        intruder.publish(topic, make_jpeg(seed=666))
    assert {key for key in cloud.keys() if f"device={DEVICE}/" not in key} == before
    record(f"publishing on {topic}", str(refusal.value))


@pytest.mark.parametrize(
    "subscription",
    [
        f"devices/{DEVICE}/receipts/#",
        f"devices/{DEVICE}/faces/#",
        "devices/+/receipts/+",
        "devices/+/faces/+",
        "#",
        "+/+/+/+",
        "$SYS/#",
        "$share/thieves/devices/+/faces/#",
        "$share/s3sink/devices/+/faces/#",
        f"$share/s3sink/devices/{ROGUE}/faces/#",
        f"$share/s3sink/devices/{ROGUE}/receipts/#",
        "$share/thieves/#",
        f"$share/thieves/devices/{ROGUE}/receipts/#",
        f"devices/{ROGUE}/#",
        f"devices/{ROGUE}/receipts/" + "+/" * 150 + "+",
        "+/" * 60 + "+",
        "health",
    ],
)
def test_subscription_to_topics_of_others_is_refused(cloud: Stack, record: Record, subscription: str):
    """When it is asked for. A shared subscription takes no messages from the sink."""
    with pytest.raises(Refused) as refusal:
        Intruder(cloud, credentials_of(cloud, ROGUE), subscription)
    record(f"subscribing to {subscription}", str(refusal.value))


def test_forged_receipt_is_refused(cloud: Stack, honest: HonestDevice, record: Record):
    """A receipt for a face of another device would make that device delete the face."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder, pytest.raises(Refused) as refusal:
        intruder.publish(f"devices/{DEVICE}/receipts/door", b"", correlation_data=b"01938c3e-forged")
    honest.await_progress()
    assert "01938c3e-forged" not in honest.receipted
    record("forged receipt", str(refusal.value))


def test_storing_the_id_of_another_device_sends_no_receipt_to_it(cloud: Stack, honest: HonestDevice, record: Record):
    """The rogue device publishes a face with the id of another device's face. Only the rogue device gets a receipt."""
    stolen = honest.sent[-1]
    seen = make_face(id=stolen, captured_at=time_of_id(stolen), jpeg=make_jpeg(seed=5))
    receipts_before = honest.receipted.count(stolen)
    with Intruder(cloud, credentials_of(cloud, ROGUE), f"devices/{ROGUE}/receipts/+") as intruder:
        intruder.connection.publish(f"devices/{ROGUE}/faces/door", seen.jpeg, 1, properties=face.encode(seen)).result(
            10
        )
        await_true(lambda: bool(intruder.arrived), 10, "the rogue device's own receipt arrives")
    await_true(lambda: honest.receipted.count(stolen) >= 1, 10, "the honest device's own receipt arrives")
    assert honest.receipted.count(stolen) <= max(receipts_before, 1)
    (key,) = [key for key in cloud.keys(f"faces/device={DEVICE}/") if stolen in key]
    assert cloud.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() == make_jpeg()
    record("face with the id of another device's face", "stored below its own prefix, receipt to itself only")


def test_last_will_on_a_topic_of_another_device_is_not_published(cloud: Stack, honest: HonestDevice, record: Record):
    """The last will would publish a face in the name of another device."""
    will = Will(f"devices/{DEVICE}/faces/willed", make_jpeg(seed=7))
    intruder = None
    with contextlib.suppress(Refused, LinkLost):
        intruder = Intruder(cloud, credentials_of(cloud, ROGUE), will=will)
        intruder.connection._client._sock.close()  # type: ignore[union-attr]  # without DISCONNECT
    honest.await_progress()
    assert not [key for key in cloud.keys() if "camera=willed" in key]
    record("last will on another device's topic", "not published")


@pytest.mark.parametrize(
    "camera", ["..", "../../../x", "a=b", "x/device=jetson-1", "..%2f..%2f", "camera=door", "\u202egpj", "a b", "-", ""]
)
def test_invalid_camera_name_does_not_escape_the_prefix_of_the_device(cloud: Stack, record: Record, camera: str):
    """Keys are built from valid names only. Any other message goes to the sender's own quarantine."""
    with Intruder(cloud, credentials_of(cloud, ROGUE), f"devices/{ROGUE}/receipts/#") as intruder:
        with contextlib.suppress(Refused, LinkLost):
            intruder.publish(f"devices/{ROGUE}/faces/{camera}", make_jpeg(seed=9))
        intruder.publish(f"devices/{ROGUE}/faces/after", make_jpeg(seed=10))
        await_true(lambda: bool(intruder.arrived), 10, "the next message is stored")
    record(f"camera name {camera!r}", check_stored_keys(cloud))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("id", "../../device=jetson-1/x"),
        ("id", "01938c3e/../.."),
        ("source", "/devices/jetson-1/cameras/door"),
        ("time", "2026-11-22T00:00:00.000Z/../.."),
        ("model", "=" * 3000),
        ("x-evil\r\nX-Amz-Acl", "public-read"),
    ],
)
def test_invalid_attribute_does_not_escape_the_prefix_of_the_device(
    cloud: Stack, record: Record, attribute: str, value: str
):
    """No text from a device is copied unchecked to a key or to an HTTP header."""
    seen = make_face(jpeg=make_jpeg(seed=11))
    properties = face.encode(seen)
    attributes = [(name, text) for name, text in properties.user_properties if name != attribute]
    attributes.append((attribute, value))
    with Intruder(cloud, credentials_of(cloud, ROGUE), f"devices/{ROGUE}/receipts/#") as intruder:
        forged = Properties(
            content_type=properties.content_type,
            correlation_data=properties.correlation_data,
            user_properties=tuple(attributes),
        )
        with contextlib.suppress(Refused, LinkLost):
            intruder.connection.publish(f"devices/{ROGUE}/faces/door", seen.jpeg, 1, properties=forged).result(10)
            await_true(lambda: bool(intruder.arrived), 10, "the receipt arrives")
    record(f"attribute {attribute!r} = {value[:30]!r}", check_stored_keys(cloud))


def test_unsubscribing_the_group_of_the_sinks_takes_nothing_from_them(
    cloud: Stack, honest: HonestDevice, record: Record
):
    """A device that is no member ends no member's subscription."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder:
        intruder.connection.unsubscribe(["$share/s3sink/devices/+/faces/#"])
    honest.await_progress()
    record("unsubscribing the group of the sinks", "the sinks still get messages")


@pytest.mark.parametrize("client_id", [*SINK_IDS, DEVICE, f"facewire-forwarder-{DEVICE}", "facewire.broker"])
def test_client_id_of_another_client_does_not_take_over_its_session(
    cloud: Stack, honest: HonestDevice, record: Record, client_id: str
):
    """The broker accepts only the client ids of the name in the certificate."""
    before = [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")]
    with pytest.raises((Refused, LinkLost)) as refusal:  # after some, the device is shut out
        Intruder(cloud, credentials_of(cloud, CROWD), client_id=client_id)
    honest.await_progress()
    assert [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")] == before
    record(f"client id {client_id}", str(refusal.value))


def test_user_name_of_another_device_gives_no_access(cloud: Stack, record: Record):
    """The broker uses the name in the certificate and ignores the user name."""
    tls = credentials_of(cloud, ROGUE)
    link = Endpoint("the broker", HOST, cloud.cloud_port, tls, username=DEVICE, password="x")
    connection = Connection(link, ConnectOptions(client_id=ROGUE), lambda message: None)
    connection.open([])
    with pytest.raises((Refused, LinkLost)):
        connection.publish(f"devices/{DEVICE}/faces/door", make_jpeg(), 1).result(10)
    connection.close(1)
    record(f"user name {DEVICE}", "refused: the broker uses the name in the certificate")
