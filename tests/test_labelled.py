"""What the accuracy table counts."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import labelled
from benchmarks.labelled import Labelled

NOTHING = np.empty((0, 4))
FACE = np.array([[10.0, 10.0, 40.0, 40.0]])


def one(boxes: np.ndarray = FACE, ignore: np.ndarray = NOTHING) -> Labelled:
    return Labelled(Path("x.jpg"), boxes, ignore)


def rows(*found: tuple[float, ...]) -> np.ndarray:
    return np.array(found, float).reshape(-1, 5)


def test_what_is_found_and_nothing_else_is_perfect():
    score = labelled.score([one()], [rows((11, 11, 40, 40, 0.9))], 0.5)
    assert (score.average_precision, score.recall) == (1.0, 1.0)


def test_a_face_counts_once():
    """The second box on it is a false alarm."""
    twice = rows((10, 10, 40, 40, 0.9), (12, 12, 40, 40, 0.8))
    assert labelled.score([one()], [twice], 0.5).average_precision == 1.0
    other = np.array([[200.0, 200, 40, 40]])
    both = one(np.concatenate([FACE, other]))
    found = np.concatenate([twice, rows((200, 200, 40, 40, 0.7))])
    assert labelled.score([both], [found], 0.5).average_precision == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_false_alarms_come_off_recall_where_they_are_more_confident():
    """At one in ten pictures: here the second one is one too many."""
    pictures = [one()] * 10
    found = [rows((300, 300, 40, 40, 0.95)), rows((300, 300, 40, 40, 0.9))] + [rows((10, 10, 40, 40, 0.5))] * 8
    assert labelled.score(pictures, found, 0.5).recall == 0.0
    assert labelled.score(pictures, [rows(), *found[1:]], 0.5).recall == 0.8


def test_what_is_to_be_ignored_neither_helps_nor_hurts():
    """Also where a box lies within a large one of those."""
    crowd = np.array([[100.0, 100, 200, 200]])
    found = rows((110, 110, 30, 30, 0.99), (10, 10, 40, 40, 0.5))
    assert labelled.score([one(FACE, crowd)], [found], 0.5).average_precision == 1.0


def test_a_box_that_is_too_far_off_is_a_false_alarm():
    shifted = rows((30, 10, 40, 40, 0.9))  # IoU 1/3
    assert labelled.score([one()], [shifted], 0.35).average_precision == 0.0
    assert labelled.score([one()], [shifted], 0.3).average_precision == 1.0


def test_small_faces_are_to_be_ignored(tmp_path: Path):
    (tmp_path / "x.jpg").write_bytes(b"")
    (tmp_path / "set.json").write_text(json.dumps([{"image": "x.jpg", "boxes": [[0, 0, 23, 30], [0, 0, 24, 30]]}]))
    (read,) = labelled.read(tmp_path / "set.json")
    assert read.boxes.tolist() == [[0, 0, 24, 30]]
    assert read.ignore.tolist() == [[0, 0, 23, 30]]


@pytest.mark.parametrize("text", ["{}x", '[{"boxes": []}]', '[{"image": "away.jpg", "boxes": []}]', "[3]"])
def test_what_is_no_labelled_set_is_told_in_one_line(tmp_path: Path, text: str):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ValueError, match="expected a list of image, boxes and ignore"):
        labelled.read(tmp_path / "set.json")
