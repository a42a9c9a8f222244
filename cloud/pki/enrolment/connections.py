"""The open connections, of which each address and all together may have so many."""

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass

MAX_CONNECTIONS = 64
"""Beyond these, the oldest connection of the address with the most is closed."""
MAX_OF_ADDRESS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One connection, of which another thread may be reading."""

    tls: ssl.SSLSocket
    site: str
    """The address that it counts for."""
    opened_at: float


class Connections:
    """The open connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Connection, None] = {}
        """The oldest first."""

    def add(self, tls: ssl.SSLSocket, site: str) -> Connection:
        """Add a connection. Close another one if there are too many, of this address or of all."""
        connection = Connection(tls, site, time.monotonic())
        with self._lock:
            counts = Counter(one.site for one in self._open)
            if counts[site] >= MAX_OF_ADDRESS:
                self._close_oldest(site)
            elif len(self._open) >= MAX_CONNECTIONS:
                self._close_oldest(counts.most_common(1)[0][0])
            self._open[connection] = None
        return connection

    def end(self, connection: Connection) -> None:
        """Remove a connection, and close it."""
        with self._lock:  # so that nobody shuts down another connection that gets the same number
            self._open.pop(connection, None)
            connection.tls.close()

    def close_older_than(self, seconds: float) -> None:
        """Close the connections that are older than some seconds."""
        earliest = time.monotonic() - seconds
        with self._lock:
            for connection in [one for one in self._open if one.opened_at <= earliest]:
                self._shut_down(connection)

    def _close_oldest(self, site: str) -> None:
        self._shut_down(next(one for one in self._open if one.site == site))

    def _shut_down(self, connection: Connection) -> None:
        """Let the thread that reads from a connection find it closed."""
        del self._open[connection]
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection.tls, socket.SHUT_RDWR)
