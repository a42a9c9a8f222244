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
from wire.mqtt.broker_check import connect_once
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles

BROKER_RELOAD_SECONDS = 8.0
"""How long the broker may take to reload the CRL. It usually takes a second or two."""
RETRY_SECONDS = 0.2
_CLIENT_ID = "facewire.pki"


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
    """Disconnect a revoked device from the broker, which may take ``seconds`` to reload the CRL.

    Return the outcome, and the reason if the device could not be disconnected.
    """
    with tempfile.TemporaryDirectory(prefix="facewire-pki-") as name:
        revoked = _endpoint(host, port, Path(name) / "revoked", certificates.ca, certificates.revoked)
        valid = _endpoint(host, port, Path(name) / "valid", certificates.ca, certificates.valid)
        deadline = time.monotonic() + seconds
        while True:
            try:
                if not _is_accepted(revoked):
                    connect_once(valid, _CLIENT_ID)
                    return Outcome.DISCONNECTED, ""
                reason = f"it still accepts a revoked certificate after {seconds:g} s"
            except (LinkLost, Refused) as error:
                # No broker is running. A name that does not resolve proves nothing: the device may use another one.
                if isinstance(error.__cause__, ConnectionRefusedError):
                    return Outcome.UNREACHABLE, str(error)
                reason = str(error)
            if time.monotonic() > deadline:
                return Outcome.FAILED, reason
            time.sleep(RETRY_SECONDS)


def _is_accepted(endpoint: Endpoint) -> bool:
    try:
        connect_once(endpoint, _CLIENT_ID)
    except NotTrusted as error:
        if "revoked" in str(error):
            return False
        raise
    return True


def _endpoint(host: str, port: int, folder: Path, ca: x509.Certificate, identity: Identity) -> Endpoint:
    atomic_files.make_folder(folder)
    atomic_files.write(folder / "ca.pem", pem(ca))
    atomic_files.write(folder / "cert.pem", pem(identity.certificate))
    atomic_files.write(folder / "key.pem", pem(identity.key))
    return Endpoint("cloud broker", host, port, TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem"))
