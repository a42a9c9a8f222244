"""Checks that a payload is a complete JPEG, by its structure alone. Untrusted images are never decoded.

Layout: ITU-T T.81 (09/92), annex B.
"""

from wire.errors import BadMessage

_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a length: TEM and the restart markers."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15: the markers 0xC0 to 0xCF except DHT, JPG and DAC."""
_ARITHMETIC = frozenset((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
"""Those of them with arithmetic coding, which has no minimum of bits for a block."""
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
MAX_PIXELS = 1 << 28
"""Maximum number of pixels of an image: 16,384 x 16,384."""
MAX_PIXELS_PER_BYTE = 1024
"""Huffman coding needs at least one bit for a block of 8 x 8 pixels (T.81, annex F.1.2), so a byte has at most 512. A
plain area has 255 with the best tables. An image that claims more than twice the maximum is empty."""


def check(data: bytes) -> None:
    """Check that ``data`` is a complete JPEG: start, frame header with a size, scan with data, and end of image.

    Raises:
        BadMessage: it is empty, not a JPEG, damaged or truncated, or claims more pixels than it can have.
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
            _check_size(data, marker, int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 3 : at + 5]))
            has_frame_header = True
        at += length
        if marker == _START_OF_SCAN:
            break
    if not has_frame_header:
        raise BadMessage("the JPEG has a scan before its frame header")
    end = data.rfind(b"\xff\xd9", at)
    if end < 0:
        raise BadMessage("the JPEG is truncated: it has no end-of-image marker")
    if end == at:
        raise BadMessage("the JPEG has a scan without data")


def _check_size(data: bytes, frame_header: int, width: int, height: int) -> None:
    pixels = width * height
    if pixels > MAX_PIXELS or (frame_header not in _ARITHMETIC and pixels > MAX_PIXELS_PER_BYTE * len(data)):
        raise BadMessage(f"the JPEG claims {width} x {height} pixels in {len(data)} bytes")


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
