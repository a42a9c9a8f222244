"""The operator's commands, except enroll. Each does its work and prints the result on standard output."""

import sys
from datetime import datetime
from pathlib import Path

from cloud.pki.authority import Authority, Change, Reason
from cloud.pki.certificates import now
from cloud.pki.clients import Role
from cloud.pki.confirm import Outcome, confirm
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError
from wire.mqtt.certificate_expiry import iso_format

STANDARD_INPUT = "-"
"""Instead of the name of a file."""


def revoke(authority: Authority, settings: PkiSettings, name: str, reason: Reason) -> None:
    """Revoke a device's certificates and disconnect it.

    Raises:
        ConfigurationError: there is no such device, or it may still be connected.
    """
    change = authority.revoke(name, reason)
    _conclude(authority, settings, change, f"{name} is revoked")


def revoke_certificate(authority: Authority, settings: PkiSettings, file: str, reason: Reason) -> None:
    """Revoke the certificate in a file, also one that is not registered, and disconnect whoever uses it.

    ``file``: ``-`` is the standard input.

    Raises:
        ConfigurationError: it is not a device's certificate of this authority, or it may still be in use.
    """
    try:
        data = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--certificate is '{file}': expected a file with a certificate ({error})") from None
    change = authority.revoke_certificate(data, reason)
    (name,) = change.names
    _conclude(authority, settings, change, f"the certificate of {name!r} is revoked")
    if name in authority.active_devices():
        show(f"{name} has another certificate, which is still in force.")


def revoke_issued_since(authority: Authority, settings: PkiSettings, moment: datetime, reason: Reason) -> None:
    """Revoke all certificates that were issued to devices since a moment, and print the devices.

    Raises:
        ConfigurationError: the moment is in the future, or a device may still be connected.
    """
    if moment > now():
        raise ConfigurationError(f"--all-issued-after is '{moment.isoformat()}': expected a time in the past")
    change = authority.revoke_issued_since(moment, settings.hosts, reason)
    _conclude(authority, settings, change, f"every certificate issued since {iso_format(moment)} is revoked")
    show(f"Devices concerned: {', '.join(change.names) or 'none'}.")


def replace_key(authority: Authority, settings: PkiSettings, role: Role) -> None:
    """Replace the key and the certificate of the broker, the sink or the gallery.

    Raises:
        ConfigurationError: the earlier certificate may still be in use.
    """
    change = authority.replace_key(role, settings.hosts)
    _conclude(authority, settings, change, f"the key of the {role} is replaced: its earlier certificate is revoked")


def list_certificates(authority: Authority) -> None:
    """Print a table with every certificate of every device, and every open code.

    A certificate that was issued after the backup that was restored is not in force; its state is ``unregistered``.
    """
    rows = [("DEVICE", "SERIAL", "EXPIRES", "STATE")]
    rows += [
        (issued.device, f"{issued.serial:x}", f"{issued.expires:%Y-%m-%d %H:%M}Z", issued.state.value)
        for issued in authority.issued()
    ]
    rows += [(client.name, f"{client.serial:x}", "unknown", "unregistered") for client in authority.unregistered()]
    rows += [(code.device, "-", f"{code.expires:%Y-%m-%d %H:%M}Z", "open code") for code in authority.codes.open()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        show("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _conclude(authority: Authority, settings: PkiSettings, change: Change, done: str) -> None:
    """Wait until the broker has put a change in force, and print that.

    Raises:
        ConfigurationError: whoever was revoked may still be connected.
    """
    outcome, reason = confirm(authority, change, settings.broker_host, settings.broker_port)
    broker = f"the broker at {settings.broker_host}:{settings.broker_port}"
    if outcome is Outcome.NOT_CONFIRMED:
        raise ConfigurationError(
            f"{done}, but may still be connected to {broker} ({reason}): "
            f"expected a broker that rereads {authority.broker}, as serve.sh and the guard do"
        )
    if outcome is Outcome.NOT_RUNNING:
        show(f"{done}. It was not connected: {broker} is not running ({reason}).")
    else:
        show(f"{done} and disconnected.")


def show(text: str) -> None:
    """Print a text for the operator."""
    print(text, flush=True)  # noqa: T201 (for the operator; the log is on standard error)
