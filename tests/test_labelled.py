"""Scoring of detections on a labelled set."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import labelled
from benchmarks.labelled import Labelled

NOTHING = np.empty((0, 4))
FACE = np.array([[10.0, 10.0, 40.0, 40.0]])


def make_picture(boxes: np.ndarray = FACE, ignore: np.ndarray = NOTHING) -> Labelled:
    return Labelled(Path("x.jpg"), boxes, ignore)


def detections(*detected: tuple[float, ...]) -> np.ndarray:
    return np.array(detected, float).reshape(-1, 5)


def test_exact_detections_have_a_perfect_score():
    score = labelled.score([make_picture()], [detections((11, 11, 40, 40, 0.9))], 0.5)
    assert (score.average_precision, score.recall) == (1.0, 1.0)


def test_second_box_on_a_face_is_a_false_positive():
    duplicate = detections((10, 10, 40, 40, 0.9), (12, 12, 40, 40, 0.8))
    assert labelled.score([make_picture()], [duplicate], 0.5).average_precision == 1.0
    other = np.array([[200.0, 200, 40, 40]])
    two_faces = make_picture(np.concatenate([FACE, other]))
    detected = np.concatenate([duplicate, detections((200, 200, 40, 40, 0.7))])
    assert labelled.score([two_faces], [detected], 0.5).average_precision == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_recall_excludes_faces_less_confident_than_the_allowed_false_positives():
    """One false positive per ten pictures is allowed. Here the second one exceeds the limit."""
    pictures = [make_picture()] * 10
    detected = [detections((300, 300, 40, 40, 0.95)), detections((300, 300, 40, 40, 0.9))] + [
        detections((10, 10, 40, 40, 0.5))
    ] * 8
    assert labelled.score(pictures, detected, 0.5).recall == 0.0
    assert labelled.score(pictures, [detections(), *detected[1:]], 0.5).recall == 0.8


def test_detections_in_ignored_regions_do_not_change_the_score():
    """Even if the box is much smaller than the region that contains it."""
    crowd = np.array([[100.0, 100, 200, 200]])
    detected = detections((110, 110, 30, 30, 0.99), (10, 10, 40, 40, 0.5))
    assert labelled.score([make_picture(FACE, crowd)], [detected], 0.5).average_precision == 1.0


def test_box_with_low_iou_is_a_false_positive():
    shifted = detections((30, 10, 40, 40, 0.9))  # IoU 1/3
    assert labelled.score([make_picture()], [shifted], 0.35).average_precision == 0.0
    assert labelled.score([make_picture()], [shifted], 0.3).average_precision == 1.0


def test_small_faces_are_ignored(tmp_path: Path):
    (tmp_path / "x.jpg").write_bytes(b"")
    (tmp_path / "set.json").write_text(json.dumps([{"image": "x.jpg", "boxes": [[0, 0, 23, 30], [0, 0, 24, 30]]}]))
    (read,) = labelled.read(tmp_path / "set.json")
    assert read.boxes.tolist() == [[0, 0, 24, 30]]
    assert read.ignore.tolist() == [[0, 0, 23, 30]]


@pytest.mark.parametrize("text", ["{}x", '[{"boxes": []}]', '[{"image": "away.jpg", "boxes": []}]', "[3]"])
def test_invalid_labelled_set_is_rejected(tmp_path: Path, text: str):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ValueError, match="expected a list of image, boxes and ignore"):
        labelled.read(tmp_path / "set.json")
