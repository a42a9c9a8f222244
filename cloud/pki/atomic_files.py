"""Files that others read while they are replaced, and the lock that keeps two commands apart."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600
FOR_EVERYBODY = 0o644


def make_folder(path: Path) -> Path:
    """Make a folder that its owner alone may enter, where there is none, and return it."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


def write(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace a file as a whole: whoever reads it meanwhile, or after a power cut, finds the old one or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the process's mask is
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)


def write_changed(path: Path, content: bytes) -> None:
    """Replace a file where its content is another one."""
    if not path.exists() or path.read_bytes() != content:
        write(path, content)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at ``path``: one command at a time; whoever dies with it loses it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
