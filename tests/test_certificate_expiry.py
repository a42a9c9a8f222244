"""When a certificate expires, and how often that is said."""

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud.pki.certificates import CLIENT, issue, make_authority, make_key, pem
from wire.mqtt.certificate_expiry import CertificateExpiry, ExpiryReminder, iso_format


class Clock:
    """Seconds that a test sets."""

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


def test_a_warning_comes_from_a_month_ahead_and_once_a_day(capfd: pytest.CaptureFixture[str]):
    """For each name by itself; also once it is too late."""
    clock, soon = Clock(), datetime.now(UTC) + timedelta(days=29, hours=1)
    reminder = ExpiryReminder(clock)
    for _ in range(3):
        reminder.remind("jetson-1", soon)
        reminder.remind("jetson-2", soon + timedelta(days=2))
    assert "".join(capfd.readouterr()).count("expires soon") == 1
    clock.seconds = 86401
    reminder.remind("jetson-1", soon)
    reminder.remind("jetson-3", soon - timedelta(days=40))
    said = "".join(capfd.readouterr())
    assert said.count("expires soon") == said.count("has expired") == 1
    assert iso_format(soon) in said


def test_a_certificate_that_is_replaced_is_read_again(tmp_path: Path):
    """One that cannot be read, or is none, leaves what was known."""
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


def test_without_a_certificate_nothing_expires():
    """Not a number, so that no alert goes off."""
    certificate = CertificateExpiry(None)
    certificate.step()
    assert certificate.text is None
    assert math.isnan(certificate.timestamp)
