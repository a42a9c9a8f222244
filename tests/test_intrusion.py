"""Attempted intrusions against the real broker and the real sink, while an honest device publishes faces.

A table with the result of each intrusion is printed below the test results.
"""

import contextlib
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from cloud.pki.authority import Authority
from cloud.pki.certificates import CLIENT, Identity, issue, make_authority, make_key, pem
from demo.ports import HOST
from demo.program import ROOT, await_true
from demo.stack import BUCKET, DEVICE, Stack
from tests import packets
from tests.builders import Peer, make_face, make_jpeg
from tests.cloud import client_id_of
from tests.packets import RawClient
from wire import face, topics
from wire.errors import LinkLost, NotTrusted, Refused
from wire.face import Face
from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import Properties
from wire.mqtt.tls import TlsFiles

ROGUE = "mallory"
"""A rogue device: it is enrolled, but malicious."""
FLOODER = "flooder"
"""Another one, which the broker may shut out for a while."""
LIMITS = {"connect_burst": 300}
"""The rogue device connects for each intrusion anew."""
SINK_IDS = ("facewire.s3sink", "facewire-s3sink")
"""The sink's name in its certificate, and its MQTT client id."""
NEWCOMER = "newcomer"
"""A device that is enrolled, and connects from another address."""
ELSEWHERE = "127.0.0.2" if sys.platform == "linux" else HOST
"""Another address of the loopback interface."""
CONNECTIONS = 1100
HALF_CONNECTS = 300
"""Each needs a whole handshake."""
FLOOD_SECONDS = 10
RESEND_SECONDS = 5.0
"""Time after which a face without a receipt is published again, as the outbox does.

A flood may push a face out of the broker's queue.
"""
SINK_MEGABYTES = 200
"""Maximum memory of the sink; its container has 256 MiB."""
BROKER_MEGABYTES = 128
"""Maximum memory of the broker during every intrusion."""
Record = Callable[[str, str], None]


