"""The tracker: people keep their numbers while they move, pass each other, or are briefly hidden."""

import math
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.tracker import MAX_UNSEEN_SECONDS, Tracker, appearance_of, overlap
from tests.films import Motion, render_frames

boxes = st.tuples(*[st.floats(-5000, 5000)] * 2, *[st.floats(0.1, 5000)] * 2)
DETECTOR = FaceDetector(640, 0.7)


def test_a_face_keeps_its_number_while_it_moves():
    """Two people keep separate numbers, and a third one gets a new number."""
    tracker = Tracker()
    for step in range(50):
        left, right = (step * 5, 0, 100, 100), (600 - step * 5, 300, 100, 100)
        assert [track.number for track in tracker.update([left, right], step / 25)] == [1, 2]
    assert [track.number for track in tracker.update([right, (900, 0, 50, 50), left], 2.0)] == [2, 3, 1]


def test_a_face_that_is_unseen_for_too_long_gets_a_new_number():
    """After a shorter time it keeps its number; in a new scene it does not."""
    tracker = Tracker()
    box = (0, 0, 100, 100)
    assert tracker.update([box], 0)[0].number == 1
    assert tracker.update([box], MAX_UNSEEN_SECONDS)[0].number == 1
    assert tracker.update([box], 2 * MAX_UNSEEN_SECONDS + 0.1)[0].number == 2
    tracker.reset()
    assert tracker.update([box], 2 * MAX_UNSEEN_SECONDS + 0.2)[0].number == 3


def test_frames_with_equal_times_begin_no_new_tracks():
    """As at a splice in a video."""
    tracker = Tracker()
    for _ in range(5):
        assert tracker.update([(0, 0, 100, 100)], 1.0)[0].number == 1


def test_a_face_keeps_its_number_in_a_still_scene():
    """Frames in which nothing moves are not searched; the faces are still there."""
    tracker = Tracker()
    tracker.update([(0, 0, 100, 100)], 0)
    for second in range(1, 60):
        tracker.hold(float(second))
    assert tracker.update([(0, 0, 100, 100)], 60.0)[0].number == 1


def test_a_face_that_has_left_is_not_held_in_a_still_scene():
    """A face that appears there later gets a new number."""
    tracker = Tracker()
    tracker.update([(0, 0, 100, 100)], 0)
    tracker.update([], 0.1)
    for second in range(1, 10):
        tracker.hold(float(second))
    assert tracker.update([(0, 0, 100, 100)], 10.0)[0].number == 2


@given(boxes, boxes)
def test_overlap_is_symmetric_and_between_0_and_1(a, b):
    """The overlap of a box with itself is 1."""
    assert overlap(a, b) == pytest.approx(overlap(b, a))
    assert -1e-9 <= overlap(a, b) <= 1 + 1e-9
    assert overlap(a, a) == pytest.approx(1)


def numbers_of(motions: Sequence[Motion], seconds: float, rate: float = 25) -> list[list[int]]:
    """Return the numbers that each person had, one after another. People are told apart by their true positions."""
    tracker = Tracker()
    numbers: dict[int, list[int]] = defaultdict(list)
    for frame in render_frames(motions, seconds, rate):
        boxes = [detection.box for detection in DETECTOR.detect(frame.image)]
        appearances = [appearance_of(frame.image, box) for box in boxes]
        for box, track in zip(boxes, tracker.update(boxes, frame.clock, appearances), strict=True):
            centre = (box[0] + box[2] / 2, box[1] + box[3] / 2)
            near = [person for person, motion in enumerate(motions) if math.dist(motion(frame.clock), centre) < 35]
            # Of two heads that overlap, the last one is in front and is detected.
            if near and track.number not in numbers[near[-1]][-1:]:
                numbers[near[-1]].append(track.number)
    return [numbers[person] for person in range(len(motions))]


def test_two_people_who_pass_each_other_keep_their_numbers():
    """One hides the other for half a second."""
    motions = (lambda t: (150 + 130 * t, 260), lambda t: (810 - 130 * t, 280))
    first, second = numbers_of(motions, 5)
    assert [len(first), len(second)] == [1, 1]
    assert first != second


def test_two_people_who_meet_and_turn_back_keep_their_numbers():
    """By motion alone they would have passed each other. Their appearance tells them apart."""
    motions = (
        lambda t: (480 - 45 - 130 * abs(t - 2.5), 260),
        lambda t: (480 + 45 + 130 * abs(t - 2.5), 280),
    )
    first, second = numbers_of(motions, 5)
    assert [len(first), len(second)] == [1, 1]
    assert first != second


def test_at_five_frames_a_second_people_keep_their_numbers():
    """This is the frame rate of a slow machine."""
    motions = (lambda t: (150 + 130 * t, 160), lambda t: (810 - 130 * t, 380))
    assert [len(numbers) for numbers in numbers_of(motions, 5, rate=5)] == [1, 1]


@pytest.mark.slow
def test_three_people_keep_their_numbers_for_twenty_seconds():
    """They walk to and fro, and pass in front of each other several times."""
    motions = (
        lambda t: (480 + 330 * math.sin(0.9 * t), 190),
        lambda t: (480 + 330 * math.sin(0.7 * t + 2), 270),
        lambda t: (480 + 330 * math.sin(0.5 * t + 4), 350),
    )
    people = numbers_of(motions, 20)
    assert [len(numbers) for numbers in people] == [1, 1, 1]
    assert len({numbers[0] for numbers in people}) == 3


@pytest.mark.slow
def test_four_people_in_a_crowd_change_numbers_at_most_once_in_twenty_seconds():
    """At times one of them hides two others, who reappear together."""
    motions = (
        lambda t: (480 + 330 * math.sin(0.7 * t), 200 + 60 * math.sin(1.1 * t)),
        lambda t: (480 + 330 * math.sin(0.6 * t + 2), 270 + 60 * math.sin(0.9 * t + 1)),
        lambda t: (480 + 330 * math.sin(0.5 * t + 4), 330 + 60 * math.sin(0.8 * t + 2)),
        lambda t: (480 + 330 * math.sin(0.4 * t + 5), 400 + 60 * math.sin(0.7 * t + 3)),
    )
    assert all(1 <= len(numbers) <= 2 for numbers in numbers_of(motions, 20))
