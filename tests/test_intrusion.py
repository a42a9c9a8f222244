"""Intrusions, each tried on the real broker and the real sink, beside an honest device at its work.

A table of how each one ended is printed below the tests' results.
"""

import contextlib
import itertools
import socket
import ssl
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
from demo.program import await_true
from demo.stack import BUCKET, DEVICE, Stack
from tests.builders import Peer, make_face, make_jpeg
from wire import face, topics
from wire.errors import LinkLost, NotTrusted, Refused
from wire.face import Face
from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import Properties
from wire.mqtt.tls import TlsFiles

BAD = "mallory"
"""Enrolled, and up to no good."""
SINK_IDS = ("facewire.s3sink", "facewire-s3sink")
"""What the sink is called by its certificate, and what it calls itself."""
CONNECTIONS = 1000
FLOOD_SECONDS = 10
RESEND_SECONDS = 5.0
"""When a receipt is overdue: what a flood has pushed out of the broker's queue comes again, as from an outbox."""
SINK_MEGABYTES = 200
"""What the sink may hold at most; its container has 256 MiB."""
BROKER_MEGABYTES = 128
"""What the broker may hold at most, whatever is done to it."""
Record = Callable[[str, str], None]


class Honest:
    """A device at its work: it publishes a face again and again, and once more where a receipt is overdue."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sent: list[str] = []
        self.peer = Peer(stack.local_port, topics.receipts("door"))
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Honest":
        self.peer.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._enough.set()
        self._thread.join()
        self.peer.__exit__()

    @property
    def receipted(self) -> list[str]:
        """The ids that have been signed for, in order."""
        return [(message.properties.correlation_data or b"").decode() for message in list(self.peer.messages)]

    def await_progress(self, count: int = 3) -> None:
        """Wait until further faces have made the whole way."""
        before = len(self.receipted)
        await_true(lambda: len(self.receipted) >= before + count, 20, "the honest device's faces arrive")

    def _work(self) -> None:
        jpeg = make_jpeg()
        due: dict[str, tuple[float, Face]] = {}
        while not self._enough.wait(0.05):
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
    """The whole chain as in production, and three more devices: a bad one, one revoked, one that nobody has let in."""
    with Stack(tmp_path_factory.mktemp("cloud")) as stack:
        for name in (BAD, "revoked"):
            stack.authority.enroll(name).write(stack.folder, HOST)
        stack.authority.revoke("revoked")
        stack.start_servers()
        stack.start_connected("s3sink")
        stack.start_connected("forwarder")
        yield stack


@pytest.fixture(scope="module")
def honest(cloud: Stack) -> Iterator[Honest]:
    """Someone beside the intruder."""
    with Honest(cloud) as honest:
        honest.await_progress()
        yield honest


@pytest.fixture
def record(record_property: Callable[[str, object], None], honest: Honest) -> Iterator[Record]:
    """Record how an intrusion ended. After it, the honest device must make progress as before."""
    yield lambda attempt, ended: record_property("intrusion", (attempt, ended))
    honest.await_progress()


def files_of(stack: Stack, name: str) -> TlsFiles:
    """What a device was given."""
    folder = stack.folder / name
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def forged(stack: Stack, authority: Identity, name: str, days: float = 1) -> TlsFiles:
    """A certificate in somebody's name by some authority."""
    key, folder = make_key(), stack.folder / f"forged-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "cert.pem").write_bytes(pem(issue(authority, name, key, [CLIENT], days=days)))
    (folder / "key.pem").write_bytes(pem(key))
    return TlsFiles(stack.authority.broker / "ca.pem", folder / "cert.pem", folder / "key.pem")


class Intruder:
    """One connection with somebody's certificate, and what arrives on it."""

    def __init__(self, stack: Stack, tls: TlsFiles, *subscriptions: str, **options: object) -> None:
        self.arrived: list[Message] = []
        link = Endpoint("the broker", HOST, stack.cloud_port, tls)
        self.connection = Connection(link, ConnectOptions(**{"client_id": "intruder"} | options), self._take)  # type: ignore[arg-type]
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


def test_no_certificate(cloud: Stack, record: Record):
    """The handshake ends."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, TlsFiles(cloud.authority.broker / "ca.pem"))
    record("no certificate", str(refusal.value))


@pytest.mark.parametrize("name", [DEVICE, "facewire.s3sink"])
def test_certificate_of_another_authority(cloud: Stack, record: Record, name: str):
    """Whatever name it is made out to."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, forged(cloud, make_authority(make_key()), name))
    record(f"a certificate of another authority, for {name}", str(refusal.value))


