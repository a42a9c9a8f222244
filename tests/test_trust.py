"""Who gets in, what they may do there, and how fast they are out again: the real broker with its real configuration."""

import os
import shutil
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
from cloud.pki.disconnect import Outcome
from demo.program import HOST, ROOT, NotInstalled, await_true, find_program
from demo.stack import Stack
from tests.builders import Peer
from tests.cloud import Cloud, files_of
from wire import status
from wire.errors import LinkLost, Refused
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, SUCCESS, Connection, ConnectOptions
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles

TAKEN = (SUCCESS, NO_MATCHING_SUBSCRIBERS)
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
    """Whether the broker takes a message; a refusal leaves the connection as it is."""
    try:
        return peer.session.publish(topic, payload, qos=1).result(10) in TAKEN
    except Refused as refused:
        if "Not authorized" not in str(refused) or not peer.session.connected:
            raise
        return False


def refusal(cloud: Cloud, tls: TlsFiles | None) -> str:
    """What a client that may not come in is told."""
    connection = Connection(Endpoint("the broker", HOST, cloud.port, tls), ConnectOptions("x"), lambda message: None)
    with pytest.raises(LinkLost) as refused:
        connection.open([])
    return str(refused.value)


def test_each_writes_what_it_has_to_and_nothing_else(cloud: Cloud):
    """A refused message ends no connection: with any number of queued messages allowed, Mosquitto 2.0.11 would."""
    rights = {
        cloud.one: ["devices/jetson-1/faces/door", "devices/jetson-1/status/forwarder/jetson-1"],
        cloud.sink(): ["devices/jetson-1/receipts/door", "devices/jetson-2/receipts/door"],
        cloud.broker(): [],
    }
    others = [
        "devices/jetson-2/faces/door",
        "devices/jetson-2/status/forwarder/jetson-2",
        "devices/jetson-1",
        "devices/jetson-1/else",
        "faces/door",
        "$SYS/broker/version",
    ]
    for tls, allowed in rights.items():
        with cloud.peer(tls) as peer:
            for topic in {*others, *(topic for topics in rights.values() for topic in topics)}:
                assert may_write(peer, topic) == (topic in allowed), topic


def test_each_reads_what_it_has_to_and_nothing_else(cloud: Cloud):
    """The broker grants every subscription, and delivers nothing that its holder may not read: $SYS neither."""
    one, two = cloud.one, cloud.two
    everything = ("#", "$SYS/#")
    with cloud.peer(one, *everything) as first, cloud.peer(two, *everything) as second:
        with cloud.peer(cloud.sink(), *everything) as sink, cloud.peer(cloud.broker(), *everything) as broker:
            for peer, name in ((first, "jetson-1"), (second, "jetson-2")):
                assert may_write(peer, f"devices/{name}/status/forwarder/{name}")
                assert may_write(peer, f"devices/{name}/faces/door")
            for name in ("jetson-1", "jetson-2"):
                assert may_write(sink, f"devices/{name}/receipts/door")
            assert {message.topic for message in sink.await_messages(2)} == {
                "devices/jetson-1/faces/door",
                "devices/jetson-2/faces/door",
            }
            assert [message.topic for message in first.await_messages(1)] == ["devices/jetson-1/receipts/door"]
            assert [message.topic for message in second.await_messages(1)] == ["devices/jetson-2/receipts/door"]
            assert broker.messages == []
        assert len(first.messages) == len(second.messages) == 1


def test_nobody_comes_in_without_a_certificate_of_the_authority(cloud: Cloud, tmp_path: Path):
    """And each is told why, where TLS lets the broker tell."""
    good = cloud.one
    other = Authority(tmp_path / "other")
    other.ensure([HOST])
    foreign = replace(files_of(other.enroll("jetson-1"), tmp_path / "foreign"), ca_file=good.ca_file)
    assert "certificate required" in refusal(cloud, TlsFiles(good.ca_file))
    assert refusal(cloud, foreign) == "the broker refused our certificate: unknown ca"
    assert "lost" in refusal(cloud, None)
    assert "not to be trusted" in refusal(cloud, replace(good, ca_file=tmp_path / "foreign" / "jetson-1" / "ca.pem"))
    with cloud.peer(good):
        pass


