"""The outbox: stores faces on disk until their receipts arrive.

It is a SQLite file in WAL mode with ``synchronous=FULL``, so a committed face survives a power cut. Its size is
limited; when it is full, the oldest face is dropped.
"""

import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge.detector.delivery import outbox_file
from wire.face import Face, encode
from wire.mqtt import properties
from wire.mqtt.properties import Properties

_PAGE_BYTES = 4096
_MAX_REMEMBERED_DROPS = 10_000
"""Dropped faces whose ids are remembered: they may have been under way, and their receipts may still arrive."""
_log = structlog.get_logger("outbox")


@dataclass(frozen=True, slots=True)
class OutboxFace:
    """A face in the outbox, encoded for publishing."""

    id: str
    camera: str
    properties: Properties
    jpeg: bytes


class Outbox:
    """Faces on disk. Several threads can use it, but only one process can open it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open or create the outbox as :func:`edge.detector.delivery.outbox_file.open_or_create` does.

        ``max_bytes`` is the maximum size of the file. SQLite's write-ahead log needs a few MB more.
        """
        self.count: int
        """Number of faces in the outbox."""
        self.bytes: int
        """Size of these faces in the file, in bytes."""
        self.dropped: int
        """Faces dropped since the file was created, without those whose receipt has arrived since."""
        self.not_stored = 0
        """Faces that could not be stored since the start, because the disk was full."""
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._database = outbox_file.open_or_create(path)
        self.count, self.bytes, self.dropped = self._database.execute(
            "SELECT count(*), coalesce(sum(bytes), 0), (SELECT dropped FROM totals) FROM faces"
        ).fetchone()

    def store(self, faces: Sequence[Face]) -> int:
        """Commit the faces of one frame, all or none, and return how many older ones were dropped to make room.

        If the disk is full, the faces are not stored; this is counted in :attr:`not_stored` and logged.
        """
        needed = sum(_size_on_disk(face) for face in faces)
        with self._lock:
            try:
                with self._database:
                    dropped, freed = self._make_room(needed)
                    self._database.executemany(
                        "INSERT INTO faces (id, camera, bytes, properties, jpeg) VALUES (?, ?, ?, ?, ?)",
                        [
                            (face.id, face.origin.camera, _size_on_disk(face), encode(face).pack(), face.jpeg)
                            for face in faces
                        ],
                    )
            except sqlite3.OperationalError as error:
                self.not_stored += len(faces)
                _log.error("faces not stored", faces=len(faces), reason=str(error), unkept=self.not_stored)
                return 0
            self.count += len(faces) - len(dropped)
            self.bytes += needed - freed
            self.dropped += len(dropped)
        if dropped:
            _log.error("outbox full, oldest faces dropped", ids=dropped, dropped=self.dropped)
        return len(dropped)

    def delete_receipted(self, receipts: Iterable[tuple[str, str]]) -> int:
        """Delete the faces whose receipts, each an id and a camera, have arrived, and return the number deleted.

        A face that was dropped while it was under way is in S3 all the same, so it no longer counts as dropped. Other
        ids that are not in the outbox are ignored.
        """
        deleted = freed = no_longer_dropped = 0
        with self._lock:
            # Deletions need no sync: if a power cut undoes one, the face is sent once more, and none is lost.
            self._database.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._database:
                    for receipt in receipts:
                        sizes = self._database.execute(
                            "DELETE FROM faces WHERE id = ? AND camera = ? RETURNING bytes", receipt
                        ).fetchall()
                        deleted, freed = deleted + len(sizes), freed + sum(size for (size,) in sizes)
                        if not sizes:
                            no_longer_dropped += self._database.execute(
                                "DELETE FROM dropped WHERE id = ? AND camera = ?", receipt
                            ).rowcount
                    if no_longer_dropped:
                        self._database.execute("UPDATE totals SET dropped = dropped - ?", (no_longer_dropped,))
            finally:
                self._database.execute("PRAGMA synchronous = FULL")
            self.count -= deleted
            self.bytes -= freed
            self.dropped -= no_longer_dropped
        return deleted

    def waiting(self, underway: Collection[int], limit: int, newest_first: bool) -> list[int]:
        """Return the sequence numbers of at most ``limit`` faces that are not under way: the newest or the oldest."""
        oldest = "SELECT seq FROM faces ORDER BY seq LIMIT ?"
        newest = "SELECT seq FROM faces ORDER BY seq DESC LIMIT ?"
        with self._lock:
            rows = self._database.execute(newest if newest_first else oldest, (limit + len(underway),)).fetchall()
        return [seq for (seq,) in rows if seq not in underway][:limit]

    def get(self, seq: int) -> OutboxFace | None:
        """Return a face; None if it is no longer in the outbox."""
        with self._lock:
            row = self._database.execute(
                "SELECT id, camera, properties, jpeg FROM faces WHERE seq = ?", (seq,)
            ).fetchone()
        if row is None:
            return None
        face_id, camera, packed, jpeg = row
        return OutboxFace(face_id, camera, properties.unpack(packed, 0)[0], jpeg)

    def cameras(self) -> set[str]:
        """Return the cameras of the faces in the outbox: an earlier run may have had another camera."""
        with self._lock:
            return {camera for (camera,) in self._database.execute("SELECT DISTINCT camera FROM faces")}

    def oldest_id(self) -> str | None:
        """Return the id of the oldest face; None if the outbox is empty."""
        with self._lock:
            row = self._database.execute("SELECT id FROM faces ORDER BY seq LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _make_room(self, needed: int) -> tuple[list[str], int]:
        """Drop the oldest faces until ``needed`` bytes fit; return their ids and the number of bytes freed."""
        dropped: list[str] = []
        freed = 0
        while self.bytes - freed + needed > self._max_bytes:
            rows = self._database.execute(
                "DELETE FROM faces WHERE seq = (SELECT min(seq) FROM faces) RETURNING seq, id, camera, bytes"
            ).fetchall()
            if not rows:
                break
            seq, face_id, camera, size = rows[0]
            self._database.execute("INSERT INTO dropped VALUES (?, ?, ?)", (seq, face_id, camera))
            dropped.append(face_id)
            freed += size
        if dropped:
            self._database.execute("UPDATE totals SET dropped = dropped + ?", (len(dropped),))
            self._database.execute(
                "DELETE FROM dropped WHERE seq <= (SELECT max(seq) FROM dropped) - ?", (_MAX_REMEMBERED_DROPS,)
            )
        return dropped, freed


def _size_on_disk(face: Face) -> int:
    """Return the size of a face in the file, in bytes: JPEG, properties and index, in whole pages."""
    return (len(face.jpeg) + 2 * _PAGE_BYTES) // _PAGE_BYTES * _PAGE_BYTES
