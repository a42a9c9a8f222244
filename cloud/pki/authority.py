"""The certificate authority: its key, the certificates that it has issued, and the files of its services.

    authority/   ca.pem, ca-key.pem, issued/, crl.pem, temporary/, unregistered, codes/, devices/   private
    broker/      ca.pem, server.pem, server-key.pem, crl.pem, clients, stamp
    sink/        ca.pem, cert.pem, key.pem
    gallery/     the same
    enrolment/   the same, open-until, and the socket at which the authority answers the enrolment service

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

from cloud.pki import restored_backup
from cloud.pki.arguments import check_name, parse_issued
from cloud.pki.authority_files import AuthorityFiles
from cloud.pki.broker_files import BrokerFiles
from cloud.pki.certificates import (
    CERTIFICATE_DAYS,
    CLIENT,
    SERVER,
    Identity,
    issue,
    issued_at,
    make_crl,
    make_key,
    name_of,
    needs_renewal,
    now,
    pem,
    serials_in,
)
from cloud.pki.clients import AUTHORITY, BROKER, GALLERY, SINK, Client, Role
from cloud.pki.codes import Codes
from cloud.pki.enrolment_files import EnrolmentFiles
from cloud.pki.registry import Issued, Registry, State
from cloud.pki.service_certificate import ServiceCertificate
from wire.enrolment.device_bundle import DeviceBundle
from wire.errors import ConfigurationError
from wire.process import atomic_files

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
        self.broker, self.sink, self.gallery = folder / "broker", folder / "sink", folder / "gallery"
        own = folder / "authority"
        self.devices = own / "devices"
        self.registry, self.codes, self.enrolment = Registry(own), Codes(own / "codes"), EnrolmentFiles(folder)
        self._files = AuthorityFiles(own)
        self._broker_files = BrokerFiles(self.broker)
        self._services = {
            Role.BROKER: ServiceCertificate(
                BROKER, self._broker_files.certificate, self._broker_files.key, (SERVER, CLIENT)
            ),
            Role.SINK: ServiceCertificate(SINK, self.sink / "cert.pem", self.sink / "key.pem"),
            Role.GALLERY: ServiceCertificate(GALLERY, self.gallery / "cert.pem", self.gallery / "key.pem"),
        }

    def ensure(self, public_hosts: Sequence[str]) -> None:
        """Create what is missing, renew what expires soon, and update the files of broker, sink and gallery.

        Raises:
            ConfigurationError: a file that cannot be created again is missing or damaged.
        """
        for folder in (self._files.folder, self.broker, self.sink, self.gallery, self.enrolment.folder):
            atomic_files.make_folder(folder)
        with self._locked():
            self._files.ensure()
        with self.opened() as ca:
            crl = self.registry.crl()
            if crl is None or needs_renewal(crl):
                self.registry.replace_crl(make_crl(ca, crl))
            for copy in (self.sink / "ca.pem", self.gallery / "ca.pem", self._broker_files.ca, self.enrolment.ca):
                atomic_files.write_if_changed(copy, pem(ca.certificate))
            self._renew_services(ca, public_hosts)
            self.enrolment.renew(ca)
            self.codes.remove_old()
            self.enrolment.publish(self.codes.open_until())
            self.publish(ca)

    def enroll(self, device: str, days: float = CERTIFICATE_DAYS) -> DeviceBundle:
        """Issue a certificate to a device. Its earlier certificates stay valid, so that it stays connected.

        The authority does not store the device's key.

        Raises:
            ConfigurationError: the name is not valid, or there is no authority yet.
        """
        check_name(device)
        with self.opened() as ca:
            key = make_key()
            certificate = issue(ca, device, key, [CLIENT], days=days)
            self.registry.add(certificate)
            self.registry.forget_unregistered(device)
            self.publish(ca)
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
        """Revoke all certificates and codes of a device, also certificates issued after the backup that was restored.

        Raises:
            ConfigurationError: there is no such device, or there is no authority yet.
        """
        with self.opened() as ca:
            had_code = bool(self.codes.remove([device]))
            serials = {issued.serial for issued in self.registry.issued() if issued.device == device}
            serials |= {client.serial for client in self.registry.unregistered() if client.name == device}
            if not serials and not had_code:
                raise ConfigurationError(f"there is no device {device!r}: expected a device in the output of 'list'")
            return self._revoke(ca, serials, reason, [device])

    def revoke_certificate(self, data: bytes, reason: x509.ReasonFlags = Reason.cessation_of_operation) -> Change:
        """Revoke one certificate of this authority, given in PEM, even if it is not registered.

        Raises:
            ConfigurationError: it is not a device's certificate of this authority.
        """
        with self.opened() as ca:
            certificate = parse_issued(data, ca.certificate)
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
        """Revoke all certificates that were issued to devices at or after a moment, and all codes.

        The keys and certificates of the services are replaced if their certificates were issued since.
        """
        with self.opened() as ca:
            devices = [
                issued
                for issued in self.registry.issued()
                if issued.issued >= moment and issued.state is not State.REVOKED
            ]
            services = [service.current(ca) for service in self._services.values()]
            serials = {issued.serial for issued in devices}
            serials |= {one.serial_number for one in services if one is not None and issued_at(one) >= moment}
            self.codes.remove_all()
            return self._revoke(ca, serials, reason, {issued.device for issued in devices}, public_hosts)

    def replace_key(self, role: Role, public_hosts: Sequence[str]) -> Change:
        """Replace the key and the certificate of a service, and revoke the present certificate."""
        with self.opened() as ca:
            service = self._services[role]
            current = service.current(ca)
            if current is None:
                service.replace(ca, self._hosts_of(role, public_hosts))
            serials = [] if current is None else [current.serial_number]
            return self._revoke(ca, serials, Reason.superseded, [], public_hosts)

    def finish(self, change: Change) -> None:
        """Remove the temporary certificate of a change from the list of clients."""
        with self.opened() as ca:
            self.registry.remove_temporary(change.temporary.certificate.serial_number)
            self.publish(ca)

    @property
    def service_certificates(self) -> dict[Role, Path]:
        """The files of the certificates of broker, sink and gallery."""
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
            return self.registry.active_devices()

    def issued(self) -> list[Issued]:
        """Return every certificate of every device."""
        with self._locked():
            return self.registry.issued()

    def unregistered(self) -> list[Client]:
        """Return the certificates that were issued after the backup that was restored, as far as they are known."""
        with self._locked():
            return self.registry.unregistered()

    def clients(self) -> list[Client]:
        """Return the certificates that are in force, as the broker reads them."""
        return self._broker_files.clients()

    def _locked(self) -> AbstractContextManager[None]:
        return self._files.locked()

    def _load(self) -> Identity:
        return self._files.load()

    @contextmanager
    def opened(self) -> Iterator[Identity]:
        """Lock the authority for a change, and return its certificate and key.

        Raises:
            ConfigurationError: there is no authority yet, or a file of it is missing or damaged.
        """
        with self._locked():
            ca = self._load()
            if restored_backup.complete(self.registry, self._broker_files, ca):
                self.codes.remove_all()  # one that was used or revoked after the backup would be open again
            yield ca

    def _revoke(
        self,
        ca: Identity,
        serials: Collection[int],
        reason: x509.ReasonFlags,
        devices: Iterable[str],
        public_hosts: Sequence[str] | None = None,
    ) -> Change:
        """Revoke certificates, and publish that. With ``public_hosts``, also replace the services' keys if needed."""
        if set(serials) - serials_in(self.registry.crl()):
            self.registry.replace_crl(make_crl(ca, self.registry.crl(), serials, reason))
        if public_hosts is not None:
            self._renew_services(ca, public_hosts)
        key = make_key()
        temporary = Identity(issue(ca, AUTHORITY, key, [CLIENT], days=TEMPORARY_DAYS), key)
        self.registry.add_temporary(temporary.certificate)
        self.enrolment.publish(self.codes.open_until())
        self.publish(ca)
        names = tuple(sorted(devices))
        if serials:
            _log.info("revoked", devices=", ".join(names), certificates=len(serials))
        return Change(names, ca.certificate, temporary)

    def _renew_services(self, ca: Identity, public_hosts: Sequence[str]) -> None:
        revoked = serials_in(self.registry.crl())
        for role, service in self._services.items():
            service.renew(ca, self._hosts_of(role, public_hosts), revoked)

    def _hosts_of(self, role: Role, public_hosts: Sequence[str]) -> set[str]:
        return {*public_hosts, *INTERNAL_HOSTS} if role is Role.BROKER else set()

    def publish(self, ca: Identity) -> None:
        """Update the broker's files while the authority is opened."""
        crl = self.registry.crl()
        if crl is None:
            raise ConfigurationError(f"PKI_FOLDER is '{self.folder}': expected a complete authority; run 'init' first")
        self._broker_files.publish(pem(crl), self._clients(ca, serials_in(crl)))

    def _clients(self, ca: Identity, revoked: set[int]) -> Iterator[Client]:
        """Return the certificates that are in force."""
        for issued in self.registry.issued():
            if issued.state is State.VALID:
                yield Client(issued.serial, issued.device, Role.DEVICE)
        for role, service in self._services.items():
            current = service.current(ca)
            if current is not None and current.serial_number not in revoked and current.not_valid_after_utc > now():
                yield Client(current.serial_number, service.name, role)
        for serial in self.registry.temporary():
            yield Client(serial, AUTHORITY, Role.AUTHORITY)