def test_a_certificate_that_has_expired_is_refused(cloud: Cloud):
    """Its holder is told."""
    good, key = cloud.one, make_key()
    authority = cloud.authority._load()
    expired = issue(Identity(authority.certificate, authority.key), "jetson-1", key, [CLIENT], days=-0.01)
    assert good.cert_file
    assert good.key_file
    good.cert_file.write_bytes(pem(expired))
    good.key_file.write_bytes(pem(key))
    assert refusal(cloud, good) == "the broker refused our certificate: certificate expired"


def test_tls_is_1_2_or_newer(cloud: Cloud):
    """1.1 is refused."""
    tls = cloud.one
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with cloud.handshake(tls, version) as connection:
            assert connection.version() == version.name.replace("_", ".")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        cloud.handshake(tls, ssl.TLSVersion.TLSv1_1)


def test_no_session_is_resumed(cloud: Cloud):
    """It would be without a look at the certificate: a thief would come in once the name is enrolled again."""
    tls = cloud.one
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls.context()
        context.maximum_version = version
        with cloud.greet(context) as first:
            session = first.session
        with cloud.greet(context, session) as second:
            assert not second.session_reused


def test_what_a_client_says_its_name_is_does_not_count(cloud: Cloud):
    """Nobody takes over another's session, nor has two connections."""
    one, two = cloud.one, cloud.two
    with cloud.peer(one, client_id="jetson-1") as honest:
        with cloud.peer(two, client_id="jetson-1") as thief:
            assert may_write(honest, "devices/jetson-1/faces/door")
            assert not may_write(thief, "devices/jetson-1/faces/door")
            assert honest.session.connected
        with cloud.peer(one, client_id="another"):
            await_true(lambda: not honest.session.connected, 10, "the first connection of the same device ends")


def test_a_revoked_device_is_out_within_seconds(cloud: Cloud):
    """Connected or not, by the command that an operator types; nobody else notices."""
    one, two = cloud.one, cloud.two
    with cloud.peer(one) as honest, cloud.peer(two, session_expiry_seconds=60) as thief:
        connection = honest.session._connection
        began = time.monotonic()
        said = command(cloud, "revoke", "jetson-2")
        await_true(lambda: not thief.session.connected, REVOKED_SECONDS, "the revoked device is disconnected")
        assert time.monotonic() - began < REVOKED_SECONDS
        assert said.stdout == "jetson-2 is revoked and disconnected.\n"
        assert refusal(cloud, two) == "the broker refused our certificate: certificate revoked"
        assert honest.session._connection is connection
        assert may_write(honest, "devices/jetson-1/faces/door")


def test_a_revoked_device_has_no_right_left_however_it_has_got_in(cloud: Cloud):
    """As with a certificate that the list of revoked ones lacks: the list of rights does not have its name."""
    tls = cloud.one
    shown = cloud.authority.revoke("jetson-1")
    assert tls.cert_file
    assert tls.key_file
    tls.cert_file.write_bytes(pem(shown.valid.certificate))
    tls.key_file.write_bytes(pem(shown.valid.key))
    with cloud.peer(tls, "#") as peer:
        await_true(lambda: not may_write(peer, "devices/jetson-1/faces/door"), REVOKED_SECONDS, "its rights are gone")
        with cloud.peer(cloud.sink()) as sink:
            assert may_write(sink, "devices/jetson-1/receipts/door")
        assert peer.messages == []


def test_devices_that_are_revoked_in_the_same_second_are_all_out(cloud: Cloud):
    """OpenSSL goes by the newest list, in whole seconds."""
    held = {name: cloud.enroll(name) for name in ("a", "b", "c", "d")}
    assert [cloud.authority.revoke(name).device for name in held] == list(held)
    for tls in held.values():
        await_true(lambda tls=tls: _is_refused(cloud, tls), REVOKED_SECONDS, "the broker has read the list")  # type: ignore[misc]


def _is_refused(cloud: Cloud, tls: TlsFiles) -> bool:
    try:
        cloud.handshake(tls).close()
    except OSError:
        return True
    return False


