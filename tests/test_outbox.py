"""The outbox: committed faces survive crashes, and the file stays within its limit."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo import program
from demo.program import ROOT
from edge.detector.delivery.outbox import Outbox
from tests.builders import make_face, make_faces, make_jpeg
from tests.outboxes import MAX_BYTES, make_version_1, receipts_of
from wire import face as wire_face
from wire.errors import ConfigurationError
from wire.face import encode
from wire.process import clock
from wire.topics import Origin


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


@pytest.mark.parametrize("fault", ["not a database", "header", "pages in the middle"])
def test_a_damaged_file_is_kept_and_its_faces_are_moved(tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str):
    """All that can be read. If that may not be all, the file is renamed: more can be recovered by hand."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, MAX_BYTES)
    stored = make_faces(50, jpeg=bytes(9000))
    outbox.store(stored)
    outbox.close()
    whole = path.read_bytes()
    damaged, left = {
        "not a database": (b"rubbish" * 1000, 0),
        "header": (b"\xff" * 100 + whole[100:], 50),
        "pages in the middle": (whole[:40960] + b"\xff" * 8192 + whole[49152:], 48),
    }[fault]
    path.write_bytes(damaged)
    fresh = Outbox(path, MAX_BYTES)
    assert left - 2 <= fresh.count <= left
    found = [fresh.get(seq) for seq in fresh.waiting(set(), 100, newest_first=False)]
    assert {entry.id for entry in found if entry} <= {face.id for face in stored}
    if fault == "pages in the middle":
        assert fresh.count + fresh.damaged == 50
    fresh.store(make_faces(1))
    kept = [path for path in tmp_path.iterdir() if "damaged" in path.name and "-wal" not in path.name]
    assert [path.read_bytes() for path in kept] == ([] if fault == "header" else [damaged])
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


def test_an_outbox_of_version_1_is_migrated_in_place(tmp_path: Path):
    """Its faces are delivered, and new ones are stored beside them."""
    path = tmp_path / "outbox.db"
    old = make_faces(3, jpeg=make_jpeg())
    make_version_1(path, old)
    outbox = Outbox(path, MAX_BYTES, device="jetson-1")
    new = make_face(jpeg=b"picture")
    outbox.store([new])
    outbox.close()
    outbox = Outbox(path, MAX_BYTES, device="jetson-1")
    found = [outbox.get(seq) for seq in outbox.waiting(set(), 10, newest_first=False)]
    assert [(entry.id, entry.jpeg, entry.properties) for entry in found if entry] == [
        (face.id, face.jpeg, encode(face)) for face in [*old, new]
    ]
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.parametrize("version", [1, 2])
def test_the_faces_of_another_device_are_not_sent_under_a_new_name(tmp_path: Path, version: int):
    """A face whose receipt was lost would be stored twice. An empty outbox takes the new name."""
    path = tmp_path / "outbox.db"
    (face,) = make_faces(1, jpeg=make_jpeg())
    if version == 1:
        make_version_1(path, [face])
    else:
        with contextlib.closing(Outbox(path, MAX_BYTES, device="jetson-1")) as outbox:
            outbox.store([face])
    with pytest.raises(ConfigurationError, match=r"DEVICE_ID is 'jetson-2'.* 1 faces of 'jetson-1'"):
        Outbox(path, MAX_BYTES, device="jetson-2")
    with contextlib.closing(Outbox(path, MAX_BYTES, device="jetson-1")) as outbox:
        outbox.delete_receipted([(face.id, "door")])
    with contextlib.closing(Outbox(path, MAX_BYTES, device="jetson-2")) as outbox:
        outbox.store(make_faces(1, origin=Origin("jetson-2", "door")))
    with pytest.raises(ConfigurationError, match="jetson-1"):
        Outbox(path, MAX_BYTES, device="jetson-1")


def test_a_face_captured_before_the_clock_was_set_waits_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is sent under an id with its true capture time. If that is unknown, as after a restart, it says so."""
    path = tmp_path / "outbox.db"
    early = [make_face(captured_at=datetime(1970, 1, 1, 0, i, tzinfo=UTC), jpeg=make_jpeg(seed=i)) for i in range(2)]
    now = clock.seconds_since_boot()
    with monkeypatch.context() as unset:
        unset.setattr(clock, "boot_seconds_of", lambda moment: now - 40)
        outbox = Outbox(path, MAX_BYTES)
        outbox.store(early[:1])
        unset.setattr(clock, "boot_id", lambda: "an earlier boot")
        outbox.store(early[1:])
        unset.setattr(clock, "is_set", lambda moment: False)
        assert outbox.settle_times() == 0
    assert outbox.waiting(set(), 10, newest_first=False) == []
    assert (outbox.count, outbox.untimed, outbox.oldest_id()) == (2, 2, None)
    outbox.close()
    outbox = Outbox(path, MAX_BYTES)
    assert (outbox.count, outbox.untimed) == (2, 2)
    assert outbox.settle_times() == 2
    assert (outbox.untimed, outbox.settle_times()) == (0, 0)
    found = [outbox.get(seq) for seq in outbox.waiting(set(), 10, newest_first=False)]
    corrected, unknown = [
        wire_face.decode(entry.properties, entry.jpeg, Origin("jetson-1", "door")) for entry in found if entry
    ]
    assert (corrected.clock, unknown.clock) == ("corrected", "unknown")
    assert (corrected.jpeg, unknown.jpeg) == (early[0].jpeg, early[1].jpeg)
    age = datetime.now(UTC) - corrected.captured_at
    assert timedelta(seconds=39) < age < timedelta(seconds=40 + 60 * program.PATIENCE)
    assert unknown.captured_at > corrected.captured_at
    assert not {corrected.id, unknown.id} & {made.id for made in early}
    assert outbox.delete_receipted(receipts_of([corrected, unknown])) == 2
    assert outbox.count == 0


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


@pytest.mark.slow
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


@pytest.mark.slow
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
