"""What an attempt does about the job of an earlier one, in Airflow's own metrics.

The counters ``resumable_job.*`` are those of Airflow's ``ResumableJobMixin``, with its tag
``operator``. A worker counts them; a trigger does not know whose operator it starts for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from async_triggers.deferral import compat


class Resumption(StrEnum):
    """What has become of the job of an earlier attempt, as Airflow's counters name it."""

    FRESH = "fresh_submit"
    RECONNECTED = "reconnect_success"
    SUCCEEDED = "already_succeeded"
    RESUBMITTED = "terminal_resubmit"


def count_resumption(resumption: Resumption, operator: str, ti: Any) -> None:
    """Count what an attempt has done, as Airflow does."""
    tags = {"operator": operator}
    team = getattr(ti, "stats_tags", {}).get("team_name")
    if team:
        tags["team_name"] = team

    stats = compat.stats()
    if resumption is not Resumption.FRESH:
        stats.incr("resumable_job.reconnect_attempt", tags=tags)

    stats.incr(f"resumable_job.{resumption.value}", tags=tags)
