"""Certificates, permissions and revocation, with the real broker and its real configuration."""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from cloud.pki.authority import Authority
from cloud.pki.certificates import CLIENT, Identity, hosts_of, issue, make_key, pem
from cloud.pki.confirm import Outcome
from demo.ports import HOST
from demo.program import ROOT, NotInstalled, await_true, find_program
from demo.stack import Stack
from tests.builders import Peer
from tests.cloud import Cloud, client_id_of, files_of
from wire import status
from wire.errors import LinkLost, Refused
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, SUCCESS, Connection
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles

ACCEPTED = (SUCCESS, NO_MATCHING_SUBSCRIBERS)
REVOKED_SECONDS = 10


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    try:
        find_program("mosquitto")
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with Cloud(tmp_path / "cloud") as cloud:
        yield cloud


def may_write(peer: Peer, topic: str, payload: bytes = b"x") -> bool:
    """Whether the broker accepts a message. A refusal must not end the connection."""
    try:
        return peer.session.publish(topic, payload, qos=1).result(10) in ACCEPTED
    except Refused as refused:
        if "Not authorized" not in str(refused) or not peer.session.connected:
            raise
        return False


def refusal(cloud: Cloud, tls: TlsFiles | None, host: str = HOST) -> str:
    """The error of a client that the broker refuses, or that refuses the broker."""
    name = client_id_of(tls) if tls is not None and tls.cert_file is not None else "x"
    connection = Connection(Endpoint("the broker", host, cloud.port, tls), ConnectOptions(name), lambda message: None)
    with pytest.raises(LinkLost) as error:
        connection.open([])
    return str(error.value)


def test_each_client_may_write_only_its_own_topics(cloud: Cloud):
    """A refused message does not end the connection, as it would in Mosquitto 2.0.11 with an unlimited queue."""
    permissions = {
        cloud.device_1: ["devices/jetson-1/faces/door", "devices/jetson-1/status/forwarder/jetson-1"],
        cloud.sink_files(): [
            "devices/jetson-1/receipts/door",
            "devices/jetson-2/receipts/door",
            "devices/jetson-2/stored/door",
        ],
        cloud.gallery_files(): [],
        cloud.broker_files(): [],
    }
    others = [
        "devices/jetson-2/faces/door",
        "devices/jetson-2/status/forwarder/jetson-2",
        "devices/jetson-1",
        "devices/jetson-1/else",
        "faces/door",
        "$SYS/broker/version",
    ]
    for tls, allowed in permissions.items():
        with cloud.peer(tls) as peer:
            for topic in {*others, *(topic for topics in permissions.values() for topic in topics)}:
                assert may_write(peer, topic) == (topic in allowed), topic


def test_each_client_receives_only_its_own_topics(cloud: Cloud):
    """Its subscription to all of them is granted, and others are refused (tests/test_guard.py)."""
    devices = {"jetson-1": cloud.device_1, "jetson-2": cloud.device_2}
    with contextlib.ExitStack() as stack:
        peers = {
            name: stack.enter_context(cloud.peer(tls, f"devices/{name}/receipts/#")) for name, tls in devices.items()
        }
        sink = stack.enter_context(cloud.peer(cloud.sink_files(), "devices/+/faces/#"))
        for name, peer in peers.items():
            assert may_write(peer, f"devices/{name}/status/forwarder/{name}")
            assert may_write(peer, f"devices/{name}/faces/door")
            assert may_write(sink, f"devices/{name}/receipts/door")
        assert {message.topic for message in sink.await_messages(2)} == {
            "devices/jetson-1/faces/door",
            "devices/jetson-2/faces/door",
        }
        gallery = stack.enter_context(cloud.peer(cloud.gallery_files(), "devices/+/stored/#", "devices/+/status/#"))
        assert may_write(peers["jetson-1"], "devices/jetson-1/status/forwarder/jetson-1")
        assert may_write(sink, "devices/jetson-2/stored/door")
        assert {message.topic for message in gallery.await_messages(2)} == {
            "devices/jetson-1/status/forwarder/jetson-1",
            "devices/jetson-2/stored/door",
        }
        for name, peer in peers.items():
            assert [message.topic for message in peer.await_messages(1)] == [f"devices/{name}/receipts/door"]


