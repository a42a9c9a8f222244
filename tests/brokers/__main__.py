"""``make broker-test``: the whole chain against other brokers, whose nodes are killed. Exits with 1 if a face is lost.

python -m tests.brokers [--quick] [--only artemis,hivemq]
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from rich.console import Console
from rich.table import Table

from demo.program import ROOT, NotInstalled, find_program
from tests.brokers.broker import BROKERS, DEFAULT
from tests.brokers.broker import QUICK as QUICK_NAMES
from tests.brokers.run import FULL, QUICK, Result, run
from wire.process import log
from wire.process.command import make_parser


def main(arguments: Sequence[str]) -> int:
    """Run the tests and return the exit status."""
    options = _parse(arguments)
    log.configure("error", "console")
    for program in ("mosquitto", "weed"):
        find_program(program)
    plan = QUICK if options.quick else FULL
    results: list[Result] = []
    console = Console(highlight=False, width=150)
    for name in options.only or (QUICK_NAMES if options.quick else DEFAULT):
        folder = ROOT / "build" / "brokers" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        try:
            result = run(name, BROKERS[name], folder, plan)
        except NotInstalled as missing:
            console.print(f"{name} skipped: {missing}", markup=False)
            continue
        results.append(result)
        console.print(f"{name}: {'passed' if result.passed else 'FAILED'}", *result.notes, sep="\n  ", markup=False)
        if result.passed:
            shutil.rmtree(folder / "s3", ignore_errors=True)
    console.print(_table(results))
    return 0 if all(result.passed for result in results) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("tests.brokers", "Runs the whole chain against other brokers, and kills their nodes.")
    parser.add_argument("--quick", action="store_true", help="two kills of each broker, instead of five minutes")
    parser.add_argument("--only", type=_names, metavar="NAME,NAME", help=f"some of {', '.join(BROKERS)}")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in BROKERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected some of {', '.join(BROKERS)}")
    return names


def _table(results: Sequence[Result]) -> Table:
    table = Table("broker", "kills", "faces", "lost", "twice", "no receipt", "longest gap", "drained in")
    for one in results:
        seconds = (f"{one.longest_gap:.1f} s", f"{one.drain_seconds:.1f} s")
        table.add_row(one.broker, *map(str, (one.kills, one.faces, one.lost, one.twice, one.waiting)), *seconds)
    return table


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # raises SystemExit, so that every process is ended


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(main(sys.argv[1:]))
