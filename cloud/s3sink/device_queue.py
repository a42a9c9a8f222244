"""The waiting messages of one device, and how many workers may write for it.

A device for which S3 fails or hangs must not hold all workers. Its number of concurrent writes is halved at each
failure and grows by one at each success: additive increase, multiplicative decrease (Chiu and Jain, «Analysis of the
Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks», 1989). It is also less than three times
the number of free workers: a dynamic threshold (Choudhury and Hahne, «Dynamic Queue Length Thresholds for Shared-Memory
Packet Switches», 1998), so that some workers stay free for a device that was idle.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from wire.process.backoff import delay_seconds

INITIAL_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 5.0
_FREE_WORKERS_FACTOR = 3
_MIN_WRITES = 2
"""A device may always use two workers, if they are free: one for messages that have failed and one for the others."""

T = TypeVar("T")
_numbers = count()


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """A message that is held. Times are seconds on the monotonic clock."""

    item: T
    queue: "DeviceQueue[T]" = field(repr=False)
    size: int
    """Bytes in memory."""
    held_since: float
    number: int
    """Number of the message among all that have arrived."""
    bytes_before: int = 0
    """Bytes of the messages that arrived before it."""
    failures: int = 0
    """How many writes have failed."""
    failed_at: float = -math.inf
    is_busy: bool = False
    """A worker has it."""
    busy_since: float = math.inf
    """When the worker got it; infinity if none has it."""
    is_retry: bool = False
    is_withdrawn: bool = False


class DeviceQueue(Generic[T]):
    """The messages of one device. Not safe to use from several threads."""

    def __init__(self, device: str, workers: int) -> None:
        """``workers``: number of writes that may be under way for all devices together; it may change."""
        self.device, self.workers = device, workers
        self.count = self.size = 0
        """Number and bytes of the messages that are held, including those that are being written."""
        self.waiting = 0
        """Number of messages that no worker has."""
        self.busy = self.busy_retries = 0
        """Number of workers that write for this device, and those that retry."""
        self.accepted_at = -math.inf
        """When S3 last accepted an object of this device, on the monotonic clock."""
        self.failing = 0
        """Number of first attempts that have failed since the last success."""
        self._failures = 0
        """Number of attempts that have failed since the last success."""
        self._limit = math.inf
        """How many workers it may use; never more than there are."""
        self._paused_until = self._retries_paused_until = -math.inf
        self._writing: dict[Entry[T], None] = {}
        """The messages that workers have, in the order in which they got them."""
        self._fresh: deque[Entry[T]] = deque()
        self._delayed: list[tuple[float, int, Entry[T]]] = []
        """A heap: when the next attempt is due, a number that breaks ties, and the message."""

    @property
    def is_troubled(self) -> bool:
        """Whether writes have failed and it has not recovered: messages wait to be tried again."""
        self._discard_withdrawn()
        return bool(self.failing or self._delayed)

    @property
    def oldest_write_at(self) -> float:
        """When the oldest write that has not ended was started; infinity if there is none."""
        return min((entry.busy_since for entry in tuple(self._writing)), default=math.inf)

    def add(self, entry: Entry[T]) -> None:
        """Add a new message."""
        self._fresh.append(entry)
        self.count, self.waiting, self.size = self.count + 1, self.waiting + 1, self.size + entry.size

    def take(self, now: float, free_workers: int) -> Entry[T] | None:
        """Return the message to write next; None if there is none, or if the device may not use another worker."""
        allowed = max(1, int(min(self._limit, _FREE_WORKERS_FACTOR * free_workers)))
        if self.busy >= allowed:
            return None
        self._discard_withdrawn()
        is_due = self._delayed and max(self._delayed[0][0], self._retries_paused_until) <= now
        if is_due and self.busy_retries < max(1, allowed // 2):
            entry = heapq.heappop(self._delayed)[2]
            entry.is_retry = True
            self.busy_retries += 1
        elif self._fresh and self._paused_until <= now:
            entry = self._fresh.popleft()
        else:
            return None
        entry.is_busy, entry.busy_since = True, now
        self._writing[entry] = None
        self.busy += 1
        self.waiting -= 1
        return entry

    def dues(self) -> tuple[float, float]:
        """Return when the next message to retry and the next new one are due; infinity if there is none."""
        self._discard_withdrawn()
        retry_due = max(self._delayed[0][0], self._retries_paused_until) if self._delayed else math.inf
        return retry_due, self._paused_until if self._fresh else math.inf

    def note_success(self, now: float) -> None:
        """Note that S3 has accepted an object. After a failure, every message is tried again at once."""
        self.accepted_at = now
        self._limit += 1
        if self._limit >= self.workers:
            self._limit = math.inf
        self._failures, self._retries_paused_until = 0, -math.inf
        if self.failing:
            self.failing, self._paused_until = 0, -math.inf
            self._delayed = [(now, number, entry) for _, number, entry in self._delayed]  # equal times: still a heap
            heapq.heapify(self._delayed)

    def note_failure(self, entry: Entry[T], now: float) -> None:
        """Note that a write failed. The messages to retry wait together: an outage is probed by one of them at a time.

        If several first attempts fail, new messages wait, too.
        """
        self._limit = max(min(_MIN_WRITES, self.workers), min(self._limit, self.workers) / 2)
        entry.failed_at = now
        entry.failures += 1
        self._failures += 1
        if self._failures > 1:
            wait = delay_seconds(self._failures, INITIAL_RETRY_SECONDS, MAX_RETRY_SECONDS)
            self._retries_paused_until = now + wait
        if entry.failures == 1:
            self.failing += 1
            if self.failing > 1:
                self._paused_until = now + delay_seconds(self.failing, INITIAL_RETRY_SECONDS, MAX_RETRY_SECONDS)

    def delay(self, entry: Entry[T], now: float) -> None:
        """Put a message back, to be tried again later."""
        self._end_write(entry)
        self.waiting += 1
        seconds = delay_seconds(entry.failures - 1, INITIAL_RETRY_SECONDS, MAX_RETRY_SECONDS)
        heapq.heappush(self._delayed, (now + seconds, next(_numbers), entry))

    def remove(self, entry: Entry[T]) -> None:
        """Forget a message, whether a worker has it or it waits."""
        if entry.is_busy:
            self._end_write(entry)
        else:
            entry.is_withdrawn = True
            self.waiting -= 1
        self.count, self.size = self.count - 1, self.size - entry.size

    def _end_write(self, entry: Entry[T]) -> None:
        self.busy -= 1
        self.busy_retries -= entry.is_retry
        entry.is_busy = entry.is_retry = False
        entry.busy_since = math.inf
        del self._writing[entry]

    def _discard_withdrawn(self) -> None:
        while self._fresh and self._fresh[0].is_withdrawn:
            self._fresh.popleft()
        while self._delayed and self._delayed[0][2].is_withdrawn:
            heapq.heappop(self._delayed)
