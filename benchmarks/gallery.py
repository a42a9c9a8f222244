"""The gallery: from the write to S3 to the tile in Chromium, queries over a million faces, and filling from S3.

``python -m benchmarks.gallery``. Chromium is that of the system. Times of queries are those of its network panel.
The peer is a page without an index, which lists the bucket for each view.
"""

import asyncio
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from playwright.sync_api import Page, sync_playwright
from prometheus_client import CollectorRegistry

from benchmarks.measure import PeakMemory, benchmark_parser, megabytes, processor, show, spread
from cloud.gallery.index.face import IndexedFace
from cloud.gallery.index.filters import Filters
from cloud.gallery.index.index import Index
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.objects import Kind, S3Object
from cloud.s3sink.settings import WriteSettings
from demo.film import pan_film
from demo.ports import HOST, free_port
from demo.program import NotInstalled, await_true
from demo.stack import BUCKET, Stack
from wire import face, keys, topics
from wire.ids import new_id
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop
from wire.topics import Origin

INDEXED = 1_000_000
LISTED = 100_000
LIVE_SECONDS = 30.0
QUICK_INDEXED, QUICK_LISTED, QUICK_LIVE_SECONDS = 5_000, 300, 4.0
CAMERAS = [Origin(f"jetson-{device}", camera) for device in range(5) for camera in ("door", "yard")]
PARTS = ("live", "queries", "filling")
WRITES = 32
REPEATS = 5
DAY = "2026-10-15"
QUERIES = {
    "first page": "",
    "single pictures": "single=1",
    "device": "device=jetson-3",
    "camera": "camera=yard",
    "day": f"day={DAY}",
    "time of day": "from=02:00&to=02:15",
    "time of day, over midnight": "from=23:00&to=00:30",
    "least confidence": "confidence=0.95",
    "all of them": f"device=jetson-4&camera=door&day={DAY}&from=08:00&to=20:00&confidence=0.95",
    "a device without faces": "device=nobody",
}
_WATCH_TILES = """() => {
    window.seen = {};
    const look = () => {
        for (const image of document.querySelectorAll("main img")) {
            const id = (image.getAttribute("src") || "").slice(-40, -4);
            if (id.length !== 36 || window.seen[id]) continue;
            if (image.complete && image.naturalWidth) window.seen[id] = Date.now();
            else image.addEventListener("load", look, {once: true});
        }
    };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
    look();
}"""
_LOADED = """() => {
    const entry = performance.getEntriesByType("resource").find((one) => one.name.includes("/api/faces"));
    return entry && entry.responseEnd ? entry.responseEnd - entry.startTime : null;
}"""
"""How long the page's own request for its first faces took."""
_FETCH = """async (path) => {
    performance.clearResourceTimings();
    await (await fetch(path)).text();
    return performance.getEntriesByType("resource").at(-1).duration;
}"""


def main() -> None:
    """Measure, and print the tables."""
    parser = benchmark_parser("benchmarks.gallery", __doc__)
    parser.add_argument("--only", choices=PARTS, help="measure one part only")
    options = parser.parse_args()
    quick, only = options.quick, options.only
    log.configure("error", "console")
    with tempfile.TemporaryDirectory() as folder:
        if only in (None, "live"):
            _live(Path(folder) / "live", QUICK_LIVE_SECONDS if quick else LIVE_SECONDS)
        if only in (None, "queries"):
            _queries(Path(folder) / "queries", QUICK_INDEXED if quick else INDEXED)
        if only in (None, "filling"):
            _filling(Path(folder) / "filling", QUICK_LISTED if quick else LISTED)