def test_certificate_signed_by_a_device(cloud: Stack, record: Record):
    """A device's certificate vouches for nobody: not even with the chain shown."""
    own = files_of(cloud, BAD)
    assert own.cert_file is not None
    assert own.key_file is not None
    from cryptography import x509

    from cloud.pki.certificates import load_key

    device = Identity(x509.load_pem_x509_certificate(own.cert_file.read_bytes()), load_key(own.key_file.read_bytes()))
    tls = forged(cloud, device, DEVICE)
    assert tls.cert_file is not None
    tls.cert_file.write_bytes(tls.cert_file.read_bytes() + own.cert_file.read_bytes())
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, tls)
    record(f"a certificate for {DEVICE}, signed with a device's key", str(refusal.value))


def test_expired_certificate(cloud: Stack, record: Record):
    """Of the right authority."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, forged(cloud, cloud.authority._load(), DEVICE, days=-0.01))
    record("an expired certificate", str(refusal.value))


def test_revoked_certificate(cloud: Stack, record: Record):
    """One that was good until then."""
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, files_of(cloud, "revoked"))
    record("a revoked certificate", str(refusal.value))


def test_the_servers_own_purpose(cloud: Stack, record: Record):
    """A certificate for a server does not make a client."""
    from cloud.pki.certificates import SERVER

    key, folder = make_key(), cloud.folder / "server-only"
    folder.mkdir()
    (folder / "cert.pem").write_bytes(pem(issue(cloud.authority._load(), DEVICE, key, [SERVER], days=1)))
    (folder / "key.pem").write_bytes(pem(key))
    with pytest.raises(NotTrusted) as refusal:
        Intruder(cloud, TlsFiles(cloud.authority.broker / "ca.pem", folder / "cert.pem", folder / "key.pem"))
    record("a certificate that is for servers", str(refusal.value))


def test_right_authority_but_not_admitted(cloud: Stack, record: Record):
    """A name that the list of rights does not have may neither write nor read."""
    with Intruder(cloud, forged(cloud, cloud.authority._load(), "nobody"), "#") as intruder:
        with pytest.raises(Refused) as refusal:
            intruder.publish("devices/nobody/faces/door", make_jpeg())
        assert not intruder.arrived
    record("a certificate that the authority does not know of", str(refusal.value))


@pytest.mark.parametrize(
    "topic",
    [
        f"devices/{DEVICE}/faces/door",
        f"devices/{DEVICE}/status/forwarder/{DEVICE}",
        f"devices/{BAD}/receipts/door",
        f"devices/{BAD}/other",
        f"devices/{BAD}",
        "faces/door",
        "$SYS/broker/version",
        f"devices//{BAD}/faces/door",
        f"/devices/{BAD}/faces/door",
        f"devices/{BAD}/../{DEVICE}/faces/door",
    ],
)
def test_publishing_where_one_must_not(cloud: Stack, record: Record, topic: str):
    """As another device, or as oneself where one has nothing to say."""
    before = {key for key in cloud.keys() if f"device={DEVICE}/" not in key}
    with Intruder(cloud, files_of(cloud, BAD)) as intruder, pytest.raises((Refused, LinkLost)) as refusal:
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
    ],
)
def test_subscribing_to_what_is_not_ones_own(cloud: Stack, honest: Honest, record: Record, subscription: str):
    """Mosquitto grants it and delivers nothing; and what is shared is not taken away from the sink."""
    with contextlib.suppress(Refused), Intruder(cloud, files_of(cloud, BAD), subscription) as intruder:
        honest.await_progress()
        assert intruder.publish(f"devices/{BAD}/faces/own", make_jpeg()) == 0
        # Its own receipt may come, and is the proof that by now others' would have.
        if subscription in ("#", "+/+/+/+", "devices/+/receipts/+", "$share/thieves/#"):
            await_true(lambda: len(intruder.arrived) > 0, 10, "its own receipt arrives")
        assert all(message.topic.startswith(f"devices/{BAD}/receipts/") for message in intruder.arrived)
    record(f"subscribing to {subscription}", "granted; nothing of anybody else's was delivered")


def test_forging_a_receipt(cloud: Stack, honest: Honest, record: Record):
    """For a face of another device: it would forget it."""
    with Intruder(cloud, files_of(cloud, BAD)) as intruder, pytest.raises(Refused) as refusal:
        intruder.publish(f"devices/{DEVICE}/receipts/door", b"", correlation_data=b"01938c3e-forged")
    honest.await_progress()
    assert "01938c3e-forged" not in honest.receipted
    record("forging a receipt", str(refusal.value))


def test_signing_by_storing_the_same_id(cloud: Stack, honest: Honest, record: Record):
    """A face of one's own under the id of another's: the receipt goes to whose topic it came on, and to nobody else."""
    stolen = honest.sent[-1]
    seen = make_face(id=stolen, captured_at=face.time_of_id(stolen), jpeg=make_jpeg(seed=5))
    signed = honest.receipted.count(stolen)
    with Intruder(cloud, files_of(cloud, BAD), f"devices/{BAD}/receipts/+") as intruder:
        intruder.connection.publish(f"devices/{BAD}/faces/door", seen.jpeg, 1, properties=face.encode(seen)).result(10)
        await_true(lambda: bool(intruder.arrived), 10, "the receipt of its own")
    await_true(lambda: honest.receipted.count(stolen) >= 1, 10, "the honest device's own receipt")
    assert honest.receipted.count(stolen) <= max(signed, 1)
    (key,) = [key for key in cloud.keys(f"faces/device={DEVICE}/") if stolen in key]
    assert cloud.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() == make_jpeg()
    record("storing a face under the id of another's", "a face of one's own, with a receipt of one's own")


def test_a_will_on_anothers_topic(cloud: Stack, honest: Honest, record: Record):
    """It would say that another device is gone."""
    will = Will(f"devices/{DEVICE}/faces/willed", make_jpeg(seed=7))
    intruder = None
    with contextlib.suppress(Refused, LinkLost):
        intruder = Intruder(cloud, files_of(cloud, BAD), will=will)
        intruder.connection._client._sock.close()  # type: ignore[union-attr]  # without a goodbye
    honest.await_progress()
    assert not [key for key in cloud.keys() if "camera=willed" in key]
    record("a last will on another device's topic", "not published")


@pytest.mark.parametrize("speech", [b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04evil", b"GET / HTTP/1.1\r\n\r\n"])
def test_plain_tcp(cloud: Stack, record: Record, speech: bytes):
    """Without TLS there is no word of MQTT."""
    with socket.create_connection((HOST, cloud.cloud_port), timeout=10) as plain:
        plain.sendall(speech)
        with contextlib.suppress(ConnectionResetError):
            answer = plain.recv(100)
            assert answer == b"" or answer[0] == 0x15  # an alert of TLS, never a CONNACK
    record(f"plain TCP: {speech[:4]!r}...", "closed, no CONNACK")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls(cloud: Stack, record: Record, version: ssl.TLSVersion):
    """With a good certificate."""
    own = files_of(cloud, BAD)
    assert own.cert_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(own.ca_file)
    context.load_cert_chain(own.cert_file, own.key_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = version, version
    with socket.create_connection((HOST, cloud.cloud_port), timeout=10) as plain, pytest.raises(ssl.SSLError) as error:
        context.wrap_socket(plain, server_hostname=HOST)
    assert error.value.reason
    assert "ALERT_PROTOCOL_VERSION" in error.value.reason  # the broker's word, not our own library's
    record(version.name, f"TLS alert: {error.value.reason.rpartition('_ALERT_')[2].replace('_', ' ').lower()}")


def test_a_message_of_10_megabytes(cloud: Stack, record: Record):
    """The broker tells its limit, and ours keep to it; who does not is disconnected."""
    with Intruder(cloud, files_of(cloud, BAD)) as intruder:
        intruder.connection._max_packet_bytes = 0  # ignores what it was told
        with pytest.raises(LinkLost) as end:
            intruder.publish(f"devices/{BAD}/faces/door", bytes(10_000_000))
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record("a message of 10 MB", str(end.value))


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_connections_by_one_device(cloud: Stack, record: Record, count: int):
    """Each one takes the place of the one before it: a device has one."""
    context = files_of(cloud, BAD).context()
    hello = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03%03d"
    held: list[ssl.SSLSocket] = []
    try:
        for number in range(count):
            wrapped = context.wrap_socket(
                socket.create_connection((HOST, cloud.cloud_port), timeout=10), server_hostname=HOST
            )
            held.append(wrapped)
            wrapped.sendall(hello % number)
            assert wrapped.recv(4)[0] == 0x20
        alive = sum(_is_open(one) for one in held)
    finally:
        for one in held:
            one.close()
    assert alive == 1
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(f"{count} connections by one device", f"{alive} of them open at the end")


def test_a_thousand_connections_that_never_shake_hands(cloud: Stack, honest: Honest, record: Record):
    """Without a certificate one can do no more than hold the door: who is inside does not notice."""
    held = []
    try:
        for _ in range(CONNECTIONS):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((HOST, cloud.cloud_port), timeout=1))
        honest.await_progress(10)
    finally:
        for one in held:
            one.close()
    record(f"{CONNECTIONS} connections that say nothing", "the honest device goes on")


def test_filling_the_broker_with_what_it_is_to_keep(cloud: Stack, record: Record):
    """One retained message on each of many topics of one's own: nothing is kept for those who come later."""
    with Intruder(cloud, files_of(cloud, BAD)) as intruder, pytest.raises((Refused, LinkLost)) as refusal:
        intruder.connection.publish(f"devices/{BAD}/status/1", bytes(100_000), 1, retain=True).result(10)
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record("a message that the broker is to keep", str(refusal.value))


