"""Replaces files atomically, and locks a folder against concurrent commands."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600
WORLD_READABLE = 0o644


def make_folder(path: Path) -> Path:
    """Create a folder, and any missing parents, accessible only by their owner. Return the folder."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


def write(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace a file atomically: a concurrent reader, or a power cut, finds either the old or the new content."""
    _write_part(path, content, mode).replace(path)
    _sync(path.parent)


def write_all(files: Mapping[Path, bytes], mode: int = PRIVATE) -> None:
    """Replace many files, each atomically, in a fraction of the time: the disk is synchronised once for all of them."""
    parts: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            parts[path] = _write_part(path, content, mode, sync=False)
        os.sync()
    except BaseException:
        for part in parts.values():
            part.unlink()
        raise
    for path, part in parts.items():
        part.replace(path)
    for folder in {path.parent for path in files}:
        _sync(folder)


def write_if_changed(path: Path, content: bytes) -> None:
    """Replace a file if its content differs from ``content``."""
    if not path.exists() or path.read_bytes() != content:
        write(path, content)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` exclusively. The system releases it if the process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_part(path: Path, content: bytes, mode: int, *, sync: bool = True) -> Path:
    """Write the content to a file beside ``path``, and return that."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # independent of the process's umask
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException:
        part.unlink()  # on a full disk it would take the room that other files need
        raise
    return part


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