def _live(folder: Path, seconds: float) -> None:
    """Measure from the receipt, which the sink sends after its write, to the picture in the page."""
    written: dict[str, float] = {}

    def on_receipt(message: Message) -> None:
        data = message.properties.correlation_data
        if data is not None:
            written[data.decode()] = time.time() * 1000

    with Stack(folder, watched=True, CAMERA_SOURCE=str(pan_film()), CAMERA_LOOP="true") as stack:
        stack.start_servers()
        stop = Stop()
        observer = Session(
            Endpoint("cloud broker", HOST, stack.watch_port),
            ConnectOptions("observer"),
            stop,
            on_message=on_receipt,
            subscriptions=[(topics.ALL_DEVICES_RECEIPTS, 1)],
        )
        observer.start()
        await_true(lambda: observer.connected, 10, "the observer is connected")
        for name in ("s3sink", "forwarder", "gallery"):
            stack.start_connected(name)
        with _browser(stack, "?single=1") as page:
            page.evaluate(_WATCH_TILES)
            stack.start("detector")
            await_true(lambda: bool(written), 30, "a face is stored")
            page.wait_for_timeout(seconds * 1000)
            stack.programs["detector"].stop()
            page.wait_for_timeout(2000)
            seen: dict[str, float] = page.evaluate("window.seen")
        observer.close()
        stop.set()
    delays = sorted(seen[one] - at for one, at in written.items() if one in seen)
    if len(delays) < 2:
        raise RuntimeError(f"{len(written)} faces were stored, and {len(seen)} were seen")
    quantiles = statistics.quantiles(delays, n=100, method="inclusive")
    show(
        f"From the write to S3 to the picture in Chromium, beside a detector; {processor()}",
        ["faces stored", "seen", "p50", "p95", "p99"],
        [[str(len(written)), str(len(delays)), *(f"{quantiles[part - 1]:.0f} ms" for part in (50, 95, 99))]],
    )


def _queries(folder: Path, count: int) -> None:
    """Measure queries of a gallery with ``count`` faces in its index. S3 is away, so the index stays as it is."""
    gallery = folder / "gallery"
    gallery.mkdir(parents=True)
    began = time.perf_counter()
    size = _fill_index(gallery / "index.db", count)
    filled = time.perf_counter() - began
    with Stack(folder) as stack:
        stack.start_broker("cloud-broker")
        away = f"http://{HOST}:{free_port()}"
        program = stack.start_connected("gallery", AWS_ENDPOINT_URL_S3=away, GALLERY_TIME_ZONE="Europe/Berlin")
        rows = []
        with PeakMemory({"gallery": program.pid}) as memory, _browser(stack, "") as page:
            page.wait_for_function(_LOADED)
            first = page.evaluate(_LOADED)
            page.wait_for_load_state("networkidle")
            for name, query in QUERIES.items():
                times = [page.evaluate(_FETCH, f"/api/faces?{query}") for _ in range(REPEATS)]
                days = [page.evaluate(_FETCH, f"/api/days?{query}") for _ in range(REPEATS)]
                rows.append([name, *(spread(one, ".0f") for one in (times, days))])
    rows.insert(0, ["when the page is opened", f"{first:.0f}", ""])
    show(
        f"{count} faces in the index; milliseconds, of {REPEATS} the median; {processor()}",
        ["filter", "faces", "days"],
        rows,
    )
    show(
        "Size of the index and of the service",
        ["faces", "index", "peak memory of the service", "added to the index"],
        [[str(count), megabytes(size), megabytes(memory.peak_bytes["gallery"]), f"{count / filled:.0f} faces/s"]],
    )


def _filling(folder: Path, count: int) -> None:
    """Measure how fast an empty index is filled from S3, and how long a page without an index takes."""
    with Stack(folder) as stack:
        stack.start_servers()
        os.environ.update(stack.aws())
        asyncio.run(_write(count))
        began = time.perf_counter()
        program = stack.start_connected("gallery", GALLERY_FILL_PER_SECOND="10000", METRICS_PORT=str(free_port()))
        said = program.output
        with PeakMemory({"gallery": program.pid}) as memory:
            await_true(lambda: "compared with S3" in said(), 600, "everything is listed")
            listed = time.perf_counter() - began
            index = folder / "gallery" / "index.db"
            await_true(lambda: _undescribed(index) == 0, 3600, "everything is described")
            described = time.perf_counter() - began
        began = time.perf_counter()
        newest = max(stack.keys("faces/device="))
        plain = time.perf_counter() - began
    show(
        f"{count} objects in SeaweedFS; {processor()}",
        ["", "seconds", "objects/s"],
        [
            ["the gallery lists them", f"{listed:.1f}", f"{count / listed:.0f}"],
            ["the gallery has read all metadata", f"{described:.1f}", f"{count / described:.0f}"],
            ["a page without an index lists the bucket", f"{plain:.1f}", f"{count / plain:.0f}"],
            ["peak memory of the gallery", megabytes(memory.peak_bytes["gallery"]), ""],
        ],
    )
    if not newest:
        raise RuntimeError("the bucket is empty")


