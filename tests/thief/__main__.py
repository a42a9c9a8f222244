"""A thief with a valid certificate attacks in many ways. Exits with 1 if an attack breaks a bound.

python -m tests.thief [--seconds 60] [--only WAY,WAY] [--quick] [--list]
"""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from demo.program import ROOT, find_program
from tests.thief import report
from tests.thief.run import Run
from tests.thief.ways import AT_ONCE, QUICK, WAYS
from wire.process.command import make_parser

ALL = "all"
"""All ways at once."""
_SECONDS, _QUICK_SECONDS = 60.0, 4.0


def main(arguments: Sequence[str]) -> int:
    """Attack as the arguments say, and return the exit status."""
    options = _parse(arguments)
    if options.list:
        print(*WAYS, ALL, sep="\n")
        return 0
    for program in ("mosquitto", "weed"):
        find_program(program)
    folder = options.folder or ROOT / "build" / "thief"
    shutil.rmtree(folder, ignore_errors=True)
    seconds = options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS)
    every = {way: (way,) for way in WAYS} | {ALL: AT_ONCE}
    quick = {way: every[way] for way in (*QUICK, ALL)}
    chosen = {way: every[way] for way in options.only} if options.only else quick if options.quick else every
    results, bounds = Run(folder, chosen, seconds).run()
    report.save(results, folder / "result.json")
    passed = report.show(results, bounds)
    shutil.rmtree(folder / "s3", ignore_errors=True)
    return 0 if passed else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("tests.thief", "Attacks the cloud with a valid certificate, in many ways.")
    parser.add_argument("--seconds", type=float, help=f"duration of each attack (default: {_SECONDS:.0f})")
    parser.add_argument("--only", type=_ways, metavar="WAY,WAY", help="attack only in these ways")
    parser.add_argument("--quick", action="store_true", help=f"only {len(QUICK)} ways, {_QUICK_SECONDS:.0f} s each")
    parser.add_argument("--list", action="store_true", help="list the ways")
    parser.add_argument("--folder", type=Path, help="folder for logs and the result (default: build/thief)")
    return parser.parse_args(arguments)


def _ways(text: str) -> tuple[str, ...]:
    ways = tuple(text.split(","))
    unknown = [way for way in ways if way not in (*WAYS, ALL)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected some of {', '.join((*WAYS, ALL))}")
    return ways


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # raises SystemExit, so that every process is stopped


if __name__ == "__main__":
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(main(sys.argv[1:]))
