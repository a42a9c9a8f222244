"""The table at the end, and the verdict."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

from tests.chaos import ledger
from tests.chaos.ledger import Balance
from tests.chaos.run import Run
from tests.chaos.site import Site
from wire.exit_codes import ExitCode

_SHOWN_IDS = 20
_EXPECTED_ENDS = frozenset((ExitCode.UNAVAILABLE, ExitCode.NO_PERMISSION))
"""How a sink ends that finds no bucket, or no access to it, at its start."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    seed: int
    seconds: float
    faults: dict[str, int]
    """Of each kind."""
    recovery_seconds: dict[str, float]
    """The longest, for each kind."""
    balance: Balance
    resent: int
    """Writes that S3 turned down, as the object was there: faces that came again, for one reason or another."""
    overwritten: list[str]
    """Paths of objects that S3 took more than once, in spite of If-None-Match."""
    restarts: dict[str, int]
    """How often a process had ended by itself and was started again: its name and exit status."""
    failures: list[str]
    """What went wrong besides faces."""

    @classmethod
    def of(cls, seed: int, seconds: float, site: Site, run: Run) -> Self:
        """Count, once the pipeline has been stopped and S3 still runs."""
        sizes, waiting = ledger.committed(site.outbox)
        defects = [
            f"{name} ended by itself with {code}, {count} times"
            for (name, code), count in sorted(site.ended.items())
            if code not in _EXPECTED_ENDS
        ]
        return cls(
            seed=seed,
            seconds=seconds,
            faults=dict(run.done),
            recovery_seconds=dict(run.recovery_seconds),
            balance=ledger.balance(sizes, ledger.objects(site.stack), waiting),
            resent=site.s3.already_there,
            overwritten=[path for path, count in site.s3.written.items() if count > 1],
            restarts={f"{name} ({code})": count for (name, code), count in sorted(site.ended.items())},
            failures=[*run.failures, *defects],
        )

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, nothing is there twice, and nothing else went wrong."""
        return self.balance.clean and not self.failures

    def show(self) -> None:
        """Print the table, and what went wrong."""
        console = Console(highlight=False)
        table = Table(title=f"chaos, seed {self.seed}, {self.seconds:.0f} s", show_footer=True)
        table.add_column("fault", "all")
        table.add_column("times", str(sum(self.faults.values())), justify="right")
        longest = max(self.recovery_seconds.values(), default=0.0)
        table.add_column("longest to recover", f"{longest:.1f} s", justify="right")
        for kind, count in self.faults.items():
            table.add_row(kind, str(count), f"{self.recovery_seconds.get(kind, 0.0):.1f} s")
        console.print(table)
        faces = Table(show_header=False)
        for name, value in self._rows():
            faces.add_row(name, value)
        console.print(faces)
        for failure in self.failures:
            console.print(f"[red]{failure}")
        for name in ("lost", "twice", "altered", "foreign"):
            ids = getattr(self.balance, name)
            if ids:
                more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
                console.print(f"[red]{name}: {' '.join(ids[:_SHOWN_IDS])}{more}", soft_wrap=True)
        console.print("[green]passed" if self.passed else "[red]FAILED")

    def save(self, path: Path) -> None:
        """Write everything to a file, as JSON."""
        path.write_text(json.dumps({**asdict(self), "passed": self.passed}, indent=1) + "\n")

    def _rows(self) -> list[tuple[str, str]]:
        found = self.balance
        return [
            ("faces committed", str(found.committed)),
            ("stored", str(found.stored)),
            ("lost", str(len(found.lost))),
            ("stored twice", str(len(found.twice))),
            ("altered", str(len(found.altered))),
            ("foreign objects", str(len(found.foreign))),
            ("still in the outbox", str(found.waiting)),
            ("resent (S3 had it already)", str(self.resent)),
            ("overwritten in S3", str(len(self.overwritten))),
            ("restarted by the supervisor", ", ".join(f"{k} {v}" for k, v in self.restarts.items()) or "0"),
        ]
