"""Corrupt frames, and live cameras with every kind of fault."""

import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from demo.film import clip
from demo.program import await_true
from edge.detector.camera import live
from edge.detector.camera.corruption import ACCEPT_SECONDS, CorruptionFilter
from edge.detector.camera.frame import Frame
from edge.detector.camera.live import LiveCamera
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.scene import Scene
from edge.detector.selection.workers import SearchedFrame, SearchWorkers
from edge.detector.settings import DetectorSettings
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process.lifecycle import Stop

GREEN, GREY, BLACK, WHITE = (0, 135, 0), (128, 128, 128), (0, 0, 0), (255, 255, 255)


@pytest.fixture(scope="module")
def people() -> Any:
    """A picture of five people, 320 x 214 pixels."""
    return cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (320, 214))  # type: ignore[arg-type]


def corrupt(image: Any, colour: tuple[int, int, int], share: float) -> Any:
    """Return a copy of an image with its lower ``share`` filled."""
    filled = image.copy()
    filled[round(image.shape[0] * (1 - share)) :] = colour
    return filled


@pytest.mark.parametrize("colour", [GREEN, GREY])
@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_frames_that_are_partly_green_or_grey_are_corrupt(people: Any, colour: tuple[int, int, int], share: float):
    """Between intact frames, and as the first one."""
    corruption_filter = CorruptionFilter()
    assert corruption_filter.filter(corrupt(people, colour, share), 0.0) is None
    assert corruption_filter.filter(people, 0.1) is people
    assert corruption_filter.filter(corrupt(people, colour, share), 0.2) is None
    assert corruption_filter.filter(people, 0.3) is people


@pytest.mark.parametrize("colour", [BLACK, WHITE])
def test_black_and_white_frames_are_intact(people: Any, colour: tuple[int, int, int]):
    """They show darkness and glare."""
    corruption_filter = CorruptionFilter()
    for share in (0.0, 0.5, 1.0, 0.3):
        assert corruption_filter.filter(corrupt(people, colour, share), 0.0) is not None


def test_frames_that_look_corrupt_for_long_are_accepted(people: Any):
    """The camera shows a grey wall."""
    corruption_filter, wall = CorruptionFilter(), corrupt(people, GREY, 0.4)
    assert corruption_filter.filter(wall, 0.0) is None
    assert corruption_filter.filter(wall, ACCEPT_SECONDS) is wall
    assert corruption_filter.filter(wall, ACCEPT_SECONDS + 0.1) is wall
    assert corruption_filter.filter(corrupt(people, GREY, 0.8), ACCEPT_SECONDS + 0.2) is None


@pytest.mark.parametrize(
    "thing",
    [
        None,
        7,
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros(5, np.uint8),
    ],
)
def test_anything_but_an_image_is_corrupt(thing: Any):
    """Drivers return such values."""
    assert CorruptionFilter().filter(thing, 0.0) is None


@pytest.mark.parametrize("channels", [1, 4])
def test_frames_are_converted_to_three_channels(people: Any, channels: int):
    """Some drivers return grey frames, or frames with an alpha channel."""
    conversion = cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2BGRA
    frame = CorruptionFilter().filter(cv2.cvtColor(people, conversion), 0.0)
    assert frame is not None
    assert frame.shape == people.shape


@dataclass
class FaultyCamera:
    """A driver with a fault that the test sets; all its captures have the fault."""

    image: Any
    fault: str = "none"
    returned: threading.Event = field(default_factory=threading.Event)
    open_captures: int = 0
    frames: "queue.SimpleQueue[float]" = field(default_factory=queue.SimpleQueue)

    def open(self) -> Any:
        if self.fault == "open hangs":
            self.returned.wait(30)
        if self.fault == "open raises":
            raise cv2.error("no such device")
        self.open_captures += 1
        return FaultyCapture(self, opens=self.fault not in ("gone", "open hangs"))

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.002)  # the camera's pace
        fault = self.fault
        if fault == "hangs":
            self.returned.wait(30)
            return False, None
        if fault == "silent":
            self.returned.wait(0.3)
            return False, None
        if fault == "stalls":
            self.returned.wait(30)
        if fault == "gone":
            return False, None
        if fault == "raises":
            raise cv2.error("the driver is confused")
        faulty_images: dict[str, Callable[[], Any]] = {
            "green": lambda: corrupt(self.image, GREEN, 1),
            "half grey": lambda: corrupt(self.image, GREY, 0.5),
            "no image": lambda: None,
            "another size": lambda: cv2.resize(self.image, (160, 120)),
            "grey": lambda: cv2.cvtColor(self.image, cv2.COLOR_BGR2GRAY),
            "tiny": lambda: np.zeros((1, 1, 3), np.uint8),
        }
        return True, faulty_images.get(fault, self.image.copy)()


class FaultyCapture:
    """One capture of the faulty camera."""

    def __init__(self, camera: FaultyCamera, opens: bool) -> None:
        self.camera, self.opens = camera, opens
        self.image: Any = None

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return self.opens

    def grab(self) -> bool:
        read, self.image = self.camera.read()
        return read

    def retrieve(self) -> tuple[bool, Any]:
        image, self.image = self.image, None
        return True, image

    def release(self) -> None:
        self.camera.open_captures -= 1
        if self.camera.fault == "raises":
            raise cv2.error("release failed")


