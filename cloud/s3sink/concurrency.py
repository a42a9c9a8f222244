"""How many writes are under way at once: as many as make S3 answer more of them per second.

The limit grows by a constant while the throughput grows with it, and is halved when S3 asks for fewer requests or does
not answer in time: additive increase, multiplicative decrease (Chiu and Jain, «Analysis of the Increase and Decrease
Algorithms for Congestion Avoidance in Computer Networks», 1989). It only grows while it is what limits the writes, as
the window of TCP does (RFC 7661). An increase that did not help is taken back, and tried again later.
"""

import math
import time
from collections.abc import Callable

MIN_WRITES = 16
"""The limit never falls below it, as the writes of one device may fail for reasons of its own."""
INITIAL_WRITES = 64
STEP = 16
"""By how much the limit changes when it is tried whether another one is better."""
ROUND_SECONDS = 0.25
"""Minimum duration of a measurement of the throughput."""
MIN_ROUND_WRITES = 50
"""Minimum number of writes in a measurement, as the times of single answers differ much."""
GAIN = 0.3
"""Part of the relative change of the limit that must be seen in the throughput, so that the larger limit is better."""
SETTLED_ROUNDS = 16
"""Number of measurements between a change that did not help and the next one."""
OVERLOAD_SECONDS = 1.0
"""Minimum interval between two decreases: the writes that were under way at the first one may be refused, too."""


class Concurrency:
    """Finds the number of concurrent writes by measuring the throughput. Not safe to use from several threads."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        """``most``: the upper bound. ``now`` returns seconds."""
        self._most, self._least = most, min(MIN_WRITES, most)
        self._now = now
        self.limit = self._best = min(INITIAL_WRITES, most)
        """Maximum number of writes under way."""
        self._best_rate = 0.0
        """Writes per second with the best limit so far."""
        self._direction = 1
        self._settled = 0
        """Number of measurements until the next change."""
        self._decreased_at = -math.inf
        self._began_at, self._ended, self._waited, self._skipped = now(), 0, 0, 0

    def note_end(self, *, is_waiting: bool, is_overload: bool) -> None:
        """Note the end of a write.

        Args:
            is_waiting: more messages wait, so the limit is what limits the throughput.
            is_overload: S3 asked for fewer requests, or did not answer in time.
        """
        now = self._now()
        if is_overload:
            if now - self._decreased_at >= OVERLOAD_SECONDS:
                self._decreased_at, self._settled, self._direction = now, SETTLED_ROUNDS, 1
                self.limit = self._best = max(self._least, self.limit // 2)
                self._best_rate = 0.0
                self._start_round(now)
            return
        if self._skipped < self.limit:  # these were started with another limit
            self._skipped += 1
            self._began_at = now
            return
        self._ended += 1
        self._waited += is_waiting
        seconds = now - self._began_at
        if self._ended < MIN_ROUND_WRITES or seconds < ROUND_SECONDS:
            return
        if self._waited * 2 > self._ended:
            self._judge(self._ended / seconds)
        self._start_round(now)

    def _judge(self, rate: float) -> None:
        if self.limit == self._best:
            is_other = rate < self._best_rate * (1 - GAIN)  # such as another round trip: no reason to wait
            self._best_rate = rate
            self._settled = 0 if is_other else self._settled - 1
            if self._settled > 0:
                return
        elif rate >= self._best_rate * (1 + GAIN * (self.limit / self._best - 1)):
            self._best, self._best_rate = self.limit, rate
        else:
            self.limit, self._settled, self._direction = self._best, SETTLED_ROUNDS, -self._direction
            return
        self.limit = max(self._least, min(self._most, self._best + self._direction * STEP))
        if self.limit == self._best:  # a bound
            self._settled, self._direction = SETTLED_ROUNDS, -self._direction

    def _start_round(self, now: float) -> None:
        self._began_at, self._ended, self._waited, self._skipped = now, 0, 0, 0
