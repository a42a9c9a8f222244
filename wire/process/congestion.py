"""A congestion window: bounds what is under way on a path by its bytes and by the measured round trips.

The window grows while answers come back soon, and shrinks when they come late, so a queue never holds more than about
``target_seconds`` of work, whatever the rate of the path. This is the delay-based control of LEDBAT (RFC 6817), with
the slow start of TCP (RFC 5681) and a decrease that is proportional to the delay, as in FAST TCP (Jin, Wei and Low,
INFOCOM 2004). An answer can say that the path is congested (explicit congestion notification, RFC 3168). Round trips
are smoothed as in RFC 6298; only the first sending of a message is measured (Karn's rule).

At least two messages may be under way on any path: while the answer to one is awaited, the other one keeps it busy.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

MIN_MESSAGES = 2
INITIAL_BYTES = 32_768
BASE_INTERVAL_SECONDS = 300.0
"""The shortest round trip is taken from the current and the previous interval, as the path may have changed."""
MAX_BASE_SECONDS = 10.0
"""A round trip that never gets shorter than this is taken for a queue, as two large messages fill a thin link for long,
unless a third message under way shows that the path carries more: then the answers only take long."""
_LONG_PATH_RATE = 1.25
"""With three messages under way, a long path carries 3/2 of what it carries with two; a busy link carries the same."""
_DECREASE = 0.85
_MAX_DECREASE = 0.25
_CONGESTION_DECREASE = 0.5


@dataclass(slots=True, eq=False)
class Flight:
    """One message under way."""

    size: int
    """Bytes of the message."""
    ahead: int
    """Bytes under way when it was sent, including its own."""
    sent_at: float
    is_first: bool
    """Whether the message is sent for the first time, so that its answer belongs to this sending."""


class CongestionWindow:
    """How much may be under way. Not thread-safe: its owner holds a lock."""

    def __init__(
        self,
        *,
        target_seconds: float,
        max_messages: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up an empty window.

        Args:
            target_seconds: how long a message may wait behind others, beyond the shortest round trip measured.
            max_messages: the most messages under way, on any path.
            clock: seconds, monotonic.
        """
        self.bytes: float = INITIAL_BYTES
        """Size of the window."""
        self.rate: float | None = None
        """Bytes per second that the path has carried, smoothed; None while no answer has been measured."""
        self.round_trip: float | None = None
        """Smoothed round trip, in seconds; None while no answer has been measured."""
        self.deviation = 0.0
        """Smoothed deviation of the round trips, in seconds."""
        self.max_messages = max_messages
        self._target, self._clock = target_seconds, clock
        self._underway: set[Flight] = set()
        self._underway_bytes = 0
        self._threshold = math.inf
        """Below this size the window grows fast (TCP's slow start)."""
        self._reduced_at = -math.inf
        self._bases = (math.inf, math.inf)
        """Shortest round trip of the previous and of the current interval, in seconds."""
        self._interval_ends_at = clock() + BASE_INTERVAL_SECONDS
        self._pair_rate: float | None = None
        """Bytes per second with two messages under way, in the current interval."""
        self._is_trying_three = False
        self._has_tried_three = False
        """Whether a third message was tried in the current interval."""
        self._is_long_path = False
        """Whether round trips longer than :data:`MAX_BASE_SECONDS` are not due to a queue."""

    def __len__(self) -> int:
        """Return the number of messages under way."""
        return len(self._underway)

    def has_room(self, size: int = 1) -> bool:
        """Return whether a message of ``size`` bytes may be sent."""
        count = len(self._underway)
        if count >= self.max_messages:
            return False
        return count < MIN_MESSAGES + self._is_trying_three or self._underway_bytes + size <= self.bytes

    def send(self, size: int, *, is_first: bool = True) -> Flight:
        """Report that a message is sent."""
        flight = Flight(size, self._underway_bytes + size, self._clock(), is_first)
        self._underway.add(flight)
        self._underway_bytes += size
        return flight

    def lose(self, flight: Flight) -> None:
        """Report that a message is no longer under way, and that nothing is known about its answer."""
        if flight in self._underway:
            self._underway.discard(flight)
            self._underway_bytes -= flight.size

    def answer(self, flight: Flight, *, is_congested: bool = False) -> None:
        """Report that the answer to a message has arrived. Without effect if the message is no longer under way.

        ``is_congested``: the answer says that less should be under way.
        """
        if flight not in self._underway:
            return
        used = self._underway_bytes
        self.lose(flight)
        if flight.is_first:
            self._measure(flight, max(1e-6, self._clock() - flight.sent_at), used if is_congested else None)
        elif is_congested:
            self._shrink(flight, used, _CONGESTION_DECREASE)

    def time_out(self, flight: Flight) -> None:
        """Report that no answer has come to anything that was sent since ``flight``: the window becomes small."""
        self.lose(flight)
        if flight.sent_at >= self._reduced_at:
            self._threshold = max(INITIAL_BYTES, self.bytes / 2)
            self.bytes = 0.0
            self._reduced_at = self._clock()

    def restart(self) -> None:
        """Report that the path may be another one: begin with a small window, which may grow fast."""
        self._threshold = math.inf
        self.bytes = min(self.bytes, INITIAL_BYTES)
        self._bases = (math.inf, math.inf)
        self._pair_rate, self._is_trying_three, self._has_tried_three, self._is_long_path = None, False, False, False

    def _measure(self, flight: Flight, round_trip: float, congested: float | None) -> None:
        """Adjust the window. ``congested``: the bytes under way if the answer says that less should be."""
        now = self._clock()
        rate = flight.ahead / round_trip
        self.rate = rate if self.rate is None else self.rate + (rate - self.rate) / 8
        if self.round_trip is None:
            self.round_trip, self.deviation = round_trip, round_trip / 2
        else:
            self.deviation += (abs(round_trip - self.round_trip) - self.deviation) / 4
            self.round_trip += (round_trip - self.round_trip) / 8
        previous, current = self._bases
        self._bases = previous, min(current, round_trip)
        base = min(self._bases)
        if base > MAX_BASE_SECONDS and not self._is_long_path:
            self._try_three(flight, rate)
            base = base if self._is_long_path else MAX_BASE_SECONDS
        waited = round_trip - base
        if congested is not None or waited > self._target:
            most, used = (_DECREASE, flight.ahead) if congested is None else (_CONGESTION_DECREASE, congested)
            self._shrink(flight, used, max(_MAX_DECREASE, min(most, (base + self._target) / round_trip)))
        elif 2 * flight.ahead >= self.bytes:  # the window was the limit
            if waited > self._target / 2:
                self._threshold = min(self._threshold, self.bytes)
            is_slow_start = self.bytes < self._threshold
            self.bytes += flight.size * (1.0 if is_slow_start else flight.size / max(self.bytes, flight.size))
        if now >= self._interval_ends_at:
            self._begin_interval(now)

    def _shrink(self, flight: Flight, used: float, factor: float) -> None:
        """Make the window smaller than what was used of it, at most once in a round trip. Then it grows slowly."""
        if flight.sent_at >= self._reduced_at:
            self.bytes = self._threshold = min(self.bytes, used) * factor
            self._reduced_at = self._clock()

    def _try_three(self, flight: Flight, rate: float) -> None:
        """Find out, once in an interval, whether a third message under way raises the rate."""
        messages = flight.ahead / flight.size
        if messages < MIN_MESSAGES + 0.5:
            if messages > MIN_MESSAGES - 0.5 and not self._has_tried_three:
                self._pair_rate, self._is_trying_three, self._has_tried_three = rate, True, True
        elif self._is_trying_three and self._pair_rate is not None:
            self._is_trying_three = False
            self._is_long_path = rate > _LONG_PATH_RATE * self._pair_rate
            if self._is_long_path:
                self._threshold = math.inf

    def _begin_interval(self, now: float) -> None:
        """Let the queue on the path drain, so that the shortest round trip is measured without it."""
        self._interval_ends_at = now + BASE_INTERVAL_SECONDS
        self._bases = self._bases[1], math.inf
        self._is_trying_three = self._has_tried_three = False
        self._threshold, self.bytes = max(INITIAL_BYTES, self.bytes), 0.0
        self._reduced_at = now
