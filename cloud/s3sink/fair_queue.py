"""Who is next: what waits to be written, bounded for each device, and one device after the other.

However much one device sends, another one's face waits for one write of each, and memory for what is held is bounded.
"""

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_SINGLE_DEVICE_MESSAGES = 10_000
"""How many messages may wait of a device that is the only one about."""
MAX_DEVICE_MESSAGES = 1000
"""How many while others are."""
ACTIVE_SECONDS = 10.0
"""How long a device is said to be about after it has sent something."""
MAX_DEVICE_BYTES = 32 << 20
"""And how many bytes of them."""
MAX_TOTAL_BYTES = 96 << 20
"""Of all devices together: beyond it those that have more than their share have to wait."""

T = TypeVar("T")


@dataclass(slots=True)
class _DeviceQueue(Generic[T]):
    """What waits of one device."""

    items: deque[tuple[T, int]] = field(default_factory=deque)
    size: int = 0


class FairQueue(Generic[T]):
    """A line for each device, served in turn. Safe to use from several threads."""

    def __init__(
        self,
        max_device_messages: int = MAX_DEVICE_MESSAGES,
        max_device_bytes: int = MAX_DEVICE_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        max_single_device_messages: int = MAX_SINGLE_DEVICE_MESSAGES,
    ) -> None:
        self._max_device_messages, self._max_single_device_messages = max_device_messages, max_single_device_messages
        self._max_device_bytes, self._max_total_bytes = max_device_bytes, max_total_bytes
        self._latest, self._others_until = "", 0.0
        self._lines: OrderedDict[str, _DeviceQueue[T]] = OrderedDict()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, device: str, item: T, size: int) -> bool:
        """Line up an item, and tell whether there was room for it.

        Args:
            device: whose it is.
            item: what waits.
            size: of it, in bytes.
        """
        with self._changed:
            if device != self._latest:
                self._others_until = time.monotonic() + ACTIVE_SECONDS if self._latest else 0.0
                self._latest = device
            line = self._lines.get(device)
            if line is not None and self._is_full(line, size):
                return False
            if line is None:
                line = self._lines[device] = _DeviceQueue()
            line.items.append((item, size))
            line.size += size
            self._size += size
            self._changed.notify()
            return True

    def take(self) -> T | None:
        """Return the next item, of the device whose turn it is; wait for one. None: closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._lines))
            if self._closed:
                return None
            device, line = self._lines.popitem(last=False)
            item, size = line.items.popleft()
            line.size -= size
            self._size -= size
            if line.items:
                self._lines[device] = line  # behind everybody else
            return item

    def close(self) -> None:
        """Let nobody wait any longer; what is lined up stays there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_full(self, line: _DeviceQueue[T], size: int) -> bool:
        alone = time.monotonic() > self._others_until
        most = self._max_single_device_messages if alone else self._max_device_messages
        if len(line.items) >= most or line.size + size > self._max_device_bytes:
            return True
        return self._size + size > self._max_total_bytes and line.size + size > self._max_total_bytes // len(
            self._lines
        )
