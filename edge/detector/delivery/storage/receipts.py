"""Deletes faces whose receipts have arrived, and remembers receipts that the disk does not let it write."""

import sqlite3
from collections.abc import Sequence
from functools import partial

import structlog

from edge.detector.delivery.storage.faults import Fault, fault_of
from edge.detector.delivery.storage.pages import PAGE_BYTES
from edge.detector.delivery.storage.storage import OutboxStorage
from edge.detector.delivery.storage.table import Receipt, Removed

_log = structlog.get_logger("outbox")


class Receipts:
    """Receipts, each an id and a camera."""

    def __init__(self, storage: OutboxStorage) -> None:
        self._storage = storage

    def write(self, receipts: Sequence[Receipt]) -> int:
        """Delete the faces of these receipts, and return how many were there."""
        arrived = [receipt for receipt in dict.fromkeys(receipts) if receipt not in self._storage.unwritten]
        for face_id, _ in arrived:
            self._storage.note_delivered(face_id)
        deleted = sum(self._delete(part) for part in self._parts(arrived))
        self.write_remembered()
        return deleted

    def _parts(self, receipts: Sequence[Receipt]) -> list[Sequence[Receipt]]:
        """Split receipts so that deleting the faces of one part fits in the write-ahead log, whatever the disk has."""
        storage = self._storage
        face_bytes = max(storage.bytes // max(storage.rows, 1), PAGE_BYTES)
        size = max(1, storage.file.wal_bytes // 4 // face_bytes)
        return [receipts[at : at + size] for at in range(0, len(receipts), size)]

    def _delete(self, receipts: Sequence[Receipt]) -> int:
        storage = self._storage
        removed = storage.attempt(partial(self._delete_now, receipts), None)
        for face_id, _ in receipts:  # again, as the file may have been replaced
            storage.note_delivered(face_id)
        if removed is None:
            found = {receipt: storage.attempt(partial(self._seq_of, receipt), None) for receipt in receipts}
            storage.unwritten.update(found)
            _log.error("receipts not written, remembered", receipts=len(receipts), reason=storage.disk_problem)
            return sum(seq is not None for seq in found.values())
        self._subtract(removed)
        if storage.file.unwritable:
            storage.unwritten.update(dict.fromkeys(receipts))
        return len(removed.ids)

    def _delete_now(self, receipts: Sequence[Receipt]) -> Removed:
        storage = self._storage
        # Deletions need no sync: if a power cut undoes one, the face is sent once more, and none is lost.
        storage.file.database.execute("PRAGMA synchronous = NORMAL")
        try:
            return storage.table.delete_receipted(receipts)
        except sqlite3.OperationalError as error:
            if fault_of(error) is not Fault.FULL:
                raise
            storage.file.space.checkpoint()
            return storage.table.delete_receipted(receipts)
        finally:
            storage.file.database.execute("PRAGMA synchronous = FULL")

    def write_remembered(self) -> None:
        """Write the receipts that are remembered, as far as the disk lets it."""
        storage = self._storage
        if storage.file.unwritable or not storage.unwritten:
            return
        for part in self._parts(list(storage.unwritten)):
            removed = storage.attempt(partial(self._delete_now, part), None)
            if removed is None:
                return
            self._subtract(removed)
            for receipt in part:
                storage.unwritten.pop(receipt, None)

    def _subtract(self, removed: Removed) -> None:
        storage = self._storage
        storage.note_written()
        storage.rows -= len(removed.ids)
        storage.bytes -= removed.bytes
        storage.untimed -= removed.untimed
        storage.dropped = max(0, storage.dropped - removed.no_longer_dropped)

    def _seq_of(self, receipt: Receipt) -> int | None:
        return self._storage.table.seq_of(receipt)
