"""The certificate authority: its key, the certificates that it has issued, and the files of broker and sink.

    authority/   ca.pem, ca-key.pem, issued/, crl.pem, temporary/, unregistered, devices/   private to the authority
    broker/      ca.pem, server.pem, server-key.pem, crl.pem, clients, stamp
    sink/        ca.pem, cert.pem, key.pem

Each folder is a separate volume. :meth:`Authority.ensure` may be called at any time: it creates what is missing, and
completes the work of a command that was interrupted. Each command stores a change in ``authority/`` before it publishes
it in the other folders.
"""

import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509

from cloud.pki import atomic_files, restored_backup
from cloud.pki.broker_files import BrokerFiles
from cloud.pki.certificates import (
    CERTIFICATE_DAYS,
    CLIENT,
    Identity,
    is_issued_by,
    issue,
    issued_at,
    load_key,
    make_authority,
    make_crl,
    make_key,
    name_of,
    needs_renewal,
    now,
    pem,
    serials_in,
)
from cloud.pki.clients import AUTHORITY, BROKER, SINK, Client, Role
from cloud.pki.device_bundle import DeviceBundle
from cloud.pki.registry import Issued, Registry, State
from cloud.pki.service_certificate import ServiceCertificate
from wire import topics
from wire.errors import ConfigurationError

INTERNAL_HOSTS = ("broker", "cloud-broker", "localhost", "127.0.0.1", "::1")
"""Names and addresses of the broker for clients on its own host and in its Docker network."""
TEMPORARY_DAYS = 5 / 1440
"""Validity of a temporary certificate: five minutes."""

Reason = x509.ReasonFlags

_log = structlog.get_logger("pki")


@dataclass(frozen=True, slots=True)
class Change:
    """A published change that the broker has to put in force; see :func:`cloud.pki.confirm.confirm`."""

    names: tuple[str, ...]
    """The devices whose certificates were revoked."""
    ca: x509.Certificate
    temporary: Identity
    """A certificate that the broker accepts as soon as the change is in force. Its key exists only in memory."""


