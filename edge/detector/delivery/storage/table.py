"""The statements on the tables of the outbox. Their errors are left to the caller."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge.detector.delivery.storage.pages import PAGE_BYTES
from edge.detector.delivery.storage.row import Row

MAX_REMEMBERED_DROPS = 10_000
"""Dropped faces whose ids are remembered: they may have been under way, and their receipts may still arrive."""
_CONTENT = "SELECT count(*), coalesce(sum((length(jpeg) + 8192) / 4096 * 4096), 0), count(boot) FROM faces"
"""The size of a row comes from the header of its record. The column ``bytes`` says the same, but may be damaged."""
_INSERT = """
INSERT INTO faces (bytes, id, camera, properties, jpeg, digest, boot, captured) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_RESCUED = """
INSERT OR IGNORE INTO faces (seq, bytes, id, camera, properties, jpeg, digest, boot, captured)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_DELETE = """
DELETE FROM faces WHERE id = ? AND camera = ? RETURNING (length(jpeg) + 8192) / 4096 * 4096, boot IS NOT NULL
"""
_DROP = """
DELETE FROM faces WHERE seq = ? RETURNING id, camera, (length(jpeg) + 8192) / 4096 * 4096, boot IS NOT NULL
"""
_GET = "SELECT id, camera, properties, jpeg, digest, boot, captured FROM faces WHERE seq = ?"
_UNTIMED = """
SELECT seq, id, camera, properties, jpeg, digest, boot, captured FROM faces WHERE boot IS NOT NULL ORDER BY seq LIMIT ?
"""
_REPLACE = """
UPDATE faces SET id = ?, camera = ?, properties = ?, jpeg = ?, digest = ?, boot = ?, captured = ? WHERE seq = ?
"""
_CREATE_SETTLED = "CREATE TABLE IF NOT EXISTS settled (id TEXT PRIMARY KEY) WITHOUT ROWID"
"""Ids that faces had before they got their time, if a damaged file may still have them under these ids."""
Receipt = tuple[str, str]
"""Id and camera of a face that is delivered."""


@dataclass(slots=True)
class Removed:
    """The rows that a transaction removes."""

    ids: list[str]
    bytes: int = 0
    untimed: int = 0
    no_longer_dropped: int = 0
    """Faces that were dropped earlier, and are known to be delivered."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the tables contain."""

    faces: int
    bytes: int
    untimed: int
    dropped: int
    device: str | None
    damaged: list[tuple[str, int | None]]
    """Id of each damaged face, and its sequence number if its row is still there."""


def size_on_disk(row: Row) -> int:
    """Return the size of a row in the file, in bytes: JPEG, properties and index, in whole pages."""
    return (len(row.jpeg) + 2 * PAGE_BYTES) // PAGE_BYTES * PAGE_BYTES


