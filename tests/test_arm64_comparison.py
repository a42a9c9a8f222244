"""The comparison of the detectors of two architectures sees a difference that matters, and no other."""

from dataclasses import replace

import pytest

from tests.compose.arm64 import FoundFace, differences
from tests.compose.shell import Failed

FACES = [FoundFace(0.1 * number, 1 + number % 2, [100, 50, 80, 90], 0.9) for number in range(40)]


def changed(**changes: object) -> list[FoundFace]:
    """The faces, with the last one changed."""
    return [*FACES[:-1], replace(FACES[-1], **changes)]  # type: ignore[arg-type]


def test_faces_that_differ_by_rounding_are_the_same():
    """A pixel of the box, and the last digits of the rest."""
    found = changed(time=FACES[-1].time + 0.001, box=[101, 50, 79, 90], confidence=0.902)
    assert differences(FACES, found).row_count == 4


def test_the_box_of_one_face_may_differ_by_some_pixels():
    """It is one of two boxes of the same confidence."""
    assert differences(FACES, changed(box=[103, 51, 78, 91])).row_count == 4


@pytest.mark.parametrize(
    "found",
    [
        FACES[:-1],
        changed(track=7),
        changed(time=FACES[-1].time + 0.04),
        changed(box=[110, 50, 80, 90]),
        [replace(face, box=[102, 50, 80, 90]) for face in FACES],
        changed(confidence=0.95),
    ],
    ids=["fewer faces", "another track", "another frame", "another box", "all boxes moved", "another confidence"],
)
def test_a_difference_fails(found: list[FoundFace]):
    with pytest.raises(Failed, match="arm64"):
        differences(FACES, found)
