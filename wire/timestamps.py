"""Times as text: RFC 3339 in UTC, with milliseconds."""

from datetime import UTC, datetime

from wire.errors import BadMessage


def format_time(moment: datetime) -> str:
    """Format a time as RFC 3339 in UTC, with milliseconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parse_time(text: str) -> datetime:
    """Parse an RFC 3339 timestamp. Return it in UTC, truncated to whole milliseconds.

    Raises:
        BadMessage: it is not a timestamp, or has no offset from UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadMessage(f"time {text!r} is not an RFC 3339 timestamp such as 2026-11-22T15:04:05.123Z") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
