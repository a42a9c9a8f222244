"""The wall clock of a real detector is not set, or is stepped: no face is lost, none twice, none under 1970."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.camera import NetworkCamera
from demo.film import clip
from demo.program import NotInstalled, Program, await_true
from demo.stack import CAMERA, DEVICE, Stack
from edge.detector.delivery.outbox import Outbox
from tests.builders import Peer
from tests.wall_clock import WrongClock, not_set
from wire import face, status
from wire.face import CORRECTED, Face
from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties
from wire.topics import Origin

HOUR = 3600.0
TOLERANCE_SECONDS = 1.0
ORIGIN = Origin(DEVICE, CAMERA)


@pytest.fixture
def wrong_clock(tmp_path: Path) -> WrongClock:
    try:
        return WrongClock(tmp_path)
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    """A camera with five people in front of it."""
    with NetworkCamera([clip("multi_face.jpg").read_bytes()], frames_per_second=10) as camera:
        yield camera


class Cloud:
    """Receives the faces of a detector and sends a receipt for each."""

    def __init__(self, port: int) -> None:
        self.faces: list[Face] = []
        self.peer = Peer(port, f"faces/{CAMERA}", f"status/detector/{CAMERA}")
        self.peer.on_message = self._on_message
        self.status: dict[str, object] = {}

    def _on_message(self, message: Message) -> None:
        if message.topic.startswith("status"):
            self.status = status.decode(message.payload)
        else:
            decoded = face.decode(message.properties, message.payload, ORIGIN)
            self.faces.append(decoded)
            receipt = Properties(correlation_data=decoded.id.encode())
            self.peer.session.publish(f"receipts/{CAMERA}", b"", qos=1, properties=receipt)
        self.peer.session.acknowledge(message)

    def await_faces(self, count: int) -> None:
        await_true(lambda: len(self.faces) >= count, 30, f"{count} faces have arrived")


@pytest.fixture
def cloud(stack: Stack) -> Iterator[Cloud]:
    stack.start_broker("local-broker")
    cloud = Cloud(stack.local_port)
    with cloud.peer:
        yield cloud


def start_detector(stack: Stack, camera: NetworkCamera, wrong_clock: WrongClock) -> Program:
    settings = {"CAMERA_SOURCE": camera.address, "FACE_INTERVAL": "0.3", "DETECT_THREADS": "1", "DETECT_SIZE": "320"}
    return stack.start("detector", **settings, **wrong_clock.environ())


def finish(detector: Program, camera: NetworkCamera, cloud: Cloud, stack: Stack) -> None:
    """Stop the camera and the detector, and check that no face is lost and none has come under two ids.

    The last faces may still be in the outbox.
    """
    camera.flowing.clear()
    await_true(lambda: cloud.status.get("outbox") == 0, 30, "the faces arrive")
    assert detector.stop() == 0
    (sent,) = re.findall(r"ended .*\bsent=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", detector.output()))
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    left = [outbox.get(seq) for seq in outbox.waiting((), 1000, newest_first=False)]
    outbox.close()
    arrived = {one.id for one in cloud.faces}
    assert len(arrived | {one.id for one in left if one is not None}) == int(sent)
    assert len({(one.track, one.captured_at) for one in cloud.faces}) == len(arrived)


@pytest.mark.slow
def test_a_clock_that_is_stepped_while_the_detector_runs(
    stack: Stack, camera: NetworkCamera, cloud: Cloud, wrong_clock: WrongClock
):
    """By an hour, forward and back. Each face has the time that the clock showed."""
    began = datetime.now(UTC)
    detector = start_detector(stack, camera, wrong_clock)
    for error in (0.0, HOUR, -HOUR, 0.0):
        wrong_clock.set_error(error)
        cloud.await_faces(len(cloud.faces) + 15)
    finish(detector, camera, cloud, stack)
    seconds = [(one.captured_at - began).total_seconds() for one in cloud.faces]
    passed = (datetime.now(UTC) - began).total_seconds()
    assert {round(error / HOUR) for error in seconds} == {-1, 0, 1}
    assert all(0 <= error - round(error / HOUR) * HOUR <= passed + TOLERANCE_SECONDS for error in seconds)
    assert {one.clock for one in cloud.faces} == {None}


def test_faces_wait_until_the_clock_is_set(stack: Stack, camera: NetworkCamera, cloud: Cloud, wrong_clock: WrongClock):
    """Then they arrive with their true times, and say that these were corrected."""
    began = datetime.now(UTC)
    wrong_clock.set_error(not_set())
    detector = start_detector(stack, camera, wrong_clock)
    await_true(lambda: int(str(cloud.status.get("sent", 0))) >= 20, 30, "faces are committed")
    assert (cloud.status["clock"], cloud.status["last_face"], cloud.faces) == ("not set", None, [])
    set_at = datetime.now(UTC)
    wrong_clock.set_error(0.0)
    cloud.await_faces(20 + 15)
    await_true(lambda: cloud.status.get("clock") == "set", 10, "the status says so")
    finish(detector, camera, cloud, stack)
    assert detector.output().count("clock not set") == detector.output().count("clock set") == 1
    assert all(began <= one.captured_at <= datetime.now(UTC) for one in cloud.faces)
    early = [one for one in cloud.faces if one.captured_at < set_at]
    assert len(early) >= 20
    assert {one.clock for one in early} == {CORRECTED}
    assert None in {one.clock for one in cloud.faces}
