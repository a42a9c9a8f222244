"""Which devices are in, and which are out.

It follows from two things, and nothing is stored twice: the certificates as issued, and the list of revoked ones.
"""

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
    """What has become of a certificate."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Issued:
    """A device's certificate, and what has become of it."""

    device: str
    serial: int
    expires: datetime
    state: State


class Registry:
    """The certificates of all devices, one file for each, and the list of those that are revoked."""

    def __init__(self, folder: Path) -> None:
        self._issued = folder / "issued"
        self._crl = folder / "crl.pem"

    def add(self, certificate: x509.Certificate) -> None:
        """Keep a certificate that is about to be handed out."""
        atomic_files.make_folder(self._issued)
        atomic_files.write(self._issued / f"{certificate.serial_number:x}.pem", pem(certificate))

    def crl(self) -> x509.CertificateRevocationList | None:
        """Return the list of revoked certificates; None before there is one.

        Raises:
            ConfigurationError: it has been lost, or is damaged. With an empty one, whoever is out would be in again.
        """
        if not self._crl.exists() and not any(self._issued.glob("*.pem")):
            return None
        return _read(self._crl, x509.load_pem_x509_crl, "the list of revoked certificates")

    def replace_crl(self, crl: x509.CertificateRevocationList) -> None:
        """Put a newer list in place."""
        atomic_files.write(self._crl, pem(crl))

    def issued(self) -> list[Issued]:
        """Return every certificate that has been issued to a device, by name and then by expiry.

        Raises:
            ConfigurationError: one is damaged, or the list of revoked ones.
        """
        crl, moment = self.crl(), now()
        revoked = {entry.serial_number for entry in crl or ()}
        found = []
        for path in self._issued.glob("*.pem"):
            certificate = _read(path, x509.load_pem_x509_certificate, "the certificate of a device")
            serial, expires = certificate.serial_number, certificate.not_valid_after_utc
            state = State.REVOKED if serial in revoked else State.EXPIRED if expires < moment else State.VALID
            found.append(Issued(name_of(certificate), serial, expires, state))
        return sorted(found, key=lambda one: (one.device, one.expires, one.serial))

    def admitted(self) -> dict[str, datetime]:
        """Return the devices that have a valid certificate, and when the last of each expires."""
        return {one.device: one.expires for one in self.issued() if one.state is State.VALID}


def _read(path: Path, parse: Callable[[bytes], T], what: str) -> T:
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise ConfigurationError(f"'{path}': expected {what}, as it was once written there ({error})") from None
