"""The clocks of a machine: the wall clock, which can be wrong, and the seconds since boot, which only go forward.

A device without a battery-backed clock starts at a wrong time, often in 1970, until NTP has set its clock. A running
clock can also be stepped. So a capture is timed in seconds since boot, and converted to wall time later.
"""

import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Beginning of the year of Facewire's first release. A clock that shows an earlier time is not set."""
_TOLERANCE_SECONDS = 0.005
"""A smaller change of the wall clock is ignored, so that all faces of one frame get the same time."""
_MAX_AHEAD_SECONDS = 86_400.0
"""A moment may lie this far in the future: a video can be searched faster than it was filmed."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_ID = str(uuid.uuid4())
"""Replaces the boot id on systems without one: each process then counts as a separate boot."""

_boot_time = 0.0
"""Wall time of the boot as it was last measured, in seconds since the Unix epoch."""


def now() -> datetime:
    """Return the wall time in UTC. It is implausible if the clock is not set; see :func:`is_set`."""
    return _EPOCH + timedelta(seconds=time.time())


def is_set(moment: datetime) -> bool:
    """Return whether a wall time is plausible, that is :data:`EARLIEST` or later.

    A clock that is not set shows 1970, the date of the firmware, or the time of the last shutdown. If the latter is
    later than :data:`EARLIEST`, it cannot be told from a correct time.
    """
    return moment >= EARLIEST


def boot_id() -> str:
    """Return an id of the current boot. Seconds since boot can be compared only within the same boot.

    All processes and containers of a machine have the same one (Linux, random(4)). On other systems, each process has
    its own.
    """
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return _PROCESS_ID


def seconds_since_boot() -> float:
    """Return the seconds since boot, including the time during which the machine was suspended.

    This is ``CLOCK_BOOTTIME`` (Linux, clock_gettime(2)). Systems without it use the monotonic clock.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def true_time(boot_seconds: float) -> datetime:
    """Return the wall time of a moment in seconds since boot, according to the wall clock as it is at present.

    The result is in UTC, in whole milliseconds, truncated, and never before 1970, which no id could express. It is
    implausible if the clock is not set.
    """
    global _boot_time  # noqa: PLW0603 (a measurement that holds until the clock is changed; any thread may replace it)
    boot_time, measured = _boot_time, _measure_boot_time()
    if abs(measured - boot_time) > _TOLERANCE_SECONDS:
        _boot_time = boot_time = measured
    moment = _EPOCH + timedelta(seconds=max(0.0, boot_time + boot_seconds))
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def boot_seconds_of(moment: datetime) -> float | None:
    """Return the seconds since boot of a moment in wall time: the reverse of :func:`true_time`, within a few ms.

    Return None if ``moment`` is before the boot or more than a day in the future. The wall clock was then changed after
    ``moment`` was read from it.
    """
    seconds = (moment - _EPOCH).total_seconds() - _measure_boot_time()
    return seconds if -_TOLERANCE_SECONDS <= seconds <= seconds_since_boot() + _MAX_AHEAD_SECONDS else None


def _measure_boot_time() -> float:
    """Return the wall time of the boot in seconds since the Unix epoch.

    The two clocks cannot be read at the same moment. Of a few readings, the one that took the shortest time counts.
    """
    readings = []
    for _ in range(3):
        before = seconds_since_boot()
        wall = time.time()
        after = seconds_since_boot()
        readings.append((after - before, wall - (before + after) / 2))
    return min(readings)[1]
