"""The model: it finds the same faces as OpenCV's detector with the same file."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.film import clip, pan_film
from demo.program import ROOT
from edge.detector.camera.frame import Image
from edge.detector.model.inference import load_network
from edge.detector.model.onnx_network import make_session
from edge.detector.model.weights import CONVERTED, FOLDER, NCNN_LAYERS, NCNN_WEIGHTS, PUBLISHED
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.tracker import overlap
from scripts.convert_yunet import convert
from scripts.ncnn_model import to_ncnn

FILMS = ("single_face.mp4", "face_noface.mov", "noface_face.mov", "no_face.mp4", "WolfgangLanger_Pexels.mp4", "pan")
PICTURES = ("multi_face.jpg", "single_face.jpg")
PROVIDERS = ("cpu", "ncnn") if sys.platform == "linux" else ("cpu",)
"""Those that the locked packages have."""


class Reference:
    """OpenCV's detector, with frames scaled as in ours."""

    def __init__(self, size: int, confidence: float) -> None:
        self.size = size
        self.network = cv2.FaceDetectorYN.create(str(FOLDER / PUBLISHED.name), "", (size, size), confidence, 0.3, 5000)

    def detect(self, image: Image) -> list[Detection]:
        height, width = image.shape[:2]
        scale = min(1.0, self.size / max(height, width))
        input_size: tuple[int, int] = (max(1, round(width * scale)), max(1, round(height * scale)))
        self.network.setInputSize(input_size)
        rows: Any = self.network.detect(cv2.resize(image, input_size) if scale < 1 else image)[1]
        back = np.tile((width / input_size[0], height / input_size[1]), 7)
        return [
            Detection(tuple(row[:4]), tuple(map(tuple, row[4:14].reshape(5, 2))), float(row[14]))
            for row in ([] if rows is None else rows * np.append(back, 1))
        ]


def pictures(frame_step: int) -> Iterator[Image]:
    """Yield every picture, and one of ``frame_step`` frames of every film."""
    for name in PICTURES:
        yield cv2.imread(str(clip(name)))  # type: ignore[misc]
    for name in FILMS:
        capture = cv2.VideoCapture(str(pan_film() if name == "pan" else clip(name)))
        number = 0
        while capture.grab():
            if number % frame_step == 0:
                yield capture.retrieve()[1]  # type: ignore[misc]
            number += 1


def matches(ours: list[Detection], theirs: list[Detection]) -> int:
    """Count the faces that both found: boxes overlap by 0.9, scores differ by 0.02, landmarks by a pixel, at most."""
    unmatched, count = list(theirs), 0
    for face in ours:
        best = max(unmatched, key=lambda other: overlap(face.box, other.box), default=None)
        if best is not None and overlap(face.box, best.box) >= 0.9 and abs(face.confidence - best.confidence) <= 0.02:
            assert np.allclose(face.landmarks, best.landmarks, atol=1)
            unmatched.remove(best)
            count += 1
    return count


