"""The journal of a detector: a record of every face that its outbox promised to keep.

``python -m tests.chaos.journal`` runs the detector and appends a line before and after each call of ``Outbox.store``
to the file named by ``CHAOS_JOURNAL``. The file is outside the outbox, so it survives a damaged, full or read-only
outbox, and a line that is written survives SIGKILL. The SHA-256 is computed from the bytes that are handed to the
outbox, independently of the attribute of the face.

A detector that is killed in ``Outbox.store`` leaves faces without a second line. :func:`settle` looks into a copy of
the outbox whether they were committed.
"""

import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import wraps
from pathlib import Path

from edge.detector.delivery.outbox import Outbox
from wire.face import Face

JOURNAL = "CHAOS_JOURNAL"
"""Environment variable with the path of the journal."""


class State(StrEnum):
    """Whether a face is in the outbox."""

    BEGUN = "begun"
    """The commit had begun when the process was killed, or its result is unknown."""
    COMMITTED = "committed"
    NOT_STORED = "not-stored"
    """The outbox told that it could not store the face."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One face in a journal."""

    id: str
    """The id that the face had when it was handed to the outbox."""
    camera: str
    sha256: str
    """SHA-256 of the JPEG that was handed to the outbox."""
    seconds: float
    """When its commit began, on the monotonic clock of the machine."""
    state: State = State.BEGUN


class Journal:
    """Reads the journals of all detectors of a device. Detectors append to it in the meantime."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        """By id."""
        self.repeated: list[str] = []
        """Ids that were handed to the outbox more than once."""
        self._offset = 0
        self._lock = threading.Lock()

    def read(self) -> dict[str, Entry]:
        """Read the lines that were appended since the last call, and return all entries by id."""
        with self._lock:
            if self.path.exists():
                with self.path.open("rb") as file:
                    file.seek(self._offset)
                    data = file.read()
                complete = data[: data.rfind(b"\n") + 1]
                self._offset += len(complete)
                for line in complete.decode().splitlines():
                    self._take(line.split(" "))
            return dict(self.entries)

    def mark(self, face_id: str, state: State) -> None:
        """Append the state of a face."""
        with self.path.open("a") as file:
            file.write(f"{state} {face_id}\n")

    def _take(self, words: Sequence[str]) -> None:
        if words[0] == State.BEGUN:
            _, face_id, camera, sha256, seconds = words
            if face_id in self.entries:
                self.repeated.append(face_id)
            self.entries[face_id] = Entry(face_id, camera, sha256, float(seconds))
        else:
            self.entries[words[1]] = replace(self.entries[words[1]], state=State(words[0]))


def settle(journal: Journal, camera: str, outbox: Path) -> None:
    """Decide whether the faces of a camera were committed whose commit was interrupted. Its detector must not run.

    The outbox is copied before it is read, so its write-ahead log stays as the killed process left it. If it cannot be
    read, the faces remain undecided.
    """
    begun = [entry for entry in journal.read().values() if entry.state is State.BEGUN and entry.camera == camera]
    if not begun:
        return
    try:
        found = ids_in(outbox)
    except sqlite3.DatabaseError:
        return
    for entry in begun:
        journal.mark(entry.id, State.COMMITTED if entry.id in found else State.NOT_STORED)
    journal.read()


def ids_in(outbox: Path) -> set[str]:
    """Return the ids of the faces in an outbox. It reads a copy, and leaves the original unchanged."""
    if not outbox.exists():
        return set()
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            if Path(f"{outbox}{suffix}").exists():
                shutil.copyfile(f"{outbox}{suffix}", f"{folder}/copy.db{suffix}")
        with closing(sqlite3.connect(f"{folder}/copy.db")) as database:
            return {face_id for (face_id,) in database.execute("SELECT id FROM faces")}


def record(path: Path) -> None:
    """Record every later call of ``Outbox.store`` in this process."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    store: Callable[[Outbox, Sequence[Face]], int] = Outbox.store

    @wraps(store)
    def recorded(outbox: Outbox, faces: Sequence[Face]) -> int:
        def write(*lines: str) -> None:
            os.write(file, "".join(f"{line}\n" for line in lines).encode())

        if faces:
            write(*(_begun(face) for face in faces))
        refused_before = outbox.not_stored
        dropped = store(outbox, faces)
        refused = outbox.not_stored - refused_before
        if faces and refused in (0, len(faces)):
            state = State.NOT_STORED if refused else State.COMMITTED
            write(*(f"{state} {face.id}" for face in faces))
        return dropped

    Outbox.store = recorded  # type: ignore[method-assign, assignment]


def _begun(face: Face) -> str:
    sha256 = hashlib.sha256(face.jpeg).hexdigest()
    return f"{State.BEGUN} {face.id} {face.origin.camera} {sha256} {time.monotonic():.6f}"


if __name__ == "__main__":
    from edge.detector.__main__ import PROGRAM
    from wire.process.lifecycle import exit_now

    record(Path(os.environ[JOURNAL]))
    exit_now(PROGRAM.run(sys.argv[1:], os.environ))
