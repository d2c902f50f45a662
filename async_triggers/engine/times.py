"""Times as vendors write them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_time(value: object) -> float | None:
    """Read an ISO 8601 time as epoch seconds, None where it is none.

    Times without an offset are UTC. Seconds may be missing, as in Java's
    ``OffsetDateTime.toString``.
    """
    if not isinstance(value, str) or not value:
        return None

    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None

    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)

    return moment.timestamp()


def parse_http_date(value: str | None) -> float | None:
    """Read the date of an HTTP header (RFC 9110, 5.6.7) as epoch seconds, None without."""
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def format_time(seconds: float) -> str:
    """Write epoch seconds as ISO 8601 in UTC with ``Z``, whole seconds, rounded down."""
    moment = datetime.fromtimestamp(int(seconds), tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
