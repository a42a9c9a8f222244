"""Sets the wall clock of processes wrong, also while they run. Their other clocks stay right.

A small library is compiled and preloaded into the processes (Linux).
"""

import subprocess
import sys
import time
from pathlib import Path

from demo.program import ROOT, NotInstalled, find_program

_SOURCE = ROOT / "tests" / "wall_clock.c"


class WrongClock:
    """The wall clock that some processes see."""

    def __init__(self, folder: Path) -> None:
        """Compile the library into ``folder``. The clock is right at first.

        Raises:
            NotInstalled: there is no C compiler, or this is not Linux.
        """
        if sys.platform != "linux":
            raise NotInstalled("wrong clocks need Linux")
        self._library, self._file = folder / "wall_clock.so", folder / "wall_clock.error"
        command = [find_program("cc"), "-O2", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE)]
        subprocess.run(command, check=True)
        self.set_error(0.0)

    def set_error(self, seconds: float) -> None:
        """Set by how many seconds the clock is ahead, at once."""
        part = self._file.with_suffix(".part")
        part.write_text(f"{seconds:.3f}")
        part.replace(self._file)

    def environ(self) -> dict[str, str]:
        """Return the variables with which a process sees this clock."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_ERROR": str(self._file)}


def not_set() -> float:
    """Return the error, in seconds, of a clock that shows the first minutes of 1970."""
    return 600 - time.time()
