"""One run of the polling benchmark, and the numbers of runs of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from benchmarks.sides import INTERVALS, TITLES

if TYPE_CHECKING:
    from benchmarks.sides import Vendor

Runner: TypeAlias = Literal["floor", "ours", "peer"]
Start: TypeAlias = Literal["together", "spread"]

TAIL = 60.0
"""Seconds after the last end in which an event counts."""
_CALL = 0.012
"""Seconds that a blocking look takes beside the latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process that waits.

    ``seconds`` is how long after the start the last job ends, ``latency`` how many
    seconds each answer takes. Where the event loop is not ``watched``, CPU is all that is
    measured of the process: the watching takes more than most of what it watches.
    ``watchers`` is how many event triggers watch, one the connection of each job; None
    where all jobs are of one connection. Where they do not ``hear``, they watch the
    connections of jobs that go on.
    """

    vendor: Vendor
    side: Runner
    n: int
    start: Start = "together"
    latency: float = 0.1
    runner: bool = False
    watched: bool = True
    seconds: float
    number: int = 0
    floor: float = 0.0
    watchers: int | None = None
    hear: bool = True

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return self.floor or INTERVALS[self.vendor]

    @property
    def patience(self) -> float:
        """Seconds after the last end for which events are waited for."""
        blocking = self.vendor == "airbyte" and self.side == "peer"
        return TAIL + (1.5 * self.n * (self.latency + _CALL) if blocking else 0.0)

    @property
    def expected(self) -> float:
        """Seconds that the run may be expected to take."""
        blocking = self.vendor == "airbyte" and self.side == "peer"
        busy = self.n * (self.latency + _CALL) if blocking else 0.0
        return 9.0 + self.n / 2000 + max(self.seconds, busy) + self.interval

    @property
    def kind(self) -> Run:
        """What runs have in common that differ in their number alone."""
        return replace(self, number=0)

    @property
    def name(self) -> str:
        """Name the run."""
        mode = ", in the runner" if self.runner else ""
        watch = "" if self.watched else ", unwatched"
        beside = "" if self.watchers is None else f", {self.watchers:,} watchers"
        if self.watchers and not self.hear:
            beside += " without ends"

        return (
            f"{TITLES[self.vendor]}, {self.side}, N = {self.n:,} {self.start},"
            f" {self.latency * 1000:.0f} ms{mode}{watch}{beside}"
        )


@dataclass(frozen=True, slots=True)
class Row:
    """Runs of one kind: the median of each number."""

    run: Run
    numbers: Mapping[str, float | None]