def test_a_client_needs_a_certificate_of_the_authority(cloud: Cloud, tmp_path: Path):
    """The error says why, if TLS allows the broker to say so."""
    good = cloud.device_1
    other = Authority(tmp_path / "other")
    other.ensure([HOST])
    foreign = replace(files_of(other.enroll("jetson-1"), tmp_path / "foreign"), ca_file=good.ca_file)
    assert "certificate required" in refusal(cloud, TlsFiles(good.ca_file))
    assert refusal(cloud, foreign) == "the broker refused our certificate: unknown ca"
    assert "lost" in refusal(cloud, None)
    assert "is not trusted" in refusal(cloud, replace(good, ca_file=tmp_path / "foreign" / "jetson-1" / "ca.pem"))
    for other_name in ("127.1", "0.0.0.0"):  # noqa: S104
        error = refusal(cloud, good, other_name)
        assert f"is not valid for '{other_name}'" in error
        assert "PUBLIC_HOST" in error
    with cloud.peer(good):
        pass


def test_an_expired_certificate_is_refused(cloud: Cloud):
    """The error says so."""
    good, key = cloud.device_1, make_key()
    authority = cloud.authority._load()
    expired = issue(Identity(authority.certificate, authority.key), "jetson-1", key, [CLIENT], days=-0.01)
    assert good.cert_file
    assert good.key_file
    good.cert_file.write_bytes(pem(expired))
    good.key_file.write_bytes(pem(key))
    assert refusal(cloud, good) == "the broker refused our certificate: certificate expired"


def test_tls_is_1_2_or_newer(cloud: Cloud):
    """TLS 1.1 is refused."""
    tls = cloud.device_1
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with cloud.handshake(tls, version) as connection:
            assert connection.version() == version.name.replace("_", ".")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        cloud.handshake(tls, ssl.TLSVersion.TLSv1_1)


def test_no_tls_session_is_resumed(cloud: Cloud):
    """A resumed session skips the check of the certificate, so a stolen key would work after a new enrolment."""
    tls = cloud.device_1
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls.context()
        context.maximum_version = version
        with cloud.connect(context, None, "jetson-1") as first:
            session = first.session
        with cloud.connect(context, session, "jetson-1") as second:
            assert not second.session_reused


def test_a_device_has_one_connection_with_each_of_its_client_ids(cloud: Cloud):
    """A new one replaces the earlier one."""
    with cloud.peer(cloud.device_1, client_id="facewire-forwarder-jetson-1") as other:
        with cloud.peer(cloud.device_1):
            assert may_write(other, "devices/jetson-1/faces/door")
        connection = other.session._connection
        assert connection is not None
        with cloud.peer(cloud.device_1, client_id="facewire-forwarder-jetson-1"):
            await_true(connection.ended.is_set, 10, "the first connection with the same client id ends")


def test_a_revoked_device_is_disconnected_within_seconds(cloud: Cloud):
    """By the operator's command, without affecting other clients."""
    device_1, device_2 = cloud.device_1, cloud.device_2
    with cloud.peer(device_1) as other, cloud.peer(device_2, session_expiry_seconds=60) as thief:
        connection = other.session._connection
        done = command(cloud, "revoke", "jetson-2")
        await_true(lambda: not thief.session.connected, REVOKED_SECONDS, "the revoked device is disconnected")
        assert done.stdout == "jetson-2 is revoked and disconnected.\n"
        revoked = "the broker refused our certificate: certificate revoked"
        await_true(lambda: refusal(cloud, device_2) == revoked, REVOKED_SECONDS, "the broker has reloaded the CRL")
        assert other.session._connection is connection
        assert may_write(other, "devices/jetson-1/faces/door")


def test_devices_that_are_revoked_in_the_same_second_are_all_refused(cloud: Cloud):
    """OpenSSL compares the times of CRLs in whole seconds."""
    files = {name: cloud.enroll(name) for name in ("a", "b", "c", "d")}
    assert [cloud.authority.revoke(name).names for name in files] == [(name,) for name in files]
    for tls in files.values():
        await_true(lambda tls=tls: _is_refused(cloud, tls), REVOKED_SECONDS, "the broker has reloaded the CRL")  # type: ignore[misc]


def _is_refused(cloud: Cloud, tls: TlsFiles) -> bool:
    try:
        cloud.handshake(tls).close()
    except OSError:
        return True
    return False