class Authority:
    """Issues certificates and revokes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker, self.sink = folder / "broker", folder / "sink"
        self._own = folder / "authority"
        self.devices = self._own / "devices"
        self._broker_files = BrokerFiles(self.broker)
        self._services = {
            Role.BROKER: ServiceCertificate(BROKER, self._broker_files.certificate, self._broker_files.key),
            Role.SINK: ServiceCertificate(SINK, self.sink / "cert.pem", self.sink / "key.pem"),
        }
        self._registry = Registry(self._own)

    def ensure(self, public_hosts: Sequence[str]) -> None:
        """Create what is missing, renew what expires soon, and update the files of broker and sink.

        Raises:
            ConfigurationError: a file that cannot be created again is missing or damaged.
        """
        for folder in (self._own, self.broker, self.sink):
            atomic_files.make_folder(folder)
        with self._locked():
            self._ensure_authority()
        with self._opened() as ca:
            crl = self._registry.crl()
            if crl is None or needs_renewal(crl):
                self._registry.replace_crl(make_crl(ca, crl))
            atomic_files.write_if_changed(self.sink / "ca.pem", pem(ca.certificate))
            atomic_files.write_if_changed(self._broker_files.ca, pem(ca.certificate))
            self._renew_services(ca, public_hosts)
            self._publish(ca)

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
        with self._opened() as ca:
            key = make_key()
            certificate = issue(ca, device, key, [CLIENT], days=days)
            self._registry.add(certificate)
            self._registry.forget_unregistered(device)
            self._publish(ca)
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

    def revoke(self, device: str, reason: x509.ReasonFlags = Reason.cessation_of_operation) -> Change:
        """Revoke all certificates of a device, also those that were issued after the backup that was restored.

        Raises:
            ConfigurationError: there is no such device, or there is no authority yet.
        """
        with self._opened() as ca:
            serials = {issued.serial for issued in self._registry.issued() if issued.device == device}
            serials |= {client.serial for client in self._registry.unregistered() if client.name == device}
            if not serials:
                raise ConfigurationError(f"there is no device {device!r}: expected a device in the output of 'list'")
            return self._revoke(ca, serials, reason, [device])

    def revoke_certificate(self, data: bytes, reason: x509.ReasonFlags = Reason.cessation_of_operation) -> Change:
        """Revoke one certificate of this authority, given in PEM, even if it is not registered.

        Raises:
            ConfigurationError: it is not a device's certificate of this authority.
        """
        with self._opened() as ca:
            certificate = _parse_issued(data, ca.certificate)
            for role, service in self._services.items():
                current = service.current(ca)
                if current is not None and current.serial_number == certificate.serial_number:
                    raise ConfigurationError(f"this is the certificate of the {role}: use 'replace-key {role}' instead")
            return self._revoke(ca, [certificate.serial_number], reason, [name_of(certificate)])

    def revoke_issued_since(
        self,
        moment: datetime,
        public_hosts: Sequence[str],
        reason: x509.ReasonFlags = Reason.cessation_of_operation,
    ) -> Change:
        """Revoke all certificates that were issued to devices at or after a moment.

        The keys and certificates of the broker and of the sink are replaced if their certificates were issued since.
        """
        with self._opened() as ca:
            devices = [
                issued
                for issued in self._registry.issued()
                if issued.issued >= moment and issued.state is not State.REVOKED
            ]
            services = [service.current(ca) for service in self._services.values()]
            serials = {issued.serial for issued in devices}
            serials |= {one.serial_number for one in services if one is not None and issued_at(one) >= moment}
            return self._revoke(ca, serials, reason, {issued.device for issued in devices}, public_hosts)

    def replace_key(self, role: Role, public_hosts: Sequence[str]) -> Change:
        """Replace the key and the certificate of the broker or of the sink, and revoke the present certificate."""
        with self._opened() as ca:
            service = self._services[role]
            current = service.current(ca)
            if current is None:
                service.replace(ca, self._hosts_of(role, public_hosts))
            serials = [] if current is None else [current.serial_number]
            return self._revoke(ca, serials, Reason.superseded, [], public_hosts)

    def finish(self, change: Change) -> None:
        """Remove the temporary certificate of a change from the list of clients."""
        with self._opened() as ca:
            self._registry.remove_temporary(change.temporary.certificate.serial_number)
            self._publish(ca)

    @property
    def service_certificates(self) -> dict[Role, Path]:
        """The files of the broker's and of the sink's certificate."""
        return {role: service.certificate for role, service in self._services.items()}

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

    def unregistered(self) -> list[Client]:
        """Return the certificates that were issued after the backup that was restored, as far as they are known."""
        with self._locked():
            return self._registry.unregistered()

    def clients(self) -> list[Client]:
        """Return the certificates that are in force, as the broker reads them."""
        return self._broker_files.clients()

    def _locked(self) -> AbstractContextManager[None]:
        if not self._own.is_dir():
            raise ConfigurationError(f"PKI_FOLDER is '{self.folder}': expected an authority there; 'init' creates one")
        return atomic_files.locked(self._own / "lock")

    @contextmanager
    def _opened(self) -> Iterator[Identity]:
        """Lock the authority for a change, and return its certificate and key."""
        with self._locked():
            ca = self._load()
            restored_backup.complete(self._registry, self._broker_files, ca)
            yield ca

    def _ensure_authority(self) -> None:
        if not (self._own / "ca.pem").exists() and not (self._own / "ca-key.pem").exists():
            created = make_authority(make_key())
            # The certificate last: if only the key exists, nothing has been issued with it yet.
            atomic_files.write(self._own / "ca-key.pem", pem(created.key))
            atomic_files.write(self._own / "ca.pem", pem(created.certificate))
            _log.info("created an authority", folder=str(self._own))
        elif not (self._own / "ca.pem").exists():
            created = make_authority(load_key((self._own / "ca-key.pem").read_bytes()))
            atomic_files.write(self._own / "ca.pem", pem(created.certificate))

    def _load(self) -> Identity:
        try:
            certificate = x509.load_pem_x509_certificate((self._own / "ca.pem").read_bytes())
            return Identity(certificate, load_key((self._own / "ca-key.pem").read_bytes()))
        except (FileNotFoundError, ValueError) as error:
            raise ConfigurationError(
                f"PKI_FOLDER is '{self.folder}': expected the authority's certificate and key there ({error})"
            ) from None

    def _revoke(
        self,
        ca: Identity,
        serials: Collection[int],
        reason: x509.ReasonFlags,
        devices: Iterable[str],
        public_hosts: Sequence[str] | None = None,
    ) -> Change:
        """Revoke certificates, and publish that. With ``public_hosts``, also replace the services' keys if needed."""
        if set(serials) - serials_in(self._registry.crl()):
            self._registry.replace_crl(make_crl(ca, self._registry.crl(), serials, reason))
        if public_hosts is not None:
            self._renew_services(ca, public_hosts)
        key = make_key()
        temporary = Identity(issue(ca, AUTHORITY, key, [CLIENT], days=TEMPORARY_DAYS), key)
        self._registry.add_temporary(temporary.certificate)
        self._publish(ca)
        names = tuple(sorted(devices))
        if serials:
            _log.info("revoked", devices=", ".join(names), certificates=len(serials))
        return Change(names, ca.certificate, temporary)

    def _renew_services(self, ca: Identity, public_hosts: Sequence[str]) -> None:
        revoked = serials_in(self._registry.crl())
        for role, service in self._services.items():
            service.renew(ca, self._hosts_of(role, public_hosts), revoked)

    def _hosts_of(self, role: Role, public_hosts: Sequence[str]) -> set[str]:
        return {*public_hosts, *INTERNAL_HOSTS} if role is Role.BROKER else set()

    def _publish(self, ca: Identity) -> None:
        """Update the broker's files."""
        crl = self._registry.crl()
        if crl is None:
            raise ConfigurationError(f"PKI_FOLDER is '{self.folder}': expected a complete authority; run 'init' first")
        self._broker_files.publish(pem(crl), self._clients(ca, serials_in(crl)))

    def _clients(self, ca: Identity, revoked: set[int]) -> Iterator[Client]:
        """Return the certificates that are in force."""
        for issued in self._registry.issued():
            if issued.state is State.VALID:
                yield Client(issued.serial, issued.device, Role.DEVICE)
        for role, service in self._services.items():
            current = service.current(ca)
            if current is not None and current.serial_number not in revoked and current.not_valid_after_utc > now():
                yield Client(current.serial_number, service.name, role)
        for serial in self._registry.temporary():
            yield Client(serial, AUTHORITY, Role.AUTHORITY)


def _parse_issued(data: bytes, ca: x509.Certificate) -> x509.Certificate:
    """Parse the certificate of a client in PEM, and check that the authority has issued it."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(data)
        name_of(certificate)
    except ValueError as error:
        raise ConfigurationError(f"this is not a certificate: expected one certificate in PEM ({error})") from None
    if not is_issued_by(certificate, ca):
        raise ConfigurationError("this certificate was not issued by this authority: expected that of a device")
    return certificate
