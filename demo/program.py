"""A program on this machine: found, started, awaited and ended; and ports of the loopback interface."""

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

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"

_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/usr/local/opt/mosquitto/sbin")
"""Where package managers put mosquitto, on the path or not."""
_GRPC_OFFSET = 10_000
"""SeaweedFS listens for its own kind at each port plus this."""


class NotInstalled(Exception):
    """A server's program is not on this machine."""


def find_program(name: str) -> str:
    """Return the path of a server's program.

    Raises:
        NotInstalled: it is nowhere.
    """
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join((beside_python, os.environ.get("PATH", ""), *_SYSTEM_FOLDERS)))
    if found is None:
        raise NotInstalled(f"{name} is not installed: expected it on the path or in {', '.join(_SYSTEM_FOLDERS)}")
    return found


def free_port() -> int:
    """Return a port on which nobody listens, and neither does anybody on the one that SeaweedFS adds to it."""
    while True:
        with socket.socket() as probe, socket.socket() as second:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
            if port + _GRPC_OFFSET > 65535:
                continue
            try:
                second.bind((HOST, port + _GRPC_OFFSET))
            except OSError:
                continue
            return port


def await_true(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until ``condition`` holds.

    Raises:
        TimeoutError: it does not hold within ``seconds``; the message says ``what`` was awaited.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Tell whether somebody takes connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@dataclass
class Program:
    """One running process, its output in a file."""

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
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self.process is not None
        return self.process.pid

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 10.0) -> int:
        """Ask it to end, wait, and return its exit status; kill it where it does not end."""
        assert self.process is not None
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")
