"""An intruder with a certificate, and what is measured of the servers that it attacks."""

import os
import signal
import sys
import time
from collections.abc import Callable

import psutil

from cloud.pki.authority import Change
from cloud.pki.certificates import CLIENT, Identity, issue, make_key, pem
from cloud.pki.confirm import Outcome, confirm
from demo.ports import HOST
from demo.program import await_true
from demo.stack import Stack
from tests.cloud import client_id_of, files_of
from tests.intrusion.honest_device import OWN_PREFIX
from tests.packets import RawClient
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import Properties
from wire.mqtt.tls import TlsFiles

ROGUE = "mallory"
"""A rogue device: it is enrolled, but malicious."""
FLOODER = "flooder"
LONG_FLOODER = "flooder-for-long"
"""Another one, which the broker may shut out for a while."""
CROWD = "crowd"
"""A device with very many connections, which the broker shuts out too."""
NEWCOMER = "newcomer"
"""A device that is enrolled, and connects from another address."""
ELSEWHERE = "127.0.0.2" if sys.platform == "linux" else HOST
"""Another address of the loopback interface."""
BROKER_MEGABYTES = 128
"""Maximum memory of the broker during every intrusion."""
Record = Callable[[str, str], None]
"""Records an intrusion and what became of it."""


def enrolled(stack: Stack, name: str) -> TlsFiles:
    """Enroll a device, once more if it is enrolled already. Wait until its certificate is in force."""
    parent = stack.folder / f"enrolled-{time.monotonic_ns()}"
    parent.mkdir()
    tls = files_of(stack.authority.enroll(name), parent)
    await_true(lambda: is_accepted(stack, tls), 10, "the certificate is in force")
    return tls


def is_accepted(stack: Stack, tls: TlsFiles) -> bool:
    """Whether the broker accepts a CONNECT with a certificate."""
    try:
        with RawClient(stack.cloud_port, tls) as client:
            return client.connect(f"facewire-check-{client_id_of(tls)}") == 0
    except OSError:
        return False


def revoked(stack: Stack, change: Change) -> float:
    """Wait until a change of the authority is in force, and return how many seconds that took."""
    began = time.monotonic()
    os.kill(stack.programs["cloud-broker"].pid, signal.SIGHUP)  # as serve.sh does
    outcome, reason = confirm(stack.authority, change, HOST, stack.cloud_port)
    assert outcome is Outcome.IN_FORCE, reason
    return time.monotonic() - began


def credentials_of(stack: Stack, name: str) -> TlsFiles:
    """The certificate, key and CA that a device was issued."""
    folder = stack.folder / name
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def forge_certificate(stack: Stack, authority: Identity, name: str, days: float = 1) -> TlsFiles:
    """Issue a client certificate with any name, signed by any authority."""
    key, folder = make_key(), stack.folder / f"forged-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "cert.pem").write_bytes(pem(issue(authority, name, key, [CLIENT], days=days)))
    (folder / "key.pem").write_bytes(pem(key))
    return TlsFiles(stack.authority.broker / "ca.pem", folder / "cert.pem", folder / "key.pem")


class Intruder:
    """One connection with a given certificate, and the messages that arrive on it."""

    def __init__(self, stack: Stack, tls: TlsFiles, *subscriptions: str, **options: object) -> None:
        self.arrived: list[Message] = []
        link = Endpoint("the broker", HOST, stack.cloud_port, tls)
        name = client_id_of(tls) if tls.cert_file is not None else "intruder"
        self.connection = Connection(link, ConnectOptions(**{"client_id": name} | options), self._take)  # type: ignore[arg-type]
        self.connection.open([(topic, 1) for topic in subscriptions])

    def __enter__(self) -> "Intruder":
        return self

    def __exit__(self, *failure: object) -> None:
        self.connection.close(2)

    def publish(self, topic: str, payload: bytes = b"x", **properties: object) -> int:
        """Publish, and return the broker's reason code."""
        return self.connection.publish(topic, payload, 1, properties=Properties(**properties)).result(10)  # type: ignore[arg-type]

    def _take(self, message: Message) -> None:
        self.arrived.append(message)
        self.connection.acknowledge(message)


def broker_megabytes(stack: Stack) -> float:
    """The broker's resident memory."""
    return float(psutil.Process(stack.programs["cloud-broker"].pid).memory_info().rss) / 1e6


def check_stored_keys(stack: Stack) -> str:
    """Assert that every key has an allowed prefix, and return the result to record."""
    own: tuple[str, ...] = (OWN_PREFIX,)
    for rogue in (ROGUE, FLOODER):
        own += (f"faces/device={rogue}", f"faces/quarantine/device={rogue}")
    keys = stack.keys()
    assert [key for key in keys if not key.startswith(own)] == []
    assert not any(".." in key or "%" in key for key in keys)
    return "stored below its own prefix or in its own quarantine"
