"""Reads the faces in an outbox file without SQLite: in a damaged file, or in one that cannot be written.

Each row is found by its own bytes, and is accepted only if it has its digest. So a damaged page costs only the rows
whose bytes are in it, and nothing that is damaged is taken for a face.
Format: https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.detector.delivery.storage.pages import PAGE_BYTES, Pages
from edge.detector.delivery.storage.records import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_LEAF,
    as_varint,
    column_bytes,
    decode,
    pointers_in,
    record_bytes,
    varint,
)
from edge.detector.delivery.storage.row import Row
from wire.errors import BadMessage

_MAX_LOCAL_BYTES = PAGE_BYTES - 35
_MIN_LOCAL_BYTES = (PAGE_BYTES - 12) * 32 // 255 - 23
_MAX_ROW_BYTES = 1 << 24
_MAX_SEQUENCE_NUMBER = 1 << 53
"""A greater sequence number is damaged."""
_COLUMN_COUNTS = (6, 9)
"""Number of columns in a row of version 1 and of version 2."""
_ID_BYTES = 36
_ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_FIRST_TYPES = b"\x00\x55"
_ROW = re.compile(rb"[\x08-\x20]\x00\x55(?=.{4,28}?" + _ID + rb")", re.DOTALL)
"""First bytes of a record: length of its header, NULL for ``seq``, text of 36 bytes for ``id``. The id follows soon."""
_INDEX_RECORD = re.compile(rb"\x03\x55[\x01-\x09](" + _ID + rb")", re.DOTALL)
_INDEX_ROOT = re.compile(rb"indexsqlite_autoindex_faces_1faces(.)", re.DOTALL)

_Versions = Mapping[int, int]
"""Offsets of the pages in the WAL, by page number."""


@dataclass(frozen=True, slots=True)
class _Record:
    """Where the record of a row begins, and what its header says."""

    seq: int | None
    """Sequence number; None if it is damaged."""
    id: str
    page: int
    at: int
    """Offset in the page, in bytes."""
    types: tuple[int, ...]
    """Serial type of each column."""
    versions: _Versions
    """The versions of the pages among which it was found."""


class Rescue:
    """The faces in an outbox file, read one by one."""

    def __init__(self, path: Path) -> None:
        """Open the file and its WAL for reading, and find the rows.

        Raises:
            OSError: the file cannot be read.
        """
        self.path = path
        self._pages = Pages(path)
        self._is_index_intact = True
        self._seen: set[str] = set()
        wal = self._pages.wal
        newest, intact = wal.newest(), wal.intact()
        self._versions = (newest, intact) if newest != intact else (newest,)
        self._records: dict[str, list[_Record]] = {}
        self._indexed = self._ids_in_index(newest)
        for number, page in self._pages.all(newest):
            self._find(number, page, newest)
        self._unseen = self._indexed | self._records.keys()
        differing = {number for number in newest.keys() | intact.keys() if newest.get(number) != intact.get(number)}
        for number in differing:
            self._find(number, self._pages.read(number, intact), intact)
        self.has_damaged_commit = any(
            records[0].page in differing and all(record.versions is newest for record in records)
            for records in self._records.values()
        )
        """Whether the damaged end of the WAL has rows that SQLite would ignore."""
        self._waiting = sorted(self._records, key=lambda face_id: self._records[face_id][0].seq or 0, reverse=True)
        self.last_seq = max((record[0].seq or 0 for record in self._records.values()), default=0)
        """The greatest sequence number in the file."""

    @property
    def remaining(self) -> int:
        """Number of rows that are not read yet, intact or not."""
        return len(self._waiting)

    @property
    def had_errors(self) -> bool:
        """Whether the disk could not read something, so that more faces may be in the file."""
        return self._pages.had_errors

    @property
    def is_complete(self) -> bool:
        """Whether all faces in the file are known to be read: its index is intact, and each of its faces was read."""
        is_known = self._pages.is_empty or self._is_index_intact
        return is_known and not (self.had_errors or self._waiting or self.lost)

    @property
    def lost(self) -> set[str]:
        """Ids of the faces in the file that were not among the rows read so far.

        An id that differs in one bit from that of a row read, or from one in the index, is the same one, damaged.
        """
        return {
            face_id
            for face_id in self._unseen
            if not any(
                similar in self._seen or (similar in self._indexed and face_id not in self._indexed)
                for similar in _ids_like(face_id)
            )
        }

    def rows(self) -> Iterator[tuple[int | None, Row]]:
        """Yield each row that is intact, the oldest first, with its sequence number, None if that is damaged."""
        while self._waiting:
            face_id = self._waiting.pop()
            row = next(self._intact(face_id), None)
            if row is not None:
                self._unseen.discard(face_id)
                self._seen.add(face_id)
                yield self._records[face_id][0].seq, row

    def close(self) -> None:
        """Close the files."""
        self._pages.close()

    def _intact(self, face_id: str) -> Iterator[Row]:
        for record in self._records[face_id]:
            for versions in self._versions:
                try:
                    row = _row(self._payload(record, versions), record.types)
                    row.checked()
                except BadMessage:
                    continue
                if row.id == face_id:
                    yield row

    def _payload(self, record: _Record, versions: _Versions) -> bytes:
        """Return a record, whose later part may be in a chain of overflow pages."""
        size = record_bytes(record.types)
        page = self._pages.read(record.page, record.versions)
        if size <= _MAX_LOCAL_BYTES:
            return page[record.at : record.at + size]
        local = _MIN_LOCAL_BYTES + (size - _MIN_LOCAL_BYTES) % (PAGE_BYTES - 4)
        end = record.at + (local if local <= _MAX_LOCAL_BYTES else _MIN_LOCAL_BYTES)
        parts, missing = [page[record.at : end]], size - (end - record.at)
        following = int.from_bytes(page[end : end + 4])
        while missing > 0 and following:
            page = self._pages.read(following, versions)
            parts.append(page[4 : 4 + missing])
            missing -= len(parts[-1])
            following = int.from_bytes(page[:4])
        return b"".join(parts)

    def _find(self, number: int, page: bytes, versions: _Versions) -> None:
        """Find the rows in a page.

        Pages also have remains of rows that were moved or deleted. So a row counts if the page points to it or the
        index has it, or if the page is damaged.
        """
        found: dict[int, _Record] = {}
        at = page.find(_FIRST_TYPES)
        while at > 0:
            record = _parse(page, at - 1, number, versions) if _ROW.match(page, at - 1) else None
            if record is not None:
                found[_cell(page, record)[1]] = record
            at = page.find(_FIRST_TYPES, at + 1)
        if not found:
            return
        pointers = set(pointers_in(page))
        is_sound = page[0] == TABLE_LEAF and pointers <= found.keys()
        for start, record in found.items():
            if start in pointers or record.id in self._indexed or not is_sound:
                self._records.setdefault(record.id, []).append(record)

    def _ids_in_index(self, versions: _Versions) -> set[str]:
        """Return the ids in the index of the table, as far as it can be read."""
        ids: set[str] = set()
        root = _INDEX_ROOT.search(self._pages.read(1, versions))
        pages, seen = [root[1][0]] if root else [], set[int]()
        self._is_index_intact = root is not None
        while pages:
            number = pages.pop()
            page = self._pages.read(number, versions)
            if number in seen or page[0] not in (INDEX_LEAF, INDEX_INTERIOR):
                self._is_index_intact = False
                continue
            seen.add(number)
            skipped = 4 if page[0] == INDEX_INTERIOR else 0
            for pointer in pointers_in(page):
                record = _INDEX_RECORD.match(page, pointer + skipped + 1)
                if record:
                    ids.add(record[1].decode())
                else:
                    self._is_index_intact = False
                if skipped:
                    pages.append(int.from_bytes(page[pointer : pointer + 4]))
            if skipped:
                pages.append(int.from_bytes(page[8:12]))
        return ids


def _parse(page: bytes, at: int, number: int, versions: _Versions) -> _Record | None:
    """Return the record at an offset of a page; None if there is none."""
    end = at + page[at]
    types: list[int] = []
    position = at + 1
    while position < end <= len(page) - _ID_BYTES:
        value, position = varint(page, position)
        types.append(value)
    if position != end or len(types) not in _COLUMN_COUNTS or record_bytes(tuple(types)) > _MAX_ROW_BYTES:
        return None
    face_id = page[end : end + _ID_BYTES].decode("ascii", "replace")
    record = _Record(None, face_id, number, at, tuple(types), versions)
    seq, _ = _cell(page, record)
    return _Record(seq, face_id, number, at, tuple(types), versions)


def _cell(page: bytes, record: _Record) -> tuple[int | None, int]:
    """Return the sequence number before a record, None if it is damaged, and the offset at which its cell begins."""
    size = as_varint(record_bytes(record.types))
    for length in range(1, 9):
        start = record.at - length - len(size)
        if start >= 0 and page.startswith(size, start):
            seq, end = varint(page, record.at - length)
            if end == record.at:
                return seq if seq <= _MAX_SEQUENCE_NUMBER else None, start
    return None, -record.at  # not an offset, and different for each record


def _row(payload: bytes, types: tuple[int, ...]) -> Row:
    """Decode a record.

    Raises:
        BadMessage: it is too short, or a column has another type.
    """
    values: list[object] = []
    at = payload[0] if payload else 0
    for kind in types:
        size = column_bytes(kind)
        values.append(decode(payload[at : at + size], kind))
        at += size
    _, face_id, camera, _, packed, jpeg, digest, boot, captured = [*values, None, None, None][:9]
    captured = float(captured) if isinstance(captured, int) else captured  # SQLite stores 3.0 as 3
    if not (
        at == len(payload)
        and isinstance(face_id, str)
        and isinstance(camera, str)
        and isinstance(packed, bytes)
        and isinstance(jpeg, bytes)
        and isinstance(digest, bytes | None)
        and isinstance(boot, str | None)
        and isinstance(captured, float | None)
    ):
        raise BadMessage("the record is damaged")
    return Row(face_id, camera, packed, jpeg, digest, boot, captured)


def _ids_like(face_id: str) -> Iterator[str]:
    """Yield the texts that differ from an id in one bit."""
    text = face_id.encode()
    for at, byte in enumerate(text):
        for bit in range(7):
            yield (text[:at] + bytes((byte ^ 1 << bit,)) + text[at + 1 :]).decode("ascii", "replace")
