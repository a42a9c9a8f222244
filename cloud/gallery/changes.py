"""The feed of changes: threads publish, and each open page reads.

The last 1,000 changes are kept, each with an id. A reader has no queue of its own. It has a position in these changes,
so that a slow reader requires no memory. A reader that falls behind, or that asks for changes of an earlier start of
the gallery, receives the change ``reset``: it must load its content again.
"""

import asyncio
import contextlib
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

MAX_CHANGES = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """A change, as it is sent to the browser."""

    id: str
    kind: str
    """``face``, ``deleted``, ``devices``, ``state`` or ``reset``."""
    data: dict[str, Any]


class Changes:
    """The last changes, numbered in the order in which they were published."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._count = 0
        self._readers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = False

    @property
    def last_id(self) -> str:
        """Id of the last change. A reader that starts with it receives every later change."""
        with self._lock:
            return self._id(self._count)

    @property
    def readers(self) -> int:
        """Number of readers."""
        with self._lock:
            return len(self._readers)

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Publish a change, from any thread."""
        with self._lock:
            self._count += 1
            self._changes.append(Change(self._id(self._count), kind, data))
            self._wake()

    def close(self) -> None:
        """End all readers, from any thread."""
        with self._lock:
            self._closed = True
            self._wake()

    async def since(self, last: str | None) -> AsyncIterator[Change]:
        """Yield the changes after the one with the id ``last``, then each change when it is published.

        Args:
            last: id of the last change that the reader has. None: only changes from now on.
        """
        reader = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._readers.add(reader)
            position = self._count if last is None else self._position(last)
        try:
            while not self._closed:
                reader[1].clear()
                position, changes = self._after(position)
                for change in changes:
                    yield change
                if not changes:
                    await reader[1].wait()
        finally:
            with self._lock:
                self._readers.discard(reader)

    def _after(self, position: int) -> tuple[int, list[Change]]:
        with self._lock:
            missing = self._count - position
            if missing == 0:
                return position, []
            if not 0 < missing <= len(self._changes):
                return self._count, [Change(self._id(self._count), "reset", {})]
            return self._count, list(self._changes)[-missing:]

    def _position(self, last: str) -> int:
        """Return the number in an id; -1, which is always too old, if it is not an id of this start."""
        start, _, number = last.partition("-")
        return int(number) if start == self._start and number.isdecimal() and len(number) < 16 else -1

    def _id(self, number: int) -> str:
        return f"{self._start}-{number}"

    def _wake(self) -> None:
        for loop, event in self._readers:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(event.set)
