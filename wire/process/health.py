"""Health means progress. A process writes down what hinders it; a container's health check reads it.

``python -m wire.process.health detector`` ends with 0 where the process of that name on this machine makes progress; else with
1, and a line that says why.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire.process.lifecycle import Stop

WRITE_SECONDS = 2.0
STALE_SECONDS = 15.0
"""A note that is older comes from a process that hangs."""


def write_regularly(process: str, problem: Callable[[], str | None], stop: "Stop") -> None:
    """Write down, every few seconds and in a thread, what hinders ``process``.

    Args:
        process: its name.
        complaint: returns what hinders it, in one line; None where it makes progress.
        stop: ends it.
    """
    from wire.process.lifecycle import spawn  # noqa: PLC0415 (the check, which runs every few seconds, does without)

    note = Path(tempfile.gettempdir()) / f"facewire-{process}-{os.getpid()}.health"

    def write() -> None:
        while not stop:
            part = note.with_suffix(".part")
            part.write_text(problem() or "")
            part.replace(note)
            stop.wait(WRITE_SECONDS)
        note.unlink(missing_ok=True)

    spawn("health", write, stop)


def read_problem(process: str) -> str | None:
    """Return what hinders the newest process of that name on this machine; None where it makes progress."""
    newest: tuple[float, str] | None = None
    for note in Path(tempfile.gettempdir()).glob(f"facewire-{process}-*.health"):
        with contextlib.suppress(FileNotFoundError):  # its process has just ended
            newest = max(newest or (0.0, ""), (note.stat().st_mtime, note.read_text()))
    if newest is None:
        return f"the {process} has not started"
    age = time.time() - newest[0]
    if age > STALE_SECONDS:
        return f"the {process} has given no sign of life for {age:.0f} s"
    return newest[1] or None


def main(arguments: list[str]) -> int:
    """Tell how the process named in ``arguments`` is, and return the exit status."""
    if len(arguments) != 1:
        print("usage: python -m wire.process.health detector|forwarder|pki|s3sink", file=sys.stderr)  # noqa: T201
        return 2
    problem = read_problem(arguments[0])
    print(problem or "healthy")  # noqa: T201
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
