"""Is it a JPEG, and all of it? Answered from its structure, without decoding a pixel of a stranger's picture.

Layout: ITU-T T.81 (09/92), annex B.
"""

from wire.errors import BadMessage

_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a length: TEM and the restart markers."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15: what is left of 0xC0 to 0xCF without DHT, JPG and DAC."""
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9


def check(data: bytes) -> None:
    """Accept a whole JPEG: start, frame header with a size, a scan, and the end of the image.

    Raises:
        BadMessage: it is empty, something else, damaged or cut short.
    """
    if not data:
        raise BadMessage("the payload is empty: expected a JPEG")
    if data[:3] != b"\xff\xd8\xff":
        raise BadMessage(f"the payload starts with {data[:3].hex()}: expected a JPEG, ffd8ff")
    at, sized = 2, False
    while True:
        marker, at = _next_marker(data, at)
        if marker in _STANDALONE:
            continue
        if marker == _END_OF_IMAGE:
            raise BadMessage("the JPEG ends before a scan")
        length = int.from_bytes(data[at : at + 2])
        if length < 2 or at + length > len(data):
            raise BadMessage("the JPEG is cut short in a header")
        if marker in _FRAME_HEADERS:
            if length < 8 or not any(data[at + 3 : at + 5]) or not any(data[at + 5 : at + 7]):
                raise BadMessage("the JPEG has no size")
            sized = True
        at += length
        if marker == _START_OF_SCAN:
            break
    if not sized:
        raise BadMessage("the JPEG has a scan before its frame header")
    if data.rfind(b"\xff\xd9", at) < 0:
        raise BadMessage("the JPEG is cut short: no end-of-image marker")


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at ``at``, any fill bytes before it skipped, and where its segment begins."""
    if at + 1 >= len(data):
        raise BadMessage("the JPEG is cut short in a header")
    if data[at] != 0xFF:
        raise BadMessage("the JPEG is damaged: no marker where one is due")
    while at < len(data) and data[at] == 0xFF:
        at += 1
    if at >= len(data):
        raise BadMessage("the JPEG is cut short in a header")
    return data[at], at + 1
