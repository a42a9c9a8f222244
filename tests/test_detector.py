"""The model's interface, the crops, and the detector from frames to faces."""

import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.film import clip
from edge.detector.camera.frame import Camera, Frame
from edge.detector.camera.recorded import VideoFile
from edge.detector.detector import Detector
from edge.detector.model.weights import CONVERTED, FOLDER, NCNN_WEIGHTS, Model
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.crop import clamp, crop, encode_jpeg
from edge.detector.selection.scene import WEAK_CONFIDENCE
from edge.detector.settings import DetectorSettings
from tests.builders import picture_of
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.face import Face
from wire.process import clock
from wire.process.lifecycle import Stop


@pytest.fixture(scope="module")
def people() -> Any:
    """A picture of five people, 1000 x 667 pixels."""
    return cv2.imread(str(clip("multi_face.jpg")))


def test_every_face_is_detected_with_its_landmarks_in_its_box(people: Any):
    """The eyes are above the mouth, and the right eye is on the left side of the picture."""
    detections = FaceDetector(640, 0.7).detect(people)
    assert len(detections) == 5
    for face in detections:
        x, y, width, height = face.box
        right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
        assert all(x <= px <= x + width and y <= py <= y + height for px, py in face.landmarks)
        assert right_eye[0] < left_eye[0]
        assert right_mouth[0] < left_mouth[0]
        assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
        assert 0.7 <= face.confidence <= 1


@pytest.mark.parametrize("size", [320, 640, 2000])
def test_boxes_are_in_pixels_of_the_frame_for_any_input_size(people: Any, size: int):
    """Frames are scaled down for the model, never up."""
    reference = {_centre(face.box) for face in FaceDetector(1000, 0.6).detect(people)}
    found = {_centre(face.box) for face in FaceDetector(size, 0.6).detect(people)}
    assert len(found) == 5
    for x, y in found:
        assert min((x - rx) ** 2 + (y - ry) ** 2 for rx, ry in reference) < 15**2


def _centre(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3), (361, 639), (720, 1280)])
def test_a_frame_of_any_size_can_be_searched(shape: tuple[int, int]):
    """No face is found in a grey frame."""
    assert FaceDetector(640, 0.7).detect(np.full((*shape, 3), 128, np.uint8)) == []


@pytest.mark.parametrize("fault", ["missing", "truncated", "one byte"])
@pytest.mark.parametrize(
    ("provider", "model"), [("cpu", CONVERTED), *([("ncnn", NCNN_WEIGHTS)] if sys.platform == "linux" else [])]
)
def test_a_missing_or_damaged_model_is_an_error(tmp_path: Path, fault: str, provider: str, model: Model):
    """The message is one line."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    content = bytearray(model.read())
    path = tmp_path / model.name
    path.unlink()
    if fault == "truncated":
        path.write_bytes(content[:1000])
    elif fault == "one byte":
        content[100_000] ^= 1
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="model") as caught:
        FaceDetector(640, 0.7, [provider], folder=tmp_path)
    assert caught.value.exit_code == ExitCode.BAD_DATA
    assert "\n" not in str(caught.value)


boxes = st.tuples(*[st.floats(-5000, 5000)] * 2, *[st.floats(0.1, 5000)] * 2)


@given(boxes, st.integers(1, 3000), st.integers(1, 3000))
def test_a_clamped_box_lies_in_the_frame(box, width: int, height: int):
    """It has at least one pixel, wherever the box is."""
    x, y, wide, high = clamp(box, width, height)
    assert 0 <= x < x + wide <= width
    assert 0 <= y < y + high <= height


def test_the_margin_is_added_on_each_side_and_clamped():
    """A margin of 0.25 is 25 and 20 pixels for a box of 100 x 80."""
    image = np.arange(200 * 300 * 3, dtype=np.uint8).reshape(200, 300, 3)
    assert crop(image, (100, 60, 100, 80), 0.25).shape == (120, 150, 3)
    assert np.array_equal(crop(image, (100, 60, 100, 80), 0.25), image[40:160, 75:225])
    assert crop(image, (-20, -20, 100, 80), 0.25).shape == (80, 105, 3)


@pytest.mark.parametrize("max_bytes", [4096, 20_000, 120_000])
def test_quality_and_resolution_are_reduced_until_the_jpeg_fits(max_bytes: int):
    """The proportions stay the same."""
    noise = np.random.default_rng(1).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    jpeg = encode_jpeg(noise, 90, max_bytes)
    assert len(jpeg) <= max_bytes
    decoded = picture_of(jpeg)
    assert decoded.shape[0] / decoded.shape[1] == pytest.approx(9 / 7, rel=0.05)


def test_a_jpeg_that_fits_keeps_the_quality_asked_for():
    """It is the JPEG that OpenCV encodes with that quality."""
    image = np.full((100, 100, 3), 77, np.uint8)
    assert encode_jpeg(image, 90, 120_000) == cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes()


class RecordingDelivery:
    """A delivery that only records the faces."""

    pending = 0

    def __init__(self) -> None:
        self.faces: list[Face] = []
        self.session: Any = SimpleNamespace(connected=False)

    def store(self, faces: list[Face]) -> None:
        self.faces += faces

    def start(self) -> None: ...

    def finish(self, stop: Stop, seconds: float = 0) -> None: ...

    def close(self) -> None: ...

    def stats(self) -> dict[str, Any]:
        return {}


class FrameList(VideoFile):
    """A recorded camera with given frames."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(Path(), loop=False)
        self._frames = frames

    def frames(self, stop: Stop) -> Iterator[Frame]:
        yield from self._frames


