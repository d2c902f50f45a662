"""The watchers of a campaign: what ends at the vendors by itself, and the events of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from benchmarks.campaign.events import SeenEvent, Watched, missed
from benchmarks.campaign.seen import jobs_seen

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import AirflowApi
    from async_triggers.simulator import Simulator
    from benchmarks.campaign.plan import PlannedWatch
    from benchmarks.campaign.verdict import SeenJob, State

DAG_ID: Final = "watches"
_PATIENCE: Final = 180.0
"""Seconds in which Airflow begins to watch what a DAG is scheduled on."""
_LATEST: Final = 600.0
"""Seconds by which an end may bear an earlier time than it has, and is reported."""

_STATES: Final[dict[str, State]] = {
    "success": "succeeded",
    "error": "failed",
    "cancelled": "cancelled",
}
_HAS_MARKS: Final = "SELECT to_regclass('asset_state_store')"
_MARKS: Final = "SELECT COUNT(DISTINCT asset_id) FROM asset_state_store"
_EVENTS: Final = """
    SELECT asset.name, EXTRACT(EPOCH FROM event.timestamp), event.extra
    FROM asset_event event JOIN asset ON asset.id = event.asset_id
    ORDER BY event.id
"""
_WHERE_THEY_RUN: Final = """
    SELECT trigger.id, trigger.triggerer_id,
           EXTRACT(EPOCH FROM job.latest_heartbeat)
    FROM asset_watcher watcher
         JOIN trigger ON trigger.id = watcher.trigger_id
         LEFT JOIN job ON job.id = trigger.triggerer_id
"""

Query = Callable[[str], Sequence[tuple[Any, ...]] | None]
"""Returns rows of Airflow's database, None while it is away."""


@dataclass
class Watching:
    """What the watchers of a plan are to report, from :meth:`begin` on."""

    plan: Sequence[PlannedWatch]
    simulator: Simulator
    query: Query
    since: float = 0.0
    until: float = math.inf
    interruptions: list[tuple[float, float]] = field(default_factory=list)
    # The triggerer of each watcher and the last sign of life that was seen of it.
    _hosts: dict[int, tuple[int | None, float]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Give the vendors what is watched."""
        for each in self.plan:
            if each.vendor == "airbyte":
                self.simulator.airbyte.add_connection(each.target, lives=each.lives)
            elif each.vendor == "fivetran":
                self.simulator.fivetran.add_connection(each.target, lives=each.lives)
            else:
                self.simulator.dbt_cloud.add_job(int(each.target), lives=each.lives)

    def begin(self, api: AirflowApi) -> None:
        """Wait for the first poll of each watcher; from then on the vendors run jobs.

        Before 3.3 Airflow keeps nothing for an asset. There a watcher does not report what
        ends while no triggerer runs it, so nothing is watched.
        """
        if self.query(_HAS_MARKS) == [(None,)]:
            self.plan = ()
            return
        api.unpause(DAG_ID)
        api.wait_until(
            lambda: (self.query(_MARKS) or [(0,)])[0][0] == len(self.plan),
            what="the watchers to poll",
            timeout=_PATIENCE,
        )
        self.since = time.time()
        for each in self.plan:
            target: Any = each.target
            if each.vendor == "dbt_cloud":
                target = int(target)
            getattr(self.simulator, each.vendor).schedule(target, each.every)

    def look(self) -> None:
        """See whether a watcher has gone from one triggerer to another."""
        for trigger, host, lived in self.query(_WHERE_THEY_RUN) or []:
            before, last_lived = self._hosts.get(trigger, (host, 0.0))
            if before not in {host, None} and host is not None:
                self.interruptions.append((last_lived, time.time()))
            if host is not None:
                self._hosts[trigger] = (host, float(lived or time.time()))

    def is_behind(self) -> bool:
        """Return whether an event is still to come."""
        return any(map(missed, self.watched()))

    def watched(self) -> list[Watched]:
        """Put what each watcher was to report beside its events."""
        seen = jobs_seen(self.simulator)
        rows = self.query(_EVENTS) or []
        return [
            Watched(
                plan=each,
                since=self.since,
                until=self.until,
                jobs=tuple(jobs := seen[each.vendor].get(each.target, [])),
                events=tuple(
                    _event(float(at), extra["payload"])
                    for name, at, extra in rows
                    if name == f"watched_{each.vendor}"
                ),
                interruptions=tuple(self.interruptions),
                hidden=tuple(job.job_id for job in jobs if self._is_hidden(each, job)),
            )
            for each in self.plan
        ]

    def _is_hidden(self, each: PlannedWatch, job: SeenJob) -> bool:
        """Return whether the end of a job bears a time too long before its own."""
        if job.ended is None:
            return False
        vendor = getattr(self.simulator, each.vendor)
        return bool(vendor.shown(job.ended) < job.ended - _LATEST)


def _event(at: float, payload: dict[str, Any]) -> SeenEvent:
    ended = payload["ended_at"]
    return SeenEvent(
        job_id=payload["id"],
        state=_STATES[payload["status"]],
        ended=None if ended is None else datetime.fromisoformat(ended).timestamp(),
        at=at,
    )
