"""The authority: its key, what it has signed, and the files that broker and sink read.

    authority/   ca.pem, ca-key.pem, issued/, crl.pem, devices/   nobody else sees them
    broker/      ca.pem, server.pem, server-key.pem, crl.pem, acl.conf, stamp
    sink/        ca.pem, cert.pem, key.pem

Each is a volume of its own. Everything but the first key follows from something, so :meth:`Authority.ensure` may be
called at any time, and makes up for whatever an earlier command did not get to do.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cloud.pki import atomic_files
from cloud.pki.acl import BROKER, SINK, acl
from cloud.pki.certificates import (
    CLIENT,
    SERVER,
    YEAR_DAYS,
    Identity,
    Key,
    hosts_of,
    is_old,
    issue,
    make_authority,
    make_crl,
    make_key,
    name_of,
    normal_host,
    now,
    pem,
    read_key,
)
from cloud.pki.device_bundle import DeviceBundle
from cloud.pki.registry import Issued, Registry
from wire import topics
from wire.errors import ConfigurationError

RENEW_AHEAD = timedelta(days=30)
HOSTS = ("broker", "cloud-broker", "localhost", "127.0.0.1", "::1")
"""Under which the broker is reached from beside it, whatever its public name is."""
STAMPED = ("ca.pem", "server.pem", "server-key.pem", "crl.pem", "acl.conf")
"""What the broker reads. A stamp of it all is written last: when that changes, there is something to read again."""

PASS_DAYS = 5 / 1440
"""Five minutes."""

Reason = x509.ReasonFlags
T = TypeVar("T")

_log = structlog.get_logger("pki")


class Authority:
    """Issues certificates and revokes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker, self.sink = folder / "broker", folder / "sink"
        self._own = folder / "authority"
        self.devices = self._own / "devices"
        self._server = _Files(self.broker / "server.pem", self.broker / "server-key.pem")
        self._client = _Files(self.sink / "cert.pem", self.sink / "key.pem")
        self._registry = Registry(self._own)

    def ensure(self, public_hosts: Sequence[str]) -> None:
        """Make what is missing, renew what expires soon, and bring what the broker reads up to date.

        Args:
            public_hosts: names and addresses of the broker.

        Raises:
            ConfigurationError: a file that cannot be made anew is missing or damaged.
        """
        for folder in (self._own, self.broker, self.sink):
            atomic_files.make_folder(folder)
        with self._locked():
            ca = self._make_authority()
            self._keep_valid(ca, self._server, BROKER, {*public_hosts, *HOSTS})
            self._keep_valid(ca, self._client, SINK, set())
            atomic_files.write_changed(self.sink / "ca.pem", pem(ca.certificate))
            atomic_files.write_changed(self.broker / "ca.pem", pem(ca.certificate))
            crl = self._registry.crl()
            if crl is None or is_old(crl):
                self._registry.replace_crl(make_crl(ca, crl))
            self._publish()

    def enroll(self, device: str, days: float = YEAR_DAYS) -> DeviceBundle:
        """Let a device in, or renew its certificate: an earlier one stays valid, so that it is never cut off.

        Args:
            device: its name.
            days: how long the certificate is valid.

        Returns:
            What the device needs. Of its key nothing is kept here: whoever writes the bundle decides where it is.

        Raises:
            ConfigurationError: that is no name for a device, or there is no authority yet.
        """
        if not topics.is_name(device):
            raise ConfigurationError(
                f"{device!r} cannot be a device's name: expected 1 to 64 letters, digits, - or _, "
                "the first a letter or digit"
            )
        with self._locked():
            ca, key = self._load(), make_key()
            certificate = issue(ca, device, key, [CLIENT], days=days)
            self._registry.add(certificate)
            self._publish()
        _log.info("enrolled", device=device, expires=certificate.not_valid_after_utc.isoformat())
        return DeviceBundle(device, pem(ca.certificate), pem(certificate), pem(key), certificate.not_valid_after_utc)

    def hand_out(self, bundle: DeviceBundle, parent: Path, host: str) -> Path:
        """Write what a device is given into a folder of its name, and return that; one at a time.

        Args:
            bundle: what :meth:`enroll` has returned.
            parent: where the folder is made.
            host: where the broker listens.
        """
        with self._locked():
            return bundle.write(parent, host)

    def forget_bundles(self, seconds: float) -> None:
        """Remove what devices were given more than ``seconds`` ago: their keys belong to them alone."""
        with self._locked():
            for folder in self.devices.glob("*/"):
                if time.time() - folder.stat().st_mtime > seconds:
                    shutil.rmtree(folder)
                    _log.info("removed what a device was given, to be copied out", device=folder.name)

    def revoke(self, device: str, reason: x509.ReasonFlags = Reason.cessation_of_operation) -> "TemporaryCertificates":
        """Shut a device out: its certificates are revoked, its rights are gone.

        Returns:
            Certificates of minutes in its name, with which to find out when the broker knows, and to take its place.

        Raises:
            ConfigurationError: there is no such device, or no authority yet.
        """
        with self._locked():
            ca = self._load()
            serials = [one.serial for one in self._registry.issued() if one.device == device]
            if not serials:
                raise ConfigurationError(f"there is no device {device!r}: expected one that 'list' shows")
            made = TemporaryCertificates(device, ca.certificate, _minutes(ca, device), _minutes(ca, device))
            shut_out = [*serials, made.revoked.certificate.serial_number]
            self._registry.replace_crl(make_crl(ca, self._registry.crl(), shut_out, reason))
            self._publish()
        _log.info("revoked", device=device, certificates=len(serials))
        return made

    @property
    def own_certificates(self) -> tuple[Path, Path]:
        """The files of the broker's certificate and of the sink's."""
        return self._server.certificate, self._client.certificate

    def expires(self) -> datetime:
        """Return when the authority's own certificate expires.

        Raises:
            ConfigurationError: there is no authority yet, or its files are damaged.
        """
        with self._locked():
            return self._load().certificate.not_valid_after_utc

    def admitted(self) -> dict[str, datetime]:
        """Return the devices that are let in, and when the last certificate of each expires."""
        with self._locked():
            return self._registry.admitted()

    def issued(self) -> list[Issued]:
        """Return every certificate of a device."""
        with self._locked():
            return self._registry.issued()

    def _locked(self) -> AbstractContextManager[None]:
        if not self._own.is_dir():
            raise ConfigurationError(f"PKI_FOLDER is '{self.folder}': expected an authority there; 'init' makes one")
        return atomic_files.locked(self._own / "lock")

    def _make_authority(self) -> Identity:
        if not (self._own / "ca.pem").exists() and not (self._own / "ca-key.pem").exists():
            made = make_authority(make_key())
            # The certificate last: a key alone is one that has signed nothing yet.
            atomic_files.write(self._own / "ca-key.pem", pem(made.key))
            atomic_files.write(self._own / "ca.pem", pem(made.certificate))
            _log.info("made an authority", folder=str(self._own))
        elif not (self._own / "ca.pem").exists():
            made = make_authority(read_key((self._own / "ca-key.pem").read_bytes()))
            atomic_files.write(self._own / "ca.pem", pem(made.certificate))
        return self._load()

    def _load(self) -> Identity:
        try:
            certificate = x509.load_pem_x509_certificate((self._own / "ca.pem").read_bytes())
            return Identity(certificate, read_key((self._own / "ca-key.pem").read_bytes()))
        except (FileNotFoundError, ValueError) as error:
            raise ConfigurationError(
                f"PKI_FOLDER is '{self.folder}': expected the authority's certificate and key in it ({error})"
            ) from None

    def _keep_valid(self, ca: Identity, files_of: "_Files", name: str, hosts: set[str]) -> None:
        """Issue a certificate of our own anew where it must be.

        The key stays: so certificate and key fit, whenever they are read.
        """
        key = _read(files_of.key, read_key)
        held = _read(files_of.certificate, x509.load_pem_x509_certificate)
        if key is None:
            key = make_key()
            atomic_files.write(files_of.key, pem(key))
        if held is not None and _will_do(held, ca, name, key, hosts):
            return
        purposes = [SERVER, CLIENT] if hosts else [CLIENT]
        certificate = issue(ca, name, key, purposes, hosts=sorted(hosts))
        atomic_files.write(files_of.certificate, pem(certificate))
        _log.info("issued", name=name, hosts=sorted(hosts), expires=certificate.not_valid_after_utc.isoformat())

    def _publish(self) -> None:
        """Bring the broker's files up to date, the stamp last."""
        atomic_files.write_changed(self.broker / "acl.conf", acl(self._registry.admitted()).encode())
        atomic_files.write_changed(self.broker / "crl.pem", (self._own / "crl.pem").read_bytes())
        digest = sha256(b"".join((self.broker / name).read_bytes() for name in STAMPED)).hexdigest()
        atomic_files.write_changed(self.broker / "stamp", f"{digest}\n".encode())


@dataclass(frozen=True, slots=True)
class TemporaryCertificates:
    """What it takes to come in as a device that has just been shut out: two certificates of minutes, in memory only."""

    device: str
    ca: x509.Certificate
    revoked: Identity
    """Is in the list of revoked ones: the broker lets it in until it has read that."""
    valid: Identity
    """Is not: it can take the device's place afterwards."""


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    key: Path


def _minutes(ca: Identity, name: str) -> Identity:
    key = make_key()
    return Identity(issue(ca, name, key, [CLIENT], days=PASS_DAYS), key)


def _read(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """Read one of our own files; None where it is missing or damaged, and has to be made anew."""
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _will_do(held: x509.Certificate, ca: Identity, name: str, key: Key, hosts: set[str]) -> bool:
    try:
        held.verify_directly_issued_by(ca.certificate)
    except (ValueError, InvalidSignature):
        return False
    return (
        name_of(held) == name
        and held.public_key() == key.public_key()
        and held.not_valid_after_utc - now() > RENEW_AHEAD
        and (not hosts or hosts_of(held) == {normal_host(host) for host in hosts})
    )
