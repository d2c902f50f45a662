"""Waiting for a job on the triggerer.

:class:`JobTrigger` is all of a trigger but the vendor: it leases the account, waits on
the shared poller, keeps the deadlines, and yields one event. A subclass makes the
vendor's :class:`~async_triggers.deferral.remote_job.RemoteJob` of its arguments.
"""

from __future__ import annotations

import asyncio
import math
from abc import abstractmethod
from collections.abc import Awaitable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack

from async_triggers.deferral import compat, events
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.contact import address_of
from async_triggers.deferral.deadlines import earliest, seconds_left
from async_triggers.deferral.errors import explain, translate
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.job_cancel import JobCancel
from async_triggers.deferral.one_event import (
    OneEventTrigger,
    insist,
    run_alone,
    see_through,
)
from async_triggers.engine.errors import (
    AccountMisconfigured,
    ConnectionChanged,
    EngineError,
    PermanentError,
    RequestRejected,
    Scope,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.limiter import urgent
from async_triggers.engine.wording import sentence, with_url

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.alarm import Alarm
    from async_triggers.deferral.remote_job import JobRequest, RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.listener import Notice

T = TypeVar("T")

LAST_LOOK = 15.0
"""Seconds for the last check of a job when its deadline has come."""
UNDER_WAY = 60.0
"""Seconds after its deferral from which a trigger has most likely run before, on another
triggerer: then its requests have worked, and a refusal is doubted."""


class Wait(TypedDict):
    """How to wait for a job; each is an argument of every vendor's trigger."""

    poll_interval: float
    end_time: float | None
    execution_deadline: float | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    seen_at: float | None


class JobTrigger(OneEventTrigger):
    """Waits until a job has ended and yields one event.

    Subclasses assign every argument of their constructor to an attribute of the same name,
    and implement the abstract methods.
    """

    # What the methods below read; subclasses take them as arguments.
    end_time: float | None
    execution_deadline: float | None
    poll_interval: float
    cancel_on_kill: bool
    cancel_on_timeout: bool
    seen_at: float | None

    _leased: LeasedAccount | None = None
    _cancel: JobCancel | None = None
    """The cancel after a deadline."""
    _last_job: Job | None = None
    """The job as the poller last had news of it."""
    _looked_at: float | None = None
    """The server's time of the last look that did not come through the poller."""
    is_known = False
    """True where the vendor has most likely shown the job to an earlier process."""
    _began_at: float | None = None
    """When this process began to wait, in epoch seconds."""
    _alarm: Alarm | None = None
    """Airflow's, where the wait is on a worker."""

    @classmethod
    def claim(cls, context: Context, job_id: object) -> None:
        """Push the token that says that this attempt of the task owns the job.

        Call it in a custom operator right before ``defer``. Without the token ``on_kill``
        cannot distinguish a kill from a takeover by another triggerer while the task is
        still deferred, and then the job runs on.
        """
        compat.push_owner_token(context, str(job_id))

    # What a vendor adds -----------------------------------------------------------

    @abstractmethod
    def make_job(self) -> RemoteJob:
        """Return the job that the arguments name. No I/O."""

    @classmethod
    @abstractmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for a job."""

    @property
    def remote_job(self) -> RemoteJob:
        """The job that is waited for."""
        return self.make_job() if self._cancel is None else self._cancel.job

    async def prepare(self, leased: LeasedAccount) -> None:
        """Learn what must be known before the wait; by default nothing."""

    def needs_attention(self, job: Job) -> bool:
        """Return whether a job that has not ended will not go on by itself."""
        return False

    async def attend(self, leased: LeasedAccount, job: Job) -> Job | None:
        """Help such a job on, and return it if it turns out to have ended.

        The wait goes on where it has not, or where None is returned.
        """
        return None

    # Waiting ----------------------------------------------------------------------

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the classpath and the arguments; none of them is secret.

        Where no look has shown the job, also when that was: whether a trigger has run
        before is seen by nothing else.
        """
        classpath, arguments = super().serialize()
        if self.seen_at is None:
            self.stored_at = self.stored_at or wall_clock()
            arguments["stored_at"] = self.stored_at

        return classpath, arguments

    def _take_note_of_age(self) -> None:
        """Learn whether the vendor has most likely answered an earlier process."""
        stored_at = self.stored_at
        if stored_at is not None and wall_clock() - stored_at > UNDER_WAY:
            self.is_known = True

    async def _outcome(self) -> Outcome:
        self._take_note_of_age()
        job = self.remote_job
        try:
            problem, hook = self._problem(job), job.hook
        except ArgumentUnusable as error:
            return self._failed(str(error), RequestRejected.__name__)

        # Thousands wait: what they need no more must not be there meanwhile.
        del job
        if problem is not None:
            return self._failed(problem, RequestRejected.__name__)

        try:
            account = await hook.known_account(patience=self._seconds_left())
        except EngineError as error:
            if self._seconds_left() == 0.0:
                fate = Cancel.UNCONFIRMED if self._may_cancel else Cancel.NONE
                return self._late(fate)

            return self._refused(error)

        # on_kill may come after the wait, and must not look the connection up again.
        self._leased = leased = hook.hold(account)
        del hook, account
        try:
            return await self.wait_on(leased)
        finally:
            leased.release()

    def _problem(self, job: RemoteJob) -> str | None:
        """Say which argument cannot be used, None where all can.

        A constructor may not raise: that takes the whole triggerer down.
        """
        interval = self.poll_interval
        if not _is_seconds(interval) or interval < 0:
            return f"{interval!r} is not a polling interval: give a number of seconds"

        for name in ("end_time", "execution_deadline", "seen_at"):
            moment = getattr(self, name)
            if moment is not None and not _is_seconds(moment):
                return f"{name} is {moment!r}: give a time in epoch seconds, or None"

        return job.problem()

    # The vendor ---------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What to call the job at the beginning of a sentence."""
        return self.remote_job.title

    async def look(self, leased: LeasedAccount) -> Job:
        """Request the job once."""
        seen = await self.remote_job.look(leased)
        self._looked_at = seen.at
        return seen.job

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Add what the event should carry beyond the row."""
        times = (self._looked_at, leased.poller.server_now)
        now = max((each for each in times if each is not None), default=None)
        return await self.remote_job.complete(leased, job, now=now)

    def result(self, job: Job) -> Any:
        """Return what a task returns that this trigger ends."""
        return self.remote_job.result(job)

    # The wait -----------------------------------------------------------------------

    def report_interval(self) -> None:
        """Log how often the job is polled where that is not as often as was requested."""
        vendor = self.remote_job.vendor
        if self.poll_interval < vendor.grid_floor:
            self.log.info(
                "%s is polled at most every %g s, for all tasks together; an interval of"
                " %g s makes no difference",
                vendor.name,
                vendor.grid_floor,
                self.poll_interval,
            )

    async def wait_on(self, leased: LeasedAccount) -> Outcome:
        """Wait with an account that is leased already, on a worker as on the triggerer."""
        self._began_at = wall_clock()
        if self._leased is None:
            self._leased = leased

        try:
            await self.prepare(leased)
            job = None
            while job is None or not job.state.is_terminal:
                try:
                    job = await self._joined(leased)
                except ConnectionChanged:
                    # The lease leads to another account from now on.
                    continue
                except AccountMisconfigured as error:
                    if await self._has_worked_before(leased, error):
                        continue

                    raise

                if not job.state.is_terminal:
                    job = await self._attended(leased, job)

            async with asyncio.timeout(self._seconds_left()):
                job = await self.complete(leased, job)
        except TimeoutError:
            return await self._at_deadline(leased)
        except EngineError as error:
            return self._refused(error)

        return events.ended(job)

    async def _has_worked_before(
        self, leased: LeasedAccount, error: AccountMisconfigured
    ) -> bool:
        """Return True if an address that looks wrong has worked for this task before.

        This process has had no answer yet, but the worker, or an earlier run of the task,
        may have had one.
        """
        ti, trust = self.task_instance, leased.transport.trust
        hook = self.remote_job.make_hook()
        if ti is None or error.suspect is None or trust.has_worked:
            return False

        async with asyncio.timeout(self._seconds_left()):
            known = await insist(lambda: compat.earlier_address_of(ti), self.log)

        if known != address_of(leased.account):
            return False

        self.log.warning(
            "%s This address has answered before, so it counts as an outage: still"
            " waiting",
            sentence(explain(error, hook.conn_id, hook.conn_type)),
        )
        trust.vouch()
        return True

    # No coroutine, which would be kept for each of thousands that wait.
    def _joined(self, leased: LeasedAccount) -> Awaitable[Job]:
        """Wait for the job until it has ended or needs attention."""
        job = self.remote_job
        return leased.wait(
            job.polled_id,
            interval=self.poll_interval,
            mark=job.mark,
            seen_at=self.seen_at,
            known=job.owned or self.is_known,
            listener=self,
            patience=self._seconds_left(),
        )

    async def _attended(self, leased: LeasedAccount, job: Job) -> Job | None:
        """Help a job on; return it if it has ended, None to wait for it again."""
        async with asyncio.timeout(self._seconds_left()):
            attended = await self.attend(leased, job)

        if attended is None or not attended.state.is_terminal:
            return None

        return attended

    def hear(self, job: Job) -> None:
        """Log what has changed."""
        self._last_job = job
        self.log.info("%s is %s%s", job.title, job.word, self._progress(job))

    def hear_again(self) -> None:
        """Log that the job goes on as it was."""
        job = self._last_job
        if job is None:
            job = Job(id=self.remote_job.job_id, state=JobState.RUNNING, word="")

        state = f"is still {job.word}" if job.word else "has not ended"
        self.log.info("%s %s%s", self.title, state, self._progress(job))

    def _progress(self, job: Job) -> str:
        since = self._began_at if self.seen_at is None else self.seen_at
        return events.progress_of(job, wall_clock(), since)

    def hear_notice(self, notice: Notice) -> None:
        """Log trouble with polling, and its end."""
        if notice.is_over:
            self.log.info("%s: %s", self.title, notice.text)
        else:
            self.log.warning("%s: %s", self.title, notice.text)

    def _seconds_left(self) -> float | None:
        return seconds_left(self._deadline, wall_clock())

    @property
    def _deadline(self) -> float | None:
        return earliest(self.end_time, self.execution_deadline)

    @property
    def _may_cancel(self) -> bool:
        return self.remote_job.owned and self.cancel_on_timeout

    async def wait_on_worker(self, leased: LeasedAccount, alarm: Alarm) -> Outcome:
        """Wait as on the triggerer; Airflow's alarm is the end of execution_timeout too."""
        self._alarm = alarm
        bound: asyncio.Timeout | None = None
        try:
            async with alarm.timeout() as bound:
                return await self.wait_on(leased)
        except TimeoutError:
            if bound is None or not bound.expired():
                raise

        return await self.time_out(leased)

    async def time_out(self, leased: LeasedAccount) -> Outcome:
        """End the wait now, because execution_timeout has passed."""
        ends, now = self._deadline, wall_clock()
        if ends is None or ends > now:
            self.execution_deadline = now

        return await self._at_deadline(leased)

    async def _at_deadline(self, leased: LeasedAccount) -> Outcome:
        """Look once more, cancel what is ours, and confirm it."""
        if self._alarm is not None:
            # It would say what is being done already.
            self._alarm.disarm()

        with urgent():
            job = await self._last_look(leased)

        if job is not None and job.state.is_terminal:
            return events.ended(job)

        if not self._may_cancel:
            return self._late(Cancel.NONE, job)

        self.log.warning(
            "%s: the %s has passed, cancelling it", self.title, self._which_deadline
        )
        self._cancel = self._make_cancel()
        try:
            ending = await self._cancel.confirm_at_deadline(
                leased, job, lambda: self._fired, self._last_look
            )
        except (EngineError, TimeoutError) as error:
            self.log.warning("%s could not be cancelled: %s", self.title, error)
            return self._late(Cancel.UNCONFIRMED, job)

        if ending is not None and ending.state is JobState.SUCCEEDED:
            return events.ended(ending)

        done = Cancel.UNCONFIRMED if ending is None else Cancel.CONFIRMED
        return self._late(done, ending or job)

    async def _last_look(self, leased: LeasedAccount) -> Job | None:
        try:
            async with asyncio.timeout(LAST_LOOK):
                job = await self.look(leased)
                if job.state.is_terminal:
                    job = await self.complete(leased, job)

                return job
        except (EngineError, TimeoutError):
            return None

    @property
    def _url(self) -> str:
        """Where the vendor shows the job, empty where that is not known."""
        last = self._last_job
        return self.remote_job.url or (last.url if last is not None else "")

    @property
    def _which_deadline(self) -> str:
        by_airflow = self._deadline == self.execution_deadline
        return "execution_timeout" if by_airflow else "timeout"

    def _late(self, cancel: Cancel, job: Job | None = None) -> Outcome:
        said = {
            Cancel.NONE: "it is left running",
            Cancel.CONFIRMED: "it was cancelled",
            Cancel.UNCONFIRMED: (
                "cancelling it could not be confirmed: check whether it still runs"
            ),
        }
        progress = "" if job is None else self._progress(job)
        words = (
            f"{self.title}{progress} had not ended when the {self._which_deadline} of the"
            f" task passed; {said[cancel]}"
        )
        url = job.url if job is not None and job.url else self._url
        return Outcome(
            status=Status.TIMEOUT,
            kind=Kind.DEADLINE,
            job_id=self.remote_job.job_id,
            message=with_url(words, url),
            job=job,
            cancel=cancel,
        )

    def _refused(self, error: EngineError) -> Outcome:
        hook = self.remote_job.make_hook()
        message = str(translate(error, hook.conn_id, hook.conn_type))
        if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
            # On a separate line: both may end with a URL.
            message = f"{message}\n{self._what_goes_on()}"

        return self._failed(message, type(error).__name__)

    def _failed(self, message: str, error: str) -> Outcome:
        return Outcome(
            status=Status.ERROR,
            kind=Kind.REFUSED,
            job_id=self.remote_job.job_id,
            message=message,
            error=error,
        )

    def _what_goes_on(self) -> str:
        """Say what becomes of a job that cannot be polled any more."""
        retry = " A retry of the task attaches to it." if self.remote_job.owned else ""
        words = f"{self.title} was not cancelled and may still be running.{retry}"
        return with_url(words, self._url)

    # Being killed -----------------------------------------------------------------

    async def on_kill(self) -> None:
        """Cancel the job if the user's intention says so.

        Airflow calls this when a user marks, clears or fails the deferred task, but also
        when another triggerer has taken the trigger over, and it interrupts the call
        after a second. So the facts are gathered first, and the work is an errand of the
        account that goes on when this coroutine is interrupted.
        """
        if self._fired or not self.cancel_on_kill or not self.remote_job.owned:
            return

        if self.task_instance is None:
            return

        message = await see_through(self._start_settling())
        if message is not None:
            self.log.info("%s", message)

    def _start_settling(self) -> asyncio.Task[str]:
        """Begin what goes on by itself, however ``on_kill`` is interrupted."""
        cancel, leased = self._make_cancel(), self._leased
        name = f"settle the kill of {cancel.job.job_id}"
        if leased is not None:
            return leased.run_errand(cancel.settle_kill(leased), name)

        # Killed before its connection was known, which takes seconds on a triggerer that
        # has just started: there is no account yet whose errand this could be.
        return run_alone(cancel.lease_and_settle(), name)

    def _make_cancel(self) -> JobCancel:
        ti = self.task_instance
        return JobCancel(self.remote_job, self.log, ti, shown=self._last_job)


def trigger_class(job: RemoteJob) -> type[JobTrigger]:
    """Return the class of the vendor's trigger that waits for a job."""
    module, _, name = job.trigger.rpartition(".")
    cls: type[JobTrigger] = getattr(import_module(module), name)
    return cls


def trigger_for(
    request: JobRequest,
    job: RemoteJob,
    *,
    end_time: float | None = None,
    execution_deadline: float | None = None,
    seen_at: float | None = None,
) -> JobTrigger:
    """Return the vendor's trigger that waits for a job as a request says."""
    return trigger_class(job).of(
        job,
        poll_interval=request.poll_interval,
        end_time=end_time,
        execution_deadline=execution_deadline,
        cancel_on_kill=request.cancel_on_kill,
        cancel_on_timeout=request.cancel_on_timeout,
        seen_at=seen_at,
    )


def _is_seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False

    try:
        return math.isfinite(value)
    except OverflowError:
        return False
