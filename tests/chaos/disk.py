"""The disk of a device: a small tmpfs that can be filled or made read-only, and files whose bits can be flipped."""

import contextlib
import random
import shutil
import tempfile
from pathlib import Path

from tests.mounts import can_mount, mount_tmpfs, remount, unmount

SIZE_MB = 96
_FILLER = "somebody-elses-file"
_BLOCKS_BYTES = (1 << 20, 4096, 1)


class Disk:
    """A file system of its own, if the caller is root and may mount; otherwise a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_mounted = False

    def mount(self) -> None:
        """Create the folder and mount the file system."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if can_mount():
            mount_tmpfs(self.folder, SIZE_MB)
            self._is_mounted = True

    def unmount(self) -> None:
        """Unmount the file system, and keep its files in the folder."""
        if not self._is_mounted:
            return
        self._is_mounted = False
        self.free()
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as kept:
            shutil.copytree(self.folder, kept, dirs_exist_ok=True)
            unmount(self.folder)
            shutil.copytree(kept, self.folder, dirs_exist_ok=True)

    def fill(self) -> None:
        """Fill the disk to the last byte with a file of somebody else."""
        with contextlib.suppress(OSError), (self.folder / _FILLER).open("ab", buffering=0) as file:
            for size in _BLOCKS_BYTES:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Delete the file of somebody else."""
        (self.folder / _FILLER).unlink(missing_ok=True)

    def set_read_only(self, read_only: bool) -> None:
        """Remount the disk. No process may have a file open for writing."""
        remount(self.folder, "ro" if read_only else "rw")


def flip_bit(outbox: Path, rng: random.Random) -> str:
    """Flip one bit of an outbox that no process has open, and return a description of it."""
    files = [path for path in (outbox, Path(f"{outbox}-wal")) if path.exists() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    if not files:
        return "no file"
    (path,) = rng.choices(files, sizes)
    position, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes((byte ^ 1 << bit,)))
    return f"bit {bit} of byte {position} of {path.name}"
