"""The gallery knows every face that S3 has: announced by the sink, or found by listing, whatever fails meanwhile."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cloud.gallery.bucket import Bucket, NotFound, Unavailable
from cloud.gallery.filling.announcements import Announcements
from cloud.gallery.filling.comparison import Comparison
from cloud.gallery.filling.descriptions import Descriptions
from cloud.gallery.filling.filling import Filling
from cloud.gallery.index.face import IndexedFace
from cloud.gallery.index.filters import Filters
from cloud.gallery.index.index import Index
from cloud.gallery.pictures import NotAPicture, Pictures
from cloud.gallery.settings import GallerySettings
from demo.ports import HOST, free_port
from demo.program import await_true
from demo.stack import BUCKET, Stack
from tests.builders import CAPTURED_AT, Peer, make_face, make_jpeg
from tests.scrape import scrape
from tests.scripted_s3 import Request, ScriptedS3, listing, response
from wire import face, keys, stored, topics
from wire.face import Face
from wire.ids import new_id
from wire.process.lifecycle import Stop
from wire.topics import Origin

JPEG = make_jpeg()
DOOR = Origin("jetson-1", "door")


@pytest.fixture
def bucket(servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """A bucket of the shared S3 server with a prefix of its own."""
    for name, value in servers.aws().items():
        monkeypatch.setenv(name, value)
    return Bucket(settings_of(servers, tmp_path, S3_PREFIX=f"gallery/{tmp_path.name}".replace("_", "-")))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An empty index."""
    return Index(tmp_path / "index.db", "bucket/faces", ZoneInfo("UTC"))


def settings_of(stack: Stack, folder: Path, **changes: str) -> GallerySettings:
    """The settings of a gallery of a stack."""
    environ = {name: value for name, value in stack.environ("gallery").items() if not name.startswith("AWS_")}
    return GallerySettings.from_environment({**environ, "GALLERY_FOLDER": str(folder), **changes})


def put(bucket: Bucket, seen: Face, body: bytes = JPEG) -> IndexedFace:
    """Write a face to S3 as the sink does."""
    key = keys.of_face(bucket.prefix, seen.origin, seen.captured_at, seen.id)
    metadata = dict(face.encode(seen).user_properties)
    bucket._client.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)
    return IndexedFace.of_key(bucket.prefix, key, metadata)


def ids(index: Index) -> set[str]:
    """The ids of the newest thousand faces."""
    return {tile.face.id for tile in index.page(Filters(), limit=1000, stacked=False).tiles}


class Compared:
    """A comparison, and what it reported."""

    def __init__(self, bucket: Bucket, index: Index) -> None:
        self.added: list[str] = []
        self.removed: list[str] = []
        self.comparison = Comparison(
            bucket,
            index,
            on_added=lambda faces: self.added.extend(one.id for one in faces),
            on_removed=lambda names: self.removed.extend(name[1] for name in names),
        )

    def everything(self) -> None:
        """Compare everything."""
        self.comparison.everything(lambda: False)


def test_the_index_becomes_what_s3_lists(servers: Stack, bucket: Bucket, index: Index):
    """Faces of all days and cameras are added; what S3 does not have is removed; other objects are ignored."""
    made = [
        put(bucket, make_face(origin=Origin(device, camera), captured_at=CAPTURED_AT - timedelta(days=back)))
        for device in ("jetson-1", "jetson-2")
        for camera in ("door", "yard")
        for back in (0, 1, 300)
    ]
    for other in (
        f"{bucket.prefix}/quarantine/device=jetson-1/date=2026-11-22/{'0' * 64}",
        f"{bucket.prefix}/device=jetson-1/camera=door/date=2026-11-22/else.jpg",
        f"{bucket.prefix}/device=jetson-1/camera=door/date=2026-11-22/000000.000Z-{made[0].id}.jpg",
        f"{bucket.prefix}/device=jetson-1/camera=door/date=tomorrow/x",
        f"{bucket.prefix}/device=../camera=door/date=2026-11-22/x",
        f"{bucket.prefix}/device=jetson-1/camera=door/file",
    ):
        servers.s3().put_object(Bucket=BUCKET, Key=other, Body=b"x")
    old = Index(Path(index._database._path).with_name("old.db"), "bucket/faces", ZoneInfo("UTC"))
    stale = make_face(captured_at=CAPTURED_AT + timedelta(days=5))
    old.add([IndexedFace(DOOR, stale.id)], described=False)
    compared = Compared(bucket, old)
    compared.everything()
    assert ids(old) == {one.id for one in made} == set(compared.added)
    assert compared.removed == [stale.id]
    compared.everything()
    assert len(compared.added) == len(made)


