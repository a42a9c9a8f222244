"""The outbox: what is committed stays, whatever happens, within its bounds."""

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
from wire import face
from wire.errors import ConfigurationError

PLENTY = 1 << 30


def test_a_face_comes_out_as_it_went_in(tmp_path: Path):
    """Picture and every property."""
    outbox = Outbox(tmp_path / "deep" / "outbox.db", PLENTY)
    kept = make_face(jpeg=b"picture")
    outbox.store([kept])
    (seq,) = outbox.waiting(set(), 10, newest_first=True)
    entry = outbox.get(seq)
    assert entry is not None
    assert (entry.id, entry.camera, entry.jpeg) == (kept.id, "door", b"picture")
    assert entry.properties == face.encode(kept)
    assert outbox.cameras() == {"door"}
    assert outbox.oldest_id() == kept.id


def test_only_a_receipt_for_its_camera_releases_a_face(tmp_path: Path):
    """Not one for another camera, nor one for a face that is not here."""
    outbox = Outbox(tmp_path / "outbox.db", PLENTY)
    first, second = make_faces(2)
    outbox.store([first, second])
    assert outbox.delete_receipted([(first.id, "garden"), ("nonsense", "door")]) == 0
    assert outbox.count == 2
    assert outbox.delete_receipted([(first.id, "door"), (first.id, "door")]) == 1
    assert outbox.count == 1
    assert outbox.get(1) is None
    assert outbox.delete_receipted([(second.id, "door")]) == 1
    assert (outbox.count, outbox.bytes, outbox.oldest_id()) == (0, 0, None)


def test_faces_are_found_from_both_ends(tmp_path: Path):
    """Except those under way."""
    outbox = Outbox(tmp_path / "outbox.db", PLENTY)
    outbox.store(make_faces(6))
    assert outbox.waiting({1, 3}, 2, newest_first=False) == [2, 4]
    assert outbox.waiting({6}, 2, newest_first=True) == [5, 4]
    assert outbox.waiting({1, 2, 3, 4, 5, 6}, 2, newest_first=True) == []