class HonestDevice:
    """A device that publishes faces continuously, and publishes a face again if its receipt is overdue."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sent: list[str] = []
        self.peer = Peer(stack.local_port, topics.receipts("door"))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "HonestDevice":
        self.peer.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.peer.__exit__()

    @property
    def receipted(self) -> list[str]:
        """The ids confirmed by a receipt, in order of arrival."""
        return [(message.properties.correlation_data or b"").decode() for message in list(self.peer.messages)]

    def await_progress(self, count: int = 3) -> None:
        """Wait until ``count`` more receipts have arrived."""
        before = len(self.receipted)
        await_true(lambda: len(self.receipted) >= before + count, 20, "the honest device receives receipts")

    def _work(self) -> None:
        jpeg = make_jpeg()
        due: dict[str, tuple[float, Face]] = {}
        while not self._stopping.wait(0.05):
            seen, now = make_face(jpeg=jpeg), time.monotonic()
            self.sent.append(seen.id)
            due[seen.id] = now, seen
            for face_id in self.receipted:
                due.pop(face_id, None)
            for face_id, (at, one) in list(due.items()):
                if one is seen or now - at > RESEND_SECONDS:
                    self.peer.session.publish(topics.faces("door"), jpeg, qos=1, properties=face.encode(one))
                    due[face_id] = now, one


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, _servers_are_installed: None) -> Iterator[Stack]:
    """The whole chain as in production, with two more devices: a rogue one and a revoked one."""
    with Stack(tmp_path_factory.mktemp("cloud"), limits=LIMITS) as stack:
        for name in (ROGUE, FLOODER, NEWCOMER, "revoked"):
            stack.authority.enroll(name).write(stack.folder, HOST)
        stack.authority.revoke("revoked")
        stack.start_servers()
        stack.start_connected("s3sink")
        stack.start_connected("forwarder")
        yield stack


@pytest.fixture(scope="module")
def honest(cloud: Stack) -> Iterator[HonestDevice]:
    """An honest device that publishes during all intrusions."""
    with HonestDevice(cloud) as honest:
        honest.await_progress()
        yield honest


@pytest.fixture
def record(record_property: Callable[[str, object], None], honest: HonestDevice) -> Iterator[Record]:
    """Record the result of an intrusion. Afterwards the honest device must still make progress."""
    yield lambda attempt, result: record_property("intrusion", (attempt, result))
    honest.await_progress()


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
    from cryptography import x509

    from cloud.pki.certificates import load_key

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
    from cloud.pki.certificates import SERVER

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
    with pytest.raises(Refused) as refusal:
        Intruder(cloud, forge_certificate(cloud, cloud.authority._load(), name))
    honest.await_progress()
    record(f"certificate of the authority that it has no record of, name {name}", str(refusal.value))


@pytest.mark.parametrize(
    "topic",
    [
        f"devices/{DEVICE}/faces/door",
        f"devices/{DEVICE}/status/forwarder/{DEVICE}",
        f"devices/{ROGUE}/receipts/door",
        f"devices/{ROGUE}/other",
        f"devices/{ROGUE}",
        "faces/door",
        "$SYS/broker/version",
        f"devices//{ROGUE}/faces/door",
        f"/devices/{ROGUE}/faces/door",
        f"devices/{ROGUE}/../{DEVICE}/faces/door",
    ],
)
def test_publishing_on_a_forbidden_topic_is_refused(cloud: Stack, record: Record, topic: str):
    """A topic of another device, or a topic of its own that a device may not publish on."""
    before = {key for key in cloud.keys() if f"device={DEVICE}/" not in key}
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder, pytest.raises((Refused, LinkLost)) as refusal:
        intruder.publish(topic, make_jpeg(seed=666))
    assert {key for key in cloud.keys() if f"device={DEVICE}/" not in key} == before
    record(f"publishing on {topic}", str(refusal.value))


@pytest.mark.parametrize(
    "subscription",
    [
        f"devices/{DEVICE}/receipts/#",
        f"devices/{DEVICE}/faces/#",
        "devices/+/receipts/+",
        "devices/+/faces/+",
        "#",
        "+/+/+/+",
        "$SYS/#",
        "$share/thieves/devices/+/faces/#",
        "$share/thieves/#",
        f"$share/thieves/devices/{ROGUE}/receipts/#",
        f"devices/{ROGUE}/#",
        f"devices/{ROGUE}/receipts/" + "+/" * 150 + "+",
        "+/" * 60 + "+",
        "health",
    ],
)
def test_subscription_to_topics_of_others_is_refused(cloud: Stack, record: Record, subscription: str):
    """When it is asked for. A shared subscription takes no messages from the sink."""
    with pytest.raises(Refused) as refusal:
        Intruder(cloud, credentials_of(cloud, ROGUE), subscription)
    record(f"subscribing to {subscription}", str(refusal.value))


def test_forged_receipt_is_refused(cloud: Stack, honest: HonestDevice, record: Record):
    """A receipt for a face of another device would make that device delete the face."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder, pytest.raises(Refused) as refusal:
        intruder.publish(f"devices/{DEVICE}/receipts/door", b"", correlation_data=b"01938c3e-forged")
    honest.await_progress()
    assert "01938c3e-forged" not in honest.receipted
    record("forged receipt", str(refusal.value))


def test_storing_the_id_of_another_device_sends_no_receipt_to_it(cloud: Stack, honest: HonestDevice, record: Record):
    """The rogue device publishes a face with the id of another device's face. Only the rogue device gets a receipt."""
    stolen = honest.sent[-1]
    seen = make_face(id=stolen, captured_at=face.time_of_id(stolen), jpeg=make_jpeg(seed=5))
    receipts_before = honest.receipted.count(stolen)
    with Intruder(cloud, credentials_of(cloud, ROGUE), f"devices/{ROGUE}/receipts/+") as intruder:
        intruder.connection.publish(f"devices/{ROGUE}/faces/door", seen.jpeg, 1, properties=face.encode(seen)).result(
            10
        )
        await_true(lambda: bool(intruder.arrived), 10, "the rogue device's own receipt arrives")
    await_true(lambda: honest.receipted.count(stolen) >= 1, 10, "the honest device's own receipt arrives")
    assert honest.receipted.count(stolen) <= max(receipts_before, 1)
    (key,) = [key for key in cloud.keys(f"faces/device={DEVICE}/") if stolen in key]
    assert cloud.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() == make_jpeg()
    record("face with the id of another device's face", "stored below its own prefix, receipt to itself only")