@pytest.mark.slow
def test_a_day_of_more_faces_than_a_page_is_compared(servers: Stack, bucket: Bucket, index: Index):
    """Faces of one millisecond may be on two pages."""
    moments = [CAPTURED_AT + timedelta(milliseconds=number // 30) for number in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda moment: put(bucket, make_face(captured_at=moment), body=b""), moments))
    index.add(made[500:700], described=False)
    compared = Compared(bucket, index)
    compared.everything()
    assert index.count == 1050
    gone = [keys.of_id(bucket.prefix, one.origin, one.id) for one in made[900:1100]]
    servers.s3().delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in gone]})
    compared.everything()
    assert set(compared.removed) == {one.id for one in made[900:1100]}
    assert index.count == 900


def test_an_older_listing_does_not_undo_what_has_just_happened(servers: Stack, bucket: Bucket, index: Index):
    """A face that was announced during the listing stays, and one that was deleted does not come back."""
    deleted = put(bucket, make_face())
    announced = make_face()
    index.add([IndexedFace(DOOR, announced.id, 0.9)])
    index.remove([(deleted.origin, deleted.id)])
    Compared(bucket, index).everything()
    assert ids(index) == {announced.id}


def test_only_faces_since_an_interruption_are_listed_first(servers: Stack, bucket: Bucket, index: Index):
    """That takes one request per camera."""
    early, late = (put(bucket, make_face(captured_at=CAPTURED_AT + timedelta(hours=hours))) for hours in (0, 2))
    compared = Compared(bucket, index)
    now = CAPTURED_AT + timedelta(hours=3)
    compared.comparison.recent(now, lambda: False, since=CAPTURED_AT + timedelta(hours=1))
    assert ids(index) == {late.id}
    compared.comparison.recent(now, lambda: False)
    assert ids(index) == {early.id, late.id}


def test_listed_faces_are_described_from_their_metadata(servers: Stack, bucket: Bucket, index: Index):
    """Those that S3 has no more are removed. Metadata that is not valid is not known."""
    good = put(bucket, make_face())
    wrong = put(bucket, make_face(captured_at=CAPTURED_AT + timedelta(seconds=1)))
    key = keys.of_id(bucket.prefix, wrong.origin, wrong.id)
    servers.s3().put_object(Bucket=BUCKET, Key=key, Body=b"", Metadata={"confidence": "9", "track": "-1", "box": "a"})
    gone = IndexedFace(DOOR, new_id(CAPTURED_AT))
    index.add([IndexedFace(one.origin, one.id) for one in (good, wrong, gone)], described=False)
    described: list[IndexedFace] = []
    removed: list[str] = []
    descriptions = Descriptions(
        bucket,
        index,
        Stop(),
        per_second=1000,
        on_described=described.extend,
        on_removed=lambda names: removed.extend(name[1] for name in names),
    )
    assert descriptions.step()
    assert not descriptions.step()
    assert described == [IndexedFace(wrong.origin, wrong.id), good]
    assert removed == [gone.id]
    assert index.get(good.origin, good.id) == good


def test_only_jpegs_are_passed_on(servers: Stack, bucket: Bucket, index: Index):
    """An object that is missing is removed from the index."""
    good, page = (put(bucket, make_face(), body=body) for body in (JPEG, b"<svg onload=alert(1)>"))
    missing = IndexedFace(DOOR, new_id(CAPTURED_AT))
    index.add([good, page, missing])
    removed: list[str] = []
    pictures = Pictures(bucket, index, lambda names: removed.extend(name[1] for name in names))
    picture = pictures.read(good.origin, good.id)
    assert picture.jpeg == JPEG
    assert picture.attributes["track"] == "17"
    with pytest.raises(NotAPicture):
        pictures.read(page.origin, page.id)
    with pytest.raises(NotFound):
        pictures.read(DOOR, missing.id)
    assert removed == [missing.id]
    for origin, face_id in ((Origin("..", "door"), good.id), (DOOR, "../../secret"), (DOOR, good.id.upper())):
        with pytest.raises(NotFound):
            pictures.read(origin, face_id)


