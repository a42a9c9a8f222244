"""A fair queue: one bounded queue per device, served round-robin.

However much one device sends, a message of another device waits for at most one write of each device, and the memory
for waiting messages is bounded.
"""

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_SINGLE_DEVICE_MESSAGES = 10_000
"""Maximum number of waiting messages of a device while no other device is active."""
MAX_DEVICE_MESSAGES = 1000
"""Maximum number of waiting messages of a device while others are active."""
ACTIVE_SECONDS = 10.0
"""How long a device counts as active after its last message."""
MAX_DEVICE_BYTES = 32 << 20
"""Maximum size of the waiting messages of a device."""
MAX_TOTAL_BYTES = 96 << 20
"""Maximum size of all waiting messages. Beyond it, only devices with less than their share may add messages."""

T = TypeVar("T")


@dataclass(slots=True)
class _DeviceQueue(Generic[T]):
    """The waiting items of one device."""

    items: deque[tuple[T, int]] = field(default_factory=deque)
    """Each item and its size in bytes."""
    size: int = 0
    """Total size in bytes."""


class FairQueue(Generic[T]):
    """One queue per device, served round-robin. Safe to use from several threads."""

    def __init__(
        self,
        max_device_messages: int = MAX_DEVICE_MESSAGES,
        max_device_bytes: int = MAX_DEVICE_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        max_single_device_messages: int = MAX_SINGLE_DEVICE_MESSAGES,
    ) -> None:
        self._max_device_messages, self._max_single_device_messages = max_device_messages, max_single_device_messages
        self._max_device_bytes, self._max_total_bytes = max_device_bytes, max_total_bytes
        self._latest_device, self._several_active_until = "", 0.0
        self._queues: OrderedDict[str, _DeviceQueue[T]] = OrderedDict()
        """The queues that are not empty. The first one is served next."""
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, device: str, item: T, size: int) -> bool:
        """Add an item of ``size`` bytes to the queue of ``device``. Return False if that queue is full."""
        with self._changed:
            if device != self._latest_device:
                self._several_active_until = time.monotonic() + ACTIVE_SECONDS if self._latest_device else 0.0
                self._latest_device = device
            queue = self._queues.get(device)
            if queue is not None and self._is_full(queue, size):
                return False
            if queue is None:
                queue = self._queues[device] = _DeviceQueue()
            queue.items.append((item, size))
            queue.size += size
            self._size += size
            self._changed.notify()
            return True

    def get(self) -> T | None:
        """Wait for an item, and return the next one of the device whose turn it is. None: the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._queues))
            if self._closed:
                return None
            device, queue = self._queues.popitem(last=False)
            item, size = queue.items.popleft()
            queue.size -= size
            self._size -= size
            if queue.items:
                self._queues[device] = queue  # at the end: every other device is served first
            return item

    def close(self) -> None:
        """Wake every waiting thread. Items that are still queued stay there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_full(self, queue: _DeviceQueue[T], size: int) -> bool:
        is_only_active = time.monotonic() > self._several_active_until
        max_messages = self._max_single_device_messages if is_only_active else self._max_device_messages
        if len(queue.items) >= max_messages or queue.size + size > self._max_device_bytes:
            return True
        share = self._max_total_bytes // len(self._queues)
        return self._size + size > self._max_total_bytes and queue.size + size > share
