"""The demo's output: its progress, and at the end the counts, the listing and the contact sheet from S3."""

import posixpath
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.table import Table

from demo import sheet
from demo.stack import BUCKET, CAMERA, DEVICE
from demo.watch import BrokerMonitor, BucketListing, Listed

MAX_ROWS = 20
"""Maximum number of rows in the listing."""
_PLAIN_LINE_SECONDS = 2.0
"""Interval between two lines of progress without a terminal."""


class Progress:
    """Shows the progress in one line that changes in place; without a terminal, prints a line now and then."""

    def __init__(self, console: Console) -> None:
        spinner = "dots" if console.encoding.startswith("utf") else "line"
        self._console = console
        self._live = console.status("starting", spinner=spinner) if console.is_interactive else None
        self._shown, self._shown_at = "", 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, monitor: BrokerMonitor, stored: int, last: bool = False) -> None:
        """Show the progress; with ``last``, the line remains."""
        stats = monitor.stats
        line = (
            f"frames {stats.get('frames', '-')}   faces detected {stats.get('faces', '-')}   "
            f"published {len(monitor.published)}   stored {stored}"
        )
        if self._live is not None:
            self._live.update(line)
        due = time.monotonic() - self._shown_at >= _PLAIN_LINE_SECONDS and self._live is None
        if line != self._shown and (last or due):
            self._console.print(line)
            self._shown, self._shown_at = line, time.monotonic()


def counts(monitor: BrokerMonitor, listing: BucketListing) -> Table:
    """Return a table of the counts from the camera to S3."""
    stats = monitor.stats
    rows = {
        "frames processed": stats.get("frames"),
        "frames skipped": stats.get("skipped"),
        "faces detected": stats.get("faces"),
        "faces selected to be sent": stats.get("sent"),
        "faces published": len(monitor.published),
        "  resent": stats.get("resent"),
        "  receipted": stats.get("receipted"),
        "  dropped": stats.get("dropped"),
        "objects in S3": len(listing.objects),
        "bytes in S3": sum(item.size for item in listing.objects),
    }
    table = _table("", "count")
    for name, number in rows.items():
        table.add_row(name, "-" if number is None else f"{number:,}")
    return table


def listing(listing: BucketListing) -> Table:
    """Return a table of the objects in the bucket with some of their metadata."""
    folder = _folder(listing.objects)
    table = _table("key", "bytes", "conf.", "track", title=f"s3://{BUCKET}/{folder}/")
    for item in listing.objects[:MAX_ROWS]:
        metadata, _ = listing.read(item.key)
        name = item.key.removeprefix(f"{folder}/")
        table.add_row(name, f"{item.size:,}", metadata.get("confidence", "-"), metadata.get("track", "-"))
    if len(listing.objects) > MAX_ROWS:
        table.add_row(f"... and {len(listing.objects) - MAX_ROWS} more")
    return table


def contact_sheet(listing: BucketListing, source: str, path: Path) -> int:
    """Read faces back from S3 and draw a contact sheet of them.

    Args:
        listing: the objects.
        source: name of the camera.
        path: the PNG file.

    Returns:
        The number of faces on the sheet.
    """
    faces = [item for item in listing.objects if item.is_face]
    chosen = sheet.evenly(faces, sheet.MAX_FACES)
    if not chosen:
        return 0
    portraits = [sheet.Portrait.of_object(*listing.read(item.key)) for item in chosen]
    shown = f"{len(faces)} faces" if len(chosen) == len(faces) else f"{len(chosen)} of {len(faces)} faces"
    lines = (
        f"{DEVICE} / {CAMERA}: {source}",
        f"{shown}, {portraits[0].captured_at:%Y-%m-%d} UTC, s3://{BUCKET}/{_folder(faces)}",
    )
    sheet.draw(portraits, "Facewire", lines).save(path)
    return len(chosen)


def _table(*columns: str, title: str | None = None) -> Table:
    """Return a table that fits into 80 columns; all columns but the first contain numbers."""
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _folder(objects: Sequence[Listed]) -> str:
    """Return the longest folder that all keys share."""
    return posixpath.commonpath([posixpath.dirname(item.key) for item in objects])
