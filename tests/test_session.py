"""The MQTT session with real brokers: the changes to paho's client, lost connections, and acknowledgements.

The changes to paho are listed in ``wire/mqtt/client.py`` and ``wire/mqtt/network_loop.py``. The tests of each are
marked with its number.
"""

import fcntl
import select
import socket
import ssl
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.ports import HOST, free_port
from demo.program import ROOT, await_true, find_program, listens
from demo.stack import Stack
from tests.builders import Peer
from tests.chaos.proxy import Mode, TcpProxy
from tests.cloud import Cloud, client_id_of
from wire import topics
from wire.errors import LinkLost, NotTrusted, Refused
from wire.mqtt import connection, liveness
from wire.mqtt.client import Client
from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, SUCCESS, Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.network_loop import PAHO_VERSION
from wire.mqtt.properties import Properties
from wire.mqtt.tls import TlsFiles, tls_problem
from wire.process.backoff import delay_seconds

ACL = "pattern readwrite open/#\n"


@pytest.fixture(scope="module")
def strict_port(tmp_path_factory: pytest.TempPathFactory, servers: Stack):
    """A broker that accepts only topics below open/, 10 kB per message and 5 messages in flight."""
    folder, port = tmp_path_factory.mktemp("strict"), free_port()
    folder.chmod(0o755)
    acl = folder / "acl"
    acl.write_text(ACL)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} {HOST}\nallow_anonymous true\nacl_file {acl}\nmessage_size_limit 10000\n"
        "max_inflight_messages 5\nuser root\n"
    )
    process = subprocess.Popen([find_program("mosquitto"), "-c", str(config)], stderr=subprocess.DEVNULL)
    await_true(lambda: listens(port), 10, "the strict broker listens")
    yield port
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, servers: Stack) -> Iterator[Cloud]:
    """The cloud's broker, which requires a certificate."""
    with Cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


def result(answer: "Future[int]") -> int:
    return answer.result(timeout=10)


@pytest.mark.parametrize("qos", [1, 2])
def test_publishing_succeeds_only_if_the_broker_accepts_the_message(strict_port: int, qos: int):
    """Change 3: paho reports a message as published although the broker's ACL refused it."""
    with Peer(strict_port, "open/#") as peer:
        assert result(peer.session.publish("open/a", b"x", qos=qos)) == SUCCESS
        with pytest.raises(Refused, match="Not authorized"):
            result(peer.session.publish("closed/a", b"x", qos=qos))
        assert result(peer.session.publish("open/b", b"x", qos=qos)) == SUCCESS
        assert [message.topic for message in peer.await_messages(2)] == ["open/a", "open/b"]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_is_too_large_does_not_end_the_connection(strict_port: int, qos: int):
    """Change 3: Mosquitto answers with a reason code that is missing from paho's table."""
    with Peer(strict_port, "open/#") as peer:
        with pytest.raises(Refused, match="Packet too large"):
            result(peer.session.publish("open/a", bytes(10001), qos=qos))
        assert result(peer.session.publish("open/a", b"x", qos=qos)) == SUCCESS
        assert peer.session.connected


def test_a_message_above_the_brokers_maximum_packet_size_is_not_sent(servers: Stack):
    """Mosquitto would close the connection, and a forwarder would send the message again forever."""
    with Peer(servers.watch_port, "large/#") as peer:
        with pytest.raises(Refused, match="packet too large"):
            result(peer.session.publish("large/a", bytes(163_840), qos=1))
        assert result(peer.session.publish("large/a", bytes(163_000), qos=1)) == SUCCESS
        assert peer.session.connected


def test_publishing_reports_that_there_is_no_subscriber(servers: Stack):
    """The broker accepts such a message and discards it, so the forwarder must know."""
    with Peer(servers.local_port) as peer:
        assert result(peer.session.publish("no/subscriber", b"x", qos=1)) == NO_MATCHING_SUBSCRIBERS


def test_publishing_respects_the_brokers_receive_maximum(strict_port: int):
    """The broker would disconnect a client that exceeds it."""
    with Peer(strict_port, "open/#") as peer:
        answers = [peer.session.publish("open/a", b"%d" % i, qos=1) for i in range(200)]
        assert [result(answer) for answer in answers] == [SUCCESS] * 200
        assert [message.payload for message in peer.await_messages(200)] == [b"%d" % i for i in range(200)]


