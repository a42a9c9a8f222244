"""A short chaos test, and unit tests of its proxies, its fault plan and its ledger."""

import hashlib
import json
import random
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError

from demo.ports import HOST
from demo.program import ROOT
from demo.stack import ACCESS_KEY, BUCKET, CAMERA, DEVICE, Stack
from edge.detector.delivery.outbox import Outbox
from tests.builders import make_face, make_jpeg
from tests.chaos import ledger
from tests.chaos.disk import Disk, flip_bit
from tests.chaos.faults import KINDS, SINK_KINDS, Scope, plan, sink_names
from tests.chaos.journal import Entry, Journal, State, ids_in, record, settle
from tests.chaos.ledger import Stored
from tests.chaos.proxy import Mode, TcpProxy
from tests.chaos.s3proxy import Answer, S3Fault, S3Proxy
from tests.mounts import can_mount
from wire.face import Face

JPEG = make_jpeg()
FAULTS, FACES = len(KINDS), 300
"""Each kind of fault once."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_face_is_lost_or_stored_twice_during_faults(servers: Stack) -> None:
    seed = secrets.randbelow(1_000_000)
    command = [sys.executable, "-m", "tests.chaos", "--longest", "5", "--seed", str(seed)]
    command += ["--faults", str(FAULTS), "--faces", str(FACES)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as chaos:
        try:
            printed, _ = chaos.communicate(timeout=1150)
        finally:
            chaos.terminate()  # it stops all its processes; no effect if it has already ended
    assert chaos.returncode == 0, f"python {' '.join(command[1:])}\n{printed}"
    result = json.loads((ROOT / "build" / "chaos" / str(seed) / "result.json").read_text())
    assert sum(result["faults"].values()) == FAULTS
    assert result["balance"]["stored"] + len(result["balance"]["told"]) == result["balance"]["committed"] >= FACES


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


def test_sinks_are_killed_hang_and_change_in_number_one_at_a_time() -> None:
    sinks = sink_names(2)
    faults = plan(7, 200, 20.0, (*KINDS, *SINK_KINDS), sinks)
    affected = {(fault.kind, sink) for fault in faults for sink in fault.sinks}
    assert affected == {("add-sink", "s3sink-3")} | {
        (kind, sink) for kind in ("kill-sink", "hang-sink", "remove-sink", "cloud-cut") for sink in sinks
    }
    assert all(len(fault.sinks) == 2 for fault in faults if fault.kind == "cloud-cut")
    hit: list[str] = []
    for fault in faults:
        hit += fault.targets
        assert len(hit) == len(set(hit))
        if fault.last_of_burst:
            hit.clear()


def test_faults_affect_all_objects_those_of_one_device_and_one_of_them() -> None:
    faults = plan(7, 300, 20.0)
    assert {fault.scope for fault in faults if fault.s3_fault} == set(Scope)
    assert any(fault.seconds > 40 for fault in faults)
    assert max(fault.seconds for fault in plan(7, 300, 5.0)) < 10


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """The journal of every outbox in this process."""
    monkeypatch.setattr(Outbox, "store", Outbox.store)  # restored after the test
    record(tmp_path / "journal")
    return Journal(tmp_path / "journal")


def test_journal_records_every_committed_face(tmp_path: Path, journal: Journal) -> None:
    made = make_face(jpeg=JPEG)
    with closing(Outbox(tmp_path / "outbox.db", 1 << 30)) as outbox:
        outbox.store([made])
        outbox.store([])
    (entry,) = journal.read().values()
    assert (entry.id, entry.camera, entry.sha256) == (made.id, CAMERA, hashlib.sha256(JPEG).hexdigest())
    assert entry.state is State.COMMITTED
    assert ids_in(tmp_path / "outbox.db") == {made.id}


def test_journal_records_a_face_that_the_outbox_did_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(outbox: Outbox, faces: Sequence[Face]) -> int:
        outbox.not_stored += len(faces)
        return 0

    monkeypatch.setattr(Outbox, "store", refuse)
    record(tmp_path / "journal")
    with closing(Outbox(tmp_path / "outbox.db", 1 << 30)) as outbox:
        outbox.store([make_face(jpeg=JPEG)])
    (entry,) = Journal(tmp_path / "journal").read().values()
    assert entry.state is State.NOT_STORED


def test_interrupted_commits_are_looked_up_in_the_outbox(tmp_path: Path, journal: Journal) -> None:
    stored, interrupted = make_face(jpeg=JPEG), make_face(jpeg=JPEG)
    with closing(Outbox(tmp_path / "outbox.db", 1 << 30)) as outbox:
        outbox.store([stored])
    lines = journal.path.read_text().splitlines()
    other = lines[0].replace(stored.id, interrupted.id)
    journal.path.write_text(f"{lines[0]}\n{other}\n")
    settle(journal, CAMERA, tmp_path / "outbox.db")
    states = {face_id: entry.state for face_id, entry in journal.entries.items()}
    assert states == {stored.id: State.COMMITTED, interrupted.id: State.NOT_STORED}


SHA256 = "0" * 64
OTHER = "f" * 64


def entry_of(face_id: str, state: State = State.COMMITTED) -> Entry:
    return Entry(face_id, CAMERA, SHA256, 0.0, state)


def stored_of(face_id: str, time: str = "150405.123Z", sha256: str = SHA256, clock: str | None = None) -> Stored:
    return Stored(f"faces/device={DEVICE}/camera={CAMERA}/date=2026-11-22/{time}-{face_id}.jpg", sha256, clock)


def test_balance_finds_lost_duplicate_altered_and_foreign_objects() -> None:
    intact, lost, twice, altered, foreign = (make_face().id for _ in range(5))
    stored = [stored_of(intact), stored_of(twice), stored_of(twice, "150406.000Z"), stored_of(altered, sha256=OTHER)]
    stored += [stored_of(foreign), Stored("faces/quarantine/device=jetson-1/date=2026-11-22/00", SHA256)]
    balance = ledger.balance(map(entry_of, (intact, lost, twice, altered)), stored, receipts=[intact, lost])
    assert (balance.committed, balance.stored) == (4, 3)
    assert (balance.lost, balance.twice, balance.altered) == ([lost], [twice], [altered])
    assert (balance.foreign, balance.quarantined) == ([stored[4].key], [stored[5].key])
    assert balance.unfounded == [lost]
    assert not balance.clean


def test_balance_accepts_faces_that_are_told_to_be_lost_or_not_stored() -> None:
    told, not_stored, undecided, intact = (make_face().id for _ in range(4))
    states = {not_stored: State.NOT_STORED, undecided: State.BEGUN}
    entries = [entry_of(one, states.get(one, State.COMMITTED)) for one in (told, not_stored, undecided, intact)]
    balance = ledger.balance(entries, [stored_of(intact)], told={told})
    assert balance.clean
    assert (balance.committed, balance.stored, balance.told, balance.not_stored) == (2, 1, [told], 1)


def test_balance_follows_a_face_that_got_its_time_later() -> None:
    provisional, lost = (make_face(captured_at=datetime(1970, 1, 1, tzinfo=UTC)).id for _ in range(2))
    corrected, wrong = make_face().id, make_face(captured_at=datetime(1970, 1, 2, tzinfo=UTC)).id
    entries = [entry_of(provisional), entry_of(lost), entry_of(wrong)]
    balance = ledger.balance(entries, [stored_of(corrected, clock="corrected"), stored_of(wrong)])
    assert (balance.stored, len(balance.lost), balance.untrue) == (2, 1, [wrong])
    assert not balance.foreign


def test_an_id_that_is_told_and_unknown_accounts_for_one_missing_face() -> None:
    """A flipped bit may be in the id, and a face that got its time later has another one."""
    one, other = make_face().id, make_face().id
    balance = ledger.balance(map(entry_of, (one, other)), [], told={make_face().id})
    assert (len(balance.told), len(balance.lost)) == (1, 1)


def test_ids_of_dropped_and_damaged_faces_are_read_from_the_log(tmp_path: Path) -> None:
    dropped, damaged, other = (make_face().id for _ in range(3))
    (tmp_path / "log").write_text(
        f"2026-11-24 18:22:31 [error    ] outbox full, oldest faces dropped  ids=['{dropped}']\n"
        f"2026-11-24 18:22:31 [error    ] face damaged, set aside            id={damaged}\n"
        f"2026-11-24 18:22:31 [info     ] something else, not dropped        id={other}\n"
    )
    assert ledger.told_in(tmp_path / "log") == {"dropped": {dropped}, "damaged": {damaged}}


@pytest.mark.skipif(not can_mount(), reason="only root may mount")
def test_disk_can_be_filled_and_made_read_only(tmp_path: Path) -> None:
    disk, note = Disk(tmp_path / "disk"), tmp_path / "disk" / "note"
    disk.mount()
    try:
        note.write_bytes(b"a")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            note.write_bytes(bytes(100_000))
        disk.free()
        note.write_bytes(bytes(100_000))
        disk.set_read_only(True)
        with pytest.raises(OSError, match="Read-only"):
            note.write_bytes(b"b")
        disk.set_read_only(False)
    finally:
        disk.unmount()
    assert note.read_bytes() == bytes(100_000)


def test_exactly_one_bit_is_flipped(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(bytes(1000))
    flip_bit(path, random.Random(1))
    assert sum(byte.bit_count() for byte in path.read_bytes()) == 1


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


def test_narrow_link_carries_data_at_its_rate_and_counts_it(server: socket.socket) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.bytes_per_second = 20_000.0
        started_at = time.monotonic()
        client.sendall(bytes(20_000))
        with server_end.makefile("rb") as stream:
            assert len(stream.read(20_000)) == 20_000
        assert time.monotonic() - started_at > 0.8
        assert (proxy.bytes_up, proxy.bytes_down) == (20_000, 0)


def test_sender_feels_a_narrow_link(server: socket.socket) -> None:
    with linked(server) as (proxy, client, _):
        proxy.bytes_per_second = 1000.0
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(500_000))


def test_wait_for_a_narrow_link_ends_when_it_becomes_wide(server: socket.socket) -> None:
    with linked(server) as (proxy, client, server_end):
        proxy.bytes_per_second = 10.0
        client.sendall(bytes(1000))
        proxy.bytes_per_second = None
        with server_end.makefile("rb") as stream:
            assert len(stream.read(1000)) == 1000


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
