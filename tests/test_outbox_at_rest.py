"""The outbox at rest: only its user can read it, and delivered or damaged faces do not stay on the disk."""

import os
import stat
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from edge.detector.delivery.outbox import Outbox
from edge.detector.delivery.storage import file_space
from edge.detector.delivery.storage.damaged_files import DamagedFiles
from edge.detector.delivery.storage.retention import KEPT_DAYS, STEADY_SECONDS, Retention
from tests.builders import make_faces, make_jpeg
from tests.outboxes import MAX_BYTES, drain, in_killed_process
from wire.process import clock

JPEG = make_jpeg(200, 200, 1)
PART = JPEG[len(JPEG) // 2 :][:64]
"""Bytes in the middle of the picture, which is much larger than a page."""
DAY = timedelta(days=1)


def has_picture(path: Path) -> bool:
    return any(PART in file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def deliver(outbox: Outbox, count: int) -> None:
    for face in make_faces(count, jpeg=JPEG):
        outbox.store([face])
    assert len(drain(outbox)) == count


def test_delivered_faces_are_erased_from_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Once the outbox is empty, and again after the next faces. The room of the write-ahead log stays allocated."""
    monkeypatch.setattr(file_space, "_ERASE_SECONDS", 0.0)
    path = tmp_path / "outbox.db"
    outbox, wal = Outbox(path, MAX_BYTES), Path(f"{path}-wal")
    before = wal.stat()
    for count in (1, 300, 3):
        deliver(outbox, count)
        assert has_picture(path)
        while outbox.maintain():
            pass
        assert not has_picture(path)
    assert (wal.stat().st_size, wal.stat().st_blocks) == (before.st_size, before.st_blocks)
    outbox.close()


def test_faces_that_wait_are_not_erased(tmp_path: Path):
    """Not those that are stored after the others were erased, either. The process is killed at both moments."""
    path = tmp_path / "outbox.db"
    waiting = make_faces(40, jpeg=JPEG)

    def work(*, stores: bool) -> None:
        outbox = Outbox(path, MAX_BYTES)
        deliver(outbox, 30)
        outbox.maintain()
        if stores:
            outbox.store(waiting)
            outbox.maintain()

    for stores in (False, True):
        in_killed_process(partial(work, stores=stores))
        outbox = Outbox(path, MAX_BYTES)
        assert not outbox.problem
        assert {face.id for face in drain(outbox)} == ({face.id for face in waiting} if stores else set())
        outbox.close()
    assert [file.name for file in tmp_path.glob("*rescuing*")] == []
    assert [file.name for file in tmp_path.glob("*damaged*")] == []


def test_an_idle_outbox_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Erasing writes only if something has changed since."""
    monkeypatch.setattr(file_space, "_ERASE_SECONDS", 0.0)
    outbox = Outbox(tmp_path / "outbox.db", MAX_BYTES)
    deliver(outbox, 1)
    outbox.maintain()
    before = (tmp_path / "outbox.db-wal").stat().st_mtime_ns
    outbox.maintain()
    assert (tmp_path / "outbox.db-wal").stat().st_mtime_ns == before
    outbox.close()


def test_only_its_user_can_read_the_outbox(tmp_path: Path):
    """Whatever the umask, and also if an earlier version left the files readable."""
    before = os.umask(0)
    try:
        path = tmp_path / "folder" / "outbox.db"
        Outbox(path, MAX_BYTES).close()
        kept = Path(f"{path}.damaged-20261122T150405Z-000")
        kept.write_bytes(b"x")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for file in path.parent.iterdir():
            file.chmod(0o644)
        outbox = Outbox(path, MAX_BYTES)
        deliver(outbox, 1)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(("outbox.db", "outbox.db-wal", kept.name), 0o600)
        outbox.close()
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(before)


class Clocks:
    """The clocks of a machine, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.boot = clock.now(), 100.0
        monkeypatch.setattr(clock, "now", lambda: self.now)
        monkeypatch.setattr(clock, "seconds_since_boot", lambda: self.boot)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.boot += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def damaged(folder: Path, modified: datetime) -> Path:
    """A damaged file with its write-ahead log."""
    path = folder / "outbox.db.damaged-20261122T150405Z-000"
    for file in (path, Path(f"{path}-wal")):
        file.write_bytes(b"faces")
        os.utime(file, (modified.timestamp(),) * 2)
    return path


def test_a_damaged_file_is_deleted_after_a_stated_time(tmp_path: Path, clocks: Clocks):
    """With its write-ahead log, and not a day before."""
    rule = Retention(DamagedFiles(tmp_path / "outbox.db"))
    path = damaged(tmp_path, clocks.now)
    clocks.advance((KEPT_DAYS - 1) * 86_400)
    rule.delete_old()
    assert path.exists()
    clocks.advance(2 * 86_400)
    rule.delete_old()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("jump", [400 * DAY, -60 * 365 * DAY], ids=["forward", "to the past"])
def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, clocks: Clocks, jump: timedelta):
    """Until it is corrected, within an hour. A clock that is not set never does."""
    rule = Retention(DamagedFiles(tmp_path / "outbox.db"))
    path = damaged(tmp_path, clocks.now)
    clocks.advance(STEADY_SECONDS + 1)
    clocks.now += jump
    for _ in range(50):
        rule.delete_old()
        clocks.advance(STEADY_SECONDS / 60)
    clocks.now -= jump
    rule.delete_old()
    assert path.exists()


@pytest.mark.parametrize("years", [-50, 50], ids=["1970s", "future"])
def test_a_file_of_an_implausible_time_counts_as_new(tmp_path: Path, clocks: Clocks, years: int):
    """It was kept while the clock was wrong."""
    rule = Retention(DamagedFiles(tmp_path / "outbox.db"))
    path = damaged(tmp_path, clocks.now + years * 365 * DAY)
    clocks.advance(STEADY_SECONDS + 1)
    rule.delete_old()
    assert abs(path.stat().st_mtime - clocks.now.timestamp()) < 1
    clocks.advance((KEPT_DAYS + 1) * 86_400)
    rule.delete_old()
    assert not path.exists()


def test_a_damaged_file_is_kept_from_when_its_faces_are_moved(tmp_path: Path):
    """Its last change may be long ago."""
    path = tmp_path / "outbox.db.rescuing-20261122T150405Z-000"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    DamagedFiles(tmp_path / "outbox.db").finish(path, is_complete=False)
    (kept,) = tmp_path.iterdir()
    assert abs(kept.stat().st_mtime - time.time()) < 60
