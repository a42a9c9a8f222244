"""Which frames are searched, and which pictures of a face are sent."""

import statistics
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
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
from edge.detector.selection.best_shot import (
    BestShotSelector,
    Candidate,
    frontality,
    make_candidate,
    picture_quality,
    sharpness,
)
from edge.detector.selection.motion_gate import LOOK_SECONDS, MotionGate
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.settings import DetectorSettings
from tests.films import OPENED_AT, frames_of
from wire.process.lifecycle import Stop

PERSON = "WolfgangLanger_Pexels.mp4"
"""One person for 20 seconds."""


@cache
def searched(name: str) -> list[tuple[Frame, list[Detection]]]:
    """Every frame of a film, and what is in it."""
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    film = VideoFile(pan_film() if name == "pan" else clip(name), loop=False)
    return [(frame, detector.detect(frame.image)) for frame in film.frames(Stop())]


def settings_of(**environ: str) -> DetectorSettings:
    return DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"} | environ)


def shots_in(seen: list[tuple[Frame, list[Detection]]], **environ: str) -> list[tuple[float, Candidate]]:
    """What is handed over, and when on the film's clock."""
    settings = settings_of(**environ)
    scene, motion_gate = Scene(settings), MotionGate(settings.face_interval)
    candidates = [
        (frame.clock, candidate)
        for frame, found in seen
        for candidate in scene.see(frame, found if motion_gate.needs_search(frame) else None)
    ]
    return candidates + [(seen[-1][0].clock, candidate) for candidate in scene.end()]


def still(people: Image, seconds: float, rate: float = 30) -> list[Frame]:
    """A scene in which nothing moves, with the noise of a camera."""
    random = np.random.default_rng(3)
    noise = [random.normal(0, 5, people.shape) for _ in range(5)]
    return [
        Frame(
            np.clip(people + noise[number % 5], 0, 255).astype(np.uint8),
            OPENED_AT + timedelta(seconds=number / rate),
            number / rate,
            new_scene=number == 0,
        )
        for number in range(round(seconds * rate))
    ]


@pytest.fixture(scope="module")
def people() -> Any:
    """640 x 427 pixels, five people."""
    return cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (640, 427))  # type: ignore[arg-type]


def test_one_person_for_twenty_seconds_is_sent_once_a_second():
    """At first sight at once; all in all 18 to 24 pictures of one face."""
    candidates = shots_in(searched(PERSON))
    assert 18 <= len(candidates) <= 24
    assert candidates[0][0] == 0
    assert {candidate.track for _, candidate in candidates} == {1}


@pytest.mark.parametrize("interval", ["0.5", "1", "3"])
def test_pictures_are_better_than_those_of_chance(interval: str):
    """Sharper and more confident in the mean than all detections of the same face; no worse turned aside."""
    seen = searched(PERSON)
    every = [(frame, one) for frame, found in seen for one in found if one.confidence >= 0.7]
    sent = [candidate for _, candidate in shots_in(seen, FACE_INTERVAL=interval)][1:]  # the first was taken at once
    frames = {frame.captured_at: frame for frame, _ in seen}
    chosen = [(frames[candidate.captured_at], candidate.found) for candidate in sent]

    def mean_sharpness(pairs: list[tuple[Frame, Detection]]) -> float:
        return statistics.mean(sharpness(frame.image, one.box) for frame, one in pairs)

    assert mean_sharpness(chosen) > 1.03 * mean_sharpness(every)
    assert statistics.mean(one.confidence for _, one in chosen) > statistics.mean(one.confidence for _, one in every)
    assert statistics.mean(frontality(one) for _, one in chosen) > statistics.mean(frontality(one) for _, one in every)


def test_a_shot_shows_the_frame_whose_time_it_bears():
    """However much later it is due."""
    frames = {frame.captured_at: frame for frame, _ in searched(PERSON)}
    for when, candidate in shots_in(searched(PERSON)):
        frame = frames[candidate.captured_at]
        again = make_candidate(frame, candidate.found, candidate.track, 0.25, candidate.quality)
        assert np.array_equal(candidate.picture, again.picture)
        assert candidate.framesize == (640, 360)
        assert 0 <= when - frame.clock <= 1.05


def test_an_interval_of_zero_sends_every_detection():
    """Each at once, whatever moves."""
    seen = searched("single_face.mp4")
    candidates = shots_in(seen, FACE_INTERVAL="0")
    assert len(candidates) == sum(one.confidence >= 0.7 for _, found in seen for one in found) == 72
    assert [candidate.captured_at for _, candidate in candidates] == [frame.captured_at for frame, _ in seen]


def test_five_people_are_sent_once_a_second_while_they_are_in_view():
    """In a pan across them: no face waits longer than an interval for its next picture while it is seen."""
    seen = searched("pan")
    sent: dict[int, list[float]] = defaultdict(list)
    for when, candidate in shots_in(seen):
        sent[candidate.track].append(when)
    assert len(sent) >= 5
    for times in sent.values():
        assert all(later - earlier <= 2.1 for earlier, later in pairwise(times))