def _faces(count: int) -> Iterator[IndexedFace]:
    """Yield faces of ten cameras over about 50 days, with about ten pictures per visit."""
    chance = random.Random(1)  # noqa: S311 (the same faces in each run)
    moment = datetime(2026, 10, 1, tzinfo=UTC)
    tracks = dict.fromkeys(CAMERAS, 0)
    for _ in range(count):
        moment += timedelta(milliseconds=int(chance.expovariate(1 / 4500)) + 1)
        origin = CAMERAS[min(len(CAMERAS) - 1, int(chance.expovariate(0.4)))]
        tracks[origin] += chance.random() < 0.1
        confidence = round(chance.uniform(0.49, 1) ** 0.5, 3)
        yield IndexedFace(origin, new_id(moment), confidence, tracks[origin], (412, 96, 118, 141), (1280, 720))


def _fill_index(path: Path, count: int) -> int:
    """Add faces to an index and return its size in bytes."""
    index = Index(path, f"{BUCKET}/faces", ZoneInfo("Europe/Berlin"))
    batch: list[IndexedFace] = []
    for one in _faces(count):
        batch.append(one)
        if len(batch) == 1000:
            index.add(batch)
            batch = []
    index.add(batch)
    index.page(Filters())
    index.close()
    return path.stat().st_size


async def _write(count: int) -> None:
    """Write faces of 1 kB to the bucket as the sink does."""
    bucket = Bucket(WriteSettings(s3_bucket=BUCKET), CollectorRegistry())
    bucket.write_without_boto3()
    faces = _faces(count)

    async def write() -> None:
        for one in faces:
            answer = await bucket.writer.put(_object(one), conditional=True, sha256=True)
            if answer.status != 200:
                raise RuntimeError(answer.reason)

    await asyncio.gather(*(write() for _ in range(WRITES)))
    await bucket.close()


def _object(one: IndexedFace) -> S3Object:
    body = b"\xff\xd8" + one.id.encode() * 28 + b"\xff\xd9"
    metadata = {"id": one.id, "confidence": f"{one.confidence:.3f}", "track": str(one.track)}
    metadata |= {"box": "412,96,118,141", "framesize": "1280x720"}
    return S3Object(
        key=keys.of_id("faces", one.origin, one.id),
        body=body,
        content_type=face.CONTENT_TYPE,
        metadata=metadata,
        receipt_topic=None,
        receipt_id=None,
        kind=Kind.FACE,
        sha256=face.digest_of(body),
    )


def _undescribed(path: Path) -> int:
    index = Index(path, f"{BUCKET}/faces", ZoneInfo("UTC"))
    try:
        return index.undescribed_count() if index.count else -1
    finally:
        index.close()


@contextmanager
def _browser(stack: Stack, query: str) -> Iterator[Page]:
    """Yield a page of Chromium that shows the gallery, signed in."""
    found = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    if found is None:
        raise NotInstalled("chromium is not installed: expected chromium or chromium-headless-shell in PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{stack.gallery_address}/sign-in")
        page.fill("input[type=password]", stack.gallery_password())
        page.keyboard.press("Enter")
        page.wait_for_url(f"{stack.gallery_address}/")
        page.goto(f"{stack.gallery_address}/{query}")
        yield page
        browser.close()


if __name__ == "__main__":
    try:
        main()
    except NotInstalled as missing:
        sys.exit(f"facewire: {missing}")
