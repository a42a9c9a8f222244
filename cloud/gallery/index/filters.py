"""Which faces to show, as they stand in the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from wire import topics

QUARTERS = 96
"""Quarters of an hour in a day."""
BANDS = 20
"""Steps of the least confidence."""
GRADES = 10
"""Steps of the least quality."""
_QUARTER = timedelta(minutes=15)


class BadQuery(ValueError):
    """A parameter of a query is not valid. The text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which faces to show."""

    device: str | None = None
    camera: str | None = None
    day: date | None = None
    """The day in the time zone of the gallery."""
    first_quarter: int = 0
    last_quarter: int = QUARTERS
    """The time of day, in quarters of an hour: from the first one to before the last one. If the first one is not less,
    the time goes over midnight."""
    confidence: float = 0.0
    """The least confidence, a multiple of 0.05. With 0, pictures without a confidence are shown, too."""
    quality: float = 0.0
    """The least quality, a multiple of 0.1. With 0, pictures without a quality are shown, too."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Parse the parameters ``device``, ``camera``, ``day``, ``from``, ``to``, ``confidence`` and ``quality``.

        Raises:
            BadQuery: one of them is not valid. Others are ignored.
        """
        return cls(
            device=_name(query, "device"),
            camera=_name(query, "camera"),
            day=_day(query),
            first_quarter=_quarter(query, "from", 0),
            last_quarter=_quarter(query, "to", QUARTERS),
            confidence=_least(query, "confidence", BANDS),
            quality=_least(query, "quality", GRADES),
        )

    def query(self) -> dict[str, str]:
        """Return the parameters without those that have their default."""
        found = {
            "device": self.device,
            "camera": self.camera,
            "day": self.day and f"{self.day:%Y-%m-%d}",
            "from": _clock(self.first_quarter) if self.first_quarter else None,
            "to": _clock(self.last_quarter) if self.last_quarter != QUARTERS else None,
            "confidence": f"{self.confidence:.2f}" if self.confidence else None,
            "quality": f"{self.quality:.1f}" if self.quality else None,
        }
        return {name: value for name, value in found.items() if value}

    @property
    def band(self) -> int:
        """The least confidence in steps of 0.05; 0 if every face is shown."""
        return round(self.confidence * BANDS)

    @property
    def grade(self) -> int:
        """The least quality in steps of 0.1; 0 if every face is shown."""
        return round(self.quality * GRADES)

    @property
    def has_time_of_day(self) -> bool:
        """Whether only a part of each day is shown."""
        return (self.first_quarter, self.last_quarter) != (0, QUARTERS)

    def includes_quarter(self, quarter: int) -> bool:
        """Return whether a quarter of an hour of the day is shown."""
        if self.first_quarter < self.last_quarter:
            return self.first_quarter <= quarter < self.last_quarter
        return quarter >= self.first_quarter or quarter < self.last_quarter

    def ranges_of(self, day: date, zone: ZoneInfo) -> list[tuple[int, int]]:
        """Return the times of a day that are shown, newest first: from and before, in milliseconds since 1970, UTC."""
        if self.first_quarter < self.last_quarter:
            parts = [(self.first_quarter, self.last_quarter)]
        else:
            parts = [(self.first_quarter, QUARTERS), (0, self.last_quarter)]
        return [(_ms(day, first, zone), _ms(day, last, zone)) for first, last in parts if first != last]


def day_bounds(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Return when a day begins and ends, in milliseconds since 1970, UTC."""
    return _ms(day, 0, zone), _ms(day, QUARTERS, zone)


def _ms(day: date, quarter: int, zone: ZoneInfo) -> int:
    moment = datetime.combine(day, time(), tzinfo=zone) + quarter * _QUARTER  # on the clock of the zone
    return int(moment.timestamp() * 1000)


def _clock(quarter: int) -> str:
    return f"{quarter // 4:02d}:{quarter % 4 * 15:02d}"


def _name(query: Mapping[str, str], parameter: str) -> str | None:
    text = query.get(parameter)
    if not text:
        return None
    if not topics.is_name(text):
        raise BadQuery(f"{parameter} is {text[:80]!r}: expected a name ({topics.NAME_PATTERN})")
    return text


def _day(query: Mapping[str, str]) -> date | None:
    text = query.get("day")
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 (a day, in the gallery's zone)
        if not 1970 < day.year < 2109:
            raise ValueError
    except ValueError:
        raise BadQuery(f"day is {text[:80]!r}: expected a day such as 2026-11-22") from None
    return day


def _quarter(query: Mapping[str, str], parameter: str, default: int) -> int:
    text = query.get(parameter)
    if not text:
        return default
    hour, _, minute = text.partition(":")
    if len(text) == 5 and text.isascii() and hour.isdecimal() and minute.isdecimal() and int(minute) % 15 == 0:
        quarter = int(hour) * 4 + int(minute) // 15
        if int(minute) < 60 and quarter <= QUARTERS:
            return quarter
    raise BadQuery(f"{parameter} is {text[:80]!r}: expected a quarter of an hour from 00:00 to 24:00, such as 18:15")


def _least(query: Mapping[str, str], parameter: str, count: int) -> float:
    """Return a number from 0 to 1 that is a multiple of 1 / ``count``; 0 by default."""
    text = query.get(parameter)
    if not text:
        return 0.0
    try:
        steps = float(text) * count
        if len(text) <= 8 and text.isascii() and 0 <= steps <= count and abs(steps - round(steps)) < 1e-6:
            return round(steps) / count
    except (ValueError, OverflowError):
        pass
    raise BadQuery(f"{parameter} is {text[:80]!r}: expected a number from 0 to 1 in steps of {1 / count:.3g}")
