"""The jobs of the simulated vendors, as the vendors have seen them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from benchmarks.campaign.verdict import SeenJob, State

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator
    from async_triggers.simulator.fivetran import FivetranSimulator

_STATES: Final[dict[str, State]] = {
    "succeeded": "succeeded",
    "success": "succeeded",
    "COMPLETED": "succeeded",
    "failed": "failed",
    "error": "failed",
    "FAILURE": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "CANCELED": "cancelled",
    "PAUSED": "cancelled",
}


def jobs_seen(simulator: Simulator) -> dict[str, dict[str, list[SeenJob]]]:
    """Return the jobs of each vendor by the ids of connections and jobs, oldest first."""
    return {
        "airbyte": _by_target(simulator.airbyte),
        "dbt_cloud": _by_target(simulator.dbt_cloud),
        "fivetran": dict(_syncs(simulator.fivetran)),
    }


def _by_target(vendor: Any) -> dict[str, list[SeenJob]]:
    requested = {start.job for start in vendor.record.started}
    found: dict[str, list[SeenJob]] = {}
    for job in sorted(vendor.jobs(finished=True), key=lambda job: int(job.job)):
        state = _STATES.get(job.state, "running")
        found.setdefault(job.target, []).append(
            SeenJob(
                job_id=job.job,
                created=job.created,
                ended=None if state == "running" else job.since,
                state=state,
                by_request=job.job in requested,
                cancels=vendor.record.cancels[job.job],
            )
        )
    return found


def _syncs(fivetran: FivetranSimulator) -> Iterator[tuple[str, list[SeenJob]]]:
    fivetran.jobs()  # Brings the histories up to date.
    for name, connection in fivetran.connections.items():
        requested = [
            start.at for start in fivetran.record.started if start.target == name
        ]
        stopped = fivetran.record.cancels[name]
        yield (
            name,
            [
                SeenJob(
                    job_id=sync.sync_id,
                    created=sync.start,
                    ended=sync.end,
                    state=(
                        "running"
                        if sync.end is None
                        else _STATES.get(sync.status, "failed")
                    ),
                    # The record does not name the sync; its start is that moment.
                    by_request=any(
                        math.isclose(at, sync.start, abs_tol=0.05) for at in requested
                    ),
                    cancels=stopped,
                )
                for sync in connection.history
            ],
        )
