"""How late an event loop is: pure arithmetic, and the ticker that feeds it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

TICK = 0.010
"""Seconds between two ticks."""
WATCH = 0.100
"""Seconds between two looks of Airflow's own watchdog."""
WATCH_LIMIT = 0.2
"""Seconds of lateness at which Airflow warns of a blocked loop."""


@dataclass(slots=True)
class LoopWatch:
    """Ticks every ten milliseconds and notes by how much it was late.

    ``late`` holds seconds. ``last`` is when the loop was last seen alive, on the clock of
    ``time.perf_counter``.
    """

    late: list[float] = field(default_factory=list)
    warnings: int = 0
    last: float = field(default_factory=time.perf_counter)

    async def run(self) -> None:
        """Tick until cancelled."""
        self.last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            self.late.append(max(0.0, now - self.last - TICK))
            self.last = now

    async def watch(self) -> None:
        """Count the warnings that Airflow's watchdog would give, until cancelled.

        It sleeps a tenth of a second and warns when more than two have passed.
        """
        while True:
            began = time.perf_counter()
            await asyncio.sleep(WATCH)
            if time.perf_counter() - began > WATCH_LIMIT:
                self.warnings += 1

    @property
    def longest(self) -> float:
        """The longest time in seconds for which the loop did not run."""
        return max(self.late, default=0.0)


def corrected(late: Sequence[float], *, tick: float = TICK) -> list[float]:
    """Add what a ticker that does not tick cannot note, and sort.

    While the loop stands still for a second, a hundred ticks are due: each of them is
    late, by a second, by 990 ms and so on ("coordinated omission").
    """
    whole = [
        value - step * tick
        for value in late
        for step in range(1 + max(0, math.ceil(value / tick) - 1))
    ]
    return sorted(whole)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of sorted values lie."""
    if not ordered:
        return math.nan

    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