def test_a_device_that_is_enrolled_again_comes_back_by_itself(
    cloud: Cloud, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """Files are read anew at each attempt; its old certificate stays out."""
    tls = cloud.one
    shutil.copytree(cloud.folder / "devices" / "jetson-1", tmp_path / "old")
    old = replace(tls, cert_file=tmp_path / "old" / "cert.pem", key_file=tmp_path / "old" / "key.pem")
    with cloud.peer(tls) as peer:
        assert cloud.revoke("jetson-1") is Outcome.GONE
        await_true(lambda: not peer.session.connected, REVOKED_SECONDS, "it is out")
        said: list[str] = []

        def log() -> str:
            said.extend(capfd.readouterr())
            return "".join(said)

        await_true(lambda: "the broker refused our certificate: certificate revoked" in log(), 20, "it is told why")
        assert tls.key_file
        tls.key_file.unlink()
        await_true(
            lambda: "expected a certificate and its key in PEM" in log(), 30, "files that cannot be read are told"
        )
        cloud.enroll("jetson-1")
        await_true(lambda: peer.session.connected, 30, "it is back")
        await_true(lambda: may_write(peer, "devices/jetson-1/faces/door"), 10, "it has its rights again")
    assert refusal(cloud, old) == "the broker refused our certificate: certificate revoked"


def test_a_renewed_device_is_never_cut_off(cloud: Cloud):
    """The earlier certificate stays valid until it expires."""
    with cloud.peer(cloud.one) as peer:
        connection = peer.session._connection
        new = cloud.enroll("jetson-1", "new")
        await_rights(cloud, "jetson-3", cloud.enroll("jetson-3"))
        assert peer.session._connection is connection
        assert may_write(peer, "devices/jetson-1/faces/door")
    with cloud.peer(new) as peer:
        assert may_write(peer, "devices/jetson-1/faces/door")


def await_rights(cloud: Cloud, name: str, tls: TlsFiles) -> None:
    """Wait until the broker has read that a device was let in."""
    with cloud.peer(tls) as peer:
        await_true(lambda: may_write(peer, f"devices/{name}/faces/door"), 10, f"{name} has its rights")


def test_the_brokers_new_certificate_cuts_nobody_off(cloud: Cloud):
    """It is shown to whoever connects next."""
    tls = cloud.one

    def shown_names() -> set[str]:
        with cloud.handshake(cloud.sink()) as connection:
            shown = connection.getpeercert(binary_form=True)
            assert shown is not None
            return hosts_of(x509.load_der_x509_certificate(shown))

    with cloud.peer(tls) as peer:
        connection = peer.session._connection
        assert "mqtt.example.com" not in shown_names()
        cloud.authority.ensure([HOST, "mqtt.example.com"])
        await_true(lambda: "mqtt.example.com" in shown_names(), 10, "the broker shows its new certificate")
        assert peer.session._connection is connection
        assert may_write(peer, "devices/jetson-1/faces/door")


def test_queues_and_sessions_outlive_every_change(cloud: Cloud):
    """Faces that wait for the sink are still there after the broker has read everything again, and more come."""
    with cloud.peer(cloud.sink(), "devices/+/faces/#", session_expiry_seconds=60):
        pass
    with cloud.peer(cloud.one) as peer:
        assert may_write(peer, "devices/jetson-1/faces/door", b"waiting")
        await_rights(cloud, "jetson-3", cloud.enroll("jetson-3"))
        assert cloud.revoke("jetson-3") is Outcome.GONE
        with cloud.peer(cloud.sink(), session_expiry_seconds=60) as sink:
            assert may_write(peer, "devices/jetson-1/faces/door", b"later")
            assert [message.payload for message in sink.await_messages(2)] == [b"waiting", b"later"]


def test_a_broker_that_is_away_need_not_be_told(cloud: Cloud):
    """Whoever is revoked meanwhile does not come in once it is back."""
    tls = cloud.one
    assert cloud.stop() == 0
    said = command(cloud, "revoke", "jetson-1")
    assert said.returncode == 0
    assert "Nobody was connected to disconnect" in said.stdout
    cloud.start()
    assert refusal(cloud, tls) == "the broker refused our certificate: certificate revoked"


def test_a_broker_that_does_not_read_the_list_is_told_of(cloud: Cloud):
    """Without the script beside it: a revocation that does not work must not look like one that does."""
    cloud.stop()
    cloud.start(find_program("mosquitto"), "-c", str(cloud.config))
    assert cloud.revoke("jetson-1", seconds=1) is Outcome.FAILED


def test_another_broker_in_its_place_is_told_of(cloud: Cloud, tmp_path: Path):
    """One that our authority has not issued a certificate to: somebody may be connected to the true one."""
    other = Cloud(tmp_path / "other")
    other.port = cloud.port
    cloud.stop()
    with other:
        assert cloud.revoke("jetson-1", seconds=0) is Outcome.FAILED
    cloud.start()


@pytest.mark.parametrize("name", ["acl.conf", "crl.pem"])
@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_missing_opens_no_door(cloud: Cloud, name: str, content: bytes | None):
    """Mosquitto would do without; the script has it read nothing until all is there again."""
    cloud.authority.revoke("jetson-2")
    await_true(lambda: _is_refused(cloud, cloud.two), REVOKED_SECONDS, "the broker has read the list")
    path = cloud.authority.broker / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    (cloud.authority.broker / "stamp").write_text("another\n")
    began = time.monotonic()
    await_true(lambda: time.monotonic() - began > 2.5, 5, "the script has looked twice")
    assert _is_refused(cloud, cloud.two)
    with cloud.peer(cloud.one) as peer:
        assert not may_write(peer, "devices/jetson-2/faces/door")
        cloud.authority.ensure([HOST])
        await_rights(cloud, "jetson-3", cloud.enroll("jetson-3"))
        assert not may_write(peer, "devices/jetson-2/faces/door")


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server-key.pem", "crl.pem", "acl.conf"])
def test_a_broker_without_its_files_does_not_start(cloud: Cloud, name: str):
    """Rather than let everybody in."""
    cloud.stop()
    (cloud.authority.broker / name).unlink()
    mosquitto = [find_program("mosquitto"), "-c", str(cloud.config)]
    assert subprocess.run(mosquitto, capture_output=True, timeout=20, check=False).returncode != 0
    cloud.authority.ensure([HOST])
    cloud.start()


def test_the_script_ends_as_mosquitto_does(cloud: Cloud, tmp_path: Path):
    """With its status, and soon after it was asked to."""
    began = time.monotonic()
    assert cloud.stop() == 0
    assert time.monotonic() - began < 3
    serve = ["sh", str(ROOT / "cloud" / "broker" / "serve.sh")]
    wrong = tmp_path / "wrong.conf"
    wrong.write_text("nonsense\n")
    ended = subprocess.run(
        [*serve, str(wrong), "none", find_program("mosquitto")], capture_output=True, timeout=20, check=False
    )
    assert ended.returncode == 3
    cloud.start()


def test_the_health_check_comes_in_by_certificate(cloud: Cloud):
    """With the broker's own, which has no rights; and fails where nobody listens."""
    health = ["sh", str(ROOT / "cloud" / "broker" / "health.sh"), str(cloud.authority.broker), str(cloud.port)]
    assert subprocess.run(health, timeout=20, check=False).returncode == 0
    cloud.stop()
    assert subprocess.run(health, timeout=20, capture_output=True, check=False).returncode != 0
    cloud.start()


def test_a_forwarder_says_when_its_certificate_expires(cloud: Cloud, stack: Stack):
    """In its status; and in its log, from a month ahead."""
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
        await_true(lambda: any(_says_up(message.payload) for message in watcher.messages), 10, "the forwarder is up")
        told = status.decode(watcher.messages[-1].payload)["certificate_expires"]
        issued = cloud.authority.issued()[0]
        assert told == issued.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        log = stack.programs["forwarder"]
        await_true(lambda: "a certificate expires soon" in log.output(), 10, "the log warns")
        assert cloud.revoke("jetson-1") is Outcome.GONE
        await_true(
            lambda: "the broker refused our certificate: certificate revoked" in log.output(), 20, "the log says why"
        )


def _says_up(payload: bytes) -> bool:
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
