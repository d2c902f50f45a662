"""What is counted and measured of an account, and the protocol by which metrics listen.

Each event is noted in the account's :class:`Tally`, at the cost of a dictionary's entry.
A :class:`~async_triggers.engine.reporter.Reporter` hands it on every ten seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Observer(Protocol):
    """What hears of metrics. Called on the event loop, so it must not block."""

    def count(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        """Set a gauge."""

    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        """Take a measured duration in."""


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    TIMING = "timing"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, and the tags that it has beside those of the account.

    ``idle`` is the value of a gauge under a name that no account has any more.
    """

    name: str
    kind: Kind
    tags: tuple[str, ...] = ()
    idle: float = 0


JOBS = Metric("jobs", Kind.GAUGE)
WAITERS = Metric("waiters", Kind.GAUGE)
WATCHERS = Metric("watchers", Kind.GAUGE)
OLDEST_JOB = Metric("oldest_job_seconds", Kind.GAUGE)
# At 0 an account that waits for nothing would seem to be at its limit.
BUDGET_LEFT = Metric("budget_left", Kind.GAUGE, idle=1)
PAUSED = Metric("paused_seconds", Kind.GAUGE)
IN_TROUBLE = Metric("in_trouble", Kind.GAUGE)
REQUESTS = Metric("requests", Kind.COUNTER, ("lane", "status"))
RATE_LIMITED = Metric("rate_limited", Kind.COUNTER)
STARTS = Metric("starts", Kind.COUNTER, ("result",))
CANCELS = Metric("cancels", Kind.COUNTER, ("why",))
ROUND = Metric("round_seconds", Kind.TIMING)
ROUND_LATE = Metric("round_late_seconds", Kind.TIMING)
DETECTION = Metric("detection_seconds", Kind.TIMING)

METRICS = (
    JOBS,
    WAITERS,
    WATCHERS,
    OLDEST_JOB,
    BUDGET_LEFT,
    PAUSED,
    IN_TROUBLE,
    REQUESTS,
    RATE_LIMITED,
    STARTS,
    CANCELS,
    ROUND,
    ROUND_LATE,
    DETECTION,
)
"""All that the engine, and what is built on it, report of an account.

:meta hide-value:
"""


class Tally:
    """What has happened in an account since it was last reported.

    ``observer`` is who will hear of it; without one nothing is kept.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer = observer
        self._counts: Counter[tuple[str, tuple[str, ...], tuple[str, ...]]] = Counter()
        self._times: list[tuple[str, float]] = []

    def count(self, metric: Metric, *values: str) -> None:
        """Count once; ``values`` are those of the metric's own tags, in their order."""
        if self.observer is not None:
            self._counts[metric.name, metric.tags, values] += 1

    def time(self, metric: Metric, seconds: float) -> None:
        """Keep a duration."""
        if self.observer is not None:
            self._times.append((metric.name, max(0.0, seconds)))

    def report(self, tags: Mapping[str, str]) -> None:
        """Hand on what was counted and measured, under the tags of the account."""
        observer = self.observer
        if observer is None:
            return

        counts, self._counts = self._counts, Counter()
        times, self._times = self._times, []
        for (name, names, values), number in counts.items():
            observer.count(
                name, number, {**tags, **dict(zip(names, values, strict=True))}
            )

        for name, seconds in times:
            observer.time(name, seconds, tags)
