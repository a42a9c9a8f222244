"""Two faults of the outbox at once, or one after the other: no face is lost, and none gets two ids."""

import contextlib
import errno
import sqlite3
import time
from datetime import timedelta
from pathlib import Path

import pytest

from edge.detector.delivery.outbox import Outbox
from edge.detector.delivery.storage import damaged_files, pages, storage
from edge.detector.delivery.storage import file as file_module
from edge.detector.delivery.storage.disk_room import DiskFull
from edge.detector.delivery.storage.file import OutboxFile
from edge.detector.delivery.storage.pages import Wal
from edge.detector.delivery.storage.table import OutboxTable
from tests.builders import make_face, make_faces
from tests.outboxes import MAX_BYTES, drain, in_killed_process, receipts_of
from wire.process import clock


def damage(path: Path) -> None:
    """Damage the write version in the header."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x33")


def make_untimed(path: Path, count: int, timed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store faces from before the clock was set, and then others."""
    real = time.time
    error = 600 - real()
    with monkeypatch.context() as patched, contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        patched.setattr(time, "time", lambda: real() + error)
        start = clock.now()
        outbox.store([make_face(captured_at=start + timedelta(milliseconds=i), jpeg=bytes(9000)) for i in range(count)])
        patched.setattr(time, "time", real)
        outbox.store(make_faces(timed, jpeg=bytes(9000)))
        assert outbox.untimed == count


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def test_a_second_damage_in_the_same_second_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As after each boot without a clock. The file that was read is finished, and not the other one."""
    monkeypatch.setattr(time, "strftime", lambda *_: "19700101T000021Z")
    monkeypatch.setattr(storage, "RESCUED_AT_ONCE_BYTES", 1 << 18)
    monkeypatch.setattr("edge.detector.delivery.outbox.RESCUED_AT_ONCE_BYTES", 1 << 18)
    path = tmp_path / "outbox.db"
    faces = make_faces(100, jpeg=bytes(9000))
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        outbox.store(faces)
    damage(path)
    in_killed_process(lambda: Outbox(path, MAX_BYTES))
    damage(path)
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        while outbox.maintain():
            pass
        assert {face.id for face in drain(outbox)} == {face.id for face in faces}
        assert (outbox.count, outbox.damaged) == (0, 0)
    assert not list(tmp_path.glob("*rescuing*"))


@pytest.mark.parametrize("fault", ["open", "read"])
def test_an_outbox_that_could_not_be_read_on_a_full_disk_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    """The disk is full, and reading fails for a moment: nothing is delivered, so nothing may be deleted."""
    path = tmp_path / "outbox.db"
    faces = make_faces(20, jpeg=bytes(9000))
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        outbox.store(faces)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "I/O error")

    def full(_: OutboxFile) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(OutboxFile, "_connect", full)
        if fault == "open":
            patched.setattr(file_module, "Rescue", fail)
        else:
            patched.setattr(pages.os, "pread", fail)  # type: ignore[attr-defined]
        outbox = Outbox(path, MAX_BYTES)
        assert outbox.count == 0
    outbox.maintain()
    assert {face.id for face in drain(outbox)} == {face.id for face in faces}
    outbox.close()


def test_a_face_without_a_clock_gets_one_id_although_the_rescue_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is settled, delivered and deleted. Then the damaged file is read again from its start."""
    path = tmp_path / "outbox.db"
    make_untimed(path, 5, 80, monkeypatch)
    damage(path)
    monkeypatch.setattr("edge.detector.delivery.outbox.RESCUED_AT_ONCE_BYTES", 1 << 18)

    def work() -> None:
        outbox = Outbox(path, MAX_BYTES)
        assert (outbox.untimed, outbox.settle_times()) == (5, 5)
        assert outbox._storage.file.source is not None
        first = [face for seq in outbox.waiting(set(), 5, newest_first=False) if (face := outbox.get(seq))]
        assert outbox.delete_receipted(receipts_of(first)) == 5
        outbox.store(make_faces(1))

    in_killed_process(work)
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        while outbox.maintain():
            pass
        assert (outbox.untimed, outbox.count) == (0, 81)
        assert outbox._storage.file.database.execute("SELECT count(*) FROM settled").fetchone() == (0,)


