"""The outbox on disks that are full, read-only or slow: what was committed is delivered, and the rest is counted.

Full and read-only disks are file systems in memory, which only root can mount.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.program import await_true
from edge.detector.delivery import outbox_file
from edge.detector.delivery.outbox import Outbox
from edge.detector.delivery.storage import commit_timer
from edge.detector.delivery.storage.commit_timer import CommitTimer
from tests.builders import make_face, make_faces, make_jpeg
from tests.mounts import can_mount, mount_tmpfs, remount, unmount
from tests.outboxes import MAX_BYTES, drain, in_killed_process, make_version_1, receipts_of
from wire.errors import ConfigurationError

FACE_BYTES = 20_000
MEGABYTE = 1 << 20


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox = folder / "outbox.db"
        self._junk = folder / "junk"

    def mount(self, megabytes: int) -> None:
        mount_tmpfs(self.folder, megabytes)

    def remount(self, mode: str) -> None:
        remount(self.folder, mode)

    def fill(self, leaving: int = 0) -> None:
        """Fill it to the last byte, or leave a few bytes."""
        with self._junk.open("ab", 0) as file:
            for size in (MEGABYTE, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        os.truncate(self._junk, self._junk.stat().st_size - leaving)

    def clear(self) -> None:
        self._junk.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not can_mount():
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    yield Disk(folder)
    if folder.is_mount():
        unmount(folder)


def store_each(outbox: Outbox, count: int) -> set[str]:
    """Store faces one by one, and return the ids of those that were committed."""
    committed = set()
    for face in make_faces(count, jpeg=bytes(FACE_BYTES)):
        before = outbox.not_stored
        outbox.store([face])
        if outbox.not_stored == before:
            committed.add(face.id)
    return committed


SIZES = [8, 21, *(pytest.param(size, marks=pytest.mark.slow) for size in (12, 16, 20, 32, 64))]


@pytest.mark.parametrize("megabytes", SIZES)
def test_an_outbox_that_has_filled_the_disk_drops_the_oldest_faces(disk: Disk, megabytes: int):
    """The others can be read and deleted, also after a restart, while somebody else takes the last byte."""
    disk.mount(megabytes)
    count = megabytes * MEGABYTE // FACE_BYTES + 50
    outbox = Outbox(disk.outbox, MAX_BYTES)
    committed = store_each(outbox, count)
    assert len(committed) == count
    assert outbox.dropped > 0
    assert outbox.count + outbox.dropped == count
    disk.fill()
    found = drain(outbox, outbox.count // 2)
    left = outbox.count
    outbox.close()
    disk.fill()
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == left
        found += drain(outbox)
    disk.fill()
    assert len({face.id for face in found}) == len(found) == count - outbox.dropped
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == 0


@pytest.mark.parametrize("megabytes", SIZES)
@pytest.mark.parametrize("is_killed", [False, True])
def test_faces_are_delivered_when_somebody_else_has_filled_the_disk(disk: Disk, megabytes: int, is_killed: bool):
    """Those that were committed before it was full. The others are counted as not stored, and none is dropped."""
    disk.mount(megabytes)
    committed: set[str] = set()

    def work() -> None:
        outbox = Outbox(disk.outbox, MAX_BYTES)
        committed.update(store_each(outbox, 40))
        disk.fill()
        stored_later = store_each(outbox, 40)
        committed.update(stored_later)
        assert outbox.not_stored == 40 - len(stored_later) > 0
        assert outbox.dropped == 0
        assert outbox.problem.startswith("disk full")
        if is_killed:
            (disk.outbox.parent / "count").write_text("")  # an empty file needs no room
            assert outbox.count == len(committed)
            assert outbox.delete_receipted([(face_id, "door") for face_id in sorted(committed)[:5]]) == 5
        else:
            outbox.close()

    if is_killed:
        in_killed_process(work)
        disk.fill()
        with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
            assert outbox.count >= 35
            found = drain(outbox)
            assert outbox.count == 0
    else:
        work()
        disk.fill()
        with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
            found = drain(outbox)
        assert {face.id for face in found} == committed
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == 0


def test_receipts_are_remembered_when_not_even_the_reserve_is_left(disk: Disk):
    """Their faces are not returned any more. The receipts are written once there is room."""
    disk.mount(16)
    faces = make_faces(30, jpeg=make_jpeg(100, 100))
    make_version_1(disk.outbox, faces)
    disk.fill()
    outbox = Outbox(disk.outbox, MAX_BYTES)
    assert outbox.problem.startswith("disk full")
    assert outbox.delete_receipted(receipts_of(faces[:10])) == 10
    assert outbox.delete_receipted(receipts_of(faces[:10])) == 0
    assert outbox.count == 20
    assert [face.id for face in drain(outbox)] == [face.id for face in faces[10:]]
    assert outbox.store([make_face()]) == 0
    assert (outbox.count, outbox.not_stored) == (0, 1)
    disk.clear()
    outbox.maintain()
    assert outbox.problem == ""
    outbox.store([make_face()])
    outbox.close()
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == 1


@pytest.mark.parametrize("free_bytes", [0, MEGABYTE, 3 * MEGABYTE])
def test_a_damaged_file_on_a_full_disk_is_delivered(disk: Disk, free_bytes: int):
    """Also if the disk has no room for a fresh file, or for the faces in it."""
    disk.mount(16)
    faces = make_faces(200, jpeg=make_jpeg(100, 100))
    in_killed_process(lambda: Outbox(disk.outbox, MAX_BYTES).store(faces))
    with disk.outbox.with_name("outbox.db-wal").open("r+b") as file:
        file.write(b"\xff")
    disk.fill(leaving=free_bytes)
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        disk.fill()
        assert outbox.count == 200
        assert [face.id for face in drain(outbox)] == [face.id for face in faces]
        assert (outbox.count, outbox.damaged) == (0, 0)
        outbox.maintain()
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == 0


def test_a_file_of_version_1_that_has_filled_its_disk_is_delivered_and_begun_again(disk: Disk):
    """Nothing can be deleted in it. Once all its faces are delivered, it is replaced, and faces are stored again."""
    disk.mount(16)
    faces = make_faces(400, jpeg=make_jpeg(100, 100))
    make_version_1(disk.outbox, faces)
    disk.fill()
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.problem.startswith("disk full")
        assert [face.id for face in drain(outbox)] == [face.id for face in faces]
        outbox.maintain()
        assert outbox.problem == ""
        outbox.store([make_face()])
        assert outbox.count == 1
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == 1


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_read_only_outbox_is_delivered(disk: Disk, is_killed: bool):
    """Also what is only in the write-ahead log. New faces are counted as not stored."""
    disk.mount(16)
    faces = make_faces(60, jpeg=make_jpeg())

    def work() -> None:
        outbox = Outbox(disk.outbox, MAX_BYTES)
        outbox.store(faces)
        outbox.delete_receipted(receipts_of(faces[:5]))
        if not is_killed:
            outbox.close()

    in_killed_process(work)
    disk.remount("ro")
    with pytest.raises(ConfigurationError, match="read-only"):
        outbox_file.inspect(disk.outbox)
    outbox = Outbox(disk.outbox, MAX_BYTES)
    assert (outbox.count, outbox.problem) == (55, "read-only")
    assert outbox.store([make_face()]) == 0
    assert outbox.not_stored == 1
    assert {face.id for face in drain(outbox, 20)} < {face.id for face in faces[5:]}
    disk.remount("rw")
    outbox.maintain()
    assert (outbox.problem, outbox.count) == ("", 35)
    outbox.store([make_face()])
    assert len(drain(outbox)) == 36
    outbox.close()
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        assert outbox.count == 0


@pytest.mark.slow
def test_a_disk_that_fails_while_the_outbox_is_open_ends_nothing(tmp_path: Path):
    """As ext4 does with an SD card that dies: from one moment to the next, it can only be read."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("needs root and loop devices")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * MEGABYTE)
    make, mount = (
        ["mkfs.ext4", "-q", "-F", str(image)],
        ["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)],
    )
    for command in (make, mount):
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("cannot mount a file system on a loop device")
    try:
        (device,) = [line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
        faces = make_faces(40, jpeg=make_jpeg())
        outbox = Outbox(folder / "outbox.db", MAX_BYTES)
        outbox.store(faces)
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")
        outbox.store(make_faces(2))
        assert (outbox.count, outbox.not_stored) == (40, 2)
        assert outbox.problem
        assert {face.id for face in drain(outbox)} == {face.id for face in faces}
        assert outbox.count == 0
        outbox.close()
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


@pytest.mark.slow
def test_after_lowering_the_limit_faces_are_dropped_in_small_steps(tmp_path: Path):
    """The live face is stored at once. The file gives its space back to the disk."""
    path = tmp_path / "outbox.db"
    faces = make_faces(900, jpeg=bytes(FACE_BYTES))
    outbox = Outbox(path, MAX_BYTES)
    for i in range(0, 900, 100):
        outbox.store(faces[i : i + 100])
    outbox.close()
    outbox = Outbox(path, 2 * MEGABYTE)
    assert 1 <= outbox.store([make_face(jpeg=bytes(FACE_BYTES))]) <= 8
    steps = 1
    while outbox.maintain():
        steps += 1
    assert steps > 100
    assert outbox.bytes <= 2 * MEGABYTE
    assert outbox.count + outbox.dropped == 901
    outbox.close()
    assert path.stat().st_size < 8 * MEGABYTE


def test_a_file_of_version_1_gives_its_space_back_once_it_is_empty(tmp_path: Path):
    path = tmp_path / "outbox.db"
    make_version_1(path, make_faces(400, jpeg=make_jpeg(150, 150)))
    outbox = Outbox(path, MAX_BYTES)
    assert len(drain(outbox)) == 400
    assert not outbox.maintain()
    outbox.store(make_faces(3))
    outbox.close()
    assert path.stat().st_size < MEGABYTE
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        assert outbox.count == 3


def test_a_commit_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch):
    """While it hangs, and after it until the next commit."""
    monkeypatch.setattr(commit_timer, "SLOW_SECONDS", 0.01)
    timer = CommitTimer()
    with timer.measure():
        await_true(lambda: "so far" in timer.problem, 5, "the commit is slow")
    assert timer.problem.startswith("disk slow: a commit took")
    assert timer.longest_seconds == timer.last_seconds > 0.01
    monkeypatch.setattr(commit_timer, "SLOW_SECONDS", 60)
    assert timer.problem == ""


def test_the_check_says_that_the_disk_is_full(disk: Disk):
    disk.mount(8)
    with contextlib.closing(Outbox(disk.outbox, MAX_BYTES)) as outbox:
        outbox.store(make_faces(3))
    assert outbox_file.inspect(disk.outbox).endswith("has 3 faces, 24576 bytes")
    disk.fill()
    with pytest.raises(ConfigurationError, match=r"disk is full .*its 3 faces will be delivered"):
        outbox_file.inspect(disk.outbox)
