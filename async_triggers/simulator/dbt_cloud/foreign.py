"""Runs that others start, made only where a request would show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from async_triggers.simulator.dbt_cloud.model import (
    DEFAULT_ACCOUNT,
    FIRST_RUN_ID,
    DbtCloudJob,
    DbtCloudRun,
    run_id_at,
)
from async_triggers.simulator.lives import Life, Timeline

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.filters import Filters
    from async_triggers.simulator.dbt_cloud.settings import DbtCloudSettings
    from async_triggers.simulator.vendor import VendorSimulator

# https://docs.getdbt.com/docs/dbt-apis/rate-limits
_MINUTE: Final = 60.0
_FOREIGN_SECONDS: Final = 30.0
_FOREIGN_MARK: Final = 500
_MICROSECOND: Final = 1e-6


class ForeignRuns:
    """The runs of one more job, one after another at a steady rate.

    :ivar origin: When the first of them has ended, in epoch seconds.
    :ivar job: Their job.
    """

    def __init__(self, simulator: VendorSimulator[DbtCloudSettings]) -> None:
        self._simulator = simulator
        self.origin = 0.0
        self.job = _foreign_job(DEFAULT_ACCOUNT)

    def clear(self) -> None:
        """Let them begin now, in the account of the settings."""
        self.origin = self._simulator.now()
        self.job = _foreign_job(self._simulator.settings.account_id)

    @property
    def _period(self) -> float:
        return _MINUTE / self._simulator.settings.foreign_runs_per_minute

    def _end(self, number: int) -> float:
        return self.origin + number * self._period

    def _first_from(self, low: float) -> int:
        return math.ceil((low - _MICROSECOND - self.origin) / self._period)

    def _last_to(self, high: float) -> int:
        return math.floor((high + _MICROSECOND - self.origin) / self._period)

    def run(self, number: int) -> DbtCloudRun:
        """Return one of the runs."""
        created = self._end(number) - _FOREIGN_SECONDS
        life = Life((("running", _FOREIGN_SECONDS), ("success", math.inf)))
        return DbtCloudRun(
            run_id_at(self.origin, created) + _FOREIGN_MARK,
            self.job,
            Timeline(created, life),
            life,
            {"cause": "Scheduled"},
            "scheduled",
            begun=created,
        )

    def number(self, run_id: int) -> int | None:
        """Return which of the others' runs has an id, if one has."""
        if self._simulator.settings.foreign_runs_per_minute <= 0:
            return None
        created = (run_id - FIRST_RUN_ID) / 1_000_000
        near = round((created + _FOREIGN_SECONDS) / self._period)
        for number in range(max(0, near - 1), near + 2):
            if self.run(number).run_id == run_id:
                return number
        return None

    def _range(self, filters: Filters, seen: float) -> range:
        """Return which of the others' runs pass, as their numbers."""
        rate = self._simulator.settings.foreign_runs_per_minute
        if rate <= 0 or not filters.pass_job(self.job):
            return range(0)
        first, skew = 0, self._simulator.settings.skew
        last = math.floor((seen + _FOREIGN_SECONDS - self.origin) / self._period)
        done = math.floor((seen - self.origin) / self._period)
        if filters.statuses is not None:
            ended, running = 10 in filters.statuses, 3 in filters.statuses
            if not ended:
                first = done + 1
            if not running:
                last = done
            if not ended and not running:
                return range(0)
        if filters.finished is not None:
            low, high = (one - skew for one in filters.finished)
            first = max(first, self._first_from(low))
            high = min(high, seen)
            last = min(last, self._last_to(high))
        if filters.created is not None:
            low, high = (one - skew + _FOREIGN_SECONDS for one in filters.created)
            first = max(first, self._first_from(low))
            last = min(last, self._last_to(high))
        if filters.id_gt is not None:
            after = (filters.id_gt - FIRST_RUN_ID) / 1_000_000 + _FOREIGN_SECONDS
            first = max(first, math.floor(after / self._period))
            while first <= last and self.run(first).run_id <= filters.id_gt:
                first += 1
        return range(first, last + 1)

    def numbers(self, filters: Filters, seen: float) -> Sequence[int]:
        """Return which runs pass, as their numbers."""
        found = self._range(filters, seen)
        if filters.ids is None:
            return found
        numbers = (self.number(run_id) for run_id in filters.ids)
        return sorted(one for one in numbers if one is not None and one in found)


def _foreign_job(account_id: int) -> DbtCloudJob:
    """Return the job whose runs others start."""
    return DbtCloudJob(account_id, 0, 1, 1, "Another job")