def test_any_text_in_a_property_is_delivered(servers: Stack):
    """Change 1: paho drops the connection over U+FEFF, and the broker delivers the message again forever."""
    sent = Properties(
        content_type="image/jpeg",
        correlation_data=b"\x00\xff",
        user_properties=(("name", "\ufeffvalue"), ("name", "twice")),
        response_topic="a/b",
        payload_format=0,
        message_expiry_seconds=100,
    )
    with Peer(servers.local_port, "strange/#") as peer:
        for qos in (0, 1, 2):
            result(peer.session.publish("strange/text", b"x", qos=qos, properties=sent))
        for message in peer.await_messages(3):
            assert 0 < (message.properties.message_expiry_seconds or 0) <= 100  # the broker counts it down
            assert replace(message.properties, message_expiry_seconds=100) == sent


def test_a_qos_2_message_is_delivered_again_until_it_is_acknowledged(servers: Stack):
    """Change 2: paho sends the PUBREC at once, so a message would be lost if the process is killed."""
    options: dict[str, Any] = {"client_id": "exactly-once", "session_expiry_seconds": 60}
    with Peer(servers.local_port, "exactly-once/#", **options) as peer:
        peer.on_message = lambda message: None
        result(peer.session.publish("exactly-once/a", b"x", qos=2))
        peer.await_messages(1)
    with Peer(servers.local_port, "exactly-once/#", **options) as peer:
        (message,) = peer.await_messages(1)
        assert (message.payload, message.qos) == (b"x", 2)
    with Peer(servers.local_port, "exactly-once/#", **options) as peer:
        result(peer.session.publish("exactly-once/b", b"y", qos=2))
        assert [message.payload for message in peer.await_messages(1)] == [b"y"]


def test_the_tls_error_of_a_refused_certificate_is_reported(cloud: Cloud):
    """Change 4: with TLS 1.3 the broker refuses it only after the handshake. paho reports a lost connection."""
    endpoint = Endpoint("the broker", HOST, cloud.port, TlsFiles(cloud.device_1.ca_file))
    connection = Connection(endpoint, ConnectOptions("x"), lambda message: None)
    with pytest.raises(NotTrusted, match="the broker refused our certificate: certificate required"):
        connection.open([])


def test_the_tls_error_is_reported_if_writing_fails(cloud: Cloud):
    """Change 4: a failed write must not hide the TLS alert that the broker sent before."""
    client = Client("x", on_received=lambda *packet: None, on_thread_end=lambda reason: None)
    context = TlsFiles(cloud.device_1.ca_file).context()
    with context.wrap_socket(socket.create_connection((HOST, cloud.port)), server_hostname=HOST) as tls_socket:
        client._sock = tls_socket
        select.select([tls_socket], [], [], 10)  # the alert has arrived
        await_true(lambda: _sending_fails(client), 10, "the connection is closed")
        client._sock = None
    assert client.tls_error is not None
    assert tls_problem(client.tls_error) == "the broker refused our certificate: certificate required"


def _sending_fails(client: Client) -> bool:
    try:
        client._sock_send(b"\xc0\x00")
    except OSError:
        return True
    return False


