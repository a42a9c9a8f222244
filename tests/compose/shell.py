"""Commands: run, checked, and bounded in time."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from demo.program import ROOT


class Failed(Exception):
    """Something is not as it must be; the message says what."""


def run(
    *command: str | Path,
    seconds: float = 60,
    environ: Mapping[str, str] | None = None,
    given: bytes | None = None,
) -> str:
    """Run a command and return what it wrote to its standard output.

    Args:
        command: program and arguments.
        seconds: after which it is killed.
        environ: variables over this process's own.
        given: its standard input.

    Raises:
        Failed: it ended with another status than 0, or not in time.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            timeout=seconds,
            input=given if given is not None else b"",
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)}: not done within {seconds:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace")[-3000:]
        raise Failed(f"{' '.join(words)}: status {done.returncode}\n{said}")
    return done.stdout.decode(errors="replace")


def attempt(*command: str, seconds: float = 60, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command; return its status and what it wrote to its standard error."""
    done = subprocess.run(
        command, check=False, capture_output=True, cwd=ROOT, env={**os.environ, **(environ or {})}, timeout=seconds
    )
    return done.returncode, done.stderr.decode(errors="replace").strip()


def as_root(*command: str | Path, seconds: float = 60) -> str:
    """Run a command as root: as it is, or by sudo."""
    return run(*(() if os.geteuid() == 0 else ("sudo", "-n")), *command, seconds=seconds)
