"""Labelled pictures, and how well a detector's boxes fit the labels.

A set is a JSON list of ``{"image": path beside it, "boxes": [[x, y, width, height], ...], "ignore": [[...], ...]}``, in
pixels of the image. What is to be ignored neither helps nor hurts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

MIN_PIXELS = 24
"""Faces whose box has a shorter side than this are to be ignored."""
FALSE_ALARMS = 0.1
"""In each image, at which recall is told."""
_COVERED = 0.5
"""Of a box's area: then it is one of those to be ignored, however small it is beside that."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture and the faces in it."""

    image: Path
    boxes: Numbers
    """Faces to be found, n x 4: x, y, width, height in pixels."""
    ignore: Numbers
    """Faces that need not be found, m x 4."""


def read(path: Path) -> list[Labelled]:
    """Read a labelled set.

    Raises:
        ValueError: it is not of the form above; the message says where.
    """
    try:
        return [_labelled(path.parent, entry) for entry in json.loads(path.read_text())]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a list of image, boxes and ignore ({error!r})") from None


@dataclass(frozen=True, slots=True)
class Score:
    """How well a detector does on a set."""

    average_precision: float
    """The area below precision over recall, 0 to 1."""
    recall: float
    """Of the faces, at :data:`FALSE_ALARMS`, 0 to 1."""


def score(labelled: Sequence[Labelled], found: Sequence[Numbers], least_overlap: float) -> Score:
    """Compare what was found with the labels.

    Detections are taken from the most confident on, over all images; each takes the free face that it overlaps most, as
    the PASCAL VOC challenge has it.

    Args:
        labelled: the pictures.
        found: for each picture n x 5: x, y, width, height, confidence.
        least_overlap: intersection over union at which a face counts as found.
    """
    hits: list[tuple[float, bool]] = []
    for one, rows in zip(labelled, found, strict=True):
        hits += _hits(one, rows, least_overlap)
    faces = sum(len(one.boxes) for one in labelled)
    right = np.array([hit for _, hit in sorted(hits, key=lambda pair: -pair[0])], bool)
    good, bad = np.cumsum(right), np.cumsum(~right)
    recall, precision = good / max(faces, 1), good / np.maximum(good + bad, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    allowed = bad <= FALSE_ALARMS * len(labelled)
    return Score(float((envelope * steps).sum()), float(recall[allowed].max(initial=0.0)))


def overlaps(box: Numbers, others: Numbers) -> tuple[Numbers, Numbers]:
    """Return intersection over union with each of the others, and how much of ``box`` each covers; 0 to 1."""
    if not len(others):
        return np.zeros(0), np.zeros(0)
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:4], others[:, :2] + others[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    own, areas = float(np.prod(box[2:4])), np.prod(others[:, 2:4], axis=1)
    return shared / np.maximum(own + areas - shared, 1e-9), shared / max(own, 1e-9)


def _hits(one: Labelled, rows: Numbers, least_overlap: float) -> list[tuple[float, bool]]:
    """Return confidence and rightness of each detection that counts."""
    free = np.ones(len(one.boxes), bool)
    hits = []
    for row in sorted(rows, key=lambda row: -row[4]):
        union, _ = overlaps(row[:4], one.boxes)
        candidates = np.where(free, union, 0.0)
        if candidates.max(initial=0.0) >= least_overlap:
            free[int(candidates.argmax())] = False
            hits.append((float(row[4]), True))
            continue
        union, covered = overlaps(row[:4], one.ignore)
        if max(union.max(initial=0.0), 0.0) < least_overlap and covered.max(initial=0.0) < _COVERED:
            hits.append((float(row[4]), False))
    return hits


def _labelled(folder: Path, entry: dict[str, Any]) -> Labelled:
    boxes = np.array(entry["boxes"], float).reshape(-1, 4)
    ignore = np.array(entry.get("ignore", []), float).reshape(-1, 4)
    large = boxes[:, 2:].min(axis=1, initial=np.inf) >= MIN_PIXELS
    image = folder / entry["image"]
    if not image.is_file():
        raise ValueError(f"{image} is not there")
    return Labelled(image, boxes[large], np.concatenate([ignore, boxes[~large]]))