def test_a_failing_network_thread_ends_the_connection_with_its_reason(
    servers: Stack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Change 5: paho notifies nobody, so publications would wait forever. The session reconnects."""

    def fail(timeout: float) -> None:
        raise ZeroDivisionError

    with Peer(servers.local_port, "failing/#") as peer:
        failing = peer.session._connection
        assert failing is not None
        monkeypatch.setattr(failing._client, "_loop", fail)
        answer = peer.session.publish("failing/a", b"x", qos=1)
        await_true(failing.ended.is_set, 10, "the connection has ended")
        assert failing.reason == "the MQTT client failed: ZeroDivisionError()"
        assert answer.done()
        await_true(
            lambda: peer.session.connected and peer.session._connection is not failing, 20, "the session is connected"
        )
        result(peer.session.publish("failing/a", b"y", qos=1))
        await_true(lambda: b"y" in [message.payload for message in peer.messages], 10, "messages arrive")
    assert failing.reason in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("mode", "is_idle"),
    [
        (Mode.BLACK_HOLE, True),
        pytest.param(Mode.SERVER_GONE, True, marks=pytest.mark.slow),
        pytest.param(Mode.UP_LOST, False, marks=pytest.mark.slow),
        pytest.param(Mode.DOWN_LOST, False, marks=pytest.mark.slow),
    ],
)
def test_a_dead_link_is_found_long_before_the_keepalive_ends(
    servers: Stack, monkeypatch: pytest.MonkeyPatch, mode: Mode, is_idle: bool
):
    """Change 6: paho would wait for one or two keepalives of 60 s."""
    _shorten_liveness(monkeypatch)
    with TcpProxy(servers.watch_port) as link, Peer(link.port, "dead/#", keepalive_seconds=60) as peer:
        dead = peer.session._connection
        assert dead is not None
        link.mode = mode
        if not is_idle:
            answer = peer.session.publish("dead/a", b"x", qos=1)
        await_true(dead.ended.is_set, 10, "the loss is noticed")
        if not is_idle:
            with pytest.raises(LinkLost):
                answer.result(10)
        link.mode = Mode.PASS
        await_true(lambda: peer.session.connected, 20, "the session is connected again")


@pytest.mark.slow
def test_a_thin_link_with_a_long_message_is_alive(servers: Stack, monkeypatch: pytest.MonkeyPatch):
    """Change 6: the message takes 4 s, and a PINGREQ or an answer is due after one."""
    _shorten_liveness(monkeypatch)
    with TcpProxy(servers.watch_port) as link, Peer(link.port, keepalive_seconds=60) as peer:
        link.bytes_per_second = 20_000.0
        connection = peer.session._connection
        assert result(peer.session.publish("thin/a", bytes(80_000), qos=1)) == NO_MATCHING_SUBSCRIBERS
        assert peer.session._connection is connection


def _shorten_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PING_SECONDS", "DUE_PING_SECONDS", "PONG_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(liveness, name, 1.0)


def test_packets_do_not_wait_for_earlier_ones(servers: Stack, cloud: Cloud):
    """Change 7: Nagle's algorithm is off, with and without TLS."""
    tls = Endpoint("the broker", HOST, cloud.port, cloud.device_1)
    for endpoint, client_id in ((servers.local_endpoint(), "x"), (tls, client_id_of(cloud.device_1))):
        link = Connection(endpoint, ConnectOptions(client_id), lambda message: None)
        link.open([])
        opened: Any = link._client.socket()
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        link.close(1)


def test_many_packets_are_received_and_sent_with_one_call(servers: Stack, monkeypatch: pytest.MonkeyPatch):
    """Change 8: paho needs five calls to receive a message, and one to acknowledge it.

    The client reads when the broker has sent everything, as it does when it is busy.
    """
    calls: list[str] = []
    for name in ("_sock_recv_into", "_sock_send", "_sock_send_only"):
        _record_calls(monkeypatch, name, calls)
    options: dict[str, Any] = {"client_id": "many", "session_expiry_seconds": 60, "receive_maximum": 200}
    with Peer(servers.watch_port, "many/#", **options):
        pass
    with Peer(servers.watch_port) as publisher:
        for answer in [publisher.session.publish("many/a", b"x", qos=1) for _ in range(200)]:
            result(answer)
    calls.clear()
    _await_bytes_before_each_connection_is_read(monkeypatch, 200 * len(b"\x32.\0\6many/a..\0x"))
    with Peer(servers.watch_port, "many/#", **options) as peer:
        peer.await_messages(200)
    assert len(calls) < 100


def _record_calls(monkeypatch: pytest.MonkeyPatch, name: str, calls: list[str]) -> None:
    original = getattr(Client, name)

    def recorded(self: Client, data: memoryview) -> Any:
        calls.append(name)
        return original(self, data)

    monkeypatch.setattr(Client, name, recorded)


def _await_bytes_before_each_connection_is_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let a client read first when ``size`` bytes have arrived."""
    original = Client._sock_recv_into
    seen: set[int] = set()

    def patient(self: Client, data: memoryview) -> int:
        number = self._sock.fileno()  # type: ignore[union-attr]
        if number not in seen:
            seen.add(number)
            await_true(lambda: _bytes_to_read(number) >= size, 10, "the broker has sent everything")
        return original(self, data)

    monkeypatch.setattr(Client, "_sock_recv_into", patient)


def _bytes_to_read(number: int) -> int:
    return int.from_bytes(fcntl.ioctl(number, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_large_messages_arrive_over_tls(servers: Stack, cloud: Cloud):
    """Change 8: TLS hands out one record at a time, and takes less than it is given when the connection is busy."""
    payloads = [bytes([number]) * (120_000 + number) for number in range(100)]
    topic = "devices/jetson-1/faces/door"
    with cloud.peer(cloud.sink_files(), topics.ALL_DEVICES_FACES) as sink, cloud.peer(cloud.device_1) as device:
        answers = [device.session.publish(topic, payload, qos=1) for payload in payloads]
        assert [result(answer) for answer in answers] == [SUCCESS] * len(payloads)
        assert [message.payload for message in sink.await_messages(len(payloads), 30)] == payloads


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_the_reason_of_a_broker_that_ends_the_connection_at_once_is_known(cloud: Cloud, is_encrypted: bool):
    """Change 8: what was received together with the end is handled. The hint of the options is added."""
    own = cloud.broker_files()
    assert own.cert_file is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert_file, own.key_file)
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            accepted, _ = server.accept()
            with context.wrap_socket(accepted, server_side=True) if is_encrypted else accepted as client:
                client.recv(4096)
                client.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK
                opened.wait(10)
                client.sendall(b"\xe0\x02\x8e\x00")  # DISCONNECT: session taken over

        opened = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        endpoint = Endpoint("a broker", HOST, server.getsockname()[1], tls=own if is_encrypted else None)
        link = Connection(endpoint, ConnectOptions("me", hints={0x8E: "choose another"}), lambda message: None)
        link.open([])
        opened.set()
        assert link.ended.wait(10)
    assert link.reason == "another client has connected with the client id 'me': choose another"


def test_nothing_is_received_while_there_is_no_room(servers: Stack, monkeypatch: pytest.MonkeyPatch):
    """Change 9: the connection stays alive meanwhile, can publish, and goes on when there is room again."""
    _shorten_liveness(monkeypatch)
    room, messages = [3], list[Message]()

    def take(message: Message) -> None:
        messages.append(message)
        link.acknowledge(message)

    endpoint = Endpoint("a broker", HOST, servers.watch_port)
    options = ConnectOptions("room", receive_maximum=1000, keepalive_seconds=4)
    link = Connection(endpoint, options, take, lambda: len(messages) < room[0])
    link.open([("room/#", 1)])
    with Peer(servers.watch_port, "answer/#") as peer:
        answers = [peer.session.publish("room/a", b"%d" % number, qos=1) for number in range(50)]
        assert [result(answer) for answer in answers] == [SUCCESS] * 50
        await_true(lambda: len(messages) == 3, 10, "the messages for which there is room have arrived")
        sent = link.publish("answer/a", b"x", 1)
        peer.await_messages(1)
        pings = link._client.liveness._queued
        await_true(lambda: link._client.liveness._queued >= pings + 3 * 2, 20, "three PINGREQs have been sent")
        assert not sent.done()  # its answer has not been received either
        assert (len(messages), link.ended.is_set()) == (3, False)
        room[0] = 1000
        link.look_again()
        await_true(lambda: len(messages) == 50, 10, "all messages have arrived")
    assert sent.result(10) == SUCCESS
    assert [int(message.payload) for message in messages] == list(range(50))
    link.close(1)


def test_threads_may_publish_and_acknowledge_at_the_same_time(servers: Stack):
    """Change 8: whichever thread sends, packets are whole and in order, and no answer is lost."""
    with Peer(servers.watch_port, "threads/#", receive_maximum=1000) as peer:
        answers: list[list[Future[int]]] = [[] for _ in range(4)]

        def publish(thread: int) -> None:
            for number in range(500):
                payload = b"%d %d " % (thread, number) + bytes(100 * (number % 7))
                answers[thread].append(peer.session.publish("threads/a", payload, qos=1))

        threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(result(answer) == SUCCESS for each in answers for answer in each)
        found = [tuple(map(int, message.payload.split(b" ")[:2])) for message in peer.await_messages(2000, 30)]
    for index in range(4):
        assert [number for sender, number in found if sender == index] == list(range(500))


def test_another_version_of_paho_is_rejected():
    """Because private methods of paho are replaced."""
    code = "import paho.mqtt; paho.mqtt.__version__ = '2.1.0'; import wire.mqtt.client"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: paho-mqtt is 2.1.0: expected {PAHO_VERSION}; install")


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_are_acknowledged_in_the_order_of_arrival(servers: Stack, qos: int):
    """MQTT requires it, but writes to S3 finish in any order."""
    port = servers.watch_port
    with Peer(port, "ordered/#", client_id="ordered", session_expiry_seconds=60) as peer:
        peer.on_message = lambda message: None
        for i in range(5):
            result(peer.session.publish("ordered/a", b"%d" % i, qos=qos))
        messages = peer.await_messages(5)
        for i in (4, 2, 0):
            peer.session.acknowledge(messages[i])
    with Peer(port, "ordered/#", client_id="ordered", session_expiry_seconds=60) as peer:
        assert [message.payload for message in peer.await_messages(4)] == [b"1", b"2", b"3", b"4"]


def test_the_broker_sends_no_more_than_the_receive_maximum(servers: Stack):
    """So the memory for unacknowledged messages is bounded."""
    with Peer(servers.local_port, "bounded/#", receive_maximum=3) as peer:
        peer.on_message = lambda message: None
        answers = [peer.session.publish("bounded/a", b"%d" % i, qos=1) for i in range(10)]
        assert all(result(answer) == SUCCESS for answer in answers)
        first = peer.await_messages(3)
        assert len(peer.messages) == 3
        for message in first:
            peer.session.acknowledge(message)
        assert [message.payload for message in peer.await_messages(6)][3:] == [b"3", b"4", b"5"]


def test_a_lost_connection_fails_publications_and_is_restored(stack: Stack):
    """The session reconnects and subscribes again."""
    broker = stack.start_broker("local-broker")
    with Peer(stack.local_port, "a/#") as peer:
        result(peer.session.publish("a/b", b"before", qos=1))
        broker.kill()
        await_true(lambda: not peer.session.connected, 10, "the loss is noticed")
        with pytest.raises(LinkLost):
            result(peer.session.publish("a/b", b"during", qos=1))
        stack.start_broker("local-broker")
        await_true(lambda: peer.session.connected, 20, "the session is connected again")
        result(peer.session.publish("a/b", b"after", qos=1))
        assert [message.payload for message in peer.await_messages(2)] == [b"before", b"after"]


def test_an_acknowledgement_for_a_lost_connection_does_nothing(stack: Stack):
    """Its packet identifier may belong to another message by now."""
    broker = stack.start_broker("local-broker")
    with Peer(stack.local_port, "a/#") as peer:
        peer.on_message = lambda message: None
        result(peer.session.publish("a/b", b"x", qos=1))
        (old,) = peer.await_messages(1)
        broker.kill()
        await_true(lambda: not peer.session.connected, 10, "the loss is noticed")
        stack.start_broker("local-broker")
        await_true(lambda: peer.session.connected, 20, "the session is connected again")
        result(peer.session.publish("a/b", b"y", qos=1))
        peer.await_messages(2)
        peer.session.acknowledge(old)
        assert peer.session.connected
        assert not old.connection._unacknowledged  # so that the connection does not keep its messages in memory


@pytest.mark.slow
def test_an_unreachable_broker_is_logged_once(capfd: pytest.CaptureFixture[str], stack: Stack):
    """The session then retries without further warnings."""
    peer = Peer(stack.local_port)
    with socket.create_server((HOST, stack.local_port)) as listener:
        peer.session.start()
        for _ in range(4):
            listener.accept()[0].close()
    stack.start_broker("local-broker")
    await_true(lambda: peer.session.connected, 20, "the session is connected")
    peer.session.close()
    out, err = capfd.readouterr()
    assert (out + err).count("not connected, retrying") == 1


@pytest.mark.slow
def test_a_server_that_never_answers_is_abandoned(servers: Stack, monkeypatch: pytest.MonkeyPatch):
    """A server that accepts connections but never answers must not block the session."""
    monkeypatch.setattr(connection, "_RESPONSE_SECONDS", 1.0)
    with socket.create_server((HOST, 0)) as server:
        peer = Peer(server.getsockname()[1])
        peer.session.start()
        server.settimeout(40)
        for _ in range(2):  # the second connection shows that the first was abandoned
            accepted, _ = server.accept()
            accepted.setblocking(True)
        peer.session.close()


def test_the_will_is_published_however_the_connection_ends(servers: Stack, tmp_path: Path):
    """Also after a regular disconnect."""
    with Peer(servers.local_port, "status/#") as watcher:
        with Peer(servers.local_port, will=Will("status/x/y", b"gone")):
            pass
        (message,) = watcher.await_messages(1)
        assert message.payload == b"gone"
        result(watcher.session.publish("status/x/y", b"", qos=1, retain=True))


def test_an_exception_in_a_callback_stops_the_process(servers: Stack):
    """paho would ignore it, and the broker would deliver the message again forever."""
    peer = Peer(servers.local_port, "failing/#")

    def fail(message: Message) -> None:
        raise ZeroDivisionError

    peer.on_message = fail
    peer.session.start()
    await_true(lambda: peer.session.connected, 10, "the peer is connected")
    peer.session.publish("failing/a", b"x", qos=1)
    assert peer.stop.wait(10)
    assert isinstance(peer.stop.failure, ZeroDivisionError)
    peer.session.close()


def test_backoff_grows_exponentially_and_is_bounded():
    """With full jitter the delay is between zero and the bound of the attempt."""
    assert [delay_seconds(attempt, 0.5, 15, chance=1.0) for attempt in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]
    assert delay_seconds(3, 0.5, 15, chance=0.0) == 0
    assert delay_seconds(3, 0.5, 15, jitter=0.25, chance=0.0) == 3
    assert delay_seconds(10_000, 0.5, 15, chance=1.0) == 15
    assert all(0 <= delay_seconds(5, 0.5, 15) <= 15 for _ in range(100))
