"""The SQLite file of the index. A damaged file, or one of another version or bucket, is made anew."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import structlog

from wire.errors import ConfigurationError

VERSION = 2
READERS = 3
"""Number of connections that read at the same time."""
_CACHE_KIB = 4096
_SCHEMA = """
CREATE TABLE source (name TEXT NOT NULL);
CREATE TABLE cameras (number INTEGER PRIMARY KEY, device TEXT NOT NULL, camera TEXT NOT NULL, UNIQUE (device, camera));
CREATE TABLE faces (
    seq INTEGER PRIMARY KEY, camera INTEGER NOT NULL, tail BLOB NOT NULL,
    confidence INTEGER, track INTEGER, geometry BLOB, quality INTEGER
);
-- Each index ends with seq, so faces of a camera, or of a track, are in the order of time.
CREATE INDEX of_camera ON faces (camera);
CREATE INDEX of_track ON faces (camera, track) WHERE track IS NOT NULL;
CREATE INDEX undescribed ON faces (camera) WHERE confidence IS NULL;
-- Number of faces per camera, quarter of an hour, confidence in steps of 0.05 and quality in steps of 0.1.
CREATE TABLE counts (
    camera INTEGER NOT NULL, quarter INTEGER NOT NULL, band INTEGER NOT NULL, grade INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (camera, quarter, band, grade)
) WITHOUT ROWID;
"""

_log = structlog.get_logger("gallery")


class Database:
    """One connection that writes and some that read."""

    def __init__(self, path: Path, source: str) -> None:
        """Open the file, or make it anew. ``source`` names the bucket and the prefix.

        Raises:
            ConfigurationError: the file cannot be opened or made.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            problem = _problem(path, source)
            if problem is not None:
                _log.warning("the index is made anew", path=str(path), reason=problem)
                _remove(path)
            self.writer = _connect(path)
            if self.writer.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                self.writer.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
                with self.writer:
                    self.writer.execute("INSERT INTO source VALUES (?)", (source,))
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"GALLERY_FOLDER is '{path.parent}': expected a folder in which files can be made ({error})"
            ) from None
        self._path = path
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(READERS):
            self._readers.put(_connect(path))

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that reads one state of the file. Waits for one if all are in use."""
        connection = self._readers.get()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.rollback()
            self._readers.put(connection)

    @property
    def size(self) -> int:
        """Size of the file in bytes, without its write-ahead log."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Close all connections, when nobody reads or writes."""
        for _ in range(READERS):
            self._readers.get().close()
        self.writer.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 16777216")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _problem(path: Path, source: str) -> str | None:
    """Return why an existing file cannot be used; None if it can, or if there is none."""
    if not path.exists():
        return None
    try:
        connection = _connect(path)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                return f"it has version {version}, expected {VERSION}"
            (named,) = connection.execute("SELECT name FROM source").fetchone() or ("",)
            if named != source:
                return f"it is of {named}, expected {source}"
            result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            return None if result == "ok" else str(result)
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "readonly" in str(error):
            raise
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
