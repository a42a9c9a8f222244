"""Runs commands with a time limit and checks their exit status."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from demo.program import ROOT


class Failed(Exception):
    """A step or a check failed. The message gives the reason."""


def run(
    *command: str | Path,
    seconds: float = 60,
    environ: Mapping[str, str] | None = None,
    given: bytes | None = None,
) -> str:
    """Run a command and return its standard output.

    Args:
        command: program and arguments.
        seconds: time limit, after which the command is killed.
        environ: variables added to those of this process.
        given: standard input.

    Raises:
        Failed: the exit status was not 0, or the time limit was exceeded.
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
        raise Failed(f"{' '.join(words)}: not finished within {seconds:g} s") from None
    if done.returncode:
        output = (done.stderr or done.stdout).decode(errors="replace")[-3000:]
        raise Failed(f"{' '.join(words)}: status {done.returncode}\n{output}")
    return done.stdout.decode(errors="replace")


def attempt(*command: str, seconds: float = 60, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command and return its exit status and its standard error."""
    done = subprocess.run(
        command, check=False, capture_output=True, cwd=ROOT, env={**os.environ, **(environ or {})}, timeout=seconds
    )
    return done.returncode, done.stderr.decode(errors="replace").strip()


def as_root(*command: str | Path, seconds: float = 60) -> str:
    """Run a command as root, with sudo if necessary."""
    return run(*(() if os.geteuid() == 0 else ("sudo", "-n")), *command, seconds=seconds)
