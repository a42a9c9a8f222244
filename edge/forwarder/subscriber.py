"""Finds out whether anybody has subscribed to the faces in the cloud, before any face is sent.

One probe asks; faces wait until it has been answered. While nobody has subscribed, it is repeated.
"""

import enum
import math
import time
from collections.abc import Callable

from wire.process.backoff import delay_seconds

INITIAL_PROBE_SECONDS = 1.0
MAX_PROBE_SECONDS = 8.0
"""A probe has about 100 bytes, so this is a part of 1 % of a link of 32 kbit/s."""


class _State(enum.Enum):
    UNKNOWN = enum.auto()
    ASKED = enum.auto()
    ABSENT = enum.auto()
    PRESENT = enum.auto()


class Subscriber:
    """Whether there is a subscriber. Not thread-safe: the relay holds a lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = _State.UNKNOWN
        self._attempts = 0
        self._ask_at = -math.inf

    @property
    def is_present(self) -> bool:
        """Whether faces may be sent."""
        return self._state is _State.PRESENT

    def ask(self) -> bool:
        """Return whether a probe is due. The caller sends it."""
        if self._state in (_State.PRESENT, _State.ASKED) or self._clock() < self._ask_at:
            return False
        self._state = _State.ASKED
        return True

    def found(self) -> None:
        """Report that there is a subscriber, or that asking is of no use."""
        self._state, self._attempts, self._ask_at = _State.PRESENT, 0, -math.inf

    def missed(self) -> None:
        """Report that there is no subscriber."""
        if self._state is not _State.ABSENT:
            self._state = _State.ABSENT
            wait = delay_seconds(self._attempts, INITIAL_PROBE_SECONDS, MAX_PROBE_SECONDS, jitter=0.25)
            self._ask_at = self._clock() + wait
            self._attempts += 1

    def forget(self) -> None:
        """Report that the connection has ended. The next one asks at once."""
        self._state, self._attempts, self._ask_at = _State.UNKNOWN, 0, -math.inf