def test_what_a_killed_process_has_committed_is_there(tmp_path: Path):
    """A process that is killed between two commits loses nothing that it has reported as committed."""
    path = tmp_path / "outbox.db"
    program = (
        "import sys; from pathlib import Path; from edge.detector.delivery.outbox import Outbox; from tests.builders import *\n"
        "outbox = Outbox(Path(sys.argv[1]), 1 << 30)\n"
        "while True:\n"
        "    made = make_face(jpeg=bytes(20000)); outbox.store([made]); print(made.id, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        committed = [process.stdout.readline().decode().strip() for _ in range(50)]
        os.kill(process.pid, signal.SIGKILL)
        committed += [line.decode().strip() for line in process.stdout if line.endswith(b"\n")]
    outbox = Outbox(path, PLENTY)
    found = {entry.id for seq in range(1, outbox.count + 1) if (entry := outbox.get(seq))}
    assert found >= set(committed)


@pytest.mark.parametrize("how", ["not a database", "header", "page in the middle"])
def test_a_damaged_file_is_moved_aside_and_a_fresh_one_begun(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
):
    """Never deleted: somebody may want to rescue what is in it."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, PLENTY)
    outbox.store(make_faces(50, jpeg=bytes(9000)))
    outbox.close()
    whole = path.read_bytes()
    damage = {
        "not a database": b"rubbish" * 1000,
        "header": b"\xff" * 100 + whole[100:],
        "page in the middle": whole[:4096] + b"\xff" * 40960 + whole[45056:],
    }
    path.write_bytes(damage[how])
    fresh = Outbox(path, PLENTY)
    assert fresh.count == 0
    fresh.store(make_faces(1))
    (moved,) = [found for found in tmp_path.iterdir() if "damaged" in found.name and "-wal" not in found.name]
    assert moved.read_bytes() == damage[how]
    assert "moved aside" in "".join(capfd.readouterr())


def test_one_process_has_it_at_a_time(tmp_path: Path):
    """Two detectors with one outbox would send each face twice."""
    Outbox(tmp_path / "outbox.db", PLENTY).store(make_faces(1))
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
def test_a_path_that_cannot_be_written_is_named(place: str):
    """In one line."""
    with pytest.raises(ConfigurationError, match="OUTBOX_PATH"):
        Outbox(Path(place), PLENTY)


def test_a_newer_schema_is_left_alone(tmp_path: Path):
    """Going back a version must not lose what the newer one has kept."""
    path = tmp_path / "outbox.db"
    Outbox(path, PLENTY).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(ConfigurationError, match="version 2"):
        Outbox(path, PLENTY)


def test_when_it_is_full_the_oldest_give_way_and_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Kept and dropped add up exactly, and the file stays within its bound."""
    outbox = Outbox(tmp_path / "outbox.db", 1 << 20)
    made = make_faces(200, jpeg=bytes(20000))
    for one in made:
        outbox.store([one])
    assert outbox.count + outbox.dropped == 200
    assert outbox.dropped > 0
    assert outbox.bytes <= 1 << 20
    assert (tmp_path / "outbox.db").stat().st_size <= 1.1 * (1 << 20)
    left = [outbox.get(seq) for seq in outbox.waiting(set(), 1000, newest_first=False)]
    assert [entry.id for entry in left if entry] == [one.id for one in made[-outbox.count :]]
    log = "".join(capfd.readouterr())
    assert all(one.id in log for one in made[: outbox.dropped])


def test_a_face_that_gave_way_while_it_was_under_way_counts_as_dropped_until_its_receipt_comes(tmp_path: Path):
    """Committed is stored plus dropped, exactly, and over restarts."""
    made = make_faces(200, jpeg=bytes(20000))
    outbox = Outbox(tmp_path / "outbox.db", 1 << 20)
    for one in made:
        outbox.store([one])
    dropped = outbox.dropped
    outbox.close()
    outbox = Outbox(tmp_path / "outbox.db", 1 << 20)
    assert outbox.dropped == dropped > 2
    assert outbox.delete_receipted([(made[0].id, "door"), (made[0].id, "door"), (made[1].id, "garden")]) == 0
    assert outbox.dropped == dropped - 1
    outbox.close()
    assert Outbox(tmp_path / "outbox.db", 1 << 20).dropped == dropped - 1


def test_a_full_disk_stops_nothing(tmp_path: Path):
    """Faces that cannot be kept are counted; once there is room, faces are kept again."""
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
    kept, dropped, kept_after, dropped_after = map(int, ended.stdout.splitlines()[-1].split())
    assert kept > 0
    assert dropped > 0
    assert kept + dropped == 300
    assert (kept_after, dropped_after) == (kept + 1, dropped)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(st.sampled_from(["keep", "release", "reopen"]), st.integers(0, 30)), max_size=40))
def test_the_books_balance(tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]):
    """Count and bytes follow the file through any sequence of keeping, releasing and opening again."""
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    outbox = Outbox(path, 1 << 20)
    made = iter(make_faces(2000, jpeg=bytes(30000)))
    alive: list[str] = []
    for action, number in actions:
        if action == "keep":
            batch = [next(made) for _ in range(number % 4 + 1)]
            dropped = outbox.store(batch)
            alive = (alive + [one.id for one in batch])[dropped:]
        elif action == "release" and alive:
            gone = alive.pop(number % len(alive))
            assert outbox.delete_receipted([(gone, "door")]) == 1
        elif action == "reopen":
            outbox.close()
            outbox = Outbox(path, 1 << 20)
        found = [outbox.get(seq) for seq in outbox.waiting(set(), 100, newest_first=False)]
        assert [entry.id for entry in found if entry] == alive
        assert outbox.count == len(alive)
        assert outbox.bytes == 36864 * len(alive) <= 1 << 20
    outbox.close()