@pytest.mark.parametrize("seconds", [2, pytest.param(FLOOD_SECONDS, marks=pytest.mark.slow)])
def test_a_flood_of_junk(cloud: Stack, honest: Honest, record: Record, seconds: int):
    """As fast as it goes, each on a topic of its own: the honest device's faces do not wait behind it."""
    sink = psutil.Process(cloud.programs["s3sink"].pid)
    slowest, sent, deadline = 0.0, 0, time.monotonic() + seconds
    with Intruder(cloud, files_of(cloud, BAD)) as intruder:
        underway: deque[Future[int]] = deque()
        while time.monotonic() < deadline:
            sent += 1
            underway.append(intruder.connection.publish(f"devices/{BAD}/faces/c{sent}", b"junk%d" % sent, 1))
            if len(underway) > 200:
                underway.popleft().result(30)
            if sent % 1000 == 0:
                began = time.monotonic()
                honest.await_progress(1)
                slowest = max(slowest, time.monotonic() - began)
    megabytes = sink.memory_info().rss / 1e6
    assert megabytes < SINK_MEGABYTES
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(f"{sent} messages of junk in {seconds} s", f"others wait {slowest:.1f} s at most; sink {megabytes:.0f} MB")


def test_a_slow_reader(cloud: Stack, honest: Honest, record: Record):
    """It has thousands of receipts sent to itself and reads none: what waits for it is bounded, others do not wait."""
    context = files_of(cloud, BAD).context()
    plain = socket.create_connection((HOST, cloud.cloud_port), timeout=10)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with context.wrap_socket(plain, server_hostname=HOST) as slow:
        slow.sendall(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")
        filters = f"devices/{BAD}/receipts/+".encode()
        slow.sendall(
            b"\x82" + bytes([len(filters) + 6]) + b"\x00\x01\x00" + len(filters).to_bytes(2) + filters + b"\x01"
        )
        topic = f"devices/{BAD}/faces/slow".encode()
        body = len(topic).to_bytes(2) + topic + b"\x00\x07\x00" + bytes(3000)
        packet = b"\x32" + bytes([(len(body) & 0x7F) | 0x80, len(body) >> 7]) + body
        slow.settimeout(2)
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(5000):
                slow.sendall(packet)
                sent += 1
        honest.await_progress(10)
        assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(
        "a slow reader", f"{sent} messages taken from it; broker {broker_megabytes(cloud):.0f} MB, others do not wait"
    )


@pytest.mark.parametrize(
    "camera", ["..", "../../../x", "a=b", "x/device=jetson-1", "..%2f..%2f", "camera=door", "\u202egpj", "a b", "-", ""]
)
def test_names_that_would_lead_elsewhere(cloud: Stack, record: Record, camera: str):
    """The key follows from names that are names: everything else goes into the sender's own quarantine."""
    with Intruder(cloud, files_of(cloud, BAD), f"devices/{BAD}/receipts/#") as intruder:
        with contextlib.suppress(Refused, LinkLost):
            intruder.publish(f"devices/{BAD}/faces/{camera}", make_jpeg(seed=9))
        intruder.publish(f"devices/{BAD}/faces/after", make_jpeg(seed=10))
        await_true(lambda: bool(intruder.arrived), 10, "what came after it is stored")
    record(f"a camera called {camera!r}", _all_within_its_own(cloud))


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
def test_attributes_that_would_lead_elsewhere(cloud: Stack, record: Record, attribute: str, value: str):
    """No text of a device reaches a key, or a header that means something."""
    seen = make_face(jpeg=make_jpeg(seed=11))
    properties = face.encode(seen)
    lying = [(name, text) for name, text in properties.user_properties if name != attribute] + [(attribute, value)]
    with Intruder(cloud, files_of(cloud, BAD), f"devices/{BAD}/receipts/#") as intruder:
        changed = Properties(
            content_type=properties.content_type,
            correlation_data=properties.correlation_data,
            user_properties=tuple(lying),
        )
        with contextlib.suppress(Refused, LinkLost):
            intruder.connection.publish(f"devices/{BAD}/faces/door", seen.jpeg, 1, properties=changed).result(10)
            await_true(lambda: bool(intruder.arrived), 10, "it is signed for")
    record(f"the attribute {attribute!r} = {value[:30]!r}", _all_within_its_own(cloud))


@pytest.mark.parametrize("client_id", [*SINK_IDS, DEVICE, f"facewire-forwarder-{DEVICE}", "facewire.broker"])
def test_taking_over_a_session(cloud: Stack, honest: Honest, record: Record, client_id: str):
    """By the client id of the sink, or of another device: the certificate's name is the client, whatever one says."""
    before = [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")]
    with Intruder(cloud, files_of(cloud, BAD), "#", client_id=client_id) as intruder:
        honest.await_progress()
        assert not intruder.arrived
    assert [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")] == before
    record(f"the client id {client_id}", "a session of one's own; nobody was disconnected")


def test_a_user_name_of_somebody_else(cloud: Stack, record: Record):
    """The certificate's counts."""
    tls = files_of(cloud, BAD)
    link = Endpoint("the broker", HOST, cloud.cloud_port, tls, username=DEVICE, password="x")
    connection = Connection(link, ConnectOptions(client_id="x"), lambda message: None)
    with contextlib.suppress(Refused, LinkLost):
        connection.open([])
        with pytest.raises((Refused, LinkLost)):
            connection.publish(f"devices/{DEVICE}/faces/door", make_jpeg(), 1).result(10)
    connection.close(1)
    record(f"the user name {DEVICE}", "refused: the certificate's name counts")


def test_a_broker_that_is_not_ours(cloud: Stack, record: Record, tmp_path: Path):
    """The other way round: a device hands its faces to nobody but the broker of its authority."""
    impostor = Authority(tmp_path / "impostor")
    impostor.ensure([HOST])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(impostor.broker / "server.pem", impostor.broker / "server-key.pem")
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
        link = Endpoint("the broker", HOST, listener.getsockname()[1], files_of(cloud, BAD))
        with pytest.raises(NotTrusted) as refusal:
            Connection(link, ConnectOptions(client_id="x"), lambda message: None).open([])
    record("a broker of another authority, to a device", str(refusal.value))


def test_the_honest_device_has_lost_nothing(cloud: Stack, honest: Honest):
    """After all that: each of its faces is there once, signed for, and nothing else is in its name."""
    sent = list(honest.sent)
    await_true(lambda: set(sent) <= set(honest.receipted), 30, "everything is signed for")
    stored = [key.removesuffix(".jpg")[-36:] for key in cloud.keys(f"faces/device={DEVICE}/camera=door/")]
    assert len(stored) == len(set(stored))
    assert set(sent) <= set(stored) <= set(honest.sent)
    assert all(key.startswith(f"faces/device={DEVICE}/camera=door/") for key in cloud.keys() if DEVICE in key)
    assert [cloud.programs[name].output().count("no connection") for name in ("s3sink", "forwarder")] == [0, 0]


def broker_megabytes(stack: Stack) -> float:
    """The broker's resident memory."""
    return float(psutil.Process(stack.programs["cloud-broker"].pid).memory_info().rss) / 1e6


def _all_within_its_own(stack: Stack) -> str:
    own = (f"faces/device={BAD}/", f"faces/quarantine/device={BAD}/", f"faces/device={DEVICE}/camera=door/date=")
    keys = stack.keys()
    assert all(key.startswith(own) for key in keys), [key for key in keys if not key.startswith(own)]
    assert not any(".." in key or "%" in key for key in keys)
    return "stays below its own prefix, or in its own quarantine"


def _is_open(connection: ssl.SSLSocket) -> bool:
    connection.settimeout(0.05)
    try:
        for _ in itertools.count():
            if connection.recv(1000) == b"":
                return False
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def _accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        taken, _ = listener.accept()
        with taken, context.wrap_socket(taken, server_side=True) as wrapped:
            wrapped.recv(100)
