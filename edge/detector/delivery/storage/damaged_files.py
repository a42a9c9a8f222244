"""Damaged files of the outbox, which are kept beside it.

They are called ``<outbox>.rescuing-<time>-<number>`` until all faces that can be read are moved from them, and then
``<outbox>.damaged-<time>-<number>``. A file from which nothing is lost is deleted instead.
"""

import contextlib
import itertools
import os
import sqlite3
import stat
import time
from pathlib import Path

import structlog

from edge.detector.delivery.storage.pages import Wal
from edge.detector.delivery.storage.rescue import Rescue
from edge.detector.delivery.storage.table import OutboxTable

_RESCUING, _DAMAGED = "rescuing", "damaged"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_log = structlog.get_logger("outbox")


class DamagedFiles:
    """The damaged files beside an outbox."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def new_name(self) -> Path:
        """Return the name that a damaged file gets. Numbers tell those apart that got theirs in the same second."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = (Path(f"{self._path}.{_RESCUING}-{now}-{number:03}") for number in itertools.count())
        return next(
            name
            for name in names
            if not any(Path(f"{path}{suffix}").exists() for path in (name, _finished(name)) for suffix in ("", "-wal"))
        )

    def rename(self, renamed: Path) -> None:
        """Rename the outbox, its write-ahead log first: :meth:`finish_renaming` does the rest after a crash."""
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{renamed}{suffix}")

    def finish_renaming(self) -> None:
        """Rename an outbox, or a file from which all faces are moved, whose write-ahead log is renamed already."""
        for rescued in self.unfinished():
            renamed = _finished(rescued)
            if Path(f"{renamed}-wal").exists() and not renamed.exists() and not Path(f"{rescued}-wal").exists():
                rescued.rename(renamed)
        for wal in self._path.parent.glob(f"{self._path.name}.{_RESCUING}-*-wal"):
            renamed = wal.with_name(wal.name.removesuffix("-wal"))
            if not renamed.exists() and self._path.exists():
                self._path.rename(renamed)

    def unfinished(self) -> list[Path]:
        """Return the damaged files whose faces are not all moved yet."""
        found = self._path.parent.glob(f"{self._path.name}.{_RESCUING}-*")
        return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))

    def kept(self) -> list[Path]:
        """Return the damaged files from which all faces that can be read are moved."""
        found = self._path.parent.glob(f"{self._path.name}.{_DAMAGED}-*")
        return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))

    def make_private(self) -> None:
        """Take away the rights of other users to the outbox and to all damaged files, if they belong to this user."""
        name = self._path.name
        for pattern in (name, f"{name}-*", f"{name}.{_RESCUING}-*", f"{name}.{_DAMAGED}-*"):
            for path in self._path.parent.glob(pattern):
                found = path.stat()
                if found.st_mode & _OTHERS and found.st_uid == os.geteuid():
                    with contextlib.suppress(OSError):  # the file system may be read-only
                        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)

    def finish(self, rescued: Path, is_complete: bool) -> None:
        """Rename a file from which all faces that can be read are moved; delete it if these are all that it has."""
        renamed = _finished(rescued)
        with contextlib.suppress(FileNotFoundError):
            Path(f"{rescued}-wal").rename(f"{renamed}-wal")
        rescued.rename(renamed)
        if is_complete:
            renamed.unlink()
            Path(f"{renamed}-wal").unlink(missing_ok=True)
            _log.info("all faces of the damaged outbox are moved, and it is deleted", path=str(rescued))
            return
        size = renamed.stat().st_size
        os.utime(renamed)  # its age is counted from now
        _log.error("the damaged outbox is kept, delete it to regain its space", path=str(renamed), bytes=size)


def _finished(rescued: Path) -> Path:
    return rescued.with_name(f".{_DAMAGED}-".join(rescued.name.rsplit(f".{_RESCUING}-", 1)))


def would_lose_commits(path: Path) -> bool:
    """Return whether SQLite would silently ignore transactions in the write-ahead log that were committed.

    A power cut may have damaged the end of the log, too. That matters only if there are rows in it.
    """
    wal = Wal(Path(f"{path}-wal"))
    if not wal.has_damaged_tail or wal.is_damaged:
        return wal.is_damaged
    with contextlib.closing(Rescue(path)) as rescue:
        return rescue.has_damaged_commit


def copy_totals(damaged: Path, database: sqlite3.Connection) -> None:
    """Copy the counters of a damaged file, and the ids of faces that got another one, as far as they can be read."""
    with contextlib.suppress(sqlite3.Error):
        OutboxTable(database).note_settled(_settled_ids(damaged))
    try:
        with contextlib.closing(sqlite3.connect(f"{damaged.as_uri()}?mode=ro&immutable=1", uri=True)) as source:
            dropped, device = source.execute("SELECT dropped, device FROM totals").fetchone()
            lost = source.execute("SELECT id, NULL, reason FROM damaged").fetchall()
        with database:
            database.execute("UPDATE totals SET dropped = max(0, CAST(? AS INTEGER)), device = ?", (dropped, device))
            database.executemany("INSERT INTO damaged VALUES (?, ?, ?)", lost)
    except (sqlite3.Error, TypeError, ValueError, OverflowError):
        _log.warning("the counters of the damaged outbox cannot be read", path=str(damaged))


def _settled_ids(damaged: Path) -> list[str]:
    """Return the ids in the table ``settled`` of a damaged file, with those in its write-ahead log."""
    try:
        with contextlib.closing(sqlite3.connect(f"{damaged.as_uri()}?mode=ro", uri=True)) as source:
            return [face_id for (face_id,) in source.execute("SELECT id FROM settled") if isinstance(face_id, str)]
    except sqlite3.Error:
        return []
    finally:
        with contextlib.suppress(OSError):
            Path(f"{damaged}-shm").unlink(missing_ok=True)
