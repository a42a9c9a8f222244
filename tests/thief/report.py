"""The result of each attack, the bounds that it must keep, and the table."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

MAX_BACK_SECONDS = 10.0
"""Maximum time until broker and sink are connected again after one of them has ended."""
MAX_LOG_BYTES = 1_000_000
"""Maximum size of all logs of an attack."""


@dataclass(slots=True)
class Result:
    """What one attack did, and what it did to the others."""

    way: str
    seconds: float
    megabytes: float
    """Sent by the thief."""
    connections: int
    cpu: float
    """Cores that the thief has used, of this machine's."""
    broker_bytes: int
    sink_bytes: int
    """Most memory during the attack and after it."""
    broker_bytes_after: int
    sink_bytes_after: int
    back_seconds: list[float | None]
    """For each end of broker or sink: the time until they were connected again."""
    rate: float
    """Receipts of the honest devices during the attack, as a share of the faces that they have taken."""
    receipted: int
    """Receipts of the honest devices during the attack."""
    calm_seconds: float | None
    """Time until the honest devices' outboxes were empty after the attack; None if they were not."""
    log_bytes: int
    is_named: bool
    """Whether the logs tell the thief's name, or its address if it sends no CONNECT."""
    ended: list[str] = field(default_factory=list)
    """Processes of honest devices that have ended."""
    committed: int = 0
    """Faces of honest devices during the attack."""
    lost: int = 0
    twice: int = 0
    objects: int = 0
    """Objects below the thief's prefixes."""
    object_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the sink lets a device store."""

    objects: float
    object_bytes: float


def problems(result: Result, bounds: Bounds) -> list[str]:
    """Return which bounds an attack has broken."""
    found = []
    if any(seconds is None or seconds > MAX_BACK_SECONDS for seconds in result.back_seconds):
        found.append(f"broker and sink were not back within {MAX_BACK_SECONDS:.0f} s")
    if result.ended:
        found.append(f"ended: {', '.join(result.ended)}")
    if result.lost or result.twice:
        found.append(f"{result.lost} honest faces lost, {result.twice} stored twice")
    if not result.receipted:
        found.append("the honest devices got no receipts")
    if result.calm_seconds is None:
        found.append("the honest devices' outboxes did not become empty")
    if result.log_bytes > MAX_LOG_BYTES:
        found.append(f"{result.log_bytes / 1e6:.1f} MB of logs")
    if not result.is_named:
        found.append("no log names the thief")
    if result.objects > bounds.objects or result.object_bytes > bounds.object_bytes:
        found.append(f"{result.objects} objects with {result.object_bytes / 1e6:.0f} MB stored, beyond the budget")
    return found


def show(results: list[Result], bounds: Bounds) -> bool:
    """Print the table and the broken bounds. Return whether there are none."""
    table = Table(title="one device with a valid certificate does its worst")
    for column in ("way", "sent MB", "cores", "broker MB", "sink MB", "ends", "back s"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for column in ("honest rate", "lost", "twice", "calm s", "logs kB", "named", "objects", "stored MB"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(*_row(result), style="red" if problems(result, bounds) else "")
    console = Console(width=190, highlight=False)
    console.print(table)
    console.print("broker MB and sink MB: the most during the attack / after it. Honest rate: receipts per face taken.")
    broken = {result.way: found for result in results if (found := problems(result, bounds))}
    for way, found in broken.items():
        console.print(f"[red]{way}: {'; '.join(found)}")
    console.print("[red]FAILED" if broken else "[green]passed")
    return not broken


def save(results: list[Result], path: Path) -> None:
    """Write the results to a file as JSON."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def _row(result: Result) -> list[str]:
    backs = [seconds for seconds in result.back_seconds if seconds is not None]
    back = "never" if len(backs) < len(result.back_seconds) else f"{max(backs):.1f}" if backs else ""
    return [
        result.way,
        f"{result.megabytes:.1f}",
        f"{result.cpu:.1f}",
        f"{result.broker_bytes / 1e6:.0f} / {result.broker_bytes_after / 1e6:.0f}",
        f"{result.sink_bytes / 1e6:.0f} / {result.sink_bytes_after / 1e6:.0f}",
        str(len(result.back_seconds) or ""),
        back,
        f"{result.rate:.0%}",
        str(result.lost),
        str(result.twice),
        "never" if result.calm_seconds is None else f"{result.calm_seconds:.1f}",
        f"{result.log_bytes / 1000:.0f}",
        "yes" if result.is_named else "no",
        str(result.objects),
        f"{result.object_bytes / 1e6:.1f}",
    ]
