"""The gallery's index gives the same answers as a simple model in memory, and survives damage."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cloud.gallery.index.face import MAX_GAP_MS, IndexedFace, Tile
from cloud.gallery.index.filters import BadQuery, Filters
from cloud.gallery.index.index import Index
from wire.ids import id_from_hash, new_id, time_of_any_id
from wire.topics import Origin

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 10, 23, 20, tzinfo=UTC)
"""Summer time ends on the 25th."""
DOOR, YARD, OTHER = Origin("jetson-1", "door"), Origin("jetson-1", "yard"), Origin("jetson-2", "door")
SOURCE = "bucket/faces"


def make_indexed(at: datetime = START, origin: Origin = DOOR, **changes: object) -> IndexedFace:
    """A face with attributes."""
    values = {"confidence": 0.9, "track": 1, "box": (10, -2, 80, 90), "framesize": (1280, 720)} | changes
    return IndexedFace(origin, new_id(at), **values)  # type: ignore[arg-type]


def make_many(count: int, seed: int = 1) -> list[IndexedFace]:
    """Faces of three cameras over four days, some of them without attributes, in no order."""
    chance, found = random.Random(seed), []
    for _ in range(count):
        at = START + timedelta(
            milliseconds=chance.choice([chance.randrange(4 * 86_400_000), chance.randrange(600_000)])
        )
        origin = chance.choice([DOOR, YARD, OTHER])
        if chance.random() < 0.1:
            found.append(IndexedFace(origin, id_from_hash(at, chance.randbytes(10))))
        else:
            confidence = chance.randrange(700, 1001) / 1000
            quality = chance.choice([None, chance.randrange(1001) / 1000])  # None: an older detector
            found.append(make_indexed(at, origin, confidence=confidence, quality=quality, track=chance.randrange(4)))
    return found


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An empty index."""
    return Index(tmp_path / "index.db", SOURCE, ZONE)


FILTERS = [
    Filters(),
    Filters(device="jetson-1"),
    Filters(camera="door"),
    Filters(device="jetson-2", camera="door"),
    Filters(device="nobody"),
    Filters(day=date(2026, 10, 25)),
    Filters(day=date(2026, 10, 25), first_quarter=8, last_quarter=12),
    Filters(first_quarter=88, last_quarter=8),
    Filters(day=date(2026, 10, 24), first_quarter=88, last_quarter=8),
    Filters(confidence=0.85),
    Filters(confidence=1.0),
    Filters(device="jetson-1", confidence=0.95, first_quarter=88),
    Filters(quality=0.3),
    Filters(quality=1.0),
    Filters(camera="door", confidence=0.85, quality=0.5, last_quarter=60),
]


