"""Waits for a run of dbt Cloud on the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from async_triggers.dbt_cloud.hooks import DbtCloudHook, DbtCloudJobRunStatus
from async_triggers.deferral.trigger import JobTrigger

__all__ = ["DbtCloudHook", "DbtCloudJobRunStatus", "DbtCloudRunJobTrigger"]

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job


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

    hook_class = DbtCloudHook

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

    @property
    def subject(self) -> str:
        """The id of the run."""
        return str(self.run_id)

    def check_id(self) -> str | None:
        """Say why the id cannot be one, None where it may be."""
        subject = self.subject.strip()
        if subject.isascii() and subject.isdecimal():
            return None

        return f"run_id is {self.run_id!r}: give the number of the run"

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the trigger's connection."""
        return DbtCloudHook.for_task(
            self.conn_id, account_id=self.account_id, hook_params=self.hook_params
        )

    async def look(self, leased: LeasedAccount) -> Job:
        """Ask for the run once."""
        return (await self.make_hook().get_run(leased, self.subject)).job

    async def is_still_running(self, hook: DbtCloudHook) -> bool:
        """Check with a hook, once, whether the run has not ended."""
        seen = await hook.run_async(lambda leased: hook.get_run(leased, self.subject))
        return not seen.job.state.is_terminal

    async def cancel(self, leased: LeasedAccount) -> None:
        """Cancel the run."""
        await self.make_hook().cancel_run(leased, self.subject)

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Say why a run failed."""
        return await self.make_hook().complete(leased, job)

    def result(self, job: Job) -> int:
        """Return what a task returns that this trigger ends: the run's id."""
        return self.run_id

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the run's id as the number that it is."""
        return {**super().payload(outcome), "run_id": self.run_id}
