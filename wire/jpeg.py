"""Checks that a payload is a complete JPEG, by its structure alone. Untrusted images are never decoded.

Layout: ITU-T T.81 (09/92), annex B.
"""

from wire.errors import BadMessage

_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a length: TEM and the restart markers."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15: the markers 0xC0 to 0xCF except DHT, JPG and DAC."""
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9


def check(data: bytes) -> None:
    """Check that ``data`` is a complete JPEG: start, frame header with a size, scan, and end of image.

    Raises:
        BadMessage: it is empty, not a JPEG, damaged or truncated.
    """
    if not data:
        raise BadMessage("the payload is empty: expected a JPEG")
    if data[:3] != b"\xff\xd8\xff":
        raise BadMessage(f"the payload starts with {data[:3].hex()}: expected a JPEG, ffd8ff")
    at, has_frame_header = 2, False
    while True:
        marker, at = _next_marker(data, at)
        if marker in _STANDALONE:
            continue
        if marker == _END_OF_IMAGE:
            raise BadMessage("the JPEG ends before a scan")
        length = int.from_bytes(data[at : at + 2])
        if length < 2 or at + length > len(data):
            raise BadMessage("the JPEG is truncated in a header")
        if marker in _FRAME_HEADERS:
            if length < 8 or not any(data[at + 3 : at + 5]) or not any(data[at + 5 : at + 7]):
                raise BadMessage("the JPEG has no size")
            has_frame_header = True
        at += length
        if marker == _START_OF_SCAN:
            break
    if not has_frame_header:
        raise BadMessage("the JPEG has a scan before its frame header")
    if data.rfind(b"\xff\xd9", at) < 0:
        raise BadMessage("the JPEG is truncated: it has no end-of-image marker")


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at ``at``, after any fill bytes, and the offset of its segment."""
    if at + 1 >= len(data):
        raise BadMessage("the JPEG is truncated in a header")
    if data[at] != 0xFF:
        raise BadMessage("the JPEG is damaged: expected a marker")
    while at < len(data) and data[at] == 0xFF:
        at += 1
    if at >= len(data):
        raise BadMessage("the JPEG is truncated in a header")
    return data[at], at + 1
