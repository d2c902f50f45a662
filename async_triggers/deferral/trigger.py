"""Waiting for a job on the triggerer.

:class:`JobTrigger` is all of a trigger but the vendor: it leases the account, waits on
the shared poller, keeps the deadlines, and yields one event. A subclass names its hook
and how to look at and cancel a job; what it must declare is checked when its module is
imported, not on the triggerer out of sight of the task that deferred.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from async_triggers.deferral import compat, events
from async_triggers.deferral.errors import translate
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status
from async_triggers.deferral.hook import VendorHook, wall_clock
from async_triggers.deferral.kill import Verdict, judge_kill
from async_triggers.deferral.one_event import OneEventTrigger, run_alone, see_through
from async_triggers.engine import backoff
from async_triggers.engine.errors import (
    ConnectionChanged,
    EngineError,
    PermanentError,
    RequestRejected,
    Scope,
    TransientError,
)
from async_triggers.engine.jobs import Job, JobState

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.alarm import Alarm
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.waiters import Notice

T = TypeVar("T")

KILL_LOOK = 6.0
"""Seconds in which the facts for a kill must be known."""
CONFIRM_CANCEL = 60.0
"""Seconds in which a cancelled job should have stopped."""
CANCEL_PATIENCE = 900.0
"""Seconds for which a job that is to be cancelled is tried to be, if the vendor, or Airflow
with what must be known for it, cannot be reached."""
LAST_LOOK = 15.0
"""Seconds for the last look at a job when its deadline has come."""


class JobTrigger(OneEventTrigger):
    """Waits until a job has ended and yields one event.

    Subclasses set :attr:`hook_class`, assign every argument of their constructor to an
    attribute of the same name, and implement the abstract methods.
    """

    hook_class: ClassVar[type[VendorHook]]
    stops_whatever_runs: ClassVar[bool] = False
    """The vendor's cancel names no job, and the job that came after looks like ours."""

    # What the methods below read; subclasses take them as arguments.
    conn_id: str
    end_time: float | None
    execution_deadline: float | None
    poll_interval: float
    owned: bool
    cancel_on_kill: bool
    cancel_on_timeout: bool
    seen_at: float | None

    _leased: LeasedAccount | None = None
    _last_job: Job | None = None
    """The job as the poller last had news of it."""
    job_url: str = ""
    """Where the vendor shows the job, where that is known from the start."""
    _alarm: Alarm | None = None
    """Airflow's, where the wait is on a worker."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Reject a subclass without a hook, where it is written."""
        super().__init_subclass__(**kwargs)
        if not inspect.isabstract(cls) and getattr(cls, "hook_class", None) is None:
            msg = f"{cls.__qualname__} must set hook_class to the vendor's hook"
            raise TypeError(msg)

    @classmethod
    def claim(cls, context: Context, job_id: object) -> None:
        """Push the token that tells this attempt of the task owns the job.

        Call it in a custom operator right before ``defer``. Without the token ``on_kill``
        cannot tell a kill from a takeover by another triggerer while the task is still
        deferred, and then leaves the job alone.
        """
        compat.push_owner_token(context, str(job_id))

    # What a vendor adds -----------------------------------------------------------

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the poller asks for: the id that the vendor's rows go by."""

    @property
    def shown_id(self) -> str:
        """The id of the job in events and messages."""
        return self.subject

    @property
    def title(self) -> str:
        """What to call the job in a sentence."""
        return f"Job {self.shown_id}"

    @property
    def mark(self) -> str | None:
        """What was known before the job started, for vendors that need it."""
        return None

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the trigger's connection. No I/O."""

    @abstractmethod
    async def look(self, leased: LeasedAccount) -> Job:
        """Ask for the job once."""

    @abstractmethod
    async def cancel(self, leased: LeasedAccount) -> None:
        """Cancel the job, if it is still this one that runs."""

    async def prepare(self, leased: LeasedAccount) -> None:
        """Learn what must be known before the wait; by default nothing."""

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Add what the event should carry beyond the row; by default nothing."""
        return job

    def needs_attention(self, job: Job) -> bool:
        """Tell whether a job that has not ended will not go on by itself."""
        return False

    async def attend(self, leased: LeasedAccount, job: Job) -> Job | None:
        """Help such a job on, and return it if it turns out to have ended.

        The wait goes on where it has not, or where None is returned.
        """
        return None

    # Waiting ----------------------------------------------------------------------

    async def _outcome(self) -> Outcome:
        problem = self._problem()
        if problem is not None:
            return self._refused(RequestRejected(problem))

        hook = self.make_hook()
        try:
            account = await hook.known_account(patience=self._seconds_left())
        except EngineError as error:
            if self._seconds_left() == 0.0:
                return self._late(
                    Cancel.UNCONFIRMED if self._may_cancel else Cancel.NONE
                )

            return self._refused(error)

        # Kept past the wait: on_kill comes after it and must not look the connection up
        # again. The account itself lingers.
        self._leased = leased = hook.hold(account)
        # Thousands wait: what they need no more must not be there meanwhile.
        del hook, account
        try:
            return await self.wait_on(leased)
        finally:
            leased.release()

    def _problem(self) -> str | None:
        """Say which argument cannot be used, None where all can.

        A constructor may not raise: that takes the whole triggerer down.
        """
        interval = self.poll_interval
        if not _is_seconds(interval) or interval < 0:
            return f"{interval!r} is no polling interval: give a number of seconds"

        for name in ("end_time", "execution_deadline", "seen_at"):
            moment = getattr(self, name)
            if moment is not None and not _is_seconds(moment):
                return f"{name} is {moment!r}: give a time in epoch seconds, or None"

        return self.check_id()

    def check_id(self) -> str | None:
        """Say why the id of the job cannot be one, None where it may be."""
        subject: object = self.subject
        if not isinstance(subject, str) or subject.strip() in {"", "None"}:
            return f"{subject!r} is no id of a job: give the vendor's id"

        return None

    async def wait_on(self, leased: LeasedAccount) -> Outcome:
        """Wait with an account that is leased already, on a worker as on the triggerer."""
        try:
            await self.prepare(leased)
            job = None
            while job is None or not job.state.is_terminal:
                try:
                    job = await self._joined(leased)
                except ConnectionChanged:
                    # The lease leads to another account from now on.
                    continue

                if not job.state.is_terminal:
                    job = await self._attended(leased, job)

            async with asyncio.timeout(self._seconds_left()):
                job = await self.complete(leased, job)
        except TimeoutError:
            return await self._at_deadline(leased)
        except EngineError as error:
            return self._refused(error)

        return events.ended(job)

    # No coroutine of its own, which would be kept for each of thousands that wait.
    def _joined(self, leased: LeasedAccount) -> Awaitable[Job]:
        """Wait for the job until it has ended or needs attention."""
        return leased.wait(
            self.subject,
            interval=self.poll_interval,
            mark=self.mark,
            seen_at=self.seen_at,
            known=self.owned,
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
        facts = ", ".join(
            f"{name} {value}" for name, value in job.statistics.items() if value
        )
        self.log.info("%s is %s%s", job.title, job.word, f" ({facts})" if facts else "")

    def hear_notice(self, notice: Notice) -> None:
        """Log trouble with polling, and its end."""
        if notice.is_over:
            self.log.info("%s: %s", self.title, notice.text)
        else:
            self.log.warning("%s: %s", self.title, notice.text)

    def _seconds_left(self) -> float | None:
        ends = self._deadline
        return None if ends is None else max(0.0, ends - wall_clock())

    @property
    def _deadline(self) -> float | None:
        ends = [
            each
            for each in (self.end_time, self.execution_deadline)
            if each is not None
        ]
        return min(ends, default=None)

    @property
    def _may_cancel(self) -> bool:
        return self.owned and self.cancel_on_timeout

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

        job = await self._last_look(leased)
        if job is not None and job.state.is_terminal:
            return events.ended(job)

        if not self._may_cancel:
            return self._late(Cancel.NONE, job)

        self.log.warning(
            "%s: the %s has passed, cancelling it", self.title, self._which_deadline
        )
        try:
            ending = await self._cancel_and_confirm(leased)
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

    async def _cancel_and_confirm(self, leased: LeasedAccount) -> Job | None:
        """Cancel, and return the job once it has ended; None when it would not end."""
        work = leased.run_errand(self._cancel_late(leased), f"cancel {self.shown_id}")
        loop = asyncio.get_running_loop()
        ends = loop.time() + CONFIRM_CANCEL
        while loop.time() < ends:
            await asyncio.wait({work}, timeout=2.0)
            if work.done() and work.exception() is not None:
                work.result()

            job = await self._last_look(leased)
            if job is not None and job.state.is_terminal:
                # On a worker nothing goes on without us: let the cancel clean up.
                await asyncio.wait({work}, timeout=max(0.0, ends - loop.time()))
                return job

            if work.done():
                await asyncio.sleep(1.0)

        if self.task_instance is None:
            # A worker does not stay for it.
            work.cancel()

        return None

    async def _cancel_late(self, leased: LeasedAccount) -> None:
        """Cancel after a deadline, however long it takes until the vendor can be reached.

        Once the task has gone on with the event, a retry of it may wait for the job again.
        """

        async def judge() -> Verdict:
            if not self._fired:
                return Verdict.CANCEL

            verdict = await self._judge(leased)
            # So it also looks while Airflow has not taken the event in.
            return Verdict.UNKNOWN if verdict is Verdict.TAKEN_OVER else verdict

        try:
            await self._cancel_as_judged(leased, judge)
        except EngineError as error:
            if self._fired:
                # Nobody waits for this any more.
                self.log.warning("%s could not be cancelled: %s", self.title, error)

            raise

    async def _cancel_as_judged(
        self, leased: LeasedAccount, judge: Callable[[], Awaitable[Verdict]]
    ) -> Verdict:
        """Cancel the job if that is the verdict, which is returned.

        While Airflow or the vendor cannot be reached it is tried again, and judged anew:
        a user who stops a task during an outage means it as well. Raise what the vendor
        has said last where it could not be cancelled.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + CANCEL_PATIENCE
        tries = 0
        while True:
            verdict = await judge()
            told, again = verdict.value, verdict is Verdict.UNKNOWN
            failure: EngineError | None = None
            if verdict is Verdict.CANCEL:
                # No await between the look and the cancel.
                try:
                    await self.cancel(leased)
                except EngineError as error:
                    failure, told = error, f"could not be cancelled: {error.message}"
                    again = isinstance(error, TransientError)

            tries += 1
            wait = backoff.delay(tries)
            if not again or loop.time() + wait >= ends:
                if failure is not None:
                    raise failure

                if verdict.is_doubtful:
                    self.log.warning("%s: %s", self.title, told)

                return verdict

            if tries == 1:
                self.log.warning("%s: %s; trying again", self.title, told)

            await asyncio.sleep(wait)

    @property
    def _which_deadline(self) -> str:
        by_airflow = self._deadline == self.execution_deadline
        return "execution_timeout" if by_airflow else "timeout"

    def _late(self, cancel: Cancel, job: Job | None = None) -> Outcome:
        said = {
            Cancel.NONE: "it is left running",
            Cancel.CONFIRMED: "it was cancelled",
            Cancel.UNCONFIRMED: "cancelling it could not be confirmed",
        }
        where = f" ({job.url})" if job is not None and job.url else ""
        return Outcome(
            status=Status.TIMEOUT,
            kind=Kind.DEADLINE,
            job_id=self.shown_id,
            message=(
                f"{self.title} was still running when the"
                f" {self._which_deadline} of the task passed; {said[cancel]}{where}"
            ),
            job=job,
            cancel=cancel,
        )

    def _refused(self, error: EngineError) -> Outcome:
        message = str(translate(error, self.conn_id))
        if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
            message = f"{message.rstrip('.')}. {self._what_goes_on()}"

        return Outcome(
            status=Status.ERROR,
            kind=Kind.REFUSED,
            job_id=self.shown_id,
            message=message,
            error=type(error).__name__,
        )

    def _what_goes_on(self) -> str:
        """Say what becomes of a job that cannot be polled any more."""
        retry = " A retry of the task attaches to it." if self.owned else ""
        url = self.job_url or (self._last_job.url if self._last_job is not None else "")
        where = f" See {url}" if url else ""
        return f"{self.title} was not cancelled and may still be running.{retry}{where}"

    # Being killed -----------------------------------------------------------------

    async def on_kill(self) -> None:
        """Cancel the job if the user's intention says so.

        Airflow calls this when a user marks, clears or fails the deferred task, but also
        when another triggerer has taken the trigger over, and it interrupts the call
        after a second. So the facts are gathered first, and the work is an errand of the
        account that goes on when this coroutine is interrupted.
        """
        if self._fired or not self.cancel_on_kill or not self.owned:
            return

        if self.task_instance is None:
            return

        told = await see_through(self._start_settling())
        if told is not None:
            self.log.info("%s", told)

    def _start_settling(self) -> asyncio.Task[str]:
        """Begin what goes on by itself, however ``on_kill`` is interrupted."""
        name = f"settle the kill of job {self.shown_id}"
        if self._leased is not None:
            return self._leased.run_errand(self.settle_kill(self._leased), name)

        # Killed before its connection was known, which takes seconds on a triggerer that
        # has just started: there is no account yet whose errand this could be.
        return run_alone(self._lease_and_settle(), name)

    async def _lease_and_settle(self) -> str:
        hook = self.make_hook()
        try:
            account = await hook.known_account(patience=None)
            async with hook.lease(account=account) as leased:
                return await self.settle_kill(leased)
        except EngineError as error:
            told = f"{self.title} could not be cancelled: {error.message}"
            self.log.warning("%s", told)
            return told

    async def settle_kill(
        self,
        leased: LeasedAccount,
        *,
        sought: str | None = None,
        is_found_again: bool = False,
    ) -> str:
        """Learn what happened to the task and act on it; return what was done.

        For the other arguments see :func:`.kill.judge_kill`.
        """
        try:
            verdict = await self._cancel_as_judged(
                leased,
                lambda: self._judge(
                    leased, sought=sought, is_found_again=is_found_again
                ),
            )
        except EngineError as error:
            told = f"{self.title}: could not be cancelled: {error.message}"
            self.log.warning("%s", told)
            return told

        return f"{self.title}: {verdict.value}"

    async def _judge(
        self,
        leased: LeasedAccount,
        *,
        sought: str | None = None,
        is_found_again: bool = False,
    ) -> Verdict:
        """Learn what happened to the task, and what follows for its job."""
        ti = self.task_instance
        assert ti is not None  # noqa: S101 - the callers looked
        state, token, job = await asyncio.gather(
            _in_time(compat.task_state(ti)),
            _in_time(compat.owner_token(ti)),
            _in_time(self.look(leased)),
        )
        return judge_kill(
            state=state,
            token=token,
            job=job,
            job_id=self.shown_id,
            attempt=ti.try_number,
            sought=sought,
            is_found_again=is_found_again,
            stops_whatever_runs=self.stops_whatever_runs,
        )


def _is_seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False

    return math.isfinite(value)


async def _in_time(question: Awaitable[T]) -> T | Exception:
    """Return the answer, or the exception that there was instead of one."""
    try:
        async with asyncio.timeout(KILL_LOOK):
            return await question
    except Exception as error:  # noqa: BLE001 - any failure means "not known"
        return error