class SilentCamera(Camera):
    """A live camera that gives no frame."""

    is_live = True

    def frames(self, stop: Stop) -> Iterator[Frame]:
        stop.wait()
        yield from ()


def faces_sent(frames: list[Frame], **environ: str) -> list[Face]:
    """Run the detector on ``frames``, and return the faces that it stores for delivery."""
    settings = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1", "CAMERA_NAME": "door"} | environ)
    delivery: Any = RecordingDelivery()
    model = FaceDetector(settings.detect_size, min(settings.face_confidence, WEAK_CONFIDENCE))
    stop = Stop()
    Detector(settings, lambda: FrameList(frames), lambda: model, delivery, stop).run()
    assert stop.failure is None
    faces: list[Face] = delivery.faces
    return faces


def test_a_face_has_all_its_attributes(people: Any):
    """They come from the frame, the detection and the settings. The JPEG is the crop."""
    age, now = timedelta(hours=1), clock.now()
    frames = [Frame(people, clock.seconds_since_boot() - age.total_seconds(), 0.0)]
    faces = faces_sent(frames, DEVICE_LATITUDE="41.8781", DEVICE_LONGITUDE="-87.6298")
    assert len(faces) == 5
    assert {face.track for face in faces} == {1, 2, 3, 4, 5}
    for face in faces:
        picture = picture_of(face.jpeg)
        assert picture.shape[0] >= face.box[3]
        assert picture.shape[1] >= face.box[2]
        assert face.framesize == (1000, 667)
        assert abs(face.captured_at - (now - age)) < timedelta(milliseconds=100)
        assert face.captured_at.microsecond % 1000 == 0
        assert face.clock is None
        assert (face.latitude, face.longitude) == (41.8781, -87.6298)
        assert len(face.jpeg) <= 120_000
    assert len({face.captured_at for face in faces}) == 1


def test_small_faces_are_not_sent(people: Any):
    """FACE_MIN_SIZE is the shorter side of the box, in pixels of the frame."""
    sizes = sorted(min(detection.box[2:]) for detection in FaceDetector(640, 0.7).detect(people))
    faces = faces_sent([Frame(people, 1000.0, 0.0)], FACE_MIN_SIZE=str(round(sizes[2])))
    assert len(faces) == sum(size >= round(sizes[2]) for size in sizes)
    assert 2 <= len(faces) <= 3


def test_the_same_people_are_sent_again_in_a_new_scene(people: Any):
    """In the next frame of the same scene they are not."""
    frames = [Frame(people, 1000.0, clock, new_scene=new) for clock, new in ((0.0, True), (0.1, False))]
    assert len(faces_sent(frames)) == 5
    assert len(faces_sent([*frames, Frame(people, 1000.0, 0.2, new_scene=True)])) == 10
