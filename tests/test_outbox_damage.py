"""A damaged outbox: nothing that is damaged is sent, nothing that can be read is lost, and every loss is counted."""

import contextlib
import random
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from edge.detector.delivery.outbox import Outbox
from edge.detector.delivery.storage.pages import PAGE_BYTES, Wal
from tests.builders import CAPTURED_AT, make_face, make_faces, make_jpeg
from tests.outboxes import MAX_BYTES, drain, in_killed_process, make_version_1, receipts_of
from wire.errors import ConfigurationError
from wire.face import encode

JPEGS = [make_jpeg(size, size, seed) for seed, size in enumerate((24, 64, 90, 120, 40, 30, 8))]
FACES = [make_face(captured_at=CAPTURED_AT + timedelta(milliseconds=i), jpeg=JPEGS[i % 7]) for i in range(90)]
"""Rows of 1 to 20 kB: some fit in a page, the others need a chain of overflow pages."""
DELETED, LEFT = FACES[::9], [face for i, face in enumerate(FACES) if i % 9]
ATTRIBUTES = {face.id: (face.jpeg, encode(face)) for face in FACES}


@pytest.fixture(scope="module", params=["closed", "killed", "killed later"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox that was closed, one whose faces are all in the write-ahead log, and one with faces in both files."""
    path = tmp_path_factory.mktemp("sound") / "outbox.db"

    def work() -> None:
        outbox = Outbox(path, MAX_BYTES)
        for i in range(0, len(FACES), 3):
            if request.param == "killed later" and i == 45:
                outbox.close()
                outbox = Outbox(path, MAX_BYTES)
            outbox.store(FACES[i : i + 3])
        outbox.delete_receipted(receipts_of(DELETED))
        if request.param == "closed":
            outbox.close()

    in_killed_process(work)
    return path


def flip(sound: Path, folder: Path, chance: random.Random) -> tuple[Path, str]:
    """Copy an outbox to ``folder``, flip one bit that is in use, and return the copy and where the bit was."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = [path for suffix in ("", "-wal") if (path := Path(f"{sound}{suffix}")).exists()]
    used = [files[0].stat().st_size, *(32 + 4120 * len(Wal(path)._frames) for path in files[1:])]
    for file in files:
        shutil.copy(file, folder / file.name)
    number = chance.choices(range(len(files)), used)[0]
    target, offset, bit = folder / files[number].name, chance.randrange(used[number]), chance.randrange(8)
    content = bytearray(target.read_bytes())
    content[offset] ^= 1 << bit
    target.write_bytes(content)
    return folder / sound.name, f"{target.name}, byte {offset}, bit {bit}"


def assert_only_its_face_is_lost(path: Path, place: str) -> int:
    """Check what a flipped bit costs, and return how many faces that is."""
    with contextlib.closing(Outbox(path, MAX_BYTES, "jetson-1")) as outbox:
        found = drain(outbox)
        assert all((face.jpeg, face.properties) == ATTRIBUTES[face.id] for face in found), place
        lost = {face.id for face in LEFT} - {face.id for face in found}
        assert (len(lost), outbox.count) == (outbox.damaged, 0), place
        assert len(lost) <= 1, place
    with contextlib.closing(Outbox(path, MAX_BYTES, "jetson-1")) as outbox:
        assert (outbox.count, outbox.damaged) == (0, len(lost)), place
    return len(lost)


def test_a_flipped_bit_costs_at_most_its_own_face(sound: Path, tmp_path: Path):
    """Wherever it is in the two files. The loss is counted, and nothing that is altered is returned."""
    for seed in range(20):
        assert_only_its_face_is_lost(*flip(sound, tmp_path / "trial", random.Random(seed)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_1000_flipped_bits(sound: Path, tmp_path: Path):
    """The same, for a third of 1,000 flipped bits in each kind of file."""
    lost = 0
    for seed in range(1000, 1334):
        lost += assert_only_its_face_is_lost(*flip(sound, tmp_path / "trial", random.Random(seed)))
    print(f"334 flipped bits: {lost} faces lost, 0 altered")


@pytest.mark.slow
def test_every_bit_of_the_file_header_may_be_flipped(sound: Path, tmp_path: Path):
    """Page size, encoding, schema version and so on: no face is lost, and the detector starts."""
    if Path(f"{sound}-wal").exists():
        pytest.skip("the first page is in the write-ahead log, too")
    for offset in range(100):
        path = tmp_path / str(offset) / "outbox.db"
        path.parent.mkdir()
        content = bytearray(sound.read_bytes())
        content[offset] ^= 1 << random.Random(offset).randrange(8)
        path.write_bytes(content)
        assert assert_only_its_face_is_lost(path, f"byte {offset}") == 0


def test_a_damaged_row_is_set_aside_for_good(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """It is counted and logged with its id, and does not count as waiting. The count survives a restart."""
    path = tmp_path / "outbox.db"
    first, second = make_faces(2, jpeg=JPEGS[0])
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        outbox.store([first, second])
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE faces SET camera = 'doot' WHERE id = ?", (first.id,))
    for _ in range(2):
        with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
            assert outbox.get(1) is None
            assert outbox.waiting(set(), 10, newest_first=False) == [2]
            assert (outbox.count, outbox.damaged, outbox.oldest_id()) == (1, 1, second.id)
    assert first.id in "".join(capfd.readouterr())


@pytest.mark.parametrize("column", ["id", "camera", "properties", "jpeg"])
def test_a_row_of_version_1_is_checked_by_its_structure(tmp_path: Path, column: str):
    """It has no digest. What can be recognised as damaged is not sent."""
    path = tmp_path / "outbox.db"
    intact, other = make_faces(2, jpeg=JPEGS[1])
    make_version_1(path, [intact, other])
    damaged = {"id": intact.id[:-1] + "x", "camera": "doot", "properties": b"\x05rest", "jpeg": JPEGS[1][:-2]}
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE faces SET {column} = ? WHERE seq = 1", (damaged[column],))  # noqa: S608 (a column)
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        assert outbox.get(1) is None
        found = outbox.get(2)
        assert found is not None
        assert (found.id, found.jpeg, found.properties) == (other.id, other.jpeg, encode(other))
        assert (outbox.count, outbox.damaged) == (1, 1)


def test_a_file_that_is_damaged_while_it_is_open_is_replaced(tmp_path: Path):
    """The process goes on: the faces are moved to a fresh file under the same sequence numbers."""
    path = tmp_path / "outbox.db"
    faces = make_faces(80, jpeg=JPEGS[3])
    outbox = Outbox(path, MAX_BYTES)
    outbox.store(faces)
    outbox._storage.file.space.checkpoint()
    outbox._storage.file.database.execute("PRAGMA shrink_memory")
    root = outbox._storage.file.database.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_faces_1'"
    ).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    assert outbox.delete_receipted(receipts_of(faces[:1])) == 1
    assert outbox.waiting(set(), 2, newest_first=False) == [2, 3]
    new = make_face(jpeg=JPEGS[0])
    outbox.store([new])
    assert outbox.count == 80
    assert {face.id for face in drain(outbox)} == {face.id for face in [*faces[1:], new]}
    assert outbox.damaged == 0
    outbox.close()


def test_a_rescue_drops_no_faces(tmp_path: Path):
    """What the fresh file has no room for is moved when other faces are delivered."""
    path = tmp_path / "outbox.db"
    faces = make_faces(100, jpeg=JPEGS[3])
    in_killed_process(lambda: Outbox(path, MAX_BYTES).store(faces))
    content = bytearray(Path(f"{path}-wal").read_bytes())
    content[3] ^= 1
    Path(f"{path}-wal").write_bytes(content)
    with contextlib.closing(Outbox(path, 1 << 20)) as outbox:
        assert outbox.bytes <= 1 << 20
        while outbox.maintain():
            pass
        assert (outbox.count, outbox.dropped) == (100, 0)
        assert [face.id for face in drain(outbox)] == [face.id for face in faces]
    assert not list(tmp_path.glob("*rescuing*"))


def test_a_rescue_that_was_interrupted_goes_on(tmp_path: Path):
    """After each step: the write-ahead log renamed, the file renamed, a fresh one begun."""
    faces = make_faces(10, jpeg=JPEGS[1])
    for step in range(3):
        path = tmp_path / str(step) / "outbox.db"
        path.parent.mkdir()
        in_killed_process(lambda path=path: Outbox(path, MAX_BYTES).store(faces))  # type: ignore[misc]
        Path(f"{path}-wal").rename(f"{path}.rescuing-20261122T150405Z-wal")
        if step > 0:
            path.rename(f"{path}.rescuing-20261122T150405Z")
        if step > 1:
            Outbox(path.with_name("fresh.db"), MAX_BYTES).close()
            path.with_name("fresh.db").rename(path)
        with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
            assert [face.id for face in drain(outbox)] == [face.id for face in faces]
        assert not list(path.parent.glob("*rescuing*"))


def test_a_closed_outbox_is_not_taken_for_a_damaged_one(tmp_path: Path):
    """A thread that still asks it gets empty answers."""
    outbox = Outbox(tmp_path / "outbox.db", MAX_BYTES)
    outbox.store(make_faces(2))
    outbox.close()
    assert outbox.waiting(set(), 2, newest_first=True) == []
    assert outbox.get(1) is None
    assert outbox.delete_receipted([("nonsense", "door")]) == 0
    assert not list(tmp_path.glob("*damaged*"))
    with contextlib.closing(Outbox(tmp_path / "outbox.db", MAX_BYTES)) as reopened:
        assert reopened.count == 2


def test_a_file_with_a_newer_schema_is_not_opened(tmp_path: Path):
    """An older version must not lose the faces of a newer one. A flipped bit in the version is told from that."""
    path = tmp_path / "outbox.db"
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        outbox.store(make_faces(1))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 3")
    with contextlib.closing(Outbox(path, MAX_BYTES)) as outbox:
        assert outbox.count == 1
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("PRAGMA user_version = 3; UPDATE totals SET version = 3")
    with pytest.raises(ConfigurationError, match="version 3"):
        Outbox(path, MAX_BYTES)
