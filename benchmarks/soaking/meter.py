"""What is measured in the process that runs the triggers, at each full hour."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import sys
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.compat.kills import LOOP_WATCH
from async_triggers.engine.accounts import shared_accounts
from benchmarks.sides import VENDORS
from benchmarks.soaking.sizes import sizes_of, sizes_of_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from async_triggers.engine.round import Round

_PAGE = os.sysconf("SC_PAGE_SIZE")
LIMITS: Mapping[str, tuple[int | None, float]] = {
    "airbyte": (None, 60.0),
    "fivetran": (20_000, 3600.0),
    "dbt_cloud": (5_000, 60.0),
}
"""Requests that each vendor allows, and in how many seconds."""


@dataclass(slots=True)
class Window:
    """The busiest stretch of so many seconds."""

    seconds: float
    busiest: int = 0
    _times: deque[float] = field(default_factory=deque)

    def note(self, now: float) -> None:
        """Count a request."""
        self._times.append(now)
        while self._times[0] <= now - self.seconds:
            self._times.popleft()

        self.busiest = max(self.busiest, len(self._times))


@dataclass(slots=True)
class Grid:
    """The rounds of an account: how late each began, and how far the grid has moved.

    ``latest`` is in seconds between a round's place on the grid and its beginning;
    ``drift`` by how much of an interval the places have moved against the first one of
    the account. Only while there is no trouble: a backoff has a pace of its own.
    """

    rounds: int = 0
    latest: float = 0.0
    drift: float = 0.0
    _places: dict[int, tuple[float, float]] = field(default_factory=dict)

    def note(self, poller: int, planned: float, now: float, pace: float) -> None:
        """Take note of a round in a poller."""
        self.rounds += 1
        before, moved = self._places.get(poller, (planned, 0.0))
        steps = max(1, round((planned - before) / pace)) if planned > before else 0
        moved += planned - before - steps * pace
        self._places[poller] = planned, moved
        self.latest = max(self.latest, now - planned)
        self.drift = max(self.drift, abs(moved))

    def restart(self, poller: int) -> None:
        """Begin again after trouble."""
        self._places.pop(poller, None)

    def take(self) -> tuple[int, float, float]:
        """Return rounds, lateness and drift since this was called last."""
        taken = self.rounds, self.latest, self.drift
        self.rounds, self.latest, self.drift = 0, 0.0, 0.0
        return taken


@dataclass(slots=True, kw_only=True)
class Hour:
    """What a full hour has shown; counts are those of the hour, times in seconds.

    ``requests``, ``busiest`` (the busiest window of the vendor's limit) and ``refused``
    (with 429, arranged ones included) are by vendor. ``tables`` holds the size of each
    container of the package by its path.
    """

    hour: int
    begun: int = 0
    ended: int = 0
    waiting: int = 0
    resident_mb: float = 0.0
    objects: int = 0
    descriptors: int = 0
    tasks: int = 0
    accounts: int = 0
    tables: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    broken_rounds: int = 0
    round_late: float = 0.0
    grid_drift: float = 0.0
    tokens: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    busiest: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    faults: int = 0
    connections: int = 0
    late_p50: float = math.nan
    late_max: float = math.nan
    late_in_trouble: float = math.nan
    logged: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; tables that are empty are left out."""
        shown = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(self).items()
        }
        shown["tables"] = {key: size for key, size in self.tables.items() if size}
        return shown


class Meter:
    """Measures the process it is in."""

    def __init__(self, record: Callable[[str], dict[str, Any]]) -> None:
        self._record = record
        self._before: dict[str, Counter[str]] = {name: Counter() for name in VENDORS}
        self.windows: dict[str, Window] = {
            name: Window(LIMITS[name][1]) for name in VENDORS
        }
        self.grid = Grid()
        self.logged: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()

    def measure(self, hour: Hour) -> Hour:
        """Fill in what can be measured now."""
        gc.collect()
        accounts = shared_accounts()
        # Containers of the measurement itself are made after the count.
        hour.objects = len(gc.get_objects())
        hour.resident_mb = round(resident(), 2)
        hour.descriptors = descriptors()
        # One lives as long as the loop, where Airflow does not say what a kill was.
        names = [task.get_name() for task in asyncio.all_tasks()]
        hour.tasks = len(names) - names.count(LOOP_WATCH)
        hour.accounts = len(accounts)
        hour.broken_rounds = sum(
            shared.poller.statistics().broken_rounds for shared in accounts
        )
        hour.tables = dict(_tables(accounts))
        hour.rounds, late, drift = self.grid.take()
        hour.round_late, hour.grid_drift = round(late, 3), round(drift, 6)
        hour.logged = dict(self.logged)
        self.logged.clear()
        for vendor in VENDORS:
            self._count(vendor, hour)

        return hour

    def _count(self, vendor: str, hour: Hour) -> None:
        record = self._record(vendor)
        statuses = record.pop("statuses")
        numbers = Counter({**record, "refused": statuses.get("429", 0)})
        new = numbers - self._before[vendor]
        self._before[vendor] = numbers
        hour.requests[vendor] = new["requests"]
        hour.refused[vendor] = new["refused"]
        hour.tokens += new["tokens"]
        hour.faults += new["faults"]
        hour.connections += new["connections"]
        window = self.windows[vendor]
        hour.busiest[vendor], window.busiest = window.busiest, 0

    def mark(self) -> None:
        """Remember which kinds of objects there are."""
        self._kinds = _kinds()

    def grown(self) -> dict[str, int]:
        """Return the kinds of which there are more than when it was marked, at most 12."""
        return dict((_kinds() - self._kinds).most_common(12))

    def watch_round(self, held: Round, planned: float) -> None:
        """Take note of a round that begins."""
        state = held._state  # noqa: SLF001 - the grid is the poller's own
        key = id(held)
        now = asyncio.get_running_loop().time()
        trouble, doubt = state.trouble, state.transport.trust.doubt
        if trouble.error is not None or trouble.failures or doubt is not None:
            self.grid.restart(key)
        else:
            self.grid.note(key, planned, now, state.pace)


def _kinds() -> Counter[str]:
    gc.collect()
    return Counter(
        f"{type(each).__module__}.{type(each).__qualname__}"
        for each in gc.get_objects()
    )


def _tables(accounts: list[Any]) -> Counter[str]:
    found = sizes_of_modules()
    for shared in accounts:
        found += sizes_of(shared, shared.vendor.name)

    return found


def resident() -> float:
    """Return the memory in use in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def descriptors() -> int:
    """Return how many files and sockets are open."""
    if not sys.platform.startswith("linux"):
        raise RuntimeError("this counts in /proc: run it on Linux")

    # One is that of the listing.
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1
