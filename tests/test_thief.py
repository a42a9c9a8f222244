"""One device with a valid certificate does its worst beside honest devices."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.thief.__main__ import main
from tests.thief.report import MAX_BACK_SECONDS, MAX_LOG_BYTES, Bounds, Result, problems
from tests.thief.ways import NAMELESS, QUICK, WAYS

_BOUNDS = Bounds(objects=100, object_bytes=1_000_000)
_GOOD = Result(
    way="junk",
    seconds=60.0,
    megabytes=100.0,
    connections=1,
    cpu=0.5,
    broker_bytes=10_000_000,
    sink_bytes=90_000_000,
    broker_bytes_after=10_000_000,
    sink_bytes_after=90_000_000,
    back_seconds=[MAX_BACK_SECONDS],
    rate=0.5,
    receipted=1,
    calm_seconds=30.0,
    log_bytes=MAX_LOG_BYTES,
    is_named=True,
    committed=100,
    objects=100,
    object_bytes=1_000_000,
)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"back_seconds": [1.0, MAX_BACK_SECONDS + 0.1]}, "not back"),
        ({"back_seconds": [None]}, "not back"),
        ({"ended": ["honest-1/forwarder"]}, "honest-1/forwarder"),
        ({"lost": 1}, "1 honest faces lost"),
        ({"twice": 1}, "1 stored twice"),
        ({"receipted": 0}, "no receipts"),
        ({"calm_seconds": None}, "did not become empty"),
        ({"log_bytes": MAX_LOG_BYTES + 1}, "MB of logs"),
        ({"is_named": False}, "names"),
        ({"objects": 101}, "beyond the budget"),
        ({"object_bytes": 1_000_001}, "beyond the budget"),
    ],
)
def test_each_bound_is_checked(changes: dict[str, Any], problem: str):
    """An attack that breaks one bound fails the run."""
    assert problems(_GOOD, _BOUNDS) == []
    (found,) = problems(replace(_GOOD, **changes), _BOUNDS)
    assert problem in found


def test_the_quick_ways_exist():
    """They are some of all ways."""
    assert set(QUICK) <= set(WAYS)
    assert set(NAMELESS) <= set(WAYS)


@pytest.mark.slow
def test_one_device_that_does_its_worst_harms_no_other(tmp_path: Path):
    """The quickest attacks for a few seconds each, and all at once: the bounds are kept, and no honest face is lost."""
    assert main(["--quick", "--folder", str(tmp_path / "thief")]) == 0
