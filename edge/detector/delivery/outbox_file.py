"""The check of the outbox's file, for ``python -m edge.detector --check``."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

from edge.detector.delivery.storage.disk_room import DiskRoom, is_read_only
from edge.detector.delivery.storage.faults import Fault, fault_of
from edge.detector.delivery.storage.pages import Wal
from wire.errors import ConfigurationError


def inspect(path: Path) -> str:
    """Return what an outbox contains, in one line, without changing it.

    Raises:
        ConfigurationError: it cannot be read or created, is damaged or read-only, the disk is full, or another process
            has it open.
    """
    path = path.absolute()
    if not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise ConfigurationError(f"OUTBOX_PATH is '{path}': expected a folder that can be written")
        return f"{path} will be created"
    expected = f"OUTBOX_PATH is '{path}': expected an outbox that is intact and that no other process has open"
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            room = DiskRoom(path, file)
            if is_read_only(path):
                raise ConfigurationError(
                    f"OUTBOX_PATH is '{path}', which is read-only: its faces will be delivered, but no new ones stored"
                )
            count, size = _count(path)
            if room.free <= room.margin:
                raise ConfigurationError(
                    f"OUTBOX_PATH is '{path}', whose disk is full ({room.free} bytes free): its {count} faces will be "
                    "delivered, but new ones perhaps not stored"
                )
        finally:
            os.close(file)
    except BlockingIOError:
        raise ConfigurationError(f"{expected} (another process has it open)") from None
    except (OSError, sqlite3.Error) as error:
        is_damaged = isinstance(error, sqlite3.Error) and fault_of(error) is Fault.DAMAGED
        advice = "; it is damaged, and what can be read will be moved to a fresh file at the next start"
        raise ConfigurationError(f"{expected} ({error}){advice if is_damaged else ''}") from None
    return f"{path} has {count} faces, {size} bytes"


def _count(path: Path) -> tuple[int, int]:
    """Return number and size of the faces, in bytes.

    Raises:
        sqlite3.Error: the file is damaged, or another process has it open.
    """
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok" or Wal(Path(f"{path}-wal")).is_damaged:
            raise sqlite3.DatabaseError(verdict if verdict != "ok" else "the write-ahead log is damaged")
        count, size = database.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM faces").fetchone()
    return count, size
