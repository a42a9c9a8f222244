"""Health checks. Each process writes its current problem to a file, and the container's health check reads that file.

The file begins with the time at which it was written, in seconds since boot, as the wall clock may be wrong.

``python -m wire.process.health detector`` exits with 0 if the newest process of that name on this machine is healthy;
otherwise it exits with 1 and prints the problem. It runs every few seconds, so it imports little.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wire import __version__
from wire.process.clock import seconds_since_boot

if TYPE_CHECKING:
    from wire.process.lifecycle import Stop

WRITE_INTERVAL_SECONDS = 2.0
MAX_AGE_SECONDS = 15.0
"""If the file is older, the process hangs."""


def write_regularly(process: str, problem: Callable[[], str | None], stop: "Stop") -> None:
    """Start a thread that writes the current problem of this process every few seconds.

    ``problem`` returns why the process is unhealthy, in one line; None if it is healthy.
    """
    from wire.process.lifecycle import spawn  # noqa: PLC0415 (the health check itself does not need it)

    file = Path(tempfile.gettempdir()) / f"facewire-{process}-{os.getpid()}.health"

    def write() -> None:
        while not stop:
            part = file.with_suffix(".part")
            part.write_text(f"{seconds_since_boot():.3f} {problem() or ''}")
            part.replace(file)
            stop.wait(WRITE_INTERVAL_SECONDS)
        file.unlink(missing_ok=True)

    spawn("health", write, stop)


def read_problem(process: str) -> str | None:
    """Return why the newest process of that name on this machine is unhealthy; None if it is healthy."""
    now = seconds_since_boot()
    newest: tuple[float, str] | None = None
    for file in Path(tempfile.gettempdir()).glob(f"facewire-{process}-*.health"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # the process has just ended, or is of version 0.1
            written_at, _, text = file.read_text().partition(" ")
            found = float(written_at), text
            if found[0] <= now:  # otherwise it is of an earlier boot
                newest = max(newest or found, found)
    if newest is None:
        return f"the {process} has not started"
    if now - newest[0] > MAX_AGE_SECONDS:
        return f"the {process} has not reported for {now - newest[0]:.0f} s"
    return newest[1] or None


def main(arguments: Sequence[str]) -> int:
    """Print the health of the process named in ``arguments``, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m wire.process.health",
        description="Prints whether a process on this machine is healthy. Exits with 0 if it is, otherwise with 1.",
    )
    parser.add_argument("process", help="detector, enrolment, forwarder, gallery, pki or s3sink")
    parser.add_argument("--version", action="version", version=f"facewire {__version__}")
    problem = read_problem(parser.parse_args(arguments).process)
    print(problem or "healthy")  # noqa: T201 (for the operator)
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