def test_last_will_on_a_topic_of_another_device_is_not_published(cloud: Stack, honest: HonestDevice, record: Record):
    """The last will would publish a face in the name of another device."""
    will = Will(f"devices/{DEVICE}/faces/willed", make_jpeg(seed=7))
    intruder = None
    with contextlib.suppress(Refused, LinkLost):
        intruder = Intruder(cloud, credentials_of(cloud, ROGUE), will=will)
        intruder.connection._client._sock.close()  # type: ignore[union-attr]  # without DISCONNECT
    honest.await_progress()
    assert not [key for key in cloud.keys() if "camera=willed" in key]
    record("last will on another device's topic", "not published")


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


def test_client_that_exceeds_the_maximum_packet_size_is_disconnected(cloud: Stack, record: Record):
    """The broker announces its limit. Facewire clients respect it; the intruder ignores it."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder:
        intruder.connection._max_packet_bytes = 0  # ignores the announced limit
        with pytest.raises(LinkLost) as end:
            intruder.publish(f"devices/{ROGUE}/faces/door", bytes(10_000_000))
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record("message of 10 MB", str(end.value))


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_device_keeps_only_few_of_many_connections(cloud: Stack, record: Record, count: int):
    """It has three client ids. A new connection replaces the earlier one of the same id, and their rate is limited."""
    tls, held = credentials_of(cloud, FLOODER), []
    try:
        for number in range(count):
            held.append(RawClient(cloud.cloud_port, tls))
            client_id = (FLOODER, f"facewire-forwarder-{FLOODER}", f"facewire-check-{FLOODER}", f"x{number}")[
                number % 4
            ]
            held[-1].send(packets.connect(client_id))
        alive = sum(_is_connected(one) for one in held)
    finally:
        for one in held:
            one.close()
    assert alive <= 3
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(f"{count} connections of one device", f"{alive} accepted and open at the end")


@pytest.mark.parametrize("way", ["no handshake", "half a handshake", "half a CONNECT"])
def test_unfinished_connections_do_not_keep_others_out(cloud: Stack, honest: HonestDevice, record: Record, way: str):
    """The broker ends the oldest ones of the same address. Whoever comes from another address gets in."""
    count = HALF_CONNECTS if way == "half a CONNECT" else CONNECTIONS
    code = textwrap.dedent(f"""
        import socket, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from tests import packets
        from tests.packets import RawClient
        from wire.mqtt.tls import TlsFiles
        folder, held = Path({str(cloud.folder / ROGUE)!r}), []
        tls = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        for _ in range({count}):
            try:
                if {way!r} == "half a CONNECT":
                    held.append(RawClient({cloud.cloud_port}, tls))
                    held[-1].send(packets.connect({ROGUE!r}, properties=packets.user_properties(9000))[:50])
                else:
                    held.append(socket.create_connection(({HOST!r}, {cloud.cloud_port}), timeout=5))
                    held[-1].sendall(b"\x16\x03\x01\x02" if {way!r} == "half a handshake" else b"")
            except OSError:
                pass
        print(len(held), flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as intruder:
        assert intruder.stdout is not None
        opened = int(intruder.stdout.readline())
        began = time.monotonic()
        with RawClient(cloud.cloud_port, credentials_of(cloud, NEWCOMER), ELSEWHERE) as newcomer:
            assert newcomer.connect(NEWCOMER) == 0
        seconds = time.monotonic() - began
        honest.await_progress(5)
        assert broker_megabytes(cloud) < BROKER_MEGABYTES
        intruder.communicate()
    record(f"{opened} connections with {way}", f"a newcomer from another address got in after {seconds:.2f} s")


def test_retained_message_is_refused(cloud: Stack, record: Record):
    """A device could otherwise fill the broker's memory with retained messages."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder, pytest.raises((Refused, LinkLost)) as refusal:
        intruder.connection.publish(f"devices/{ROGUE}/status/1", bytes(100_000), 1, retain=True).result(10)
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record("retained message", str(refusal.value))


@pytest.mark.parametrize("seconds", [2, pytest.param(FLOOD_SECONDS, marks=pytest.mark.slow)])
def test_flood_of_invalid_messages_does_not_delay_other_devices(
    cloud: Stack, honest: HonestDevice, record: Record, seconds: int
):
    """The intruder publishes as fast as possible, each message on a different topic."""
    sink = psutil.Process(cloud.programs["s3sink"].pid)
    slowest, sent, deadline = 0.0, 0, time.monotonic() + seconds
    with Intruder(cloud, credentials_of(cloud, FLOODER)) as intruder:
        underway: deque[Future[int]] = deque()
        while time.monotonic() < deadline:
            sent += 1
            underway.append(intruder.connection.publish(f"devices/{FLOODER}/faces/c{sent}", b"junk%d" % sent, 1))
            if len(underway) > 200:
                underway.popleft().result(30)
            if sent % 1000 == 0:
                began = time.monotonic()
                honest.await_progress(1)
                slowest = max(slowest, time.monotonic() - began)
    megabytes = sink.memory_info().rss / 1e6
    assert megabytes < SINK_MEGABYTES
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(
        f"{sent} invalid messages in {seconds} s",
        f"maximum delay of others {slowest:.1f} s; sink {megabytes:.0f} MB",
    )


def test_client_that_reads_nothing_does_not_delay_other_devices(cloud: Stack, honest: HonestDevice, record: Record):
    """Thousands of receipts are due to it. The broker bounds its queue."""
    context = credentials_of(cloud, ROGUE).context()
    plain = socket.create_connection((HOST, cloud.cloud_port), timeout=10)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with context.wrap_socket(plain, server_hostname=HOST) as slow:
        slow.sendall(packets.connect(ROGUE))
        slow.sendall(packets.subscribe([f"devices/{ROGUE}/receipts/+"]))
        packet = packets.publish(f"devices/{ROGUE}/faces/slow", bytes(3000), packet_id=7)
        slow.settimeout(2)
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(5000):
                slow.sendall(packet)
                sent += 1
        honest.await_progress(10)
        assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(
        "client that reads nothing",
        f"{sent} of its messages accepted; broker {broker_megabytes(cloud):.0f} MB, others not delayed",
    )


@pytest.mark.parametrize(
    "camera", ["..", "../../../x", "a=b", "x/device=jetson-1", "..%2f..%2f", "camera=door", "\u202egpj", "a b", "-", ""]
)
def test_invalid_camera_name_does_not_escape_the_prefix_of_the_device(cloud: Stack, record: Record, camera: str):
    """Keys are built from valid names only. Any other message goes to the sender's own quarantine."""
    with Intruder(cloud, credentials_of(cloud, ROGUE), f"devices/{ROGUE}/receipts/#") as intruder:
        with contextlib.suppress(Refused, LinkLost):
            intruder.publish(f"devices/{ROGUE}/faces/{camera}", make_jpeg(seed=9))
        intruder.publish(f"devices/{ROGUE}/faces/after", make_jpeg(seed=10))
        await_true(lambda: bool(intruder.arrived), 10, "the next message is stored")
    record(f"camera name {camera!r}", check_stored_keys(cloud))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("id", "../../device=jetson-1/x"),
        ("id", "01938c3e/../.."),
        ("source", "/devices/jetson-1/cameras/door"),
        ("time", "2026-11-22T00:00:00.000Z/../.."),
        ("model", "=" * 3000),
        ("x-evil\r\nX-Amz-Acl", "public-read"),
    ],
)
def test_invalid_attribute_does_not_escape_the_prefix_of_the_device(
    cloud: Stack, record: Record, attribute: str, value: str
):
    """No text from a device is copied unchecked to a key or to an HTTP header."""
    seen = make_face(jpeg=make_jpeg(seed=11))
    properties = face.encode(seen)
    attributes = [(name, text) for name, text in properties.user_properties if name != attribute]
    attributes.append((attribute, value))
    with Intruder(cloud, credentials_of(cloud, ROGUE), f"devices/{ROGUE}/receipts/#") as intruder:
        forged = Properties(
            content_type=properties.content_type,
            correlation_data=properties.correlation_data,
            user_properties=tuple(attributes),
        )
        with contextlib.suppress(Refused, LinkLost):
            intruder.connection.publish(f"devices/{ROGUE}/faces/door", seen.jpeg, 1, properties=forged).result(10)
            await_true(lambda: bool(intruder.arrived), 10, "the receipt arrives")
    record(f"attribute {attribute!r} = {value[:30]!r}", check_stored_keys(cloud))


