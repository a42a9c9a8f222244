"""The outbox: stores faces on disk until their receipts arrive.

It is a SQLite file in WAL mode with ``synchronous=FULL``, so a committed face survives a power cut. Its size is
limited; when it is full, the oldest face is dropped. Its methods raise no error of the disk: a face that cannot be
stored is counted, one that is damaged is set aside, and receipts that cannot be written are remembered.
"""

import threading
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

import structlog

from edge.detector.delivery.storage.commit_timer import CommitTimer
from edge.detector.delivery.storage.commits import Commits
from edge.detector.delivery.storage.receipts import Receipts
from edge.detector.delivery.storage.row import OutboxFace, device_of
from edge.detector.delivery.storage.settling import settle, untimed_row_of
from edge.detector.delivery.storage.storage import RESCUED_AT_ONCE_BYTES, OutboxStorage
from wire.errors import BadMessage, ConfigurationError
from wire.face import Face
from wire.ids import time_of_id

__all__ = ["Outbox", "OutboxFace"]

_RESCUE_STEP_BYTES = 1 << 22
_LOCK_SECONDS = 1.0
"""Maximum time to wait for the oldest id while the disk hangs."""

_log = structlog.get_logger("outbox")


class Outbox:
    """Faces on disk. Several threads can use it, but only one process can open it."""

    def __init__(self, path: Path, max_bytes: int, device: str | None = None) -> None:
        """Open or create the outbox.

        Args:
            path: the file. A damaged one is replaced, and its faces are moved to the fresh one. One that cannot be
                written is delivered all the same.
            max_bytes: maximum size of the file. SQLite's write-ahead log needs up to 8 MB more.
            device: the device whose faces are to be stored.

        Raises:
            ConfigurationError: the file can be neither written nor read, has a later schema, has faces of another
                device, or another process has it open.
        """
        self.not_stored = 0
        """Faces that could not be stored since the start, because the disk was full or could not be written."""
        self.commits = CommitTimer()
        self._lock = threading.RLock()
        self._oldest_id: str | None = None
        self._storage = OutboxStorage(path, max_bytes)
        self._commits, self._receipts = Commits(self._storage, max_bytes), Receipts(self._storage)
        try:
            self._storage.rescue(RESCUED_AT_ONCE_BYTES)
            if device is not None:
                self._adopt(device, path)
        except BaseException:
            self._storage.file.close()
            raise

    @property
    def count(self) -> int:
        """Number of faces that are not delivered yet."""
        return self._storage.waiting_count

    @property
    def bytes(self) -> int:
        """Size of the faces in the file, in bytes."""
        return self._storage.bytes

    @property
    def dropped(self) -> int:
        """Faces dropped since the file was created, without those whose receipt has arrived since."""
        return self._storage.dropped

    @property
    def damaged(self) -> int:
        """Faces lost since the file was created, because their bytes in the file changed."""
        return len(self._storage.damaged_ids)

    @property
    def untimed(self) -> int:
        """Faces captured while the clock was not set. They wait for :meth:`settle_times`."""
        return self._storage.untimed

    @property
    def problem(self) -> str:
        """What is wrong with the disk, in a few words; empty if nothing is. Never waits for the disk."""
        return self._storage.file.problem or self._storage.disk_problem or self.commits.problem

    def store(self, faces: Sequence[Face]) -> int:
        """Commit the faces of one frame, all or none, and return how many older ones were dropped to make room.

        If the disk is full or cannot be written, the faces are not stored; this is counted in :attr:`not_stored` and
        logged. If the disk is full and the outbox takes at least half of it, the oldest faces are dropped instead.
        """
        rows = [untimed_row_of(made) for made in faces]
        device = faces[0].origin.device if faces else None
        with self._lock:
            dropped = None
            if not self._storage.file.unwritable:
                with self.commits.measure():
                    dropped = self._storage.attempt(lambda: self._commits.store(rows, device), None)
            if dropped is None:
                self.not_stored += len(faces)
                _log.error("faces not stored", faces=len(faces), reason=self.problem, unkept=self.not_stored)
                return 0
            self._storage.disk_problem = ""
        if dropped:
            _log.error("outbox full, oldest faces dropped", ids=dropped, dropped=self.dropped)
        return len(dropped)

    def delete_receipted(self, receipts: Iterable[tuple[str, str]]) -> int:
        """Delete the faces whose receipts, each an id and a camera, have arrived, and return the number deleted.

        A face that was dropped while it was under way is in S3 all the same, so it no longer counts as dropped. Other
        ids that are not in the outbox are ignored. If the disk does not let a face be deleted, its receipt is
        remembered, and written later; the face counts as deleted, and is not returned any more.
        """
        with self._lock:
            return self._receipts.write(list(receipts))

    def waiting(self, underway: Collection[int], limit: int, newest_first: bool) -> list[int]:
        """Return the sequence numbers of at most ``limit`` faces that are not under way: the newest or the oldest."""
        with self._lock:
            storage = self._storage
            for _ in range(2):
                excluded = storage.hidden.union(underway)
                rows = storage.attempt(partial(self._sequence, limit + len(excluded), newest_first), list[int]())
                found = [seq for seq in rows if seq not in excluded][:limit]
                if len(found) == limit or not storage.file.source:
                    break
                storage.rescue(_RESCUE_STEP_BYTES)
        return found

    def get(self, seq: int) -> OutboxFace | None:
        """Return a face; None if it is no longer in the outbox, or damaged. A damaged one is never returned again."""
        with self._lock:
            storage = self._storage
            if storage.is_hidden(seq):
                return None
            problem = storage.disk_problem
            storage.disk_problem = ""
            row = storage.attempt(lambda: storage.table.get(seq), None)
            if row is None:
                if storage.disk_problem:
                    storage.note_unreadable(seq)
                return None
            storage.disk_problem = problem
            try:
                return row.checked()
            except BadMessage as error:
                storage.set_aside(seq, row.id, str(error))
                return None

    def oldest_id(self) -> str | None:
        """Return the id of the oldest face; None if there is none. While the disk hangs, return the last answer."""
        if self._lock.acquire(timeout=_LOCK_SECONDS):
            try:
                self._oldest_id = next(map(self._valid_id, self.waiting((), 1, newest_first=False)), None)
            finally:
                self._lock.release()
        return self._oldest_id

    def settle_times(self) -> int:
        """Give faces that were captured before the clock was set their time, and return how many have got one.

        A face keeps its time in seconds since boot. Once the clock is set, its capture time follows from that, with the
        attribute ``clock`` "corrected". If it is of an earlier boot, its time is unknown: it gets the present time, and
        ``clock`` is "unknown". The face gets a new id, under which it is sent for the first time.
        """
        with self._lock:
            return settle(self._storage)

    def maintain(self) -> bool:
        """Do one small step of what can wait, and return whether there is more to do.

        These are: writing remembered receipts, moving faces from a damaged file, dropping faces above a lowered limit,
        giving unused pages back to the disk, erasing delivered faces once none waits, deleting old damaged files, and
        trying again what the disk refused.
        """
        with self._lock:
            storage = self._storage
            storage.retry()
            if storage.rescue(_RESCUE_STEP_BYTES):
                return True
            if storage.file.unwritable:
                return False
            self._receipts.write_remembered()
            dropped = storage.attempt(self._commits.drop_excess, list[str]())
            if dropped:
                _log.error("outbox above its limit, oldest faces dropped", ids=dropped, dropped=self.dropped)
            has_more = storage.attempt(lambda: storage.file.space.give_back_space(not storage.rows), False)
            if dropped or has_more:
                return True
            if not storage.waiting_count:
                storage.attempt(storage.file.space.erase_delivered, None)
            return False

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._storage.file.close()

    def _sequence(self, limit: int, newest_first: bool) -> list[int]:
        return self._storage.table.sequence(limit, newest_first)

    def _valid_id(self, seq: int) -> str | None:
        """Return the id of a face; None if it is damaged."""
        face_id = self._storage.attempt(lambda: self._storage.table.id_of(seq), "")
        try:
            time_of_id(face_id)
        except BadMessage:
            return None
        return face_id

    def _adopt(self, device: str, path: Path) -> None:
        """Note the device of the faces.

        Raises:
            ConfigurationError: the outbox has faces of another device.
        """
        storage = self._storage
        stored = storage.device
        if stored is None and storage.rows:  # a file of version 1
            first = next(iter(self.waiting((), 1, newest_first=False)), 0)
            row = storage.attempt(lambda: storage.table.get(first), None)
            stored = device_of(row.properties) if row else None
        if stored not in (None, device) and self.count:
            raise ConfigurationError(
                f"DEVICE_ID is '{device}', but OUTBOX_PATH '{path}' has {self.count} faces of '{stored}': run with "
                f"DEVICE_ID={stored} until they are delivered, or use another OUTBOX_PATH. Some of them may be stored "
                "already, and would be stored again under the new name"
            )
        if storage.device != device and not storage.file.unwritable:
            storage.attempt(lambda: storage.table.adopt(device), None)
        storage.device = device
