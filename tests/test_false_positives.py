"""False positives: implausible detections are rejected, and people are not."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from demo.film import clip, pan_film
from edge.detector.camera.frame import Frame
from edge.detector.camera.recorded import VideoFile
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.false_positives import is_false_positive
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.settings import DetectorSettings
from tests.films import OPENED_AT
from wire.process.lifecycle import Stop

RABBIT = Detection(
    (298.0, 195.0, 207.0, 275.0),
    ((388.0, 262.0), (468.0, 262.0), (440.0, 278.0), (395.0, 345.0), (455.0, 345.0)),
    0.79,
)
"""A detection of a cartoon rabbit: its nose is right below its eyes."""
PERSON = replace(RABBIT, landmarks=(*RABBIT.landmarks[:2], (435.0, 305.0), *RABBIT.landmarks[3:]), confidence=0.75)


def scene_of(**environ: str) -> Scene:
    return Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"} | environ))


def frames(count: int) -> list[Frame]:
    image = np.random.default_rng(4).integers(0, 256, (540, 960, 3), np.uint8)
    return [Frame(image, OPENED_AT + n / 25, n / 25, new_scene=n == 0) for n in range(count)]


@pytest.mark.parametrize("size", [320, pytest.param(640, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["single_face.mp4", "face_noface.mov", "WolfgangLanger_Pexels.mp4", "pan"])
def test_no_face_in_a_film_of_people_is_rejected(name: str, size: int):
    """Every detection with the required score, in any pose, whole or cut off."""
    detector, detected, rejected = FaceDetector(size, 0.7), 0, 0
    for frame in VideoFile(pan_film() if name == "pan" else clip(name), loop=False).frames(Stop()):
        for detection in detector.detect(frame.image):
            detected += 1
            rejected += is_false_positive(detection, (frame.image.shape[1], frame.image.shape[0]))
    assert detected >= 72
    assert rejected <= 0.005 * detected


def test_a_muzzle_is_rejected_unless_its_score_is_high():
    """It is rejected by its landmarks, which are not used if the edge of the frame cuts it off."""
    assert is_false_positive(RABBIT, (960, 540))
    assert not is_false_positive(replace(RABBIT, confidence=0.9), (960, 540))
    assert not is_false_positive(RABBIT, (450, 540))
    assert not is_false_positive(
        replace(RABBIT, landmarks=(*RABBIT.landmarks[:2], (435.0, 305.0), *RABBIT.landmarks[3:])), (960, 540)
    )


def test_a_rejected_detection_is_counted_and_not_sent():
    """Except with FACE_INTERVAL=0, which sends every detection."""
    scene = scene_of()
    assert [candidate for frame in frames(30) for candidate in scene.update(frame, [RABBIT])] + scene.end() == []
    assert (scene.faces, scene.false_positives) == (0, 30)
    every = scene_of(FACE_INTERVAL="0")
    assert len([candidate for frame in frames(30) for candidate in every.update(frame, [RABBIT])]) == 30


def test_a_face_with_a_low_score_is_sent_once_it_is_detected_in_a_second_frame():
    """With a higher score it is sent at once. Detected in a single frame only, it is never sent."""
    scene = scene_of(FACE_FIRST_WAIT="0")
    first, second, *rest = frames(80)
    assert scene.update(first, [PERSON]) == []
    assert [candidate.captured_at for candidate in scene.update(second, [PERSON])] == [second.captured_at]
    confident = scene_of(FACE_FIRST_WAIT="0")
    assert len(confident.update(first, [replace(PERSON, confidence=0.81)])) == 1
    passing = scene_of()
    candidates = [
        *passing.update(first, [PERSON]),
        *(candidate for frame in (second, *rest) for candidate in passing.update(frame, [])),
    ]
    assert candidates + passing.end() == []
    assert passing.false_positives == 1


def test_a_scene_of_a_single_frame_needs_no_second_one():
    """A folder of images has such scenes."""
    scene = scene_of()
    frame = frames(1)[0]
    assert scene.update(frame, [PERSON]) == []
    assert len(scene.update(frame, [PERSON])) == 1
    assert len(scene.end()) == 1


def test_noise_has_no_face():
    """No detection in blurred noise, which resembles grass or bricks, has the default score."""
    random: Any = np.random.default_rng(1)
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    for blur in (0.5, 2, 6, 15):
        noise = cv2.GaussianBlur(random.integers(0, 256, (480, 640, 3)).astype(np.float32), (0, 0), blur)
        picture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
        assert [detection for detection in detector.detect(picture) if detection.confidence >= 0.7] == []
