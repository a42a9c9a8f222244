"""Disconnects a device whose certificates have been revoked.

Mosquitto reloads the CRL, but does not disconnect clients that are already connected. The broker uses the certificate's
name as the client id (``use_username_as_clientid``), so a new client with the device's name replaces the connected one.
The authority connects as such a client. It first waits until the broker refuses a certificate that has just been
revoked; otherwise the device could reconnect at once.
"""

import tempfile
import time
from enum import Enum
from pathlib import Path

from cryptography import x509

from cloud.pki import atomic_files
from cloud.pki.authority import TemporaryCertificates
from cloud.pki.certificates import Identity, pem
from wire.errors import LinkLost, NotTrusted, Refused
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles

BROKER_RELOAD_SECONDS = 8.0
"""How long the broker may take to reload the CRL. It usually takes a second or two."""
RETRY_SECONDS = 0.2
CLOSE_SECONDS = 1.0


class Outcome(Enum):
    """Whether a device is still connected."""

    DISCONNECTED = "disconnected"
    """It is not connected, and cannot connect again."""
    UNREACHABLE = "unreachable"
    """No broker is running, so it is not connected."""
    FAILED = "failed"
    """It may still be connected."""


def disconnect(
    certificates: TemporaryCertificates, host: str, port: int, seconds: float = BROKER_RELOAD_SECONDS
) -> tuple[Outcome, str]:
    """Disconnect a revoked device from the broker.

    Args:
        certificates: the result of :meth:`~cloud.pki.authority.Authority.revoke`.
        host: name or address of the broker.
        port: port of the broker.
        seconds: how long the broker may take to reload the CRL.

    Returns:
        The outcome, and the reason if the device could not be disconnected.
    """
    with tempfile.TemporaryDirectory(prefix="facewire-pki-") as name:
        revoked = _endpoint(host, port, Path(name) / "revoked", certificates.ca, certificates.revoked)
        valid = _endpoint(host, port, Path(name) / "valid", certificates.ca, certificates.valid)
        deadline = time.monotonic() + seconds
        while True:
            try:
                if not _is_accepted(revoked):
                    _connect(valid)
                    return Outcome.DISCONNECTED, ""
                reason = f"it still accepts a revoked certificate after {seconds:g} s"
            except (LinkLost, Refused) as error:
                if isinstance(error.__cause__, _NOT_RUNNING):
                    return Outcome.UNREACHABLE, str(error)
                reason = str(error)
            if time.monotonic() > deadline:
                return Outcome.FAILED, reason
            time.sleep(RETRY_SECONDS)


_NOT_RUNNING = ConnectionRefusedError
"""The error if no broker is running. A name that does not resolve proves nothing: the device may use another name."""


def _is_accepted(endpoint: Endpoint) -> bool:
    try:
        _connect(endpoint)
    except NotTrusted as error:
        if "revoked" in str(error):
            return False
        raise
    return True


def _connect(endpoint: Endpoint) -> None:
    connection = Connection(endpoint, ConnectOptions(client_id="facewire.pki"), _ignore)
    connection.open([])
    connection.close(CLOSE_SECONDS)


def _ignore(message: Message) -> None:
    """Ignore a message. There are none without a subscription."""


def _endpoint(host: str, port: int, folder: Path, ca: x509.Certificate, identity: Identity) -> Endpoint:
    atomic_files.make_folder(folder)
    tls = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    for path, content in (
        (folder / "ca.pem", pem(ca)),
        (folder / "cert.pem", pem(identity.certificate)),
        (folder / "key.pem", pem(identity.key)),
    ):
        atomic_files.write(path, content)
    return Endpoint("cloud broker", host, port, tls)
