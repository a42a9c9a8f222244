"""Checking that a payload is a complete JPEG."""

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_jpeg
from wire import jpeg
from wire.errors import BadMessage

COMPLETE = make_jpeg()


@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (480, 640), (90, 120, 3)])
def test_a_complete_jpeg_is_accepted(flags: tuple[int, ...], shape: tuple[int, ...]):
    """Baseline, progressive and with restart markers, in grey and in colour."""
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    jpeg.check(cv2.imencode(".jpg", image, flags)[1].tobytes())


def test_a_jpeg_with_padding_is_accepted():
    """Some cameras add padding."""
    jpeg.check(COMPLETE + b"\x00" * 16)


@pytest.mark.parametrize(
    "length", [0, 1, 2, 3, 4, 20, 100, 400, len(COMPLETE) // 2, len(COMPLETE) - 1, len(COMPLETE) - 2]
)
def test_a_truncated_jpeg_is_rejected(length: int):
    """Wherever it is truncated."""
    with pytest.raises(BadMessage):
        jpeg.check(COMPLETE[:length])


@pytest.mark.parametrize(
    "other", [b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x02\xff\xd9"]
)
def test_other_data_is_rejected(other: bytes):
    """The message contains its first bytes or what is missing."""
    with pytest.raises(BadMessage, match="JPEG"):
        jpeg.check(other)


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_rejected(data: bytes):
    """No other exception is raised."""
    with contextlib.suppress(BadMessage):
        jpeg.check(b"\xff\xd8\xff" + data)


def claiming(width: int, height: int, payload: bytes = COMPLETE, frame_header: int = 0xC0) -> bytes:
    """A JPEG whose frame header is changed."""
    at = payload.index(b"\xff\xc0")
    size = height.to_bytes(2) + width.to_bytes(2)
    return payload[: at + 1] + bytes((frame_header,)) + payload[at + 2 : at + 5] + size + payload[at + 9 :]


@pytest.mark.parametrize(
    "data",
    [
        claiming(65_535, 65_535),
        claiming(1025, len(COMPLETE)),
        claiming(65_535, 65_535, frame_header=0xC9),
    ],
)
def test_a_jpeg_that_claims_more_pixels_than_it_can_have_is_rejected(data: bytes):
    """Decoding it would fill the memory of whoever does."""
    with pytest.raises(BadMessage, match=r"claims \d+ x \d+ pixels in \d+ bytes"):
        jpeg.check(data)


def test_as_many_pixels_as_a_jpeg_can_have_are_accepted():
    """Arithmetic coding needs less than a bit for a block."""
    jpeg.check(claiming(1024, len(COMPLETE)))
    jpeg.check(claiming(16_384, 16_384, frame_header=0xC9))


@pytest.mark.parametrize("quality", [1, 95])
@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1)])
@pytest.mark.parametrize("shape", [(16, 16), (4000, 4000), (2000, 2000, 3)])
def test_a_plain_area_is_accepted(shape: tuple[int, ...], flags: tuple[int, ...], quality: int):
    """No image of its size has fewer bytes."""
    for shade in (0, 127):
        image = np.full(shape, shade, np.uint8)
        jpeg.check(cv2.imencode(".jpg", image, (*flags, cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes())


def test_a_jpeg_with_an_empty_scan_is_rejected():
    """It has no image."""
    at = COMPLETE.index(b"\xff\xda")
    empty = COMPLETE[: at + 2 + int.from_bytes(COMPLETE[at + 2 : at + 4])] + b"\xff\xd9"
    with pytest.raises(BadMessage, match="scan without data"):
        jpeg.check(empty)
