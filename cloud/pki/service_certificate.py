"""The certificate of a service, such as the broker, which the authority renews before it expires."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from cryptography import x509

from cloud.pki.certificates import (
    CLIENT,
    Identity,
    Key,
    hosts_of,
    is_issued_by,
    issue,
    load_key,
    make_key,
    name_of,
    normalize_host,
    now,
    pem,
)
from wire.process import atomic_files

RENEW_AHEAD = timedelta(days=30)

T = TypeVar("T")

_log = structlog.get_logger("pki")


@dataclass(frozen=True, slots=True)
class ServiceCertificate:
    """A certificate and its key, in files that the service reads."""

    name: str
    """The common name."""
    certificate: Path
    key: Path
    purposes: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)

    def current(self, ca: Identity) -> x509.Certificate | None:
        """Return the certificate; None if it is missing or damaged, or of another authority or name."""
        current = _load_or_none(self.certificate, x509.load_pem_x509_certificate)
        if current is None or not is_issued_by(current, ca.certificate) or name_of(current) != self.name:
            return None
        return current

    def renew(self, ca: Identity, hosts: set[str], revoked: set[int]) -> None:
        """Issue the certificate again if it is missing or wrong, or expires soon.

        The key is kept, so that certificate and key match at any time. If the certificate is one of those ``revoked``,
        the key is replaced too. ``hosts`` is empty for a client.
        """
        current, key = self.current(ca), _load_or_none(self.key, load_key)
        if key is None or (current is not None and current.serial_number in revoked):
            self.replace(ca, hosts)
        elif current is None or not _is_valid(current, key, hosts):
            self._issue(ca, key, hosts)

    def replace(self, ca: Identity, hosts: set[str]) -> None:
        """Make a new key, and issue a certificate for it. If only the key has been written, ``renew`` does the rest."""
        key = make_key()
        atomic_files.write(self.key, pem(key))
        self._issue(ca, key, hosts)

    def _issue(self, ca: Identity, key: Key, hosts: set[str]) -> None:
        certificate = issue(ca, self.name, key, self.purposes, hosts=sorted(hosts))
        atomic_files.write(self.certificate, pem(certificate))
        _log.info("issued", name=self.name, hosts=sorted(hosts), expires=certificate.not_valid_after_utc.isoformat())


def _is_valid(current: x509.Certificate, key: Key, hosts: set[str]) -> bool:
    return (
        current.public_key() == key.public_key()
        and current.not_valid_after_utc - now() > RENEW_AHEAD
        and (not hosts or hosts_of(current) == {normalize_host(host) for host in hosts})
    )


def _load_or_none(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """Load a file. Return None if it is missing or damaged."""
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
