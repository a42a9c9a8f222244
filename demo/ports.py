"""Ports of the loopback interface that no other process takes in the meantime.

It is not enough to bind port 0 and to close the socket again: before the server binds the port, another process may get
it for an outgoing connection. So ports come from a range below the system's ephemeral ports, and each process locks a
block of them for as long as it runs.
"""

import fcntl
import random
import socket
import tempfile
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"

_FIRST_PORT = 10_000
_BLOCK_PORTS = 100
_BLOCKS = 120
_GRPC_OFFSET = 10_000
"""SeaweedFS also listens on each of its ports plus this offset."""


def free_port() -> int:
    """Return a port that nobody listens on. The same is true of the port that SeaweedFS adds to it.

    Raises:
        RuntimeError: other processes use every port of this process's block.
    """
    first, numbers = _block()
    for _ in range(_BLOCK_PORTS):
        port = first + next(numbers) % _BLOCK_PORTS
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            return port
    raise RuntimeError(f"no free port from {first} to {first + _BLOCK_PORTS - 1}")


@cache
def _block() -> "tuple[int, count[int]]":
    """Return the first port of this process's block, and a counter for the ports handed out."""
    blocks = list(range(_BLOCKS))
    random.shuffle(blocks)
    for block in blocks:
        if _lock(block):
            return _FIRST_PORT + block * _BLOCK_PORTS, count()
    raise RuntimeError(f"{_BLOCKS} other processes have locked all blocks of ports")


_locks: list[IO[bytes]] = []
"""The locked files, which stay open until the process ends."""


def _lock(block: int) -> bool:
    path = Path(tempfile.gettempdir()) / f"facewire-ports-{block}.lock"
    try:
        file = path.open("ab")
    except PermissionError:  # another user's
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _locks.append(file)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
