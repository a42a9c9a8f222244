"""Delivery, status and metrics run before the camera gives a frame; a camera that only hangs ends the process."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import free_port
from demo.program import ROOT, await_true
from demo.stack import CAMERA, DEVICE, Stack
from edge.detector import detector as detector_module
from edge.detector.delivery.delivery import make_delivery
from edge.detector.delivery.outbox import Outbox
from edge.detector.detector import Detector
from edge.detector.settings import DetectorSettings
from tests.builders import Peer, make_faces, make_jpeg
from tests.scrape import scrape
from tests.test_detector import SilentCamera
from wire import status
from wire.exit_codes import ExitCode
from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties
from wire.process.lifecycle import Stop
from wire.topics import Origin

BACKLOG = 20
HANGING_CAMERA = """
import os, sys, threading
import cv2
from edge.detector.__main__ import PROGRAM
from edge.detector.camera import live
from wire.process.lifecycle import exit_now

image = cv2.imread(sys.argv[1])

class Driver:
    '''Gives ten frames once; then every read blocks for ever, as in a driver that has lost its device.'''
    frames = 10
    def __init__(self, *arguments): ...
    def isOpened(self): return True
    def grab(self):
        Driver.frames -= 1
        if Driver.frames < 0:
            threading.Event().wait()
        return True
    def retrieve(self): return True, image.copy()
    def release(self): ...

cv2.VideoCapture = Driver
for name in ("MIN_HANG_SECONDS", "INITIAL_REOPEN_SECONDS", "MAX_REOPEN_SECONDS"):
    setattr(live, name, 0.1)
live.LiveCamera.__init__.__defaults__ = (0.2,)
exit_now(PROGRAM.run([], os.environ))
"""


@pytest.fixture
def backlog(stack: Stack) -> Stack:
    """A local broker, and an outbox with the faces of an earlier run."""
    stack.start_broker("local-broker")
    fill_outbox(stack)
    return stack


def fill_outbox(stack: Stack) -> None:
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    outbox.store(make_faces(BACKLOG, jpeg=make_jpeg(), origin=Origin(DEVICE, CAMERA)))
    outbox.close()


def send_receipts(cloud: Peer) -> set[bytes]:
    """Have a client send a receipt for each face that it receives, and return the ids that it has received."""
    received: set[bytes] = set()

    def on_message(message: Message) -> None:
        face_id = message.properties.correlation_data
        assert face_id is not None
        received.add(face_id)
        cloud.session.publish(f"receipts/{CAMERA}", b"", qos=1, properties=Properties(correlation_data=face_id))
        cloud.session.acknowledge(message)

    cloud.on_message = on_message
    return received


def test_a_backlog_is_delivered_while_the_camera_gives_no_frame(backlog: Stack):
    """Meanwhile, status and metrics are there, too."""
    port = free_port()
    with (
        NetworkCamera([make_jpeg()], frames_per_second=10) as camera,
        Peer(backlog.local_port, f"faces/{CAMERA}") as cloud,
        Peer(backlog.local_port, f"status/detector/{CAMERA}") as watcher,
    ):
        camera.flowing.clear()
        received = send_receipts(cloud)
        detector = backlog.start("detector", CAMERA_SOURCE=camera.address, METRICS_PORT=str(port))
        await_true(lambda: len(received) == BACKLOG, 20, "the backlog is delivered")
        assert detector.running
        stats = status.decode(watcher.await_messages(1)[0].payload)
        assert (stats["online"], stats["frames"], stats["clock"]) == (True, 0, "set")
        await_true(lambda: scrape(port)["facewire_outbox_faces"] == 0, 20, "the receipts are processed")
        metrics = scrape(port)
        assert metrics["facewire_frames_total"] == 0
        assert metrics["facewire_clock_set"] == 1
        assert metrics["facewire_outbox_problem"] == 0
        assert detector.stop() == 0


@pytest.mark.parametrize("source", ["/dev/video99", "README.md"])
def test_a_backlog_is_delivered_before_the_error_of_a_missing_or_unreadable_camera(backlog: Stack, source: str):
    """The exit code stays the same."""
    with Peer(backlog.local_port, f"faces/{CAMERA}") as cloud:
        received = send_receipts(cloud)
        detector = backlog.start("detector", CAMERA_SOURCE=source)
        assert detector.wait(60) == (ExitCode.BAD_DATA if source == "README.md" else ExitCode.NO_INPUT)
    assert len(received) == BACKLOG
    assert f"CAMERA_SOURCE is '{source}'" in detector.output().splitlines()[-1]


@pytest.mark.slow
def test_a_camera_that_only_hangs_ends_the_process_with_its_own_exit_code(stack: Stack):
    """The faces found until then are committed, and stay in the outbox for the process that the supervisor starts."""
    environ = stack.environ(CAMERA_SOURCE="rtsp://camera", LOCAL_MQTT_PORT=str(free_port()), FACE_INTERVAL="3600")
    ended = subprocess.run(
        [sys.executable, "-c", HANGING_CAMERA, str(clip("multi_face.jpg"))],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == ExitCode.CAMERA_HANGS
    assert ended.stderr.splitlines()[-1].startswith("CAMERA_SOURCE is 'rtsp://camera': expected a camera that gives")
    assert "Traceback" not in ended.stderr
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    assert outbox.count == 5, "there are five people in the picture"
    outbox.close()


def test_an_unchanged_status_is_published_regularly(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    """It expires in the brokers. A changed one does not wait."""
    stack.start_broker("local-broker")
    monkeypatch.setattr(detector_module, "STATUS_SECONDS", 0.05)
    monkeypatch.setattr(status, "REPEAT_SECONDS", 1.0)
    settings, stop = DetectorSettings.from_environment(stack.environ(MQTT_QOS="0")), Stop()
    camera = SilentCamera()
    model: Any = None
    detector = Detector(settings, lambda: camera, lambda: model, make_delivery(settings, stop), stop)
    with Peer(stack.local_port, f"status/detector/{CAMERA}") as watcher:
        thread = threading.Thread(target=detector.run, daemon=True)
        thread.start()
        first, second = watcher.await_messages(2)
        assert first.payload == second.payload
        assert second.properties.message_expiry_seconds in range(50, 61)
        monkeypatch.setattr(status, "REPEAT_SECONDS", 3600.0)
        camera.reopened = 7
        await_true(lambda: b'"reopened":7' in watcher.messages[-1].payload, 10, "a changed status is published")
        count = len(watcher.messages)
        assert not stop.wait(0.5)
        assert len(watcher.messages) == count, "an unchanged one is not"
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert stop.failure is None
