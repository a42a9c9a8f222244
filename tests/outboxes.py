"""Outboxes for tests: of version 1, of a process that was killed, and emptied as the dispatcher does it."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from edge.detector.delivery.outbox import Outbox, OutboxFace
from wire.face import Face, encode

MAX_BYTES = 1 << 30
_VERSION_1 = """
CREATE TABLE faces (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were committed
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    bytes INTEGER NOT NULL,                 -- size in this file, in whole pages
    properties BLOB NOT NULL,               -- as in an MQTT 5 PUBLISH packet
    jpeg BLOB NOT NULL
);
CREATE TABLE dropped (                      -- the last faces that were dropped
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL
);
CREATE TABLE totals (dropped INTEGER NOT NULL);
INSERT INTO totals VALUES (0);
PRAGMA user_version = 1;
"""


def make_version_1(path: Path, faces: Iterable[Face]) -> None:
    """Create an outbox with the schema of version 1."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_VERSION_1)
        database.executemany(
            "INSERT INTO faces (id, camera, bytes, properties, jpeg) VALUES (?, ?, ?, ?, ?)",
            [
                (face.id, face.origin.camera, (len(face.jpeg) + 8192) // 4096 * 4096, encode(face).pack(), face.jpeg)
                for face in faces
            ],
        )


def in_killed_process(work: Callable[[], object]) -> None:
    """Call ``work`` in a child process that ends without closing anything."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def receipts_of(faces: Sequence[Face | OutboxFace]) -> list[tuple[str, str]]:
    """The receipts of faces."""
    return [(face.id, face.camera if isinstance(face, OutboxFace) else face.origin.camera) for face in faces]


def drain(outbox: Outbox, limit: int = 1 << 30) -> list[OutboxFace]:
    """Read and delete up to ``limit`` faces, the oldest first. Fails if a face is returned twice."""
    found: dict[str, OutboxFace] = {}
    while len(found) < limit and (waiting := outbox.waiting(set(), 20, newest_first=False)):
        faces = [face for seq in waiting if (face := outbox.get(seq))]
        for face in faces:
            assert face.id not in found
            found[face.id] = face
        outbox.delete_receipted(receipts_of(faces))
    return list(found.values())
