"""Pictures of faces: read from S3 for the browser, and deleted on request. Only JPEGs are ever passed on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from cloud.gallery.bucket import Bucket, NotFound
from cloud.gallery.index.index import Index, Name
from wire import jpeg, keys
from wire.errors import BadMessage, FacewireError
from wire.topics import Origin

_log = structlog.get_logger("gallery")


class NotAPicture(FacewireError):
    """The object is not a JPEG. It is never passed on."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A face as S3 has it."""

    jpeg: bytes
    attributes: dict[str, str]
    """The metadata of the object."""


@dataclass(slots=True)
class Deleted:
    """The result of a deletion."""

    done: list[Name] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """The reason for each id that is not deleted."""


class Pictures:
    """Reads and deletes pictures. Every call blocks."""

    def __init__(self, bucket: Bucket, index: Index, on_deleted: Callable[[Sequence[Name]], None]) -> None:
        """Set up; ``on_deleted`` is called with faces that S3 no longer has."""
        self._bucket, self._index, self._on_deleted = bucket, index, on_deleted

    def read(self, origin: Origin, face_id: str) -> Picture:
        """Return a picture.

        Raises:
            NotFound: there is no such face.
            NotAPicture: the object is not a JPEG.
            Unavailable: S3 did not answer as expected.
        """
        key = self._key(origin, face_id)
        try:
            content, attributes = self._bucket.read(key)
        except NotFound:
            self._forget([(origin, face_id)])
            raise
        try:
            jpeg.check(content)
        except BadMessage:
            raise NotAPicture("the object is not a JPEG, so it is not shown") from None
        return Picture(content, attributes)

    def delete(self, faces: Sequence[Name], user: str) -> Deleted:
        """Delete faces, at most 1,000, and log each with the user.

        Raises:
            NotFound: an id is not valid.
            Unavailable: S3 did not answer as expected.
        """
        wanted = {self._key(*name): name for name in faces}
        failed = self._bucket.delete(list(wanted))
        result = Deleted()
        for key, name in wanted.items():
            if key in failed:
                result.failed[name[1]] = failed[key]
                _log.warning("face not deleted", key=key, user=user, reason=failed[key])
            else:
                result.done.append(name)
                _log.info("face deleted", key=key, user=user)
        self._forget(result.done)
        return result

    def _forget(self, names: Sequence[Name]) -> None:
        if self._index.remove(names):
            self._on_deleted(names)

    def _key(self, origin: Origin, face_id: str) -> str:
        try:
            return keys.of_id(self._bucket.prefix, origin, face_id)
        except BadMessage:
            raise NotFound("there is no such face") from None
