"""Search workers: they search frames in parallel, and give the same faces with any number of threads."""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from demo.film import clip
from demo.program import await_true
from demo.stack import Stack
from edge.detector.camera.frame import Frame
from edge.detector.camera.recorded import VideoFile
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.selection.workers import SearchedFrame, SearchWorkers
from edge.detector.settings import DetectorSettings
from tests.builders import Peer
from tests.films import OPENED_AT
from wire import status
from wire.errors import ConfigurationError
from wire.process.lifecycle import Stop

PERSON = "WolfgangLanger_Pexels.mp4"


def candidates_with(threads: int) -> list[tuple[float, int, bytes]]:
    """Return capture time, track and picture of every candidate of a film, in the order in which they are sent."""
    settings, stop = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"}), Stop()
    film, opened = VideoFile(clip(PERSON), loop=False), None
    workers = SearchWorkers(film, FaceDetector(320, WEAK_CONFIDENCE), MotionGate(settings.face_interval), threads, stop)
    scene, candidates = Scene(settings), []
    for searched in workers.frames():
        assert isinstance(searched, SearchedFrame)
        opened = opened or searched.frame.captured_at
        candidates += scene.update(searched.frame, searched.detections)
    assert opened is not None
    return [
        (round(candidate.captured_at - opened, 6), candidate.track, candidate.image.tobytes())
        for candidate in (*candidates, *scene.end())
    ]


@pytest.mark.slow
def test_a_film_gives_the_same_pictures_with_any_number_of_threads():
    """Pixel by pixel, and in the same order."""
    candidates = candidates_with(1)
    assert 18 <= len(candidates) <= 24
    assert candidates_with(2) == candidates
    assert candidates_with(7) == candidates


class BlockingModel:
    """A model whose searches wait until a given number of them run in parallel."""

    def __init__(self, parallel: int) -> None:
        self.parallel, self.running, self.max_running = parallel, 0, 0
        self.changed = threading.Condition()

    def detect(self, image: Any) -> list[Detection]:
        with self.changed:
            self.running += 1
            self.max_running = max(self.max_running, self.running)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.max_running >= self.parallel, 60)
            self.running -= 1
        return []


class TickingCamera:
    """A live camera that gives a frame at most every 5 ms."""

    is_live = True
    skipped = reopened = corrupt = ignored = 0
    reduced_rate = False

    def __init__(self, frames: int | None = None, failure: Exception | None = None) -> None:
        self.count, self.failure, self.yielded = frames, failure, 0

    def frames(self, stop: Stop) -> Iterator[Frame]:
        began = time.monotonic()
        while not stop and (self.count is None or self.yielded < self.count):
            self.yielded += 1
            clock = time.monotonic() - began
            yield Frame(np.zeros((8, 8, 3), np.uint8), OPENED_AT + clock, clock)
            stop.wait(0.005)
        if self.failure:
            raise self.failure
        stop.wait(None if self.count is not None else 0)


def make_workers(camera: Any, model: Any, threads: int, stop: Stop) -> SearchWorkers:
    return SearchWorkers(camera, model, MotionGate(0), threads, stop)


def test_each_thread_searches_one_frame_at_a_time():
    """A live camera is asked for a frame only when a thread is free."""
    model, stop, camera = BlockingModel(3), Stop(), TickingCamera()
    frames: list[SearchedFrame] = []
    for searched in make_workers(camera, model, 3, stop).frames():
        assert isinstance(searched, SearchedFrame)
        frames.append(searched)
        if len(frames) == 12:
            stop.set()
    assert model.max_running == 3
    assert camera.yielded <= len(frames) + 3
    assert [searched.frame.clock for searched in frames] == sorted(searched.frame.clock for searched in frames)


def test_an_idle_live_camera_is_reported():
    """The iterator yields how long it has been idle, and ends when the process is asked to stop."""
    stop = Stop()
    frames = make_workers(TickingCamera(frames=2), BlockingModel(1), 1, stop).frames()
    assert [isinstance(next(frames), float) for _ in range(3)] == [False, False, True]
    idle_seconds = next(frames)
    assert isinstance(idle_seconds, float)
    assert idle_seconds > 0.15
    stop.set()
    assert all(isinstance(searched, float) for searched in frames)


def test_the_error_of_a_camera_is_raised_after_its_last_frame():
    """No captured frame is lost."""
    camera = TickingCamera(frames=3, failure=ConfigurationError("gone"))
    frames = make_workers(camera, BlockingModel(1), 2, Stop()).frames()
    assert len([next(frames) for _ in range(3)]) == 3
    with pytest.raises(ConfigurationError, match="gone"):
        next(frames)


def test_the_best_picture_of_an_unfinished_interval_is_sent_at_the_end(stack: Stack):
    """It is committed before the process ends."""
    stack.start_broker("local-broker")
    with Peer(stack.local_port, "status/detector/+") as watcher:
        detector = stack.start_connected("detector", CAMERA_SOURCE=str(clip(PERSON)), FACE_INTERVAL="3600")
        await_true(
            lambda: any(status.decode(message.payload).get("frames", 0) > 30 for message in list(watcher.messages)),
            30,
            "frames are searched",
        )
    assert detector.stop() == 0
    sent = re.findall(r"ended .*\bsent=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", detector.output()))
    assert len(sent) == 1
    assert int(sent[0]) >= 2
    assert int(sent[0]) % 2 == 0, "each face has a first picture and a best one"
