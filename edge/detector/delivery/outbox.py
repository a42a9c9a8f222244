"""The outbox: where a face is safe from the moment it is committed until the cloud has signed for it.

One SQLite file in WAL mode with ``synchronous=FULL``: a transaction that has been committed is on the disk, and
survives the power cut that follows. It is bounded in bytes; when it is full, the oldest face gives way.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from wire import face
from wire.errors import ConfigurationError
from wire.face import Face
from wire.mqtt import properties
from wire.mqtt.properties import Properties

_PAGE_BYTES = 4096
_SCHEMA_VERSION = 1
_REMEMBERED_DROPS = 10_000
"""Faces that gave way and whose receipt may still come, as they may be under way."""
_SCHEMA = """
CREATE TABLE faces (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were committed
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    bytes INTEGER NOT NULL,                 -- of this file, in whole pages
    properties BLOB NOT NULL,               -- as in an MQTT 5 PUBLISH packet
    jpeg BLOB NOT NULL
);
CREATE TABLE dropped (                      -- the last ones that gave way to newer ones
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL
);
CREATE TABLE totals (dropped INTEGER NOT NULL);
INSERT INTO totals VALUES (0);
"""

_log = structlog.get_logger("outbox")


@dataclass(frozen=True, slots=True)
class OutboxFace:
    """A face in the outbox, ready to be published."""

    seq: int
    id: str
    camera: str
    properties: Properties
    jpeg: bytes


class Outbox:
    """Faces on disk. Safe to use from several threads; only one process can have it open."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open the outbox, or make one.

        A file that turns out to be damaged is moved aside, never deleted, and an empty one takes its place.

        Args:
            path: the SQLite file; its folder is made where it is missing.
            max_bytes: how large the file may grow. SQLite's write-ahead log of a few MB comes beside it.

        Raises:
            ConfigurationError: the file cannot be written, or another process has it open.
        """
        self.not_stored = 0
        """Faces that could not be committed, because the disk is full, since the start."""
        path = path.absolute()  # «:memory:» is a file too
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _open(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as damage:
                _move_aside(path, str(damage))
                self._database = _open(path)
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigurationError(
                f"OUTBOX_PATH is '{path}': expected a file that can be written and that no other process has open "
                f"({error})"
            ) from None
        self._count: int
        self._bytes: int
        self._dropped: int
        self._count, self._bytes, self._dropped = self._database.execute(
            "SELECT count(*), coalesce(sum(bytes), 0), (SELECT dropped FROM totals) FROM faces"
        ).fetchone()

    @property
    def count(self) -> int:
        """How many faces are in it."""
        return self._count

    @property
    def bytes(self) -> int:
        """How much of the file they take, in bytes."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """How many committed faces have given way since the file was made, and have not been signed for since."""
        return self._dropped

    def store(self, faces: Sequence[Face]) -> int:
        """Commit the faces of one frame, all or none, and return how many older ones had to give way.

        What cannot be kept, because the disk is full, is counted in :attr:`not_stored` and logged.
        """
        with self._lock:
            try:
                with self._database:
                    evicted, freed = self._make_room(sum(_cost(kept) for kept in faces))
                    self._database.executemany(
                        "INSERT INTO faces (id, camera, bytes, properties, jpeg) VALUES (?, ?, ?, ?, ?)",
                        [
                            (kept.id, kept.origin.camera, _cost(kept), face.encode(kept).pack(), kept.jpeg)
                            for kept in faces
                        ],
                    )
            except sqlite3.OperationalError as error:
                self.not_stored += len(faces)
                _log.error("cannot be kept", faces=len(faces), reason=str(error), unkept=self.not_stored)
                return 0
            self._count += len(faces) - len(evicted)
            self._bytes += sum(_cost(kept) for kept in faces) - freed
            self._dropped += len(evicted)
        if evicted:
            _log.error("dropped: the outbox is full, the oldest give way", ids=evicted, dropped=self.dropped)
        return len(evicted)

    def delete_receipted(self, receipts: Iterable[tuple[str, str]]) -> int:
        """Delete faces that have been signed for.

        Args:
            receipts: id and camera of each; one that is not here is passed over, unless its face gave way while it was
                under way: then it is in S3 all the same, and counts as dropped no longer.

        Returns:
            How many were here.
        """
        gone = freed = returned = 0
        with self._lock:
            # Not synced by itself: a deletion that a power cut undoes costs one more copy on the wire, and no face.
            self._database.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._database:
                    for receipt in receipts:
                        sizes = self._database.execute(
                            "DELETE FROM faces WHERE id = ? AND camera = ? RETURNING bytes", receipt
                        ).fetchall()
                        gone, freed = gone + len(sizes), freed + sum(size for (size,) in sizes)
                        if not sizes:
                            returned += self._database.execute(
                                "DELETE FROM dropped WHERE id = ? AND camera = ?", receipt
                            ).rowcount
                    if returned:
                        self._database.execute("UPDATE totals SET dropped = dropped - ?", (returned,))
            finally:
                self._database.execute("PRAGMA synchronous = FULL")
            self._count -= gone
            self._bytes -= freed
            self._dropped -= returned
        return gone

    def waiting(self, underway: Collection[int], most: int, newest_first: bool) -> list[int]:
        """Return sequence numbers of faces that are not under way.

        Args:
            underway: sequence numbers to leave out.
            most: how many to return at the most.
            newest_first: from the newest back, or from the oldest on.
        """
        by_age = "SELECT seq FROM faces ORDER BY seq LIMIT ?"
        by_novelty = "SELECT seq FROM faces ORDER BY seq DESC LIMIT ?"
        with self._lock:
            rows = self._database.execute(by_novelty if newest_first else by_age, (most + len(underway),)).fetchall()
        return [seq for (seq,) in rows if seq not in underway][:most]

    def get(self, seq: int) -> OutboxFace | None:
        """Return a face, or None where it has gone in the meantime."""
        with self._lock:
            row = self._database.execute(
                "SELECT id, camera, properties, jpeg FROM faces WHERE seq = ?", (seq,)
            ).fetchone()
        if row is None:
            return None
        face_id, camera, packed, jpeg = row
        return OutboxFace(seq, face_id, camera, properties.unpack(packed, 0)[0], jpeg)

    def cameras(self) -> set[str]:
        """Return the cameras whose faces are here: another run may have had another camera."""
        with self._lock:
            return {camera for (camera,) in self._database.execute("SELECT DISTINCT camera FROM faces")}

    def oldest_id(self) -> str | None:
        """Return the id of the oldest face; None where the outbox is empty."""
        with self._lock:
            row = self._database.execute("SELECT id FROM faces ORDER BY seq LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _make_room(self, needed: int) -> tuple[list[str], int]:
        evicted: list[str] = []
        freed = 0
        while self._bytes - freed + needed > self._max_bytes:
            rows = self._database.execute(
                "DELETE FROM faces WHERE seq = (SELECT min(seq) FROM faces) RETURNING seq, id, camera, bytes"
            ).fetchall()
            if not rows:
                break
            seq, face_id, camera, size = rows[0]
            self._database.execute("INSERT INTO dropped VALUES (?, ?, ?)", (seq, face_id, camera))
            evicted.append(face_id)
            freed += size
        if evicted:
            self._database.execute("UPDATE totals SET dropped = dropped + ?", (len(evicted),))
            self._database.execute(
                "DELETE FROM dropped WHERE seq <= (SELECT max(seq) FROM dropped) - ?", (_REMEMBERED_DROPS,)
            )
        return evicted, freed


def inspect(path: Path) -> str:
    """Return what an outbox contains, in one line, without changing it.

    Raises:
        ConfigurationError: it cannot be read or created, is damaged, or another process has it open.
    """
    path = path.absolute()
    if not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise ConfigurationError(f"OUTBOX_PATH is '{path}': expected a folder that can be written")
        return f"{path} will be created"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            count, size = database.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM faces").fetchone()
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"OUTBOX_PATH is '{path}': expected an outbox that is intact and that no other process has open ({error})"
        ) from None
    return f"{path} has {count} faces, {size} bytes"


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=2.0, check_same_thread=False, cached_statements=32)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA journal_size_limit = 4194304")
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise ConfigurationError(
                f"OUTBOX_PATH is '{path}': its schema is version {version}, expected {_SCHEMA_VERSION}; "
                "let the Facewire that made it empty it first"
            )
    except BaseException:
        database.close()
        raise
    return database


def _move_aside(path: Path, reason: str) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"{path.name}.damaged-{stamp}{suffix}"))
    _log.error(
        "the outbox is damaged; it is moved aside and a fresh one begun",
        path=str(path),
        moved_to=f"{path}.damaged-{stamp}",
        reason=reason,
    )


def _cost(kept: Face) -> int:
    """Return how much of the file a face takes, in bytes: JPEG, properties and index, in whole pages."""
    return (len(kept.jpeg) + 2 * _PAGE_BYTES) // _PAGE_BYTES * _PAGE_BYTES
