"""The next runs of dbt Cloud's jobs, as a sensor waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from async_triggers.dbt_cloud.hooks import DbtCloudHook, read_hook_params
from async_triggers.dbt_cloud.naming import optional_id
from async_triggers.dbt_cloud.remote_job import DbtCloudRun
from async_triggers.deferral.arguments import text, whole_number
from async_triggers.deferral.ends import EndsJob
from async_triggers.deferral.ends_query import EndsQuery, many
from async_triggers.deferral.ends_trigger import EndsTrigger
from async_triggers.deferral.ids import Ids
from async_triggers.engine.watch import Watch

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.lineage.facets import Lineage


@dataclass(frozen=True, kw_only=True)
class DbtCloudRuns(EndsJob):
    """The next runs of some jobs."""

    account_id: int | None = None
    hook_params: Mapping[str, Any] | None = None

    trigger = "async_triggers.dbt_cloud.ends.DbtCloudRunsTrigger"

    def name_targets(self) -> str:
        """Name the jobs."""
        if len(self.targets) == 1:
            return f"the run of job {self.targets[0]}"

        return f"the runs of jobs {', '.join(self.targets)}"

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the connection to dbt Cloud."""
        return DbtCloudHook.for_task(
            self.conn_id, account_id=self.account_id, hook_params=self.hook_params
        )

    def read_id(self, job_id: str) -> int:
        """Return the id of a run as a number."""
        return int(job_id)

    def watch_of(self, target: str) -> Watch:
        """Return a job, as the poller watches it."""
        return Watch(place=("job_definition_id", target))

    async def newest(
        self, leased: LeasedAccount, target: str
    ) -> tuple[Sequence[Job], float | None]:
        """Request the newest runs of a job, or itself where there are none."""
        hook = self.make_hook()
        runs = await hook.newest_runs(leased, target)
        if runs:
            return [seen.job for seen, _ in runs], runs[0][0].at

        _, at = await hook.get_job_definition(leased, target)
        return (), at

    async def complete(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Add nothing: the message names the run, which shows what has failed."""
        return job

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return the lineage of the run, where one was waited for."""
        run_id = job.statistics.get(self.targets[0])
        if len(self.targets) > 1 or not run_id:
            return await super().lineage_of(leased, job)

        run = DbtCloudRun(
            conn_id=self.conn_id,
            job_id=str(run_id),
            account_id=self.account_id,
            hook_params=self.hook_params,
        )
        return await run.lineage_of(leased, replace(job, id=run.job_id))


@dataclass(frozen=True, kw_only=True)
class DbtCloudRunsQuery(EndsQuery):
    """The first runs of some jobs after a time, or the next."""

    dbt_cloud_conn_id: str
    job_id: int | str | None
    job_ids: Any
    account_id: int | str | None
    hook_params: Mapping[str, Any] | None

    one = "job_id"
    several = "job_ids"
    ids = Ids(
        required={"dbt_cloud_conn_id": text},
        optional={
            "job_id": whole_number,
            "job_ids": many,
            "account_id": whole_number,
        },
        either=(("job_id",), ("job_ids",)),
        hint="Give job_id or job_ids",
    )
    template_fields = (
        "job_id",
        "job_ids",
        "completed_after_time",
        "dbt_cloud_conn_id",
        "account_id",
    )

    @staticmethod
    def read_target(name: str, value: object) -> str:
        """Read the id of a job, or raise ArgumentUnusable."""
        return str(whole_number(name, value))

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the query's connection."""
        return DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )

    def make_job(self, since: float) -> DbtCloudRuns:
        """Return the runs of which an end counts after a time."""
        return DbtCloudRuns(
            conn_id=self.dbt_cloud_conn_id,
            account_id=optional_id("account_id", self.account_id),
            hook_params=read_hook_params(self.hook_params).to_json(),
            targets=self.targets,
            since=since,
            many=self.has_many,
        )


class DbtCloudRunsTrigger(EndsTrigger):
    """Yields one event when jobs have run, or the run of one has failed.

    :param targets: the jobs
    :param since: the server's time in epoch seconds after which an end counts
    :param conn_id: the Airflow connection
    :param end_time: the deadline in epoch seconds, None for none
    :param poll_interval: how often to poll, in seconds
    :param execution_deadline: the deadline that ``execution_timeout`` sets
    :param many: whether a list of ids is returned, also of one
    :param account_id: the account; else the connection's login
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of single calls
    :param seen_at: the server's time of the last look, in epoch seconds
    :param ending: how the trigger ends its task; None to resume it
    """

    job_class = DbtCloudRuns
    own_arguments = ("account_id", "hook_params")

    def __init__(
        self,
        targets: Sequence[str],
        since: float,
        conn_id: str,
        end_time: float | None,
        poll_interval: float,
        execution_deadline: float | None = None,
        *,
        many: bool = False,
        account_id: int | None = None,
        hook_params: Mapping[str, Any] | None = None,
        seen_at: float | None = None,
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            targets,
            since,
            conn_id,
            end_time,
            poll_interval,
            execution_deadline,
            many=many,
            seen_at=seen_at,
            ending=ending,
        )
        self.account_id = account_id
        self.hook_params = hook_params
