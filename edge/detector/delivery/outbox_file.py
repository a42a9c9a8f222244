"""The file of the outbox: its schema, how it is opened, and what happens if it is damaged."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import structlog

from wire.errors import ConfigurationError

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE faces (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were committed
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    bytes INTEGER NOT NULL,                 -- size in this file, in whole pages
    properties BLOB NOT NULL,               -- as in an MQTT 5 PUBLISH packet
    jpeg BLOB NOT NULL
);
CREATE TABLE dropped (                      -- the last faces that were dropped
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL
);
CREATE TABLE totals (dropped INTEGER NOT NULL);
INSERT INTO totals VALUES (0);
"""

_log = structlog.get_logger("outbox")


def open_or_create(path: Path) -> sqlite3.Connection:
    """Open or create the file and its folder. A damaged file is renamed, never deleted, and replaced by an empty one.

    Raises:
        ConfigurationError: the file cannot be written, has another schema, or another process has it open.
    """
    path = path.absolute()  # also makes «:memory:» a file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _open(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            _rename_damaged(path, str(error))
            return _open(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigurationError(
            f"OUTBOX_PATH is '{path}': expected a file that can be written and that no other process has open ({error})"
        ) from None


def inspect(path: Path) -> str:
    """Return what an outbox contains, in one line, without changing it.

    Raises:
        ConfigurationError: it cannot be read or created, is damaged, or another process has it open.
    """
    path = path.absolute()
    if not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise ConfigurationError(f"OUTBOX_PATH is '{path}': expected a folder that can be written")
        return f"{path} will be created"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            count, size = database.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM faces").fetchone()
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"OUTBOX_PATH is '{path}': expected an outbox that is intact and that no other process has open ({error})"
        ) from None
    return f"{path} has {count} faces, {size} bytes"


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=2.0, check_same_thread=False, cached_statements=32)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA journal_size_limit = 4194304")
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise ConfigurationError(
                f"OUTBOX_PATH is '{path}': its schema is version {version}, expected {_SCHEMA_VERSION}; "
                "let the version of Facewire that created it empty it first"
            )
    except BaseException:
        database.close()
        raise
    return database


def _rename_damaged(path: Path, reason: str) -> None:
    renamed = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{renamed}{suffix}")
    _log.error(
        "outbox damaged, renamed and replaced by an empty one", path=str(path), renamed_to=renamed, reason=reason
    )
