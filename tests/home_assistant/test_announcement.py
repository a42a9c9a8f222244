"""The announcement to Home Assistant, through a real broker."""

import json
import os
import re
import signal
from typing import Any

import pytest

from demo.film import clip
from demo.ports import HOST, free_port
from demo.program import ROOT, Program, await_true, find_program, listens
from demo.stack import CAMERA, DEVICE, Stack
from edge.forwarder.home_assistant import MAX_CAMERAS, HomeAssistant
from edge.forwarder.settings import ForwarderSettings
from tests.builders import Peer, make_jpeg
from tests.home_assistant.rules import mistakes
from tests.test_settings import mistakes_of
from wire import status, topics
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import NO_PROPERTIES

TOPIC = f"homeassistant/device/facewire-{DEVICE}/config"
STATUS = f"status/detector/{CAMERA}"


@pytest.fixture
def edge(stack: Stack) -> Stack:
    """A local broker."""
    stack.start_broker("local-broker")
    return stack


def endpoint(stack: Stack) -> Endpoint:
    """The local broker, with the account that it has made for Home Assistant."""
    file = stack.accounts / "homeassistant" / "account"
    return Endpoint("local broker", HOST, stack.local_port, account_file=file)


def newest(peer: Peer, topic: str) -> bytes | None:
    """The newest payload of a topic; None if there is none."""
    payloads = [message.payload for message in peer.messages if message.topic == topic]
    return payloads[-1] if payloads else None


def announced(peer: Peer) -> dict[str, Any]:
    """The entities that are announced."""
    components: dict[str, Any] = json.loads(newest(peer, TOPIC) or b'{"components":{}}')["components"]
    return components


def start(stack: Stack, **settings: str) -> None:
    stack.start("forwarder", HOME_ASSISTANT="true", **settings)


def say_online(stack: Stack, camera: str = CAMERA) -> None:
    """Publish the status of a detector."""
    with Peer(stack.local_port) as detector:
        detector.session.publish(f"status/detector/{camera}", status.encode(sent=1), qos=1, retain=True).result(10)


@pytest.mark.slow
def test_the_announcement_follows_the_rules_of_home_assistant(edge: Stack):
    """It is retained, and names the topics that the account of Home Assistant can read."""
    start(edge)
    say_online(edge)
    with Peer(edge.local_port, "#", endpoint=endpoint(edge)) as home:
        await_true(lambda: len(announced(home)) == 5, 20, "the device is announced")
        assert mistakes(TOPIC, "homeassistant", json.loads(newest(home, TOPIC) or b"")) == []
        assert announced(home).keys() == {
            "cloud",
            *(f"{CAMERA}_{kind}" for kind in ("image", "faces", "seen", "waiting")),
        }
    with Peer(edge.local_port, TOPIC, endpoint=endpoint(edge)) as later:
        await_true(lambda: len(announced(later)) == 5, 10, "it is retained")


@pytest.mark.slow
def test_it_is_withdrawn_when_it_is_switched_off(edge: Stack):
    """An empty retained message removes the device from Home Assistant."""
    start(edge)
    say_online(edge)
    with Peer(edge.local_port, TOPIC, endpoint=endpoint(edge)) as home:
        await_true(lambda: bool(announced(home)), 20, "the device is announced")
        edge.programs["forwarder"].stop()
        edge.start("forwarder", HOME_ASSISTANT="false")
        await_true(lambda: newest(home, TOPIC) == b"", 20, "it is withdrawn")
    with Peer(edge.local_port, "homeassistant/#", "status/#", endpoint=endpoint(edge)) as later:
        later.await_messages(1)
        assert newest(later, TOPIC) is None


@pytest.mark.slow
def test_it_is_published_again_when_home_assistant_has_started(edge: Stack):
    """A user may have deleted the device there, which deletes the announcement."""
    start(edge)
    say_online(edge)
    with Peer(edge.local_port, TOPIC, "status/forwarder/+", endpoint=endpoint(edge)) as home:
        await_true(lambda: bool(announced(home)), 20, "the device is announced")
        home.session.publish(TOPIC, b"", qos=1, retain=True).result(10)
        await_true(lambda: newest(home, TOPIC) == b"", 10, "it is deleted")
        home.session.publish("homeassistant/status", b"offline", qos=1).result(10)
        home.session.publish("homeassistant/status", b"online", qos=1).result(10)
        await_true(lambda: bool(newest(home, TOPIC)), 10, "the device is announced again")


@pytest.mark.slow
def test_a_broker_that_has_lost_it_gets_it_again(edge: Stack):
    """The local broker keeps nothing on disk. The cameras that the forwarder knows are announced at once."""
    start(edge)
    say_online(edge)
    with Peer(edge.local_port, TOPIC) as home:
        await_true(lambda: bool(announced(home)), 20, "the device is announced")
    edge.programs["local-broker"].kill()
    edge.start_broker("local-broker")
    with Peer(edge.local_port, TOPIC) as home:
        await_true(lambda: len(announced(home)) == 5, 30, "the device is announced again")


