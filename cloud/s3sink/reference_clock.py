"""The time with which capture times are compared: the later of this machine's clock and the clock of S3.

Either may be behind, and a face of an honest device must not seem to lie in the future because of that. So a time is in
the future only if it is so for both.
"""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from wire.process import clock

_MAX_DATE = datetime(9000, 1, 1, tzinfo=UTC)
"""Later headers are nonsense, and their sum with a duration could overflow."""


class ReferenceClock:
    """Combines this machine's clock with the last ``Date`` header of S3. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._date: datetime | None = None
        self._date_at = 0.0
        """When the header arrived, in seconds since boot."""

    def note(self, date: str | None) -> None:
        """Note a ``Date`` header (RFC 9110, section 5.6.7). Any other text is ignored."""
        try:
            moment = parsedate_to_datetime(date or "")
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, TypeError, OverflowError):
            return
        with self._lock:
            self._date, self._date_at = moment, clock.seconds_since_boot()

    def now(self) -> datetime | None:
        """Return the time; None if neither clock is set."""
        latest = clock.now()
        with self._lock:
            if self._date is not None:
                elapsed = timedelta(seconds=clock.seconds_since_boot() - self._date_at)
                latest = max(latest, min(self._date, _MAX_DATE) + elapsed)
        return latest if clock.is_set(latest) else None
