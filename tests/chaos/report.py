"""The report of a run: a table of results, and whether the run passed."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

from demo.stack import process_of
from tests.chaos import ledger
from tests.chaos.journal import ids_in
from tests.chaos.ledger import Balance, Camera
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
    flipped_bits: int
    restarts: dict[str, int]
    """Number of restarts after a process ended unexpectedly, by name and exit status."""
    failures: list[str]
    """Failures other than those of the balance."""

    @classmethod
    def of(cls, seed: int, seconds: float, site: Site, run: Run, flipped: Counter[Camera]) -> Self:
        """Create the report. The pipeline must be stopped and S3 must be running."""
        balance, failures = take_stock(site, flipped)
        unexpected_exits = [
            f"{name} ended unexpectedly with {code}, {count} times"
            for (name, code), count in sorted(site.ended.items())
            if not (process_of(name) == "s3sink" and code in _EXPECTED_EXIT_CODES)
        ]
        return cls(
            seed=seed,
            seconds=seconds,
            faults=dict(run.done),
            recovery_seconds=dict(run.recovery_seconds),
            balance=balance,
            resent=site.s3.already_there,
            overwritten=[path for path, count in site.s3.written.items() if count > 1 and ledger.is_face(path)],
            flipped_bits=flipped.total(),
            restarts={f"{name} ({code})": count for (name, code), count in sorted(site.ended.items())},
            failures=[*run.failures, *unexpected_exits, *failures],
        )

    @property
    def passed(self) -> bool:
        """Whether each face is stored exactly once and there were no failures."""
        return self.balance.clean and not self.overwritten and not self.failures

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
        for name, ids in (*self.balance.problems().items(), ("overwritten", self.overwritten)):
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
            ("lost, and told by the detector (bits flipped)", f"{len(balance.told)} ({self.flipped_bits})"),
            ("stored twice", str(len(balance.twice))),
            ("overwritten in S3", str(len(self.overwritten))),
            ("altered (by SHA-256)", str(len(balance.altered))),
            ("in quarantine", str(len(balance.quarantined))),
            ("other objects", str(len(balance.foreign))),
            ("under a time before the clock was set", str(len(balance.untrue))),
            ("receipts without an object", str(len(balance.unfounded))),
            ("still in an outbox", str(balance.waiting)),
            ("not taken by an outbox, and told", str(balance.not_stored)),
            ("sent again (already in S3)", str(self.resent)),
            ("restarts by the supervisor", ", ".join(f"{k} {v}" for k, v in self.restarts.items()) or "0"),
        ]


def take_stock(site: Site, flipped: Mapping[Camera, int]) -> tuple[Balance, list[str]]:
    """Return the balance of all cameras, and the failures that it does not contain."""
    total, failures = Balance(), []
    stored = ledger.objects(site.stack)
    of_cameras = defaultdict(list)
    for one in stored:
        of_cameras[ledger.camera_of(one.key)].append(one)
    for device, camera in site.cameras():
        entries = [entry for entry in device.journal.read().values() if entry.camera == camera]
        told = ledger.told_in(device.log(camera))
        balance = ledger.balance(
            entries,
            of_cameras.pop((device.name, camera), []),
            device.receipts()[camera],
            told["dropped"] | told["damaged"],
            len(ids_in(device.outbox(camera)) - told["damaged"]),
        )
        bits = flipped.get((device.name, camera), 0)
        renamed = told["dropped"] - {entry.id for entry in entries}  # captured before the clock was set, then dropped
        damaged = set(balance.told) - told["dropped"]
        if len(damaged) > bits + len(renamed):
            failures.append(f"{device.name}/{camera}: {len(damaged)} faces lost by {bits} flipped bits")
        if device.journal.repeated:
            failures.append(f"{device.name}: ids committed more than once: {' '.join(device.journal.repeated)}")
        total += balance
    for rest in of_cameras.values():
        total += ledger.balance((), rest)
    return total, failures
