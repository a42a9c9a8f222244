"""Cameras that misbehave: spoiled frames, and an hour of every fault there is."""

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
from edge.detector.camera import live
from edge.detector.camera.corruption import ACCEPT_SECONDS, CorruptionFilter
from edge.detector.camera.frame import Frame
from edge.detector.camera.live import LiveCamera
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.scene import Scene
from edge.detector.selection.workers import SearchWorkers
from edge.detector.settings import DetectorSettings
from wire.process.lifecycle import Stop

GREEN, GREY, BLACK, WHITE = (0, 135, 0), (128, 128, 128), (0, 0, 0), (255, 255, 255)


@pytest.fixture(scope="module")
def people() -> Any:
    """320 x 214 pixels, five people."""
    return cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (320, 214))  # type: ignore[arg-type]


def spoil(image: Any, colour: tuple[int, int, int], share: float) -> Any:
    """Fill the lower ``share`` of an image."""
    spoiled = image.copy()
    spoiled[round(image.shape[0] * (1 - share)) :] = colour
    return spoiled


@pytest.mark.parametrize("colour", [GREEN, GREY])
@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_green_and_half_frames_are_spoiled(people: Any, colour: tuple[int, int, int], share: float):
    """Among sound ones, and also as the first one."""
    damage = CorruptionFilter()
    assert damage.sound(spoil(people, colour, share), 0.0) is None
    assert damage.sound(people, 0.1) is people
    assert damage.sound(spoil(people, colour, share), 0.2) is None
    assert damage.sound(people, 0.3) is people


@pytest.mark.parametrize("colour", [BLACK, WHITE])
def test_darkness_and_glare_are_no_damage(people: Any, colour: tuple[int, int, int]):
    """A lens sees those."""
    damage = CorruptionFilter()
    for share in (0.0, 0.5, 1.0, 0.3):
        assert damage.sound(spoil(people, colour, share), 0.0) is not None


def test_what_stays_is_what_the_camera_shows(people: Any):
    """A grey wall below, all the time."""
    damage, walled = CorruptionFilter(), spoil(people, GREY, 0.4)
    assert damage.sound(walled, 0.0) is None
    assert damage.sound(walled, ACCEPT_SECONDS) is walled
    assert damage.sound(walled, ACCEPT_SECONDS + 0.1) is walled
    assert damage.sound(spoil(people, GREY, 0.8), ACCEPT_SECONDS + 0.2) is None


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
def test_what_is_no_picture_is_spoiled(thing: Any):
    """Whatever a driver gives."""
    assert CorruptionFilter().sound(thing, 0.0) is None


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_frames_and_those_with_an_alpha_channel_become_three_channels(people: Any, channels: int):
    """As some drivers have them."""
    way = cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2BGRA
    sound = CorruptionFilter().sound(cv2.cvtColor(people, way), 0.0)
    assert sound is not None
    assert sound.shape == people.shape


@dataclass
class FaultyCamera:
    """What a driver does, fault by fault: each capture asks it what is the matter."""

    image: Any
    fault: str = "none"
    returned: threading.Event = field(default_factory=threading.Event)
    open_captures: int = 0
    frames: "queue.SimpleQueue[float]" = field(default_factory=queue.SimpleQueue)

    def open(self) -> Any:
        if self.fault == "open hangs":
            self.returned.wait(30)
        if self.fault == "open fails badly":
            raise cv2.error("no such device")
        self.open_captures += 1
        return FaultyCapture(self, opens=self.fault not in ("away", "open hangs"))

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.002)  # the camera's pace
        fault = self.fault
        if fault == "hangs":
            self.returned.wait(30)
            return False, None
        if fault == "stalls":
            self.returned.wait(30)
        if fault == "away":
            return False, None
        if fault == "fails badly":
            raise cv2.error("the driver is confused")
        odd: dict[str, Callable[[], Any]] = {
            "green": lambda: spoil(self.image, GREEN, 1),
            "half": lambda: spoil(self.image, GREY, 0.5),
            "no picture": lambda: None,
            "another size": lambda: cv2.resize(self.image, (160, 120)),
            "grey": lambda: cv2.cvtColor(self.image, cv2.COLOR_BGR2GRAY),
            "tiny": lambda: np.zeros((1, 1, 3), np.uint8),
        }
        return True, odd.get(fault, self.image.copy)()


