"""Waits for a Fivetran sync on the triggerer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.trigger import JobTrigger
from async_triggers.engine.errors import AlreadyRunning
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import parse_time
from async_triggers.fivetran import api
from async_triggers.fivetran.hooks import FivetranHook

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.engine.accounts import LeasedAccount

RESTART_PAUSE = 60.0
"""Seconds between two starts of a sync that Fivetran has put off."""


class FivetranTrigger(JobTrigger):
    """Yields one event when a sync has ended or a deadline has passed.

    The first seven arguments are those of the peers' trigger. The event is an object with
    ``status`` (success, error, cancelled or timeout), ``message``, ``return_value`` (the
    time of the success), ``job_id`` and ``job``, see
    :mod:`async_triggers.deferral.events`.

    :param task_id: the task; kept for the peers' signature
    :param connector_id: the connection in Fivetran
    :param fivetran_conn_id: the Airflow connection
    :param previous_completed_at: the connection's last time of success or failure before
        the sync; None when there was none
    :param xcom: the same as text, from an older signature
    :param poke_interval: how often to look, in seconds; never more often than every 15
    :param reschedule_wait_time: seconds after which a sync that Fivetran has put off is
        started again, where the connection's schedule is manual; None or 0 waits until
        the time that Fivetran names
    :param baseline: what the connection showed before the sync, see
        :attr:`async_triggers.fivetran.api.Run.mark`; wins over ``previous_completed_at``
    :param end_time: the deadline in epoch seconds, None for none
    :param execution_deadline: the deadline that ``execution_timeout`` sets
    :param owned: whether the sync was started by this task
    :param cancel_on_kill: pause the connection when a user stops the deferred task
    :param cancel_on_timeout: pause the connection when a deadline passes
    :param unpause_after_cancel: un-pause it once the sync has stopped
    :param seen_at: the server's time of the last look, in epoch seconds
    """

    hook_class = FivetranHook

    def __init__(
        self,
        task_id: str,
        connector_id: str,
        fivetran_conn_id: str,
        previous_completed_at: datetime | str | None = None,
        xcom: str = "",
        poke_interval: float = 4.0,
        reschedule_wait_time: float | None = None,
        *,
        baseline: str | None = None,
        end_time: float | None = None,
        execution_deadline: float | None = None,
        owned: bool = False,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        unpause_after_cancel: bool = False,
        seen_at: float | None = None,
    ) -> None:
        super().__init__()
        self.task_id = task_id
        self.connector_id = connector_id
        self.fivetran_conn_id = self.conn_id = fivetran_conn_id
        self.previous_completed_at = previous_completed_at
        self.xcom = xcom
        self.poke_interval = self.poll_interval = poke_interval
        self.reschedule_wait_time = reschedule_wait_time
        self.baseline = baseline
        self.end_time = end_time
        self.execution_deadline = execution_deadline
        self.owned = owned
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.unpause_after_cancel = unpause_after_cancel
        self.seen_at = seen_at
        self._stopped = False
        self._restarted_at: float | None = None

    @property
    def run_waited_for(self) -> api.Run:
        """The run, as its connection showed itself before the start."""
        if self.baseline is not None:
            return api.Run.from_mark(self.connector_id, self.baseline)

        before = self.previous_completed_at or self.xcom or None
        if isinstance(before, datetime):
            before = before.isoformat()

        return api.Run(
            connection_id=self.connector_id, succeeded_at=before, failed_at=before
        )

    @property
    def subject(self) -> str:
        """The id of the connection, which is what Fivetran's rows go by."""
        return self.connector_id

    @property
    def mark(self) -> str:
        """What the connection showed before the sync."""
        return self.run_waited_for.mark

    @property
    def shown_id(self) -> str:
        """The id of the run."""
        return self.run_waited_for.id

    def make_hook(self) -> FivetranHook:
        """Return the hook of the trigger's connection."""
        return FivetranHook(self.fivetran_conn_id)

    async def look(self, leased: LeasedAccount) -> Job:
        """Ask for the connection once."""
        job = (await self.make_hook().look(leased, self.run_waited_for)).job
        if self._stopped and job.state in {JobState.RUNNING, JobState.FAILED}:
            return replace(job, state=JobState.CANCELLED, word="stopped")

        return job

    async def cancel(self, leased: LeasedAccount) -> None:
        """Stop the sync by pausing its connection: Fivetran has no other way."""
        await self.make_hook().stop_sync(
            leased, self.connector_id, unpause=self.unpause_after_cancel
        )
        self._stopped = True

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Add what the sync history tells."""
        return await self.make_hook().settle(leased, job, self.connector_id)

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the peers' ``return_value``."""
        job = outcome.job
        done = job.statistics.get("succeeded_at") if job is not None else None
        return {**super().payload(outcome), "return_value": done}

    # Syncs that Fivetran puts off -------------------------------------------------

    def needs_attention(self, job: Job) -> bool:
        """Tell whether a sync was put off which only a start from outside will run.

        https://fivetran.com/docs/rest-api/api-reference/connections: with the schedule
        type "manual" nothing runs a connection but a request, not even what Fivetran
        itself has rescheduled.
        """
        return (
            job.word == api.RESCHEDULED
            and job.statistics.get("schedule_type") == api.MANUAL
        )

    async def attend(self, leased: LeasedAccount, job: Job) -> None:
        """Wait until the sync may be started again, and start it."""
        loop = asyncio.get_running_loop()
        hook = self.make_hook()
        connection, now = await hook.get_fivetran_connection(leased, self.connector_id)
        until = parse_time(connection.rescheduled_for)
        wait = self.reschedule_wait_time or 0.0
        if wait <= 0 and until is not None and now is not None:
            wait = max(0.0, until - now)

        if self._restarted_at is not None:
            wait = max(wait, self._restarted_at + RESTART_PAUSE - loop.time())

        self.log.info(
            "Fivetran has put the sync of %s off until %s; it is started again in %.0f s",
            self.connector_id,
            job.statistics.get("rescheduled_for"),
            wait,
        )
        await asyncio.sleep(wait)
        connection, _ = await hook.get_fivetran_connection(leased, self.connector_id)
        shown = api.judge_run(connection, self.run_waited_for)
        if not self.needs_attention(shown):
            return

        try:
            await hook.start_sync(leased, self.connector_id)
        except AlreadyRunning:
            self.log.info("The sync of %s runs already", self.connector_id)

        self._restarted_at = loop.time()
