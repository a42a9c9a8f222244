"""The expiry of a certificate, and the warnings about it."""

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud.pki.certificates import CLIENT, issue, make_authority, make_key, pem
from wire.mqtt.certificate_expiry import CertificateExpiry, ExpiryReminder, iso_format


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def write_certificate(path: Path, days: float) -> datetime:
    certificate = issue(make_authority(make_key()), "jetson-1", make_key(), [CLIENT], days=days)
    part = path.with_suffix(".part")
    part.write_bytes(pem(certificate))
    part.replace(path)
    return certificate.not_valid_after_utc


def test_a_warning_is_logged_once_a_day_from_30_days_ahead(capfd: pytest.CaptureFixture[str]):
    """For each name separately, and also after the expiry."""
    clock, soon = Clock(), datetime.now(UTC) + timedelta(days=29, hours=1)
    reminder = ExpiryReminder(clock)
    for _ in range(3):
        reminder.remind("jetson-1", soon)
        reminder.remind("jetson-2", soon + timedelta(days=2))
    assert "".join(capfd.readouterr()).count("expires soon") == 1
    clock.seconds = 86401
    reminder.remind("jetson-1", soon)
    reminder.remind("jetson-3", soon - timedelta(days=40))
    logged = "".join(capfd.readouterr())
    assert logged.count("expires soon") == logged.count("has expired") == 1
    assert iso_format(soon) in logged


def test_a_replaced_certificate_is_read_again(tmp_path: Path):
    """If the file cannot be read, the last known expiry is kept."""
    path = tmp_path / "cert.pem"
    certificate = CertificateExpiry(path)
    assert certificate.expires is None
    first = write_certificate(path, days=10)
    assert certificate.expires == first
    assert certificate.timestamp == first.timestamp()
    second = write_certificate(path, days=300)
    assert certificate.text == iso_format(second)
    path.write_text("nonsense")
    os.utime(path, (1, 1))
    assert certificate.expires == second
    path.unlink()
    assert certificate.expires == second


def test_without_a_certificate_there_is_no_expiry():
    """The metric is NaN, so no alert fires."""
    certificate = CertificateExpiry(None)
    certificate.step()
    assert certificate.text is None
    assert math.isnan(certificate.timestamp)
