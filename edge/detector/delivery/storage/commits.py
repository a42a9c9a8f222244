"""Commits faces, and drops the oldest ones where these do not fit."""

import sqlite3
from collections.abc import Sequence

from edge.detector.delivery.storage.disk_room import DiskFull
from edge.detector.delivery.storage.faults import Fault, fault_of
from edge.detector.delivery.storage.pages import PAGE_BYTES
from edge.detector.delivery.storage.row import Row
from edge.detector.delivery.storage.storage import SPARE_PAGES, OutboxStorage
from edge.detector.delivery.storage.table import Removed, size_on_disk

_STEP_FACES = 8
"""Faces dropped in one transaction beyond those that have to make room, after the limit was lowered."""


class Commits:
    """Commits the faces of one frame in one transaction. Its errors are left to the caller."""

    def __init__(self, storage: OutboxStorage, max_bytes: int) -> None:
        self._storage, self._max_bytes = storage, max_bytes

    def drop_excess(self) -> list[str]:
        """Drop a few faces if they take more than the limit, and return their ids."""
        return self._insert([], None, is_disk_full=False)

    def store(self, rows: Sequence[Row], device: str | None) -> list[str]:
        """Commit rows, and return the ids of the faces that were dropped."""
        try:
            return self._insert(rows, device, is_disk_full=False)
        except (sqlite3.OperationalError, DiskFull) as error:
            if isinstance(error, sqlite3.Error) and fault_of(error) is not Fault.FULL:
                raise
            self._storage.file.space.checkpoint()
            has_filled_the_disk = 2 * self._storage.bytes >= self._storage.file.room.capacity
            return self._insert(rows, device, is_disk_full=has_filled_the_disk)

    def _insert(self, rows: Sequence[Row], device: str | None, is_disk_full: bool) -> list[str]:
        storage = self._storage
        needed = sum(map(size_on_disk, rows))
        pages = needed // PAGE_BYTES + SPARE_PAGES
        with storage.file.database:
            dropped, removed = self._make_room(needed, pages if is_disk_full else 0)
            if rows:
                storage.file.space.allocate(pages)
                storage.table.insert(rows, device if device != storage.device else None)
        storage.rows += len(rows) - len(dropped)
        storage.bytes += needed - removed.bytes
        storage.untimed += sum(row.boot is not None for row in rows) - removed.untimed
        storage.dropped += len(dropped)
        storage.device = device or storage.device
        return dropped

    def _make_room(self, needed: int, pages: int) -> tuple[list[str], Removed]:
        """Drop the oldest faces until ``needed`` bytes fit in the limit and ``pages`` pages of the file are unused.

        After the limit was lowered, only a few are dropped at once beyond what is needed.
        """
        storage, dropped, removed = self._storage, list[str](), Removed([])
        while True:
            is_above = storage.bytes - removed.bytes + needed > self._max_bytes
            is_enough = removed.bytes >= needed and len(dropped) >= _STEP_FACES
            if not (is_above and not is_enough) and storage.file.space.unused_pages() >= pages:
                break
            hidden = storage.hidden
            seq = next((seq for seq in storage.table.oldest(1 + len(hidden)) if seq not in hidden), None)
            if seq is None:
                if pages:
                    raise DiskFull("a frame's faces are larger than what the disk has room for")
                break
            face_id, size, is_untimed = storage.table.drop(seq)
            dropped.append(face_id)
            removed.bytes += size
            removed.untimed += is_untimed
        if dropped:
            storage.table.count_dropped(len(dropped))
        return dropped, removed
