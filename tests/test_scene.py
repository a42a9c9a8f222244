"""The scene, the best shots and the motion gate: the frames searched and the pictures of a face sent."""

import statistics
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest

from demo.film import clip, pan_film
from edge.detector.camera.frame import Frame, Image
from edge.detector.camera.recorded import VideoFile
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.best_shot import MIN_APART_SECONDS, BestShotSelector, Candidate, make_candidate
from edge.detector.selection.motion_gate import MAX_SEARCH_INTERVAL_SECONDS, MotionGate
from edge.detector.selection.quality import frontality, grey_face, sharpness
from edge.detector.selection.scene import IDLE_SECONDS, WEAK_CONFIDENCE, Scene
from edge.detector.settings import DetectorSettings
from tests.films import OPENED_AT, render_frames
from wire.process.lifecycle import Stop

PERSON = "WolfgangLanger_Pexels.mp4"
"""One person for 20 seconds."""


@cache
def searched(name: str) -> list[tuple[Frame, list[Detection]]]:
    """Return every frame of a film with its detections."""
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    film = VideoFile(pan_film() if name == "pan" else clip(name), loop=False)
    return [(frame, detector.detect(frame.image)) for frame in film.frames(Stop())]


def settings_of(**environ: str) -> DetectorSettings:
    return DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"} | environ)


def candidates_in(film: list[tuple[Frame, list[Detection]]], **environ: str) -> list[tuple[float, Candidate]]:
    """Return the candidates that are sent, each with the time on the film's clock when it is sent."""
    settings = settings_of(**environ)
    scene, motion_gate = Scene(settings), MotionGate(settings.face_interval)
    candidates = [
        (frame.clock, candidate)
        for frame, detections in film
        for candidate in scene.update(frame, detections if motion_gate.needs_search(frame) else None)
    ]
    return candidates + [(film[-1][0].clock, candidate) for candidate in scene.end()]


def still_frames(people: Image, seconds: float, rate: float = 30) -> list[Frame]:
    """Return frames in which nothing moves, with the noise of a camera."""
    random = np.random.default_rng(3)
    noise = [random.normal(0, 5, people.shape) for _ in range(5)]
    return [
        Frame(
            np.clip(people + noise[number % 5], 0, 255).astype(np.uint8),
            OPENED_AT + number / rate,
            number / rate,
            new_scene=number == 0,
        )
        for number in range(round(seconds * rate))
    ]


@pytest.fixture(scope="module")
def people() -> Any:
    """A picture of five people, 640 x 427 pixels."""
    return cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (640, 427))  # type: ignore[arg-type]


@pytest.mark.slow
def test_one_person_for_twenty_seconds_is_sent_once_a_second():
    """The first picture is sent within 0.3 s. In all, there are 18 to 24, all of one track and none a near twin."""
    candidates = candidates_in(searched(PERSON))
    assert 18 <= len(candidates) <= 24
    assert candidates[0][0] <= 0.31
    assert {candidate.track for _, candidate in candidates} == {1}
    times = [candidate.captured_at for _, candidate in candidates]
    assert all(later - earlier >= MIN_APART_SECONDS for earlier, later in pairwise(times))


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["0.5", "1", "3"])
def test_pictures_are_better_than_the_average_detection(interval: str):
    """On average they are sharper, more frontal and have a higher score."""
    film = searched(PERSON)
    every = [(frame, face) for frame, detections in film for face in detections if face.confidence >= 0.7]
    sent = [candidate for _, candidate in candidates_in(film, FACE_INTERVAL=interval)][1:]  # without the first one
    frames = {frame.captured_at: frame for frame, _ in film}
    chosen = [(frames[candidate.captured_at], candidate.detection) for candidate in sent]

    def mean_sharpness(pairs: list[tuple[Frame, Detection]]) -> float:
        return statistics.mean(sharpness(grey_face(frame.image, face.box)) for frame, face in pairs)

    assert mean_sharpness(chosen) > 1.03 * mean_sharpness(every)
    for measure in (lambda face: face.confidence, frontality):
        mean_of_chosen = statistics.mean(measure(face) for _, face in chosen)
        assert mean_of_chosen > statistics.mean(measure(face) for _, face in every)


@pytest.mark.slow
def test_a_picture_is_cropped_from_the_frame_of_its_capture_time():
    """It is sent at most an interval later."""
    frames = {frame.captured_at: frame for frame, _ in searched(PERSON)}
    for when, candidate in candidates_in(searched(PERSON)):
        frame = frames[candidate.captured_at]
        again = make_candidate(frame, candidate.detection, candidate.track, 0.25, candidate.quality)
        assert np.array_equal(candidate.image, again.image)
        assert candidate.framesize == (640, 360)
        assert 0 <= when - frame.clock <= 1.05


def test_an_interval_of_zero_sends_every_detection():
    """Each detection is sent at once, whether anything moves or not."""
    film = searched("single_face.mp4")
    candidates = candidates_in(film, FACE_INTERVAL="0")
    assert len(candidates) == sum(face.confidence >= 0.7 for _, detections in film for face in detections) == 72
    assert [candidate.captured_at for _, candidate in candidates] == [frame.captured_at for frame, _ in film]


