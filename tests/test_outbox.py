"""The outbox: committed faces survive crashes, and the file stays within its limit."""

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.program import ROOT
from edge.detector.delivery.outbox import Outbox
from tests.builders import make_face, make_faces
from wire.errors import ConfigurationError
from wire.face import encode

MAX_BYTES = 1 << 30


def test_a_face_is_read_as_it_was_stored(tmp_path: Path):
    """With its JPEG and every property."""
    outbox = Outbox(tmp_path / "deep" / "outbox.db", MAX_BYTES)
    stored = make_face(jpeg=b"picture")
    outbox.store([stored])
    (seq,) = outbox.waiting(set(), 10, newest_first=True)
    entry = outbox.get(seq)
    assert entry is not None
    assert (entry.id, entry.camera, entry.jpeg) == (stored.id, "door", b"picture")
    assert entry.properties == encode(stored)
    assert outbox.cameras() == {"door"}
    assert outbox.oldest_id() == stored.id


def test_a_face_is_deleted_only_by_a_receipt_for_its_camera(tmp_path: Path):
    """Receipts for another camera or an unknown face are ignored."""
    outbox = Outbox(tmp_path / "outbox.db", MAX_BYTES)
    first, second = make_faces(2)
    outbox.store([first, second])
    assert outbox.delete_receipted([(first.id, "garden"), ("nonsense", "door")]) == 0
    assert outbox.count == 2
    assert outbox.delete_receipted([(first.id, "door"), (first.id, "door")]) == 1
    assert outbox.count == 1
    assert outbox.get(1) is None
    assert outbox.delete_receipted([(second.id, "door")]) == 1
    assert (outbox.count, outbox.bytes, outbox.oldest_id()) == (0, 0, None)


def test_waiting_faces_are_returned_from_either_end(tmp_path: Path):
    """Those under way are left out."""
    outbox = Outbox(tmp_path / "outbox.db", MAX_BYTES)
    outbox.store(make_faces(6))
    assert outbox.waiting({1, 3}, 2, newest_first=False) == [2, 4]
    assert outbox.waiting({6}, 2, newest_first=True) == [5, 4]
    assert outbox.waiting({1, 2, 3, 4, 5, 6}, 2, newest_first=True) == []


def test_committed_faces_survive_a_killed_process(tmp_path: Path):
    """Every face that the process has reported as committed is in the outbox."""
    path = tmp_path / "outbox.db"
    program = (
        "import sys; from pathlib import Path; from edge.detector.delivery.outbox import Outbox\n"
        "from tests.builders import *\n"
        "outbox = Outbox(Path(sys.argv[1]), 1 << 30)\n"
        "while True:\n"
        "    made = make_face(jpeg=bytes(20000)); outbox.store([made]); print(made.id, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        committed = [process.stdout.readline().decode().strip() for _ in range(50)]
        os.kill(process.pid, signal.SIGKILL)
        committed += [line.decode().strip() for line in process.stdout if line.endswith(b"\n")]
    outbox = Outbox(path, MAX_BYTES)
    found = {entry.id for seq in range(1, outbox.count + 1) if (entry := outbox.get(seq))}
    assert found >= set(committed)


@pytest.mark.parametrize("fault", ["not a database", "header", "page in the middle"])
def test_a_damaged_file_is_renamed_and_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str):
    """It is not deleted, so its faces can be recovered by hand."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, MAX_BYTES)
    outbox.store(make_faces(50, jpeg=bytes(9000)))
    outbox.close()
    whole = path.read_bytes()
    damaged = {
        "not a database": b"rubbish" * 1000,
        "header": b"\xff" * 100 + whole[100:],
        "page in the middle": whole[:4096] + b"\xff" * 40960 + whole[45056:],
    }
    path.write_bytes(damaged[fault])
    fresh = Outbox(path, MAX_BYTES)
    assert fresh.count == 0
    fresh.store(make_faces(1))
    (renamed,) = [path for path in tmp_path.iterdir() if "damaged" in path.name and "-wal" not in path.name]
    assert renamed.read_bytes() == damaged[fault]
    assert "outbox damaged" in "".join(capfd.readouterr())


def test_only_one_process_can_open_it(tmp_path: Path):
    """Two detectors with the same outbox would send each face twice."""
    Outbox(tmp_path / "outbox.db", MAX_BYTES).store(make_faces(1))
    program = (
        "import sys; from pathlib import Path; from edge.detector.delivery.outbox import Outbox\n"
        "Outbox(Path(sys.argv[1]), 1 << 30)"
    )
    second = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "outbox.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConfigurationError: OUTBOX_PATH" in second.stderr
    assert "no other process" in second.stderr


@pytest.mark.parametrize("place", ["/proc/outbox.db", "/dev/null/outbox.db"])
def test_a_path_that_cannot_be_written_is_an_error(place: str):
    """The message names the setting."""
    with pytest.raises(ConfigurationError, match="OUTBOX_PATH"):
        Outbox(Path(place), MAX_BYTES)


def test_a_file_with_a_newer_schema_is_not_opened(tmp_path: Path):
    """An older version must not lose the faces of a newer one."""
    path = tmp_path / "outbox.db"
    Outbox(path, MAX_BYTES).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(ConfigurationError, match="version 2"):
        Outbox(path, MAX_BYTES)


def test_when_it_is_full_the_oldest_faces_are_dropped_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Stored and dropped faces add up, and the file stays within its limit."""
    outbox = Outbox(tmp_path / "outbox.db", 1 << 20)
    made = make_faces(200, jpeg=bytes(20000))
    for face in made:
        outbox.store([face])
    assert outbox.count + outbox.dropped == 200
    assert outbox.dropped > 0
    assert outbox.bytes <= 1 << 20
    assert (tmp_path / "outbox.db").stat().st_size <= 1.1 * (1 << 20)
    left = [outbox.get(seq) for seq in outbox.waiting(set(), 1000, newest_first=False)]
    assert [entry.id for entry in left if entry] == [face.id for face in made[-outbox.count :]]
    log = "".join(capfd.readouterr())
    assert all(face.id in log for face in made[: outbox.dropped])


