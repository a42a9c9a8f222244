"""A row of the index: a face in about 40 bytes.

``seq`` orders the faces by time: the milliseconds since 1970, and :data:`TAIL_BITS` bits of the id. If two faces have
the same, the second one takes the next free number.
"""

import struct
import uuid

from cloud.gallery.index.face import IndexedFace
from wire.topics import Origin

TAIL_BITS = 20
UNDESCRIBED = None
"""The confidence of a face whose attributes have not been read."""
NO_CONFIDENCE = -1
"""The confidence of a picture that has none."""
COLUMNS = "seq, camera, tail, confidence, track, geometry, quality"
Row = tuple[int, int, bytes, int | None, int | None, bytes | None, int | None]
"""The values of :data:`COLUMNS`."""
_GEOMETRY = struct.Struct("<iiHHHH")
_MAX_SIDE = 0xFFFF


def first_seq(ms: int) -> int:
    """Return the least number of the faces of a millisecond."""
    return ms << TAIL_BITS


def ms_of(seq: int) -> int:
    """Return the milliseconds in a number."""
    return seq >> TAIL_BITS


def seq_of(face: IndexedFace) -> int:
    """Return the number of a face, unless another face has it."""
    return first_seq(face.captured_ms) | int.from_bytes(tail_of(face.id)[-3:]) & (1 << TAIL_BITS) - 1


def tail_of(face_id: str) -> bytes:
    """Return what the time does not say of an id: 10 bytes."""
    return uuid.UUID(face_id).bytes[6:]


def pack(face: IndexedFace, seq: int, camera: int, *, described: bool) -> Row:
    """Return the values of the columns for a face."""
    confidence: int | None = UNDESCRIBED
    if described:
        confidence = NO_CONFIDENCE if face.confidence is None else round(face.confidence * 1000)
    geometry = None
    if face.box is not None and face.framesize is not None and max(*face.box[2:], *face.framesize) <= _MAX_SIDE:
        geometry = _GEOMETRY.pack(*face.box, *face.framesize)
    quality = None if face.quality is None else round(face.quality * 1000)
    return seq, camera, tail_of(face.id), confidence, face.track, geometry, quality


def unpack(row: Row, origin: Origin) -> IndexedFace:
    """Return the face in a row with all columns."""
    seq, _, tail, confidence, track, geometry, quality = row
    x, y, width, height, frame_width, frame_height = (None,) * 6 if geometry is None else _GEOMETRY.unpack(geometry)
    return IndexedFace(
        origin,
        id_of(seq, tail),
        confidence=None if confidence is None or confidence == NO_CONFIDENCE else confidence / 1000,
        track=track,
        box=None if geometry is None else (x, y, width, height),
        framesize=None if geometry is None else (frame_width, frame_height),
        quality=None if quality is None else quality / 1000,
    )


def id_of(seq: int, tail: bytes) -> str:
    """Return the id of a face."""
    return str(uuid.UUID(bytes=ms_of(seq).to_bytes(6) + tail))
