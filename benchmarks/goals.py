"""What waiting is to cost at most, beside what it was measured to cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.plots import comparable
from benchmarks.sides import INTERVALS, TITLES, VENDORS

if TYPE_CHECKING:
    from benchmarks.rows import Row, Runner
    from benchmarks.sides import Vendor

LATENCY = 0.1
"""The latency in seconds of the runs that are looked at."""
POOLS = {"airbyte": 5, "fivetran": 14, "dbt_cloud": 14}
"""Connections that the triggers of one account may have, by the defaults of each vendor."""


class Seen:
    """Finds numbers among the runs of triggers that began together."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = sorted(rows, key=lambda row: row.run.seconds)

    def get(
        self,
        vendor: Vendor,
        side: Runner,
        n: int,
        name: str,
        *,
        runner: bool = False,
        shortest: bool = False,
        per_second: bool = False,
    ) -> float | None:
        """Return a number of the longest run, or of the shortest; None without one."""
        found = [
            comparable(row.numbers, name) if per_second else row.numbers[name]
            for row in self._rows
            if (row.run.vendor, row.run.side, row.run.n) == (vendor, side, n)
            and (row.run.start, row.run.latency) == ("together", LATENCY)
            and row.run.runner is runner
        ]
        return found[0 if shortest else -1] if found else None


Measure = Callable[[Seen, "Vendor"], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: a measure by vendor, and the most that it may be."""

    title: str
    most: float | dict[str, int]
    measure: Measure
    digits: int = 1
    below: Measure | None = None
    """What it is less than where it is too little to be measured."""

    def limit(self, vendor: Vendor) -> float:
        """Return the most that it may be for a vendor."""
        return self.most if isinstance(self.most, int | float) else self.most[vendor]

    def cell(self, seen: Seen, vendor: Vendor) -> str:
        """Write what was measured, in bold where it is too much."""
        value, less = self.measure(seen, vendor), ""
        if value is None and self.below is not None:
            value, less = self.below(seen, vendor), "< "

        if value is None:
            return "not measured"

        shown = f"{less}{value:,.{self.digits}f}"
        return shown if value <= self.limit(vendor) else f"**{shown}**"

    def limits(self) -> str:
        """Write the most that it may be, by vendor where they differ."""
        most = [f"{self.limit(vendor):,g}" for vendor in VENDORS]
        return most[0] if len(set(most)) == 1 else " / ".join(most)


def _number(name: str, n: int, factor: float = 1.0) -> Measure:
    def measure(seen: Seen, vendor: Vendor) -> float | None:
        value = seen.get(vendor, "ours", n, name)
        return None if value is None else value * factor

    return measure


def _above_the_floor(name: str, n: int, *, runner: bool = False) -> Measure:
    def measure(seen: Seen, vendor: Vendor) -> float | None:
        ours = seen.get(vendor, "ours", n, name, runner=runner)
        floor = seen.get(vendor, "floor", n, name, runner=runner)
        return None if ours is None or floor is None else ours - floor

    return measure


def _beyond_the_interval(n: int) -> Measure:
    def measure(seen: Seen, vendor: Vendor) -> float | None:
        late = seen.get(vendor, "ours", n, "detect_p99_s")
        return None if late is None else late - INTERVALS[vendor]

    return measure


def _cpu_of_official(seen: Seen, vendor: Vendor) -> float | None:
    """Return our CPU time a second in per cent of the official trigger's, N = 1,000."""
    ours = seen.get(vendor, "ours", 1000, "cpu_net_s", per_second=True)
    peer = seen.get(vendor, "peer", 1000, "cpu_net_s", per_second=True)
    return None if ours is None or not peer else 100 * ours / peer


def _cpu_error_of_official(seen: Seen, vendor: Vendor) -> float | None:
    """Return the same of what cannot be told from doing nothing."""
    error = seen.get(vendor, "ours", 1000, "cpu_error")
    peer = seen.get(vendor, "peer", 1000, "cpu_net_s", per_second=True)
    return None if error is None or not peer else 100 * error / peer


def _growth(seen: Seen, vendor: Vendor) -> float | None:
    """Return how many times as much CPU a second ten times as many take."""
    few, many = (
        seen.get(vendor, "ours", n, "cpu_net_s", shortest=True, per_second=True)
        for n in (1000, 10_000)
    )
    return None if many is None or not few else many / few


GOALS = (
    Goal(
        "CPU a second in % of the official trigger's, N = 1,000",
        5,
        _cpu_of_official,
        below=_cpu_error_of_official,
    ),
    Goal(
        "memory above the floor's, MB, N = 1,000",
        10,
        _above_the_floor("rss_growth_mb", 1000),
    ),
    Goal(
        "memory above the floor's, MB, N = 10,000",
        60,
        _above_the_floor("rss_growth_mb", 10_000),
    ),
    Goal("loop lag p99, ms, N = 1,000", 5, _number("lag_p99_s", 1000, 1000.0)),
    Goal("loop lag p99, ms, N = 10,000", 20, _number("lag_p99_s", 10_000, 1000.0)),
    Goal("warnings of a blocked loop, N = 1,000", 0, _number("warnings", 1000), 0),
    Goal("warnings of a blocked loop, N = 10,000", 0, _number("warnings", 10_000), 0),
    Goal(
        "those above the floor's, N = 10,000",
        0,
        _above_the_floor("warnings", 10_000),
        0,
    ),
    Goal(
        "those above the floor's, N = 10,000, in the TriggerRunner",
        0,
        _above_the_floor("warnings", 10_000, runner=True),
        0,
    ),
    Goal(
        "those above the floor's, N = 50,000",
        0,
        _above_the_floor("warnings", 50_000),
        0,
    ),
    Goal(
        "detection p99 beyond the interval, s, N = 1,000",
        0.5,
        _beyond_the_interval(1000),
    ),
    Goal(
        "detection p99 beyond the interval, s, N = 10,000",
        0.5,
        _beyond_the_interval(10_000),
    ),
    Goal("TCP connections, N = 10,000", POOLS, _number("tcp_connections", 10_000), 0),
    Goal("10,000 join at once: all armed after, s", 5, _number("armed_s", 10_000)),
    Goal(
        "10,000 in the TriggerRunner: armed after, above the floor's, s",
        5,
        _above_the_floor("armed_s", 10_000, runner=True),
    ),
    Goal(
        "10,000 join at once: requests of the first round",
        110,
        _number("first_round_requests", 10_000),
        0,
    ),
    Goal("CPU a second, N = 10,000 over N = 1,000", 8, _growth),
)


def goal_table(rows: Sequence[Row]) -> str:
    """Write the goals, and in bold what misses one."""
    seen = Seen(rows)
    heads = " | ".join(TITLES[vendor] for vendor in VENDORS)
    lines = [f"| | at most | {heads} |", "| --- | --- |" + " ---: |" * len(VENDORS)]
    for goal in GOALS:
        cells = " | ".join(goal.cell(seen, vendor) for vendor in VENDORS)
        lines.append(f"| {goal.title} | {goal.limits()} | {cells} |")

    return "\n".join([*lines, ""])