@pytest.mark.slow
def test_five_people_in_a_pan_are_sent_once_a_second():
    """While a face is in view, the next picture of it is sent after at most two intervals."""
    film = searched("pan")
    sent: dict[int, list[float]] = defaultdict(list)
    for when, candidate in candidates_in(film):
        sent[candidate.track].append(when)
    assert len(sent) >= 5
    for times in sent.values():
        assert all(later - earlier <= 2.1 for earlier, later in pairwise(times))


def test_the_best_pictures_are_sent_when_a_scene_ends():
    """Before the first ones of the next scene, and when the film ends. None is sent twice."""
    film = searched("single_face.mp4")[:20]
    scene = Scene(settings_of())
    assert len([candidate for frame, detections in film for candidate in scene.update(frame, detections)]) == 1
    assert film[-1][0].clock > MIN_APART_SECONDS
    again = replace(film[0][0], new_scene=True)
    best = scene.update(again, film[0][1])[0]
    assert best.track == 1
    assert best.captured_at > film[0][0].captured_at
    scene.wait(0.3)
    assert scene.end() == []
    assert scene.end() == []


@pytest.mark.slow
def test_the_best_picture_of_a_face_that_has_left_is_sent_when_its_interval_ends():
    """It does not wait for the next face."""
    film = searched("face_noface.mov")
    last_time = max(frame.clock for frame, detections in film if detections)
    times = [when for when, _ in candidates_in(film)]
    assert last_time < times[-1] <= last_time + 1.05


def test_the_best_picture_is_sent_when_the_camera_is_idle():
    """The interval continues."""
    film = searched("single_face.mp4")
    scene = Scene(settings_of())
    for frame, detections in film[:20]:
        scene.update(frame, detections)
    assert scene.wait(0.1) == []
    assert len(scene.wait(IDLE_SECONDS + 0.1)) == 1
    assert scene.wait(IDLE_SECONDS + 0.2) == []
    assert scene.update(*film[20]) == []


@pytest.mark.slow
def test_a_still_scene_is_searched_once_a_second(people: Any):
    """Despite a noisy camera. Its faces are sent as often as if they moved."""
    motion_gate = MotionGate(1.0)
    frames = still_frames(people, 10)
    times = [frame.clock for frame in frames if motion_gate.needs_search(frame)]
    assert len(times) == 10
    assert all(later - earlier <= MAX_SEARCH_INTERVAL_SECONDS + 0.05 for earlier, later in pairwise(times))
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    sent = Counter(
        candidate.track for _, candidate in candidates_in([(frame, detector.detect(frame.image)) for frame in frames])
    )
    assert len(sent) == 5
    assert all(10 <= count <= 11 for count in sent.values())


def test_a_still_scene_is_searched_once_an_interval_if_that_is_shorter(people: Any):
    """With an interval of 0, every frame is searched."""
    motion_gate = MotionGate(0.2)
    assert sum(motion_gate.needs_search(frame) for frame in still_frames(people, 2)) == 10
    every = MotionGate(0)
    assert all(every.needs_search(frame) for frame in still_frames(people, 1))


def test_frames_with_movement_are_searched():
    """A head that moves by one or two pixels a frame; also new scenes and frames of another size."""
    motion_gate = MotionGate(1.0)
    frames = list(render_frames([lambda t: (300 + 60 * t, 250)], 2))
    assert sum(motion_gate.needs_search(frame) for frame in frames) >= len(frames) * 0.4
    assert motion_gate.needs_search(replace(frames[-1], new_scene=True))
    narrow = Frame(frames[-1].image[:, :500], OPENED_AT, frames[-1].clock)
    assert motion_gate.needs_search(narrow)


def test_a_frame_is_searched_if_the_clock_jumps(people: Any):
    """Forward or back, by an hour."""
    motion_gate = MotionGate(1.0)
    frame = still_frames(people, 0.1)[0]
    assert motion_gate.needs_search(frame)
    for clock in (3600.0, 0.0, -3600.0):
        assert motion_gate.needs_search(replace(frame, clock=clock, new_scene=False))


def test_one_picture_is_sent_in_each_interval():
    """Of a face that is in view for 10 s at 25 frames/s: the first picture, and the best one of each interval."""
    picture = np.zeros((8, 8, 3), np.uint8)
    detection = Detection((0, 0, 8, 8), ((2, 2), (6, 2), (4, 4), (3, 6), (5, 6)), 0.9)
    for interval, pictures in ((0.0, 250), (0.5, 21), (1.0, 11), (3.0, 5)):
        selector, count = BestShotSelector(interval), 0
        for number in range(250):
            count += len(selector.take_finished(number / 25))
            captured_at = OPENED_AT + number / 25
            if selector.is_improvement(1, 0.5 + number / 1000, captured_at):
                candidate = Candidate(picture, captured_at, (8, 8), detection, 1, 0.5 + number / 1000)
                count += len(selector.offer(candidate, number / 25))
        assert count + len(selector.end()) == pictures
