"""A short chaos test, and unit tests of its proxies, its fault plan and its ledger."""

import json
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError

from demo.ports import HOST
from demo.program import ROOT
from demo.stack import ACCESS_KEY, BUCKET, CAMERA, DEVICE, Stack
from edge.detector.delivery.outbox import Outbox
from tests.builders import make_face
from tests.chaos import ledger
from tests.chaos.faults import KINDS, plan
from tests.chaos.proxy import Mode, TcpProxy
from tests.chaos.s3proxy import Answer, S3Fault, S3Proxy

FAULTS, FACES = 21, 300
"""Each kind of fault once."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_face_is_lost_or_stored_twice_during_faults(servers: Stack) -> None:
    seed = secrets.randbelow(1_000_000)
    command = [sys.executable, "-m", "tests.chaos", "--longest", "5", "--seed", str(seed)]
    command += ["--faults", str(FAULTS), "--faces", str(FACES)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as chaos:
        try:
            printed, _ = chaos.communicate(timeout=560)
        finally:
            chaos.terminate()  # it stops all its processes; no effect if it has already ended
    assert chaos.returncode == 0, f"python {' '.join(command[1:])}\n{printed}"
    result = json.loads((ROOT / "build" / "chaos" / str(seed) / "result.json").read_text())
    assert sum(result["faults"].values()) == FAULTS
    assert result["balance"]["committed"] == result["balance"]["stored"] >= FACES
    assert result["balance"]["lost"] == result["balance"]["twice"] == []


def test_plan_depends_only_on_its_seed_and_draws_all_kinds_equally_often() -> None:
    faults = plan(7, 2 * len(KINDS), 20.0)
    assert faults == plan(7, 2 * len(KINDS), 20.0)
    assert faults != plan(8, 2 * len(KINDS), 20.0)
    assert Counter(fault.kind for fault in faults) == dict.fromkeys(KINDS, 2)


def test_faults_of_one_burst_have_different_targets() -> None:
    hit: list[str] = []
    for fault in plan(7, 100, 20.0):
        hit += fault.targets
        assert len(hit) == len(set(hit))
        if fault.last_of_burst:
            hit.clear()


def test_outbox_records_every_committed_face(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    ledger.install(path)
    face = make_face(jpeg=b"\xff\xd8 picture \xff\xd9")
    with closing(Outbox(path, 1 << 30)) as outbox:
        outbox.store([face])
    assert ledger.committed(path) == ({face.id: len(face.jpeg)}, 1)
    with closing(Outbox(path, 1 << 30)) as outbox:
        outbox.delete_receipted([(face.id, face.origin.camera)])
    assert ledger.committed(path) == ({face.id: len(face.jpeg)}, 0)


def key_of(face_id: str, clock: str = "150405.123Z") -> str:
    return f"faces/device={DEVICE}/camera={CAMERA}/date=2026-11-22/{clock}-{face_id}.jpg"


def test_balance_finds_lost_duplicate_altered_and_foreign_objects() -> None:
    intact, lost, twice, altered, foreign = (make_face().id for _ in range(5))
    stored = [(key_of(intact), 10), (key_of(twice), 10), (key_of(twice, "150406.000Z"), 10), (key_of(altered), 9)]
    stored += [(key_of(foreign), 10), ("faces/quarantine/device=jetson-1/date=2026-11-22/00", 10)]
    balance = ledger.balance(dict.fromkeys((intact, lost, twice, altered), 10), stored)
    assert (balance.committed, balance.stored) == (4, 3)
    assert (balance.lost, balance.twice, balance.altered) == ([lost], [twice], [altered])
    assert balance.foreign == [stored[4][0], stored[5][0]]
    assert not balance.clean


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """The listening socket of a server."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(5)
        yield listener


@contextmanager
def linked(server: socket.socket) -> Iterator[tuple[TcpProxy, socket.socket, socket.socket]]:
    """Start a proxy and open a connection through it. Yield the proxy, the client's end and the server's end."""
    with TcpProxy(server.getsockname()[1]) as proxy, connect(proxy) as client:
        server_end, _ = server.accept()
        with server_end:
            server_end.settimeout(5)
            yield proxy, client, server_end


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=5)


def receives_nothing(end: socket.socket) -> bool:
    """Whether no data arrives within 0.3 s."""
    end.settimeout(0.3)
    try:
        end.recv(100)
    except TimeoutError:
        return True
    finally:
        end.settimeout(5)
    return False


def is_reset(end: socket.socket) -> bool:
    try:
        return end.recv(100) == b""
    except ConnectionResetError:
        return True


