"""One run: an attack after the other, and what the honest devices and S3 have at the end."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.program import await_true
from tests.thief.report import Bounds, Result
from tests.thief.site import THIEF_ADDRESS, Site
from tests.thief.watch import BROKER, SINK
from tests.thief.ways import NAMELESS

_FACES_PER_SECOND = 4.0
"""Rate of each honest device, less than its budget."""
_FACES_PER_HOUR, _BYTES_PER_HOUR = 18_000, 512 << 20
_CALM_FACES = 6
"""Faces in the outboxes of three honest devices that wait for nothing."""
_NAMED_SECONDS = 15
_CALM_SECONDS = 60.0
_DRAIN_SECONDS = 120.0


class Run:
    """Attacks in several ways."""

    def __init__(self, folder: Path, ways: Mapping[str, Sequence[str]], seconds: float) -> None:
        """Set up a run.

        Args:
            folder: for data and logs.
            ways: by name, the ways of each attack.
            seconds: how long each attack takes.
        """
        budget = {"DEVICE_FACES_PER_HOUR": str(_FACES_PER_HOUR), "DEVICE_BYTES_PER_HOUR": str(_BYTES_PER_HOUR)}
        self._site = Site(folder, ways, _FACES_PER_SECOND, budget)
        self._ways, self._seconds = ways, seconds
        self._windows: dict[str, tuple[float, float]] = {}
        """When each attack began and when the next one could begin, on the monotonic clock."""

    def run(self) -> tuple[list[Result], Bounds]:
        """Make all attacks. Return their results, and what each thief may have stored."""
        with self._site:
            began_at = time.monotonic()
            results = [self._attack(way, ways) for way, ways in self._ways.items()]
            self._drain()
            hours = 1 + (time.monotonic() - began_at) / 3600
            self._take_stock(results)
        return results, Bounds(_FACES_PER_HOUR * hours, _BYTES_PER_HOUR * hours)

    def _attack(self, way: str, ways: Sequence[str]) -> Result:
        site, name = self._site, Site.name_of_thief(way)
        told = THIEF_ADDRESS if way in NAMELESS else name
        print(f"{way} ...", flush=True)
        logs = {path: path.stat().st_size for path in site.logs()}
        site.watch.peaks()
        ends, before, began_at = len(site.watch.ends), site.counts(), time.monotonic()
        done = site.attack(ways, name, self._seconds)
        seconds, after = time.monotonic() - began_at, site.counts()
        calm_seconds = self._await_calm()
        is_named = self._await_name(told, logs)
        self._windows[way] = began_at, time.monotonic()
        peaks = site.watch.peaks()
        written = [_read_from(path, size) for path, size in logs.items()]
        receipted = sum(c.receipted for c in after) - sum(c.receipted for c in before)
        committed = sum(c.committed for c in after) - sum(c.committed for c in before)
        return Result(
            way=way,
            seconds=round(seconds, 1),
            megabytes=sum(one.get("bytes", 0) for one in done) / 1e6,
            connections=sum(one.get("connections", 0) for one in done),
            cpu=sum(one["cpu"] for one in done) / seconds,
            broker_bytes=peaks[BROKER],
            sink_bytes=peaks[SINK],
            broker_bytes_after=site.watch.memory(BROKER),
            sink_bytes_after=site.watch.memory(SINK),
            back_seconds=[end.back_seconds for end in site.watch.ends[ends:]],
            rate=receipted / max(1, committed),
            receipted=receipted,
            calm_seconds=calm_seconds,
            log_bytes=sum(map(len, written)),
            is_named=is_named,
            ended=[ended for device in site.devices for ended in device.ended],
        )

    def _await_name(self, told: str, logs: Mapping[Path, int]) -> bool:
        """Wait until a log names the thief. The guard writes every few seconds. Return whether one does."""

        def is_named() -> bool:
            return any(told.encode() in _read_from(path, size) for path, size in logs.items())

        try:
            await_true(is_named, _NAMED_SECONDS, "a log names the thief")
        except TimeoutError:
            return False
        return True

    def _await_calm(self) -> float | None:
        """Wait until the outboxes of the honest devices are empty, and return how long it took."""
        began_at = time.monotonic()
        try:
            await_true(self._is_calm, _CALM_SECONDS, "the honest devices are served again")
        except TimeoutError:
            return None
        return time.monotonic() - began_at

    def _is_calm(self) -> bool:
        return self._site.watch.all_are_back and self._site.pending() <= _CALM_FACES

    def _drain(self) -> None:
        """Let the honest devices take no more pictures, and wait until their outboxes are empty."""
        for device in self._site.devices:
            device.records.end()
        ended_at = time.monotonic()

        def is_empty() -> bool:
            return all(count.at > ended_at + 1 and count.pending == 0 for count in self._site.counts())

        try:
            await_true(is_empty, _DRAIN_SECONDS, "the outboxes of the honest devices are empty")
        except TimeoutError as late:
            print(late, flush=True)  # the faces in it count as lost

    def _take_stock(self, results: Sequence[Result]) -> None:
        """Compare what the honest devices have committed with S3, and count what each thief has stored."""
        stored = self._site.stored()
        times = Counter(key.removesuffix(".jpg")[-36:] for keys in stored.values() for key, _ in keys)
        committed = {i: at for device in self._site.devices for i, at in device.records.committed().items()}
        for result in results:
            began_at, ended_at = self._windows[result.way]
            ids = [face_id for face_id, at in committed.items() if began_at <= at < ended_at]
            result.committed = len(ids)
            result.lost = sum(times[face_id] == 0 for face_id in ids)
            result.twice = sum(times[face_id] > 1 for face_id in ids)
            own = stored.get(Site.name_of_thief(result.way), [])
            result.objects, result.object_bytes = len(own), sum(size for _, size in own)


def _read_from(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()
