"""Labelled pictures, and scores of a detector's boxes against the labels.

A set is a JSON list of ``{"image": path beside it, "boxes": [[x, y, width, height], ...], "ignore": [[...], ...]}``, in
pixels of the image. A box to be ignored counts neither for nor against a detector.
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
"""Faces whose box has a shorter side than this are ignored."""
MAX_FALSE_POSITIVES = 0.1
"""False positives per picture at which recall is reported."""
_COVERED = 0.5
"""Part of a box's area that an ignored face covers, from which the box is ignored too."""


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
        ValueError: the file has another format; the message says where.
    """
    try:
        return [_labelled(path.parent, entry) for entry in json.loads(path.read_text())]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a list of image, boxes and ignore ({error!r})") from None


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of a detector on one set."""

    average_precision: float
    """Area under the curve of precision over recall, 0 to 1."""
    recall: float
    """Part of the faces that is found, at :data:`MAX_FALSE_POSITIVES`, 0 to 1."""


def score(labelled: Sequence[Labelled], found: Sequence[Numbers], least_overlap: float) -> Score:
    """Score detections against the labels.

    Detections are processed by descending confidence over all images. Each one is matched to the unmatched face that it
    overlaps most, as in the PASCAL VOC challenge.

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
    allowed = bad <= MAX_FALSE_POSITIVES * len(labelled)
    return Score(float((envelope * steps).sum()), float(recall[allowed].max(initial=0.0)))


def overlaps(box: Numbers, others: Numbers) -> tuple[Numbers, Numbers]:
    """Return intersection over union with each other box, and the part of ``box`` that each covers; 0 to 1."""
    if not len(others):
        return np.zeros(0), np.zeros(0)
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:4], others[:, :2] + others[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    own, areas = float(np.prod(box[2:4])), np.prod(others[:, 2:4], axis=1)
    return shared / np.maximum(own + areas - shared, 1e-9), shared / max(own, 1e-9)


def _hits(one: Labelled, rows: Numbers, least_overlap: float) -> list[tuple[float, bool]]:
    """Return the confidence of each detection that counts, and whether it is correct."""
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
