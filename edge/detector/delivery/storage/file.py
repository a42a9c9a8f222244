"""The file of the outbox: how it is opened, and what happens if it is damaged or cannot be written.

A damaged file is renamed, and its faces are moved to a fresh one. If the file cannot be written, its faces are read
into a database in memory, a few at a time, and delivered from there.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from pathlib import Path

import structlog

from edge.detector.delivery.storage import schema
from edge.detector.delivery.storage.damaged_files import DamagedFiles, copy_totals, would_lose_commits
from edge.detector.delivery.storage.disk_room import MAX_WAL_BYTES, DiskFull, DiskRoom, is_read_only
from edge.detector.delivery.storage.faults import Fault, fault_at_start
from edge.detector.delivery.storage.file_space import FileSpace
from edge.detector.delivery.storage.rescue import Rescue
from edge.detector.delivery.storage.retention import Retention
from edge.detector.delivery.storage.schema import NewerSchema
from wire.errors import ConfigurationError

_WRITE_VERSION_OFFSET = 18
"""Offset in the file of its write version: 1, or 2 in WAL mode."""
_MIN_FREE_BYTES = 1 << 20
"""A file on a full disk is tried again when so much is free."""

_log = structlog.get_logger("outbox")


class OutboxFile:
    """The database of an outbox."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and its folder.

        Raises:
            ConfigurationError: the file can be neither written nor read, has a later schema, or another process has it
                open.
        """
        self.path = path.absolute()  # also makes «:memory:» a file
        self.database: sqlite3.Connection
        """The file, or a database in memory."""
        self.source: Rescue | None = None
        """Faces that are not in :attr:`database` yet."""
        self.unwritable: str = ""
        """Why the file cannot be written, so that :attr:`database` is in memory; empty if it can."""
        self.room: DiskRoom
        self.space: FileSpace
        """The space in the file, if it can be written."""
        self._done: set[Path] = set()
        """Damaged files from which all faces are moved, but which could not be renamed."""
        self._read: Path | None = None
        """The file whose faces are all known to be read into memory."""
        self._damaged = DamagedFiles(self.path)
        self.retention = Retention(self._damaged)
        self._lock = -1
        self._is_full = False
        """Whether the file cannot be written because the disk is full."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._damaged.finish_renaming()
            self._damaged.make_private()
            self._open()
        except (OSError, sqlite3.Error, NewerSchema, DiskFull) as error:
            self._release()
            raise ConfigurationError(
                f"OUTBOX_PATH is '{path}': expected a file that can be written and that no other process has open "
                f"({error})"
            ) from None

    @property
    def is_rescuing(self) -> bool:
        """Whether there are damaged files whose faces are not all moved yet."""
        return self.source is not None or bool(self._damaged.unfinished())

    def replace_damaged(self, reason: str) -> None:
        """Rename the file, open a fresh one, and let :attr:`source` read the faces of the renamed one."""
        self._close_database()
        self._close_source()
        renamed = self._damaged.new_name()
        try:
            self._damaged.rename(renamed)
            _log.error("outbox damaged, its faces are moved to a fresh one", path=str(self.path), reason=reason)
            self._release()
            self._connect()
            if self.space.is_wal_missing:
                raise DiskFull("no room for the write-ahead log")
            copy_totals(renamed, self.database)
        except (OSError, sqlite3.Error, DiskFull) as error:
            self._close_database()
            present = renamed if renamed.exists() else self.path
            self._use_memory(present, f"no fresh file for the damaged one ({error})")
            self._is_full = isinstance(error, DiskFull)
        else:
            self._open_source()

    def use_memory(self, reason: str) -> None:
        """Deliver from memory what the file contains, as it cannot be written any more."""
        self._close_database()
        self._use_memory(self.path, reason)

    def rescue_in_memory(self, reason: str = f"{Fault.FULL.value} (no room for the faces of a damaged file)") -> None:
        """Read the damaged file into memory, as its faces cannot be written to the fresh one, which is empty."""
        self._close_database()
        self._use_memory(self.path if self.source is None else self.source.path, reason)

    def leave_memory(self, is_delivered: bool) -> bool:
        """Try to open the file for writing again, and return whether that was worth a try.

        A file that fills the disk is deleted once ``is_delivered``, that is, all faces that were read from it are
        delivered, provided that these are all that it has. Otherwise it is opened or read again.
        """
        if is_read_only(self.path):
            return False
        if is_delivered:
            self._remove_delivered()
        elif self._is_full and shutil.disk_usage(self.path.parent).free < _MIN_FREE_BYTES:
            return False
        reason = self.unwritable
        self._close_database()
        self._close_source()
        self.unwritable = ""
        self._release()
        try:
            self._open()
        except (OSError, sqlite3.Error, NewerSchema, DiskFull):
            self._use_memory(self.path, reason)
        return True

    def _remove_delivered(self) -> None:
        """Delete the file whose faces were all read into memory, and are delivered."""
        try:
            if self._read in self._damaged.unfinished():
                self._damaged.finish(self._read, is_complete=True)
            elif self._is_full and self._read == self.path and self.path.exists():
                if self.path.stat().st_size:
                    _log.error("outbox that filled the disk is delivered, and begun again", path=str(self.path))
                for path in (Path(f"{self.path}-wal"), self.path):
                    path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the delivered outbox cannot be removed", path=str(self.path), reason=str(error))

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead log in bytes."""
        return MAX_WAL_BYTES if self.unwritable else self.room.wal_bytes

    @property
    def problem(self) -> str:
        """Why the file cannot be written; empty if it can."""
        return self.unwritable or ("disk full: no room for the write-ahead log" if self.space.is_wal_missing else "")

    def finish_rescue(self, is_complete: bool) -> Rescue | None:
        """Close the source, which is read to its end, and return the next one.

        ``is_complete``: whether all its faces are known to be read.
        """
        done = self.source
        self._close_source()
        if done is not None and self.unwritable:
            self._read = done.path if is_complete else None
        elif done is not None:
            self._done.add(done.path)
            try:
                self._damaged.finish(done.path, is_complete)
            except OSError as error:  # it is read again at the next start
                _log.error("damaged outbox cannot be renamed", path=str(done.path), reason=str(error))
        return self.resume_rescue()

    def resume_rescue(self) -> Rescue | None:
        """Open a damaged file whose faces are not moved yet, if none is open and the file can be written."""
        if self.source is None and not self.unwritable:
            self._open_source()
        return self.source

    def close(self) -> None:
        """Close the file, and keep the place of its write-ahead log."""
        self._close_database()
        if not self.unwritable:
            self.room.keep_reserve()
        self._close_source()
        self._release()

    def _open(self) -> None:
        if is_read_only(self.path):
            self._lock_file(os.O_RDONLY)  # also shows whether it can be read
            self._use_memory(self.path, "read-only")
            return
        try:
            self._connect()
        except (sqlite3.Error, DiskFull, OSError) as error:
            fault = fault_at_start(error)
            readable = [
                path for path in (self.path, *self._damaged.unfinished()) if path.exists() and path.stat().st_size
            ]
            if fault is Fault.IN_USE or isinstance(error, BlockingIOError):
                raise
            if not readable and not (fault is Fault.FULL and self.path.exists()):
                raise
            if fault is Fault.DAMAGED:
                self.replace_damaged(str(error))
            else:
                self._use_memory((*readable, self.path)[0], f"{fault.value} ({error})")
        if self.source is None:
            self._open_source()

    def _connect(self) -> None:
        """Open the file for writing.

        Raises:
            sqlite3.Error: the file is damaged, or SQLite cannot write it.
        """
        self._lock_file(os.O_RDWR | os.O_CREAT)
        self.room = DiskRoom(self.path, self._lock)
        if os.pread(self._lock, 1, _WRITE_VERSION_OFFSET) > b"\x02":  # SQLite would open it, but only for reading
            raise sqlite3.DatabaseError("the write version in the header is damaged")
        if would_lose_commits(self.path):
            raise sqlite3.DatabaseError("the write-ahead log is damaged")
        self.database = sqlite3.connect(self.path, timeout=2.0, check_same_thread=False, cached_statements=64)
        try:
            # Before anything else, or SQLite creates a file for shared memory, for which a full disk has no room.
            self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
            schema.prepare(self.database)
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = FULL")
            (verdict,) = self.database.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            # The disk may have had no room for it when a process ended, and then nothing could be deleted.
            self.database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            self.space = FileSpace(self.database, self.room)
            schema.create_or_migrate(self.database)
        except BaseException:
            self._close_database()
            raise

    def _use_memory(self, path: Path, reason: str) -> None:
        self._close_source()
        self.unwritable, self._read = reason, None
        self._is_full = reason.startswith(Fault.FULL.value)
        try:
            self.source = Rescue(path)
        except OSError as error:
            _log.error("outbox cannot be read", path=str(path), reason=str(error))
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        schema.prepare(self.database)
        schema.create_or_migrate(self.database)
        _log.error("outbox cannot be written, its faces are delivered from memory", path=str(path), reason=reason)

    def _open_source(self) -> None:
        """Open the first damaged file that is not finished and can be read. The others are tried again later."""
        for unfinished in self._damaged.unfinished():
            if self.source is None and unfinished not in self._done:
                try:
                    self.source = Rescue(unfinished)
                except OSError as error:
                    _log.error("damaged outbox cannot be read", path=str(unfinished), reason=str(error))

    def _close_source(self) -> None:
        if self.source is not None:
            self.source.close()
        self.source = None

    def _lock_file(self, flags: int) -> None:
        """Keep other processes out. The descriptor stays open, as closing it would release the locks of SQLite."""
        self._lock = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has it open") from None

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _close_database(self) -> None:
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self.database.close()
