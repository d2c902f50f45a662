"""Spans of time as dbt Cloud writes them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds: ``00:01:30``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"


def words(seconds: float) -> str:
    """Return seconds in words: ``1 minutes, 30 seconds``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} seconds"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} minutes, {rest} seconds"
