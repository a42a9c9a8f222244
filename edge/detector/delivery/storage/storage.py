"""The tables of the outbox, kept usable whatever the disk does.

An error of SQLite ends nothing: a damaged file is replaced by a fresh one to which its faces are moved, and a file that
can no longer be written is read into memory. A damaged face is set aside.
"""

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import structlog

from edge.detector.delivery.storage.disk_room import DiskFull, is_read_only
from edge.detector.delivery.storage.faults import Fault, fault_of
from edge.detector.delivery.storage.file import OutboxFile
from edge.detector.delivery.storage.pages import PAGE_BYTES
from edge.detector.delivery.storage.rescue import Rescue
from edge.detector.delivery.storage.row import Row
from edge.detector.delivery.storage.table import OutboxTable, Receipt, size_on_disk

SPARE_PAGES = 16
"""Pages allocated beyond the faces themselves, for the inner pages of table and index."""
RESCUED_AT_ONCE_BYTES = 1 << 26
"""Faces that are moved from a damaged file at once, in bytes. The rest follows step by step."""
_STEP_FACES = 16
"""Faces moved from a damaged file in one transaction."""
_MAX_MEMORY_BYTES = 1 << 25
"""Size of the faces that are in memory at once when the file cannot be written."""
RETRY_SECONDS = 30.0
"""Time after which a file that could not be written, or a face that could not be read, is tried again."""

_T = TypeVar("_T")
_log = structlog.get_logger("outbox")


