"""Threads: what they overlap, and that they change nothing but the time it takes."""

import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from demo.camera import NetworkCamera
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
from tests.films import OPENED_AT
from wire.errors import ConfigurationError
from wire.process.lifecycle import Stop

PERSON = "WolfgangLanger_Pexels.mp4"


def shots_with(threads: int) -> list[tuple[float, int, bytes]]:
    """Capture time, track and picture of every shot of a film, in the order in which they are due."""
    settings, stop = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"}), Stop()
    film, opened = VideoFile(clip(PERSON), loop=False), None
    search = SearchWorkers(film, FaceDetector(320, WEAK_CONFIDENCE), MotionGate(settings.face_interval), threads, stop)
    scene, candidates = Scene(settings), []
    for seen in search.frames():
        assert seen is not None
        opened = opened or seen.frame.captured_at
        candidates += scene.see(seen.frame, seen.detections)
    assert opened is not None
    return [
        ((candidate.captured_at - opened).total_seconds(), candidate.track, candidate.picture.tobytes())
        for candidate in (*candidates, *scene.end())
    ]


def test_a_film_gives_the_same_pictures_with_any_number_of_threads():
    """To the pixel, and in the same order."""
    one = shots_with(1)
    assert 18 <= len(one) <= 24
    assert shots_with(2) == one
    assert shots_with(7) == one


class SlowModel:
    """Takes its time, and notes how many searches are under way."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.underway, self.most = seconds, 0, 0
        self.lock = threading.Lock()

    def detect(self, image: Any) -> list[Detection]:
        with self.lock:
            self.underway += 1
            self.most = max(self.most, self.underway)
        time.sleep(self.seconds)
        with self.lock:
            self.underway -= 1
        return []


class Ticking:
    """A live camera with a frame every 5 ms, of which it only ever gives the newest."""

    is_live = True
    skipped = reopened = spoiled = passed = 0
    resting = False

    def __init__(self, frames: int | None = None, failure: Exception | None = None) -> None:
        self.count, self.failure, self.asked = frames, failure, 0

    def frames(self, stop: Stop) -> Iterator[Frame]:
        began = time.monotonic()
        while not stop and (self.count is None or self.asked < self.count):
            self.asked += 1
            clock = time.monotonic() - began
            yield Frame(np.zeros((8, 8, 3), np.uint8), OPENED_AT + timedelta(seconds=clock), clock)
            stop.wait(0.005)
        if self.failure:
            raise self.failure
        stop.wait(None if self.count is not None else 0)


def search_of(camera: Any, model: Any, threads: int, stop: Stop) -> SearchWorkers:
    return SearchWorkers(camera, model, MotionGate(0), threads, stop)


def test_as_many_frames_are_searched_at_once_as_there_are_threads():
    """And a live camera's frame is asked for only when somebody has time for it."""
    model, stop, camera = SlowModel(0.05), Stop(), Ticking()
    seen: list[SearchedFrame] = []
    for one in search_of(camera, model, 3, stop).frames():
        assert one is not None
        seen.append(one)
        if len(seen) == 12:
            stop.set()
    assert model.most == 3
    assert camera.asked <= len(seen) + 3
    assert [one.frame.clock for one in seen] == sorted(one.frame.clock for one in seen)


def test_a_live_camera_that_gives_nothing_is_told():
    """So that shots do not wait for it; and the order to stop is heard all the same."""
    stop = Stop()
    frames = search_of(Ticking(frames=2), SlowModel(0), 1, stop).frames()
    assert [next(frames) is None for _ in range(3)] == [False, False, True]
    stop.set()
    began = time.monotonic()
    assert all(one is None for one in frames)
    assert time.monotonic() - began < 3


def test_what_is_wrong_with_a_camera_is_raised_after_its_last_frame():
    """Nothing that was captured is lost."""
    frames = search_of(Ticking(frames=3, failure=ConfigurationError("gone")), SlowModel(0.01), 2, Stop()).frames()
    assert len([next(frames) for _ in range(3)]) == 3
    with pytest.raises(ConfigurationError, match="gone"):
        next(frames)


def test_the_order_to_stop_hands_over_what_is_kept(stack: Stack):
    """The best shot of an interval that has not ended is committed before the process ends, within 5 seconds."""
    stack.start_broker("local-broker")
    detector = stack.start_connected(
        "detector", CAMERA_SOURCE=str(clip(PERSON)), CAMERA_LOOP="true", FACE_INTERVAL="3600"
    )
    await_true(lambda: psutil.Process(detector.pid).cpu_times().user > 2, 30, "frames are searched")
    began = time.monotonic()
    assert detector.stop() == 0
    assert time.monotonic() - began < 5
    sent = re.findall(r"ended .*\bsent=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", detector.output()))
    assert len(sent) == 1
    assert int(sent[0]) >= 2
    assert int(sent[0]) % 2 == 0, "each scene has its first sight and its best shot"


def jpeg_of(image: Any, random: np.random.Generator) -> bytes:
    """A frame of a network camera, with the noise of one."""
    noisy = np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", noisy, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()


def cpu_seconds_a_second(stack: Stack, jpegs: list[bytes], name: str) -> float:
    """What a detector takes of a core while it watches a camera of 30 frames/s."""
    with NetworkCamera(jpegs, frames_per_second=30) as camera:
        detector = stack.start_connected("detector", CAMERA_SOURCE=camera.address, OUTBOX_PATH=str(stack.folder / name))
        goal = camera.sent + 60
        await_true(lambda: camera.sent >= goal, 20, "it has settled")
        process, began = psutil.Process(detector.pid), time.monotonic()
        before, goal = sum(process.cpu_times()[:2]), camera.sent + 240
        await_true(lambda: camera.sent >= goal, 30, "the camera goes on")
        used = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        assert detector.stop() == 0
    return used


def test_a_still_scene_takes_a_quarter_of_the_processor_that_a_moving_one_takes(stack: Stack):
    """The whole process, 640 x 360 pixels; to decode the pictures alone, moving or not, is a fifth. With some room."""
    stack.start_broker("local-broker")
    capture, random = cv2.VideoCapture(str(clip(PERSON))), np.random.default_rng(1)
    moving = []
    for _ in range(240):
        read, image = capture.read()
        assert read
        moving.append(jpeg_of(image, random))
    still = [jpeg_of(image, random) for _ in range(10)]
    moves, is_at_rest = cpu_seconds_a_second(stack, moving, "moving.db"), cpu_seconds_a_second(stack, still, "still.db")
    print(f"moving: {moves:.3f} of a core, still: {is_at_rest:.3f}, share {is_at_rest / moves:.2f}")
    assert is_at_rest <= 0.32 * moves
