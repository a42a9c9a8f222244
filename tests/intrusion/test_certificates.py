"""Certificates that must not be accepted, and transports without one."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from cloud.pki.authority import Authority
from cloud.pki.certificates import SERVER, Identity, issue, load_key, make_authority, make_key, pem
from demo.ports import HOST
from demo.stack import DEVICE, Stack
from tests.intrusion.attacker import (
    ROGUE,
    Intruder,
    Record,
    credentials_of,
    forge_certificate,
)
from tests.intrusion.honest_device import HonestDevice
from wire.errors import LinkLost, NotTrusted, Refused
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Connection
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles


def test_client_without_certificate_is_rejected(cloud: Stack, record: Record):
    """The TLS handshake fails."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, TlsFiles(cloud.authority.broker / "ca.pem"))
    record("no certificate", str(refusal.value))


@pytest.mark.parametrize("name", [DEVICE, "facewire.s3sink"])
def test_certificate_of_another_authority_is_rejected(cloud: Stack, record: Record, name: str):
    """Regardless of the name in the certificate."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, forge_certificate(cloud, make_authority(make_key()), name))
    record(f"certificate of another authority, name {name}", str(refusal.value))


def test_certificate_signed_by_a_device_is_rejected(cloud: Stack, record: Record):
    """A device's certificate is not a CA certificate, even if the client presents the whole chain."""
    own = credentials_of(cloud, ROGUE)
    assert own.cert_file is not None
    assert own.key_file is not None
    device = Identity(x509.load_pem_x509_certificate(own.cert_file.read_bytes()), load_key(own.key_file.read_bytes()))
    tls = forge_certificate(cloud, device, DEVICE)
    assert tls.cert_file is not None
    tls.cert_file.write_bytes(tls.cert_file.read_bytes() + own.cert_file.read_bytes())
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, tls)
    record(f"certificate for {DEVICE}, signed with a device's key", str(refusal.value))


def test_expired_certificate_is_rejected(cloud: Stack, record: Record):
    """Even if the project's own authority issued it."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, forge_certificate(cloud, cloud.authority._load(), DEVICE, days=-0.01))
    record("expired certificate", str(refusal.value))


def test_revoked_certificate_is_rejected(cloud: Stack, record: Record):
    """The certificate was valid until it was revoked."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, credentials_of(cloud, "revoked"))
    record("revoked certificate", str(refusal.value))


def test_server_certificate_is_rejected_as_client_certificate(cloud: Stack, record: Record):
    """The extended key usage must include client authentication."""
    key, folder = make_key(), cloud.folder / "server-only"
    folder.mkdir()
    (folder / "cert.pem").write_bytes(pem(issue(cloud.authority._load(), DEVICE, key, [SERVER], days=1)))
    (folder / "key.pem").write_bytes(pem(key))
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, TlsFiles(cloud.authority.broker / "ca.pem", folder / "cert.pem", folder / "key.pem"))
    record("server certificate used by a client", str(refusal.value))


@pytest.mark.parametrize("name", ["nobody", DEVICE, "facewire.s3sink", "facewire.broker"])
def test_certificate_that_is_not_registered_is_refused(cloud: Stack, honest: HonestDevice, record: Record, name: str):
    """The authority has signed it, but has no record of it: its backup was restored, or its key was used elsewhere."""
    with pytest.raises((Refused, LinkLost)) as refusal:
        Intruder(cloud, forge_certificate(cloud, cloud.authority._load(), name))
    honest.await_progress()
    record(f"certificate of the authority that it has no record of, name {name}", str(refusal.value))


@pytest.mark.parametrize("data", [b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04evil", b"GET / HTTP/1.1\r\n\r\n"])
def test_plain_tcp_gets_no_mqtt_response(cloud: Stack, record: Record, data: bytes):
    """The listener accepts TLS only."""
    with socket.create_connection((HOST, cloud.cloud_port), timeout=10) as plain:
        plain.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            answer = plain.recv(100)
            assert answer == b"" or answer[0] == 0x15  # a TLS alert, never a CONNACK
    record(f"plain TCP: {data[:4]!r}...", "closed, no CONNACK")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_1_0_and_1_1_are_rejected(cloud: Stack, record: Record, version: ssl.TLSVersion):
    """Even with a valid certificate."""
    own = credentials_of(cloud, ROGUE)
    assert own.cert_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(own.ca_file)
    context.load_cert_chain(own.cert_file, own.key_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = version, version
    with socket.create_connection((HOST, cloud.cloud_port), timeout=10) as plain, pytest.raises(ssl.SSLError) as error:
        context.wrap_socket(plain, server_hostname=HOST)
    assert error.value.reason
    assert "ALERT_PROTOCOL_VERSION" in error.value.reason  # sent by the broker, not raised by the local library
    record(version.name, f"TLS alert: {error.value.reason.rpartition('_ALERT_')[2].replace('_', ' ').lower()}")


def test_device_rejects_a_broker_of_another_authority(cloud: Stack, record: Record, tmp_path: Path):
    """The opposite direction: a device sends faces only to a broker whose certificate its authority signed."""
    impostor = Authority(tmp_path / "impostor")
    impostor.ensure([HOST])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(impostor.broker / "server.pem", impostor.broker / "server-key.pem")
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
        link = Endpoint("the broker", HOST, listener.getsockname()[1], credentials_of(cloud, ROGUE))
        with pytest.raises(NotTrusted) as refusal:
            Connection(link, ConnectOptions(client_id="x"), lambda message: None).open([])
    record("broker of another authority", str(refusal.value))


def _accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        taken, _ = listener.accept()
        with taken, context.wrap_socket(taken, server_side=True) as wrapped:
            wrapped.recv(100)