def test_deleted_faces_are_gone_with_all_their_versions(
    servers: Stack, bucket: Bucket, index: Index, capfd: pytest.CaptureFixture[str]
):
    """Each is logged with its key and the user."""
    made = [put(bucket, make_face()) for _ in range(3)]
    index.add(made)
    removed: list[str] = []
    pictures = Pictures(bucket, index, lambda names: removed.extend(name[1] for name in names))
    result = pictures.delete([(one.origin, one.id) for one in made[:2]], "somebody")
    assert [name[1] for name in result.done] == removed == [one.id for one in made[:2]]
    assert not result.failed
    assert ids(index) == {made[2].id}
    assert [key for key in servers.keys(bucket.prefix) if key.endswith(".jpg")] == [
        keys.of_id(bucket.prefix, made[2].origin, made[2].id)
    ]
    said = "".join(capfd.readouterr())
    assert said.count("face deleted") == 2
    assert said.count("somebody") == 2
    with pytest.raises(NotFound):
        pictures.delete([(DOOR, "x"), (made[2].origin, made[2].id)], "somebody")
    assert ids(index) == {made[2].id}


def test_a_bucket_that_cannot_be_used_is_named(servers: Stack, bucket: Bucket, tmp_path: Path):
    """In one line, for the page."""
    other = Bucket(settings_of(servers, tmp_path, S3_BUCKET="no-such-bucket"))
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        list(other.cameras())
    assert other.problem is not None
    assert "\n" not in other.problem


def test_the_sink_announces_what_it_has_stored(servers: Stack, stack: Stack, tmp_path: Path):
    """Faces and pictures of other publishers, with key and attributes; not what goes into quarantine."""
    stack.start_servers()
    stack.start_connected("s3sink")
    found: list[IndexedFace] = []
    links: list[bool] = []
    statuses: list[str] = []
    stop = Stop()
    announcements = Announcements(
        settings_of(stack, tmp_path),
        stop,
        on_stored=found.extend,
        on_status=lambda topic, payload: statuses.append(topic),
        on_link=links.append,
    )
    announcements.start()
    await_true(lambda: announcements.connected, 10, "the gallery is connected")
    seen = make_face(jpeg=JPEG, quality=0.415)
    with Peer(stack.watch_port, "devices/+/receipts/+", "devices/+/stored/+") as peer:
        topic = "devices/jetson-1/faces/door"
        peer.session.publish(topic, JPEG, qos=1, properties=face.encode(seen)).result(10)
        peer.session.publish(topic, JPEG, qos=1).result(10)
        peer.session.publish(topic, b"no picture", qos=1).result(10)
        peer.session.publish("devices/jetson-1/status/forwarder/jetson-1", b"{}", qos=1).result(10)
        await_true(lambda: len(found) == 2 and bool(statuses), 10, "both are announced")
        await_true(lambda: len(stack.keys()) == 3, 10, "all are stored")
        assert {one.id for one in found} == {key[-40:-4] for key in stack.keys("faces/device=")}
        (shown,) = [one for one in found if one.id == seen.id]
        assert (shown.confidence, shown.track, shown.box, shown.framesize) == (0.934, 17, seen.box, seen.framesize)
        assert shown.quality == 0.415
        bad = [("faces/x", DOOR), (keys.of_id("faces", DOOR, seen.id), Origin("jetson-2", "door"))]
        for key, origin in bad:
            payload, properties = stored.encode(key, {})
            peer.session.publish(topics.stored(origin), payload, qos=1, properties=properties).result(10)
        await_true(lambda: announcements.invalid == 2, 10, "others are refused")
    announcements.close()
    stop.set()
    assert links == [True, False]
    assert statuses == ["devices/jetson-1/status/forwarder/jetson-1"]


