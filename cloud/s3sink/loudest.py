"""Finds the device that causes most of what is turned away or put into quarantine. Memory and log are bounded."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

INTERVAL_SECONDS = 10.0
"""Interval that one line of the log covers."""
MAX_DEVICES = 1000
"""Maximum number of devices that are told apart in an interval. Further ones are counted together."""
OTHERS = "(others)"

_log = structlog.get_logger("s3sink")


@dataclass(slots=True)
class Share:
    """What one device has caused in one interval."""

    device: str
    count: int = 0
    size: int = 0
    """Bytes."""
    reasons: Counter[str] = field(default_factory=Counter)


class Loudest:
    """Counts per device, and logs the loudest one once per interval. Safe to use from several threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, threading.Lock()
        self._started_at = now()
        self._shares: dict[str, Share] = {}
        self.latest: Share | None = None
        """The loudest device of the latest complete interval; None if there was none."""

    def note(self, device: str, reason: str, size: int) -> None:
        """Note a message of ``size`` bytes that was not stored as a face. ``reason`` is one of a few fixed texts."""
        with self._lock:
            if device not in self._shares and len(self._shares) >= MAX_DEVICES:
                device = OTHERS
            share = self._shares.setdefault(device, Share(device))
            share.count += 1
            share.size += size
            share.reasons[reason] += 1

    def step(self) -> None:
        """At the end of an interval, log the loudest device, if anything was noted."""
        with self._lock:
            if self._now() - self._started_at < INTERVAL_SECONDS:
                return
            shares, self._shares, self._started_at = self._shares, {}, self._now()
            self.latest = max(shares.values(), key=lambda share: share.count, default=None)
        if self.latest is not None:
            _log.warning(
                "messages were not stored as faces, this device sent most of them",
                device=self.latest.device,
                bytes=self.latest.size,
                devices=len(shares),
                **self.latest.reasons,
            )