@pytest.mark.slow
def test_the_camera_is_unavailable_after_its_last_will_and_its_picture_arrives(stack: Stack):
    """As Home Assistant sees it: pictures at the image topic, values in the status, and the last will after SIGKILL."""
    stack.start_servers()
    stack.start_connected("s3sink")
    stack.start_connected("forwarder", HOME_ASSISTANT="true")
    detector = stack.start("detector", CAMERA_SOURCE=str(clip("single_face.mp4")), CAMERA_LOOP="true")
    with Peer(stack.local_port, "#", endpoint=endpoint(stack)) as home:
        await_true(lambda: len(announced(home)) == 5, 40, "the device is announced")
        entity = announced(home)[f"{CAMERA}_image"]
        assert entity["image_topic"] == topics.faces(CAMERA)
        await_true(
            lambda: (newest(home, entity["image_topic"]) or b"").startswith(b"\xff\xd8"), 20, "a picture arrives"
        )
        (available,) = entity["availability"]
        await_true(
            lambda: json.loads(newest(home, STATUS) or b"{}").get("last_face") is not None, 20, "a face is reported"
        )
        values = json.loads(newest(home, STATUS) or b"")
        assert values["online"]
        assert values["sent"] > 0
        assert values["outbox"] >= 0
        detector.process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
        await_true(lambda: newest(home, available["topic"]) == status.OFFLINE, 20, "the last will arrives")


@pytest.mark.slow
def test_the_documented_bridge_carries_what_home_assistant_needs(edge: Stack):
    """To another Mosquitto, which Home Assistant uses: faces, statuses and the announcement; and back its birth."""
    text = (ROOT / "docs" / "home-assistant.md").read_text()
    (bridge,) = re.findall(r"```\n(connection facewire\n.*?)```", text, flags=re.DOTALL)
    bridge = re.sub("address .*", f"address {HOST}:{edge.local_port}", bridge)
    bridge = bridge.replace("PASSWORD", edge.password("homeassistant"))
    port = free_port()
    config = edge.folder / "other.conf"
    config.write_text(f"listener {port} {HOST}\nallow_anonymous true\n{bridge}")
    command = [find_program("mosquitto"), "-c", str(config)]
    other = Program("other", command, os.environ, edge.folder / "other.log").start()
    try:
        await_true(lambda: listens(port), 10, "the other broker listens")
        start(edge)
        say_online(edge)
        nobody = Endpoint("other broker", HOST, port)
        with Peer(port, "#", endpoint=nobody) as home, Peer(edge.local_port, "homeassistant/status") as device:
            await_true(lambda: len(announced(home)) == 5, 30, "the device is announced")
            await_true(lambda: newest(home, STATUS) is not None, 10, "the status arrives")
            home.session.publish("homeassistant/status", b"online", qos=1).result(10)
            device.await_messages(1)
            device.session.publish(topics.faces(CAMERA), b"picture", qos=1).result(10)
            await_true(lambda: newest(home, topics.faces(CAMERA)) == b"picture", 10, "the face arrives")
    finally:
        other.kill()


def message(topic: str, payload: bytes = b"") -> Message:
    return Message(topic, payload, 1, False, NO_PROPERTIES, None, 1)  # type: ignore[arg-type]


def home_assistant(**environ: str) -> HomeAssistant:
    settings = {"CLOUD_MQTT_HOST": "x", "DEVICE_ID": DEVICE, "HOME_ASSISTANT": "true", **environ}
    return HomeAssistant(ForwarderSettings.from_environment(settings), lambda *a, **k: None)  # type: ignore[arg-type]


def test_a_camera_without_a_detector_has_only_an_image():
    """Other clients publish pictures, and no status. A detector that appears later adds its sensors."""
    announcer = home_assistant()
    assert not announcer.take(message("faces/garden", make_jpeg()))
    assert announcer.announcement()["components"].keys() == {"cloud", "garden_image"}
    assert "availability" not in announcer.announcement()["components"]["garden_image"]
    assert not announcer.take(message("status/detector/garden", status.OFFLINE))
    assert not announcer.take(message("faces/garden", make_jpeg()))
    assert "garden_faces" in announcer.announcement()["components"]


@pytest.mark.parametrize("switch", ["true", "false", ""])
def test_what_home_assistant_publishes_is_not_for_the_cloud(switch: str):
    """Also when it was switched off, while the broker still has the subscription."""
    announcer = home_assistant(HOME_ASSISTANT=switch)
    assert announcer.take(message("homeassistant/status", b"online"))
    assert not announcer.take(message("faces/door", make_jpeg()))


def test_without_an_outbox_no_faces_wait():
    """At QoS 0 there is no such sensor."""
    announcer = home_assistant(MQTT_QOS="0")
    announcer.take(message("status/detector/door", status.encode()))
    assert announcer.announcement()["components"].keys() == {"cloud", "door_image", "door_faces", "door_seen"}


def test_the_number_of_cameras_is_bounded():
    """Topics that name no camera are left out."""
    announcer = home_assistant(HOME_ASSISTANT_PREFIX="ha/x")
    for topic in ("faces/a/b", "faces/+", "status/forwarder/x", "status/detector/a b", "ha/x/status"):
        announcer.take(message(topic))
    assert announcer.announcement()["components"].keys() == {"cloud"}
    for number in range(MAX_CAMERAS + 5):
        announcer.take(message(f"faces/camera{number}"))
    assert len(announcer.announcement()["components"]) == MAX_CAMERAS + 1
    assert mistakes("ha/x/device/facewire-a/config", "ha/x", announcer.announcement()) == []


@pytest.mark.parametrize("prefix", ["faces", "status/x", "a b", "a/#", "/a", "a/b/c/d/e"])
def test_a_prefix_that_is_no_topic_of_home_assistant_is_rejected(prefix: str):
    """A prefix of ours would make the announcement a face."""
    (line,) = mistakes_of(ForwarderSettings, {"CLOUD_MQTT_HOST": "x", "HOME_ASSISTANT_PREFIX": prefix})
    assert line.startswith(f"HOME_ASSISTANT_PREFIX is '{prefix}': expected ")
