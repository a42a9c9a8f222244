"""Enrols many devices in one run, and publishes one new list of clients at the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from cryptography import x509

from cloud.pki.arguments import NAME_EXPECTED
from cloud.pki.authority import Authority
from cloud.pki.certificates import CLIENT, Identity, issue, make_key, now, pem
from cloud.pki.service_certificate import RENEW_AHEAD
from wire import topics
from wire.enrolment import device_bundle
from wire.enrolment.device_bundle import DeviceBundle
from wire.errors import ConfigurationError
from wire.process import atomic_files
from wire.process.log_text import quoted

AT_ONCE = 100
"""Devices between two synchronisations of the disk. Meanwhile other commands, and devices with codes, wait."""

_log = structlog.get_logger("pki")


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the devices on a list."""

    enrolled: list[str]
    kept: list[str]
    """Devices that were enrolled already, with a certificate that does not expire soon."""


def read_list(text: str, source: str) -> list[str]:
    """Return the names of devices in a text, one per line. Empty lines, and what follows a #, are left out.

    Raises:
        ConfigurationError: a name is not valid or occurs twice, one line for each; or there is none.
    """
    lines: dict[str, int] = {}
    mistakes = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if not topics.is_name(name):
            mistakes.append(f"{source}, line {number}: {quoted(name)} is not a valid name: expected {NAME_EXPECTED}")
        elif name in lines:
            mistakes.append(f"{source}, line {number}: {name} is in line {lines[name]} already: expected it once")
        else:
            lines[name] = number
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    if not lines:
        raise ConfigurationError(f"{source} has no name of a device: expected one per line")
    return list(lines)


def enroll(
    authority: Authority, names: Sequence[str], days: int, parent: Path, host: str, progress: Callable[[int], None]
) -> Run:
    """Issue a certificate to each device that has none, and write the devices' folders below ``parent``.

    If the run is interrupted, another one continues: a device counts as enrolled once its folder is complete.

    Args:
        authority: who issues the certificates.
        names: the devices.
        days: validity of each certificate.
        parent: where the folders are created.
        host: that of the cloud's broker.
        progress: is called with the number of devices that are done, again and again.

    Raises:
        ConfigurationError: there is no authority yet, or a file of it is missing or damaged.
        OSError: a file cannot be written.
    """
    ahead = min(RENEW_AHEAD, timedelta(days=days) / 2)
    kept = {name for name, expires in authority.active_devices().items() if expires - now() > ahead} & set(names)
    new = [name for name in names if name not in kept]
    progress(len(kept))
    for start in range(0, len(new), AT_ONCE):
        with authority.opened() as ca:
            _enroll(authority, ca, new[start : start + AT_ONCE], days, parent, host)
        progress(len(kept) + min(start + AT_ONCE, len(new)))
    with authority.opened() as ca:
        authority.publish(ca)
    _log.info("enrolled", devices=len(new), kept=len(kept))
    return Run(new, sorted(kept))


def _enroll(authority: Authority, ca: Identity, names: Sequence[str], days: int, parent: Path, host: str) -> None:
    files: dict[Path, bytes] = {}
    certificates: list[x509.Certificate] = []
    for name in names:
        key = make_key()
        certificate = issue(ca, name, key, [CLIENT], days=days)
        bundle = DeviceBundle(name, pem(ca.certificate), pem(certificate), pem(key), certificate.not_valid_after_utc)
        files |= bundle.files(device_bundle.make_folder(parent, name), host)
        certificates.append(certificate)
    # The folders first: a device that is registered has one, so it need not be enrolled again.
    atomic_files.write_all(files, device_bundle.MODE)
    authority.registry.add_all(certificates)
    authority.registry.forget_unregistered(*names)