class FaultyCapture:
    """One capture of it."""

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
        if self.camera.fault == "fails badly":
            raise cv2.error("not even that")


FAULTS = (
    *("hangs", "stalls", "away", "open hangs", "open fails badly", "fails badly"),
    *("green", "half", "no picture", "another size", "grey", "tiny"),
)
SPEED = 40
"""An hour of faults goes by in a ninetieth of an hour and less: every wait of the camera is this much shorter."""


def test_an_hour_of_faults_ends_nothing_and_leaves_nothing_behind(people: Any, monkeypatch: pytest.MonkeyPatch):
    """Every few seconds another fault: frames are there within 5 s of its end; threads, captures and memory stay."""
    for name in ("HANG_LEAST_SECONDS", "REOPEN_FIRST_SECONDS", "REOPEN_MOST_SECONDS", "OPEN_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(live, name, getattr(live, name) / SPEED)
    driver = FaultyCamera(people)
    camera = LiveCamera("faulty", driver.open, hang_seconds=live.HANG_SECONDS / SPEED)
    stop, chance = Stop(), random.Random(5)
    settings = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"})
    scene, frames = Scene(settings), queue.SimpleQueue[float]()
    search = SearchWorkers(camera, FaceDetector(64, 0.4), MotionGate(1.0), 2, stop)

    def watch() -> None:
        for seen in search.frames():
            if seen is not None:
                scene.see(seen.frame, seen.detections)
                if seen.frame.image.shape == people.shape:
                    frames.put(seen.frame.clock)  # not the picture, which would count as memory

    def await_frame() -> float:
        began = time.monotonic()
        while not frames.empty():
            frames.get()
        frames.get(timeout=5)
        frames.get(timeout=5)  # the first one may have been under way
        return (time.monotonic() - began) * SPEED

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    await_frame()
    process, waits, seconds, counts = psutil.Process(), [], 0.0, Counter[str]()
    memory, threads = 0, 0
    while seconds < 3600:
        fault = chance.choice(FAULTS)
        lasting = chance.uniform(0.5, 40)
        counts[fault] += 1
        driver.returned.clear()
        driver.fault = fault
        stop.wait(lasting / SPEED)
        driver.fault = "none"
        driver.returned.set()
        waits.append(await_frame())
        seconds += lasting + waits[-1] + 5
        if len(waits) == 20:
            memory, threads = process.memory_info().rss, process.num_threads()
    assert watcher.is_alive()
    assert set(counts) == set(FAULTS)
    print(f"{len(waits)} faults, back after {max(waits):.1f} s at most, {camera.reopened} times opened again")
    assert max(waits) <= 5 + 0.1 * SPEED  # a tenth of a second for this machine to be busy with something else
    assert driver.open_captures <= 2
    assert process.num_threads() <= threads + 2
    assert process.memory_info().rss <= memory + 20e6
    assert camera.reopened > 20
    assert camera.spoiled > 20
    stop.set()
    watcher.join(5)
    assert not watcher.is_alive()


def test_captures_that_hang_for_good_are_only_so_many(people: Any, monkeypatch: pytest.MonkeyPatch):
    """A driver that never returns gets no more threads; once it does, there are frames again."""
    for name in ("HANG_LEAST_SECONDS", "REOPEN_FIRST_SECONDS", "REOPEN_MOST_SECONDS", "OPEN_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(live, name, getattr(live, name) / 400)
    driver = FaultyCamera(people)
    camera = LiveCamera("hanging", driver.open, hang_seconds=0.03)
    stop = Stop()
    frames = camera.frames(stop)
    next(frames)
    driver.fault = "hangs"
    seen = queue.SimpleQueue[Frame]()

    def watch() -> None:
        for frame in frames:
            seen.put(frame)

    threading.Thread(target=watch, daemon=True).start()
    deadline = time.monotonic() + 20
    while camera.reopened < live.MAX_HUNG_CAPTURES and time.monotonic() < deadline:
        stop.wait(0.02)
    stop.wait(0.5)
    assert driver.open_captures <= live.MAX_HUNG_CAPTURES
    while not seen.empty():
        seen.get()
    driver.fault = "none"
    driver.returned.set()
    assert seen.get(timeout=5)
    stop.set()
