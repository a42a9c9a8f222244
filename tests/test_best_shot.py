"""Best shots: the first picture waits shortly for a better one, near twins are not sent, and nothing waits for ever."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edge.detector.model.yunet import Detection
from edge.detector.selection.best_shot import BestShotSelector, Candidate
from edge.detector.selection.scene import IDLE_SECONDS, Scene
from edge.detector.settings import DetectorSettings
from tests.films import OPENED_AT
from tests.shots import as_frames

PICTURE = np.zeros((8, 8, 3), np.uint8)
PERSON = Detection((40, 20, 40, 50), ((50, 40), (70, 40), (60, 50), (53, 60), (67, 60)), 0.9)


def sent_by(selector: BestShotSelector, qualities: Mapping[float, float], end: float) -> list[tuple[float, float]]:
    """Return the times in seconds when pictures of one track are sent, each with that of its capture.

    The camera gives 20 frames/s until ``end``. ``qualities`` has the quality of a picture by its time.
    """
    sent: list[tuple[float, float]] = []

    def note(clock: float, candidates: Sequence[Candidate]) -> None:
        sent.extend((clock, round(candidate.captured_at - OPENED_AT, 2)) for candidate in candidates)

    for number in range(round(20 * end) + 1):
        clock = number / 20
        note(clock, selector.take_finished(clock))
        quality, captured_at = qualities.get(clock, 0.0), OPENED_AT + clock
        if quality and selector.is_improvement(1, quality, captured_at):
            note(clock, selector.offer(Candidate(PICTURE, captured_at, (8, 8), PERSON, 1, quality), clock))
    return sent


def test_the_first_picture_is_the_best_one_of_a_short_wait():
    """It is sent when the wait ends, and never later."""
    assert sent_by(BestShotSelector(1.0, 0.3), {0.0: 0.1, 0.1: 0.2, 0.2: 0.15}, 2) == [(0.3, 0.1)]
    assert sent_by(BestShotSelector(1.0, 0.3), {0.0: 0.1}, 2) == [(0.3, 0.0)]


def test_a_good_first_picture_does_not_wait():
    """Nor does one with a wait of 0, or with the frames too far apart for a better one to arrive in time."""
    assert sent_by(BestShotSelector(1.0, 0.3), {0.0: 0.1, 0.1: 0.6, 0.2: 0.7}, 0.9) == [(0.1, 0.1)]
    assert sent_by(BestShotSelector(1.0, 0.0), {0.0: 0.1, 0.1: 0.15}, 0.9) == [(0.0, 0.0)]
    candidate = Candidate(PICTURE, OPENED_AT, (8, 8), PERSON, 1, 0.1)
    assert BestShotSelector(1.0, 0.3).offer(candidate, 0.0, may_wait=False) == [candidate]


def test_the_wait_is_at_most_an_interval():
    """With an interval of 0, every picture is sent at once."""
    assert sent_by(BestShotSelector(0.2, 5.0), {0.0: 0.1, 0.1: 0.15}, 1)[0] == (0.2, 0.1)
    assert sent_by(BestShotSelector(0.0, 5.0), {0.0: 0.1, 0.05: 0.1, 0.1: 0.1}, 1) == [(0, 0), (0.05, 0.05), (0.1, 0.1)]


def test_near_twins_are_not_sent():
    """The last picture of one interval and the first ones of the next show the same."""
    steady = {number / 20: 0.6 for number in range(80)}
    best = {0.95: 0.7, 1.0: 0.69, 1.1: 0.69, 1.2: 0.69, 1.5: 0.65}
    captured = [when for _, when in sent_by(BestShotSelector(1.0, 0.3), steady | best, 3)]
    assert captured[:3] == [0.0, 0.95, 1.5]
    assert all(later - earlier >= 0.3 for earlier, later in pairwise(captured))


def test_a_near_twin_is_sent_if_it_is_far_better():
    """When its interval ends, if no better one follows."""
    assert sent_by(BestShotSelector(1.0, 0.0), {0.0: 0.1, 0.1: 0.25}, 2) == [(0.0, 0.0), (1.0, 0.1)]
    assert sent_by(BestShotSelector(1.0, 0.0), {0.0: 0.1, 0.1: 0.15}, 2) == [(0.0, 0.0)]


def test_of_pictures_that_show_nothing_none_is_far_better():
    """A face in the dark is sent once an interval too. Each picture is the best so far, so the intervals end late."""
    dark = {number / 20: 1e-9 * number for number in range(1, 61)}
    assert [when for when, _ in sent_by(BestShotSelector(1.0, 0.0), dark, 3)] == [0.05, 1.25, 2.25]


def test_an_interval_ends_late_while_its_pictures_get_better():
    """When the best one is 0.2 s old, and at most 0.2 s late. The next interval ends when it would have ended."""
    steady = {number / 20: 0.4 for number in range(60)}
    better = {0.95: 0.5, 1.0: 0.55, 1.05: 0.6, 1.1: 0.5, 1.9: 0.5}
    assert sent_by(BestShotSelector(1.0, 0.0), steady | better, 2.5) == [(0.0, 0.0), (1.2, 1.05), (2.1, 1.9)]
    assert sent_by(BestShotSelector(1.0, 0.0), steady | {0.7: 0.5}, 1.5) == [(0.0, 0.0), (1.0, 0.7)]


def test_a_far_better_picture_does_not_wait_for_the_end_of_its_interval():
    """The next interval begins when it is sent, so there are not more pictures in the end."""
    steady = {number / 20: 0.4 for number in range(10, 60)}
    assert [when for when, _ in sent_by(BestShotSelector(1.0, 0.0), {0.0: 0.1} | steady, 2.4)] == [0.0, 0.5, 1.5]


def test_a_face_that_reappears_waits_like_a_new_one():
    """Unless its picture is at least as good as the last one."""
    assert sent_by(BestShotSelector(1.0, 0.3), {0.0: 0.2, 1.5: 0.1, 1.6: 0.15}, 3) == [(0.3, 0.0), (1.8, 1.6)]
    assert sent_by(BestShotSelector(1.0, 0.3), {0.0: 0.2, 1.5: 0.2}, 3) == [(0.3, 0.0), (1.5, 1.5)]


def make_scene(**environ: str) -> Scene:
    return Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "FACE_VERIFICATION": "false"} | environ))


def test_an_idle_camera_delays_a_first_picture_no_further():
    """It is sent when the wait has ended, even if no frame follows. Later, so is the best one of the interval."""
    image = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    scene, (frame, later) = make_scene(), as_frames([image] * 2)
    assert scene.wait(0.1) == []
    assert scene.update(frame, [PERSON]) == []
    assert scene.wait(0.2) == []
    assert [candidate.captured_at for candidate in scene.wait(0.35)] == [frame.captured_at]
    better = replace(later, captured_at=OPENED_AT + 0.38, clock=0.38)
    assert scene.update(better, [replace(PERSON, confidence=0.95)]) == []
    assert [candidate.captured_at for candidate in scene.wait(IDLE_SECONDS + 0.1)] == [better.captured_at]


@pytest.mark.parametrize("detections", [None, []])
def test_a_first_picture_is_sent_while_nothing_moves_or_after_the_face_has_left(detections: list[Detection] | None):
    """The frames that follow are not searched, or have no face."""
    scene, frames = make_scene(), as_frames([np.zeros((90, 160, 3), np.uint8)] * 20)
    assert scene.update(frames[0], [PERSON]) == []
    sent = [(frame.clock, candidate) for frame in frames[1:] for candidate in scene.update(frame, detections)]
    assert [(clock, candidate.captured_at) for clock, candidate in sent] == [(0.32, OPENED_AT)]
    assert scene.end() == []


def test_a_waiting_picture_is_sent_when_its_scene_ends():
    """At a new scene, at a cut, and at the end of the recording."""
    frames = as_frames([np.zeros((90, 160, 3), np.uint8)] * 2)
    for following in (replace(frames[1], new_scene=True), replace(frames[1], after_cut=True)):
        scene = make_scene()
        assert scene.update(frames[0], [PERSON]) == []
        assert [candidate.captured_at for candidate in scene.update(following, [])] == [OPENED_AT]
    scene = make_scene()
    assert scene.update(frames[0], [PERSON]) == []
    assert [candidate.captured_at for candidate in scene.end()] == [OPENED_AT]


def test_a_slow_camera_delays_no_first_picture():
    """At one frame per second, the next frame arrives after the wait."""
    scene = make_scene()
    image = np.zeros((90, 160, 3), np.uint8)
    frames = [
        replace(frame, clock=float(n), captured_at=OPENED_AT + n) for n, frame in enumerate(as_frames([image] * 2))
    ]
    assert scene.update(frames[0], []) == []
    assert [candidate.captured_at for candidate in scene.update(frames[1], [PERSON])] == [OPENED_AT + 1]