def matches(seen: IndexedFace, filters: Filters) -> bool:
    """Whether the simple model shows a face."""
    local = datetime.fromtimestamp(seen.captured_ms / 1000, UTC).astimezone(ZONE)
    return (
        filters.device in (None, seen.origin.device)
        and filters.camera in (None, seen.origin.camera)
        and filters.day in (None, local.date())
        and filters.includes_quarter(local.hour * 4 + local.minute // 15)
        and (not filters.confidence or (seen.confidence or 0) >= filters.confidence)
        and (not filters.quality or (seen.quality or 0) >= filters.quality)
    )


def windows(filters: Filters) -> bool:
    """Whether the filters cut visits."""
    return filters.day is not None or filters.has_time_of_day


def visits(faces: list[IndexedFace]) -> list[list[IndexedFace]]:
    """The visits of the simple model, each newest first."""
    found: list[list[IndexedFace]] = []
    for origin, track in {(one.origin, one.track) for one in faces}:
        of_track = [one for one in faces if (one.origin, one.track) == (origin, track)]
        of_track.sort(key=lambda one: one.captured_ms, reverse=True)
        if track is None:
            found += [[one] for one in of_track]
            continue
        found.append([of_track[0]])
        for newer, older in pairwise(of_track):
            if newer.captured_ms - older.captured_ms > MAX_GAP_MS:
                found.append([])
            found[-1].append(older)
    return found


def walk(index: Index, filters: Filters, *, stacked: bool, limit: int = 7) -> list[Tile]:
    """Every tile, page after page."""
    tiles: list[Tile] = []
    before = None
    while True:
        page = index.page(filters, before=before, limit=limit, stacked=stacked)
        assert len(page.tiles) <= limit
        tiles += page.tiles
        before = page.next
        if before is None:
            return tiles


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_pages_days_and_neighbours_are_those_of_a_simple_model(index: Index, filters: Filters):
    """With each filter, over the end of summer time, and with faces of the same millisecond."""
    faces = make_many(600)
    index.add(faces)
    expected = sorted((one for one in faces if matches(one, filters)), key=lambda one: -one.captured_ms)
    singles = [tile.face for tile in walk(index, filters, stacked=False)]
    assert [one.captured_ms for one in singles] == [one.captured_ms for one in expected]
    assert {one.id for one in singles} == {one.id for one in expected}
    for at, seen in enumerate(singles[:40]):
        newer, older = index.neighbours(seen.origin, seen.id, filters)
        assert newer == (singles[at - 1] if at else None)
        assert older == (singles[at + 1] if at + 1 < len(singles) else None)
    counted = Counter(
        datetime.fromtimestamp(one.captured_ms / 1000, UTC).astimezone(ZONE).date()
        for one in faces
        if matches(one, Filters(**{name: getattr(filters, name) for name in filters.__slots__} | {"day": None}))
    )
    assert index.days(filters) == sorted(counted.items(), reverse=True)


@pytest.mark.parametrize("filters", [one for one in FILTERS if not windows(one)], ids=str)
def test_visits_are_those_of_a_simple_model(index: Index, filters: Filters):
    """One tile for each, with its newest and its best picture, whatever the size of the page."""
    faces = make_many(600)
    index.add(faces)
    expected = {visit[0].captured_ms: visit for visit in visits([one for one in faces if matches(one, filters)])}
    for limit in (1, 7, 1000):
        tiles = walk(index, filters, stacked=True, limit=limit)
        assert sorted((tile.face.captured_ms, tile.count) for tile in tiles) == sorted(
            (visit[0].captured_ms, len(visit)) for visit in visits([one for one in faces if matches(one, filters)])
        )
    for tile in tiles:
        shown = index.visit(tile.best.origin, tile.best.id, filters)
        assert len(shown) == tile.count
        assert shown[0] == tile.face
        assert shown[-1].captured_ms == tile.first_ms
        assert tile.best.quality == max((one.quality or 0 for one in shown), default=0) or not any(
            one.quality for one in shown
        )
    assert expected.keys() == {tile.face.captured_ms for tile in tiles}


def test_a_time_of_day_cuts_a_visit(index: Index):
    """Only its pictures in that time are counted."""
    midnight = datetime(2026, 10, 24, 0, 0, tzinfo=ZONE)
    index.add([make_indexed(midnight + timedelta(seconds=seconds)) for seconds in (-20, -10, 10, 20, 30)])
    counts = [tile.count for tile in walk(index, Filters(), stacked=True)]
    assert counts == [5]
    assert [tile.count for tile in walk(index, Filters(day=date(2026, 10, 24)), stacked=True)] == [3]
    assert [tile.count for tile in walk(index, Filters(day=date(2026, 10, 23)), stacked=True)] == [2]


def test_a_long_walk_ends_although_nothing_matches(index: Index):
    """A page looks at a limited number of faces, and the counts say where the next match is."""
    index.add(make_indexed(START + timedelta(seconds=second), track=second) for second in range(9_000))
    rare = make_indexed(START - timedelta(days=300), confidence=1.0)
    index.add([rare])
    assert [tile.face for tile in walk(index, Filters(confidence=1.0), stacked=True)] == [rare]
    assert not walk(index, Filters(confidence=0.95, device="nobody"), stacked=True)


def test_the_best_picture_of_a_visit_is_the_one_with_the_highest_quality(index: Index):
    """Without qualities, the one with the highest confidence."""
    scores = [(0.9, 0.2), (0.8, 0.4), (0.95, 0.3)]
    index.add(
        make_indexed(START + timedelta(seconds=second), confidence=confidence, quality=quality)
        for second, (confidence, quality) in enumerate(scores)
    )
    index.add(
        make_indexed(START + timedelta(seconds=second), track=2, confidence=confidence)
        for second, (confidence, _) in enumerate(scores)
    )
    bests = {tile.face.track: tile.best for tile in walk(index, Filters(), stacked=True)}
    assert (bests[1].quality, bests[2].confidence) == (0.4, 0.95)


def test_faces_that_were_only_listed_are_described_once(index: Index):
    """They are shown before that. What is described does not change."""
    seen = make_indexed()
    assert index.add([IndexedFace(seen.origin, seen.id)], described=False)
    assert index.undescribed(5) == [IndexedFace(seen.origin, seen.id)]
    assert len(walk(index, Filters(), stacked=True)) == 1
    assert not walk(index, Filters(confidence=0.9), stacked=True)
    assert index.add([seen]) == []
    assert index.get(seen.origin, seen.id) == seen
    assert index.undescribed_count() == 0
    index.add([IndexedFace(seen.origin, seen.id)], described=False)
    index.add([make_indexed(confidence=0.5)])
    assert index.get(seen.origin, seen.id) == seen
    assert index.count == 2
    assert [tile.face for tile in walk(index, Filters(confidence=0.9), stacked=True)] == [seen]


def test_removed_faces_are_gone_from_pages_and_counts(index: Index):
    """Those that are not known are ignored."""
    faces = make_many(50)
    index.add(faces)
    names = [(one.origin, one.id) for one in faces]
    assert index.remove([*names[:20], (DOOR, new_id(START)), (Origin("x", "y"), names[0][1])]) == 20
    assert index.count == 30
    assert {tile.face.id for tile in walk(index, Filters(), stacked=False)} == {name[1] for name in names[20:]}
    assert sum(count for _, count in index.days(Filters())) == 30
    index.remove(names)
    assert index.days(Filters()) == []
    assert index.cameras() == []


def test_faces_of_the_same_number_are_all_kept(index: Index):
    """Their ids differ only in what the number does not hold."""
    base = new_id(START)
    same = [IndexedFace(DOOR, base[:24] + f"{number:07x}" + base[31:], track=1) for number in range(20)]
    assert len({time_of_any_id(one.id) for one in same}) == 1
    index.add(same)
    index.remove([(same[0].origin, same[0].id)])
    index.add(same)
    assert index.count == 20
    assert {tile.face.id for tile in walk(index, Filters(), stacked=False)} == {one.id for one in same}


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty", "text", "other source", "other version"])
def test_an_index_that_is_damaged_or_of_another_bucket_is_made_anew(tmp_path: Path, damage: str):
    """It is filled again from S3."""
    path = tmp_path / "index.db"
    index = Index(path, SOURCE, ZONE)
    index.add(make_many(2000))
    index.close()
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        path.write_bytes(content[:8192] + random.Random(1).randbytes(len(content) - 8192))
    elif damage in ("empty", "text"):
        path.write_bytes(b"" if damage == "empty" else b"not a database" * 1000)
    elif damage == "other version":
        path.write_bytes(content[:60] + b"\0\0\0\x63" + content[64:])
    index = Index(path, "elsewhere/faces" if damage == "other source" else SOURCE, ZONE)
    assert index.count == 0
    assert index.add(make_many(10))


def test_an_index_is_kept_over_a_restart(tmp_path: Path):
    """With its count and its cameras."""
    path = tmp_path / "index.db"
    for expected in (0, 100):
        index = Index(path, SOURCE, ZONE)
        assert index.count == expected
        index.add(make_many(100, seed=expected))
        assert sum(camera.count for camera in index.cameras()) == index.count == expected + 100
        index.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"device": "../x"}, "device is '../x': expected a name"),
        ({"camera": "<script>"}, "camera is '<script>': expected a name"),
        ({"day": "2026-13-01"}, "day is '2026-13-01': expected a day such as"),
        ({"day": "0001-01-01"}, "expected a day"),
        ({"from": "25:00"}, "from is '25:00': expected a quarter of an hour"),
        ({"to": "12:10"}, "to is '12:10': expected a quarter"),
        ({"to": "１２:00"}, "expected a quarter"),
        ({"confidence": "nan"}, "confidence is 'nan': expected a number from 0 to 1"),
        ({"confidence": "1e999"}, "expected a number"),
        ({"confidence": "0.87"}, "in steps of 0.05"),
        ({"quality": "0.35"}, "quality is '0.35': expected a number from 0 to 1 in steps of 0.1"),
    ],
)
def test_a_bad_filter_is_named_in_one_line(query: dict[str, str], expected: str):
    """With what was expected."""
    with pytest.raises(BadQuery) as error:
        Filters.parse(query)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_survive_the_address(filters: Filters):
    """A link shows the same."""
    assert Filters.parse(filters.query()) == filters


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "1e5", "１"])
def test_a_bad_cursor_is_named(index: Index, before: str):
    """It comes from the address of a request."""
    with pytest.raises(BadQuery, match="before is"):
        index.page(Filters(), before=before)
