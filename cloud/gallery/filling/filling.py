"""Keeps the index equal to S3: compares it with S3 at the start, after each interruption, and at intervals.

While the broker is connected, the sink announces each face. What it announced before the connection was made, or while
it was interrupted, is only in S3.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from cloud.gallery.bucket import Bucket, NotFound, Unavailable
from cloud.gallery.filling.comparison import Comparison
from cloud.gallery.filling.descriptions import Descriptions
from cloud.gallery.index.face import IndexedFace
from cloud.gallery.index.index import Index, Name
from wire.process.backoff import delay_seconds
from wire.process.lifecycle import Stop, spawn

RECENT_SECONDS = 900.0
"""Interval between comparisons of today and yesterday while the broker is connected."""
WITHOUT_BROKER_SECONDS = 10.0
"""The same while it is not connected."""
EVERYTHING_SECONDS = 86400.0
"""Interval between comparisons of everything."""
OVERLAP = timedelta(minutes=10)
"""A face may be stored so much later than it was captured, and still be found first after an interruption."""
INITIAL_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0

_log = structlog.get_logger("gallery")


class Filling:
    """Two threads: one compares, and one describes what was found."""

    def __init__(
        self,
        bucket: Bucket,
        index: Index,
        stop: Stop,
        *,
        per_second: float,
        on_found: Callable[[list[IndexedFace]], None],
        on_removed: Callable[[Sequence[Name]], None],
    ) -> None:
        """Set up.

        Args:
            bucket: the bucket.
            index: the index.
            stop: ends the threads.
            per_second: maximum number of requests per second for attributes.
            on_found: called with faces that were found in S3, when their attributes are known.
            on_removed: called with faces that S3 no longer has.
        """
        self._bucket, self._index, self._stop = bucket, index, stop
        self.comparison = Comparison(bucket, index, on_added=lambda faces: self._more.set(), on_removed=on_removed)
        self.descriptions = Descriptions(
            bucket, index, stop, per_second=per_second, on_described=on_found, on_removed=on_removed
        )
        self._more, self._wake = threading.Event(), threading.Event()
        self._is_connected = False
        self._interrupted_at: datetime | None = None
        self._compared_at = self._everything_at = float("-inf")
        self.is_comparing = True
        """Whether everything is being compared, or has not been compared yet."""

    def start(self) -> None:
        """Start both threads."""
        spawn("compare", lambda: self._repeat(self._compare), self._stop)
        spawn("describe", lambda: self._repeat(self._describe), self._stop)

    def on_link(self, connected: bool) -> None:
        """Note that the connection to the broker is made or lost."""
        if not connected and self._is_connected:
            self._interrupted_at = datetime.now(UTC)
        self._is_connected = connected
        self._compared_at = float("-inf")
        self._wake.set()

    def progress(self) -> dict[str, int] | None:
        """Return how many faces S3 has listed, and how many are not described; None if nothing is left to do."""
        waiting = self._index.undescribed_count()
        return {"listed": self.comparison.listed, "waiting": waiting} if waiting or self.is_comparing else None

    def _repeat(self, step: Callable[[], None]) -> None:
        """Repeat ``step``. Retry with backoff while S3 does not answer, or the disk is full."""
        attempt = 0
        while not self._stop:
            try:
                step()
                attempt = 0
            except (Unavailable, NotFound, sqlite3.OperationalError) as error:
                if attempt == 0:
                    _log.warning("the index is not complete, retrying", reason=str(error))
                self._stop.wait(delay_seconds(attempt, INITIAL_RETRY_SECONDS, MAX_RETRY_SECONDS))
                attempt += 1

    def _compare(self) -> None:
        if self._bucket.problem is not None:
            self._bucket.check()
        now = time.monotonic()
        interval = RECENT_SECONDS if self._is_connected else WITHOUT_BROKER_SECONDS
        since, self._interrupted_at = self._interrupted_at, None
        try:
            if since is not None:
                self.comparison.recent(datetime.now(UTC), self._must_end, since=since - OVERLAP)
                since = None
            if now - self._compared_at >= interval:
                self.comparison.recent(datetime.now(UTC), self._must_end)
                self._compared_at = now
        finally:
            self._interrupted_at = self._interrupted_at or since
        if now - self._everything_at >= EVERYTHING_SECONDS:
            self.is_comparing = True
            self.comparison.everything(self._must_end)
            self.is_comparing, self._everything_at = False, now
            _log.info("compared with S3", faces=self._index.count)
        self._wake.wait(1.0)
        self._wake.clear()

    def _describe(self) -> None:
        self._more.clear()
        if not self.descriptions.step():
            self._more.wait(1.0)

    def _must_end(self) -> bool:
        return bool(self._stop)
