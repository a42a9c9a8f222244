"""Compares the index with what S3 lists: adds what is missing, and removes what is no longer there."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from cloud.gallery.bucket import Bucket
from cloud.gallery.index.face import MAX_MS, IndexedFace, ms_of_id
from cloud.gallery.index.index import Index, Name
from wire.topics import Origin

_DAY_MS = 86_400_000


class Comparison:
    """Compares days of cameras."""

    def __init__(
        self,
        bucket: Bucket,
        index: Index,
        *,
        on_added: Callable[[list[IndexedFace]], None],
        on_removed: Callable[[Sequence[Name]], None],
    ) -> None:
        self._bucket, self._index, self._on_added, self._on_removed = bucket, index, on_added, on_removed
        self.listed = 0
        """Number of faces that S3 has listed since the start."""

    def everything(self, must_end: Callable[[], bool]) -> None:
        """Compare every day of every camera, the newest days first.

        Raises:
            Unavailable: S3 did not answer as expected.
        """
        cameras = list(self._bucket.cameras())
        days = [(day, origin) for origin in cameras for day in self._bucket.days(origin)]
        known = {(_day_of(number), origin) for origin in self._known() for number in self._index.days_of(origin)}
        for day, origin in sorted({*days, *known}, key=lambda item: item[0], reverse=True):
            if must_end():
                return
            self.day(origin, day)

    def recent(self, now: datetime, must_end: Callable[[], bool], since: datetime | None = None) -> None:
        """Compare today and yesterday of every camera.

        Args:
            now: the time.
            must_end: whether to give up.
            since: only list faces captured after this time, and remove nothing.

        Raises:
            Unavailable: S3 did not answer as expected.
        """
        cameras = list(self._bucket.cameras())
        first = (now - timedelta(days=1) if since is None else since).date()
        for origin in cameras:
            for back in range((now.date() - first).days + 1):
                if must_end():
                    return
                day = now.date() - timedelta(days=back)
                if since is None or day != since.date():
                    self.day(origin, day)
                else:
                    for ids in self._bucket.faces(origin, day, after=f"{since:%H%M%S}"):
                        self._add(origin, ids)

    def day(self, origin: Origin, day: date) -> None:
        """Compare one day of one camera.

        Raises:
            Unavailable: S3 did not answer as expected.
        """
        start = _ms_of(day)
        position = start
        for ids, end in _parts(self._bucket.faces(origin, day), start + _DAY_MS):
            known = self._index.names_between(origin, position, end)
            self._add(origin, [face_id for face_id in ids if face_id not in known])
            listed = set(ids)
            gone = [(origin, face_id) for face_id in known if face_id not in listed]
            gone = [name for name in gone if not self._index.is_recent(name)]
            if gone and self._index.remove(gone):
                self._on_removed(gone)
            self.listed += len(ids)
            position = end

    def _add(self, origin: Origin, ids: list[str]) -> None:
        faces = [
            IndexedFace(origin, face_id)
            for face_id in ids
            if ms_of_id(face_id) < MAX_MS and not self._index.is_recent((origin, face_id))
        ]
        if faces:
            added = self._index.add(faces, described=False)
            if added:
                self._on_added(added)

    def _known(self) -> list[Origin]:
        return [camera.origin for camera in self._index.cameras()]


def _parts(pages: Iterator[list[str]], end: int) -> Iterator[tuple[list[str], int]]:
    """Yield the ids of each page, with the time before which they are complete. The last time is ``end``.

    Faces of one millisecond may be on two pages, so those of the last millisecond of a page wait for the next one.
    """
    waiting: list[str] = []
    for page in pages:
        waiting += page
        if not waiting:
            continue
        last = ms_of_id(waiting[-1])
        complete = [face_id for face_id in waiting if ms_of_id(face_id) < last]
        if complete:
            yield complete, last
            waiting = waiting[len(complete) :]
    yield waiting, end


def _ms_of(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _day_of(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)
