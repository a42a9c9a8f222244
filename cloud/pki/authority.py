"""The certificate authority: its key, the certificates that it has issued, and the files of broker and sink.

    authority/   ca.pem, ca-key.pem, issued/, crl.pem, devices/   private to the authority
    broker/      ca.pem, server.pem, server-key.pem, crl.pem, acl.conf, stamp
    sink/        ca.pem, cert.pem, key.pem

Each folder is a separate volume. :meth:`Authority.ensure` may be called at any time: it creates what is missing, and
completes the work of a command that was interrupted.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import structlog
from cryptography import x509

from cloud.pki import atomic_files
from cloud.pki.acl import BROKER, SINK, acl
from cloud.pki.certificates import (
    CERTIFICATE_DAYS,
    CLIENT,
    Identity,
    issue,
    load_key,
    make_authority,
    make_crl,
    make_key,
    needs_renewal,
    pem,
)
from cloud.pki.device_bundle import DeviceBundle
from cloud.pki.registry import Issued, Registry
from cloud.pki.service_certificate import ServiceCertificate
from wire import topics
from wire.errors import ConfigurationError

INTERNAL_HOSTS = ("broker", "cloud-broker", "localhost", "127.0.0.1", "::1")
"""Names and addresses of the broker for clients on its own host and in its Docker network."""
STAMPED_FILES = ("ca.pem", "server.pem", "server-key.pem", "crl.pem", "acl.conf")
"""The files that the broker reads. Their hash is written to the file ``stamp`` last, so a changed stamp means that the
broker must reload them."""
TEMPORARY_DAYS = 5 / 1440
"""Validity of a temporary certificate: five minutes."""

Reason = x509.ReasonFlags

_log = structlog.get_logger("pki")


class Authority:
    """Issues certificates and revokes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker, self.sink = folder / "broker", folder / "sink"
        self._own = folder / "authority"
        self.devices = self._own / "devices"
        self._server = ServiceCertificate(BROKER, self.broker / "server.pem", self.broker / "server-key.pem")
        self._client = ServiceCertificate(SINK, self.sink / "cert.pem", self.sink / "key.pem")
        self._registry = Registry(self._own)

    def ensure(self, public_hosts: Sequence[str]) -> None:
        """Create what is missing, renew what expires soon, and update the broker's files.

        Raises:
            ConfigurationError: a file that cannot be created again is missing or damaged.
        """
        for folder in (self._own, self.broker, self.sink):
            atomic_files.make_folder(folder)
        with self._locked():
            ca = self._ensure_authority()
            self._server.renew(ca, {*public_hosts, *INTERNAL_HOSTS})
            self._client.renew(ca, set())
            atomic_files.write_if_changed(self.sink / "ca.pem", pem(ca.certificate))
            atomic_files.write_if_changed(self.broker / "ca.pem", pem(ca.certificate))
            crl = self._registry.crl()
            if crl is None or needs_renewal(crl):
                self._registry.replace_crl(make_crl(ca, crl))
            self._publish()

    def enroll(self, device: str, days: float = CERTIFICATE_DAYS) -> DeviceBundle:
        """Issue a certificate to a device. Its earlier certificates stay valid, so that it stays connected.

        The authority does not store the device's key.

        Raises:
            ConfigurationError: the name is not valid, or there is no authority yet.
        """
        if not topics.is_name(device):
            raise ConfigurationError(
                f"{device!r} is not a valid name of a device: expected 1 to 64 letters, digits, - or _, "
                "the first a letter or digit"
            )
        with self._locked():
            ca, key = self._load(), make_key()
            certificate = issue(ca, device, key, [CLIENT], days=days)
            self._registry.add(certificate)
            self._publish()
        _log.info("enrolled", device=device, expires=certificate.not_valid_after_utc.isoformat())
        return DeviceBundle(device, pem(ca.certificate), pem(certificate), pem(key), certificate.not_valid_after_utc)

    def write_bundle(self, bundle: DeviceBundle, parent: Path, host: str) -> Path:
        """Write the files for a device as :meth:`DeviceBundle.write` does, while no other command runs."""
        with self._locked():
            return bundle.write(parent, host)

    def remove_old_bundles(self, max_age_seconds: float) -> None:
        """Remove device files that are older than ``max_age_seconds``, because they contain the devices' keys."""
        with self._locked():
            for folder in self.devices.glob("*/"):
                if time.time() - folder.stat().st_mtime > max_age_seconds:
                    shutil.rmtree(folder)
                    _log.info("removed the files for a device", device=folder.name)

    def revoke(self, device: str, reason: x509.ReasonFlags = Reason.cessation_of_operation) -> "TemporaryCertificates":
        """Revoke all certificates and permissions of a device.

        Return temporary certificates in its name, for :func:`cloud.pki.disconnect.disconnect`.

        Raises:
            ConfigurationError: there is no such device, or there is no authority yet.
        """
        with self._locked():
            ca = self._load()
            serials = [issued.serial for issued in self._registry.issued() if issued.device == device]
            if not serials:
                raise ConfigurationError(f"there is no device {device!r}: expected a device in the output of 'list'")
            temporary = TemporaryCertificates(
                device, ca.certificate, revoked=_issue_temporary(ca, device), valid=_issue_temporary(ca, device)
            )
            serials_to_revoke = [*serials, temporary.revoked.certificate.serial_number]
            self._registry.replace_crl(make_crl(ca, self._registry.crl(), serials_to_revoke, reason))
            self._publish()
        _log.info("revoked", device=device, certificates=len(serials))
        return temporary

    @property
    def service_certificates(self) -> tuple[Path, Path]:
        """The files of the broker's and of the sink's certificate."""
        return self._server.certificate, self._client.certificate

    def expires(self) -> datetime:
        """Return when the authority's own certificate expires.

        Raises:
            ConfigurationError: there is no authority yet, or a file of it is damaged.
        """
        with self._locked():
            return self._load().certificate.not_valid_after_utc

    def active_devices(self) -> dict[str, datetime]:
        """Return the devices with a valid certificate, each with the expiry of its last one."""
        with self._locked():
            return self._registry.active_devices()

    def issued(self) -> list[Issued]:
        """Return every certificate of every device."""
        with self._locked():
            return self._registry.issued()

    def _locked(self) -> AbstractContextManager[None]:
        if not self._own.is_dir():
            raise ConfigurationError(f"PKI_FOLDER is '{self.folder}': expected an authority there; 'init' creates one")
        return atomic_files.locked(self._own / "lock")

    def _ensure_authority(self) -> Identity:
        if not (self._own / "ca.pem").exists() and not (self._own / "ca-key.pem").exists():
            created = make_authority(make_key())
            # The certificate last: if only the key exists, nothing has been issued with it yet.
            atomic_files.write(self._own / "ca-key.pem", pem(created.key))
            atomic_files.write(self._own / "ca.pem", pem(created.certificate))
            _log.info("created an authority", folder=str(self._own))
        elif not (self._own / "ca.pem").exists():
            created = make_authority(load_key((self._own / "ca-key.pem").read_bytes()))
            atomic_files.write(self._own / "ca.pem", pem(created.certificate))
        return self._load()

    def _load(self) -> Identity:
        try:
            certificate = x509.load_pem_x509_certificate((self._own / "ca.pem").read_bytes())
            return Identity(certificate, load_key((self._own / "ca-key.pem").read_bytes()))
        except (FileNotFoundError, ValueError) as error:
            raise ConfigurationError(
                f"PKI_FOLDER is '{self.folder}': expected the authority's certificate and key there ({error})"
            ) from None

    def _publish(self) -> None:
        """Update the broker's files, the stamp last."""
        atomic_files.write_if_changed(self.broker / "acl.conf", acl(self._registry.active_devices()).encode())
        atomic_files.write_if_changed(self.broker / "crl.pem", (self._own / "crl.pem").read_bytes())
        digest = sha256(b"".join((self.broker / name).read_bytes() for name in STAMPED_FILES)).hexdigest()
        atomic_files.write_if_changed(self.broker / "stamp", f"{digest}\n".encode())


@dataclass(frozen=True, slots=True)
class TemporaryCertificates:
    """Two short-lived certificates in the name of a revoked device. They exist only in memory."""

    device: str
    ca: x509.Certificate
    revoked: Identity
    """A revoked certificate: the broker accepts it until it has reloaded the CRL."""
    valid: Identity
    """A valid certificate: a client with it replaces the device's connection."""


def _issue_temporary(ca: Identity, name: str) -> Identity:
    key = make_key()
    return Identity(issue(ca, name, key, [CLIENT], days=TEMPORARY_DAYS), key)