FAULTS = (
    *("hangs", "stalls", "gone", "open hangs", "open raises", "raises"),
    *("green", "half grey", "no image", "another size", "grey", "tiny"),
)
SPEED = 40
"""All the camera's times are divided by this, so that an hour of faults takes less than two minutes."""


@pytest.mark.slow
def test_a_live_camera_recovers_from_an_hour_of_faults(people: Any, monkeypatch: pytest.MonkeyPatch):
    """Frames arrive again after each fault. The number of threads and captures and the memory stay the same."""
    for name in ("MIN_HANG_SECONDS", "INITIAL_REOPEN_SECONDS", "MAX_REOPEN_SECONDS", "OPEN_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(live, name, getattr(live, name) / SPEED)
    driver = FaultyCamera(people)
    camera = LiveCamera("faulty", driver.open, max_hang_seconds=live.MAX_HANG_SECONDS / SPEED)
    stop, chance = Stop(), random.Random(5)
    settings = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"})
    scene, frames = Scene(settings), queue.SimpleQueue[float]()
    workers = SearchWorkers(camera, FaceDetector(64, 0.4), MotionGate(1.0), 2, stop)

    def watch() -> None:
        for searched in workers.frames():
            if isinstance(searched, SearchedFrame):
                scene.update(searched.frame, searched.detections)
                if searched.frame.image.shape == people.shape:
                    frames.put(searched.frame.clock)  # not the image, which would count as memory

    def await_frame() -> float:
        began = time.monotonic()
        while not frames.empty():
            frames.get()
        frames.get(timeout=60)
        frames.get(timeout=60)  # the first one may have been captured before
        return (time.monotonic() - began) * SPEED

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    await_frame()
    process, waits, seconds, counts = psutil.Process(), [], 0.0, Counter[str]()
    memory, threads = 0, 0
    while seconds < 3600:
        fault = chance.choice(FAULTS)
        duration = chance.uniform(0.5, 40)
        counts[fault] += 1
        driver.returned.clear()
        driver.fault = fault
        stop.wait(duration / SPEED)
        driver.fault = "none"
        driver.returned.set()
        waits.append(await_frame())
        seconds += duration + 5
        if len(waits) == 20:
            memory, threads = process.memory_info().rss, process.num_threads()
    assert watcher.is_alive()
    assert set(counts) == set(FAULTS)
    print(f"{len(waits)} faults, frames after at most {max(waits):.1f} s, reopened {camera.reopened} times")
    await_true(lambda: driver.open_captures <= 2, 20, "abandoned captures are released")
    await_true(lambda: process.num_threads() <= threads + 2, 20, "their threads end")
    assert process.memory_info().rss <= memory + 20e6
    assert camera.reopened > 20
    assert camera.corrupt > 20
    stop.set()
    watcher.join(5)
    assert not watcher.is_alive()


def test_a_camera_that_only_hangs_ends_with_an_error(people: Any, monkeypatch: pytest.MonkeyPatch):
    """No more threads are started for a driver that does not return: only a new process can help."""
    for name in ("MIN_HANG_SECONDS", "INITIAL_REOPEN_SECONDS", "MAX_REOPEN_SECONDS", "OPEN_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(live, name, getattr(live, name) / 400)
    driver = FaultyCamera(people)
    camera = LiveCamera("hanging", driver.open, max_hang_seconds=0.03)
    frames = camera.frames(Stop())
    next(frames)
    driver.fault = "hangs"
    with pytest.raises(ConfigurationError, match="CAMERA_SOURCE is 'hanging'") as caught:
        for _ in frames:
            pass
    assert caught.value.exit_code == ExitCode.CAMERA_HANGS
    assert driver.open_captures == camera.reopened == live.MAX_HUNG_CAPTURES
    driver.returned.set()


def test_a_camera_whose_captures_return_may_hang_any_number_of_times(people: Any, monkeypatch: pytest.MonkeyPatch):
    """So a network camera may be silent for hours: its reads have a time limit. Later, frames arrive again."""
    for name in ("MIN_HANG_SECONDS", "INITIAL_REOPEN_SECONDS", "MAX_REOPEN_SECONDS"):
        monkeypatch.setattr(live, name, 0.01)
    driver, stop = FaultyCamera(people), Stop()
    camera = LiveCamera("silent", driver.open, max_hang_seconds=0.2)
    frames = camera.frames(stop)
    next(frames)
    driver.fault = "silent"
    seen = queue.SimpleQueue[Frame]()

    def watch() -> None:
        for frame in frames:
            seen.put(frame)

    threading.Thread(target=watch, daemon=True).start()
    await_true(lambda: camera.reopened > live.MAX_HUNG_CAPTURES + 2, 20, "captures hang")
    while not seen.empty():
        seen.get()
    driver.fault = "none"
    assert seen.get(timeout=60)
    stop.set()
