"""Quality orders pictures of a face as a person would."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from demo.film import clip
from edge.detector.camera.frame import Frame, Image
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection import quality
from edge.detector.selection.quality import face_quality
from edge.detector.selection.scene import Scene
from edge.detector.settings import DetectorSettings

Seen = tuple[Image, list[Detection]]
Change = Callable[[Image], Image]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """A picture of five people, 640 x 427 pixels, with their faces."""
    image: Any = cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (640, 427))  # type: ignore[arg-type]
    return image, FaceDetector(640, 0.7).detect(image)


def with_noise(image: Image, deviation: float) -> Image:
    """An image with the white noise of a sensor, in levels of grey."""
    random = np.random.default_rng(7)
    return np.clip(image + random.normal(0, deviation, image.shape), 0, 255).astype(np.uint8)


def darkened(image: Image, factor: float) -> Image:
    """An image that received less light."""
    return (image * factor).astype(np.uint8)


def brightened(image: Image, factor: float) -> Image:
    """An image that received too much light. Clipped pixels have sharp edges."""
    return np.clip(image * factor, 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


def blurred(image: Image, sigma: float) -> Image:
    """An image out of focus; ``sigma`` in pixels."""
    return cv2.GaussianBlur(image, (0, 0), sigma)  # type: ignore[return-value]


def mean_quality(seen: Seen, change: Change = lambda image: image) -> float:
    """Mean quality of the faces in a changed image, with the boxes found in the original."""
    image, faces = seen
    changed = change(image)
    return float(np.mean([face_quality(changed, face) for face in faces]))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([lambda image, f=f: darkened(image, f) for f in (1, 0.3, 0.2, 0.1)], id="light"),
        pytest.param([lambda image, s=s: blurred(image, s) for s in (0.1, 1, 2, 4)], id="focus"),
        pytest.param(
            [
                lambda image: image,
                lambda image: with_noise(image, 10),
                lambda image: with_noise(darkened(image, 0.3), 10),
                lambda image: with_noise(darkened(image, 0.1), 10),
            ],
            id="a dark, noisy picture is not sharp",
        ),
        pytest.param(
            [lambda image: image, lambda image: with_noise(blurred(image, 2), 10)],
            id="a blurred, noisy picture is not sharp",
        ),
        pytest.param([lambda image, f=f: brightened(image, f) for f in (1.0, 2.0, 3.0)], id="overexposed"),
    ],
)
def test_each_picture_is_better_than_the_next_one(seen: Seen, changes: list[Change]):
    """The order does not depend on small differences."""
    found = [mean_quality(seen, change) for change in changes]
    assert found == sorted(set(found), reverse=True)
    assert found[-1] < found[0] / 2


@pytest.mark.parametrize("deviation", [5, 10, 20])
def test_noise_does_not_make_a_picture_sharper(seen: Seen, deviation: float):
    """Neither a sharp nor a blurred one; their order stays."""
    noisy = mean_quality(seen, lambda image: with_noise(image, deviation))
    noisy_blurred = mean_quality(seen, lambda image: with_noise(blurred(image, 2), deviation))
    assert noisy <= mean_quality(seen)
    assert noisy_blurred < noisy / 2


def test_noise_is_estimated(seen: Seen):
    """In levels of grey, on an image without structure."""
    plain = np.full((80, 64), 128, np.uint8)
    assert quality.noise(plain) == 0
    assert quality.noise(with_noise(plain, 10)) == pytest.approx(10, rel=0.1)
    assert quality.sharpness(with_noise(plain, 10)) < 200 < np.var(cv2.Laplacian(with_noise(plain, 10), cv2.CV_64F))


@pytest.mark.parametrize(
    ("grey", "least", "most"), [(0, 0, 0.05), (15, 0, 0.05), (30, 0.3, 0.6), (60, 1, 1), (180, 1, 1), (245, 0, 0.3)]
)
def test_exposure_is_that_of_the_face(grey: int, least: float, most: float):
    """Dark skin in good light has full exposure; the background has no effect."""
    face = np.full((80, 64), grey, np.uint8)
    assert least <= quality.exposure(face) <= most
    face[:8], face[:, :8] = 255, 0
    assert least <= quality.exposure(face) <= most


def turned_to(face: Detection, nose: tuple[float, float]) -> Detection:
    """The face with its nose tip elsewhere: across from eye to eye, and up from mouth to eyes, both 0 to 1."""
    right_eye, left_eye, _, right_mouth, left_mouth = (np.array(point) for point in face.landmarks)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    tip = mouth + nose[1] * (eyes - mouth) + (nose[0] - 0.5) * (left_eye - right_eye)
    return replace(face, landmarks=(*face.landmarks[:2], (float(tip[0]), float(tip[1])), *face.landmarks[3:]))


def test_the_more_a_face_is_turned_the_lower_its_quality(seen: Seen):
    """To either side, up and down."""
    image, (face, *_) = seen
    for noses in (
        [(0.5, 0.46), (0.7, 0.46), (0.9, 0.46), (1.1, 0.46)],
        [(0.5, 0.46), (0.3, 0.46), (0.1, 0.46)],
        [(0.5, 0.46), (0.5, 0.33), (0.5, 0.25)],
        [(0.5, 0.46), (0.5, 0.6), (0.5, 0.7)],
    ):
        found = [face_quality(image, turned_to(face, nose)) for nose in noses]
        assert found == sorted(set(found), reverse=True)


def test_a_tilted_face_is_frontal(seen: Seen):
    """Yaw and pitch are measured along the face, not along the frame."""
    _, (face, *_) = seen
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    tilted = replace(face, landmarks=tuple((float(x), float(y)) for x, y in np.array(face.landmarks) @ turn.T))
    assert quality.frontality(tilted) == pytest.approx(quality.frontality(face))
    assert quality.levelness(tilted) == pytest.approx(quality.levelness(face))


def test_truncated_covered_and_uncertain_faces_have_a_lower_quality(seen: Seen):
    """A larger face in front covers a smaller one, not the other way round."""
    image, (face, *_) = seen
    good = face_quality(image, face, [face.box])
    x, y, width, height = face.box
    assert good == face_quality(image, face)
    assert face_quality(image, replace(face, confidence=0.7)) < good
    assert face_quality(image, face, [(x + width / 2, y, width * 1.5, height * 1.5)]) == pytest.approx(good / 2)
    assert face_quality(image, face, [(x + width / 2, y, width / 2, height / 2)]) == good
    cut = round(x + width / 5)
    landmarks = tuple((across - cut, down) for across, down in face.landmarks)
    moved = replace(face, box=(x - cut, y, width, height), landmarks=landmarks)
    assert face_quality(image[:, cut:], moved) < 0.7 * good


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_tiny_face_has_a_quality(size: int):
    """From 0 to 1, whatever its landmarks."""
    face = Detection((5, 5, size, size), ((5.0, 5.0),) * 5, 0.9)
    assert 0 <= face_quality(np.zeros((20, 20, 3), np.uint8), face) <= 1


def test_a_dark_picture_is_not_sent_while_a_better_one_exists(seen: Seen):
    """After the first picture, the only well exposed one of the interval is sent."""
    image, faces = seen
    scene = Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"}))
    sent = []
    for number in range(32):
        dark = with_noise(darkened(image, 0.06), 4)
        sent += scene.update(Frame(image if number == 20 else dark, 100 + number / 30, number / 30), faces[:1])
    assert [round((candidate.captured_at - 100) * 30) for candidate in sent] == [0, 20]
    assert sent[1].quality > 10 * sent[0].quality


def test_quality_is_known_if_every_detection_is_sent(seen: Seen):
    """FACE_INTERVAL=0 does not select, but users can filter."""
    image, faces = seen
    scene = Scene(DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "FACE_INTERVAL": "0"}))
    sent = scene.update(Frame(image, 100.0, 0.0), faces)
    assert [candidate.detection for candidate in sent] == faces
    assert all(0 < candidate.quality < 1 for candidate in sent)
