"""The comparison of the detectors of two architectures sees a difference that matters, and no other."""

from dataclasses import replace

import pytest

from tests.compose.arm64 import FoundFace, differences
from tests.compose.shell import Failed

FACES = [FoundFace(0.1 * number, 1 + number % 2, [100, 50, 80, 90], [110.0, 60.0], 0.9) for number in range(6)]


def changed(**changes: object) -> list[FoundFace]:
    """The faces, with the last one changed."""
    return [*FACES[:-1], replace(FACES[-1], **changes)]  # type: ignore[arg-type]


def test_faces_that_differ_by_rounding_are_the_same():
    """A pixel of the box, and the last digits of the rest."""
    found = changed(time=FACES[-1].time + 0.001, box=[101, 50, 79, 90], landmarks=[110.4, 60.0], confidence=0.902)
    assert differences(FACES, found).row_count == 4


@pytest.mark.parametrize(
    "found",
    [
        FACES[:-1],
        changed(track=7),
        changed(time=FACES[-1].time + 0.04),
        changed(box=[102, 50, 80, 90]),
        changed(landmarks=[110.0, 62.0]),
        changed(confidence=0.95),
    ],
    ids=["fewer faces", "another track", "another frame", "another box", "other landmarks", "another confidence"],
)
def test_a_difference_fails(found: list[FoundFace]):
    with pytest.raises(Failed, match="arm64"):
        differences(FACES, found)
