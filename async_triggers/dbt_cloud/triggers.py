"""Waits for a run of dbt Cloud on the triggerer."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

from async_triggers.dbt_cloud.api.models import EndedStep, describe_steps
from async_triggers.dbt_cloud.hooks import DbtCloudHook, DbtCloudJobRunStatus
from async_triggers.dbt_cloud.remote_job import DbtCloudRun
from async_triggers.deferral.trigger import JobTrigger, Wait
from async_triggers.engine.errors import EngineError

__all__ = ["DbtCloudHook", "DbtCloudJobRunStatus", "DbtCloudRunJobTrigger"]

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

STEPS = 60.0
"""Seconds for the steps of a run that goes on."""


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
    :param seen_at: the server's time when the run was last seen, in epoch seconds
    :param job_url: where dbt Cloud shows the run
    :param ending: how the trigger ends its task, see
        :class:`async_triggers.deferral.ending.Ending`; None to resume it
    :param summarize: summarize the results of a run that has succeeded too
    :param log_steps: log the steps that have ended, every ten minutes and at the end
    """

    _logged_steps: frozenset[int] = frozenset()

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
        summarize: bool = False,
        log_steps: bool = False,
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
        self.summarize = summarize
        self.log_steps = log_steps

    def make_job(self) -> DbtCloudRun:
        """Return the run that the arguments name."""
        return DbtCloudRun(
            conn_id=self.conn_id,
            job_id=str(self.run_id),
            url=self.job_url,
            owned=self.owned,
            account_id=self.account_id,
            hook_params=self.hook_params,
            summarize=self.summarize,
            log_steps=self.log_steps,
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
            summarize=job.summarize,
            log_steps=job.log_steps,
            **wait,
        )

    def hear(self, job: Job) -> None:
        """Log what has changed, and the steps that have ended since."""
        is_first = self._last_job is None
        super().hear(job)
        if not is_first:
            self._request_steps()

    def hear_again(self) -> None:
        """Log that the run goes on, and the steps that have ended since."""
        super().hear_again()
        self._request_steps()

    def _request_steps(self) -> None:
        """Have the steps logged: lists of runs do not show them."""
        leased = self._leased
        if leased is None or not self.log_steps:
            return

        # An errand has no context: what is logged belongs to the task all the same.
        context = contextvars.copy_context()

        async def as_the_trigger() -> None:
            loop = asyncio.get_running_loop()
            await loop.create_task(self._log_steps(leased), context=context)

        leased.run_errand(as_the_trigger(), f"log the steps of run {self.run_id}")

    async def _log_steps(self, leased: LeasedAccount) -> None:
        hook = self.make_job().make_hook()
        try:
            async with asyncio.timeout(STEPS):
                steps = await hook.ended_steps(leased, str(self.run_id))
        except (EngineError, TimeoutError) as error:
            self.log.debug("The steps of run %s are not known: %s", self.run_id, error)
            return

        self._hear_steps(steps)

    def _hear_steps(self, steps: Sequence[EndedStep]) -> None:
        """Log the steps that have not been logged yet.

        They are one record: each costs the triggerer a millisecond.
        """
        new = [step for step in steps if step.index not in self._logged_steps]
        if new:
            self._logged_steps |= {step.index for step in new}
            self.log.info("%s", describe_steps(str(self.run_id), new))

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Say why a run failed, and log the steps that have ended since."""
        return await self.make_job().explain(leased, job, self._hear_steps)

    async def is_still_running(self, hook: DbtCloudHook) -> bool:
        """Check with a hook, once, whether the run has not ended."""
        seen = await hook.run_async(self.remote_job.look)
        return not seen.job.state.is_terminal

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the run's id as the number that it is."""
        return {**super().payload(outcome), "run_id": self.run_id}