def test_faces_without_a_clock_do_not_block_a_read_only_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They would fill the memory. They count as waiting, and have their turn when the file can be written again."""
    path = tmp_path / "outbox.db"
    make_untimed(path, 20, 10, monkeypatch)
    monkeypatch.setattr(storage, "_MAX_MEMORY_BYTES", 1 << 17)
    with monkeypatch.context() as patched:
        patched.setattr(file_module, "is_read_only", lambda _: True)
        outbox = Outbox(path, MAX_BYTES)
        assert (outbox.count, outbox.untimed) == (30, 20)
        assert len(drain(outbox)) == 10
        outbox.maintain()
        assert (outbox.count, outbox.settle_times()) == (20, 0)
    outbox._storage._retry_at = 0
    outbox.maintain()
    assert (outbox.problem, outbox.count) == ("", 20)
    while outbox.settle_times():
        pass
    assert len(drain(outbox)) == 20
    outbox.close()


@pytest.mark.parametrize("method", ["skip_to", "content"])
def test_a_disk_that_fails_while_a_damaged_file_is_replaced_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
):
    faces = make_faces(5, jpeg=bytes(9000))
    outbox = Outbox(tmp_path / "outbox.db", MAX_BYTES)
    outbox.store(faces)
    real, left = getattr(OutboxTable, method), [1]

    def fail_once(table: OutboxTable, *arguments: object) -> object:
        if left.pop() if left else 0:
            raise sqlite_error(sqlite3.SQLITE_IOERR)
        return real(table, *arguments)

    def malformed(_: int) -> None:
        raise sqlite_error(sqlite3.SQLITE_CORRUPT)

    monkeypatch.setattr(OutboxTable, method, fail_once)
    monkeypatch.setattr(outbox._storage.table, "get", malformed)
    outbox.get(1)
    assert {face.id for face in drain(outbox)} == {face.id for face in faces}
    outbox.close()


def test_a_damaged_file_that_cannot_be_read_prevents_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is read when it can be."""
    path = tmp_path / "outbox.db"
    faces = make_faces(5)
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        outbox.store(faces)
    path.rename(f"{path}.rescuing-20261122T150405Z")

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(file_module, "Rescue", fail)
        outbox = Outbox(path, MAX_BYTES)
        assert outbox.count == 0
    outbox._storage._retry_at = 0
    outbox.maintain()
    assert {face.id for face in drain(outbox)} == {face.id for face in faces}
    outbox.close()


def test_a_power_cut_in_a_deletion_leaves_no_copy(tmp_path: Path):
    """A deletion is not synced, so a frame of it may be missing in the middle of the write-ahead log."""
    path, marks = tmp_path / "outbox.db", tmp_path / "marks"
    faces = make_faces(40, jpeg=bytes(9000))
    wal = Path(f"{path}-wal")

    def work() -> None:
        with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
            outbox.store(faces[:30])
        outbox = Outbox(path, MAX_BYTES)
        outbox.store(faces[30:31])
        marks.write_text(str(len(Wal(wal)._frames)))
        for face in faces[:5]:
            outbox.delete_receipted(receipts_of([face]))
        outbox.store(faces[31:32])

    in_killed_process(work)
    with wal.open("r+b") as file:
        file.seek(32 + 4120 * (int(marks.read_text()) + 3))
        file.write(bytes(4120))
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        while outbox.maintain():
            pass
        assert {face.id for face in drain(outbox)} >= {face.id for face in faces[5:32]}
        assert outbox.damaged == 0
    assert not [file for file in tmp_path.iterdir() if "damaged" in file.name or "rescuing" in file.name]


def test_a_file_without_a_readable_face_is_kept(tmp_path: Path):
    """Nothing is known to be lost, as nothing is known."""
    path = tmp_path / "outbox.db"
    path.write_bytes(bytes(1 << 16))
    Path(f"{path}.rescuing-20261122T150405Z").write_bytes(bytes(1 << 16))
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        while outbox.maintain():
            pass
    assert len(list(tmp_path.glob("*.damaged-*"))) == 2


def test_faces_that_cannot_be_read_are_logged_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With their number. The first one is logged at once."""
    outbox = Outbox(tmp_path / "outbox.db", MAX_BYTES)
    outbox.store(make_faces(50))

    def fail(_: int) -> None:
        raise sqlite_error(sqlite3.SQLITE_IOERR)

    lines: list[int] = []
    monkeypatch.setattr(outbox._storage.table, "get", fail)
    monkeypatch.setattr(storage._log, "error", lambda *_, faces, **__: lines.append(faces))
    for seq in range(1, 51):
        assert outbox.get(seq) is None
    assert lines == [1]
    outbox._storage._unreadable_told_at = 0
    outbox.maintain()
    assert lines == [1, 49]
    outbox.close()


def test_names_of_damaged_files_are_never_used_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "strftime", lambda *_: "19700101T000021Z")
    files = damaged_files.DamagedFiles(tmp_path / "outbox.db")
    names = []
    for suffix in ("", "-wal", ""):
        names.append(files.new_name())
        Path(f"{names[-1]}{suffix}").touch()
    files.finish(names[0], is_complete=False)
    assert files.new_name().name == "outbox.db.rescuing-19700101T000021Z-003"
