"""Finds, starts, awaits and ends programs on this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from demo.ports import HOST

ROOT = Path(__file__).resolve().parent.parent

_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/usr/local/opt/mosquitto/sbin")
"""Folders in which package managers install mosquitto, whether they are on the path or not."""
_CHOSEN_MOSQUITTO = "MOSQUITTO"
"""Environment variable with the path of the mosquitto to use."""


class NotInstalled(Exception):
    """A server's program is not on this machine."""


def find_program(name: str) -> str:
    """Return the path of a server's program.

    The environment variable ``MOSQUITTO`` names another ``mosquitto`` than the installed one, for example a newer one.

    Raises:
        NotInstalled: it is not found.
    """
    chosen = os.environ.get(_CHOSEN_MOSQUITTO) if name == "mosquitto" else None
    if chosen:
        if shutil.which(chosen) is None:
            raise NotInstalled(f"{_CHOSEN_MOSQUITTO} is '{chosen}': expected the path of a program")
        return chosen
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join((beside_python, os.environ.get("PATH", ""), *_SYSTEM_FOLDERS)))
    if found is None:
        raise NotInstalled(f"{name} is not installed: expected it on the path or in {', '.join(_SYSTEM_FOLDERS)}")
    return found


PATIENCE = 1.0
"""Factor on every time limit of :func:`await_true` and :class:`Program`. The tests raise it, for busy machines."""


def await_true(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until ``condition`` is true.

    Raises:
        TimeoutError: it is not true within ``seconds``; the message names ``what`` was awaited.
    """
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds * PATIENCE:g} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Return whether a process accepts connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@dataclass
class Program:
    """One process, with its output in a file."""

    name: str
    command: list[str]
    environ: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit status."""
        assert self.process is not None
        return self.process.wait(seconds * PATIENCE)

    def kill(self) -> None:
        """Kill it with SIGKILL, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 10.0) -> int:
        """Ask it to end with SIGTERM, wait, and return its exit status. If it does not end, kill it."""
        assert self.process is not None
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def output(self) -> str:
        """Return its output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")
