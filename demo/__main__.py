"""``python -m demo``: run the whole pipeline on this machine, from a film or a camera to pictures read back from S3.

The exit status is 0 only if every face that was published is stored exactly once.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import threading
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
from demo.watch import BrokerMonitor, BucketListing, faults
from edge.detector.camera.live import LiveCamera
from edge.detector.camera.source import GSTREAMER, open_camera
from wire.errors import ConfigurationError
from wire.process import log
from wire.process.command import make_parser
from wire.process.credentials import without_credentials
from wire.process.lifecycle import Stop

LIVE_SECONDS = 20.0
"""Default duration of a live camera, from its first frame."""
FILM_SECONDS = 90.0
"""Maximum duration of the demo's own film, on a slow machine."""
FIRST_FRAME_SECONDS = 45.0
"""Maximum time until the first frame of a live camera."""
SETTLE_SECONDS = 30.0
"""Maximum time until every published face is in S3, after the last frame."""

_POLL_SECONDS = 0.2
_LISTING_SECONDS = 1.0
_SHEET = "contact-sheet.png"

Troubles = (FilmMissing, NotInstalled, OSError, RuntimeError, subprocess.TimeoutExpired, BotoCoreError, ClientError)


class Interrupted(Exception):
    """A signal ended the demo."""


class Signals:
    """Turns signals into flags, so that everything that was started is ended in one place."""

    def __init__(self) -> None:
        self.filming = False
        """While it is true, Ctrl-C means "enough faces". Otherwise, and the second time, it means "end now"."""
        self.enough = False
        self.number = 0
        """The signal that ends the demo; 0 if there was none."""
        self._any = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def check(self) -> None:
        """Raise Interrupted if a signal has ended the demo."""
        if self.number:
            raise Interrupted

    def await_any(self) -> None:
        """Wait for a signal. Ctrl-C is no failure then."""
        self._any.wait()
        self.number = 0 if self.number == signal.SIGINT else self.number
        self.check()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.filming:
            self.filming, self.enough = False, True
        else:
            self.number = number
            self._any.set()


@dataclass(frozen=True, slots=True)
class Plan:
    """The camera, and how long to watch it."""

    source: str
    """The value of ``CAMERA_SOURCE``."""
    label: str
    """Name of the camera on the contact sheet."""
    live: bool
    seconds: float | None
    """Duration from the first frame; None: until the file has ended, or until Ctrl-C."""
    stay: bool = False
    """Whether the gallery stays until Ctrl-C."""

    @classmethod
    def of_arguments(cls, camera: str | None, seconds: float | None, *, stay: bool) -> Self:
        """Create a plan from the command line.

        Raises:
            ConfigurationError: the camera does not exist.
            FilmMissing: the film cannot be downloaded or made.
        """
        if camera is None:
            film, seconds = str(pan_film()), seconds or FILM_SECONDS
            return cls(film, "a film of five people", live=False, seconds=seconds, stay=stay)
        if isinstance(open_camera(camera, loop=False), LiveCamera):
            # An address can contain a password, and a pipeline can contain it anywhere.
            pipeline = camera.startswith(GSTREAMER)
            label = "a GStreamer pipeline" if pipeline else without_credentials(camera).partition("?")[0]
            seconds = seconds or (None if stay else LIVE_SECONDS)
            return cls(camera, label, live=True, seconds=seconds, stay=stay)
        path = Path(camera).resolve()
        return cls(str(path), path.name, live=False, seconds=seconds, stay=stay)


