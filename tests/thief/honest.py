"""``python -m tests.thief.honest FOLDER FACES_PER_SECOND``: an honest device that takes pictures at a steady rate.

It is the detector without the model: faces are committed to the outbox, sent, and deleted when their receipts arrive.
It appends the id of each committed face to ``journal``, and its counts to ``counts``. It takes no more pictures when
the file ``enough`` exists.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edge.detector.delivery.delivery import make_delivery
from edge.detector.settings import DetectorSettings
from tests.builders import make_jpeg
from tests.thief.faces import face_of
from wire.process.lifecycle import Stop, exit_now, run

_PICTURES = 16
_PICTURE_PIXELS = 130
"""A JPEG of noise has then about 20 kB."""
_COUNT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of an honest device at one moment."""

    at: float
    """On the monotonic clock of the machine."""
    committed: int
    receipted: int
    pending: int
    not_stored: int


@dataclass(frozen=True, slots=True)
class Records:
    """What an honest device has written."""

    folder: Path

    def committed(self) -> dict[str, float]:
        """Return when each face was committed, by id."""
        lines = self._lines("journal")
        return {face_id: float(at) for at, face_id in lines}

    def counts(self) -> list[Counts]:
        """Return all counts so far."""
        return [Counts(float(at), *map(int, rest)) for at, *rest in self._lines("counts")]

    def end(self) -> None:
        """Let it take no more pictures."""
        (self.folder / "enough").touch()

    def _lines(self, name: str) -> list[list[str]]:
        path = self.folder / name
        text = path.read_text() if path.exists() else ""
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def take_pictures(folder: Path, faces_per_second: float, settings: DetectorSettings, stop: Stop) -> None:
    """Commit faces at a steady rate until asked to stop."""
    delivery = make_delivery(settings, stop)
    delivery.start()
    pictures = [make_jpeg(_PICTURE_PIXELS, _PICTURE_PIXELS, seed) for seed in range(_PICTURES)]
    committed, began_at, counted_at = 0, time.monotonic(), 0.0
    with (folder / "journal").open("a", buffering=1) as journal, (folder / "counts").open("a", buffering=1) as counts:
        while not stop.wait(0.02):
            now = time.monotonic()
            while committed < (now - began_at) * faces_per_second and not (folder / "enough").exists():
                taken = face_of(settings.device_id, pictures[committed % _PICTURES])
                delivery.store([taken])
                journal.write(f"{time.monotonic():.3f} {taken.id}\n")
                committed += 1
            if now - counted_at >= _COUNT_SECONDS:
                counted_at, stats = now, delivery.stats()
                counts.write(f"{now:.3f} {committed} {stats['receipted']} {delivery.pending} {stats['unkept']}\n")
    delivery.close()


def _main() -> None:
    folder, rate = Path(sys.argv[1]), float(sys.argv[2])
    settings = DetectorSettings.from_environment(os.environ)
    settings.configure_logging()
    exit_now(run(lambda stop: take_pictures(folder, rate, settings, stop)))


if __name__ == "__main__":
    _main()
