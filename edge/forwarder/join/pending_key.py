"""The key of a device that has not got its certificate yet.

It is kept until the certificate has arrived: if the answer was lost, only the same key gets the certificate, and no
other code is needed.
"""

import contextlib
import time
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from wire.enrolment.code import Code
from wire.enrolment.messages import Key, public_bytes
from wire.process import atomic_files

_PREFIX = ".facewire-join-"
_MAX_AGE_SECONDS = 86400.0
"""A code is not valid for longer."""


class PendingKey:
    """A key in a folder, which belongs to one code."""

    def __init__(self, folder: Path, code: Code) -> None:
        """Load the key, or make one and store it.

        Raises:
            OSError: the folder cannot be written.
        """
        self._path = folder / f"{_PREFIX}{sha256(public_bytes(code)).hexdigest()[:16]}"
        _remove_old(folder)
        self.key = _load(self._path) or _make(self._path)

    def pem(self) -> bytes:
        """Return the key in PEM."""
        return _pem(self.key)

    def forget(self) -> None:
        """Remove it, because it is stored elsewhere."""
        self._path.unlink(missing_ok=True)


def _load(path: Path) -> Key | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        key = load_pem_private_key(path.read_bytes(), password=None)
        return key if isinstance(key, Key) else None
    return None


def _make(path: Path) -> Key:
    key = ec.generate_private_key(ec.SECP256R1())
    atomic_files.write(path, _pem(key))
    return key


def _pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _remove_old(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _MAX_AGE_SECONDS:
                path.unlink()
