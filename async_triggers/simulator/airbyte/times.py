"""Times as Java writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def java_instant(epoch: float) -> str:
    """Format a time as Java's ``OffsetDateTime.toString`` does.

    Whole seconds, and none at all where they are 0: ``2026-03-25T01:30Z``.
    """
    moment = datetime.fromtimestamp(int(epoch), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if moment.second else "%Y-%m-%dT%H:%MZ")


def java_duration(seconds: float) -> str:
    """Format seconds as Java's ``Duration.toString`` does: ``PT8H6M12S``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = "".join(
        f"{number}{letter}"
        for number, letter in ((hours, "H"), (minutes, "M"), (left, "S"))
        if number
    )
    return f"PT{text or '0S'}"
