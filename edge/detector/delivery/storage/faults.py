"""What an error of SQLite means for the outbox."""

import enum
import sqlite3

from edge.detector.delivery.storage.disk_room import DiskFull


class Fault(enum.Enum):
    """What an error means. The value is for people."""

    DAMAGED = "damaged"
    FULL = "disk full"
    READ_ONLY = "read-only"
    FAILING = "disk failing"
    IN_USE = "in use"


_FAULTS = {
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_PERM: Fault.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Fault.READ_ONLY,
    sqlite3.SQLITE_IOERR: Fault.FAILING,
    sqlite3.SQLITE_NOMEM: Fault.FAILING,
    sqlite3.SQLITE_BUSY: Fault.IN_USE,
    sqlite3.SQLITE_LOCKED: Fault.IN_USE,
}


def fault_of(error: sqlite3.Error) -> Fault:
    """Return what an error means."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):  # such as a file that is closed
        return Fault.FAILING
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_ERROR and "transaction" in str(error):  # one that is still open, or not open any more
        return Fault.FAILING
    # The outbox's statements are right, so any other error means that the file is not what was written.
    return _FAULTS.get(code, Fault.DAMAGED)


def fault_at_start(error: Exception) -> Fault:
    """Return what an error means that occurred while the file was opened. A bad sector is a damaged file."""
    if not isinstance(error, sqlite3.Error):
        return Fault.FULL if isinstance(error, DiskFull) else Fault.FAILING
    is_unreadable = getattr(error, "sqlite_errorcode", 0) in (
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
    )
    return Fault.DAMAGED if is_unreadable else fault_of(error)
