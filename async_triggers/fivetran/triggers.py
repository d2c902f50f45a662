"""Waits for a Fivetran sync on the triggerer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, Unpack

from async_triggers.deferral.first_looks import FirstLooks
from async_triggers.deferral.trigger import JobTrigger, Wait
from async_triggers.engine.errors import (
    AlreadyRunning,
    EngineError,
    JobNotFound,
    PermanentError,
    RequestRejected,
    Scope,
    TransientError,
)
from async_triggers.engine.paths import segment
from async_triggers.engine.times import parse_time
from async_triggers.engine.wording import sentence
from async_triggers.fivetran.api import models
from async_triggers.fivetran.hooks import FivetranHook, FivetranHookAsync
from async_triggers.fivetran.remote_job import FivetranSync

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

__all__ = ["FivetranHookAsync", "FivetranTrigger"]

RESTART_PAUSE = 60.0
"""Seconds between two starts of a sync that Fivetran has put off."""
IDLE_FIRST = 120.0
"""Seconds for which a connection may show no sync before its history is read for why."""
IDLE_LONGEST = 900.0
"""The longest time between two such questions, which come ever less often."""


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
        the sync. Without this, ``xcom`` and ``baseline`` the first look sets it: then a
        sync that ends while the triggerer restarts is missed
    :param xcom: the same as text, from an older signature
    :param poke_interval: how often to look, in seconds. All tasks of an account share their
        polls, which come every 15 seconds at most: the default, which is the peers', means
        15
    :param reschedule_wait_time: seconds after which a sync that Fivetran has put off is
        started again, where the connection's schedule is manual; None or 0 waits until
        the time that Fivetran names
    :param baseline: what the connection showed before the sync, see
        :attr:`async_triggers.fivetran.api.models.Run.mark`; wins over
        ``previous_completed_at``
    :param end_time: the deadline in epoch seconds, None for none
    :param execution_deadline: the deadline that ``execution_timeout`` sets
    :param owned: whether the sync was started by this task
    :param cancel_on_kill: pause the connection when a user stops the deferred task
    :param cancel_on_timeout: pause the connection when a deadline passes
    :param unpause_after_cancel: un-pause it once the sync has stopped
    :param seen_at: the server's time of the last look, in epoch seconds
    :param ending: how the trigger ends its task, see
        :class:`async_triggers.deferral.ending.Ending`; None to resume it
    """

    # What few triggers ever change stands here: an object of more than thirty attributes
    # takes a kilobyte more.
    _first_seen: str | None = None
    """The baseline where none was given."""
    _put_off: tuple[str | None, float] | None = None
    """What Fivetran put the sync off to, and the loop's time to start it again."""
    _restarted_at: float = -math.inf
    _ask_why_at: float | None = None
    """The loop's time at which to check why nothing is syncing, infinite for never."""
    _idle_pause: float = IDLE_FIRST
    """Seconds until the next such check."""

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
        ending: Mapping[str, Any] | None = None,
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
        self.ending = ending

    @property
    def _hook(self) -> FivetranHook:
        return FivetranHook(self.fivetran_conn_id)

    @property
    def run_waited_for(self) -> models.Run:
        """The run, as its connection showed itself before the start."""
        mark = self._first_seen if self.baseline is None else self.baseline
        if mark is not None:
            return models.Run.from_mark(self.connector_id, mark)

        before = self.previous_completed_at or self.xcom or None
        if isinstance(before, datetime):
            before = before.isoformat()

        return models.Run(
            connection_id=self.connector_id, succeeded_at=before, failed_at=before
        )

    @property
    def _url(self) -> str:
        """Where the connection is shown; empty where its id cannot be one."""
        try:
            return models.dashboard_url(self.connector_id)
        except RequestRejected:
            return ""

    def _problem(self, job: RemoteJob) -> str | None:
        try:
            segment(self.connector_id, "connector_id")
        except RequestRejected as error:
            return error.message

        for name in ("previous_completed_at", "xcom"):
            before = getattr(self, name)
            is_time = isinstance(before, datetime) or parse_time(before) is not None
            if before and not is_time:
                return f"{name} is {before!r}: give a time in ISO 8601, or none"

        return super()._problem(job)

    def make_job(self) -> FivetranSync:
        """Return the sync that the arguments name."""
        return FivetranSync(
            conn_id=self.fivetran_conn_id,
            job_id=self.run_waited_for.id,
            url=self._url,
            owned=self.owned,
            reschedule_wait_time=self.reschedule_wait_time,
            unpause_after_cancel=self.unpause_after_cancel,
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for a sync."""
        assert isinstance(job, FivetranSync)  # noqa: S101 - its own class says so
        return cls(
            "",
            job.run.connection_id,
            job.conn_id,
            poke_interval=wait["poll_interval"],
            reschedule_wait_time=job.reschedule_wait_time,
            baseline=job.mark,
            end_time=wait["end_time"],
            execution_deadline=wait["execution_deadline"],
            owned=job.owned,
            cancel_on_kill=wait["cancel_on_kill"],
            cancel_on_timeout=wait["cancel_on_timeout"],
            unpause_after_cancel=job.unpause_after_cancel,
            seen_at=wait["seen_at"],
        )

    async def prepare(self, leased: LeasedAccount) -> None:
        """See to it that there is something to compare with."""
        if not self._has_baseline:
            async with asyncio.timeout(self._seconds_left()):
                await self._look_first(leased)

    async def _look_first(self, leased: LeasedAccount) -> None:
        """Take what the connection shows now for what is to change."""
        hook = self._hook
        looks = FirstLooks(hook, self.log, is_known=self.is_known)
        connection, now = await looks.look(
            leased, lambda: hook.get_fivetran_connection(leased, self.connector_id)
        )
        self._first_seen = connection.run(at=now).mark

    @property
    def _has_baseline(self) -> bool:
        given = (self.baseline, self.previous_completed_at, self.xcom or None)
        return any(each is not None for each in (*given, self._first_seen))

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the peers' ``return_value``."""
        job = outcome.job
        done = None if job is None else self.remote_job.result(job)
        return {**super().payload(outcome), "return_value": done}

    def hear(self, job: Job) -> None:
        """Log what has changed; warn of a connection that does not sync."""
        if job.word == models.PAUSED and not job.state.is_terminal:
            self._last_job = job
            self.log.warning("%s", models.paused_warning(job))
        else:
            super().hear(job)

    # Syncs that will not go on by themselves ----------------------------------------

    def needs_attention(self, job: Job) -> bool:
        """Return whether a sync was put off, or does not seem to run at all.

        https://fivetran.com/docs/rest-api/api-reference/connections: with the schedule
        type "manual" nothing runs a connection but a request, not even what Fivetran
        itself has rescheduled.
        """
        now = asyncio.get_running_loop().time()
        if job.word != models.SCHEDULED:
            self._ask_why_at, self._idle_pause = None, IDLE_FIRST

        if job.word == models.RESCHEDULED:
            if job.statistics.get("schedule_type") != models.MANUAL:
                return False

            known = self._put_off
            until = job.statistics.get("rescheduled_for")
            return known is None or known[0] != until or now >= known[1]

        run = self.run_waited_for
        if job.word != models.SCHEDULED or run.whichever or run.at is None:
            return False

        if self._ask_why_at is None:
            self._ask_why_at = now + self._idle_pause

        return now >= self._ask_why_at

    async def attend(self, leased: LeasedAccount, job: Job) -> Job | None:
        """Start a sync again that was put off, or find out why none is running."""
        run = self.run_waited_for
        try:
            connection, now = await self._hook.get_fivetran_connection(
                leased, self.connector_id
            )
        except EngineError as error:
            # A connection that is refused is for the poller to doubt.
            self._look_again(error)
            return None

        self._looked_at = now
        try:
            shown = models.judge_run(connection, run)
            if shown.state.is_terminal or not self.needs_attention(shown):
                return shown

            if shown.word == models.RESCHEDULED:
                await self._start_again(leased, connection, now)
                return None

            return await self._ask_why(leased, connection, run, now)
        except (TransientError, JobNotFound) as error:
            self._look_again(error)
            return None

    def _look_again(self, error: EngineError) -> None:
        """Take a failure for a late answer; raise the refusal of the whole account."""
        if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
            raise error

        self.log.warning("%s Checking again", sentence(error.message))
        if self._put_off is not None:
            later = asyncio.get_running_loop().time() + RESTART_PAUSE
            self._put_off = (self._put_off[0], later)

    async def _start_again(
        self, leased: LeasedAccount, connection: models.Connection, now: float | None
    ) -> None:
        """Start a sync that was put off, or note when it may be."""
        loop = asyncio.get_running_loop()
        until = connection.rescheduled_for
        if self._put_off is None or self._put_off[0] != until:
            wait, moment = self.reschedule_wait_time or 0.0, parse_time(until)
            if wait <= 0 and moment is not None and now is not None:
                wait = max(0.0, moment - now)

            at = max(loop.time() + wait, self._restarted_at + RESTART_PAUSE)
            self._put_off = (until, at)
            self.log.info(
                "Fivetran has put the sync of %s off until %s; it is started again in"
                " %.0f s",
                self.connector_id,
                until,
                at - loop.time(),
            )
            if at > loop.time():
                return

        self._restarted_at = loop.time()
        self._put_off = (until, loop.time() + RESTART_PAUSE)
        try:
            await self._hook.start_sync(leased, self.connector_id)
        except AlreadyRunning:
            self.log.info("The sync of %s runs already", self.connector_id)
        else:
            self.log.info("The sync of %s is started again", self.connector_id)

    async def _ask_why(
        self,
        leased: LeasedAccount,
        connection: models.Connection,
        run: models.Run,
        now: float | None,
    ) -> Job | None:
        """Check in the history that the sync has stopped: its times would not show it."""
        loop = asyncio.get_running_loop()
        self._ask_why_at = loop.time() + self._idle_pause
        self._idle_pause = min(IDLE_LONGEST, self._idle_pause * 2)
        if now is None:
            return None

        try:
            return await self._hook.find_stop(leased, connection, run, now=now)
        except PermanentError as error:
            # An account without the history: nothing more can be learnt.
            self.log.info("The sync history could not be read: %s", error.message)
            self._ask_why_at = math.inf
            return None
