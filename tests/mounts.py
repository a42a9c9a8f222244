"""Mounts small file systems in memory. Only root can mount; others use sudo if it asks for no password."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path


def mount_tmpfs(folder: Path, megabytes: int) -> None:
    """Mount a file system of ``megabytes`` MB that belongs to this user."""
    options = f"size={megabytes}m,uid={os.getuid()},gid={os.getgid()},mode=0755"
    _as_root("mount", "-t", "tmpfs", "-o", options, "facewire-test", str(folder))


def remount(folder: Path, mode: str) -> None:
    """Make a file system ``ro`` or ``rw``. No process may have a file open for writing if it becomes ``ro``."""
    _as_root("mount", "-o", f"remount,{mode}", str(folder))


def unmount(folder: Path) -> None:
    """Unmount a file system, even while it is in use."""
    _as_root("umount", "--lazy", str(folder))


@cache
def can_mount() -> bool:
    """Return whether file systems can be mounted. In CI they must be: then the answer is always yes."""
    if os.environ.get("CI"):
        return True
    with tempfile.TemporaryDirectory() as folder:
        try:
            mount_tmpfs(Path(folder), 1)
        except (OSError, subprocess.CalledProcessError):
            return False
        unmount(Path(folder))
    return True


def _as_root(*command: str) -> None:
    sudo = () if os.geteuid() == 0 else ("sudo", "-n")
    subprocess.run([*sudo, *command], check=True, capture_output=True)
