"""Stores the certificates of all devices and the CRL. The state of each device is derived from these two."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from cloud.pki import atomic_files
from cloud.pki.certificates import name_of, now, pem
from wire.errors import ConfigurationError

T = TypeVar("T")


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
    expires: datetime
    state: State


class Registry:
    """The certificates of all devices, one file for each, and the CRL."""

    def __init__(self, folder: Path) -> None:
        self._issued = folder / "issued"
        self._crl = folder / "crl.pem"

    def add(self, certificate: x509.Certificate) -> None:
        """Store a certificate."""
        atomic_files.make_folder(self._issued)
        atomic_files.write(self._issued / f"{certificate.serial_number:x}.pem", pem(certificate))

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
        crl, current_time = self.crl(), now()
        revoked = {entry.serial_number for entry in crl or ()}
        certificates = []
        for path in self._issued.glob("*.pem"):
            certificate = _load(path, x509.load_pem_x509_certificate, "the certificate of a device")
            serial, expires = certificate.serial_number, certificate.not_valid_after_utc
            state = State.REVOKED if serial in revoked else State.EXPIRED if expires < current_time else State.VALID
            certificates.append(Issued(name_of(certificate), serial, expires, state))
        return sorted(certificates, key=lambda issued: (issued.device, issued.expires, issued.serial))

    def active_devices(self) -> dict[str, datetime]:
        """Return the devices with a valid certificate, each with the expiry of its last one."""
        return {issued.device: issued.expires for issued in self.issued() if issued.state is State.VALID}


def _load(path: Path, parse: Callable[[bytes], T], expected: str) -> T:
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise ConfigurationError(f"'{path}' is missing or damaged: expected {expected} ({error})") from None
