"""``python -m tests.s3_answers``: let S3 answer wrongly in every way, and count the faces.

python -m tests.s3_answers [--seconds 5,15,60] [--only 403,...] [--quick]

Exits with 1 if a face was lost, stored twice, altered or quarantined, if a device that is not concerned had less than
80 % of its rate, or if the sink needed more than 120 MB.
"""

import shutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from demo.program import ROOT
from tests.chaos.s3proxy import Answer
from tests.s3_answers.trial import Row, Trial
from wire.process.command import make_parser

MIN_RATE = 0.8
MAX_MIB = 120e6 / 2**20
QUICK = ((Answer.ACCESS_DENIED, (17.0,)), (Answer.PRECONDITION_FAILED, (3.0,)))
"""One answer for longer than the sink holds a message, and one that is false."""


def run(plan: Sequence[tuple[Answer, Sequence[float]]], *, partial_only: bool = False) -> list[Row]:
    """Run every answer and print the table after each."""
    console = Console(width=170)
    rows = []
    for answer, durations in plan:
        folder = ROOT / "build" / "s3-answers" / answer.name.lower()
        shutil.rmtree(folder, ignore_errors=True)
        rows.append(Trial(folder, answer, durations, partial_only=partial_only).run())
        shutil.rmtree(folder / "s3", ignore_errors=True)
        console.print(_table(rows))
    return rows


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="answers of S3, for all keys, for one prefix and one key")
    for name in ("answer", "seconds", "faces", "quarantined", "receipt without object", "no receipt", "twice"):
        table.add_column(name, justify="left" if name == "answer" else "right")
    for name in ("altered", "overwritten", "handed back", "rate of others", "peak MiB", "notes"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (row.faces, row.quarantined, row.without_object, row.without_receipt, row.twice, row.altered)
        more = (row.overwritten, row.handed_back, f"{row.rate:.0%}", f"{row.peak_mib:.0f}", "; ".join(row.notes))
        table.add_row(row.answer, row.seconds, *map(str, (*counts, *more)))
    return table


def main(arguments: Sequence[str]) -> int:
    """Run the answers and return the exit status."""
    parser = make_parser("tests.s3_answers", "Lets S3 answer wrongly in every way, and counts the faces.")
    parser.add_argument("--seconds", default="5,15,60", help="durations of the faults (default: %(default)s)")
    parser.add_argument("--only", default="", help="answers, such as access_denied,slow (default: all)")
    parser.add_argument("--quick", action="store_true", help="two answers, less than a minute")
    options = parser.parse_args(arguments)
    only = set(filter(None, options.only.upper().split(",")))
    durations = [float(seconds) for seconds in options.seconds.split(",")]
    plan = QUICK if options.quick else [(each, durations) for each in Answer if not only or each.name in only]
    rows = run(plan, partial_only=options.quick)
    passed = all(row.passed and row.rate >= MIN_RATE and row.peak_mib < MAX_MIB for row in rows)
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