@pytest.mark.slow
def test_a_device_that_is_enrolled_again_reconnects_by_itself(
    cloud: Cloud, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """It reads its files again for each attempt. Its old certificate stays revoked."""
    tls = cloud.device_1
    shutil.copytree(cloud.folder / "devices" / "jetson-1", tmp_path / "old")
    old = replace(tls, cert_file=tmp_path / "old" / "cert.pem", key_file=tmp_path / "old" / "key.pem")
    with cloud.peer(tls) as peer:
        assert cloud.revoke("jetson-1") is Outcome.IN_FORCE
        await_true(lambda: not peer.session.connected, REVOKED_SECONDS, "it is disconnected")
        output: list[str] = []

        def log() -> str:
            output.extend(capfd.readouterr())
            return "".join(output)

        await_true(
            lambda: "the broker refused our certificate: certificate revoked" in log(), 20, "the reason is logged"
        )
        assert tls.key_file
        tls.key_file.unlink()
        await_true(lambda: "expected a certificate and its key in PEM" in log(), 30, "the unreadable file is logged")
        cloud.enroll("jetson-1")
        await_true(lambda: peer.session.connected, 30, "it is connected again")
        await_true(lambda: may_write(peer, "devices/jetson-1/faces/door"), 10, "it has its permissions again")
    assert refusal(cloud, old) == "the broker refused our certificate: certificate revoked"


def test_a_renewed_device_stays_connected(cloud: Cloud):
    """The earlier certificate stays valid until it expires."""
    with cloud.peer(cloud.device_1) as peer:
        connection = peer.session._connection
        new = cloud.enroll("jetson-1", "new")
        await_permissions(cloud, "jetson-3", cloud.enroll("jetson-3"))
        assert peer.session._connection is connection
        assert may_write(peer, "devices/jetson-1/faces/door")
    with cloud.peer(new) as peer:
        assert may_write(peer, "devices/jetson-1/faces/door")


def await_permissions(cloud: Cloud, name: str, tls: TlsFiles) -> None:
    """Wait until a device that has just been enrolled is in force."""
    with cloud.peer(tls) as peer:
        assert may_write(peer, f"devices/{name}/faces/door")


def test_a_new_certificate_of_the_broker_disconnects_nobody(cloud: Cloud):
    """New connections get the new certificate."""
    tls = cloud.device_1

    def names_in_certificate() -> set[str]:
        with cloud.handshake(cloud.sink_files()) as connection:
            der = connection.getpeercert(binary_form=True)
            assert der is not None
            return hosts_of(x509.load_der_x509_certificate(der))

    with cloud.peer(tls) as peer:
        connection = peer.session._connection
        assert "mqtt.example.com" not in names_in_certificate()
        cloud.authority.ensure([HOST, "mqtt.example.com"])
        await_true(lambda: "mqtt.example.com" in names_in_certificate(), 10, "the broker uses its new certificate")
        assert peer.session._connection is connection
        assert may_write(peer, "devices/jetson-1/faces/door")


def test_queues_and_sessions_are_kept_when_the_broker_reloads(cloud: Cloud):
    """Faces that wait for the sink are delivered to it afterwards."""
    with cloud.peer(cloud.sink_files(), "devices/+/faces/#", session_expiry_seconds=60):
        pass
    with cloud.peer(cloud.device_1) as peer:
        assert may_write(peer, "devices/jetson-1/faces/door", b"waiting")
        await_permissions(cloud, "jetson-3", cloud.enroll("jetson-3"))
        assert cloud.revoke("jetson-3") is Outcome.IN_FORCE
        with cloud.peer(cloud.sink_files(), session_expiry_seconds=60) as sink:
            assert may_write(peer, "devices/jetson-1/faces/door", b"later")
            payloads = [message.payload for message in sink.await_messages(3)]
            assert payloads == [b"waiting", b"x", b"later"]  # the second is of the device that was revoked afterwards


def test_a_device_can_be_revoked_while_the_broker_is_down(cloud: Cloud):
    """The broker refuses it once it has started again."""
    tls = cloud.device_1
    assert cloud.stop() == 0
    done = command(cloud, "revoke", "jetson-1")
    assert done.returncode == 0
    assert "It was not connected" in done.stdout
    cloud.start()
    assert refusal(cloud, tls) == "the broker refused our certificate: certificate revoked"


@pytest.mark.slow
def test_revocation_fails_if_the_broker_does_not_reread_the_list(cloud: Cloud):
    """A revocation without effect must not look successful. Here the broker is stopped by a signal."""
    assert cloud.process is not None
    os.killpg(cloud.process.pid, signal.SIGSTOP)
    outcome = cloud.revoke("jetson-1", seconds=1)
    os.killpg(cloud.process.pid, signal.SIGCONT)
    assert outcome is Outcome.NOT_CONFIRMED


def test_revocation_fails_at_a_broker_of_another_authority(cloud: Cloud, tmp_path: Path):
    """The device may still be connected to the real broker."""
    other = Cloud(tmp_path / "other")
    other.port = cloud.port
    cloud.stop()
    with other:
        assert cloud.revoke("jetson-1", seconds=0) is Outcome.NOT_CONFIRMED
    cloud.start()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clients", "crl.pem"])
@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_file_does_not_admit_anyone(cloud: Cloud, name: str, content: bytes | None):
    """Mosquitto would continue without it, so serve.sh does not reload until all files exist."""
    cloud.authority.revoke("jetson-2")
    await_true(lambda: _is_refused(cloud, cloud.device_2), REVOKED_SECONDS, "the broker has reloaded the CRL")
    path = cloud.authority.broker / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    (cloud.authority.broker / "stamp").write_text("another\n")
    began = time.monotonic()
    await_true(lambda: time.monotonic() - began > 2.5, 5, "the script has checked the stamp twice")
    assert _is_refused(cloud, cloud.device_2)
    with cloud.peer(cloud.device_1) as peer:
        assert not may_write(peer, "devices/jetson-2/faces/door")
        cloud.authority.ensure([HOST])
        await_permissions(cloud, "jetson-3", cloud.enroll("jetson-3"))
        assert not may_write(peer, "devices/jetson-2/faces/door")


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server-key.pem", "crl.pem", "clients"])
def test_the_broker_does_not_start_without_its_files(cloud: Cloud, name: str):
    """Otherwise it would accept every client."""
    cloud.stop()
    (cloud.authority.broker / name).unlink()
    mosquitto = [find_program("mosquitto"), "-c", str(cloud.config)]
    assert subprocess.run(mosquitto, capture_output=True, timeout=20, check=False).returncode != 0
    cloud.authority.ensure([HOST])
    cloud.start()


def test_the_script_exits_with_the_status_of_mosquitto(cloud: Cloud, tmp_path: Path):
    """When it is stopped, and when Mosquitto fails."""
    assert cloud.stop() == 0
    serve = ["sh", str(ROOT / "cloud" / "broker" / "serve.sh")]
    wrong = tmp_path / "wrong.conf"
    wrong.write_text("nonsense\n")
    ended = subprocess.run(
        [*serve, str(wrong), "none", find_program("mosquitto")], capture_output=True, timeout=20, check=False
    )
    assert ended.returncode == 3
    cloud.start()


def test_the_health_check_connects_with_the_brokers_certificate(cloud: Cloud):
    """It fails if the broker is down."""
    health = ["sh", str(ROOT / "cloud" / "broker" / "health.sh"), str(cloud.authority.broker), str(cloud.port)]
    assert subprocess.run(health, timeout=20, check=False).returncode == 0
    cloud.stop()
    assert subprocess.run(health, timeout=20, capture_output=True, check=False).returncode != 0
    cloud.start()


def test_a_forwarder_reports_the_expiry_of_its_certificate(cloud: Cloud, stack: Stack):
    """In its status, and in its log from 30 days ahead."""
    tls = cloud.enroll("jetson-1", days=20)
    stack.start_broker("local-broker")
    with Peer(stack.local_port, "status/#") as watcher:
        stack.start_connected(
            "forwarder",
            CLOUD_MQTT_TLS="true",
            CLOUD_MQTT_PORT=str(cloud.port),
            CLOUD_MQTT_CA_FILE=str(tls.ca_file),
            CLOUD_MQTT_CERT_FILE=str(tls.cert_file),
            CLOUD_MQTT_KEY_FILE=str(tls.key_file),
        )
        await_true(lambda: any(_is_up(message.payload) for message in watcher.messages), 10, "the forwarder is up")
        expires = status.decode(watcher.messages[-1].payload)["certificate_expires"]
        issued = cloud.authority.issued()[0]
        assert expires == issued.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        log = stack.programs["forwarder"]
        await_true(lambda: "a certificate expires soon" in log.output(), 10, "the log warns")
        assert cloud.revoke("jetson-1") is Outcome.IN_FORCE
        await_true(
            lambda: "the broker refused our certificate: certificate revoked" in log.output(),
            20,
            "the log has the reason",
        )


def _is_up(payload: bytes) -> bool:
    return status.decode(payload).get("cloud") == "up"


def command(cloud: Cloud, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m cloud.pki`` as an operator does."""
    environ = {
        "PUBLIC_HOST": HOST,
        "PKI_FOLDER": str(cloud.pki),
        "BROKER_HOST": HOST,
        "BROKER_PORT": str(cloud.port),
    }
    return subprocess.run(
        [sys.executable, "-m", "cloud.pki", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
