"""Damaged files of the outbox, which are kept beside it.

They are called ``<outbox>.rescuing-<time>`` until all faces that can be read are moved from them, and then
``<outbox>.damaged-<time>``.
"""

import contextlib
import sqlite3
import time
from pathlib import Path

import structlog

from edge.detector.delivery.storage.pages import Wal
from edge.detector.delivery.storage.rescue import Rescue

_RESCUING, _DAMAGED = "rescuing", "damaged"
_log = structlog.get_logger("outbox")


class DamagedFiles:
    """The damaged files beside an outbox."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def new_name(self) -> Path:
        """Return the name that a damaged file gets."""
        return Path(f"{self._path}.{_RESCUING}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")

    def rename(self, renamed: Path) -> None:
        """Rename the outbox, its write-ahead log first: :meth:`finish_renaming` does the rest after a crash."""
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{renamed}{suffix}")

    def finish_renaming(self) -> None:
        """Rename an outbox whose write-ahead log is renamed already."""
        for wal in self._path.parent.glob(f"{self._path.name}.{_RESCUING}-*-wal"):
            renamed = wal.with_name(wal.name.removesuffix("-wal"))
            if not renamed.exists() and self._path.exists():
                self._path.rename(renamed)

    def unfinished(self) -> list[Path]:
        """Return the damaged files whose faces are not all moved yet."""
        found = self._path.parent.glob(f"{self._path.name}.{_RESCUING}-*")
        return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))

    def finish(self, rescued: Path) -> None:
        """Rename a file from which all faces are moved."""
        renamed = Path(str(rescued).replace(f".{_RESCUING}-", f".{_DAMAGED}-"))
        with contextlib.suppress(FileNotFoundError):
            Path(f"{rescued}-wal").rename(f"{renamed}-wal")
        rescued.rename(renamed)
        size = renamed.stat().st_size
        _log.error("the damaged outbox is kept, delete it to regain its space", path=str(renamed), bytes=size)


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
    """Copy the counters of a damaged file, as far as they can be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"{damaged.as_uri()}?mode=ro&immutable=1", uri=True)) as source:
            dropped, device = source.execute("SELECT dropped, device FROM totals").fetchone()
            lost = source.execute("SELECT id, NULL, reason FROM damaged").fetchall()
        with database:
            database.execute("UPDATE totals SET dropped = max(0, CAST(? AS INTEGER)), device = ?", (dropped, device))
            database.executemany("INSERT INTO damaged VALUES (?, ?, ?)", lost)
    except (sqlite3.Error, TypeError, ValueError, OverflowError):
        _log.warning("the counters of the damaged outbox cannot be read", path=str(damaged))
