"""A face as the index knows it, and the cameras, tiles and pages made of faces."""

from dataclasses import dataclass
from typing import Self

from cloud.gallery.index import attributes_in_s3
from wire import keys
from wire.errors import BadMessage
from wire.topics import Origin

MAX_MS = 1 << 42
"""Times from the year 2109 on are not indexed."""


@dataclass(frozen=True, slots=True)
class IndexedFace:
    """A face or picture in S3. Its time and its key follow from its origin and its id."""

    origin: Origin
    id: str
    """UUIDv7 of a face, UUIDv8 of a picture of another publisher."""
    confidence: float | None = None
    """0 to 1. None: a picture of another publisher, or not known yet."""
    track: int | None = None
    """The same for the same face in successive frames of one camera. None: not known."""
    box: tuple[int, int, int, int] | None = None
    """x, y, width, height in pixels of the frame."""
    framesize: tuple[int, int] | None = None
    """Width and height of the frame in pixels."""
    quality: float | None = None
    """Of the picture, 0 to 1. None: an older detector, a picture of another publisher, or not known yet."""

    @property
    def captured_ms(self) -> int:
        """The time in the id: milliseconds since 1970, UTC."""
        return ms_of_id(self.id)

    @property
    def size(self) -> int:
        """The shorter side of the box in pixels; 0 if it is not known."""
        return min(self.box[2:]) if self.box else 0

    @classmethod
    def of_key(cls, prefix: str, key: str, attributes: dict[str, str] | None = None) -> Self:
        """Return the face with a key, with those of its attributes that are valid.

        Raises:
            BadMessage: it is not a key of a face, or its time is out of range.
        """
        origin, face_id = keys.parse(prefix, key)
        if ms_of_id(face_id) >= MAX_MS:
            raise BadMessage(f"{key!r}: expected a time before 2109")
        known = attributes or {}
        return cls(
            origin,
            face_id,
            confidence=attributes_in_s3.confidence(known),
            track=attributes_in_s3.track(known),
            box=attributes_in_s3.box(known),
            framesize=attributes_in_s3.framesize(known),
            quality=attributes_in_s3.quality(known),
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """A visit: pictures of one track of one camera, each at most :data:`MAX_GAP_MS` after the one before."""

    face: IndexedFace
    """The newest picture."""
    count: int
    """Number of pictures, at most :data:`MAX_COUNT`."""
    best: IndexedFace
    """The picture to show."""
    first_ms: int
    """Time of the oldest picture: milliseconds since 1970, UTC."""


MAX_GAP_MS = 120_000
"""Maximum time between two pictures of a visit."""
MAX_COUNT = 500
"""Maximum number of pictures of a visit that are counted."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some tiles, newest first."""

    tiles: tuple[Tile, ...]
    next: str | None
    """What to pass as ``before`` for the next page; None if there is none. A page may be empty and have a next one."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of which there are faces."""

    origin: Origin
    count: int
    """Number of faces."""
    newest_ms: int
    """Time of the newest one: milliseconds since 1970, UTC."""


def ms_of_id(face_id: str) -> int:
    """Return the milliseconds in a UUIDv7 or UUIDv8."""
    return int(face_id[:8] + face_id[9:13], 16)
