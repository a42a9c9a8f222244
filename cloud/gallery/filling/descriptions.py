"""Describes faces that S3 has listed: reads their attributes from S3, the newest ones first, at a bounded rate."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cloud.gallery.bucket import Bucket, NotFound
from cloud.gallery.index.face import IndexedFace
from cloud.gallery.index.index import Index, Name
from wire import keys
from wire.process.lifecycle import Stop

BATCH = 100
_THREADS = 4


class Descriptions:
    """Reads attributes."""

    def __init__(
        self,
        bucket: Bucket,
        index: Index,
        stop: Stop,
        *,
        per_second: float,
        on_described: Callable[[list[IndexedFace]], None],
        on_removed: Callable[[Sequence[Name]], None],
    ) -> None:
        """Set up; ``per_second`` is the maximum number of requests per second."""
        self._bucket, self._index, self._stop, self._per_second = bucket, index, stop, per_second
        self._on_described, self._on_removed = on_described, on_removed
        self._pool = ThreadPoolExecutor(_THREADS, "describe")
        self.described = 0
        """Number of faces that were described since the start."""

    def step(self) -> bool:
        """Describe some faces. Return whether there may be more.

        Raises:
            Unavailable: S3 did not answer as expected.
        """
        began = time.monotonic()
        faces = self._index.undescribed(BATCH)
        if not faces:
            return False
        described, gone = [], []
        for face, found in zip(faces, self._pool.map(self._describe, faces), strict=True):
            if found is None:
                gone.append((face.origin, face.id))
            else:
                described.append(found)
        self._index.add(described)
        self.described += len(described)
        if gone and self._index.remove(gone):
            self._on_removed(gone)
        self._on_described(described)
        self._stop.wait(max(0.0, len(faces) / self._per_second - (time.monotonic() - began)))
        return True

    def _describe(self, face: IndexedFace) -> IndexedFace | None:
        """Return the face with its attributes; None if S3 does not have it."""
        key = keys.of_id(self._bucket.prefix, face.origin, face.id)
        try:
            return IndexedFace.of_key(self._bucket.prefix, key, self._bucket.attributes(key))
        except NotFound:
            return None