def test_link_forwards_data_both_ways_and_forwards_the_close(server: socket.socket) -> None:
    with linked(server) as (_, client, server_end):
        client.sendall(b"up")
        server_end.sendall(b"down")
        assert (server_end.recv(100), client.recv(100)) == (b"up", b"down")
        client.close()
        assert server_end.recv(100) == b""


def test_cut_resets_both_sides_and_refuses_connections_until_repaired(server: socket.socket) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.mode = Mode.CUT
        assert is_reset(client)
        assert is_reset(server_end)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.mode = Mode.PASS
        connect(proxy).close()


def test_black_hole_breaks_existing_connections_for_good_and_new_ones_work(server: socket.socket) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.mode = Mode.BLACK_HOLE
        with connect(proxy) as unanswered:
            unanswered.sendall(b"up")
            proxy.mode = Mode.PASS
            client.sendall(b"up")
            assert receives_nothing(server_end)
            assert receives_nothing(unanswered)
        with connect(proxy) as fresh:
            fresh.sendall(b"up")
            assert server.accept()[0].recv(100) == b"up"


def test_stalled_link_delivers_all_data_later(server: socket.socket) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.mode = Mode.STALL
        client.sendall(b"up")
        assert receives_nothing(server_end)
        proxy.mode = Mode.PASS
        assert server_end.recv(100) == b"up"


def test_delayed_link_delivers_in_order(server: socket.socket) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.latency_seconds = 0.6
        proxy.mode = Mode.DELAY
        client.sendall(b"first ")
        assert receives_nothing(server_end)
        client.sendall(b"second")
        with server_end.makefile("rb") as stream:
            assert stream.read(12) == b"first second"


@pytest.mark.parametrize("mode", [Mode.CLIENT_GONE, Mode.SERVER_GONE])
def test_half_open_connection_is_reset_on_one_side_only(server: socket.socket, mode: Mode) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.mode = mode
        reset_end, open_end = (client, server_end) if mode is Mode.CLIENT_GONE else (server_end, client)
        assert is_reset(reset_end)
        assert receives_nothing(open_end)
        with connect(proxy) as fresh:
            fresh.sendall(b"up")
            assert server.accept()[0].recv(100) == b"up"


@pytest.mark.parametrize("mode", [Mode.UP_LOST, Mode.DOWN_LOST])
def test_link_loses_one_direction_only(server: socket.socket, mode: Mode) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.mode = mode
        client.sendall(b"up")
        server_end.sendall(b"down")
        receiving, losing = (client, server_end) if mode is Mode.UP_LOST else (server_end, client)
        assert receiving.recv(100)
        assert receives_nothing(losing)


@pytest.fixture
def s3(servers: Stack) -> Iterator[S3Proxy]:
    with S3Proxy(servers.s3_port, seed=1) as proxy:
        yield proxy


@pytest.fixture
def put(servers: Stack, s3: S3Proxy) -> Callable[[str], int]:
    """A function that writes an object through the proxy unless the key exists, and returns the HTTP status."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{s3.port}",
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=servers.secret_key,
        config=Config(read_timeout=1, retries={"total_max_attempts": 1}, proxies={}),
    )

    def put_object(key: str) -> int:
        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=b"body", IfNoneMatch="*")
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200

    return put_object


def test_s3_proxy_forwards_requests_and_counts_stored_objects(s3: S3Proxy, put: Callable[[str], int]) -> None:
    assert (put("chaos/stored object"), put("chaos/stored object")) == (200, 412)
    assert (s3.written, s3.already_there) == ({f"/{BUCKET}/chaos/stored object": 1}, 1)


@pytest.mark.parametrize("answer", [answer for answer in Answer if answer.value and answer.value[0]])
def test_s3_proxy_can_respond_with_an_error(s3: S3Proxy, put: Callable[[str], int], answer: Answer) -> None:
    assert answer.value is not None
    s3.fault = S3Fault(answer, after=False, share=1.0)
    assert put(f"chaos/{answer}") == answer.value[0]
    assert not s3.written


@pytest.mark.parametrize(("answer", "error"), [(Answer.NONE, ReadTimeoutError), (Answer.RESET, HTTPClientError)])
def test_s3_proxy_can_store_an_object_and_lose_the_response(
    s3: S3Proxy, put: Callable[[str], int], answer: Answer, error: type[Exception]
) -> None:
    s3.fault = S3Fault(answer, after=True, share=1.0)
    with pytest.raises(error):
        put(f"chaos/{answer}")
    s3.fault = None
    assert put(f"chaos/{answer}") == 412
