"""Capture times of faces while the machine's clock is not set, is set, or is stepped."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import cv2
import pytest
import structlog

from demo.film import clip
from demo.program import await_true
from edge.detector import detector as detector_module
from edge.detector.camera.frame import Camera, Frame
from edge.detector.detector import Detector
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.scene import WEAK_CONFIDENCE
from edge.detector.settings import DetectorSettings
from tests.test_detector import RecordingDelivery, SilentCamera
from wire.face import CORRECTED, UNKNOWN, Face
from wire.ids import time_of_id
from wire.process import clock
from wire.process.lifecycle import Stop

HOUR = 3600.0
TOLERANCE_SECONDS = 0.1
NOT_SET = 600 - time.time()
"""Error of a clock that shows the first minutes of 1970, in seconds."""
PEOPLE = 5


class WallClock:
    """The machine's wall clock, which a test can set wrong."""

    def __init__(self) -> None:
        self._right: Callable[[], float] = time.time
        self.error_seconds = 0.0

    def read(self) -> float:
        return self._right() + self.error_seconds

    def right(self) -> datetime:
        """The right time."""
        return datetime.fromtimestamp(self._right(), UTC)


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    wall_clock = WallClock()
    monkeypatch.setattr(time, "time", wall_clock.read)
    return wall_clock


class SteppedCamera(Camera):
    """A live camera with people in each frame. It steps the clock after each capture, before the faces are made."""

    is_live = True

    def __init__(self, wall_clock: WallClock, steps: Sequence[tuple[float, float]], faces: list[Face]) -> None:
        self.image: Any = cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (640, 427))  # type: ignore[arg-type]
        self.wall_clock, self.steps, self.faces = wall_clock, steps, faces
        self.captured: list[datetime] = []
        """The right time of each frame."""

    def frames(self, stop: Stop) -> Iterator[Frame]:
        for before, after in self.steps:
            self.wall_clock.error_seconds = before
            moment, is_clock_set = clock.seconds_since_boot(), clock.is_set(clock.now())
            self.captured.append(self.wall_clock.right())
            self.wall_clock.error_seconds = after
            yield Frame(self.image, moment, moment, new_scene=not self.faces, is_clock_set=is_clock_set)
            made = PEOPLE * len(self.captured)
            await_true(lambda made=made: len(self.faces) == made or bool(stop), 20, "faces are made")  # type: ignore[misc]


def detect(wall_clock: WallClock, *steps: tuple[float, float], **environ: str) -> list[tuple[datetime, Face]]:
    """Run the detector on one frame for each step: the clock's error at the capture, and when the faces are made.

    Return each face with the right time of its capture.
    """
    settings = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "FACE_INTERVAL": "0"} | environ)
    delivery: Any = RecordingDelivery()
    camera, stop = SteppedCamera(wall_clock, steps, delivery.faces), Stop()
    model = FaceDetector(640, WEAK_CONFIDENCE)
    Detector(settings, lambda: camera, lambda: model, delivery, stop).run()
    assert stop.failure is None
    assert len({face.id for face in delivery.faces}) == len(delivery.faces) == PEOPLE * len(steps)
    return [(camera.captured[number // PEOPLE], face) for number, face in enumerate(delivery.faces)]


def error_of(right: datetime, face: Face) -> float:
    """Seconds by which the time of a face is wrong."""
    assert time_of_id(face.id) == face.captured_at
    return (face.captured_at - right).total_seconds()


def test_a_face_captured_before_the_clock_was_set_gets_its_true_time(wall_clock: WallClock):
    """It says that its time was corrected. Later faces do not."""
    faces = detect(wall_clock, (NOT_SET, 0.0), (0.0, 0.0))
    assert all(abs(error_of(*face)) < TOLERANCE_SECONDS for face in faces)
    assert [face.clock for _, face in faces] == [CORRECTED] * PEOPLE + [None] * PEOPLE


def test_a_clock_that_is_stepped_loses_no_face_and_doubles_none(wall_clock: WallClock):
    """Forward and back by an hour, between the frames and between a capture and its faces.

    The time is that of the clock when the faces are made.
    """
    steps = [(0.0, 0.0), (0.0, HOUR), (HOUR, HOUR), (HOUR, 0.0), (0.0, -HOUR), (-HOUR, -HOUR), (-HOUR, 0.0)]
    faces = detect(wall_clock, *steps)
    for number, (right, face) in enumerate(faces):
        assert abs(error_of(right, face) - steps[number // PEOPLE][1]) < TOLERANCE_SECONDS
        assert face.clock is None


@pytest.mark.parametrize("qos", ["0", "1"])
def test_a_face_made_before_the_clock_is_set_has_an_implausible_time(wall_clock: WallClock, qos: str):
    """The outbox corrects it. At QoS 0 there is none, so the face says that its time is unknown."""
    for _, face in detect(wall_clock, (NOT_SET, NOT_SET), MQTT_QOS=qos):
        assert not clock.is_set(face.captured_at)
        assert face.clock == (UNKNOWN if qos == "0" else None)
        seconds = clock.boot_seconds_of(face.captured_at)
        assert seconds is not None
        wall_clock.error_seconds = 0.0
        assert clock.is_set(clock.true_time(seconds))
        wall_clock.error_seconds = NOT_SET


def test_a_clock_that_is_not_set_is_logged_once(wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch):
    """So is that it has been set. The status has the field clock."""
    monkeypatch.setattr(detector_module, "STATUS_SECONDS", 0.02)
    wall_clock.error_seconds = NOT_SET
    settings = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"})
    delivery: Any = RecordingDelivery()
    model: Any = None
    stop = Stop()
    detector = Detector(settings, SilentCamera, lambda: model, delivery, stop)
    with structlog.testing.capture_logs() as logs:
        thread = threading.Thread(target=detector.run)
        thread.start()
        events = lambda: [entry["event"] for entry in logs if "clock" in entry["event"]]  # noqa: E731
        await_true(lambda: events() == ["clock not set"], 20, "it is logged")
        assert detector.stats()["clock"] == "not set"
        assert not stop.wait(0.2)
        wall_clock.error_seconds = 0.0
        await_true(lambda: events() == ["clock not set", "clock set"], 20, "it is logged that the clock is set")
        assert detector.stats()["clock"] == "set"
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