def test_what_is_kept_is_handed_over_before_another_scene_begins():
    """And when the film ends; nothing is handed over twice."""
    seen = searched("single_face.mp4")[:20]
    scene = Scene(settings_of())
    assert len([candidate for frame, found in seen for candidate in scene.see(frame, found)]) == 1
    again = replace(seen[0][0], new_scene=True)
    kept, first = scene.see(again, seen[0][1])
    assert kept.track == 1
    assert kept.captured_at > seen[0][0].captured_at
    assert (first.track, first.captured_at) == (2, again.captured_at)
    assert scene.end() == []
    assert scene.end() == []


def test_what_is_kept_of_a_face_that_is_gone_is_handed_over_when_its_interval_ends():
    """Not when somebody comes the next day."""
    seen = searched("face_noface.mov")
    last_seen = max(frame.clock for frame, found in seen if found)
    times = [when for when, _ in shots_in(seen)]
    assert last_seen < times[-1] <= last_seen + 1.05


def test_a_camera_that_pauses_gets_its_shots_handed_over():
    """The interval goes on."""
    seen = searched("single_face.mp4")
    scene = Scene(settings_of())
    for frame, found in seen[:10]:
        scene.see(frame, found)
    assert len(scene.pause()) == 1
    assert scene.pause() == []
    assert scene.see(*seen[10]) == []


def test_the_edge_of_the_frame_blur_and_a_turned_head_are_no_good(people: Any):
    """Each makes a worse picture of the same face."""
    best = FaceDetector(640, 0.7).detect(people)[0]
    good = picture_quality(people, best)
    x, y, width, height = (round(number) for number in best.box)
    assert picture_quality(cv2.GaussianBlur(people, (0, 0), 2), best) < good / 2
    cut = people[:, x + width // 5 :]
    moved = Detection(
        (-width / 5, y, width, height), tuple((px - x - width // 5, py) for px, py in best.landmarks), 0.9
    )
    assert picture_quality(cut, moved) < picture_quality(people, replace(best, confidence=0.9))
    (right, left, nose, *mouth) = best.landmarks
    turned = replace(best, landmarks=(right, left, (left[0] + 5, nose[1]), *mouth))
    assert picture_quality(people, turned) < 0.6 * good
    assert picture_quality(people, replace(best, confidence=0.7)) < good


def test_a_still_scene_is_searched_once_a_second(people: Any):
    """However noisy its camera; and its faces are sent as often as if they moved."""
    motion_gate = MotionGate(1.0)
    frames = still(people, 10)
    times = [frame.clock for frame in frames if motion_gate.needs_search(frame)]
    assert len(times) == 10
    assert all(later - earlier <= LOOK_SECONDS + 0.05 for earlier, later in pairwise(times))
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    sent = Counter(
        candidate.track for _, candidate in shots_in([(frame, detector.detect(frame.image)) for frame in frames])
    )
    assert len(sent) == 5
    assert all(10 <= count <= 11 for count in sent.values())


def test_an_interval_shorter_than_a_second_is_kept_in_a_still_scene(people: Any):
    """The scene is searched that often."""
    motion_gate = MotionGate(0.2)
    assert sum(motion_gate.needs_search(frame) for frame in still(people, 2)) == 10
    every = MotionGate(0)
    assert all(every.needs_search(frame) for frame in still(people, 1))


def test_whatever_moves_is_searched():
    """A head that moves by a pixel or two a frame; a scene that is another; a frame of another size."""
    motion_gate = MotionGate(1.0)
    frames = list(frames_of([lambda t: (300 + 60 * t, 250)], 2))
    assert sum(motion_gate.needs_search(frame) for frame in frames) >= len(frames) * 0.4
    assert motion_gate.needs_search(replace(frames[-1], new_scene=True))
    narrow = Frame(frames[-1].image[:, :500], OPENED_AT, frames[-1].clock)
    assert motion_gate.needs_search(narrow)


def test_a_clock_that_jumps_does_not_close_the_gate(people: Any):
    """Forward or back, by an hour."""
    motion_gate = MotionGate(1.0)
    frame = still(people, 0.1)[0]
    assert motion_gate.needs_search(frame)
    for clock in (3600.0, 0.0, -3600.0):
        assert motion_gate.needs_search(replace(frame, clock=clock, new_scene=False))


def test_every_shot_that_is_kept_is_handed_over_once():
    """One face, 10 s at 25 frames/s: first sight, then each interval, the last one cut short."""
    picture = np.zeros((8, 8, 3), np.uint8)
    found = Detection((0, 0, 8, 8), ((2, 2), (6, 2), (4, 4), (3, 6), (5, 6)), 0.9)
    for interval, pictures in ((0.0, 250), (0.5, 21), (1.0, 11), (3.0, 5)):
        candidates, count = BestShotSelector(interval), 0
        for number in range(250):
            count += len(candidates.due(number / 25))
            if candidates.wants(1, number / 250):
                count += len(
                    candidates.offer(Candidate(picture, OPENED_AT, (8, 8), found, 1, number / 250), number / 25)
                )
        assert count + len(candidates.end()) == pictures
