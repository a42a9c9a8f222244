"""A limit on messages and bytes per second that holds in every second, wherever that second begins.

Some brokers discard what a client sends above such a limit. A token bucket allows its burst on top of its rate, so
everything that was sent in the last second is counted as well. The bucket, with a small burst, spreads messages evenly
(GCRA, ITU-T I.371): if they came in one burst a second, two of these could reach the broker within one second when the
first is held up on its way.
"""

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 1.0
_RESOLUTION_SECONDS = 1e-6
BURST_SECONDS = 0.05
"""How much may be sent at once, as the time that it takes at the rate of the limit."""


class RateLimit:
    """What may be sent now. Not thread-safe: its owner holds a lock."""

    def __init__(
        self,
        messages_per_second: float | None,
        bytes_per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up a limit; None is unlimited. Below one message a second, the window is as long as one message takes."""
        rate = math.inf if messages_per_second is None else messages_per_second
        self._window = max(WINDOW_SECONDS, 1 / rate)
        self._max_messages = math.inf if math.isinf(rate) else max(1, math.floor(rate * self._window))
        self._max_bytes = math.inf if bytes_per_second is None else bytes_per_second * self._window
        self._seconds_per_message = 1 / rate
        self._seconds_per_byte = 0.0 if bytes_per_second is None else 1 / bytes_per_second
        self._even_until = -math.inf
        """When all that was sent would have been sent evenly at the rate of the limit."""
        self._clock = clock
        self._sent: deque[tuple[float, int]] = deque()
        """Time and size of each message in the window."""
        self._sent_bytes = 0

    def wait_seconds(self, size: int) -> float:
        """Return the seconds until a message of ``size`` bytes may be sent; 0 if it may be sent now.

        A message that is larger than the limit by itself may be sent when nothing else is in the window.
        """
        now = self._clock()
        while self._sent and now - self._sent[0][0] >= self._window:
            self._sent_bytes -= self._sent.popleft()[1]
        excess_messages = len(self._sent) + 1 - self._max_messages
        excess_bytes = self._sent_bytes + size - self._max_bytes
        wait = max(0.0, self._even_until - now - BURST_SECONDS)
        for sent_at, sent_size in self._sent:
            if excess_messages <= 0 and excess_bytes <= 0:
                break
            excess_messages -= 1
            excess_bytes -= sent_size
            wait = max(wait, sent_at + self._window - now)
        return wait if wait > _RESOLUTION_SECONDS else 0.0

    def note(self, size: int) -> None:
        """Report that a message is sent."""
        now = self._clock()
        took = max(self._seconds_per_message, size * self._seconds_per_byte)
        self._even_until = max(self._even_until, now) + took
        self._sent.append((now, size))
        self._sent_bytes += size
