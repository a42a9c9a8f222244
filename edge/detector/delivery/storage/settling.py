"""The capture time of faces that were captured while the clock was not set."""

from collections.abc import Sequence
from datetime import datetime

from edge.detector.delivery.storage.pages import PAGE_BYTES
from edge.detector.delivery.storage.row import Row, row_of
from edge.detector.delivery.storage.storage import SPARE_PAGES, OutboxStorage
from edge.detector.delivery.storage.table import size_on_disk
from wire.errors import BadMessage
from wire.face import CORRECTED, UNKNOWN, Face
from wire.process import clock

_STEP_FACES = 8
"""Faces that get their time in one transaction."""


def untimed_row_of(made: Face) -> Row:
    """Return the row of a face. If the clock was not set at its capture, it keeps the seconds since boot."""
    if made.clock is not None or clock.is_set(made.captured_at):
        return row_of(made)
    captured = clock.boot_seconds_of(made.captured_at)
    # None: the clock was set since the capture, a moment ago, as a face is stored at most an interval after it.
    return row_of(made, clock.boot_id(), clock.seconds_since_boot() if captured is None else captured)


def settle(storage: OutboxStorage) -> int:
    """Give a few faces their capture time if the clock is set, and return how many have got one.

    If the file cannot be written, they wait: after a restart they would get another time, and so another id.
    """
    now = clock.now()
    if not storage.untimed or not clock.is_set(now) or storage.file.unwritable:
        return 0
    none: list[tuple[int, Row]] = []
    found = storage.attempt(lambda: storage.table.untimed(_STEP_FACES + len(storage.set_aside_rows)), none)
    settled, former_ids = [], []
    for seq, row in found:
        if seq not in storage.set_aside_rows:
            try:
                settled.append((seq, _settled(row, now)))
                former_ids.append(row.id)
            except BadMessage as error:
                storage.set_aside(seq, row.id, str(error))
    if not settled or not storage.attempt(lambda: _replace(storage, settled, former_ids), False):
        return 0
    storage.untimed -= len(settled)
    return len(settled)


def _settled(row: Row, now: datetime) -> Row:
    if row.boot == clock.boot_id() and row.captured is not None:
        return row.with_time(clock.true_time(row.captured), CORRECTED)
    return row.with_time(now.replace(microsecond=now.microsecond // 1000 * 1000), UNKNOWN)


def _replace(storage: OutboxStorage, rows: Sequence[tuple[int, Row]], former_ids: Sequence[str]) -> bool:
    storage.file.space.allocate(sum(size_on_disk(row) for _, row in rows) // PAGE_BYTES + SPARE_PAGES)
    storage.table.replace(rows, former_ids if storage.file.is_rescuing else ())
    return True
