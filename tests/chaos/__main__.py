"""``make chaos``: inject random faults, then count the faces. Exits with 1 if a face was lost or stored twice.

python -m tests.chaos [--faults 100] [--faces 3000] [--seed N] [--longest 20] [--sinks 2] [--only KIND,KIND] [--list]
"""

import argparse
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from demo.program import ROOT, find_program
from tests.chaos.faults import KINDS, SINK_KINDS, plan, possible, sink_names
from tests.chaos.inject import Injector
from tests.chaos.report import Report
from tests.chaos.run import Run
from tests.chaos.site import Site
from wire.process.command import make_parser

MAX_SINKS = 8


def main(arguments: Sequence[str]) -> int:
    """Run the chaos test with the given arguments and return the exit status."""
    options = _parse(arguments)
    if options.list:
        print(*KINDS, *SINK_KINDS, sep="\n")
        return 0
    for program in ("mosquitto", "weed"):
        find_program(program)
    folder = ROOT / "build" / "chaos" / str(options.seed)
    shutil.rmtree(folder, ignore_errors=True)
    print(f"seed {options.seed}, logs in {folder.relative_to(ROOT)}", flush=True)
    sinks = sink_names(options.sinks)
    kinds, notices = possible(options.only or (KINDS if len(sinks) == 1 else (*KINDS, *SINK_KINDS)))
    print(*notices, sep="\n", end="\n" if notices else "", flush=True)
    began_at = time.monotonic()
    with Site(folder, options.seed, sinks) as site:
        site.start()
        faults = plan(options.seed, options.faults, options.longest, kinds, sinks)
        injector = Injector(site, options.seed)
        run = Run(site, injector, faults, options.faces)
        run.run()
        report = Report.of(options.seed, time.monotonic() - began_at, site, run, injector.flipped)
    report.show()
    report.save(folder / "result.json")
    if report.passed:
        _delete_data(folder)
        return 0
    return 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("tests.chaos", "Injects random faults and then counts the faces.")
    parser.add_argument("--faults", type=int, default=100, help="number of faults (default: %(default)s)")
    parser.add_argument("--faces", type=int, default=3000, help="minimum number of faces (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="seed of the fault plan (default: random)"
    )
    parser.add_argument(
        "--longest",
        type=float,
        default=20.0,
        help="maximum duration of a link or S3 fault in seconds (default: %(default)s)",
    )
    parser.add_argument("--only", type=_kinds, metavar="KIND,KIND", help="inject only these kinds of faults")
    parser.add_argument("--sinks", type=_number_of_sinks, default=1, help="number of sinks (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the kinds of faults")
    options = parser.parse_args(arguments)
    if options.sinks == 1 and set(options.only or ()) & set(SINK_KINDS):
        parser.error(f"{', '.join(SINK_KINDS)}: expected --sinks 2 or more")
    return options


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    unknown = [kind for kind in kinds if kind not in (*KINDS, *SINK_KINDS)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected some of {', '.join((*KINDS, *SINK_KINDS))}")
    return kinds


def _number_of_sinks(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MAX_SINKS):
        raise argparse.ArgumentTypeError(f"{text}: expected 1 to {MAX_SINKS} sinks")
    return int(text)


def _delete_data(folder: Path) -> None:
    """Delete the objects and pictures of a successful run. Keep its logs and its result."""
    for name in ("s3", "pictures"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # raises SystemExit, so that Site.__exit__ stops every process


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(main(sys.argv[1:]))
