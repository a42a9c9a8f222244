"""``python -m demo``: the whole pipeline on this machine, from a film or a camera to pictures read back from S3.

Ends with status 0 only where every face that was published is stored exactly once.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from demo import report
from demo.film import FilmMissing, pan_film
from demo.program import ROOT, NotInstalled, Program, await_true
from demo.stack import Stack
from demo.watch import Listing, Watch, faults
from edge.detector.camera.live import LiveCamera
from edge.detector.camera.source import GSTREAMER, open_camera
from edge.detector.settings import without_credentials
from wire.errors import ConfigurationError
from wire.process import log
from wire.process.lifecycle import Stop

LIVE_SECONDS = 20.0
"""How long to look through a live camera, from its first frame on."""
FILM_SECONDS = 90.0
"""How long our own film may take on a slow machine."""
FIRST_FRAME_SECONDS = 45.0
"""How long a live camera may take to its first frame."""
SETTLE_SECONDS = 30.0
"""How long what is under way may take to S3 once there are no more frames."""

_POLL_SECONDS = 0.2
_LISTING_SECONDS = 1.0
_SHEET = "contact-sheet.png"

Troubles = (FilmMissing, NotInstalled, OSError, RuntimeError, subprocess.TimeoutExpired, BotoCoreError, ClientError)


class Interrupted(Exception):
    """The demo was asked to end at once."""


class Signals:
    """Signals only set a flag: whatever has been started is ended in one place."""

    def __init__(self) -> None:
        self.filming = False
        """While it is true, Ctrl-C means «enough faces». Otherwise, and a second time, it means «end at once»."""
        self.enough = False
        self.number = 0
        """The signal that ends the demo; 0: none."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def check(self) -> None:
        """Raise Interrupted where the demo is to end at once."""
        if self.number:
            raise Interrupted

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.filming:
            self.filming, self.enough = False, True
        else:
            self.number = number


@dataclass(frozen=True, slots=True)
class Plan:
    """What to look at, and for how long."""

    source: str
    """As ``CAMERA_SOURCE`` wants it."""
    label: str
    """What the contact sheet calls it."""
    live: bool
    seconds: float | None
    """From the first frame on; None: until the file has ended."""

    @classmethod
    def of_arguments(cls, camera: str | None, seconds: float | None) -> Self:
        """Make a plan of what the command line says.

        Raises:
            ConfigurationError: there is no such camera.
            FilmMissing: the film cannot be had.
        """
        if camera is None:
            return cls(str(pan_film()), "a film of five people", live=False, seconds=seconds or FILM_SECONDS)
        if isinstance(open_camera(camera, loop=False), LiveCamera):
            # Passwords stand in addresses, and in pipelines wherever they like.
            pipeline = camera.startswith(GSTREAMER)
            label = "a GStreamer pipeline" if pipeline else without_credentials(camera).partition("?")[0]
            return cls(camera, label, live=True, seconds=seconds or LIVE_SECONDS)
        path = Path(camera).resolve()
        return cls(str(path), path.name, live=False, seconds=seconds)


