"""Room on the disk for the outbox: what it needs is allocated before it writes, so that it never meets a full disk.

SQLite needs room in two places. A commit is written to the write-ahead log (WAL), and a checkpoint copies it to the
database. Deleting a face needs both, too. So the WAL is given its greatest size at the start, and the database is
extended before faces are committed that a checkpoint would write beyond its end. While the outbox is closed, SQLite
deletes the WAL; a file of the same size beside it keeps its place until the next start.
"""

import contextlib
import errno
import os
from pathlib import Path

_MIN_WAL_BYTES, MAX_WAL_BYTES = 1 << 19, 1 << 23
_MAX_CHUNK_BYTES = 1 << 20
"""While the disk has room, the database is extended by a sixteenth of its size at a time, but at most by this."""
_ERASED_AT_ONCE_BYTES = 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(Exception):
    """The disk has no room for what was to be written."""


class DiskRoom:
    """Allocates room for the files of one outbox."""

    def __init__(self, path: Path, database: int) -> None:
        """``database`` is an open file descriptor of the database at ``path``."""
        self._database = database
        self._wal = Path(f"{path}-wal")
        self._reserve = Path(f"{path}-reserve")
        self.capacity, _ = _size_and_free(database)
        """Size of the disk in bytes."""
        self.wal_bytes = min(max(self.capacity // 8, _MIN_WAL_BYTES), MAX_WAL_BYTES)
        """Size of the WAL, at most, and after :meth:`allocate_wal` exactly."""

    @property
    def free(self) -> int:
        """Bytes that are free on the disk."""
        return _size_and_free(self._database)[1]

    @property
    def margin(self) -> int:
        """Bytes that the outbox leaves free for others."""
        return self.wal_bytes // 4

    @property
    def has_room(self) -> bool:
        """Whether the database can be extended."""
        return self.free > self.margin + _MAX_CHUNK_BYTES

    def allocate_wal(self) -> bool:
        """Allocate the WAL, in the place of the reserve, and return whether the disk has room for it.

        A disk that is nearly full gets a smaller one.
        """
        self._reserve.unlink(missing_ok=True)
        file = os.open(self._wal, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = self.wal_bytes
            while size >= _MIN_WAL_BYTES:
                with contextlib.suppress(DiskFull):
                    _allocate(file, 0, size)
                    self.wal_bytes = size
                    return True
                size //= 2
            return False
        finally:
            os.close(file)

    def allocate_database(self, size: int) -> None:
        """Extend the database to ``size`` bytes.

        Raises:
            DiskFull: the disk has no room for it, or only the room that is left to others.
        """
        current = os.fstat(self._database).st_size
        if size <= current:
            return
        free = self.free
        if size - current > free - self.margin:
            raise DiskFull(f"{free} bytes are free, and {self.margin} of them are left to others")
        chunk = min(current // 16, _MAX_CHUNK_BYTES) if free > 8 * _MAX_CHUNK_BYTES else 0
        _allocate(self._database, current, max(size - current, chunk))

    def erase_wal(self, start: int) -> None:
        """Overwrite the WAL with zeros from ``start`` on, where SQLite does not read it. Its room stays allocated."""
        file = os.open(self._wal, os.O_RDWR)
        try:
            for at in range(start, os.fstat(file).st_size, _ERASED_AT_ONCE_BYTES):
                content = os.pread(file, _ERASED_AT_ONCE_BYTES, at)
                if content.strip(b"\0"):
                    os.pwrite(file, bytes(len(content)), at)
            os.fsync(file)
        finally:
            os.close(file)

    def keep_reserve(self) -> None:
        """Keep the place of the WAL, which SQLite has deleted, until the next start."""
        with contextlib.suppress(OSError, DiskFull):
            file = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                _allocate(file, 0, self.wal_bytes)
            finally:
                os.close(file)


def is_read_only(path: Path) -> bool:
    """Return whether ``path`` exists, but the file, its folder or its file system cannot be written."""
    return path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _size_and_free(file: int) -> tuple[int, int]:
    disk = os.fstatvfs(file)
    return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize


def _allocate(file: int, start: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS: the disk may turn out to be full later
        return
    try:
        os.posix_fallocate(file, start, size)
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(str(error)) from None
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