@pytest.mark.parametrize("client_id", [*SINK_IDS, DEVICE, f"facewire-forwarder-{DEVICE}", "facewire.broker"])
def test_client_id_of_another_client_does_not_take_over_its_session(
    cloud: Stack, honest: HonestDevice, record: Record, client_id: str
):
    """The broker accepts only the client ids of the name in the certificate."""
    before = [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")]
    with pytest.raises(Refused) as refusal:
        Intruder(cloud, credentials_of(cloud, ROGUE), client_id=client_id)
    honest.await_progress()
    assert [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")] == before
    record(f"client id {client_id}", str(refusal.value))


def test_user_name_of_another_device_gives_no_access(cloud: Stack, record: Record):
    """The broker uses the name in the certificate and ignores the user name."""
    tls = credentials_of(cloud, ROGUE)
    link = Endpoint("the broker", HOST, cloud.cloud_port, tls, username=DEVICE, password="x")
    connection = Connection(link, ConnectOptions(client_id=ROGUE), lambda message: None)
    connection.open([])
    with pytest.raises((Refused, LinkLost)):
        connection.publish(f"devices/{DEVICE}/faces/door", make_jpeg(), 1).result(10)
    connection.close(1)
    record(f"user name {DEVICE}", "refused: the broker uses the name in the certificate")


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


def test_honest_device_loses_no_face(cloud: Stack, honest: HonestDevice):
    """After all intrusions, each of its faces is stored once and has a receipt. No other object has its name."""
    sent = list(honest.sent)
    await_true(lambda: set(sent) <= set(honest.receipted), 30, "every face has a receipt")
    stored = [key.removesuffix(".jpg")[-36:] for key in cloud.keys(f"faces/device={DEVICE}/camera=door/")]
    assert len(stored) == len(set(stored))
    assert set(sent) <= set(stored) <= set(honest.sent)
    assert all(key.startswith(f"faces/device={DEVICE}/camera=door/") for key in cloud.keys() if DEVICE in key)
    assert [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")] == [0, 0]


def broker_megabytes(stack: Stack) -> float:
    """The broker's resident memory."""
    return float(psutil.Process(stack.programs["cloud-broker"].pid).memory_info().rss) / 1e6


def check_stored_keys(stack: Stack) -> str:
    """Assert that every key has an allowed prefix, and return the result to record."""
    own: tuple[str, ...] = (f"faces/device={DEVICE}/camera=door/date=",)
    for rogue in (ROGUE, FLOODER):
        own += (f"faces/device={rogue}/", f"faces/quarantine/device={rogue}/")
    keys = stack.keys()
    assert all(key.startswith(own) for key in keys), [key for key in keys if not key.startswith(own)]
    assert not any(".." in key or "%" in key for key in keys)
    return "stored below its own prefix or in its own quarantine"


def _is_connected(client: RawClient) -> bool:
    """Whether the broker has accepted the client, and has not disconnected it since."""
    try:
        first, body = client.receive()
    except OSError:
        return False
    return (first, body[1]) == (packets.CONNACK, 0) and client.is_open


def _accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        taken, _ = listener.accept()
        with taken, context.wrap_socket(taken, server_side=True) as wrapped:
            wrapped.recv(100)
