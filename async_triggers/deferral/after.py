"""``completed_after_time``: the time after which the end of a job counts."""

from __future__ import annotations

import re
from datetime import datetime

from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.ids import is_literal

# Most are written so, and Airflow's own reader takes long to load.
_LIKE_A_TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-][01]\d:[0-5]\d)?)?$"
)
_THE_NEXT = frozenset({"", "now"})
"""What a text may say where the next job to end is waited for."""


def as_text(value: str | datetime | None) -> str | None:
    """Return a time as text: a datetime without an offset would not stay what it is.

    Raise ArgumentUnusable for what is no time, where that is known before it is rendered.
    """
    if isinstance(value, datetime):
        return value.isoformat()

    if is_literal(value) and not (
        isinstance(value, str) and _LIKE_A_TIME.match(value.strip())
    ):
        read_after(value)

    return value


def is_given(value: object) -> bool:
    """Return whether there is a time; else the next job to end is waited for.

    ``now`` is none: Airflow reads it as another moment each time, and no job would ever
    end after the last of them.
    """
    if isinstance(value, str):
        return value.strip() not in _THE_NEXT

    return value is not None


def read_after(value: object) -> datetime | None:
    """Return the time, as Airflow reads it; None for none, or raise ArgumentUnusable."""
    if not is_given(value):
        return None

    given: object = value.isoformat() if isinstance(value, datetime) else value
    moment = _read_time(given.strip()) if isinstance(given, str) else None
    if moment is None:
        msg = (
            "completed_after_time must be a time, for example 2026-01-01T00:00:00Z,"
            f" or empty to wait for the next sync, not {given!r}"
        )
        raise ArgumentUnusable(msg)

    return moment


def _read_time(text: str) -> datetime | None:
    """Read a time as Airflow does, None where it is none."""
    # What reads a DAG file need not load it.
    from airflow.sdk import timezone  # noqa: PLC0415

    try:
        moment: object = timezone.parse(text)
    except (ValueError, OverflowError, TypeError):
        # The last for some intervals, which it reads as well.
        return None

    # It reads durations as well.
    return moment if isinstance(moment, datetime) else None
