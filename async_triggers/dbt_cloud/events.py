"""Events when runs of dbt Cloud finish, no matter what has started them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from async_triggers.dbt_cloud.api import requests
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral.watching import DEFAULT_INTERVAL, EndWatcher
from async_triggers.engine.watch import Watch

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

__all__ = ["DbtCloudRunFinished"]

# What the operators append to the cause of the runs that they start.
_OWN_CAUSE = re.compile(r'(?:\[at:|"at":")[0-9a-f]{10}-\d+(?:\]|"\})\s*$')
_FIELDS = {
    "job_id": "job_definition_id",
    "project_id": "project_id",
    "environment_id": "environment_id",
}


class DbtCloudRunFinished(EndWatcher):
    """An event for each run that ends, for :class:`airflow.sdk.AssetWatcher`.

    A run that was cancelled before it began may not be shown by dbt Cloud.

    :param job_id: the job in dbt Cloud
    :param project_id: instead of it, a project: the runs of all its jobs
    :param environment_id: instead of it, an environment
    :param account_id: the account; else the connection's login
    :param dbt_cloud_conn_id: the Airflow connection
    :param statuses: which ends count: ``success``, ``error``, ``cancelled``
    :param since: a time in ISO 8601, or a datetime: what has ended later counts. Without
        an offset it is in UTC. None begins with the first poll
    :param poll_interval: how often to poll, in seconds, at most every 5
    :param own: True for the runs alone that an operator of this package has started,
        False for all others, None for both. Its mark stands in a run's cause, which a retry
        from the point of failure has none of
    """

    watched = ("job_id", "project_id", "environment_id")
    knows_own = True

    def __init__(
        self,
        job_id: int | str | None = None,
        project_id: int | str | None = None,
        environment_id: int | str | None = None,
        *,
        account_id: int | str | None = None,
        dbt_cloud_conn_id: str = DbtCloudHook.default_conn_name,
        statuses: Sequence[str] = ("success",),
        since: str | datetime | None = None,
        poll_interval: float = DEFAULT_INTERVAL,
        own: bool | None = None,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.project_id = project_id
        self.environment_id = environment_id
        self.account_id = account_id
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.take(statuses=statuses, since=since, own=own, poll_interval=poll_interval)

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the watcher's connection."""
        return DbtCloudHook.for_task(self.dbt_cloud_conn_id, account_id=self.account_id)

    def make_watch(self) -> Watch:
        """Return the job, the project or the environment."""
        name = next(each for each in self.watched if getattr(self, each) is not None)
        return Watch(place=(_FIELDS[name], str(getattr(self, name)).strip()))

    def is_own(self, job: Job) -> bool:
        """Return whether the cause of a run has the mark of an operator."""
        cause = job.statistics.get("cause")
        return isinstance(cause, str) and _OWN_CAUSE.search(cause) is not None

    async def check(self, leased: LeasedAccount) -> None:
        """Request what is watched; an environment is known by its project alone."""
        hook = self.make_hook()
        if self.job_id is not None:
            await hook.get_job_definition(leased, self.job_id)
        elif self.project_id is not None:
            await leased.call(requests.get_project(leased.account, self.project_id))
