"""False alarms: what is doubtful, and that no person is."""

from dataclasses import replace
from datetime import timedelta
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
"""As the model sees a cartoon's rabbit: the nose right below the eyes."""
PERSON = replace(RABBIT, landmarks=(*RABBIT.landmarks[:2], (435.0, 305.0), *RABBIT.landmarks[3:]), confidence=0.75)


def scene_of(**environ: str) -> Scene:
    return Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"} | environ))


def frames(count: int) -> list[Frame]:
    image = np.random.default_rng(4).integers(0, 256, (540, 960, 3), np.uint8)
    return [Frame(image, OPENED_AT + timedelta(seconds=n / 25), n / 25, new_scene=n == 0) for n in range(count)]


@pytest.mark.parametrize("size", [320, 640])
@pytest.mark.parametrize("name", ["single_face.mp4", "face_noface.mov", "WolfgangLanger_Pexels.mp4", "pan"])
def test_no_face_of_a_film_of_people_is_doubtful(name: str, size: int):
    """Whatever way they look, whole or cut, every detection that the score lets pass."""
    detector, seen, doubtful = FaceDetector(size, 0.7), 0, 0
    for frame in VideoFile(pan_film() if name == "pan" else clip(name), loop=False).frames(Stop()):
        for found in detector.detect(frame.image):
            seen += 1
            doubtful += is_false_positive(found, (frame.image.shape[1], frame.image.shape[0]))
    assert seen >= 72
    assert doubtful <= 0.005 * seen


def test_a_muzzle_is_doubtful_unless_the_model_is_sure():
    """By its landmarks; where the edge cuts it, they say nothing."""
    assert is_false_positive(RABBIT, (960, 540))
    assert not is_false_positive(replace(RABBIT, confidence=0.9), (960, 540))
    assert not is_false_positive(RABBIT, (450, 540))
    assert not is_false_positive(
        replace(RABBIT, landmarks=(*RABBIT.landmarks[:2], (435.0, 305.0), *RABBIT.landmarks[3:])), (960, 540)
    )


def test_an_animal_is_not_sent_and_counted():
    """But for FACE_INTERVAL=0, which sends every detection."""
    scene = scene_of()
    assert [candidate for frame in frames(30) for candidate in scene.see(frame, [RABBIT])] + scene.end() == []
    assert (scene.faces, scene.doubted) == (0, 30)
    every = scene_of(FACE_INTERVAL="0")
    assert len([candidate for frame in frames(30) for candidate in every.see(frame, [RABBIT])]) == 30


def test_a_weak_face_is_sent_once_it_is_seen_again():
    """A confident one at first sight; one that is seen in a single frame never."""
    scene = scene_of()
    first, second, *rest = frames(80)
    assert scene.see(first, [PERSON]) == []
    assert [candidate.captured_at for candidate in scene.see(second, [PERSON])] == [second.captured_at]
    confident = scene_of()
    assert len(confident.see(first, [replace(PERSON, confidence=0.81)])) == 1
    passing = scene_of()
    candidates = [
        *passing.see(first, [PERSON]),
        *(candidate for frame in (second, *rest) for candidate in passing.see(frame, [])),
    ]
    assert candidates + passing.end() == []
    assert passing.doubted == 1


def test_in_a_scene_of_one_picture_nobody_needs_to_be_seen_again():
    """As in a folder of images."""
    scene = scene_of()
    frame = frames(1)[0]
    assert scene.see(frame, [PERSON]) == []
    assert len(scene.see(frame, [PERSON])) == 1
    assert len(scene.end()) == 1


def test_grass_bricks_and_noise_have_no_face():
    """At the score that is asked for."""
    random: Any = np.random.default_rng(1)
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    for blur in (0.5, 2, 6, 15):
        noise = cv2.GaussianBlur(random.integers(0, 256, (480, 640, 3)).astype(np.float32), (0, 0), blur)
        picture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
        assert [found for found in detector.detect(picture) if found.confidence >= 0.7] == []
