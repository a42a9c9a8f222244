"""Verification: what only resembles a face is not sent, and people are."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from demo.film import clip, pan_film
from edge.detector.camera.frame import Frame, Image
from edge.detector.camera.recorded import VideoFile
from edge.detector.model.verifier import FaceVerifier, cut_patch
from edge.detector.model.weights import FOLDER, VERIFICATION
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.selection.verification import Verification
from edge.detector.settings import DetectorSettings
from tests.films import OPENED_AT
from wire.errors import ConfigurationError
from wire.process.lifecycle import Stop

SOMETHING = Detection(
    (298.0, 195.0, 207.0, 275.0),
    ((388.0, 262.0), (468.0, 262.0), (440.0, 305.0), (395.0, 345.0), (455.0, 345.0)),
    0.79,
)
"""A detection in a picture of noise."""


class ScriptedVerifier(FaceVerifier):
    """Answers with the given log odds, one after the other."""

    def __init__(self, *log_odds: float) -> None:
        self.left = list(log_odds)

    def log_odds(self, image: Image, box: tuple[float, float, float, float]) -> float:
        return self.left.pop(0)


def scene_of(**environ: str) -> Scene:
    return Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "FACE_FIRST_WAIT": "0"} | environ))


def frames(count: int) -> list[Frame]:
    image = np.random.default_rng(4).integers(0, 256, (540, 960, 3), np.uint8)
    return [Frame(image, OPENED_AT + n / 25, n / 25, new_scene=n == 0) for n in range(count)]


def verification_with(*log_odds: float) -> Verification:
    verifier = ScriptedVerifier(*log_odds)
    return Verification(lambda: verifier)


def looks(verification: Verification, clocks: list[float]) -> list[bool]:
    image = np.zeros((540, 960, 3), np.uint8)
    return [verification.accepts(image, SOMETHING, 1, clock) for clock in clocks]


def film_of(name: str, step: int) -> Iterator[Frame]:
    """Yield every ``step``-th frame of a film."""
    film = VideoFile(pan_film() if name == "pan" else clip(name), loop=False)
    return (frame for number, frame in enumerate(film.frames(Stop())) if number % step == 0)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("single_face.mp4", 6),
        pytest.param("face_noface.mov", 3, marks=pytest.mark.slow),
        pytest.param("WolfgangLanger_Pexels.mp4", 3, marks=pytest.mark.slow),
        pytest.param("pan", 3, marks=pytest.mark.slow),
    ],
)
def test_people_in_films_are_accepted_at_nearly_every_look(name: str, step: int):
    """In any pose, whole or cut off."""
    detector, verifier = FaceDetector(640, 0.7), FaceVerifier()
    odds = [
        verifier.log_odds(frame.image, detection.box)
        for frame in film_of(name, step)
        for detection in detector.detect(frame.image)
    ]
    assert len(odds) >= 12
    assert np.mean(np.array(odds) < 0) <= 0.05


def test_the_same_tracks_of_a_film_are_sent_with_and_without_verification():
    detector = FaceDetector(320, WEAK_CONFIDENCE)
    film = [(frame, detector.detect(frame.image)) for frame in film_of("single_face.mp4", 3)]
    sent = []
    for verification in ("true", "false"):
        scene = scene_of(FACE_VERIFICATION=verification)
        candidates = [one for frame, detections in film for one in scene.update(frame, detections)] + scene.end()
        sent.append([(candidate.track, candidate.captured_at) for candidate in candidates])
    assert sent[0] == sent[1] != []


def test_a_detection_in_noise_is_rejected_counted_and_not_sent():
    scene = scene_of()
    assert [candidate for frame in frames(30) for candidate in scene.update(frame, [SOMETHING])] + scene.end() == []
    assert (scene.faces, scene.false_positives) == (0, 30)


@pytest.mark.parametrize("environ", [{"FACE_VERIFICATION": "false"}, {"FACE_INTERVAL": "0"}])
def test_verification_can_be_switched_off(environ: dict[str, str]):
    """FACE_INTERVAL=0 sends every detection."""
    scene = scene_of(**environ)
    assert [candidate for frame in frames(3) for candidate in scene.update(frame, [SOMETHING])] != []
    assert (scene.faces, scene.false_positives) == (3, 0)


def test_a_single_picture_decides_alone():
    """A folder of images has such scenes: a person is sent, anything else is not."""
    people: Any = cv2.imread(str(clip("multi_face.jpg")))
    found = FaceDetector(640, 0.7).detect(people)
    assert len(found) == 5
    scene = scene_of()
    frame = Frame(people, OPENED_AT, 0.0, new_scene=True)
    assert len(scene.update(frame, found) + scene.end()) == 5
    assert scene.update(frames(1)[0], [SOMETHING]) + scene.end() == []


def test_a_verified_track_is_never_looked_at_again():
    verification = verification_with(0.5)
    assert looks(verification, [0.0, 0.1, 60.0]) == [True, True, True]


def test_evidence_accumulates_until_a_track_is_verified():
    """One good view outweighs a bad one, but not several."""
    assert looks(verification_with(-1.5, 1.0, 1.0), [0.0, 0.1, 0.2]) == [False, False, True]
    assert looks(verification_with(-1.5, -1.5, 2.0), [0.0, 0.1, 0.2]) == [False, False, False]


def test_bad_views_for_minutes_are_outweighed_by_a_few_good_ones():
    """Somebody who turns to the camera late is sent then."""
    clocks = [float(second) for second in range(103)]
    assert looks(verification_with(*[-3.0] * 100, 2.0, 2.0), clocks)[-3:] == [False, True, True]


def test_a_track_in_doubt_is_looked_at_in_its_first_frames_and_then_twice_a_second():
    """So an animal costs little, however long it stays."""
    verifier = ScriptedVerifier(*[-1.0] * 100)
    looks(Verification(lambda: verifier), [number / 25 for number in range(250)])
    assert 100 - len(verifier.left) == 4 + 18  # one frame more than half a second apart


def test_ended_tracks_are_forgotten():
    verification = verification_with(1.0, -1.0)
    assert looks(verification, [0.0]) == [True]
    verification.forget()
    assert looks(verification, [1.0]) == [False]


def test_a_patch_is_black_beyond_the_edges_of_the_picture():
    picture = np.full((40, 60, 3), 200, np.uint8)
    assert (cut_patch(picture, (10, 5, 30, 24), 48, 0.0) == 200).all()
    corner = cut_patch(picture, (-20, -20, 40, 40), 48, 0.0)
    assert (corner[:23].max(), corner[:, :23].max(), corner[25:, 25:].min()) == (0, 0, 200)
    assert cut_patch(picture, (500, 500, 40, 40), 48, 0.0).max() == 0
    assert cut_patch(picture, (0, 0, 0, 0), 48, 0.0).shape == (48, 48, 3)


def test_a_damaged_model_is_reported(tmp_path: Path):
    (tmp_path / VERIFICATION.name).write_bytes((FOLDER / VERIFICATION.name).read_bytes()[:-1])
    with pytest.raises(ConfigurationError, match="damaged"):
        FaceVerifier(tmp_path)


def test_a_face_with_a_low_score_is_sent_once_it_is_detected_in_a_second_frame():
    """With a higher score it is sent at once. Detected in a single frame only, it is never sent."""
    scene = scene_of(FACE_VERIFICATION="false")
    first, second, *rest = frames(80)
    assert scene.update(first, [SOMETHING]) == []
    assert [candidate.captured_at for candidate in scene.update(second, [SOMETHING])] == [second.captured_at]
    confident = scene_of(FACE_VERIFICATION="false")
    assert len(confident.update(first, [replace(SOMETHING, confidence=0.81)])) == 1
    passing = scene_of(FACE_VERIFICATION="false")
    candidates = [
        *passing.update(first, [SOMETHING]),
        *(candidate for frame in (second, *rest) for candidate in passing.update(frame, [])),
    ]
    assert candidates + passing.end() == []
    assert passing.false_positives == 1


def test_a_scene_of_a_single_frame_needs_no_second_one():
    """A folder of images has such scenes."""
    scene = scene_of(FACE_VERIFICATION="false")
    frame = frames(1)[0]
    assert scene.update(frame, [SOMETHING]) == []
    assert len(scene.update(frame, [SOMETHING])) == 1
    assert len(scene.end()) == 1


def test_noise_has_no_face():
    """No detection in blurred noise, which resembles grass or bricks, has the default score."""
    random: Any = np.random.default_rng(1)
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    for blur in (0.5, 2, 6, 15):
        noise = cv2.GaussianBlur(random.integers(0, 256, (480, 640, 3)).astype(np.float32), (0, 0), blur)
        picture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
        assert [detection for detection in detector.detect(picture) if detection.confidence >= 0.7] == []
