"""The ledger compares what the outboxes promised to keep, and the receipts, with the objects in S3.

The journals say which faces were committed, with the SHA-256 of each JPEG (:mod:`tests.chaos.journal`). A face may be
missing in S3 only if its detector logged its id as dropped or damaged.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

from demo.stack import BUCKET, Stack
from tests.chaos.journal import Entry, State
from wire.ids import time_of_id
from wire.process import clock

_KEY = re.compile(
    r"faces/device=(?P<device>[^/]+)/camera=(?P<camera>[^/]+)"
    r"/date=\d{4}-\d\d-\d\d/\d{6}\.\d{3}Z-(?P<id>[0-9a-f-]{36})\.jpg"
)
_QUARANTINE = "faces/quarantine/"
_NOT_FACES = ("faces/store-check",)
"""Prefixes of objects that are not faces: the sink's check of the store."""
_IDS = re.compile(r"\bids?=(\[.*?\]|'.*?'|\S*)")
_TOLD = re.compile(r"\[(?:warning|error) *\].*?faces? (?:\w+ )*?(dropped|damaged)")
"""A line in a detector's log that tells that faces are lost, and why."""
_DOWNLOADS = 8

Camera = tuple[str, str]
"""A device and one of its cameras."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in S3."""

    key: str
    sha256: str
    """SHA-256 of its bytes."""
    clock: str | None = None
    """The metadata of this name."""

    @property
    def name(self) -> tuple[Camera, str] | None:
        """The camera and the id in its key; None if it is not a face."""
        return name_of(self.key)


