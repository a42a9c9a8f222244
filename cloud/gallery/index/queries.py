"""Answers of the index: pages of tiles, the pictures of a visit, days with counts, and neighbours in time.

A query never looks at more than :data:`MAX_SCANNED` faces. If it has not found enough by then, the page is shorter and
names where the next one begins. Where no face matches, the counts say how far to go on.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cloud.gallery.index.face import MAX_COUNT, MAX_GAP_MS, IndexedFace, Page, Tile
from cloud.gallery.index.filters import BadQuery, Filters
from cloud.gallery.index.row import COLUMNS, TAIL_BITS, Row, first_seq, ms_of, unpack
from wire.topics import Origin

MAX_SCANNED = 60_000
_SCAN = 2_000
"""Number of faces that one statement looks at."""
_QUARTER_SECONDS = 900
_GAP = MAX_GAP_MS << TAIL_BITS
_END = (1 << 63) - 1
_MATCHES = "coalesce(confidence, -1) >= ? AND coalesce(quality, -1) >= ?"
"""The condition of the least confidence and quality."""


def parse_cursor(text: str | None) -> int:
    """Return the number before which a page begins.

    Raises:
        BadQuery: the text is not the ``next`` of a page.
    """
    if not text:
        return _END
    if len(text) > 19 or not (text.isascii() and text.isdecimal()) or int(text) > _END:
        raise BadQuery(f"before is {text[:80]!r}: expected the value of next in an earlier answer")
    return int(text)


class Query:
    """The faces that match some filters, in one state of the file."""

    def __init__(
        self, connection: sqlite3.Connection, cameras: dict[int, Origin], filters: Filters, zone: ZoneInfo
    ) -> None:
        self._connection, self._cameras, self._filters, self._zone = connection, cameras, filters, zone
        self._every_camera = filters.device is None and filters.camera is None
        self._confidence = round(filters.confidence * 1000) or -1
        self._quality = round(filters.quality * 1000) or -1

    def page(self, before: int, limit: int, *, stacked: bool) -> Page:
        """Return at most ``limit`` tiles of faces before a number."""
        tiles: list[Tile] = []
        scanned = 0
        for first, end in self._ranges(before):
            position = min(end, before)
            while position > first:
                rows, reached = self._scan(first, position, limit)
                for row in rows:
                    if not stacked or self._is_newest(row, end):
                        tiles.append(self._tile(row, first, stacked=stacked))
                        if len(tiles) == limit:
                            return Page(tuple(tiles), str(row[0]))
                scanned += _SCAN
                position = reached if rows else self._skip(first, reached)
                if scanned >= MAX_SCANNED and position > first:
                    return Page(tuple(tiles), str(position))
        return Page(tuple(tiles), None)

    def visit(self, face: IndexedFace, camera: int) -> tuple[IndexedFace, ...]:
        """Return the pictures of the visit that ``face`` is part of, newest first."""
        if face.track is None:
            return (face,)
        first, end = self._range_of(face.captured_ms)
        middle = first_seq(face.captured_ms + 1)
        newer = self._chain(camera, face.track, middle, end, "ASC", face.captured_ms)
        older = self._chain(camera, face.track, first, middle, "DESC", face.captured_ms)
        half = MAX_COUNT // 2
        rows = [*reversed(list(islice(newer, half))), *islice(older, MAX_COUNT - half)]
        return tuple(unpack(row, face.origin) for row in rows)

    def days(self) -> list[tuple[date, int]]:
        """Return the days that have faces with their number, newest first."""
        statement = "SELECT quarter, sum(count) FROM counts WHERE band >= ? AND grade >= ?"
        parameters = [self._filters.band or -1, self._filters.grade or -1]
        if not self._every_camera:
            statement += f" AND camera IN ({', '.join('?' * len(self._cameras))})"
            parameters += self._cameras
        found: Counter[date] = Counter()
        for quarter, count in self._connection.execute(f"{statement} GROUP BY quarter", parameters):
            day, quarter_of_day = _local(quarter, self._zone)
            if self._filters.includes_quarter(quarter_of_day):
                found[day] += count
        return sorted(found.items(), reverse=True)

    def older(self, seq: int) -> IndexedFace | None:
        """Return the next face before a number."""
        before = str(seq)
        for _ in range(MAX_SCANNED // _SCAN):
            page = self.page(int(before), 1, stacked=False)
            if page.tiles:
                return page.tiles[0].face
            if page.next is None:
                return None
            before = page.next
        return None

    def newer(self, seq: int) -> IndexedFace | None:
        """Return the next face after a number, among the next :data:`MAX_SCANNED`."""
        camera = f"AND camera IN ({', '.join(map(str, self._cameras))})"
        statement = (
            f"SELECT {COLUMNS} FROM (SELECT * FROM faces WHERE seq > ? ORDER BY seq LIMIT {MAX_SCANNED}) "
            f"WHERE {_MATCHES} {camera} ORDER BY seq"
        )
        for row in self._connection.execute(statement, (seq, self._confidence, self._quality)):
            day, quarter = _local(ms_of(row[0]) // 1000 // _QUARTER_SECONDS, self._zone)
            if self._filters.day in (None, day) and self._filters.includes_quarter(quarter):
                return self._face(row)
        return None

    def _ranges(self, before: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of numbers that the filters allow, newest first."""
        filters = self._filters
        if filters.day is not None:
            days = [filters.day]
        elif filters.has_time_of_day:
            days = [day for day, _ in self.days()]
        else:
            yield 0, _END
            return
        for day in days:
            for first_ms, end_ms in filters.ranges_of(day, self._zone):
                if first_seq(first_ms) < before:
                    yield first_seq(first_ms), first_seq(end_ms)

    def _range_of(self, ms: int) -> tuple[int, int]:
        """Return the range of numbers that the filters allow around a time."""
        filters = self._filters
        if filters.day is None and not filters.has_time_of_day:
            return 0, _END
        day, _ = _local(ms // 1000 // _QUARTER_SECONDS, self._zone)
        for first_ms, end_ms in filters.ranges_of(day, self._zone):
            if first_ms <= ms < end_ms:
                return first_seq(first_ms), first_seq(end_ms)
        return first_seq(ms), first_seq(ms + 1)  # a face that the filters exclude, opened by its address

    def _scan(self, first: int, end: int, limit: int) -> tuple[list[Row], int]:
        """Return matching faces of a range, newest first, and the number down to which all have been looked at."""
        if self._every_camera:
            return self._scan_some("", (), first, end)
        rows: list[Row] = []
        reached = first
        for camera in self._cameras:
            found, down_to = self._scan_some("camera = ? AND ", (camera,), first, end)
            rows += found
            reached = max(reached, down_to)
        return sorted((row for row in rows if row[0] >= reached), key=lambda row: -row[0]), reached

    def _scan_some(self, condition: str, parameters: tuple[int, ...], first: int, end: int) -> tuple[list[Row], int]:
        statement = f"SELECT {COLUMNS} FROM faces WHERE {condition}seq >= ? AND seq < ? ORDER BY seq DESC LIMIT {_SCAN}"
        rows: list[Row] = self._connection.execute(statement, (*parameters, first, end)).fetchall()
        reached = first if len(rows) < _SCAN else rows[-1][0]
        return [row for row in rows if self._matches(row)], reached

    def _matches(self, row: Row) -> bool:
        """Return whether a face has the least confidence and quality."""
        confidence, quality = (-1 if value is None else value for value in (row[3], row[6]))
        return confidence >= self._confidence and quality >= self._quality

    def _skip(self, first: int, end: int) -> int:
        """Return a number below ``end`` down to which no face matches, by the counts."""
        if end <= first:
            return end
        newest = self._connection.execute(
            f"SELECT max(quarter) FROM counts WHERE quarter <= ? AND band >= ? AND grade >= ? "
            f"AND camera IN ({', '.join(map(str, self._cameras))})",
            (ms_of(end) // 1000 // _QUARTER_SECONDS, self._filters.band or -1, self._filters.grade or -1),
        ).fetchone()[0]
        if newest is None:
            return first
        return max(first, min(end, first_seq((newest + 1) * _QUARTER_SECONDS * 1000)))

    def _is_newest(self, row: Row, end: int) -> bool:
        """Return whether no later face of the filters belongs to the same visit."""
        seq, camera, _, _, track, *_ = row
        if track is None:
            return True
        later = self._connection.execute(
            f"SELECT 1 FROM faces WHERE camera = ? AND track = ? AND seq > ? AND seq < ? AND {_MATCHES} LIMIT 1",
            (camera, track, seq, min(end, seq + _GAP), self._confidence, self._quality),
        )
        return later.fetchone() is None

    def _tile(self, row: Row, first: int, *, stacked: bool) -> Tile:
        face = self._face(row)
        if not stacked or row[4] is None:
            return Tile(face, 1, face, face.captured_ms)
        chain = self._chain(row[1], row[4], first, row[0] + 1, "DESC", face.captured_ms)
        rows = list(islice(chain, MAX_COUNT))
        pictures = [face, *(self._face(one) for one in rows[1:])]
        best = max(pictures, key=lambda picture: (picture.quality or 0.0, picture.confidence or 0.0, picture.size))
        return Tile(face, len(pictures), best, ms_of(rows[-1][0]))

    def _chain(self, camera: int, track: int, first: int, end: int, order: str, ms: int) -> Iterator[Row]:
        """Yield the faces of a track in a range until there is a gap, from the time ``ms`` on."""
        statement = (
            f"SELECT {COLUMNS} FROM faces WHERE camera = ? AND track = ? AND seq >= ? AND seq < ? "
            f"AND {_MATCHES} ORDER BY seq {order}"
        )
        least = (self._confidence, self._quality)
        row: Row
        for row in self._connection.execute(statement, (camera, track, first, end, *least)):
            if abs(ms_of(row[0]) - ms) > MAX_GAP_MS:
                return
            ms = ms_of(row[0])
            yield row

    def _face(self, row: Row) -> IndexedFace:
        return unpack(row, self._cameras[row[1]])


@lru_cache(maxsize=100_000)
def _local(quarter: int, zone: ZoneInfo) -> tuple[date, int]:
    """Return the day and the quarter of an hour of the day in a zone, of a quarter since 1970."""
    moment = datetime.fromtimestamp(quarter * _QUARTER_SECONDS, UTC).astimezone(zone)
    return moment.date(), moment.hour * 4 + moment.minute // 15
