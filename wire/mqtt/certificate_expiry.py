"""When a certificate expires: said in the log from a month ahead, once a day, so that nobody is cut off by surprise."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509

from wire.process.metrics import Metric, gauge

WARN_AHEAD = timedelta(days=30)
WARN_AGAIN_SECONDS = 86400.0

_log = structlog.get_logger("expiry")


class Reminder:
    """Warns of certificates that expire soon, of each once a day."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._warned_at: dict[str, float] = {}

    def remind(self, name: str, expires: datetime) -> None:
        """Warn of the certificate of ``name``, where it is time to."""
        left = expires - datetime.now(UTC)
        warned_at = self._warned_at.get(name, -math.inf)
        if left > WARN_AHEAD or self._clock() - warned_at < WARN_AGAIN_SECONDS:
            return
        self._warned_at[name] = self._clock()
        event = "a certificate expires soon" if left > timedelta(0) else "a certificate has expired"
        _log.warning(event, name=name, expires=iso(expires), days=left.days)


class Expiry:
    """Watches the certificate of this process, which may be replaced by a newer one at any time."""

    def __init__(self, cert_file: Path | None, reminder: Reminder | None = None) -> None:
        """Read the certificate.

        Args:
            cert_file: in PEM; None: this process has none.
            reminder: warns of it.
        """
        self._file, self._reminder = cert_file, reminder or Reminder()
        self._seen: tuple[int, int] | None = None
        self._expires: datetime | None = None

    @property
    def expires(self) -> datetime | None:
        """When the certificate in the file expires; of one that cannot be read now: as it was; None without one."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
            if (found.st_mtime_ns, found.st_ino) != self._seen:
                self._expires = x509.load_pem_x509_certificate(self._file.read_bytes()).not_valid_after_utc
                self._seen = found.st_mtime_ns, found.st_ino
        except (OSError, ValueError):
            pass  # the link tells, at its next attempt
        return self._expires

    @property
    def timestamp(self) -> float:
        """The same in seconds since 1970; not a number without a certificate."""
        expires = self.expires
        return math.nan if expires is None else expires.timestamp()

    @property
    def text(self) -> str | None:
        """The same as text."""
        expires = self.expires
        return None if expires is None else iso(expires)

    def step(self) -> None:
        """Warn, where it is time to."""
        expires = self.expires
        if expires is not None:
            self._reminder.remind(str(self._file), expires)


def certificate_expires(certificate: Expiry) -> Metric:
    """Return the metric of a process's own certificate."""
    return gauge(
        "facewire_certificate_expires_timestamp_seconds", "When our certificate expires.", lambda: certificate.timestamp
    )


def iso(moment: datetime) -> str:
    """Return a moment as ISO 8601 has it, in UTC and whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
