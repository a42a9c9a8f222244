"""Faces per second that can be made durable on this disk, and the memory this takes, beside other ways.

``python -m benchmarks.outbox``. Each way makes a face durable (fsync) before the next one.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.measure import benchmark_parser, faces_of, megabytes, show
from demo.stack import CAMERA
from edge.detector.delivery.outbox import Outbox
from wire import face
from wire.face import Face

FACE_BYTES = 20_000
FACES = 20_000
PEER_FACES = 1000
BATCH = 500
"""Faces per measured rate."""


def main() -> None:
    """Store faces in each way and print the table."""
    quick = benchmark_parser("benchmarks.outbox", __doc__).parse_args().quick
    faces, peer_faces = (2 * BATCH, BATCH) if quick else (FACES, PEER_FACES)
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        outbox = Outbox(folder / "outbox.db", 1 << 30)
        rows.append(
            _measure("Facewire's outbox: SQLite, WAL, synchronous=FULL", lambda one: outbox.store([one]), faces)
        )

        four = Outbox(folder / "four.db", 1 << 30)
        pending: list[Face] = []

        def keep_by_fours(one: Face) -> None:
            pending.append(one)
            if len(pending) == 4:
                four.store(pending)
                pending.clear()

        rows.append(_measure("  the same, four faces in each frame", keep_by_fours, peer_faces * 4))
        rows.append(_measure("a file per face: write, fsync, rename, fsync folder", _file_per_face(folder), peer_faces))
        rows.append(_measure("one log file: append, fsync", _log_file(folder), peer_faces))
    show(
        f"Faces of {FACE_BYTES // 1000} kB made durable, one after another",
        ["", "faces", "faces/s: median", "slowest 500", "memory at 1,000", "memory at the end"],
        rows,
    )


def _measure(name: str, keep: Callable[[Face], object], count: int) -> list[str]:
    process = psutil.Process()
    rates, early = [], 0
    made = 0
    while made < count:
        batch = faces_of(BATCH, os.urandom(FACE_BYTES), CAMERA)
        began = time.perf_counter()
        for one in batch:
            keep(one)
        rates.append(BATCH / (time.perf_counter() - began))
        made += BATCH
        if made == 2 * BATCH:
            early = process.memory_info().rss
    late = process.memory_info().rss
    return [
        name,
        str(made),
        f"{statistics.median(rates):.0f}",
        f"{min(rates):.0f}",
        megabytes(early),
        megabytes(late),
    ]


def _file_per_face(folder: Path) -> Callable[[Face], None]:
    target = folder / "files"
    target.mkdir()

    def keep(one: Face) -> None:
        part = target / f"{one.id}.part"
        with part.open("wb") as file:
            file.write(face.encode(one).pack() + one.jpeg)
            file.flush()
            os.fsync(file.fileno())
        part.rename(target / f"{one.id}.jpg")
        handle = os.open(target, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    return keep


def _log_file(folder: Path) -> Callable[[Face], None]:
    file = (folder / "log").open("ab")

    def keep(one: Face) -> None:
        file.write(face.encode(one).pack() + one.jpeg)
        file.flush()
        os.fsync(file.fileno())

    return keep


if __name__ == "__main__":
    main()
