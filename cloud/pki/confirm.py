"""Confirms that the broker has put a change in force.

The broker's guard rereads the list of clients every second, and disconnects whoever is no longer in it. A change adds a
temporary certificate to the list. As soon as the broker accepts it, the whole list is in force. Then the temporary
certificate is removed again.
"""

import contextlib
import socket
import ssl
import tempfile
import time
from enum import Enum
from pathlib import Path

from cryptography import x509

from cloud.pki.authority import Authority, Change
from cloud.pki.certificates import pem
from cloud.pki.clients import AUTHORITY, Role
from wire.errors import FacewireError
from wire.mqtt.broker_check import connect_once
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles
from wire.process import atomic_files

RELOAD_SECONDS = 8.0
"""How long the broker may take to put a change in force. It usually takes a second or two."""
RETRY_SECONDS = 0.2
_HANDSHAKE_SECONDS = 5.0


class Outcome(Enum):
    """Whether a change is in force."""

    IN_FORCE = "in force"
    """It is: whoever was revoked is disconnected and cannot connect again."""
    NOT_RUNNING = "not running"
    """No broker is running. It will read the change when it starts."""
    NOT_CONFIRMED = "not confirmed"
    """It may not be in force: whoever was revoked may still be connected."""


def confirm(
    authority: Authority, change: Change, host: str, port: int, seconds: float = RELOAD_SECONDS
) -> tuple[Outcome, str]:
    """Wait until a change is in force at the broker, for at most ``seconds``.

    Return the outcome, and the reason if it is not in force.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="facewire-pki-") as folder:
            broker = Endpoint("cloud broker", host, port, _write_files(change, Path(folder)))
            return _await_acceptance(broker, authority.service_certificates[Role.BROKER], seconds)
    finally:
        # If that fails, for example on a full disk, the next step of the authority removes it when it has expired.
        with contextlib.suppress(OSError):
            authority.finish(change)


def _await_acceptance(broker: Endpoint, certificate: Path, seconds: float) -> tuple[Outcome, str]:
    deadline = time.monotonic() + seconds
    while True:
        try:
            connect_once(broker, AUTHORITY)
            if _presented(broker) == x509.load_pem_x509_certificate(certificate.read_bytes()):
                return Outcome.IN_FORCE, ""
            reason = f"it still presents its earlier certificate after {seconds:g} s"
        except (FacewireError, OSError) as error:
            # No broker is running. A name that does not resolve proves nothing: the devices may use another one.
            if isinstance(error.__cause__ or error, ConnectionRefusedError):
                return Outcome.NOT_RUNNING, str(error)
            reason = str(error)
        if time.monotonic() > deadline:
            return Outcome.NOT_CONFIRMED, reason
        time.sleep(RETRY_SECONDS)


def _presented(broker: Endpoint) -> x509.Certificate | None:
    """Return the certificate that the broker presents to a new connection."""
    context = broker.tls.context() if broker.tls else ssl.create_default_context()
    with (
        socket.create_connection((broker.host, broker.port), _HANDSHAKE_SECONDS) as tcp,
        context.wrap_socket(tcp, server_hostname=broker.host) as connection,
    ):
        presented = connection.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(presented) if presented else None


def _write_files(change: Change, folder: Path) -> TlsFiles:
    ca, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    atomic_files.write(ca, pem(change.ca))
    atomic_files.write(certificate, pem(change.temporary.certificate))
    atomic_files.write(key, pem(change.temporary.key))
    return TlsFiles(ca, certificate, key)