class OutboxStorage:
    """The tables of the outbox, and what is known about them. Its owner sees to it that one thread uses it at a time.

    Raises:
        ConfigurationError: see :class:`OutboxFile`.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.rows = self.bytes = self.untimed = self.dropped = 0
        self.device: str | None = None
        self.damaged_ids: set[str] = set()
        """Faces that are lost because their bytes in the file changed."""
        self.set_aside_rows: set[int] = set()
        """Sequence numbers of those whose rows are still in the table."""
        self.unreadable: dict[int, float] = {}
        """Faces that the disk could not read, with the time at which they are tried again."""
        self.unwritten: dict[Receipt, int | None] = {}
        """Receipts that are not written, with the sequence number of the face if its row is still in the table."""
        self.disk_problem = ""
        """Why the last write failed; empty if it succeeded."""
        self._max_bytes = max_bytes
        self._delivered: set[str] = set()
        """Faces delivered while there was a source: they are not to be moved from it."""
        self._unmoved: list[tuple[int | None, Row]] = []
        """Faces that are read from the source, and not in the table yet."""
        self._postponed = 0
        """Faces that stay in the source, as their capture time is unknown and the file cannot be written."""
        self._retry_at = self._unreadable_told_at = 0.0
        self._unreadable_untold = 0
        self.file = OutboxFile(path)
        self._load()

    @property
    def waiting_count(self) -> int:
        """Number of faces that are neither delivered nor damaged."""
        hidden = len(self.set_aside_rows) + sum(seq is not None for seq in list(self.unwritten.values()))
        source = self.file.source
        return self.rows - hidden + self._postponed + len(self._unmoved) + (source.remaining if source else 0)

    @property
    def hidden(self) -> set[int]:
        """Sequence numbers of the rows in the table that are not to be sent."""
        receipted = {seq for seq in self.unwritten.values() if seq is not None}
        return self.set_aside_rows | receipted | self.unreadable.keys()

    def is_hidden(self, seq: int) -> bool:
        """Return whether a row in the table is not to be sent."""
        return seq in self.set_aside_rows or seq in self.unreadable or seq in self.unwritten.values()

    def attempt(self, work: Callable[[], _T], default: _T) -> _T:
        """Return what ``work`` returns, or ``default`` if the disk does not let it.

        ``work`` is called again after the file was replaced. What failed is in :attr:`disk_problem`.
        """
        for _ in range(3):
            try:
                return work()
            except DiskFull as error:
                self.disk_problem = f"disk full: {error}"
                return default
            except sqlite3.Error as error:
                fault = fault_of(error)
                if fault is Fault.DAMAGED and not self.file.unwritable:
                    self._replace_damaged(error)
                elif fault in (Fault.READ_ONLY, Fault.FAILING) and is_read_only(self.file.path):
                    self.file.use_memory(f"read-only ({error})")
                else:
                    self.disk_problem = f"{fault.value}: {error}"
                    return default
            except OSError as error:
                self.disk_problem = f"{Fault.FAILING.value}: {error}"
                return default
            self._load()
            self.rescue(RESCUED_AT_ONCE_BYTES)
        return default

    def set_aside(self, seq: int, face_id: str, reason: str) -> None:
        """Keep a damaged face where it is, count it, and never return it again."""
        _log.error("face damaged on the disk, set aside", id=face_id, seq=seq, reason=reason)
        self.set_aside_rows.add(seq)
        self.damaged_ids.add(face_id)
        self.attempt(lambda: self.table.set_aside([(face_id, seq, reason)]), None)

    def note_delivered(self, face_id: str) -> None:
        """Note that a face is delivered, which may not have been moved from the source yet."""
        if self.file.source is not None or self._unmoved:
            self._delivered.add(face_id)

    def note_written(self) -> None:
        """Note that the disk could be written. It may be full all the same."""
        if self.disk_problem.startswith(Fault.FAILING.value):
            self.disk_problem = ""

    def rescue(self, budget: int) -> bool:
        """Move up to ``budget`` bytes of faces from the source to the table, and return whether it has more."""
        limit = _MAX_MEMORY_BYTES if self.file.unwritable else self._max_bytes
        while self.file.source is not None and budget > 0:
            if not self._unmoved:
                self._unmoved = list(itertools.islice(self._readable_rows(self.file.source), _STEP_FACES))
            if not self._unmoved:
                self._finish_rescue()
                continue
            size = sum(size_on_disk(row) for _, row in self._unmoved)
            if self.rows and self.bytes + size > limit:
                return False
            moved = self.attempt(self._move, -1)
            if moved < 0 and (self.rows or self.file.unwritable or not self.disk_problem.startswith(Fault.FULL.value)):
                return False
            if moved < 0:
                self.file.rescue_in_memory()
                self._load()
            budget -= moved
        return self.file.source is not None

    def note_unreadable(self, seq: int) -> None:
        """Note that the disk could not read a face, so that it is tried again later."""
        self.unreadable[seq] = time.monotonic() + RETRY_SECONDS
        self._unreadable_untold += 1
        self._tell_unreadable()

    def retry(self) -> None:
        """Try again what failed a while ago: to write the file, and to read faces."""
        now = time.monotonic()
        self.unreadable = {seq: at for seq, at in self.unreadable.items() if at > now}
        self._tell_unreadable()
        if now < self._retry_at:
            return
        self._retry_at = now + RETRY_SECONDS
        if self.file.unwritable and self.file.leave_memory(self._is_delivered()):
            if not self.file.unwritable:
                _log.info("outbox can be written again", path=str(self.file.path))
            self._load()
        if not self.file.unwritable:
            self.file.retention.delete_old()
            if self.disk_problem.startswith(Fault.FULL.value) and self.file.room.has_room:
                self.disk_problem = ""
            self.attempt(self.file.space.allocate_wal, None)
            if self.file.source is None and self.file.resume_rescue() is not None:
                self._skip_source()

    def _is_delivered(self) -> bool:
        return self.waiting_count == 0 and self.file.source is None and not self.damaged_ids

    def _tell_unreadable(self) -> None:
        now = time.monotonic()
        if self._unreadable_untold and now >= self._unreadable_told_at:
            _log.error("faces not read, tried again later", faces=self._unreadable_untold, reason=self.disk_problem)
            self._unreadable_untold, self._unreadable_told_at = 0, now + RETRY_SECONDS

    def _readable_rows(self, source: Rescue) -> Iterator[tuple[int | None, Row]]:
        """Yield the rows that are to be moved. Those whose time is unknown would fill the memory: they stay."""
        for seq, row in source.rows():
            if self.file.unwritable and row.boot is not None:
                self._postponed += 1
                self.untimed += 1
            else:
                yield seq, row

    def _load(self) -> None:
        """Read what the tables contain, after the file was opened or replaced."""
        self._delivered |= {face_id for face_id, _ in self.unwritten}
        try:
            self._read_tables()
        except sqlite3.Error as error:
            if self.file.unwritable or fault_of(error) is not Fault.DAMAGED:
                self._use_memory(error)
                return
            self._replace_damaged(error)
            try:
                self._read_tables()
            except sqlite3.Error as again:
                self._use_memory(again)
                return
        self._skip_source()

    def _replace_damaged(self, error: sqlite3.Error) -> None:
        self.file.replace_damaged(str(error))
        self.rows = 0

    def _read_tables(self) -> None:
        self.table = OutboxTable(self.file.database)
        content = self.table.content()
        unwritten = {receipt: self.table.seq_of(receipt) for receipt in self.unwritten}
        self.rows, self.bytes, self.untimed = content.faces, content.bytes, content.untimed
        self.dropped, self.device = max(self.dropped, content.dropped), content.device or self.device
        self.damaged_ids |= {face_id for face_id, _ in content.damaged}
        self.set_aside_rows = {seq for _, seq in content.damaged if seq is not None}
        self.unreadable, self._unmoved, self._postponed, self.unwritten = {}, [], 0, unwritten

    def _use_memory(self, error: sqlite3.Error) -> None:
        """Read the file into memory, or the damaged one if its faces are not moved yet."""
        reason = f"{fault_of(error).value} ({error})"
        if self.rows:
            self.file.use_memory(reason)
        else:
            self.file.rescue_in_memory(reason)
        self._read_tables()

    def _skip_source(self) -> None:
        """Give later faces greater sequence numbers than those in the source. In memory, there are no later ones."""
        if self.file.source is None or self.file.unwritable:
            return
        try:
            self.table.skip_to(self.file.source.last_seq)
        except sqlite3.Error as error:
            self._use_memory(error)

    def _move(self) -> int:
        """Move the faces that are read from the source to the table, and return their size in bytes."""
        rows = [(seq, row) for seq, row in self._unmoved if row.id not in self._delivered]
        size = sum(size_on_disk(row) for _, row in rows)
        if not self.file.unwritable:
            self.file.space.allocate(size // PAGE_BYTES + SPARE_PAGES)
        added = self.table.insert_rescued(rows)
        self._unmoved = []
        self.rows += len(added)
        self.bytes += sum(map(size_on_disk, added))
        self.untimed += sum(row.boot is not None for row in added)
        return size

    def _finish_rescue(self) -> None:
        source = self.file.source
        lost = sorted((source.lost if source else set()) - self._delivered - self.damaged_ids)
        if lost:
            _log.error("faces damaged on the disk, lost", ids=lost)
            self.damaged_ids.update(lost)
            self.attempt(lambda: self.table.set_aside([(face_id, None, "not readable") for face_id in lost]), None)
        if source is None or self.file.source is not source:  # the file was replaced
            return
        if self.file.finish_rescue(source.is_complete) is not None:
            self._skip_source()
        elif not self.file.unwritable and not self.file.is_rescuing:
            self._delivered.clear()
            self.attempt(self.table.forget_settled, None)
