"""The time with which the sink compares capture times."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cloud.s3sink.bucket import Bucket
from cloud.s3sink.reference_clock import ReferenceClock
from cloud.s3sink.settings import WriteSettings
from demo.stack import BUCKET, Stack
from wire.process import clock

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Clocks:
    """The clocks of this machine."""

    wall = NOW
    since_boot = 1000.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(clock, "now", lambda: clocks.wall)
    monkeypatch.setattr(clock, "seconds_since_boot", lambda: clocks.since_boot)
    return clocks


@pytest.mark.parametrize("error", [-400 * DAY, -DAY, timedelta(0)])
def test_the_later_of_both_clocks_counts(clocks: Clocks, error: timedelta):
    """Whichever is behind."""
    reference = ReferenceClock()
    clocks.wall = NOW + error
    reference.note(format_datetime(NOW, usegmt=True))
    assert reference.now() == NOW
    reference.note(format_datetime(NOW + error, usegmt=True))
    clocks.wall = NOW
    assert reference.now() == NOW


def test_an_old_header_is_as_good_as_a_new_one(clocks: Clocks):
    """A sink that has had nothing to write for days knows the time although its own clock is not set."""
    reference = ReferenceClock()
    clocks.wall = datetime(1970, 1, 1, tzinfo=UTC)
    reference.note(format_datetime(NOW, usegmt=True))
    clocks.since_boot += 3 * 86_400
    assert reference.now() == NOW + 3 * DAY


def test_without_a_clock_that_is_set_the_time_is_not_known(clocks: Clocks):
    """Then no face is in the future."""
    clocks.wall = datetime(1970, 1, 1, tzinfo=UTC)
    reference = ReferenceClock()
    assert reference.now() is None
    reference.note("Thu, 01 Jan 1970 00:00:00 GMT")
    assert reference.now() is None


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359"]
)
def test_a_nonsensical_header_is_ignored(clocks: Clocks, date: str | None):
    """It neither fails nor moves the time back."""
    reference = ReferenceClock()
    reference.note(date)
    now = reference.now()
    assert now is not None
    assert now >= NOW


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d*:\d*:\d* [-+]?\w{1,5}"))
def test_any_header_is_accepted(date: str):
    """Otherwise a write would count as failed because of it."""
    ReferenceClock().note(date)


def test_the_date_of_a_real_server_is_noted(servers: Stack, monkeypatch: pytest.MonkeyPatch):
    """In any of its answers, also in refusals."""
    began = datetime.now(UTC)
    for name, value in servers.aws().items():
        monkeypatch.setenv(name, value)
    for key in (servers.aws()["AWS_SECRET_ACCESS_KEY"], "wrong"):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
        bucket = Bucket(WriteSettings(s3_bucket=BUCKET), CollectorRegistry())
        try:
            bucket.client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
        except bucket.client.exceptions.ClientError:
            assert key == "wrong"
        with monkeypatch.context() as patch:
            patch.setattr(clock, "now", lambda: began - 400 * DAY)
            now = bucket.clock.now()
        assert now is not None
        assert abs(now - began) < timedelta(minutes=5)