class Demo:
    """One run of the pipeline."""

    def __init__(self, plan: Plan, stack: Stack, console: Console, signals: Signals) -> None:
        self._plan, self._stack, self._console, self._signals = plan, stack, console, signals
        self._stop = Stop()
        self._monitor = BrokerMonitor(stack, self._stop)
        self._listing = BucketListing(stack)
        self._carriers: list[Program] = []

    def run(self, sheet: Path) -> int:
        """Run the pipeline, print the result, and return the exit status of the demo."""
        stack = self._stack
        self._console.print(f"starting two brokers, an S3 server and the pipeline; logs in {_shown(stack.folder)}")
        stack.start_servers()
        self._signals.check()
        self._monitor.start()
        await_true(self._monitor.listening.is_set, 10, "the subscription at the local broker is granted")
        self._carriers = [stack.start_connected("s3sink"), stack.start_connected("forwarder")]
        stack.start_connected("gallery")
        self._signals.check()
        self._console.print(f"gallery: {stack.gallery_address}  password: {stack.gallery_password()}")
        detector = stack.start("detector")
        with report.Progress(self._console) as progress:
            self._signals.filming = True
            status = self._film(detector, progress)
            self._signals.filming = False
            if status == 0:
                self._settle(progress)
                progress.show(self._monitor, len(self._listing.list()), last=True)
        if status != 0:
            said = detector.output().split("\n")
            print(next(filter(None, reversed(said)), "it has written nothing"), file=sys.stderr)
            print(f"the detector ended with status {status}; its log is {_shown(detector.log)}", file=sys.stderr)
            return status if status > 0 else 1
        self._monitor.close()
        status = self._conclude(sheet)
        if self._plan.stay and not self._signals.enough:
            self._console.print(f"the gallery stays at {stack.gallery_address}; Ctrl-C ends it")
            self._signals.await_any()
        return status

    def _film(self, detector: Program, progress: report.Progress) -> int:
        """Wait until the detector has ended or its time is over; return its exit status."""
        began = time.monotonic()
        limit = FIRST_FRAME_SECONDS if self._plan.live else self._plan.seconds
        while not self._signals.enough and (limit is None or time.monotonic() - began < limit):
            try:
                return detector.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                self._look(progress)
            if self._plan.live and limit == FIRST_FRAME_SECONDS and self._monitor.stats.get("frames"):
                began, limit = time.monotonic(), self._plan.seconds
        status = detector.stop()
        # A process that has just started or is just ending has no handler, so the signal itself ends it.
        return 0 if status == -signal.SIGTERM else status

    def _settle(self, progress: report.Progress) -> None:
        """Wait until the detector's last message has arrived and every published face is in S3."""

        def settled() -> bool:
            self._look(progress)
            stored = {item.face_id for item in self._listing.objects}
            return self._monitor.detector_gone.is_set() and stored >= self._monitor.published.keys()

        try:
            await_true(settled, SETTLE_SECONDS, "S3 has every face")
        except TimeoutError:
            return  # the report will say what is missing

    def _look(self, progress: report.Progress) -> None:
        self._signals.check()
        if self._stop.failure is not None:
            raise self._stop.failure
        for program in self._carriers:
            if not program.running:
                raise RuntimeError(f"the {program.name} has ended; its log is {_shown(program.log)}")
        progress.show(self._monitor, len(self._listing.list(_LISTING_SECONDS)))

    def _conclude(self, sheet: Path) -> int:
        """Stop sink and forwarder, and report what is stored."""
        wrong = [f"the {program.name} ended with status {code}" for program, code in _stopped(self._carriers) if code]
        self._listing.list()
        self._console.print("", report.counts(self._monitor, self._listing), "", sep="\n")
        if self._listing.objects:
            self._console.print(report.listing(self._listing), "", sep="\n")
        drawn = report.contact_sheet(self._listing, self._plan.label, sheet)
        if drawn:
            self._console.print(f"contact sheet of {drawn} faces, read back from S3: {_shown(sheet)}")
        wrong += faults(self._monitor.published, self._listing.objects)
        if wrong:
            print("\n".join((*wrong, f"the logs are in {_shown(self._stack.folder)}")), file=sys.stderr)
            return 1
        self._console.print(f"every face published is stored exactly once: {len(self._monitor.published)}")
        return 0


def main() -> int:
    """Run the demo and return its exit status."""
    parser = make_parser("demo", "Runs the whole pipeline on this machine, and reads the faces back from S3.")
    parser.add_argument("--camera", help="a device, an rtsp:// or http:// address, a file or a folder of images")
    parser.add_argument("--seconds", type=_seconds, help="how long to watch the camera (default for a live camera: 20)")
    parser.add_argument("--stay", action="store_true", help="keep the gallery until Ctrl-C, and watch a live camera")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "build" / "demo",
        help="folder for the contact sheet and the logs (default: %(default)s)",
    )
    arguments = parser.parse_args()
    log.configure("error", "console")
    signals, folder = Signals(), arguments.folder.resolve()
    try:
        plan = Plan.of_arguments(arguments.camera, arguments.seconds, stay=arguments.stay)
        signals.check()
        shutil.rmtree(folder / "run", ignore_errors=True)
        (folder / _SHEET).unlink(missing_ok=True)
        with Stack(folder / "run", CAMERA_SOURCE=plan.source) as stack:
            return Demo(plan, stack, Console(highlight=False, soft_wrap=True), signals).run(folder / _SHEET)
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
        raise argparse.ArgumentTypeError(f"{text} expected seconds, more than 0 and at most 86400")
    return number


def _stopped(programs: Iterable[Program]) -> list[tuple[Program, int]]:
    return [(program, program.stop()) for program in programs]


def _shown(path: Path) -> str:
    """Return a path relative to the current folder if possible."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
