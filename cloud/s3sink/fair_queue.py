"""A fair queue: one bounded queue per device, served round-robin, with retries that wait without a worker.

However much one device sends, a message of another device waits for at most two writes of each device. Devices for
which S3 fails never hold more than half of the workers. The memory for the messages that are held is bounded. So is
what the broker has to keep, as messages are acknowledged in the order of their arrival (MQTT 5, section 4.6).
"""

import math
import threading
import time
from collections import OrderedDict
from itertools import islice
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
MAX_TOTAL_BYTES = 20 << 20
"""Maximum size of all messages that are held. Beyond it, only devices with less than their share may add messages, and
those with less than :data:`FEW_MESSAGES`. If the devices that S3 serves hold that much, nothing more is received."""
MAX_SPAN_BYTES = 20 << 20
"""The broker keeps a message until all earlier ones are acknowledged. If it keeps more than this, every other write is
for the device of the oldest message, not for the one whose turn it is."""
_MAX_LOOKED_AT = 256
FEW_MESSAGES = 4
"""A device that has so few messages is not turned away because of the total: a thousand devices, each with two faces
under way, hold more than the total, and none of them sends too much."""

T = TypeVar("T")


class FairQueue(Generic[T]):
    """One queue per device, served round-robin. Safe to use from several threads; no call waits.

    A worker takes an entry with :meth:`take`, and must pass it to :meth:`finish` or :meth:`retry`.
    """

    def __init__(
        self,
        workers: int = 16,
        max_device_messages: int = MAX_DEVICE_MESSAGES,
        max_device_bytes: int = MAX_DEVICE_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        max_single_device_messages: int = MAX_SINGLE_DEVICE_MESSAGES,
        max_span_bytes: int = MAX_SPAN_BYTES,
    ) -> None:
        self._max_span_bytes = max_span_bytes
        self._workers, self._busy = workers, 0
        self._max_device_messages, self._max_single_device_messages = max_device_messages, max_single_device_messages
        self._max_device_bytes, self._max_total_bytes = max_device_bytes, max_total_bytes
        self._latest_device, self._several_active_until = "", 0.0
        self._queues: OrderedDict[str, DeviceQueue[T]] = OrderedDict()
        """The queues that are not empty, and those of devices for which S3 fails. The first one is served next."""
        self._entries: dict[Entry[T], None] = {}
        """All messages that are held, in the order of arrival."""
        self._size = 0
        self._arrived = self._arrived_bytes = 0
        self._is_oldest_next = self._is_in_order = False
        self._taken_at = -math.inf
        self._troubled: dict[DeviceQueue[T], None] = {}
        """The queues in which messages wait to be tried again."""
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)

    @property
    def workers(self) -> int:
        """Maximum number of entries that are being written. It may be changed at any time."""
        return self._workers

    @workers.setter
    def workers(self, workers: int) -> None:
        with self._lock:
            self._workers = workers
            for queue in self._queues.values():
                queue.workers = workers

    @property
    def busy(self) -> int:
        """Number of entries that are being written."""
        return self._busy

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
        with self._lock:
            oldest = next(iter(self._entries), None)
            return 0 if oldest is None else self._arrived - oldest.number

    @property
    def is_saturated(self) -> bool:
        """Whether nothing more should be received: devices for which S3 works have filled the queue."""
        if self._size < self._max_total_bytes:
            return False
        with self._lock:
            return self._served_size >= self._max_total_bytes // 2

    def is_congested(self, entry: Entry[T]) -> bool:
        """Return whether the device of an entry should send less.

        Devices for which S3 works fill half of the queue, and this one holds at least its share of that half.
        """
        enough = self._max_total_bytes // 2
        if self._size < enough:
            return False
        with self._lock:
            return self._served_size >= enough and entry.queue.size >= enough / len(self._queues)

    def put(self, device: str, item: T, size: int) -> bool:
        """Add an item of ``size`` bytes to the queue of ``device``. Return False if that queue is full."""
        with self._lock:
            self._arrived += 1
            self._arrived_bytes += size
            if device != self._latest_device:
                self._several_active_until = time.monotonic() + ACTIVE_SECONDS if self._latest_device else 0.0
                self._latest_device = device
            queue = self._queues.get(device)
            if queue is not None and queue.count and self._is_full(queue, size):
                return False
            if queue is None:
                queue = self._queues[device] = DeviceQueue(device, self._workers)
            entry = Entry(item, queue, size, time.monotonic(), self._arrived - 1, self._arrived_bytes - size)
            queue.add(entry)
            self._entries[entry] = None
            self._size += size
            return True

    def take(self) -> Entry[T] | None:
        """Return the next entry of the device whose turn it is; None if none is due, or if no worker is free."""
        with self._lock:
            if self._busy >= self._workers:
                return None
            self._taken_at = time.monotonic()
            if self._busy == len(self._entries):
                return None
            entry = self._take(self._taken_at)
            self._busy += entry is not None
            return entry

    def serve_oldest_first(self) -> None:
        """Serve the messages in the order of arrival from now on, so that none that is written stays unacknowledged."""
        self._is_in_order = True

    def next_due(self) -> float:
        """Return when the next message is due that waits to be tried again; infinity if there is none.

        What was due already at the latest :meth:`take` waits for the end of a write.
        """
        with self._lock:
            if not self._troubled:
                return math.inf
            dues = (due for queue in self._troubled for due in queue.dues() if due > self._taken_at)
            return min(dues, default=math.inf)

    def finish(self, entry: Entry[T], *, accepted: bool) -> None:
        """Forget an entry. ``accepted``: S3 has accepted its object; otherwise the write failed."""
        with self._lock:
            now = time.monotonic()
            self._busy -= 1
            if accepted:
                entry.queue.note_success(now)
            else:
                entry.queue.note_failure(entry, now)
            self._remove(entry)
            self._note_trouble(entry.queue)

    def retry(self, entry: Entry[T]) -> None:
        """Put back an entry whose write failed. It is tried again later, with exponential backoff."""
        with self._lock:
            now = time.monotonic()
            self._busy -= 1
            entry.queue.note_failure(entry, now)
            entry.queue.delay(entry, now)
            self._note_trouble(entry.queue)

    def held(self) -> list[T]:
        """Return every item that is held, in the order of arrival."""
        with self._lock:
            return [entry.item for entry in self._entries]

    def waiting(self) -> list[Entry[T]]:
        """Return the entries that no worker has, in the order of arrival."""
        with self._lock:
            return [entry for entry in self._entries if not entry.is_busy]

    def withdraw(self, entry: Entry[T]) -> bool:
        """Forget an entry that waits. Return False if a worker has it, or if it is finished."""
        with self._lock:
            if entry.is_busy or entry not in self._entries:
                return False
            self._remove(entry)
            self._note_trouble(entry.queue)
            return True

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until no message is held, for at most ``seconds``."""
        with self._emptied:
            self._emptied.wait_for(lambda: not self._entries, seconds)

    def _take(self, now: float) -> Entry[T] | None:
        if (entry := self._take_oldest(now)) is not None:
            return entry
        busy_failing = sum(queue.busy for queue in self._troubled if queue.failing)
        for device, queue in self._queues.items():
            if not queue.waiting or (queue.failing and busy_failing >= max(1, self._workers // 2)):
                continue
            entry = queue.take(now, self._workers - self._busy)
            if entry is not None:
                self._queues.move_to_end(device)  # every other device is served first
                return entry
        return None

    def _take_oldest(self, now: float) -> Entry[T] | None:
        """Return a message of the device that has the oldest one, every other time while the broker keeps too much."""
        oldest = next(iter(self._entries))
        is_span_small = self._arrived_bytes - oldest.bytes_before <= self._max_span_bytes
        if is_span_small and not self._is_in_order:
            return None
        self._is_oldest_next = self._is_in_order or not self._is_oldest_next
        if self._is_oldest_next:
            for entry in islice(self._entries, _MAX_LOOKED_AT):
                if not entry.is_busy and not entry.queue.failing:
                    return entry.queue.take(now, self._workers - self._busy)
        return None

    def _remove(self, entry: Entry[T]) -> None:
        queue = entry.queue
        queue.remove(entry)
        del self._entries[entry]
        self._size -= entry.size
        if not queue.count and not queue.failing:
            del self._queues[queue.device]
        if not self._entries:
            self._emptied.notify_all()

    def _note_trouble(self, queue: DeviceQueue[T]) -> None:
        if queue.is_troubled:
            self._troubled[queue] = None
        else:
            self._troubled.pop(queue, None)

    @property
    def _served_size(self) -> int:
        """Bytes of the messages of devices for which S3 works."""
        return self._size - sum(queue.size for queue in self._troubled if queue.failing)

    def _is_full(self, queue: DeviceQueue[T], size: int) -> bool:
        is_only_active = time.monotonic() > self._several_active_until
        max_messages = self._max_single_device_messages if is_only_active else self._max_device_messages
        if queue.waiting >= max_messages or queue.size + size > self._max_device_bytes:
            return True
        if self._size + size <= self._max_total_bytes or (queue.count < FEW_MESSAGES and not queue.failing):
            return False
        share = self._max_total_bytes // sum(1 for each in self._queues.values() if each.count)
        return queue.size + size > share
