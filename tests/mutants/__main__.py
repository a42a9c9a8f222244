"""``make mutants``: show that each deliberate defect is caught by a test. Exits with 1 if one survives.

python -m tests.mutants [--only NAME] [--quick] [--list] [--jobs 2]
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from tests.mutants.mutant import Mutant, Verdict, copied, judge, run_tests
from tests.mutants.table import MUTANTS
from wire.process.command import make_parser

_SHOWN_LINES = 40


def main(arguments: Sequence[str]) -> int:
    """Judge the mutants and return the exit status."""
    parser = make_parser("tests.mutants", "Shows that each deliberate defect is caught by a test.")
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="only a few mutants")
    parser.add_argument("--list", action="store_true", help="list the mutants")
    parser.add_argument("--jobs", type=int, default=2, help="number of tests run at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    chosen = [one for one in MUTANTS if options.only in one.name and (one.quick or not options.quick)]
    if not chosen:
        parser.error(f"no mutant is named {options.only!r}")
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name}\n    {mutant.test}")
        return 0
    console = Console(highlight=False, soft_wrap=True)
    began_at = time.monotonic()
    with copied() as root:
        code, output = run_tests(root, [mutant.test for mutant in chosen])
    if code:
        console.print(output, markup=False)
        console.print("[red]the tests fail without any mutant")
        return 1
    console.print(f"{len({mutant.test for mutant in chosen})} tests pass without a mutant", style="green")
    with ThreadPoolExecutor(options.jobs) as pool:
        verdicts = list(pool.map(lambda mutant: _judge(mutant, console), chosen))
    table = Table("mutant", "test", "result", title=f"{len(chosen)} mutants, {time.monotonic() - began_at:.0f} s")
    for mutant, verdict in zip(chosen, verdicts, strict=True):
        table.add_row(mutant.name, mutant.test.replace("::", " "), verdict)
    Console(width=170).print(table)
    missed = [verdict for verdict in verdicts if verdict is not Verdict.CAUGHT]
    console.print(f"[red]{len(missed)} were not caught" if missed else "[green]every mutant was caught")
    return 1 if missed else 0


def _judge(mutant: Mutant, console: Console) -> Verdict:
    verdict, output = judge(mutant)
    console.print(f"{verdict:<9} {mutant.name}")
    if verdict is not Verdict.CAUGHT:
        console.print("\n".join(output.splitlines()[-_SHOWN_LINES:]), markup=False)
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