@pytest.mark.parametrize(
    ("size", "confidence"), [(320, 0.7), (640, 0.3), pytest.param(1280, 0.9, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("frame_step", [24, pytest.param(6, marks=pytest.mark.slow)])
def test_faces_are_the_same_as_those_of_opencv(size: int, confidence: float, frame_step: int):
    """At least 99 % in all films and pictures; in fact all of them."""
    theirs = Reference(size, confidence)
    ours = {name: FaceDetector(size, confidence, [name]) for name in PROVIDERS}
    found, common, expected = Counter[str](), Counter[str](), 0
    for image in pictures(frame_step):
        theirs_here = theirs.detect(image)
        expected += len(theirs_here)
        for name, detector in ours.items():
            ours_here = detector.detect(image)
            found[name] += len(ours_here)
            common[name] += matches(ours_here, theirs_here)
    assert expected > 600 / frame_step
    for name in ours:
        assert common[name] >= 0.99 * max(found[name], expected), name


SIZES = st.integers(1, 64) | st.integers(1, 700) | st.integers(1, 3840)
DETECTORS, REFERENCE = {name: FaceDetector(640, 0.6, [name]) for name in PROVIDERS}, Reference(640, 0.6)


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, st.booleans())
def test_frames_of_any_size_have_the_same_faces_as_in_opencv(width: int, height: int, tiled: bool):
    """From one pixel to 4K, in any proportion, with the picture stretched or tiled."""
    people = cv2.imread(str(clip("multi_face.jpg")))
    assert people is not None
    if tiled:
        repeats = (-(-height // people.shape[0]), -(-width // people.shape[1]), 1)
        image: Any = np.tile(people, repeats)[:height, :width]
    else:
        image = cv2.resize(people, (width, height))
    theirs = REFERENCE.detect(image)
    for detector in DETECTORS.values():
        ours = detector.detect(image)
        assert matches(ours, theirs) >= 0.99 * max(len(ours), len(theirs)) - 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_converted_model_gives_the_same_numbers_as_the_published_file(provider: str):
    """At the published file's input size, up to the order in which numbers are added."""
    picture = np.random.default_rng(1).integers(0, 256, (640, 640, 3), np.uint8)
    planes = picture.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    published = make_session(PUBLISHED.read(), ["CPUExecutionProvider"]).run(None, {"input": planes})
    classes, objectness, boxes, landmarks = (np.concatenate(published[at : at + 3], axis=1)[0] for at in (0, 3, 6, 9))
    cells = load_network([provider]).run(picture).T
    cells[:, 14:] = 1 / (1 + np.exp(-cells[:, 14:]))
    assert np.allclose(cells, np.concatenate((boxes, landmarks, classes, objectness), axis=1), atol=5e-5)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("shape", [(33, 65), (360, 640), (641, 641), (1, 1)])
def test_beyond_its_edges_a_picture_is_black(provider: str, shape: tuple[int, int]):
    """A picture of any size has the same output as one with a black margin up to multiples of 32."""
    picture = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    framed = np.zeros((-(-shape[0] // 32) * 32, -(-shape[1] // 32) * 32, 3), np.uint8)
    framed[: shape[0], : shape[1]] = picture
    network = load_network([provider])
    expected = network.run(framed)
    for _ in range(2):  # the second run uses the buffer again
        assert np.array_equal(network.run(picture), expected)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_buffers_keep_nothing_of_the_frame_before(provider: str):
    """A grey frame of a smaller size that follows a frame with faces has no face."""
    detector = FaceDetector(640, 0.7, [provider])
    people = cv2.imread(str(clip("multi_face.jpg")))
    assert len(detector.detect(people)) == 5  # type: ignore[arg-type]
    assert detector.detect(np.full((420, 630, 3), 128, np.uint8)) == []
    assert detector.detect(np.full((427, 640, 3), 128, np.uint8)) == []


def test_the_converted_models_are_made_from_the_published_file():
    """The script makes the same models as those that are committed."""
    made = convert(PUBLISHED.read())
    assert set(made) == {CONVERTED, NCNN_LAYERS, NCNN_WEIGHTS}
    assert onnx.load_from_string(made[CONVERTED]) == onnx.load_from_string(CONVERTED.read())
    assert made[NCNN_LAYERS] == NCNN_LAYERS.read()
    assert made[NCNN_WEIGHTS] == NCNN_WEIGHTS.read()


def test_an_operation_that_ncnn_would_get_wrong_is_refused():
    """The conversion for ncnn knows only what YuNet consists of."""
    model = onnx.load_from_string(CONVERTED.read())
    with pytest.raises(ValueError, match="no conversion for Cast"):
        to_ncnn(model)
    del model.graph.node[0]
    with pytest.raises(ValueError, match="different values"):
        to_ncnn(model)  # the first convolution has a step of 2 x 6


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("shape", [(360, 640), (200, 333)])
def test_several_threads_can_run_the_network_at_once(provider: str, shape: tuple[int, int]):
    """Each gets the numbers of its own picture."""
    network = load_network([provider])
    randomly = np.random.default_rng(3)
    pictures = [randomly.integers(0, 256, (*shape, 3), np.uint8) for _ in range(4)]
    expected = [network.run(picture) for picture in pictures]
    with ThreadPoolExecutor(len(pictures)) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(network.run, pictures), expected, strict=True):
                assert np.array_equal(found, wanted)


@pytest.mark.skipif("ncnn" not in PROVIDERS, reason="ncnn is locked for Linux")
def test_the_first_available_provider_runs_the_network():
    """It is known by name in the log."""
    assert load_network(["tensorrt", "cuda", "ncnn", "cpu"]).provider == "ncnn"
    assert load_network(["cpu", "ncnn"]).provider == "CPUExecutionProvider"
    assert load_network(["tensorrt", "cuda"]).provider == "CPUExecutionProvider"


def test_without_ncnn_the_next_provider_runs_the_network(monkeypatch: pytest.MonkeyPatch):
    """The setting for arm64 works where ncnn is not installed."""
    monkeypatch.setitem(sys.modules, "ncnn", None)  # its import fails
    monkeypatch.delitem(sys.modules, "edge.detector.model.ncnn_network", raising=False)
    assert load_network(["ncnn"]).provider == "CPUExecutionProvider"


def test_an_unavailable_provider_is_skipped():
    """The setting for a Jetson works on a laptop too, as the CPU is always available."""
    detector = FaceDetector(640, 0.7, providers=("tensorrt", "cuda", "cpu"))
    assert detector.detect(np.zeros((48, 64, 3), np.uint8)) == []


def test_onnx_runtime_records_no_usage_data(tmp_path: Path):
    """With its telemetry, it creates a database in the home folder when a model is loaded."""
    program = "from edge.detector.model.yunet import FaceDetector; FaceDetector(64, 0.5)"
    environ = {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, check=True)
    assert list(tmp_path.rglob("*")) == []
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environ | {"ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        check=True,
    )
    assert list(tmp_path.rglob("*.db")), "this test cannot fail any more: another way must show it"
