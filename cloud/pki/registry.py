"""Stores the certificates of all devices and the CRL. The state of each device is derived from these two."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from cloud.pki.certificates import issued_at, name_of, now, pem, serials_in
from cloud.pki.clients import Client, decode, encode
from wire import topics
from wire.errors import ConfigurationError
from wire.process import atomic_files

T = TypeVar("T")
_Version = tuple[int, int, int]
"""Time of the last change, size and inode of a file."""


class State(Enum):
    """The state of a certificate."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Issued:
    """A device's certificate and its state."""

    device: str
    serial: int
    issued: datetime
    expires: datetime
    state: State


class Registry:
    """The certificates of all devices, one file for each, and the CRL."""

    def __init__(self, folder: Path) -> None:
        self._issued, self._temporary = folder / "issued", folder / "temporary"
        self._crl, self._unregistered = folder / "crl.pem", folder / "unregistered"
        self._read: dict[str, tuple[_Version, Issued]] = {}
        """What is known of each file, so that thousands of certificates need not be parsed again every few seconds."""

    def add(self, certificate: x509.Certificate) -> None:
        """Store a device's certificate."""
        _add(self._issued, certificate)

    def add_all(self, certificates: Iterable[x509.Certificate]) -> None:
        """Store the certificates of many devices."""
        atomic_files.make_folder(self._issued)
        atomic_files.write_all({_path(self._issued, one.serial_number): pem(one) for one in certificates})

    def serials(self) -> set[int]:
        """Return the serial numbers of the certificates of all devices, from the names of their files.

        Raises:
            ConfigurationError: a file has another name.
        """
        return {_serial(path) for path in self._issued.glob("*.pem")}

    def crl(self) -> x509.CertificateRevocationList | None:
        """Return the CRL; None if there is neither a CRL nor a device.

        Raises:
            ConfigurationError: the CRL is missing or damaged. An empty one would admit every revoked device again.
        """
        if not self._crl.exists() and not any(self._issued.glob("*.pem")):
            return None
        return _load(self._crl, x509.load_pem_x509_crl, "the list of revoked certificates")

    def replace_crl(self, crl: x509.CertificateRevocationList) -> None:
        """Store a newer CRL."""
        atomic_files.write(self._crl, pem(crl))

    def issued(self) -> list[Issued]:
        """Return every certificate of every device, sorted by name and expiry.

        Raises:
            ConfigurationError: a certificate or the CRL is missing or damaged.
        """
        revoked, current_time = serials_in(self.crl()), now()
        certificates = [replace(one, state=_state(one, revoked, current_time)) for one in self._read_certificates()]
        return sorted(certificates, key=lambda issued: (issued.device, issued.expires, issued.serial))

    def active_devices(self) -> dict[str, datetime]:
        """Return the devices with a valid certificate, each with the expiry of its last one."""
        return {issued.device: issued.expires for issued in self.issued() if issued.state is State.VALID}

    def unregistered(self) -> list[Client]:
        """Return the certificates that are known to have been issued after the backup that was restored.

        They are not in force. One that is registered or revoked meanwhile is left out.

        Raises:
            ConfigurationError: the file with them is damaged.
        """
        if not self._unregistered.exists():
            return []
        clients = _load(self._unregistered, lambda data: decode(data.decode()), "a list of certificates")
        known = self.serials() | serials_in(self.crl())
        return [client for client in clients if client.serial not in known]

    def replace_unregistered(self, clients: Iterable[Client]) -> None:
        """Store the certificates that are not registered."""
        atomic_files.write_if_changed(self._unregistered, encode(clients).encode())

    def forget_unregistered(self, *devices: str) -> None:
        """Remove the certificates of devices from those that are not registered, because they are enrolled again."""
        if self._unregistered.exists():
            self.replace_unregistered(client for client in self.unregistered() if client.name not in devices)

    def add_temporary(self, certificate: x509.Certificate) -> None:
        """Store a certificate that is in force until it is removed or expires, within minutes."""
        _add(self._temporary, certificate)

    def remove_temporary(self, serial: int) -> None:
        """Remove a temporary certificate."""
        _path(self._temporary, serial).unlink(missing_ok=True)

    def temporary(self) -> set[int]:
        """Return the serial numbers of the temporary certificates. Remove those that have expired or are damaged."""
        serials = set()
        for path in self._temporary.glob("*.pem"):
            try:
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
            except ValueError:
                path.unlink()
                continue
            if certificate.not_valid_after_utc < now():
                path.unlink()
            else:
                serials.add(certificate.serial_number)
        return serials

    def _read_certificates(self) -> list[Issued]:
        """Return every certificate, as if it were valid. Parse only files that are new or have changed."""
        read = {}
        for path in self._issued.glob("*.pem"):
            status = path.stat()
            version = status.st_mtime_ns, status.st_size, status.st_ino
            known = self._read.get(path.name)
            if known is None or known[0] != version:
                known = version, _load(path, _parse_device, "the certificate of a device")
            read[path.name] = known
        self._read = read
        return [issued for _, issued in read.values()]


def _path(folder: Path, serial: int) -> Path:
    return folder / f"{serial:x}.pem"


def _state(issued: Issued, revoked: set[int], current_time: datetime) -> State:
    if issued.serial in revoked:
        return State.REVOKED
    return State.EXPIRED if issued.expires < current_time else State.VALID


def _serial(path: Path) -> int:
    try:
        return int(path.stem, 16)
    except ValueError:
        raise ConfigurationError(f"'{path}' is not named by a serial number: expected only certificates here") from None


def _add(folder: Path, certificate: x509.Certificate) -> None:
    atomic_files.make_folder(folder)
    atomic_files.write(_path(folder, certificate.serial_number), pem(certificate))


def _parse_device(data: bytes) -> Issued:
    certificate = x509.load_pem_x509_certificate(data)
    name, expires = name_of(certificate), certificate.not_valid_after_utc
    if not topics.is_name(name):
        raise ValueError(f"its name is {name!r}")
    return Issued(name, certificate.serial_number, issued_at(certificate), expires, State.VALID)


def _load(path: Path, parse: Callable[[bytes], T], expected: str) -> T:
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise ConfigurationError(f"'{path}' is missing or damaged: expected {expected} ({error})") from None