@dataclass(slots=True)
class Balance:
    """Comparison of committed faces, receipts and objects. Lists contain face ids, or keys of objects without an id."""

    committed: int = 0
    stored: int = 0
    """Number of committed faces with at least one object."""
    lost: list[str] = field(default_factory=list)
    """Committed faces without an object that the detector did not log as dropped or damaged."""
    told: list[str] = field(default_factory=list)
    """Committed faces without an object that the detector logged as dropped or damaged."""
    twice: list[str] = field(default_factory=list)
    """Faces with two or more objects."""
    altered: list[str] = field(default_factory=list)
    """Faces with an object whose SHA-256 is not that of the committed JPEG."""
    quarantined: list[str] = field(default_factory=list)
    """Keys in quarantine. Only valid faces are sent, so nothing belongs there."""
    foreign: list[str] = field(default_factory=list)
    """Objects that do not belong to a committed face."""
    untrue: list[str] = field(default_factory=list)
    """Faces stored under a time before the clock can have been set."""
    unfounded: list[str] = field(default_factory=list)
    """Receipts whose face is not in S3."""
    not_stored: int = 0
    """Faces that an outbox did not take, and said so."""
    waiting: int = 0
    """Number of faces still in an outbox."""

    def problems(self) -> dict[str, list[str]]:
        """Return the lists that must be empty."""
        names = ("lost", "twice", "altered", "quarantined", "foreign", "untrue", "unfounded")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        problems = (f"{len(ids)} {name} (for example {ids[0]})" for name, ids in self.problems().items() if ids)
        return ", ".join((f"{self.committed} committed", f"{self.stored} stored", *problems, f"{self.waiting} waiting"))

    @property
    def clean(self) -> bool:
        """Whether each face is stored once and unaltered, and there are neither other objects nor false receipts."""
        return not any(self.problems().values()) and not self.waiting

    def __add__(self, other: "Balance") -> "Balance":
        return Balance(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def balance(
    entries: Iterable[Entry],
    stored: Iterable[Stored],
    receipts: Collection[str] = (),
    told: Collection[str] = (),
    waiting: int = 0,
) -> Balance:
    """Compare the faces of one camera with its objects.

    A face that was captured before the clock was set gets another id when it is set. Such a face and its object are
    matched by their SHA-256. An id that was told to be lost and is not in the journal accounts for one missing face: it
    is the new id of such a face, or an id with a flipped bit.

    Args:
        entries: the journal.
        stored: the objects.
        receipts: ids of the receipts that arrived at the device.
        told: ids that the detector logged as dropped or damaged.
        waiting: number of faces still in the outbox.
    """
    result = Balance(waiting=waiting)
    faces = {entry.id: entry for entry in entries}
    kept = {face_id: entry for face_id, entry in faces.items() if entry.state is not State.NOT_STORED}
    copies: dict[str, list[Stored]] = defaultdict(list)
    for one in stored:
        if one.key.startswith(_QUARANTINE):
            result.quarantined.append(one.key)
        elif one.name is None:
            result.foreign.append(one.key)
        else:
            copies[one.name[1]].append(one)
    untimed = [entry for entry in kept.values() if entry.id not in copies and not _is_timed(entry.id)]
    new_ids = [found for face_id, found in copies.items() if face_id not in kept]
    renamed = _match(untimed, [one for found in new_ids for one in found if one.clock is not None])
    for face_id, found in copies.items():
        entry = kept.get(face_id) or renamed.get(face_id)
        if entry is None:
            result.foreign += [one.key for one in found]
            continue
        result.stored += 1
        result.twice += [face_id] * (len(found) > 1)
        result.altered += [face_id for one in found if one.sha256 != entry.sha256]
        result.untrue += [face_id] * (not _is_timed(face_id))
    matched = {entry.id for entry in renamed.values()}
    strangers = len({one for one in told if one not in kept and one not in copies})
    for face_id, entry in kept.items():
        if face_id in copies or face_id in matched or entry.state is not State.COMMITTED:
            continue
        if face_id in told:
            result.told.append(face_id)
        elif strangers:
            strangers -= 1
            result.told.append(face_id)
        else:
            result.lost.append(face_id)
    result.committed = result.stored + len(result.lost) + len(result.told)
    result.not_stored = len(faces) - len(kept)
    result.unfounded = [face_id for face_id in receipts if face_id not in copies]
    return result


def _match(untimed: Iterable[Entry], stored: Iterable[Stored]) -> dict[str, Entry]:
    """Return the untimed faces by the id of their object. Each face matches one object with the same SHA-256."""
    by_sha256: dict[str, list[Entry]] = defaultdict(list)
    for entry in untimed:
        by_sha256[entry.sha256].append(entry)
    return {
        one.name[1]: by_sha256[one.sha256].pop() for one in stored if one.name is not None and by_sha256[one.sha256]
    }


def _is_timed(face_id: str) -> bool:
    return clock.is_set(time_of_id(face_id))


def objects(stack: Stack) -> list[Stored]:
    """Download every object in the bucket, except those that are not faces."""
    client = stack.s3()

    def download(key: str) -> Stored:
        answer = client.get_object(Bucket=BUCKET, Key=key)
        return Stored(key, hashlib.sha256(answer["Body"].read()).hexdigest(), answer["Metadata"].get("clock"))

    keys = [key for key in stack.keys() if not key.startswith(_NOT_FACES)]
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        return list(pool.map(download, keys))


def camera_of(key: str) -> Camera | None:
    """Return the camera in a key; None if the object is not a face, or is in quarantine."""
    name = name_of(key)
    return None if name is None else name[0]


def is_face(path: str) -> bool:
    """Return whether the path of a request is that of a face."""
    return name_of(path.removeprefix(f"/{BUCKET}/")) is not None


def name_of(key: str) -> tuple[Camera, str] | None:
    """Return the camera and the face id in a key; None if the object is not a face, or is in quarantine."""
    match = _KEY.fullmatch(key)
    return ((match["device"], match["camera"]), match["id"]) if match else None


def told_in(log: Path) -> dict[str, set[str]]:
    """Return the ids of the faces that the log of a detector names as ``dropped``, and as ``damaged``."""
    told: dict[str, set[str]] = {"dropped": set(), "damaged": set()}
    if log.exists():
        for line in log.read_text("utf-8", "replace").splitlines():
            if found := _TOLD.search(line):
                ids = _IDS.search(line)
                told[found[1]].update(re.split(r"[\['\", \]]+", ids[1].strip("['\"]")) if ids else ())
    return told
