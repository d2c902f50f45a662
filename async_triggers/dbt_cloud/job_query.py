"""Which run of dbt Cloud a sensor waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from async_triggers.dbt_cloud.hooks import DbtCloudHook, read_hook_params
from async_triggers.dbt_cloud.naming import optional_id
from async_triggers.dbt_cloud.remote_job import DbtCloudRun
from async_triggers.deferral.arguments import text, whole_number
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.job_query import JobQuery

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen


@dataclass(frozen=True, kw_only=True)
class DbtCloudRunQuery(JobQuery):
    """A run of dbt Cloud."""

    dbt_cloud_conn_id: str
    run_id: int | str
    account_id: int | str | None
    hook_params: Mapping[str, Any] | None

    ids = Ids(
        required={"dbt_cloud_conn_id": text, "run_id": whole_number},
        optional={"account_id": whole_number},
    )
    template_fields = ("dbt_cloud_conn_id", "run_id", "account_id")
    returns = True

    def check(self) -> None:
        """Raise ArgumentUnusable for what the hook cannot take."""
        self.make_hook()

    def warn_of_arguments(self, log: Logger) -> None:
        """Log what of the hook's parameters has no effect."""
        read_hook_params(self.hook_params).warn(log)

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the query's connection."""
        return DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )

    async def look(self, leased: LeasedAccount) -> tuple[Self, Seen]:
        """Request the run, and why it failed if it did."""
        hook = self.make_hook()
        seen = await hook.get_run(leased, whole_number("run_id", self.run_id))
        return self, replace(seen, job=await hook.complete(leased, seen.job))

    def job(self, shown: Job | None) -> DbtCloudRun:
        """Return the run to wait for."""
        return DbtCloudRun(
            conn_id=self.dbt_cloud_conn_id,
            job_id=str(whole_number("run_id", self.run_id)),
            url="" if shown is None else shown.url,
            account_id=optional_id("account_id", self.account_id),
            hook_params=read_hook_params(self.hook_params).to_json(),
        )

    def result(self, job: Job) -> int:
        """Return the run's id."""
        return int(job.id)
