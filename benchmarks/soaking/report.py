"""What the day has shown, as tables in Markdown. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks.sides import TITLES, VENDORS
from benchmarks.soaking.meter import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.soaking.meter import Hour
    from benchmarks.soaking.play import Outcome

_HEADS = (
    "hour",
    "jobs ended",
    "waiting",
    "memory, MB",
    "traced objects",
    "open files",
    "tasks of the loop",
    "entries in tables",
    "requests: " + ", ".join(TITLES[each] for each in VENDORS),
    "429s, other faults",
    "tokens",
    "new connections",
    "end to event, p50 / max",
    "… in trouble, max",
)


def hours_table(hours: Sequence[Hour], outcome: Outcome) -> str:
    """Return a row for each hour, with one before the first job and one after the last."""
    before, after = (_row(each) for each in (outcome.before, outcome.after))
    before[0], after[0] = "before", "after"
    lines = [_HEADS, ["---:"] * len(_HEADS), before, *map(_row, hours), after]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(hour: Hour) -> list[str]:
    refused = sum(hour.refused.values())
    return [
        str(hour.hour),
        f"{hour.ended:,}",
        str(hour.waiting),
        f"{hour.resident_mb:.0f}",
        f"{hour.objects:,}",
        str(hour.descriptors),
        str(hour.tasks),
        str(entries(hour)),
        ", ".join(f"{hour.requests[each]:,}" for each in VENDORS),
        f"{refused}, {hour.faults - refused}",
        str(hour.tokens),
        str(hour.connections),
        f"{_seconds(hour.late_p50)} / {_seconds(hour.late_max)}",
        _seconds(hour.late_in_trouble),
    ]


def entries(hour: Hour) -> int:
    """Return how many entries the tables of all accounts hold."""
    return sum(
        size
        for path, size in hour.tables.items()
        if path.partition(".")[0] in TITLES.values()
    )


def totals_table(hours: Sequence[Hour], outcome: Outcome) -> str:
    """Return what holds for the whole day."""
    lines = [("what", "measured"), ("---", "---"), *_totals(hours, outcome)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _totals(hours: Sequence[Hour], outcome: Outcome) -> Iterator[tuple[str, str]]:
    shares = (outcome.delay(each) for each in (0.5, 0.99, 1.0))
    yield "ends reported", f"{outcome.ended:,}"
    yield "never reported", str(outcome.never)
    yield (
        "from end to event without trouble: p50 / p99 / max",
        " / ".join(_seconds(each) for each in shares),
    )
    yield (
        "reported late: without trouble, in trouble",
        (f"{outcome.late}, {outcome.late_in_trouble}"),
    )
    yield "reported wrongly", str(sum(outcome.wrong.values()))
    yield "tasks stopped by users", str(outcome.stopped)
    yield "jobs cancelled, to be cancelled", f"{outcome.cancels}, {outcome.to_cancel}"
    yield "rounds", f"{sum(each.rounds for each in hours):,}"
    yield (
        "latest beginning of a round after its place on the grid",
        f"{max(each.round_late for each in hours):.3f} s",
    )
    yield (
        "drift of the grid in the day",
        f"{max(each.grid_drift for each in hours):.6f} s",
    )
    yield "rounds that broke down", str(sum(each.broken_rounds for each in hours))
    yield "tokens issued by Airbyte", f"{sum(each.tokens for each in hours):,}"
    for vendor in VENDORS:
        limit, seconds = LIMITS[vendor]
        most = max(each.busiest[vendor] for each in hours)
        window = "hour" if seconds == 3600.0 else "minute"
        of = "" if limit is None else f" of {limit:,}"
        yield f"requests to {TITLES[vendor]} in its busiest {window}", f"{most:,}{of}"


def _seconds(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.0f} s"
