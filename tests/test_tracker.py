"""Who is who: numbers that hold while people move, pass each other, and are out of sight for a moment."""

import math
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.tracker import FORGET_AFTER_SECONDS, Tracker, appearance_of, overlap
from tests.films import Path2D, frames_of

boxes = st.tuples(*[st.floats(-5000, 5000)] * 2, *[st.floats(0.1, 5000)] * 2)
DETECTOR = FaceDetector(640, 0.7)


def test_a_face_keeps_its_number_while_it_moves():
    """Two people side by side keep theirs apart; a third gets a new one."""
    tracker = Tracker()
    for step in range(50):
        left, right = (step * 5, 0, 100, 100), (600 - step * 5, 300, 100, 100)
        assert [track.number for track in tracker.follow([left, right], step / 25)] == [1, 2]
    assert [track.number for track in tracker.follow([right, (900, 0, 50, 50), left], 2.0)] == [2, 3, 1]


def test_a_face_out_of_sight_is_forgotten_after_a_while():
    """Soon after it is the same face; later, or in another scene, a new one."""
    tracker = Tracker()
    box = (0, 0, 100, 100)
    assert tracker.follow([box], 0)[0].number == 1
    assert tracker.follow([box], FORGET_AFTER_SECONDS)[0].number == 1
    assert tracker.follow([box], 2 * FORGET_AFTER_SECONDS + 0.1)[0].number == 2
    tracker.forget()
    assert tracker.follow([box], 2 * FORGET_AFTER_SECONDS + 0.2)[0].number == 3


def test_a_clock_that_stands_still_makes_no_new_faces():
    """As at a splice of a film."""
    tracker = Tracker()
    for _ in range(5):
        assert tracker.follow([(0, 0, 100, 100)], 1.0)[0].number == 1


def test_a_face_that_keeps_still_is_not_forgotten():
    """Frames in which nothing moves are not searched; the faces are where they were."""
    tracker = Tracker()
    tracker.follow([(0, 0, 100, 100)], 0)
    for second in range(1, 60):
        tracker.rest(float(second))
    assert tracker.follow([(0, 0, 100, 100)], 60.0)[0].number == 1


def test_a_face_that_was_gone_already_is_forgotten_in_a_still_scene():
    """What follows is not its number."""
    tracker = Tracker()
    tracker.follow([(0, 0, 100, 100)], 0)
    tracker.follow([], 0.1)
    for second in range(1, 10):
        tracker.rest(float(second))
    assert tracker.follow([(0, 0, 100, 100)], 10.0)[0].number == 2


@given(boxes, boxes)
def test_overlap_is_symmetric_and_within_bounds(a, b):
    """1 for the same box, 0 for boxes apart."""
    assert overlap(a, b) == pytest.approx(overlap(b, a))
    assert -1e-9 <= overlap(a, b) <= 1 + 1e-9
    assert overlap(a, a) == pytest.approx(1)


def numbers_of(ways: Sequence[Path2D], seconds: float, rate: float = 25) -> list[list[int]]:
    """The numbers that each person has had, one after another, by where their head truly is."""
    tracker = Tracker()
    had: dict[int, list[int]] = defaultdict(list)
    for frame in frames_of(ways, seconds, rate):
        found = DETECTOR.detect(frame.image)
        appearances = [appearance_of(frame.image, one.box) for one in found]
        for one, track in zip(found, tracker.follow([one.box for one in found], frame.clock, appearances), strict=True):
            middle = (one.box[0] + one.box[2] / 2, one.box[1] + one.box[3] / 2)
            near = [person for person, way in enumerate(ways) if math.dist(way(frame.clock), middle) < 35]
            # Where two heads cover each other, the one in front is seen.
            if near and track.number not in had[near[-1]][-1:]:
                had[near[-1]].append(track.number)
    return [had[person] for person in range(len(ways))]


def test_two_people_who_pass_each_other_keep_their_numbers():
    """One hides the other for half a second."""
    ways = (lambda t: (150 + 130 * t, 260), lambda t: (810 - 130 * t, 280))
    first, second = numbers_of(ways, 5)
    assert [len(first), len(second)] == [1, 1]
    assert first != second


def test_two_people_who_meet_and_turn_back_keep_their_numbers():
    """Movement alone would say that they have passed; they look like themselves."""
    ways = (
        lambda t: (480 - 45 - 130 * abs(t - 2.5), 260),
        lambda t: (480 + 45 + 130 * abs(t - 2.5), 280),
    )
    first, second = numbers_of(ways, 5)
    assert [len(first), len(second)] == [1, 1]
    assert first != second


def test_at_five_frames_a_second_people_keep_their_numbers():
    """As a small machine sees them."""
    ways = (lambda t: (150 + 130 * t, 160), lambda t: (810 - 130 * t, 380))
    assert [len(numbers) for numbers in numbers_of(ways, 5, rate=5)] == [1, 1]


def test_three_people_for_twenty_seconds_keep_one_number_each():
    """They walk up and down, and each passes in front of the others several times."""
    ways = (
        lambda t: (480 + 330 * math.sin(0.9 * t), 190),
        lambda t: (480 + 330 * math.sin(0.7 * t + 2), 270),
        lambda t: (480 + 330 * math.sin(0.5 * t + 4), 350),
    )
    had = numbers_of(ways, 20)
    assert [len(numbers) for numbers in had] == [1, 1, 1]
    assert len({numbers[0] for numbers in had}) == 3


def test_four_people_in_a_throng_for_twenty_seconds_switch_at_most_once_each():
    """At times one hides two others, who come out again together."""
    ways = (
        lambda t: (480 + 330 * math.sin(0.7 * t), 200 + 60 * math.sin(1.1 * t)),
        lambda t: (480 + 330 * math.sin(0.6 * t + 2), 270 + 60 * math.sin(0.9 * t + 1)),
        lambda t: (480 + 330 * math.sin(0.5 * t + 4), 330 + 60 * math.sin(0.8 * t + 2)),
        lambda t: (480 + 330 * math.sin(0.4 * t + 5), 400 + 60 * math.sin(0.7 * t + 3)),
    )
    assert all(1 <= len(numbers) <= 2 for numbers in numbers_of(ways, 20))
