"""The books: which faces were committed to the outbox, and which objects are in S3.

The outbox forgets a face on its receipt. So a trigger in the outbox's own file notes each face in the same transaction
that commits it: whatever is killed, the note is there exactly if the face was.
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
    """The faces committed against the objects stored. All lists are of ids, or of keys where there is no id."""

    committed: int
    stored: int
    """Faces with an object, at least one."""
    lost: list[str]
    twice: list[str]
    """Faces with two objects or more."""
    altered: list[str]
    """Faces whose object has another size than the JPEG that was committed."""
    foreign: list[str]
    """Objects that are not a face that was committed."""
    waiting: int
    """Faces that are still in the outbox."""

    def __str__(self) -> str:
        wrong = {name: getattr(self, name) for name in ("lost", "twice", "altered", "foreign")}
        told = (f"{len(those)} {name} (such as {those[0]})" for name, those in wrong.items() if those)
        return ", ".join((f"{self.committed} committed", f"{self.stored} stored", *told, f"{self.waiting} waiting"))

    @property
    def clean(self) -> bool:
        """Whether each face is there once and as it was, and nothing else is."""
        return not (self.lost or self.twice or self.altered or self.foreign or self.waiting)


def install(path: Path) -> None:
    """Make an outbox that notes what is committed to it."""
    Outbox(path, 1 << 30).close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TRIGGER)


def committed(path: Path) -> tuple[dict[str, int], int]:
    """Return the size in bytes of each face ever committed, by id, and how many faces still wait for their receipt.

    Raises:
        ValueError: two faces were committed under one id.
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
    """Return the id of the device's face that an object is; None where it is something else, or in quarantine."""
    found = _KEY.fullmatch(key)
    return found["id"] if found and found["device"] == device else None


def balance(
    sizes: Mapping[str, int], stored: Iterable[tuple[str, int]], waiting: int = 0, device: str = DEVICE
) -> Balance:
    """Compare.

    Args:
        sizes: of each face committed, in bytes, by id.
        stored: key and size in bytes of each object.
        waiting: faces that are still in the outbox.
        device: whose faces they are.
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
