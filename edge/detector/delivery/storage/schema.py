"""The schema of the outbox, how an older one is migrated, and how a damaged one is told from a newer one."""

import sqlite3

from edge.detector.delivery.storage.pages import PAGE_BYTES

VERSION = 2
_TABLES = """
CREATE TABLE faces (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were committed
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    bytes INTEGER NOT NULL,                 -- size in this file, in whole pages
    properties BLOB NOT NULL,               -- as in an MQTT 5 PUBLISH packet
    jpeg BLOB NOT NULL,
    digest BLOB,                            -- SHA-256 of the other columns; NULL if version 1 wrote the row
    boot TEXT,                              -- if the clock was not set at the capture: id of the boot
    captured REAL                           -- and seconds from the boot to the capture
);
CREATE TABLE dropped (                      -- the last faces that were dropped
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL
);
CREATE TABLE damaged (                      -- faces that are lost
    id TEXT NOT NULL,
    seq INTEGER,                            -- if its row is still in this file
    reason TEXT NOT NULL
);
CREATE TABLE totals (
    dropped INTEGER NOT NULL,
    device TEXT,                            -- the device of the faces; NULL before the first one
    version INTEGER                         -- that of the schema, a second time: one flipped bit must not change it
);
INSERT INTO totals VALUES (0, NULL, 2);
PRAGMA user_version = 2;
"""
_FROM_VERSION_1 = """
ALTER TABLE faces ADD COLUMN digest BLOB;
ALTER TABLE faces ADD COLUMN boot TEXT;
ALTER TABLE faces ADD COLUMN captured REAL;
CREATE TABLE damaged (id TEXT NOT NULL, seq INTEGER, reason TEXT NOT NULL);
ALTER TABLE totals ADD COLUMN device TEXT;
ALTER TABLE totals ADD COLUMN version INTEGER;
UPDATE totals SET version = 2;
PRAGMA user_version = 2;
"""
_FACES_1 = ("seq", "id", "camera", "bytes", "properties", "jpeg")
_COLUMNS: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"faces": _FACES_1, "dropped": ("seq", "id", "camera"), "totals": ("dropped",)},
    2: {
        "faces": (*_FACES_1, "digest", "boot", "captured"),
        "dropped": ("seq", "id", "camera"),
        "damaged": ("id", "seq", "reason"),
        "totals": ("dropped", "device", "version"),
    },
}


class NewerSchema(Exception):
    """The file was written by a later version of Facewire."""


def prepare(database: sqlite3.Connection) -> None:
    """Set what SQLite does not store in the file, and what it stores only in an empty one."""
    database.text_factory = _text
    if database.execute("PRAGMA page_count").fetchone() == (0,):
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # The picture of a delivered face is overwritten. So nothing in an unused page looks like a face to be rescued.
    database.execute("PRAGMA secure_delete = ON")


def create_or_migrate(database: sqlite3.Connection) -> None:
    """Create the tables, or migrate those of version 1, whose rows are not rewritten.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
        NewerSchema: it has a later schema.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    columns = {
        table: tuple(name for _, name, *_ in database.execute(f"PRAGMA table_info({table})"))
        for table in _COLUMNS[VERSION]
    }
    present = {table: names for table, names in columns.items() if names}
    if version == 0 and not present:
        database.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        return
    found = next((number for number, tables in _COLUMNS.items() if tables == present), None)
    if found == VERSION and database.execute("SELECT version FROM totals").fetchone() != (VERSION,):
        found = None
    if found is None and version > VERSION:
        raise NewerSchema(f"its schema is version {version}, expected {VERSION}")
    if found != version:
        raise sqlite3.DatabaseError(f"the schema of version {version} is damaged")
    if version == 1:
        database.executescript(f"BEGIN IMMEDIATE; {_FROM_VERSION_1} COMMIT;")
    totals = database.execute("SELECT typeof(dropped), dropped >= 0 FROM totals").fetchall()
    if totals != [("integer", 1)]:
        raise sqlite3.DatabaseError("the table of totals is damaged")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
