"""A fair queue: one bounded queue per device, served round-robin, with retries that wait without a worker.

However much one device sends, a message of another device waits for at most one write of each device. Devices for which
S3 fails never hold more than half of the workers. The memory for the messages that are held is bounded.
"""

import math
import threading
import time
from collections import OrderedDict
from typing import Generic, TypeVar

from cloud.s3sink.device_queue import DeviceQueue, Entry

MAX_SINGLE_DEVICE_MESSAGES = 10_000
"""Maximum number of waiting messages of a device while no other device is active."""
MAX_DEVICE_MESSAGES = 1000
"""Maximum number of waiting messages of a device while others are active."""
ACTIVE_SECONDS = 10.0
"""How long a device counts as active after its last message."""
MAX_DEVICE_BYTES = 12 << 20
"""Maximum size of the messages of a device that are held."""
MAX_TOTAL_BYTES = 24 << 20
"""Maximum size of all messages that are held. Beyond it, only devices with less than their share may add messages."""

T = TypeVar("T")


class FairQueue(Generic[T]):
    """One queue per device, served round-robin. Safe to use from several threads.

    A worker gets an entry from :meth:`get`, and must pass it to :meth:`finish` or :meth:`retry`.
    """

    def __init__(
        self,
        workers: int = 16,
        max_device_messages: int = MAX_DEVICE_MESSAGES,
        max_device_bytes: int = MAX_DEVICE_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        max_single_device_messages: int = MAX_SINGLE_DEVICE_MESSAGES,
    ) -> None:
        self._workers, self._free = workers, workers
        self._max_device_messages, self._max_single_device_messages = max_device_messages, max_single_device_messages
        self._max_device_bytes, self._max_total_bytes = max_device_bytes, max_total_bytes
        self._latest_device, self._several_active_until = "", 0.0
        self._queues: OrderedDict[str, DeviceQueue[T]] = OrderedDict()
        """The queues that are not empty, and those of devices for which S3 fails. The first one is served next."""
        self._entries: dict[Entry[T], None] = {}
        """All messages that are held, in the order of arrival."""
        self._size = 0
        self._arrived = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        """Number of messages that are held."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of all messages that are held."""
        return self._size

    @property
    def span(self) -> int:
        """Number of messages that have arrived since the oldest one that is held, including it."""
        with self._changed:
            oldest = next(iter(self._entries), None)
            return 0 if oldest is None else self._arrived - oldest.number

    def put(self, device: str, item: T, size: int) -> bool:
        """Add an item of ``size`` bytes to the queue of ``device``. Return False if that queue is full."""
        with self._changed:
            self._arrived += 1
            if device != self._latest_device:
                self._several_active_until = time.monotonic() + ACTIVE_SECONDS if self._latest_device else 0.0
                self._latest_device = device
            queue = self._queues.get(device)
            if queue is not None and queue.count and self._is_full(queue, size):
                return False
            if queue is None:
                queue = self._queues[device] = DeviceQueue(device, self._workers)
            entry = Entry(item, queue, size, time.monotonic(), self._arrived - 1)
            queue.add(entry)
            self._entries[entry] = None
            self._size += size
            self._changed.notify()
            return True

    def get(self) -> Entry[T] | None:
        """Wait for an entry, and return the next one of the device whose turn it is. None: the queue is closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if (entry := self._take(now)) is not None:
                    self._free -= 1
                    return entry
                # What is due already waits for a worker of its device, whose end notifies this thread.
                dues = (due for queue in self._queues.values() for due in queue.dues() if now < due)
                due = min(dues, default=math.inf)
                self._changed.wait(due - now if due < math.inf else None)
            return None

    def finish(self, entry: Entry[T], *, accepted: bool) -> None:
        """Forget an entry. ``accepted``: S3 has accepted its object; otherwise the write failed."""
        with self._changed:
            now = time.monotonic()
            self._free += 1
            if accepted:
                entry.queue.note_success(now)
            else:
                entry.queue.note_failure(entry, now)
            self._remove(entry)
            self._changed.notify_all()

    def retry(self, entry: Entry[T]) -> None:
        """Put back an entry whose write failed. It is tried again later, with exponential backoff."""
        with self._changed:
            now = time.monotonic()
            self._free += 1
            entry.queue.note_failure(entry, now)
            entry.queue.delay(entry, now)
            self._changed.notify_all()

    def held(self) -> list[T]:
        """Return every item that is held, in the order of arrival."""
        with self._changed:
            return [entry.item for entry in self._entries]

    def waiting(self) -> list[Entry[T]]:
        """Return the entries that no worker has, in the order of arrival."""
        with self._changed:
            return [entry for entry in self._entries if not entry.is_busy]

    def withdraw(self, entry: Entry[T]) -> bool:
        """Forget an entry that waits. Return False if a worker has it, or if it is finished."""
        with self._changed:
            if entry.is_busy or entry not in self._entries:
                return False
            self._remove(entry)
            return True

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until no message is held, for at most ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._entries, seconds)

    def close(self) -> None:
        """Wake every waiting thread. Entries that are still queued stay there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, now: float) -> Entry[T] | None:
        busy_failing = sum(queue.busy for queue in self._queues.values() if queue.failing)
        for device, queue in self._queues.items():
            if queue.failing and busy_failing >= max(1, self._workers // 2):
                continue
            entry = queue.take(now, self._free)
            if entry is not None:
                self._queues.move_to_end(device)  # every other device is served first
                return entry
        return None

    def _remove(self, entry: Entry[T]) -> None:
        queue = entry.queue
        queue.remove(entry)
        del self._entries[entry]
        self._size -= entry.size
        if not queue.count and not queue.failing:
            del self._queues[queue.device]

    def _is_full(self, queue: DeviceQueue[T], size: int) -> bool:
        is_only_active = time.monotonic() > self._several_active_until
        max_messages = self._max_single_device_messages if is_only_active else self._max_device_messages
        if queue.waiting >= max_messages or queue.size + size > self._max_device_bytes:
            return True
        share = self._max_total_bytes // sum(1 for each in self._queues.values() if each.count)
        return self._size + size > self._max_total_bytes and queue.size + size > share
