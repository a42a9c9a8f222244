"""The model: the same faces as OpenCV's own detector, from the same file, sooner."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.film import clip, pan_film
from edge.detector.camera.frame import Image
from edge.detector.model.inference import OUTPUTS, Network, make_session
from edge.detector.model.weights import FOLDER, PUBLISHED, REST, STEM, WHOLE
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.tracker import overlap
from scripts.convert_yunet import convert

FILMS = ("single_face.mp4", "face_noface.mov", "noface_face.mov", "no_face.mp4", "WolfgangLanger_Pexels.mp4", "pan")
PICTURES = ("multi_face.jpg", "single_face.jpg")
EVERY = 6
"""Frames of a film from one that is compared to the next."""


class Oracle:
    """OpenCV's own detector, with frames scaled as ours are."""

    def __init__(self, size: int, confidence: float) -> None:
        self.size = size
        self.network = cv2.FaceDetectorYN.create(str(FOLDER / PUBLISHED.name), "", (size, size), confidence, 0.3, 5000)

    def detect(self, image: Image) -> list[Detection]:
        height, width = image.shape[:2]
        scale = min(1.0, self.size / max(height, width))
        seen: tuple[int, int] = (max(1, round(width * scale)), max(1, round(height * scale)))
        self.network.setInputSize(seen)
        rows: Any = self.network.detect(cv2.resize(image, seen) if scale < 1 else image)[1]
        back = np.tile((width / seen[0], height / seen[1]), 7)
        return [
            Detection(tuple(row[:4]), tuple(map(tuple, row[4:14].reshape(5, 2))), float(row[14]))
            for row in ([] if rows is None else rows * np.append(back, 1))
        ]


def pictures() -> Iterator[Image]:
    """Every picture, and some frames of every film."""
    for name in PICTURES:
        yield cv2.imread(str(clip(name)))  # type: ignore[misc]
    for name in FILMS:
        capture = cv2.VideoCapture(str(pan_film() if name == "pan" else clip(name)))
        number = 0
        while capture.grab():
            if number % EVERY == 0:
                yield capture.retrieve()[1]  # type: ignore[misc]
            number += 1


def matches(ours: list[Detection], theirs: list[Detection]) -> int:
    """How many faces both see: the same box to 0.9, the same score to 0.02, each landmark to a pixel."""
    rest, count = list(theirs), 0
    for one in ours:
        best = max(rest, key=lambda other: overlap(one.box, other.box), default=None)
        if best is not None and overlap(one.box, best.box) >= 0.9 and abs(one.confidence - best.confidence) <= 0.02:
            assert np.allclose(one.landmarks, best.landmarks, atol=1)
            rest.remove(best)
            count += 1
    return count


@pytest.mark.parametrize(("size", "confidence"), [(320, 0.7), (640, 0.7), (640, 0.3), (1280, 0.9)])
def test_faces_are_those_of_opencv(size: int, confidence: float):
    """99 of 100 at least, on all clips and pictures; in fact all of them."""
    ours, theirs = FaceDetector(size, confidence), Oracle(size, confidence)
    seen = expected = both = 0
    for image in pictures():
        found, wanted = ours.detect(image), theirs.detect(image)
        seen, expected, both = seen + len(found), expected + len(wanted), both + matches(found, wanted)
    assert expected > 100
    assert both >= 0.99 * max(seen, expected)


SIZES = st.integers(1, 64) | st.integers(1, 700) | st.integers(1, 3840)
DETECTOR, ORACLE = FaceDetector(640, 0.6), Oracle(640, 0.6)


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, st.booleans())
def test_frames_of_any_size_show_the_same_faces(width: int, height: int, tiled: bool):
    """From one pixel to 4K, however narrow; stretched, or the same people over and over."""
    people = cv2.imread(str(clip("multi_face.jpg")))
    assert people is not None
    if tiled:
        ways = (-(-height // people.shape[0]), -(-width // people.shape[1]), 1)
        image: Any = np.tile(people, ways)[:height, :width]
    else:
        image = cv2.resize(people, (width, height))
    ours, theirs = DETECTOR.detect(image), ORACLE.detect(image)
    assert matches(ours, theirs) >= 0.99 * max(len(ours), len(theirs)) - 1


def test_the_network_is_that_of_the_published_file():
    """At the size that the file has, every number of the rebuilt network is one of the published one's."""
    picture = np.random.default_rng(1).integers(0, 256, (640, 640, 3), np.uint8)
    blob = picture.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    published = make_session(PUBLISHED.read(), ["CPUExecutionProvider"]).run(None, {"input": blob})
    whole = make_session(WHOLE.read(), ["CPUExecutionProvider"]).run(OUTPUTS, {"input": blob})
    for grid, (cells,) in enumerate(whole):
        flat = cells.reshape(16, -1).T
        flat[:, :2] = 1 / (1 + np.exp(-flat[:, :2]))
        assert np.allclose(
            flat, np.concatenate([published[kind * 3 + grid][0] for kind in range(4)], axis=1), atol=1e-5
        )


@pytest.mark.parametrize("shape", [(33, 65), (360, 640), (641, 641), (720, 1280), (1080, 1920)])
def test_a_picture_in_strips_is_seen_as_a_whole_one_is(shape: tuple[int, int]):
    """Whatever lies on a seam: the same numbers."""
    picture = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    padded = np.zeros((1, 3, -(-shape[0] // 32) * 32, -(-shape[1] // 32) * 32), np.float32)
    padded[0, :, : shape[0], : shape[1]] = picture.transpose(2, 0, 1)
    whole = make_session(WHOLE.read(), ["CPUExecutionProvider"]).run(OUTPUTS, {"input": padded})
    network = Network(["cpu"])
    for _ in range(2):  # the second time in memory that has been used
        assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(network.run(picture), whole, strict=True))


def test_no_other_memory_than_the_frame_s_own_is_seen():
    """A frame that is smaller than the one before shows nothing of it; a grey one has no face."""
    detector = FaceDetector(640, 0.7)
    people = cv2.imread(str(clip("multi_face.jpg")))
    assert len(detector.detect(people)) == 5  # type: ignore[arg-type]
    assert detector.detect(np.full((420, 630, 3), 128, np.uint8)) == []
    assert detector.detect(np.full((427, 640, 3), 128, np.uint8)) == []


def test_the_converted_models_are_made_from_the_published_file():
    """The script makes each of them anew, and the result is what is committed."""
    made = convert(PUBLISHED.read())
    assert set(made) == {WHOLE, STEM, REST}
    for model, converted in made.items():
        assert converted == onnx.load_from_string(model.read()), model.name


def test_a_provider_that_is_not_here_is_passed_over():
    """A setting for a Jetson does on a laptop too: the CPU is always there."""
    detector = FaceDetector(640, 0.7, providers=("tensorrt", "cuda", "cpu"))
    assert detector.detect(np.zeros((48, 64, 3), np.uint8)) == []
