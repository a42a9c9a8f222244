"""Is it a JPEG, and all of it?"""

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_jpeg
from wire import jpeg
from wire.errors import BadMessage

WHOLE = make_jpeg()


@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (480, 640), (90, 120, 3)])
def test_a_whole_jpeg_is_accepted(flags: tuple[int, ...], shape: tuple[int, ...]):
    """Baseline, progressive, with restart markers; grey and in colour."""
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    jpeg.check(cv2.imencode(".jpg", image, flags)[1].tobytes())


def test_a_jpeg_with_bytes_behind_it_is_accepted():
    """Some cameras pad."""
    jpeg.check(WHOLE + b"\x00" * 16)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 20, 100, 400, len(WHOLE) // 2, len(WHOLE) - 1, len(WHOLE) - 2])
def test_a_jpeg_cut_short_is_refused(length: int):
    """Wherever it is cut."""
    with pytest.raises(BadMessage):
        jpeg.check(WHOLE[:length])


@pytest.mark.parametrize(
    "other", [b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x02\xff\xd9"]
)
def test_something_else_is_refused(other: bytes):
    """With its first bytes in the message, or what is missing."""
    with pytest.raises(BadMessage, match="JPEG"):
        jpeg.check(other)


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes):
    """With yes or BadMessage."""
    with contextlib.suppress(BadMessage):
        jpeg.check(b"\xff\xd8\xff" + data)
