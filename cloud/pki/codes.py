"""Stores the codes with which devices may enrol, in one file each.

A file is named by a hash of the code's public key. Neither the code nor anything from which it could be computed is
stored.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cloud.pki.certificates import now
from wire.process import atomic_files

KEPT_AFTERWARDS = timedelta(days=1)
"""How long an expired code is remembered, to tell the device that it has expired."""
_ID_CHARACTERS = 40


class StoredCode(BaseModel):
    """What the authority knows about a code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    """The only device that may enrol with it."""
    expires: datetime
    days: int
    """Validity of the certificate, in days."""
    certificate: str | None = None
    """The certificate that was issued with it, in PEM; None: it has not been used."""


class Codes:
    """The codes that are open, have been used, or have expired not long ago."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, public_key: bytes) -> StoredCode | None:
        """Return the code with a public key; None if there is none."""
        return _load(self._path(public_key))

    def put(self, codes: dict[bytes, StoredCode]) -> None:
        """Store codes, each with its public key."""
        atomic_files.make_folder(self._folder)
        atomic_files.write_all({self._path(key): code.model_dump_json().encode() for key, code in codes.items()})

    def all(self) -> list[StoredCode]:
        """Return all codes, sorted by device."""
        found = [code for path in self._folder.glob("*.json") if (code := _load(path)) is not None]
        return sorted(found, key=lambda code: (code.device, code.expires))

    def open(self) -> list[StoredCode]:
        """Return the codes with which a device may still enrol."""
        moment = now()
        return [code for code in self.all() if code.certificate is None and code.expires > moment]

    def open_until(self) -> datetime | None:
        """Return until when requests are answered; None if no code is in force.

        A used code counts too: its device may ask again, if the answer was lost.
        """
        return max((code.expires for code in self.all() if code.expires > now()), default=None)

    def remove(self, devices: Iterable[str]) -> set[str]:
        """Remove all codes of some devices. Return those that had an open one."""
        names, moment, had_open = set(devices), now(), set()
        for path in self._folder.glob("*.json"):
            code = _load(path)
            if code is not None and code.device in names:
                path.unlink()
                if code.certificate is None and code.expires > moment:
                    had_open.add(code.device)
        return had_open

    def remove_all(self) -> None:
        """Remove all codes."""
        for path in self._folder.glob("*.json"):
            path.unlink()

    def remove_old(self) -> None:
        """Remove codes that expired long ago, and files that are damaged."""
        for path in self._folder.glob("*.json"):
            code = _load(path)
            if code is None or code.expires + KEPT_AFTERWARDS < now():
                path.unlink()

    def _path(self, public_key: bytes) -> Path:
        return self._folder / f"{sha256(public_key).hexdigest()[:_ID_CHARACTERS]}.json"


def _load(path: Path) -> StoredCode | None:
    """Load a code; None if the file is missing or damaged."""
    try:
        return StoredCode.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
