"""The certificate of the broker or of the sink, which the authority renews before it expires."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cloud.pki import atomic_files
from cloud.pki.certificates import (
    CLIENT,
    SERVER,
    Identity,
    Key,
    hosts_of,
    issue,
    load_key,
    make_key,
    name_of,
    normalize_host,
    now,
    pem,
)

RENEW_AHEAD = timedelta(days=30)

T = TypeVar("T")

_log = structlog.get_logger("pki")


@dataclass(frozen=True, slots=True)
class ServiceCertificate:
    """A certificate and its key, in files that the broker or the sink reads."""

    name: str
    """The common name."""
    certificate: Path
    key: Path

    def renew(self, ca: Identity, hosts: set[str]) -> None:
        """Issue the certificate again if it is missing or wrong, or expires soon.

        The key is kept, so that certificate and key match at any time. ``hosts`` is empty for a client.
        """
        key = _load_or_none(self.key, load_key)
        current = _load_or_none(self.certificate, x509.load_pem_x509_certificate)
        if key is None:
            key = make_key()
            atomic_files.write(self.key, pem(key))
        if current is not None and self._is_valid(current, ca, key, hosts):
            return
        purposes = [SERVER, CLIENT] if hosts else [CLIENT]
        certificate = issue(ca, self.name, key, purposes, hosts=sorted(hosts))
        atomic_files.write(self.certificate, pem(certificate))
        _log.info("issued", name=self.name, hosts=sorted(hosts), expires=certificate.not_valid_after_utc.isoformat())

    def _is_valid(self, current: x509.Certificate, ca: Identity, key: Key, hosts: set[str]) -> bool:
        try:
            current.verify_directly_issued_by(ca.certificate)
        except (ValueError, InvalidSignature):
            return False
        return (
            name_of(current) == self.name
            and current.public_key() == key.public_key()
            and current.not_valid_after_utc - now() > RENEW_AHEAD
            and (not hosts or hosts_of(current) == {normalize_host(host) for host in hosts})
        )


def _load_or_none(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """Load a file. Return None if it is missing or damaged."""
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
