"""The ledger of the containers: which faces were committed, and whether each is in S3 once and with its size.

The outbox deletes a face when its receipt arrives. Therefore a trigger in the outbox database records each face in the
transaction that commits it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from demo.stack import CAMERA

TRIGGER = """
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


def balance(sizes: Mapping[str, int], stored: Iterable[tuple[str, int]], waiting: int, device: str) -> Balance:
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
        face_id = _id_of(key, device)
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


def _id_of(key: str, device: str) -> str | None:
    """Return the face id in a key, or None if the object is not a face of the device or is in quarantine."""
    match = _KEY.fullmatch(key)
    return match["id"] if match and match["device"] == device else None
