"""Whether S3 accepts objects, and how long a message that it does not accept is held."""

import math
import time
from typing import Any

from cloud.s3sink.device_queue import Entry

MAX_HELD_SECONDS = 15.0
"""How long the sink holds a message that S3 does not accept while it accepts others. Acknowledgements leave in the
order of arrival, so a message that is held delays those of all later messages."""
SETTLE_SECONDS = 5.0
"""How long after an outage S3 must accept objects before a message is given up. Meanwhile each is tried again."""
_ACCEPTS_SECONDS = 10.0
"""How long after an accepted object S3 counts as accepting objects."""


class Acceptance:
    """When S3 accepted objects. All times are seconds on the monotonic clock. Safe to use from several threads."""

    def __init__(self) -> None:
        self.accepted_at = -math.inf
        """When S3 last accepted an object."""
        self.recovered_at = -math.inf
        """When S3 accepted an object after it had accepted none for :data:`SETTLE_SECONDS`."""

    def note(self) -> None:
        """Note that S3 has accepted an object."""
        now = time.monotonic()
        if now - self.accepted_at > SETTLE_SECONDS:
            self.recovered_at = now
        self.accepted_at = now

    @property
    def is_recent(self) -> bool:
        """Whether S3 has accepted an object in the last few seconds."""
        return time.monotonic() - self.accepted_at < SETTLE_SECONDS

    def gives_up(self, entry: Entry[Any], *, is_window_full: bool = False) -> bool:
        """Return whether the sink stops holding a message.

        It holds every message while S3 accepts nothing at all, as giving messages up would only make their devices send
        them again. Otherwise a message is given up after :data:`MAX_HELD_SECONDS` if S3 has refused it, or if writes of
        its device fail or hang and none has succeeded. A message that only waits because S3 is slow is held.

        Args:
            entry: the message.
            is_window_full: the broker soon sends no more messages, so one that only waits for its turn is given up too.
        """
        now = time.monotonic()
        accepts_others = self.accepted_at > max(entry.held_since, now - _ACCEPTS_SECONDS)
        if now - entry.held_since <= MAX_HELD_SECONDS or not accepts_others:
            return False
        if now - self.recovered_at <= SETTLE_SECONDS:
            return False
        has_failed = entry.failed_at > self.recovered_at
        queue = entry.queue
        has_trouble = queue.failing > 0 or now - queue.oldest_write_at > MAX_HELD_SECONDS
        is_device_stuck = has_trouble and queue.accepted_at < max(entry.held_since, self.recovered_at)
        return has_failed or is_device_stuck or is_window_full
