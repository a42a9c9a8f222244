"""Cuts are found and end tracks; flashes, fades, changes of light, pans and passers-by are no cuts."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from edge.detector.camera.frame import Frame
from edge.detector.model.yunet import Detection
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.scene import Scene
from edge.detector.settings import DetectorSettings
from tests.films import OPENED_AT
from tests.shots import NO_CUTS, as_frames, joined

PERSON = Detection((40, 20, 40, 50), ((50, 40), (70, 40), (60, 50), (53, 60), (67, 60)), 0.9)
FAINT = replace(PERSON, confidence=0.75)


def cuts_in(frames: list[Frame]) -> list[int]:
    """Return the numbers of the frames after which the motion gate finds a cut."""
    gate, found = MotionGate(1.0), []
    for number, frame in enumerate(frames):
        needs_search = gate.needs_search(frame)
        if gate.is_cut:
            assert needs_search
            found.append(number)
    return found


def test_hard_cuts_are_found():
    """At least 48 of 50, and at most two others."""
    images, cuts = joined(50)
    found = cuts_in(as_frames(images))
    assert len(set(found) & set(cuts)) >= 48
    assert len(set(found) - set(cuts)) <= 2


@pytest.mark.parametrize("kind", NO_CUTS)
def test_what_resembles_a_cut_is_none(kind: str):
    """At most 2 in 50 films of each kind."""
    random = np.random.default_rng(7)
    assert sum(len(cuts_in(as_frames(NO_CUTS[kind](random)))) for _ in range(50)) <= 2


def test_the_first_frame_of_a_scene_is_no_cut():
    """The scene ends the tracks anyway. Nor is there one with an interval of 0, at which every frame is sent."""
    images, cuts = joined(3)
    frames = as_frames(images)
    scenes = [replace(frame, new_scene=number in (0, *cuts)) for number, frame in enumerate(frames)]
    assert cuts_in(scenes) == []
    gate = MotionGate(0)
    assert [gate.is_cut for frame in frames if gate.needs_search(frame)] == [False] * len(frames)


def test_frames_of_another_size_are_compared_with_none():
    """Nor are frames without any pattern, or of a few pixels."""
    gate = MotionGate(1.0)
    random = np.random.default_rng(1)
    for number, (width, height) in enumerate(((160, 90), (90, 160), (8, 8), (1, 1), (640, 2))):
        for _ in range(3):
            image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            gate.needs_search(Frame(image, OPENED_AT + number, float(number)))
            gate.needs_search(Frame(np.full_like(image, 90), OPENED_AT + number, float(number)))


def test_no_track_continues_over_a_cut():
    """Not even that of a face at the same place. The pictures of each track are of one shot."""
    scene = Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "FACE_VERIFICATION": "false"}))
    sent: dict[int, list[float]] = defaultdict(list)
    image = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    for frame in as_frames([image] * 50):
        cut = replace(frame, after_cut=frame.clock == 1)
        for candidate in scene.update(cut, [PERSON]):
            sent[candidate.track].append(candidate.captured_at - OPENED_AT)
    for candidate in scene.end():
        sent[candidate.track].append(candidate.captured_at - OPENED_AT)
    assert set(sent) == {1, 2}
    assert max(sent[1]) < 1 <= min(sent[2])


def test_a_face_in_a_single_frame_is_not_confirmed_by_a_cut():
    """Only a scene of a single image needs no second frame."""
    scene = Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "FACE_VERIFICATION": "false"}))
    first, second = as_frames([np.zeros((90, 160, 3), np.uint8)] * 2)
    assert scene.update(first, [FAINT]) == []
    assert scene.update(replace(second, after_cut=True), [FAINT]) == []
    assert scene.end() == []
    assert scene.false_positives == 2
