"""The wall clock and the seconds since boot."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.program import ROOT
from wire.process import clock

HOUR = timedelta(hours=1)
STEPPED = """
import json, os, sys
from pathlib import Path
from wire.process import clock

captured = clock.seconds_since_boot()
seen = []
for fake in sys.argv[1:]:
    Path(os.environ["FAKETIME_TIMESTAMP_FILE"]).write_text(fake)
    moment = clock.true_time(captured)
    back = clock.boot_seconds_of(moment)
    seen.append([moment.isoformat(), clock.is_set(clock.now()), back and back - captured])
print(json.dumps({"seen": seen, "age": clock.seconds_since_boot() - captured, "boot": clock.boot_id()}))
"""


def test_a_clock_is_set_if_it_shows_the_year_of_the_first_release_or_a_later_one() -> None:
    assert clock.is_set(clock.now())
    assert clock.is_set(datetime(2026, 1, 1, tzinfo=UTC))
    assert not clock.is_set(datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert not clock.is_set(datetime(1970, 1, 1, tzinfo=UTC))


def test_the_seconds_since_boot_go_forward_and_belong_to_one_boot() -> None:
    first = clock.seconds_since_boot()
    assert 0 < first < clock.seconds_since_boot()
    assert clock.boot_id() == clock.boot_id() != ""


def test_a_system_without_a_boot_id_gives_one_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", Path("/nonexistent"))
    assert clock.boot_id() == clock.boot_id() != ""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    first = clock.seconds_since_boot()
    assert first < clock.seconds_since_boot()


def test_a_moment_keeps_its_time_to_the_millisecond_while_the_clock_is_not_changed() -> None:
    before = datetime.now(UTC)
    captured = clock.seconds_since_boot()
    after = datetime.now(UTC)
    first = clock.true_time(captured)
    assert before - timedelta(milliseconds=10) <= first <= after + timedelta(milliseconds=10)
    assert first.microsecond % 1000 == 0
    assert {clock.true_time(captured) for _ in range(1000)} == {first}
    assert clock.true_time(captured + 2.0) - first == timedelta(seconds=2)


def test_a_step_of_the_clock_moves_the_time_and_is_reversible(monkeypatch: pytest.MonkeyPatch) -> None:
    captured, wall = clock.seconds_since_boot(), time.time
    first = clock.true_time(captured)
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    assert abs(clock.true_time(captured) - first - HOUR) < timedelta(milliseconds=10)
    back = clock.boot_seconds_of(clock.true_time(captured))
    assert back is not None
    assert abs(back - captured) < 0.02


def test_a_time_read_before_the_clock_was_set_cannot_be_converted_afterwards() -> None:
    assert clock.boot_seconds_of(datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)) is None
    assert clock.boot_seconds_of(clock.now() + timedelta(days=365)) is None


def test_a_capture_before_the_clock_was_set_gets_its_true_time(tmp_path: Path) -> None:
    """A real process whose wall clock shows 1970 first, then the true time, then an hour more."""
    run = _fake_clock(tmp_path)
    started = datetime.now(UTC)
    result = run(STEPPED, "@1970-01-01 00:01:00", "+0", "+1h")
    unset, true, later = result["seen"]
    assert unset[0].startswith("1970-01-01T00:0")
    assert [unset[1], true[1], later[1]] == [False, True, True]
    captured_at = datetime.fromisoformat(true[0])
    assert started - timedelta(milliseconds=10) <= captured_at <= datetime.now(UTC)
    step = datetime.fromisoformat(later[0]) - captured_at
    assert abs(step - HOUR) < timedelta(milliseconds=20)
    assert all(abs(back) < 0.02 for _, _, back in result["seen"])
    assert result["boot"] == clock.boot_id()


def _fake_clock(folder: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a script under libfaketime, with the arguments that it writes to the clock's file.

    The script must not wait: libfaketime also changes the deadlines of waits.
    """
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian: apt install faketime)")
    file = folder / "faketime"
    file.write_text("+0")
    environ = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }

    def run(script: str, *arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    return run
