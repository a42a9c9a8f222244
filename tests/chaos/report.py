"""The report of a run: a table of results, and whether the run passed."""

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
_EXPECTED_EXIT_CODES = frozenset((ExitCode.UNAVAILABLE, ExitCode.NO_PERMISSION))
"""Exit codes of a sink that finds no bucket, or has no access to it, at startup."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run."""

    seed: int
    seconds: float
    faults: dict[str, int]
    """Number of faults by kind."""
    recovery_seconds: dict[str, float]
    """Longest recovery time by kind of fault."""
    balance: Balance
    resent: int
    """Number of writes that S3 rejected because the object existed. Each one is a face that was sent again."""
    overwritten: list[str]
    """Paths of objects that S3 stored more than once despite If-None-Match."""
    restarts: dict[str, int]
    """Number of restarts after a process ended unexpectedly, by name and exit status."""
    failures: list[str]
    """Failures other than lost, duplicate, altered or foreign objects."""

    @classmethod
    def of(cls, seed: int, seconds: float, site: Site, run: Run) -> Self:
        """Create the report. The pipeline must be stopped and S3 must be running."""
        sizes, waiting = ledger.committed(site.outbox)
        unexpected_exits = [
            f"{name} ended unexpectedly with {code}, {count} times"
            for (name, code), count in sorted(site.ended.items())
            if code not in _EXPECTED_EXIT_CODES
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
            failures=[*run.failures, *unexpected_exits],
        )

    @property
    def passed(self) -> bool:
        """Whether each face is stored exactly once and there were no failures."""
        return self.balance.clean and not self.failures

    def show(self) -> None:
        """Print the tables and all failures."""
        console = Console(highlight=False)
        table = Table(title=f"chaos, seed {self.seed}, {self.seconds:.0f} s", show_footer=True)
        table.add_column("fault", "total")
        table.add_column("count", str(sum(self.faults.values())), justify="right")
        longest = max(self.recovery_seconds.values(), default=0.0)
        table.add_column("longest recovery", f"{longest:.1f} s", justify="right")
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
        """Write the report to a file as JSON."""
        path.write_text(json.dumps({**asdict(self), "passed": self.passed}, indent=1) + "\n")

    def _rows(self) -> list[tuple[str, str]]:
        balance = self.balance
        return [
            ("faces committed", str(balance.committed)),
            ("stored", str(balance.stored)),
            ("lost", str(len(balance.lost))),
            ("stored twice", str(len(balance.twice))),
            ("altered", str(len(balance.altered))),
            ("foreign objects", str(len(balance.foreign))),
            ("still in the outbox", str(balance.waiting)),
            ("sent again (already in S3)", str(self.resent)),
            ("overwritten in S3", str(len(self.overwritten))),
            ("restarts by the supervisor", ", ".join(f"{k} {v}" for k, v in self.restarts.items()) or "0"),
        ]