class Demo:
    """One run of the pipeline."""

    def __init__(self, plan: Plan, stack: Stack, console: Console, signals: Signals) -> None:
        self._plan, self._stack, self._console, self._signals = plan, stack, console, signals
        self._stop = Stop()
        self._watch = Watch(stack, self._stop)
        self._listing = Listing(stack)
        self._carriers: list[Program] = []

    def run(self, sheet: Path) -> int:
        """Run the pipeline, tell what came of it, and return the exit status of the demo."""
        stack = self._stack
        self._console.print(f"starting two brokers, an S3 server and the pipeline; logs in {_shown(stack.folder)}")
        stack.start_servers()
        self._signals.check()
        self._watch.start()
        await_true(self._watch.listening.is_set, 10, "the local broker lets us listen")
        self._carriers = [stack.start_connected("s3sink"), stack.start_connected("forwarder")]
        self._signals.check()
        detector = stack.start("detector")
        with report.Progress(self._console) as progress:
            self._signals.filming = True
            status = self._film(detector, progress)
            self._signals.filming = False
            if status == 0:
                self._settle(progress)
                progress.show(self._watch, len(self._listing.list()), last=True)
        if status != 0:
            said = detector.output().split("\n")
            print(next(filter(None, reversed(said)), "nothing was said"), file=sys.stderr)
            print(f"the detector ended with status {status}; its log is {_shown(detector.log)}", file=sys.stderr)
            return status if status > 0 else 1
        self._watch.close()
        return self._conclude(sheet)

    def _film(self, detector: Program, progress: report.Progress) -> int:
        """Wait until the detector has ended or has seen enough; return its exit status."""
        began = time.monotonic()
        limit = FIRST_FRAME_SECONDS if self._plan.live else self._plan.seconds
        while not self._signals.enough and (limit is None or time.monotonic() - began < limit):
            try:
                return detector.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                self._look(progress)
            if self._plan.live and limit == FIRST_FRAME_SECONDS and self._watch.stats.get("frames"):
                began, limit = time.monotonic(), self._plan.seconds
        status = detector.stop()
        # A process that has just begun or just finished has no handler for the signal: it is ended by it, as asked.
        return 0 if status == -signal.SIGTERM else status

    def _settle(self, progress: report.Progress) -> None:
        """Wait until the broker has passed on all that the detector said, and S3 has all that was published."""

        def settled() -> bool:
            self._look(progress)
            stored = {item.face_id for item in self._listing.objects}
            return self._watch.detector_gone.is_set() and stored >= self._watch.published.keys()

        try:
            await_true(settled, SETTLE_SECONDS, "S3 has every face")
        except TimeoutError:
            return  # the verdict will say what is missing

    def _look(self, progress: report.Progress) -> None:
        self._signals.check()
        if self._stop.failure is not None:
            raise self._stop.failure
        for program in self._carriers:
            if not program.running:
                raise RuntimeError(f"the {program.name} has ended; its log is {_shown(program.log)}")
        progress.show(self._watch, len(self._listing.list(_LISTING_SECONDS)))

    def _conclude(self, sheet: Path) -> int:
        """Stop what carries faces, and tell what came of them."""
        wrong = [f"the {program.name} ended with status {code}" for program, code in _stopped(self._carriers) if code]
        self._listing.list()
        self._console.print("", report.counts(self._watch, self._listing), "", sep="\n")
        if self._listing.objects:
            self._console.print(report.listing(self._listing), "", sep="\n")
        drawn = report.contact_sheet(self._listing, self._plan.label, sheet)
        if drawn:
            self._console.print(f"contact sheet of {drawn} faces, read back from S3: {_shown(sheet)}")
        wrong += faults(self._watch.published, self._listing.objects)
        if wrong:
            print("\n".join((*wrong, f"the logs are in {_shown(self._stack.folder)}")), file=sys.stderr)
            return 1
        self._console.print(f"every face published is stored exactly once: {len(self._watch.published)}")
        return 0


def main() -> int:
    """Run the demo that the command line asks for, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--camera", help="a device, an rtsp:// or http:// address, a file or a folder of images")
    parser.add_argument("--seconds", type=_seconds, help="how long to look (a live camera: 20 unless told)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "demo", help="for the contact sheet and the logs"
    )
    arguments = parser.parse_args()
    log.configure("error", "console")
    signals, folder = Signals(), arguments.folder.resolve()
    try:
        plan = Plan.of_arguments(arguments.camera, arguments.seconds)
        signals.check()
        shutil.rmtree(folder / "run", ignore_errors=True)
        (folder / _SHEET).unlink(missing_ok=True)
        with Stack(folder / "run", CAMERA_SOURCE=plan.source) as stack:
            return Demo(plan, stack, Console(highlight=False), signals).run(folder / _SHEET)
    except ConfigurationError as mistake:
        print(mistake, file=sys.stderr)
        return mistake.exit_code
    except (Interrupted, *Troubles) as problem:
        interrupted = signals.number != 0
        print("interrupted" if interrupted else f"facewire: {problem}", file=sys.stderr)
        return 128 + signals.number if interrupted else 1


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 1 to 86400")
    return number


def _stopped(programs: Iterable[Program]) -> list[tuple[Program, int]]:
    return [(program, program.stop()) for program in programs]


def _shown(path: Path) -> str:
    """Return a path as short as can be."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
