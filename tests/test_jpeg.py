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
