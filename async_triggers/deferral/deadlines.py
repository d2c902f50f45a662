"""The deadlines of a task: its own timeout, and Airflow's ``execution_timeout``.

A deadline is in epoch seconds, None where there is none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

BACKSTOP = timedelta(seconds=120)
"""Airflow's own timeout comes this much after the trigger's, which cancels and confirms."""


def earliest(*deadlines: float | None) -> float | None:
    """Return the deadline that comes first."""
    return min((each for each in deadlines if each is not None), default=None)


def seconds_left(deadline: float | None, now: float) -> float | None:
    """Return the seconds until a deadline, 0 once it has passed."""
    return None if deadline is None else max(0.0, deadline - now)


def execution_deadline(ti: Any, limit: timedelta | None, now: float) -> float | None:
    """Return when ``execution_timeout`` ends, which Airflow forgets while deferred."""
    if limit is None:
        return None

    began = getattr(ti, "start_date", None)
    start = now if began is None else began.timestamp()
    return float(start + limit.total_seconds())


def backstop(deadline: float | None, now: float) -> timedelta | None:
    """Return the timeout of a deferral whose trigger keeps a deadline by itself."""
    left = seconds_left(deadline, now)
    return None if left is None else timedelta(seconds=left) + BACKSTOP
