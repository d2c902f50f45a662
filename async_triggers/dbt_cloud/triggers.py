"""Waits for a run of dbt Cloud on the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack

from async_triggers.dbt_cloud.hooks import DbtCloudHook, DbtCloudJobRunStatus
from async_triggers.dbt_cloud.remote_job import DbtCloudRun
from async_triggers.deferral.trigger import JobTrigger, Wait

__all__ = ["DbtCloudHook", "DbtCloudJobRunStatus", "DbtCloudRunJobTrigger"]

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.deferral.remote_job import RemoteJob


class DbtCloudRunJobTrigger(JobTrigger):
    """Yields one event when a run has ended or a deadline has passed.

    The first seven arguments are those of the official provider's trigger. Used by
    itself, the trigger never cancels the run unless ``owned`` says that it may.

    The event is an object with ``status`` (success, error, cancelled or timeout),
    ``message``, ``run_id`` (int), ``job_id`` (the run's id as text) and ``job``, see
    :mod:`async_triggers.deferral.events`. The message of a failed run names the step and
    the nodes that failed.

    :param conn_id: the Airflow connection
    :param run_id: the run
    :param end_time: the deadline in epoch seconds, None for none
    :param poll_interval: how often to look, in seconds; never more often than every five
    :param account_id: the account; else the connection's login
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of single calls
    :param execution_deadline: the deadline that ``execution_timeout`` sets, in epoch
        seconds
    :param owned: whether the run was started by this task, so that it may be cancelled
    :param cancel_on_kill: cancel an owned run when a user stops the deferred task; needs
        the token of :meth:`claim`
    :param cancel_on_timeout: cancel an owned run when a deadline passes
    :param seen_at: the server's time of the last look at the run, in epoch seconds
    :param job_url: where dbt Cloud shows the run
    :param ending: how the trigger ends its task, see
        :class:`async_triggers.deferral.ending.Ending`; None to resume it
    """

    def __init__(
        self,
        conn_id: str,
        run_id: int,
        end_time: float | None,
        poll_interval: float,
        account_id: int | None,
        hook_params: dict[str, Any] | None = None,
        execution_deadline: float | None = None,
        *,
        owned: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        seen_at: float | None = None,
        job_url: str = "",
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.run_id = run_id
        self.end_time = end_time
        self.poll_interval = poll_interval
        self.account_id = account_id
        self.hook_params = hook_params
        self.execution_deadline = execution_deadline
        self.owned = owned
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.seen_at = seen_at
        self.job_url = job_url
        self.ending = ending

    def make_job(self) -> DbtCloudRun:
        """Return the run that the arguments name."""
        return DbtCloudRun(
            conn_id=self.conn_id,
            job_id=str(self.run_id),
            url=self.job_url,
            owned=self.owned,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for a run."""
        assert isinstance(job, DbtCloudRun)  # noqa: S101 - its own class says so
        params = job.hook_params
        return cls(
            job.conn_id,
            int(job.job_id),
            account_id=job.account_id,
            hook_params=None if params is None else dict(params),
            owned=job.owned,
            job_url=job.url,
            **wait,
        )

    async def is_still_running(self, hook: DbtCloudHook) -> bool:
        """Check with a hook, once, whether the run has not ended."""
        seen = await hook.run_async(self.remote_job.look)
        return not seen.job.state.is_terminal

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the run's id as the number that it is."""
        return {**super().payload(outcome), "run_id": self.run_id}