@pytest.mark.slow
def test_no_face_is_missed_whatever_is_away(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Broker, S3 and gallery are killed in turn, and faces are stored meanwhile."""
    for name, value in stack.aws().items():
        monkeypatch.setenv(name, value)
    stack.start_servers()
    sink = stack.start_connected("s3sink")
    now = datetime.now(UTC).replace(microsecond=0)
    expected: set[str] = set()

    def store(count: int) -> None:
        with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
            for seen in (make_face(jpeg=JPEG, captured_at=now) for _ in range(count)):
                expected.add(seen.id)
                topic = "devices/jetson-1/faces/door"
                peer.session.publish(topic, JPEG, qos=1, properties=face.encode(seen)).result(10)
            peer.await_messages(count, 60)

    def run_gallery() -> tuple[Stop, Index, Filling, Announcements]:
        stop, settings = Stop(), settings_of(stack, tmp_path)
        index = Index(tmp_path / "index.db", "x", ZoneInfo("UTC"))
        filling = Filling(
            Bucket(settings), index, stop, per_second=1000, on_found=lambda faces: None, on_removed=lambda names: None
        )
        announcements = Announcements(
            settings,
            stop,
            on_stored=lambda faces: list.clear(index.add(faces)),
            on_status=lambda topic, payload: None,
            on_link=filling.on_link,
        )
        filling.start()
        announcements.start()
        return stop, index, filling, announcements

    store(2)
    stop, index, filling, announcements = run_gallery()
    await_true(lambda: ids(index) == expected and filling.progress() is None, 20, "what was there is found")
    await_true(lambda: announcements.connected, 10, "the broker is connected")
    store(2)
    await_true(lambda: ids(index) == expected, 10, "what is announced is found")
    stack.programs["s3"].kill()
    stack.start_s3()
    store(1)
    await_true(lambda: ids(index) == expected, 20, "after S3 was away")
    stack.programs["cloud-broker"].kill()
    await_true(lambda: not announcements.connected, 10, "the broker is away")
    missed = make_face(captured_at=now, jpeg=JPEG)
    key = keys.of_face("faces", missed.origin, missed.captured_at, missed.id)
    stack.s3().put_object(Bucket=BUCKET, Key=key, Body=JPEG, Metadata=dict(face.encode(missed).user_properties))
    expected.add(missed.id)
    stack.start_broker("cloud-broker")
    await_true(lambda: ids(index) == expected, 30, "what was stored while the broker was away is found")
    await_true(lambda: sink.output().count("connected    ") == 2, 30, "the sink is back")
    announcements.close()
    stop.set()
    store(2)
    stop, index, filling, announcements = run_gallery()
    await_true(lambda: ids(index) == expected and filling.progress() is None, 30, "what was stored while it was away")
    assert all(tile.face.confidence for tile in index.page(Filters()).tiles)
    announcements.close()
    stop.set()


def test_a_full_disk_is_retried(servers: Stack, bucket: Bucket, index: Index, capfd: pytest.CaptureFixture[str]):
    """The index is completed when there is room."""
    made = put(bucket, make_face())
    index._database.writer.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        index.add(IndexedFace(DOOR, new_id(CAPTURED_AT)) for _ in range(1000))
    assert index.count == 0
    stop = Stop()
    filling = Filling(bucket, index, stop, per_second=1000, on_found=lambda faces: None, on_removed=lambda names: None)
    filling.start()
    await_true(lambda: ids(index) == {made.id} and filling.progress() is None, 20, "it is filled")
    stop.set()


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_denied_face_is_missing_if_it_is_not_listed(
    servers: Stack, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_listed: bool
):
    """AWS denies reading an object that does not exist, unless the whole bucket may be listed."""
    key = keys.of_id("faces", DOOR, new_id(CAPTURED_AT))

    def script(request: Request) -> list[bytes | object]:
        if "list-type=2" in request.target:
            return [listing(key if is_listed else None, 1)]
        return [response(403, "" if request.method == "HEAD" else "AccessDenied")]

    with ScriptedS3(script) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{HOST}:{server.port}")
        other = Bucket(settings_of(servers, tmp_path))
        for read in (other.read, other.attributes):
            with pytest.raises(Unavailable if is_listed else NotFound):
                read(key)
        assert (other.problem is not None) == is_listed


@pytest.mark.slow
def test_a_gallery_that_is_stopped_while_it_fills_its_index_ends_with_status_0(stack: Stack):
    """Its threads may still be writing to the index."""
    stack.start_servers()
    client = stack.s3()
    made = [make_face(captured_at=CAPTURED_AT + timedelta(seconds=number)) for number in range(400)]

    def store(seen: Face) -> None:
        key = keys.of_face("faces", seen.origin, seen.captured_at, seen.id)
        client.put_object(Bucket=BUCKET, Key=key, Body=JPEG, Metadata=dict(face.encode(seen).user_properties))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, made))
    port = free_port()
    gallery = stack.start_connected("gallery", GALLERY_FILL_PER_SECOND="10000", METRICS_PORT=str(port))
    await_true(lambda: scrape(port)["facewire_gallery_described_total"] > 0, 30, "it reads metadata")
    assert scrape(port)["facewire_gallery_faces_undescribed"] > 0
    assert gallery.stop() == 0
