"""The ledger compares the faces committed to the outbox with the objects in S3.

The outbox deletes a face when its receipt arrives. Therefore a trigger in the outbox database records each face in the
transaction that commits it. The record exists if and only if the face was committed, whichever process is killed.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from demo.stack import BUCKET, CAMERA, DEVICE, Stack
from edge.detector.delivery.outbox import Outbox

_TRIGGER = """
CREATE TABLE committed (id TEXT NOT NULL, camera TEXT NOT NULL, bytes INTEGER NOT NULL);
CREATE TRIGGER note AFTER INSERT ON faces BEGIN
    INSERT INTO committed VALUES (new.id, new.camera, length(new.jpeg));
END;
"""
_KEY = re.compile(
    rf"faces/device=(?P<device>[^/]+)/camera={CAMERA}/date=\d{{4}}-\d\d-\d\d/\d{{6}}\.\d{{3}}Z-(?P<id>[0-9a-f-]{{36}})\.jpg"
)


@dataclass(frozen=True, slots=True)
class Balance:
    """Comparison of committed faces and stored objects. Lists contain face ids, or keys of objects without an id."""

    committed: int
    stored: int
    """Number of faces with at least one object."""
    lost: list[str]
    twice: list[str]
    """Faces with two or more objects."""
    altered: list[str]
    """Faces whose object differs in size from the committed JPEG."""
    foreign: list[str]
    """Objects that do not belong to a committed face."""
    waiting: int
    """Number of faces still in the outbox."""

    def __str__(self) -> str:
        lists = {name: getattr(self, name) for name in ("lost", "twice", "altered", "foreign")}
        problems = (f"{len(ids)} {name} (for example {ids[0]})" for name, ids in lists.items() if ids)
        return ", ".join((f"{self.committed} committed", f"{self.stored} stored", *problems, f"{self.waiting} waiting"))

    @property
    def clean(self) -> bool:
        """Whether each face is stored once and unaltered, and there are no other objects."""
        return not (self.lost or self.twice or self.altered or self.foreign or self.waiting)


def install(path: Path) -> None:
    """Create an outbox with a trigger that records every committed face."""
    Outbox(path, 1 << 30).close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TRIGGER)


def committed(path: Path) -> tuple[dict[str, int], int]:
    """Return the size in bytes of each committed face, by id, and the number of faces still in the outbox.

    Raises:
        ValueError: an id was committed more than once.
    """
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT id, bytes FROM committed").fetchall()
        (waiting,) = database.execute("SELECT count(*) FROM faces").fetchone()
    sizes = dict(rows)
    if len(sizes) != len(rows):
        raise ValueError(f"{len(rows) - len(sizes)} ids were committed more than once")
    return sizes, waiting


def objects(stack: Stack) -> list[tuple[str, int]]:
    """Return key and size in bytes of every object in the bucket."""
    pages = stack.s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [(item["Key"], item["Size"]) for page in pages for item in page.get("Contents", [])]


def id_of(key: str, device: str = DEVICE) -> str | None:
    """Return the face id in a key, or None if the object is not a face of the device or is in quarantine."""
    match = _KEY.fullmatch(key)
    return match["id"] if match and match["device"] == device else None


def balance(
    sizes: Mapping[str, int], stored: Iterable[tuple[str, int]], waiting: int = 0, device: str = DEVICE
) -> Balance:
    """Compare committed faces with stored objects.

    Args:
        sizes: size in bytes of each committed face, by id.
        stored: key and size in bytes of each object.
        waiting: number of faces still in the outbox.
        device: id of the device that published the faces.
    """
    copies: Counter[str] = Counter()
    altered, foreign = [], []
    for key, size in stored:
        face_id = id_of(key, device)
        if face_id is None or face_id not in sizes:
            foreign.append(key)
            continue
        copies[face_id] += 1
        if size != sizes[face_id]:
            altered.append(face_id)
    return Balance(
        committed=len(sizes),
        stored=len(copies),
        lost=[face_id for face_id in sizes if face_id not in copies],
        twice=[face_id for face_id, count in copies.items() if count > 1],
        altered=altered,
        foreign=foreign,
        waiting=waiting,
    )
