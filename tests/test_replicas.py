"""Several sinks that share the messages, with a real broker and a real S3 server."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

import pytest

from cloud.s3sink import replica
from demo.ports import HOST
from demo.program import ROOT, Program, await_true
from demo.stack import Stack
from tests.builders import Peer, make_face, make_faces, make_jpeg
from tests.chaos.proxy import Mode, TcpProxy
from wire import face, topics
from wire.face import Face
from wire.mqtt.connection import NO_MATCHING_SUBSCRIBERS, SUCCESS

FACES = "devices/jetson-1/faces/door"
SINKS = ("s3sink", "s3sink-2", "s3sink-3")
RESEND_SECONDS = 5.0
"""Time after which the publisher sends a face again."""
MAX_WAITING = 200
"""Maximum number of faces that wait for their receipts."""
JPEG = make_jpeg()
SAME_NAME = r"another client has .*facewire-s3sink-s3sink.*expected another SINK_NAME"


@pytest.fixture
def cloud(stack: Stack) -> Stack:
    """A broker, an S3 server and two sinks for one test."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    for name in SINKS[:2]:
        stack.start_connected(name)
    return stack


class Publisher:
    """Publishes faces all the time, and publishes a face again if its receipt is overdue, as an outbox does."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.published = 0
        self.receipted: set[int] = set()
        """The numbers of the faces whose receipts have arrived."""
        self._peer = Peer(stack.watch_port, topics.ALL_DEVICES_RECEIPTS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Publisher":
        self._peer.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._peer.__exit__()

    def await_more(self, count: int = 100) -> None:
        """Wait until so many of the faces that are published from now on are stored."""
        first = self.published
        await_true(lambda: sum(number >= first for number in set(self.receipted)) >= count, 60, f"{count} more faces")

    def finish(self) -> None:
        """Publish no more faces. Each is stored once."""
        self._stopping.set()
        await_true(lambda: len(self.receipted) == self.published, 60, "each face has its receipt")
        assert len(self.stack.keys()) == self.published
        assert not self.stack.keys("faces/quarantine/")

    def _work(self) -> None:
        waiting: dict[str, tuple[int, Face, float]] = {}
        seen = 0
        while not self._stopping.wait(0.005) or len(self.receipted) < self.published:
            for receipt in self._peer.messages[seen:]:
                seen += 1
                number, _, _ = waiting.pop((receipt.properties.correlation_data or b"").decode(), (None, None, None))
                if number is not None:
                    self.receipted.add(number)
            now = time.monotonic()
            due = [(number, one) for number, one, sent_at in waiting.values() if now - sent_at > RESEND_SECONDS]
            if len(waiting) < MAX_WAITING and not self._stopping.is_set():
                due.append((self.published, make_face(jpeg=JPEG)))
                self.published += 1
            for number, one in due:
                waiting[one.id] = number, one, now
                self._peer.session.publish(FACES, one.jpeg, qos=1, properties=face.encode(one))


@pytest.fixture
def publisher(cloud: Stack) -> Iterator[Publisher]:
    """A device that sends faces during the whole test."""
    with Publisher(cloud) as publisher:
        publisher.await_more()
        yield publisher


def has_stored_more(stack: Stack, stored: int) -> bool:
    return len(stack.keys()) > stored


def says_what_may_be_wrong(sink: Program) -> bool:
    return re.search(SAME_NAME, sink.output()) is not None


def written(sink: Program) -> int:
    """How many objects a sink had written when it ended."""
    return sum(int(line.partition(" written=")[2].split()[0]) for line in sink.output().splitlines() if "ended" in line)


def test_sinks_share_the_work(cloud: Stack, publisher: Publisher):
    """Each of them stores some faces, also one that is added later. None of them is disconnected by another."""
    cloud.start_connected(SINKS[2])
    publisher.await_more(200)
    publisher.finish()
    sinks = [cloud.programs[name] for name in SINKS]
    assert [sink.stop() for sink in sinks] == [0] * 3
    assert all(written(sink) for sink in sinks)
    assert sum(map(written, sinks)) == publisher.published
    assert not any("not connected" in sink.output() for sink in sinks)


@pytest.mark.slow
def test_a_sink_that_is_killed_and_started_again_gets_what_it_has_not_acknowledged(cloud: Stack, publisher: Publisher):
    """Its session is kept for a while, as a container keeps its name."""
    for name in SINKS[:2]:
        cloud.programs[name].kill()
        cloud.start_connected(name)
        publisher.await_more()
    publisher.finish()


@pytest.mark.slow
def test_a_sink_that_is_killed_and_stays_away_loses_nothing(cloud: Stack, publisher: Publisher):
    """Its session ends soon. What it was sent is sent again, and another sink stores it."""
    cloud.programs["s3sink"].kill()
    broker = cloud.programs["cloud-broker"]
    await_true(lambda: "Expiring client facewire-s3sink-s3sink " in broker.output(), 40, "its session has ended")
    publisher.await_more()
    publisher.finish()


@pytest.mark.slow
def test_a_sink_that_hangs_is_replaced_by_the_others(cloud: Stack, publisher: Publisher):
    """The broker ends its session. When it works again, it joins again, and stores nothing twice."""
    sink = cloud.programs["s3sink"]
    assert sink.process is not None
    sink.process.send_signal(signal.SIGSTOP)
    try:
        broker = cloud.programs["cloud-broker"]
        await_true(lambda: "Expiring client facewire-s3sink-s3sink " in broker.output(), 60, "its session has ended")
        publisher.await_more()
    finally:
        sink.process.send_signal(signal.SIGCONT)
    await_true(lambda: sink.output().count("connected    ") >= 2, 40, "it is connected again")
    publisher.await_more()
    publisher.finish()
    assert sink.stop() == 0


@pytest.mark.slow
def test_sinks_that_are_stopped_and_started_lose_no_picture_of_a_publisher_without_an_outbox(cloud: Stack):
    """A sink that is stopped gets no more messages, and stores those that it has been sent. Nothing is stored twice."""
    answers: list[int] = []
    stopping = threading.Event()

    def publish() -> None:
        futures: list[Future[int]] = []
        with Peer(cloud.watch_port) as peer:
            while not stopping.wait(0.002):
                futures.append(peer.session.publish(FACES, make_jpeg(8, 8, len(futures)), qos=1))
            answers.extend([future.result(60) for future in futures])

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for name in (*SINKS[:2], SINKS[0]):
            await_true(partial(has_stored_more, cloud, len(cloud.keys()) + 50), 60, "the sinks work")
            assert cloud.programs[name].stop() == 0
            cloud.start_connected(name)
    finally:
        stopping.set()
        thread.join()
    assert set(answers) == {SUCCESS}
    await_true(lambda: len(cloud.keys()) >= len(answers), 60, "all are stored")
    assert [cloud.programs[name].stop() for name in SINKS[:2]] == [0, 0]
    assert len(cloud.keys()) == len(answers)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["s3sink", ""])
def test_a_sink_that_is_stopped_ends_its_writes_and_acknowledges_them(cloud: Stack, group: str):
    """It cannot store all that it has been sent. What it has stored is not stored again when it is started again."""
    devices, each = ("jetson-1", "jetson-2", "jetson-3"), 400
    assert [cloud.programs[name].stop() for name in SINKS[:2]] == [0, 0]
    with TcpProxy(cloud.s3_port) as link, Peer(cloud.watch_port) as device:
        link.latency_seconds = 0.2
        link.mode = Mode.DELAY
        url = f"http://{HOST}:{link.port}"
        sink = cloud.start_connected(SINKS[0], SINK_GROUP=group, AWS_ENDPOINT_URL_S3=url, S3_CONCURRENCY="8")
        pictures = [(name, make_jpeg(8, 8, number)) for number, name in enumerate(devices * each)]
        for name, jpeg in pictures:
            device.session.publish(f"devices/{name}/faces/door", jpeg, qos=1)
        await_true(partial(has_stored_more, cloud, 20), 60, "the sink works")
        assert sink.stop(20) == 0
    stored = len(cloud.keys())
    assert 0 < stored < len(pictures)
    cloud.start_connected(SINKS[0], SINK_GROUP=group)
    await_true(lambda: len(cloud.keys()) >= len(pictures), 60, "all are stored")
    assert cloud.programs[SINKS[0]].stop(20) == 0
    assert len(cloud.keys()) == len(pictures)


@pytest.mark.slow
def test_a_sink_from_which_s3_accepts_nothing_leaves_its_group_until_it_does(cloud: Stack):
    """The others get its share meanwhile. What it holds is stored, too."""
    with TcpProxy(cloud.s3_port) as link, Peer(cloud.watch_port, topics.ALL_DEVICES_RECEIPTS) as device:

        def publish(count: int) -> None:
            for seen in make_faces(count, jpeg=JPEG):
                device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))

        assert cloud.programs[SINKS[0]].stop() == 0
        sink = cloud.start_connected(SINKS[0], AWS_ENDPOINT_URL_S3=f"http://{HOST}:{link.port}")
        await_true(lambda: "store checked" in sink.output(), 20, "the store is checked")
        link.mode = Mode.CUT
        publish(40)
        await_true(lambda: "left the group" in sink.output(), 60, "it leaves")
        assert len(device.await_messages(20)) == 20
        publish(40)
        assert len(device.await_messages(60)) == 60
        link.mode = Mode.PASS
        await_true(lambda: "joined the group" in sink.output(), 60, "it joins again")
        publish(40)
        device.await_messages(120, 60)
        assert [cloud.programs[name].stop() for name in SINKS[:2]] == [0, 0]
        assert written(sink) == 40
    assert len(cloud.keys()) == 120


def test_no_session_remains_when_the_last_sink_has_ended(cloud: Stack):
    """The broker answers that there is no subscriber, so forwarders wait for one."""
    with Peer(cloud.watch_port) as device:
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == SUCCESS
        assert cloud.programs["s3sink"].stop() == 0
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == SUCCESS
        assert cloud.programs["s3sink-2"].stop() == 0
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == NO_MATCHING_SUBSCRIBERS
    assert len(cloud.keys()) == 2


@pytest.mark.slow
def test_what_a_sink_cannot_store_before_it_ends_waits_for_it(cloud: Stack):
    """While S3 is down, a picture of a publisher without an outbox stays in the broker, in the session of the sink."""
    assert cloud.programs["s3sink-2"].stop() == 0
    cloud.programs["s3"].kill()
    with Peer(cloud.watch_port) as device:
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == SUCCESS
        await_true(lambda: "retrying" in cloud.programs["s3sink"].output(), 20, "the failure is logged")
        assert cloud.programs["s3sink"].stop(20) == 0
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == NO_MATCHING_SUBSCRIBERS
    cloud.start_s3()
    time.sleep(replica.MEMBER_SECONDS + 2)  # longer than the session of a sink that has gone without a word
    cloud.start_connected("s3sink")
    await_true(lambda: len(cloud.keys()) == 1, 30, "the picture is stored")


def test_the_session_of_a_sink_without_a_group_can_be_ended(cloud: Stack):
    """After a change to a group: otherwise a broker would keep every message for it for a day."""
    for name in SINKS[:2]:
        assert cloud.programs[name].stop() == 0
    cloud.start_connected("s3sink", SINK_GROUP="").kill()
    with Peer(cloud.watch_port) as device:
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == SUCCESS
        command = [sys.executable, "-m", "cloud.s3sink.admin", "end-session"]
        ended = subprocess.run(
            command, env=cloud.environ("s3sink"), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (0, "")
        assert ended.stderr == "the broker keeps no messages for facewire-s3sink any more\n"
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == NO_MATCHING_SUBSCRIBERS


@pytest.mark.slow
def test_two_sinks_with_the_same_name_are_told_so(cloud: Stack):
    """The log says which id it is, and which setting gives another one."""
    sink = cloud.start_connected("s3sink-3", SINK_NAME="s3sink")
    for program in (cloud.programs["s3sink"], sink):
        await_true(partial(says_what_may_be_wrong, program), 30, "the sink says what may be wrong")


def test_a_check_disconnects_no_sink(cloud: Stack):
    """It has a client id of its own, although the certificate is the same."""
    command = cloud.programs["s3sink"].command
    ended = subprocess.run(
        [*command, "--check"], env=cloud.environ("s3sink"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "facewire-check-facewire.s3sink-s3sink" in cloud.programs["cloud-broker"].output()
    assert "cloud broker    ok" in ended.stdout
    assert not any("not connected" in cloud.programs[name].output() for name in SINKS[:2])


@pytest.mark.parametrize(
    "answers",
    [[b"\x20\x05\x00\x00\x02\x2a\x00"], [b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x9e"]],
    ids=["told when connecting", "told when subscribing"],
)
def test_a_broker_without_shared_subscriptions_is_named_with_what_to_do(stack: Stack, answers: list[bytes]):
    """In one line. The answers are a CONNACK with «shared subscription available» 0, or a SUBACK with 0x9E."""
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    connection.recv(4096)
                    connection.sendall(answer)
                while connection.recv(4096):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        stack.start_s3()
        stack.make_bucket()
        sink = stack.start("s3sink", CLOUD_MQTT_PORT=str(port), CLOUD_MQTT_TLS="false")
        await_true(lambda: replica.NOT_SHARED in sink.output(), 20, "the sink says what to do")
    (line,) = [line for line in sink.output().splitlines() if replica.NOT_SHARED in line]
    assert "not connected, retrying" in line
    assert "hared subscription" in line


def test_a_host_name_becomes_a_valid_name(monkeypatch: pytest.MonkeyPatch):
    """Also a long one, or one with dots. Names that are cut stay different."""
    names = []
    for host in ("a1b2c3", "ip-10-0-0-7.ec2.internal", "n_1", "x" * 60, "x" * 61, ""):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        names.append(replica.name_of_host())
        assert len(replica.connect_options("s3sink", names[-1]).client_id) <= 64
    assert names[:3] == ["a1b2c3", "ip-10-0-0-7-ec2-internal", "n-1"]
    assert len(set(names)) == 6
