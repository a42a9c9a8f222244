"""When certificates expire: daily warnings in the log from 30 days ahead, and a metric."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from prometheus_client.core import GaugeMetricFamily

WARN_AHEAD = timedelta(days=30)
WARN_INTERVAL_SECONDS = 86400.0

_log = structlog.get_logger("expiry")


class ExpiryReminder:
    """Logs a warning for each certificate that expires soon, once a day."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._warned_at: dict[str, float] = {}

    def remind(self, name: str, expires: datetime) -> None:
        """Log a warning for the certificate of ``name`` if it expires soon and no warning was logged today."""
        left = expires - datetime.now(UTC)
        warned_at = self._warned_at.get(name, -math.inf)
        if left > WARN_AHEAD or self._clock() - warned_at < WARN_INTERVAL_SECONDS:
            return
        self._warned_at[name] = self._clock()
        event = "a certificate expires soon" if left > timedelta(0) else "a certificate has expired"
        _log.warning(event, name=name, expires=iso_format(expires), days=left.days)


class CertificateExpiry:
    """Watches the expiry of one certificate file, which may be replaced by a newer one at any time."""

    def __init__(self, cert_file: Path | None, reminder: ExpiryReminder | None = None) -> None:
        """Watch ``cert_file``, a certificate in PEM; None: there is no certificate."""
        self._file, self._reminder = cert_file, reminder or ExpiryReminder()
        self._version: tuple[int, int] | None = None
        self._expires: datetime | None = None

    @property
    def expires(self) -> datetime | None:
        """When the certificate expires. None without a certificate; the last known value if it cannot be read."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
            if (found.st_mtime_ns, found.st_ino) != self._version:
                self._expires = x509.load_pem_x509_certificate(self._file.read_bytes()).not_valid_after_utc
                self._version = found.st_mtime_ns, found.st_ino
        except (OSError, ValueError):
            pass  # the session reports the error when it connects next
        return self._expires

    @property
    def timestamp(self) -> float:
        """When the certificate expires, in seconds since 1970; NaN without a certificate."""
        return math.nan if (expires := self.expires) is None else expires.timestamp()

    @property
    def text(self) -> str | None:
        """When the certificate expires, in ISO 8601; None without a certificate."""
        return None if (expires := self.expires) is None else iso_format(expires)

    def step(self) -> None:
        """Log a warning if one is due."""
        if (expires := self.expires) is not None:
            self._reminder.remind(str(self._file), expires)


def expiry_metric(certificate: CertificateExpiry) -> GaugeMetricFamily:
    """Return the metric of a process's own certificate."""
    return GaugeMetricFamily(
        "facewire_certificate_expires_timestamp_seconds",
        "When the certificate of this process expires.",
        value=certificate.timestamp,
    )


def iso_format(moment: datetime) -> str:
    """Format a moment as ISO 8601, in UTC and whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
