"""What the benchmarks share: their command line, the processor, the memory of processes, faces to send, and a table."""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from rich.console import Console
from rich.table import Table

from demo import program
from demo.program import ROOT
from demo.stack import DEVICE
from wire.face import Face
from wire.ids import new_id
from wire.process.command import make_parser
from wire.topics import Origin

program.PATIENCE = 4.0  # a benchmark must not fail because the machine is busy

_VECTOR_EXTENSIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "asimd": "NEON", "asimddp": "NEON dot product"}
"""Flags in /proc/cpuinfo on which the speed of the detector depends."""


def benchmark_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, with ``--quick``.

    Args:
        name: the module, as in ``python -m benchmarks.outbox``.
        doc: its docstring, whose first line says what is measured.
    """
    parser = make_parser(name, (doc or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: shows that the benchmark runs, not how fast anything is"
    )
    return parser


class PeakMemory:
    """Measures the peak resident memory of processes while its context is entered."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.peak_bytes = dict.fromkeys(pids, 0)
        """Peak resident memory of each process, by name, in bytes."""
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for name, process in self._processes.items():
                try:
                    self.peak_bytes[name] = max(self.peak_bytes[name], process.memory_info().rss)
                except psutil.Error:
                    continue


def faces_of(count: int, jpeg: bytes, camera: str) -> list[Face]:
    """Create faces as the detector does, all captured now and with the same picture."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    one = Face(
        id="",
        origin=Origin(DEVICE, camera),
        captured_at=now,
        jpeg=jpeg,
        confidence=0.9,
        box=(10, 20, 100, 120),
        landmarks=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10)),
        framesize=(640, 360),
        track=1,
        model="yunet-2023mar",
    )
    return [replace(one, id=new_id(now)) for _ in range(count)]


def processor() -> str:
    """Return the name of the processor, its vector extensions and the number of cores that this process may use."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    board = Path("/sys/firmware/devicetree/base/model")  # on arm64, cpuinfo has no name
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    unnamed = board.read_text().strip("\0") if board.exists() else platform.machine()
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = listed[1].split() if listed else []
    extensions = [text for flag, text in _VECTOR_EXTENSIONS.items() if flag in flags]
    if "avx2" in flags and "avx512f" not in flags:
        extensions.append("no AVX-512")
    cores = len(os.sched_getaffinity(0))
    return ", ".join([named[1] if named else unnamed, *extensions, f"{cores} core{'' if cores == 1 else 's'}"])


def environment(requirements: str) -> Path:
    """Return the Python of an environment with the packages of ``requirements``; it is created if it is missing.

    ``requirements`` names a file in ``requirements/``: «detector» has what the detector's image has.
    """
    folder = ROOT / "build" / requirements
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing requirements/{requirements}.txt into {folder.relative_to(ROOT)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        locked = ROOT / "requirements" / f"{requirements}.txt"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", locked], check=True
        )
    return python


def megabytes(size: float) -> str:
    """Format bytes as MB."""
    return f"{size / 1e6:.0f} MB"


def spread(numbers: Sequence[float], form: str = ".0f") -> str:
    """Format repeated measurements as median (minimum to maximum)."""
    return f"{statistics.median(numbers):{form}}  ({min(numbers):{form}} to {max(numbers):{form}})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
