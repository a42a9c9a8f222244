"""The space in the outbox's file: allocated before it is needed, and given back to the disk while it is unused."""

import sqlite3
import time

from edge.detector.delivery.storage.disk_room import DiskFull, DiskRoom
from edge.detector.delivery.storage.pages import PAGE_BYTES, wal_bytes_of
from edge.detector.delivery.storage.schema import VERSION

_MAX_CHECKPOINT_PAGES = 1000
_KEPT_PAGES = 1024
"""Unused pages that the file keeps for the next faces."""
_VACUUM_PAGES = 64
"""Pages given back to the disk in one step."""
_ERASE_SECONDS = 60.0
"""Minimum interval in which delivered faces are erased from the write-ahead log, as that wears flash memory."""


class FileSpace:
    """The space in a database and its write-ahead log."""

    def __init__(self, database: sqlite3.Connection, room: DiskRoom) -> None:
        self.is_wal_missing = False
        """Whether the disk has no room for the write-ahead log."""
        self._database, self._room = database, room
        self._can_vacuum = True
        self._erased_changes, self._erase_at = -1, 0.0
        self._allocate_wal()

    def checkpoint(self) -> None:
        """Copy the write-ahead log to the database, so that it is written from its beginning again."""
        self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def allocate(self, pages: int) -> None:
        """Allocate room for so many pages, in the transaction that is open.

        Raises:
            DiskFull: the disk has no room for them, or none for the write-ahead log: then nothing could be deleted.
        """
        if self.is_wal_missing:
            raise DiskFull("no room for the write-ahead log")
        free = self.unused_pages()
        if free < pages:
            (count,) = self._database.execute("PRAGMA page_count").fetchone()
            self._room.allocate_database((count + pages - free) * PAGE_BYTES)

    def allocate_wal(self) -> None:
        """Allocate the write-ahead log, if the disk has had no room for it."""
        if self.is_wal_missing:
            self._allocate_wal()

    def unused_pages(self) -> int:
        """Return the number of pages in the file that are unused."""
        (count,) = self._database.execute("PRAGMA freelist_count").fetchone()
        return int(count)

    def give_back_space(self, is_empty: bool) -> bool:
        """Give a few unused pages back to the disk, and return whether there are more.

        A file of version 1 of the schema cannot do that, and is converted as soon as it is empty.
        """
        unused = self.unused_pages()
        if unused <= _KEPT_PAGES:
            return False
        if self._database.execute("PRAGMA auto_vacuum").fetchone() != (0,):
            self._database.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            return unused - _VACUUM_PAGES > _KEPT_PAGES
        if is_empty and self._can_vacuum:
            self._can_vacuum = False
            self._database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._database.execute("VACUUM")
        return False

    def erase_delivered(self) -> None:
        """Erase the pictures of delivered faces from both files, if the outbox is empty and something has changed.

        Deleted rows are overwritten in the database, but that too is written to the write-ahead log first, whose older
        part stays as it is. So all of the log is copied to the database, SQLite begins it anew with one small
        transaction, and what is behind that in the log is overwritten.
        """
        database, now = self._database, time.monotonic()
        if self.is_wal_missing or database.total_changes == self._erased_changes or now < self._erase_at:
            return
        self._erase_at = now + _ERASE_SECONDS
        database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        # It has this version. SQLite writes the page all the same, but not for a row that stays as it is.
        database.execute(f"PRAGMA user_version = {VERSION}")
        (_, frames, _) = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._room.erase_wal(wal_bytes_of(frames))
        self._erased_changes = database.total_changes

    def _allocate_wal(self) -> None:
        self.is_wal_missing = not self._room.allocate_wal()
        pages = min(_MAX_CHECKPOINT_PAGES, self._room.wal_bytes // 2 // PAGE_BYTES)
        self._database.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        self._database.execute(f"PRAGMA journal_size_limit = {self._room.wal_bytes}")
