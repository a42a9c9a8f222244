"""How much each device may send: messages and bytes per hour, so that one device cannot run up the bill of S3.

Each device has two token buckets. They fill continuously, up to the amount of one hour. A message is allowed while both
hold something, whatever its own size, so a large message cannot be stuck. It may leave a bucket in debt.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

HOUR_SECONDS = 3600.0
INITIAL_SHARE = 0.25
"""What a device may send at once when the sink first hears of it, as a part of an hour's amount. So a restart of the
sink gives a device at most that much more."""
MAX_DEVICES = 20_000
"""Maximum number of devices that are remembered. Further ones share one budget until others have a full one again."""
_OTHERS = ""
"""The key of the shared budget. No device has this name."""


@dataclass(slots=True)
class _Account:
    messages: float
    size: float
    filled_at: float


class Budgets:
    """What each device may still send. Safe to use from several threads."""

    def __init__(
        self,
        messages_per_hour: int,
        bytes_per_hour: int,
        max_devices: int = MAX_DEVICES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """For both amounts, 0 means unlimited. ``now`` returns seconds."""
        self._messages, self._bytes = float(messages_per_hour), float(bytes_per_hour)
        self._max_devices, self._now = max_devices, now
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        """The least recently used one is first."""

    def allows(self, device: str) -> bool:
        """Return whether ``device`` may send a message now."""
        with self._lock:
            account = self._account(device)
            return (not self._messages or account.messages >= 1) and (not self._bytes or account.size > 0)

    def charge(self, device: str, size: int) -> None:
        """Take a message of ``size`` bytes from the budget of ``device``."""
        with self._lock:
            account = self._account(device)
            account.messages -= 1
            account.size -= size

    def _account(self, device: str) -> _Account:
        now = self._now()
        account = self._accounts.get(device)
        if account is None and len(self._accounts) >= self._max_devices and not self._forget_oldest(now):
            device = _OTHERS
            account = self._accounts.get(device)
        if account is None:
            # At least one message, even of a budget that is smaller than four messages per hour.
            account = _Account(max(1.0, self._messages * INITIAL_SHARE), self._bytes * INITIAL_SHARE, now)
            self._accounts[device] = account
        self._accounts.move_to_end(device)
        hours = max(0.0, now - account.filled_at) / HOUR_SECONDS
        account.messages = min(max(1.0, self._messages), account.messages + self._messages * hours)
        account.size = min(self._bytes, account.size + self._bytes * hours)
        account.filled_at = now
        return account

    def _forget_oldest(self, now: float) -> bool:
        """Forget the device that has been silent for longest, if its budget is full again."""
        device, account = next(iter(self._accounts.items()))
        hours = (now - account.filled_at) / HOUR_SECONDS
        is_full = (not self._messages or account.messages + self._messages * hours >= self._messages) and (
            not self._bytes or account.size + self._bytes * hours >= self._bytes
        )
        if is_full:
            del self._accounts[device]
        return is_full