def test_a_dropped_face_no_longer_counts_once_its_receipt_arrives(tmp_path: Path):
    """It was under way when it was dropped. The count survives restarts."""
    made = make_faces(200, jpeg=bytes(20000))
    outbox = Outbox(tmp_path / "outbox.db", 1 << 20)
    for face in made:
        outbox.store([face])
    dropped = outbox.dropped
    outbox.close()
    outbox = Outbox(tmp_path / "outbox.db", 1 << 20)
    assert outbox.dropped == dropped > 2
    assert outbox.delete_receipted([(made[0].id, "door"), (made[0].id, "door"), (made[1].id, "garden")]) == 0
    assert outbox.dropped == dropped - 1
    outbox.close()
    assert Outbox(tmp_path / "outbox.db", 1 << 20).dropped == dropped - 1


def test_faces_are_stored_again_after_a_full_disk(tmp_path: Path):
    """Faces that could not be stored are counted."""
    limit = 2_000_000
    program = (
        "import resource, signal, sys; from pathlib import Path; from edge.detector.delivery.outbox import Outbox\n"
        "from tests.builders import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "outbox = Outbox(Path(sys.argv[1]), 1 << 30)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY}))\n"
        "for one in make_faces(300, jpeg=bytes(20000)): outbox.store([one])\n"
        "full = (outbox.count, outbox.not_stored)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({resource.RLIM_INFINITY}, {resource.RLIM_INFINITY}))\n"
        "outbox.store(make_faces(1, jpeg=bytes(20000)))\n"
        "print(*full, outbox.count, outbox.not_stored)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "outbox.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    stored, not_stored, stored_after, not_stored_after = map(int, ended.stdout.splitlines()[-1].split())
    assert stored > 0
    assert not_stored > 0
    assert stored + not_stored == 300
    assert (stored_after, not_stored_after) == (stored + 1, not_stored)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(st.sampled_from(["store", "delete", "reopen"]), st.integers(0, 30)), max_size=40))
def test_count_and_bytes_match_the_file(tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]):
    """After any sequence of storing, deleting and reopening."""
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    outbox = Outbox(path, 1 << 20)
    made = iter(make_faces(2000, jpeg=bytes(30000)))
    stored_ids: list[str] = []
    for action, number in actions:
        if action == "store":
            batch = [next(made) for _ in range(number % 4 + 1)]
            dropped = outbox.store(batch)
            stored_ids = (stored_ids + [face.id for face in batch])[dropped:]
        elif action == "delete" and stored_ids:
            face_id = stored_ids.pop(number % len(stored_ids))
            assert outbox.delete_receipted([(face_id, "door")]) == 1
        elif action == "reopen":
            outbox.close()
            outbox = Outbox(path, 1 << 20)
        entries = [outbox.get(seq) for seq in outbox.waiting(set(), 100, newest_first=False)]
        assert [entry.id for entry in entries if entry] == stored_ids
        assert outbox.count == len(stored_ids)
        assert outbox.bytes == 36864 * len(stored_ids) <= 1 << 20
    outbox.close()