class OutboxTable:
    """The faces in a database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def content(self) -> Content:
        """Return what the tables contain."""
        counts = self._database.execute(_CONTENT)
        faces, size, untimed = counts.fetchone()
        dropped, device = self._database.execute("SELECT dropped, device FROM totals").fetchone()
        damaged = self._database.execute("SELECT id, seq FROM damaged").fetchall()
        return Content(faces, int(size), untimed, dropped, device, damaged)

    def insert(self, rows: Iterable[Row], device: str | None = None) -> None:
        """Insert rows in the transaction that is open, and note their device if it is given."""
        self._database.executemany(
            _INSERT,
            [(size_on_disk(row), *_values(row)) for row in rows],
        )
        if device is not None:
            self._database.execute("UPDATE totals SET device = ?", (device,))

    def insert_rescued(self, rows: Sequence[tuple[int | None, Row]]) -> list[Row]:
        """Insert rows under their sequence numbers where these are free, and return those that were not there yet.

        A face that was there and got another id is not inserted again.
        """
        added = []
        with self._database:
            settled = self._settled_among([row.id for _, row in rows])
            for seq, row in rows:
                if row.id in settled:
                    continue
                is_free = self._database.execute("SELECT 1 FROM faces WHERE seq = ?", (seq,)).fetchone() is None
                added_rows = self._database.execute(
                    _INSERT_RESCUED,
                    (seq if is_free else None, size_on_disk(row), *_values(row)),
                ).rowcount
                if added_rows:
                    added.append(row)
        return added

    def skip_to(self, seq: int) -> None:
        """Give later faces greater sequence numbers than ``seq``."""
        with self._database:
            if not self._database.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'faces'", (seq,)
            ).rowcount:
                self._database.execute("INSERT INTO sqlite_sequence VALUES ('faces', ?)", (seq,))

    def delete_receipted(self, receipts: Iterable[Receipt]) -> Removed:
        """Delete the faces with these ids and cameras, and those among the dropped ones."""
        removed = Removed([])
        with self._database:
            for receipt in receipts:
                rows = self._database.execute(_DELETE, receipt).fetchall()
                for size, is_untimed in rows:
                    removed.ids.append(receipt[0])
                    removed.bytes += size
                    removed.untimed += is_untimed
                if not rows:
                    removed.no_longer_dropped += self._database.execute(
                        "DELETE FROM dropped WHERE id = ? AND camera = ?", receipt
                    ).rowcount
            if removed.no_longer_dropped:
                self._database.execute("UPDATE totals SET dropped = max(0, dropped - ?)", (removed.no_longer_dropped,))
        return removed

    def drop(self, seq: int) -> tuple[str, int, bool]:
        """Drop a face in the transaction that is open; return its id, its size and whether its time is unknown."""
        ((face_id, camera, size, is_untimed),) = self._database.execute(_DROP, (seq,)).fetchall()
        self._database.execute("INSERT OR REPLACE INTO dropped VALUES (?, ?, ?)", (seq, face_id, camera))
        return face_id, size, bool(is_untimed)

    def count_dropped(self, count: int) -> None:
        """Add to the number of dropped faces in the transaction that is open, and forget the oldest of their ids."""
        self._database.execute("UPDATE totals SET dropped = dropped + ?", (count,))
        self._database.execute(
            "DELETE FROM dropped WHERE seq <= (SELECT max(seq) FROM dropped) - ?", (MAX_REMEMBERED_DROPS,)
        )

    def set_aside(self, damaged: Iterable[tuple[str, int | None, str]]) -> None:
        """Note faces that are damaged: id, sequence number if the row is still there, and reason."""
        with self._database:
            self._database.executemany("INSERT INTO damaged VALUES (?, ?, ?)", damaged)

    def sequence(self, limit: int, newest_first: bool = False) -> list[int]:
        """Return the sequence numbers of at most ``limit`` faces whose capture time is known."""
        oldest = "SELECT seq FROM faces WHERE boot IS NULL ORDER BY seq LIMIT ?"
        newest = "SELECT seq FROM faces WHERE boot IS NULL ORDER BY seq DESC LIMIT ?"
        rows = self._database.execute(newest if newest_first else oldest, (limit,))
        return list(dict.fromkeys(seq for (seq,) in rows))

    def oldest(self, limit: int) -> list[int]:
        """Return the sequence numbers of the oldest faces."""
        return [seq for (seq,) in self._database.execute("SELECT seq FROM faces ORDER BY seq LIMIT ?", (limit,))]

    def get(self, seq: int) -> Row | None:
        """Return a row; None if there is none."""
        row = self._database.execute(_GET, (seq,)).fetchone()
        return None if row is None else _row(row)

    def seq_of(self, receipt: Receipt) -> int | None:
        """Return the sequence number of a face, given its id and camera; None if it is not there."""
        row = self._database.execute("SELECT seq FROM faces WHERE id = ? AND camera = ?", receipt).fetchone()
        return None if row is None else int(row[0])

    def id_of(self, seq: int) -> str:
        """Return the id of a face."""
        return str(self._database.execute("SELECT id FROM faces WHERE seq = ?", (seq,)).fetchone()[0])

    def untimed(self, limit: int) -> list[tuple[int, Row]]:
        """Return the oldest faces whose capture time is unknown, with their sequence numbers."""
        rows = self._database.execute(_UNTIMED, (limit,))
        return [(seq, _row(row)) for seq, *row in rows]

    def replace(self, rows: Iterable[tuple[int, Row]], former_ids: Sequence[str]) -> None:
        """Replace rows, given their sequence numbers, and note the ids that they had if these are given."""
        with self._database:
            self._database.executemany(
                _REPLACE,
                [(*_values(row), seq) for seq, row in rows],
            )
            self.note_settled(former_ids)

    def note_settled(self, former_ids: Sequence[str]) -> None:
        """Note ids of faces that got another one, in the transaction that is open if there is one."""
        if former_ids:
            self._database.execute(_CREATE_SETTLED)
            with self._database:
                self._database.executemany("INSERT OR IGNORE INTO settled VALUES (?)", [(id_,) for id_ in former_ids])

    def forget_settled(self) -> None:
        """Forget the ids of faces that got another one."""
        if self._has_settled():
            with self._database:
                self._database.execute("DELETE FROM settled")

    def adopt(self, device: str) -> None:
        """Note the device of the faces."""
        with self._database:
            self._database.execute("UPDATE totals SET device = ?", (device,))

    def _has_settled(self) -> bool:
        return self._database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'settled'").fetchone() is not None

    def _settled_among(self, ids: Iterable[str]) -> set[str]:
        if not self._has_settled():
            return set()
        found = "SELECT 1 FROM settled WHERE id = ?"
        return {face_id for face_id in ids if self._database.execute(found, (face_id,)).fetchone()}


def _values(row: Row) -> tuple[object, ...]:
    return row.id, row.camera, row.properties, row.jpeg, row.digest, row.boot, row.captured


def _row(values: Sequence[object]) -> Row:
    """Build a row; a column of another type than was written becomes empty, so that the digest does not match."""
    face_id, camera, packed, jpeg, digest, boot, captured = values
    return Row(
        face_id if isinstance(face_id, str) else "",
        camera if isinstance(camera, str) else "",
        packed if isinstance(packed, bytes) else b"",
        jpeg if isinstance(jpeg, bytes) else b"",
        digest if isinstance(digest, bytes) or digest is None else b"",
        boot if isinstance(boot, str) else None,
        captured if isinstance(captured, float) else None,
    )
