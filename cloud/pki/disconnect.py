"""Disconnects a device that has been revoked.

Mosquitto reads the list of revoked certificates, and leaves alone whoever is connected already. The user is the client
(``use_username_as_clientid``), so whoever comes in under a device's name takes its place. The authority does so itself,
once the broker turns away a certificate that it has just revoked: before that, the device would be back at once.
"""

import tempfile
import time
from enum import Enum
from pathlib import Path

from cloud.pki import atomic_files
from cloud.pki.authority import TemporaryCertificates
from cloud.pki.certificates import Identity, pem
from wire.errors import LinkLost, NotTrusted, Refused
from wire.mqtt.connection import Connection, ConnectOptions, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles

BROKER_READS_SECONDS = 8.0
"""It is told within a second or two."""
PAUSE_SECONDS = 0.2
GOODBYE_SECONDS = 1.0


class Outcome(Enum):
    """What has become of the connection of a device."""

    GONE = "gone"
    """It had one and has none, or had none."""
    OUT_OF_REACH = "out of reach"
    """There is no broker: nobody has one."""
    FAILED = "failed"
    """It may still have one."""


def disconnect(
    shown: TemporaryCertificates, host: str, port: int, seconds: float = BROKER_READS_SECONDS
) -> tuple[Outcome, str]:
    """Take a revoked device's place at the broker, and leave.

    Args:
        shown: what :meth:`~cloud.pki.authority.Authority.revoke` has returned.
        host: where the broker listens.
        port: of the broker.
        seconds: how long the broker may take to read the list.

    Returns:
        What has come of it, and where that is trouble, the reason.
    """
    with tempfile.TemporaryDirectory(prefix="facewire-pki-") as name:
        revoked = _endpoint(host, port, Path(name) / "revoked", shown, shown.revoked)
        valid = _endpoint(host, port, Path(name) / "valid", shown, shown.valid)
        deadline = time.monotonic() + seconds
        while True:
            try:
                if not _is_let_in(revoked):
                    _visit(valid)
                    return Outcome.GONE, ""
                reason = f"it still lets a revoked certificate in after {seconds:g} s"
            except (LinkLost, Refused) as error:
                if isinstance(error.__cause__, _NOBODY_THERE):
                    return Outcome.OUT_OF_REACH, str(error)
                reason = str(error)
            if time.monotonic() > deadline:
                return Outcome.FAILED, reason
            time.sleep(PAUSE_SECONDS)


_NOBODY_THERE = ConnectionRefusedError
"""A name that does not resolve is something else: a broker under another name may have the device connected."""


def _is_let_in(link: Endpoint) -> bool:
    try:
        _visit(link)
    except NotTrusted as error:
        if "revoked" in str(error):
            return False
        raise
    return True


def _visit(link: Endpoint) -> None:
    connection = Connection(link, ConnectOptions(client_id="facewire.pki"), _ignore)
    connection.open([])
    connection.close(GOODBYE_SECONDS)


def _ignore(message: Message) -> None:
    """Nothing comes: we have not subscribed."""


def _endpoint(host: str, port: int, folder: Path, shown: TemporaryCertificates, identity: Identity) -> Endpoint:
    atomic_files.make_folder(folder)
    tls = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    for path, content in (
        (folder / "ca.pem", pem(shown.ca)),
        (folder / "cert.pem", pem(identity.certificate)),
        (folder / "key.pem", pem(identity.key)),
    ):
        atomic_files.write(path, content)
    return Endpoint("cloud broker", host, port, tls)
