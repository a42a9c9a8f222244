"""The index: adds, describes and removes faces, and answers what the page asks. Safe to use from several threads."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from cloud.gallery.index import queries
from cloud.gallery.index.database import Database
from cloud.gallery.index.face import Camera, IndexedFace, Page
from cloud.gallery.index.filters import Filters, day_bounds
from cloud.gallery.index.row import COLUMNS, NO_CONFIDENCE, Row, first_seq, id_of, ms_of, pack, seq_of, tail_of, unpack
from wire.topics import Origin

QUARTER_MS = 900_000
RECENT_SECONDS = 900.0
"""How long the index remembers what was added or removed, so that an older listing of S3 does not undo it."""
MAX_RECENT = 50_000

Name = tuple[Origin, str]
"""The origin and the id of a face."""


class Index:
    """The faces in S3, in a SQLite file."""

    def __init__(self, path: Path, source: str, zone: ZoneInfo) -> None:
        """Open the index.

        Args:
            path: of the file; made anew if it is damaged.
            source: the bucket and the prefix. The index of another source is made anew.
            zone: of days and times of day.

        Raises:
            ConfigurationError: the file cannot be opened or made.
        """
        self._database = Database(path, source)
        self._lock = threading.Lock()
        self._zone = zone
        rows = self._database.writer.execute("SELECT number, device, camera FROM cameras").fetchall()
        self._cameras = {Origin(device, camera): number for number, device, camera in rows}
        self._count: int = self._database.writer.execute("SELECT coalesce(sum(count), 0) FROM counts").fetchone()[0]
        self._recent: OrderedDict[Name, float] = OrderedDict()

    @property
    def count(self) -> int:
        """Number of faces."""
        return self._count

    @property
    def file_bytes(self) -> int:
        """Size of the file in bytes."""
        return self._database.size

    def add(self, faces: Iterable[IndexedFace], *, described: bool = True) -> list[IndexedFace]:
        """Add faces, or describe those that are known without attributes. Return those that are new.

        Args:
            faces: the faces.
            described: whether their attributes are known.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        new, counts = [], Counter[tuple[int, int, int, int]]()
        with self._lock, self._transaction():
            for face in faces:
                camera = self._number_of(face.origin)
                found, seq = self._find(face, camera)
                if found is None:
                    new.append(face)
                elif found[3] is not None or not described:
                    continue
                else:
                    counts[_count_key(found)] -= 1
                row = pack(face, seq, camera, described=described)
                counts[_count_key(row)] += 1
                self._database.writer.execute("INSERT OR REPLACE INTO faces VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._count_up(counts)
        self._count += len(new)
        if described:
            self._remember((face.origin, face.id) for face in new)
        return new

    def remove(self, names: Iterable[Name]) -> int:
        """Remove faces, and return how many of them were known."""
        names, removed, counts = list(names), 0, Counter[tuple[int, int, int, int]]()
        with self._lock, self._transaction():
            for origin, face_id in names:
                camera = self._cameras.get(origin)
                found, seq = (None, 0) if camera is None else self._find(IndexedFace(origin, face_id), camera)
                if found is not None:
                    self._database.writer.execute("DELETE FROM faces WHERE seq = ?", (seq,))
                    counts[_count_key(found)] -= 1
                    removed += 1
            self._count_up(counts)
        self._count -= removed
        self._remember(names)
        return removed

    def is_recent(self, name: Name) -> bool:
        """Return whether a face has just been added or removed, so that an older listing may not know it."""
        added_at = self._recent.get(name)
        return added_at is not None and time.monotonic() - added_at < RECENT_SECONDS

    def undescribed(self, limit: int) -> list[IndexedFace]:
        """Return faces whose attributes are not known, the newest ones of each camera first."""
        found: list[tuple[int, IndexedFace]] = []
        with self._database.reader() as connection:
            for origin, camera in list(self._cameras.items()):
                statement = (
                    f"SELECT {COLUMNS} FROM faces WHERE camera = ? AND confidence IS NULL ORDER BY seq DESC LIMIT ?"
                )
                rows = connection.execute(statement, (camera, limit))
                found += [(row[0], unpack(row, origin)) for row in rows]
        return [face for _, face in sorted(found, key=lambda item: -item[0])[:limit]]

    def undescribed_count(self) -> int:
        """Return the number of faces whose attributes are not known."""
        with self._database.reader() as connection:
            return int(connection.execute("SELECT count(*) FROM faces WHERE confidence IS NULL").fetchone()[0])

    def names_between(self, origin: Origin, first_ms: int, end_ms: int) -> set[str]:
        """Return the ids of the faces of a camera from a time to before another: milliseconds since 1970, UTC."""
        camera = self._cameras.get(origin)
        if camera is None:
            return set()
        with self._database.reader() as connection:
            statement = "SELECT seq, tail FROM faces WHERE camera = ? AND seq >= ? AND seq < ?"
            rows = connection.execute(statement, (camera, first_seq(first_ms), first_seq(end_ms)))
            return {id_of(seq, tail) for seq, tail in rows}

    def days_of(self, origin: Origin) -> set[int]:
        """Return the days in UTC of which there are faces of a camera, in days since 1970."""
        with self._database.reader() as connection:
            statement = "SELECT DISTINCT quarter / 96 FROM counts WHERE camera = ?"
            return {day for (day,) in connection.execute(statement, (self._cameras.get(origin),))}

    def get(self, origin: Origin, face_id: str) -> IndexedFace | None:
        """Return a face; None if it is not known."""
        camera = self._cameras.get(origin)
        if camera is None:
            return None
        with self._lock:
            found, _ = self._find(IndexedFace(origin, face_id), camera)
        return None if found is None else unpack(found, origin)

    def cameras(self) -> list[Camera]:
        """Return the cameras of which there are faces, sorted by name."""
        found = []
        with self._database.reader() as connection:
            for origin, number in sorted(self._cameras.items()):
                counted = connection.execute("SELECT sum(count) FROM counts WHERE camera = ?", (number,)).fetchone()
                newest = connection.execute("SELECT max(seq) FROM faces WHERE camera = ?", (number,)).fetchone()
                if counted[0]:
                    found.append(Camera(origin, counted[0], ms_of(newest[0])))
        return found

    def page(self, filters: Filters, *, before: str | None = None, limit: int = 60, stacked: bool = True) -> Page:
        """Return tiles, newest first.

        Args:
            filters: which faces.
            before: the ``next`` of the page before.
            limit: maximum number of tiles.
            stacked: one tile per visit; otherwise one per picture.

        Raises:
            BadQuery: ``before`` is not the ``next`` of a page.
        """
        with self._database.reader() as connection:
            query = queries.Query(connection, self._matching(filters), filters, self._zone)
            return query.page(queries.parse_cursor(before), limit, stacked=stacked)

    def visit(self, origin: Origin, face_id: str, filters: Filters) -> tuple[IndexedFace, ...]:
        """Return the pictures of the visit that a face is part of, newest first; empty if the face is not known."""
        seen = self.get(origin, face_id)
        if seen is None:
            return ()
        with self._database.reader() as connection:
            query = queries.Query(connection, self._matching(filters), filters, self._zone)
            return query.visit(seen, self._cameras[origin])

    def days(self, filters: Filters) -> list[tuple[date, int]]:
        """Return the days that have faces with their number, newest first. The day in the filters is ignored."""
        with self._database.reader() as connection:
            return queries.Query(connection, self._matching(filters), filters, self._zone).days()

    def count_of_day(self, origin: Origin, day: date) -> int:
        """Return the number of faces of a camera and a day in the zone of the gallery."""
        start, end = (first // QUARTER_MS for first in day_bounds(day, self._zone))
        statement = "SELECT coalesce(sum(count), 0) FROM counts WHERE camera = ? AND quarter >= ? AND quarter < ?"
        with self._database.reader() as connection:
            return int(connection.execute(statement, (self._cameras.get(origin), start, end)).fetchone()[0])

    def neighbours(
        self, origin: Origin, face_id: str, filters: Filters
    ) -> tuple[IndexedFace | None, IndexedFace | None]:
        """Return the next newer and the next older face."""
        seen = self.get(origin, face_id)
        if seen is None:
            return None, None
        with self._lock:
            _, seq = self._find(seen, self._cameras[origin])
        with self._database.reader() as connection:
            query = queries.Query(connection, self._matching(filters), filters, self._zone)
            return query.newer(seq), query.older(seq)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _matching(self, filters: Filters) -> dict[int, Origin]:
        return {
            number: origin
            for origin, number in self._cameras.items()
            if filters.device in (None, origin.device) and filters.camera in (None, origin.camera)
        }

    def _number_of(self, origin: Origin) -> int:
        number = self._cameras.get(origin)
        if number is None:
            statement = "INSERT INTO cameras (device, camera) VALUES (?, ?) RETURNING number"
            number = int(self._database.writer.execute(statement, origin).fetchone()[0])
            self._cameras = {**self._cameras, origin: number}  # readers iterate over the old one
        return number

    def _find(self, face: IndexedFace, camera: int) -> tuple[Row | None, int]:
        """Return the row of a face and its number; or None, and a number that is free."""
        first, end = first_seq(face.captured_ms), first_seq(face.captured_ms + 1)
        rows = self._database.writer.execute(f"SELECT {COLUMNS} FROM faces WHERE seq >= ? AND seq < ?", (first, end))
        taken = {}
        for row in rows:
            if (row[1], row[2]) == (camera, tail_of(face.id)):
                return row, row[0]
            taken[row[0]] = row
        seq = seq_of(face)
        while seq in taken:
            seq = seq + 1 if seq + 1 < end else first
        return None, seq

    def _count_up(self, changes: Counter[tuple[int, int, int, int]]) -> None:
        self._database.writer.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (camera, quarter, band, grade) DO UPDATE SET count = count + excluded.count",
            [(*key, change) for key, change in changes.items() if change],
        )
        emptied = [key for key, change in changes.items() if change < 0]
        self._database.writer.executemany(
            "DELETE FROM counts WHERE camera = ? AND quarter = ? AND band = ? AND grade = ? AND count = 0", emptied
        )

    def _remember(self, names: Iterable[Name]) -> None:
        now = time.monotonic()
        for name in names:
            self._recent[name] = now
            self._recent.move_to_end(name)
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._database)


class _Transaction:
    """BEGIN and COMMIT, or ROLLBACK after an exception."""

    def __init__(self, database: Database) -> None:
        self._writer = database.writer

    def __enter__(self) -> None:
        self._writer.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._writer.execute("COMMIT")
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")


def _count_key(row: Row) -> tuple[int, int, int, int]:
    seq, camera, _, confidence, _, _, quality = row
    band = -1 if confidence in (None, NO_CONFIDENCE) else min(20, (confidence or 0) // 50)
    grade = -1 if quality is None else quality // 100
    return camera, ms_of(seq) // QUARTER_MS, band, grade
