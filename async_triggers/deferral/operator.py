"""Starting a job, or finding it again, and waiting for it.

:class:`JobOperator` is all of an operator but the vendor. One attempt of a task goes::

    execute ── what did the last attempt write down? (record.decide)
       │   ├─ its job is still there ─────────────── attach to it
       │   ├─ its start was not answered ─────────── look for it, by the intent
       │   └─ it was cleared ─────────────────────── cancel its job, confirm it
       ├─ look at what runs already ──────────────── if_running
       ├─ write the intent, start, write the id
       └─ wait: on the worker, or defer ──────────── execute_complete

Calls to the vendor run on an event loop that lives for the length of one method; calls to
Airflow are made outside of it, where Airflow allows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import orjson
from airflow.sdk import BaseOperator

from async_triggers.deferral import compat, events
from async_triggers.deferral.ending import (
    Ending,
    Then,
    statistics_of,
    why_on_worker,
)
from async_triggers.deferral.errors import (
    EventUnusable,
    JobAlreadyRunning,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    TaskKilled,
    VendorUnavailable,
    translate,
)
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status
from async_triggers.deferral.hook import VendorHook, wall_clock
from async_triggers.deferral.kill import Verdict, judge_stop
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.record import (
    KEY,
    Intent,
    Next,
    Record,
    decide,
    read_record,
)
from async_triggers.engine.errors import (
    AlreadyRunning,
    EngineError,
    JobNotFound,
    PermanentError,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.jobs import Job, JobState, Seen

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Account

T = TypeVar("T")

IF_RUNNING = ("wait", "attach", "fail", "skip")
BACKSTOP = timedelta(seconds=60) + timedelta(seconds=60)
"""Airflow's own timeout comes this much after the trigger's, which cancels and confirms."""
KILL_JOIN = 4.0
"""Seconds that on_kill may take: Airflow sends SIGKILL five seconds after SIGTERM."""
CONFIRM_ON_WORKER = 30.0
"""Seconds a worker waits for a cancelled job to stop before it defers instead."""
SUPERSEDING = "superseding"
"""The job in the owner token of an attempt that ends an earlier one's job first."""
TRY_AGAIN = 60.0
"""Seconds until the next try of a start that the vendor could not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the vendor shows right before a start.

    ``running`` is the job that is under way already, if one is.
    """

    intent: Intent
    running: Seen | None = None


class _Later(Exception):
    """The start cannot be made now: come back after some seconds."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class _Behind(Exception):
    """Another job must end before ours can start."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.job.id)
        self.seen = seen


class JobOperator(BaseOperator):
    """Starts one job at a vendor and waits until it has ended."""

    statistics_key: ClassVar[str]
    """XCom key of the job's statistics."""
    start_grace: ClassVar[float] = 0.0
    """Seconds after which a start whose answer was lost shows up, if it ever does."""

    # Set by the vendor's operator.
    deferrable: bool
    poll_interval: float
    timeout: float | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    end_from_trigger: bool
    if_running: str

    # The state of one attempt on a worker; never templated, never serialized.
    _runner: asyncio.Runner | None = None
    _leased: LeasedAccount | None = None
    _account: Account | None = None
    job_url: str = ""
    """Where the vendor shows the job, once it is known; for operator links."""
    _job_id: str | None = None
    _owned: bool = False
    _carried: Record | None = None
    _killed: bool = False
    _killing: threading.Thread | None = None
    _ti: Any = None
    _verdict: Verdict | None = None
    _main: asyncio.Task[Any] | None = None
    _interruptible: bool = False

    # What a vendor adds -----------------------------------------------------------

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the operator's connection."""

    @abstractmethod
    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""

    @abstractmethod
    def describe_request(self) -> Mapping[str, Any]:
        """Return what is asked for, as JSON: what makes two requests the same."""

    @abstractmethod
    async def before_start(self, leased: LeasedAccount) -> Before:
        """Learn what is there before the start."""

    @abstractmethod
    async def start(self, leased: LeasedAccount, intent: Intent) -> Seen:
        """Start the job.

        Raise :class:`~async_triggers.engine.errors.AlreadyRunning` when the vendor did
        not, because one is under way.
        """

    def was_there_before(self, seen: Seen, intent: Intent) -> bool:
        """Tell whether a start answered with a job that somebody else had started."""
        return False

    @abstractmethod
    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """Look for the job of a start whose answer was lost."""

    @abstractmethod
    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Look for the job that is in the way of a start.

        Raise a permanent error when the vendor will not start one at all.
        """

    @abstractmethod
    async def look(self, leased: LeasedAccount, job_id: str) -> Seen:
        """Ask for a job."""

    @abstractmethod
    async def cancel(self, leased: LeasedAccount, job_id: str) -> None:
        """Cancel a job, if it is still that job which runs."""

    @property
    def attaches_when_cleared(self) -> bool:
        """True where a running job cannot be cancelled to make way for a new one."""
        return False

    @abstractmethod
    def may_attach(self, job: Job) -> bool:
        """Tell whether a job of somebody else would do as well as our own."""

    @abstractmethod
    def make_trigger(
        self,
        seen: Seen | str,
        *,
        owned: bool,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> JobTrigger:
        """Return the trigger that waits for a job."""

    @abstractmethod
    def result(self, job_id: str, job: Job | None) -> Any:
        """Return what the task returns."""

    def failed_before(self, seen: Seen) -> None:
        """Take note that this is a retry, and of the job that failed before it."""

    # The attempt ------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Start the job, or find it again, and wait for it as the mode says."""
        return self._begin(context, self._new_deadline(), None)

    def execute_start(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        waiting: Mapping[str, Any] | None = None,
    ) -> Any:
        """Come back to a start that had to wait, for a time or for another job."""
        waiting = waiting or {}
        ends = waiting.get("end_time", self._new_deadline())
        self._carried = read_record(waiting.get("record"))
        blocked_by = waiting.get("blocked_by")
        if blocked_by is not None:
            outcome = events.from_payload(event)
            if outcome.kind is Kind.DEADLINE:
                raise JobTimedOut(outcome.message, job=outcome.job)

        return self._begin(context, ends, waiting.get("superseded"))

    def _begin(
        self, context: Context, end_time: float | None, superseded: str | None
    ) -> Any:
        self.check_arguments()
        self._ti = context["ti"]
        with self._at_work():
            try:
                return self._attempt(context, end_time, superseded)
            except TaskKilled:
                if self._killing is not None:
                    self._killing.join(KILL_JOIN)

                if self._learn_verdict() is Verdict.CANCEL:
                    self._mark_killed(context)

                raise

    def _attempt(
        self, context: Context, end_time: float | None, superseded: str | None
    ) -> Any:
        """Do all that must be done until the task can wait."""
        while True:
            try:
                seen, owned = self._get_job(context, superseded)
            except _Later as later:
                self._wait_for_time(later, end_time, superseded)
            except _Behind as behind:
                record = self._read_record(context)
                if record is not None and record.job_id == behind.seen.job.id:
                    superseded = record.job_id

                self._wait_behind(behind.seen, end_time, superseded)
            else:
                return self._wait_for_job(context, seen, end_time, owned=owned)

    def _get_job(self, context: Context, superseded: str | None) -> tuple[Seen, bool]:
        """Return the job to wait for and whether it is ours."""
        record = self._read_record(context)
        ti = context["ti"]
        fingerprint = self._fingerprint()
        step = decide(record, fingerprint=fingerprint, max_tries=ti.max_tries)
        if record is not None and record.job_id is not None:
            if step is Next.REATTACH:
                found = self._reattach(record, record.job_id)
                if found is not None:
                    return found, record.owned

            elif step is Next.SUPERSEDE:
                # From here on the old job is ours to end: its trigger may yet be killed.
                self._claim(context, SUPERSEDING)
                found = self._supersede(record.job_id)
                if found is not None:
                    new = replace(record, max_tries=ti.max_tries, killed=False)
                    self._write(context, new)
                    return found, True

                superseded = record.job_id

            elif step is Next.LEAVE:
                self.log.warning(
                    "An earlier attempt started job %s with other arguments; it is left"
                    " alone and a new job is started",
                    record.job_id,
                )

        elif record is not None and step is Next.FIND:
            seen = self._find_lost(record)
            if seen is not None:
                record = record.with_job(seen.job.id, owned=True)
                self._write(context, record)
                if record.max_tries == ti.max_tries and not record.killed:
                    return seen, True

                # The task was cleared since: it is the old job, and is superseded.
                return self._get_job(context, superseded)

        new = Record(fingerprint=fingerprint, max_tries=ti.max_tries)
        return self._start_new(context, new, superseded)

    def _reattach(self, record: Record, job_id: str) -> Seen | None:
        """Look at the job of an earlier attempt; None when a new one is needed."""
        try:
            seen = self._ask(lambda leased: self.look(leased, job_id))
        except JobNotFound as error:
            self.log.warning("%s: starting a new job", error.message)
            return None
        except TransientError as error:
            raise _Later(TRY_AGAIN, error.message) from None

        if seen.job.state in {JobState.FAILED, JobState.CANCELLED}:
            self.log.info(
                "Job %s of the earlier attempt %s: starting a new one",
                job_id,
                seen.job.word,
            )
            self.failed_before(seen)
            return None

        whose = "the earlier attempt started" if record.owned else "it waited for"
        self.log.info("Attaching to job %s, which %s", job_id, whose)
        return seen

    def _supersede(self, job_id: str) -> Seen | None:
        """Cancel the job of a cleared attempt and see it end, before a new one starts.

        Return it where the vendor cannot cancel, so that it is attached to.
        """
        try:
            seen = self._ask(lambda leased: self.look(leased, job_id))
        except JobNotFound:
            return None
        except TransientError as error:
            raise _Later(TRY_AGAIN, error.message) from None

        if seen.job.state.is_terminal:
            return None

        if self.attaches_when_cleared:
            self.log.info(
                "The task was cleared and its job %s cannot be cancelled: attaching to it",
                job_id,
            )
            return seen

        if not self.cancel_on_kill:
            self.log.info("Waiting for job %s of the cleared attempt to end", job_id)
            raise _Behind(seen)

        self.log.info("The task was cleared: cancelling its job %s", job_id)
        try:
            ending = self._ask(lambda leased: self._cancel_and_confirm(leased, job_id))
        except TransientError as error:
            raise _Later(TRY_AGAIN, error.message) from None

        if not ending.job.state.is_terminal:
            raise _Behind(ending)

        return None

    async def _cancel_and_confirm(self, leased: LeasedAccount, job_id: str) -> Seen:
        await self.cancel(leased, job_id)
        loop = asyncio.get_running_loop()
        ends = loop.time() + CONFIRM_ON_WORKER
        pause = 0.5
        while True:
            seen = await self.look(leased, job_id)
            if seen.job.state.is_terminal or loop.time() >= ends:
                return seen

            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    def _find_lost(self, record: Record) -> Seen | None:
        """Look for the job of a start that was not answered.

        None once it must have shown up and has not; until then come back later.
        """
        intent = record.intent
        try:
            seen = self._ask(lambda leased: self.find_started(leased, intent))
            if seen is not None:
                self.log.info("Found job %s, whose start was not answered", seen.job.id)
                return seen

            now = self._ask(self.before_start).intent.at
        except TransientError as error:
            raise _Later(TRY_AGAIN, error.message) from None

        if now is None or intent.at is None or now >= intent.at + self.start_grace:
            return None

        left = intent.at + self.start_grace - now
        raise _Later(min(left, 20.0), "a start was not answered and may yet show up")

    def _start_new(  # noqa: C901 - the ways in which a start can go
        self, context: Context, record: Record, superseded: str | None
    ) -> tuple[Seen, bool]:
        """Start a job of our own, or take the one that ``if_running`` allows."""
        try:
            before = self._ask(self.before_start)
        except TransientError as error:
            raise _Later(error.retry_after or TRY_AGAIN, error.message) from None

        if before.running is not None:
            attached = self._meet(context, record, before.running, superseded)
            if attached is not None:
                return attached, False

        earlier = self._read_record(context)
        record = replace(record, intent=before.intent)
        self._write(context, record)
        try:
            seen = self._ask(
                lambda leased: self.start(leased, record.intent), interruptible=False
            )
        except AlreadyRunning as error:
            self._take_back(context, earlier)
            attached = self._after_conflict(context, record, error, superseded)
            return attached, False
        except TransientError as error:
            # An answer that cannot be read came from a start that may well have worked.
            if not (error.ambiguous or isinstance(error, UnreadableReply)):
                self._take_back(context, earlier)
                raise _Later(error.retry_after or TRY_AGAIN, error.message) from None

            self.log.warning(
                "The start was not answered (%s): looking for the job", error.message
            )
            found = self._find_lost(record)
            if found is None:
                raise _Later(1.0, error.message) from None

            seen = found
        except PermanentError:
            self._take_back(context, earlier)
            raise

        if self.was_there_before(seen, before.intent):
            self._take_back(context, earlier)
            attached = self._meet(context, record, seen, superseded)
            if attached is not None:
                return attached, False

        self._job_id, self._owned = seen.job.id, True
        self._write(context, record.with_job(seen.job.id, owned=True))
        where = f" ({seen.job.url})" if seen.job.url else ""
        self.log.info("%s: started%s", seen.job.title, where)
        if self._killed:
            # The kill came while the start was under way, before there was an id.
            self.on_kill()
            self._stop_if_killed()

        return seen, True

    def _after_conflict(
        self,
        context: Context,
        record: Record,
        error: AlreadyRunning,
        superseded: str | None,
    ) -> Seen:
        """The vendor says that a job runs already: see which."""
        try:
            running = self._ask(self.find_running)
        except TransientError as failure:
            raise _Later(TRY_AGAIN, failure.message) from None

        if running is None:
            raise _Later(10.0, error.message)

        attached = self._meet(context, record, running, superseded)
        if attached is None:
            raise _Later(10.0, error.message)

        return attached

    def _meet(
        self, context: Context, record: Record, running: Seen, superseded: str | None
    ) -> Seen | None:
        """Do what ``if_running`` says about a job that is not ours.

        Return it if it is to be waited for as if it were; None when it is over already.
        """
        job = running.job
        if job.state.is_terminal:
            return None

        if job.id == superseded:
            raise _Behind(running)

        where = f" ({job.url})" if job.url else ""
        since = f" since {job.started_at}" if job.started_at else ""
        told = f"{job.title} is running already{since}{where}"
        if self.if_running == "fail":
            msg = f"{told}, and if_running is 'fail'"
            raise JobAlreadyRunning(msg)

        if self.if_running == "skip":
            msg = f"{told}, and if_running is 'skip'"
            raise compat.AirflowSkipException(msg)

        if self.if_running == "attach" and self.may_attach(job):
            self.log.info("%s: attaching to it", told)
            self._write(context, record.with_job(job.id, owned=False))
            return running

        self.log.info("%s: waiting for it to end, then starting our own", told)
        raise _Behind(running)

    # Waiting ----------------------------------------------------------------------

    def _wait_for_job(
        self, context: Context, seen: Seen, end_time: float | None, *, owned: bool
    ) -> Any:
        job_id = seen.job.id
        self._job_id, self._owned = job_id, owned
        self.job_url = seen.job.url
        self.started(context, seen)
        if seen.job.state.is_terminal:
            return self._finish(context, self._complete(seen.job), attached=not owned)

        if not self.waits:
            return self.result(job_id, None)

        if self.deferrable:
            self._claim(context, job_id)
            self._stop_if_killed()
            self._defer_for(context, seen, end_time, owned=owned)

        return self._wait_here(context, seen, end_time, owned=owned)

    @property
    def waits(self) -> bool:
        """False when the task hands back the id and does not wait."""
        return True

    def started(self, context: Context, seen: Seen) -> None:
        """Do what is to be done once the job is known, before the wait."""

    def _defer_for(
        self, context: Context, seen: Seen | str, end_time: float | None, *, owned: bool
    ) -> None:
        execution_deadline = self._execution_deadline(context)
        ends = min(
            (each for each in (end_time, execution_deadline) if each is not None),
            default=None,
        )
        job_id = seen if isinstance(seen, str) else seen.job.id
        if ends is not None:
            moment = datetime.fromtimestamp(ends, tz=UTC).isoformat(timespec="seconds")
            fate = (
                "it is cancelled and the task fails"
                if owned and self.cancel_on_timeout
                else "the task fails and the job is left running"
            )
            self.log.info(
                "Deferring until job %s ends; if it runs until %s %s",
                job_id,
                moment,
                fate,
            )

        trigger = self.make_trigger(
            seen,
            owned=owned,
            end_time=end_time,
            execution_deadline=execution_deadline,
        )
        trigger.ending = self._ending(owned=owned)
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={
                "waiting": {
                    "job_id": job_id,
                    "owned": owned,
                    "end_time": end_time,
                    "url": self.job_url,
                }
            },
            timeout=self._backstop(ends),
        )

    def _ending(self, *, owned: bool) -> dict[str, Any] | None:
        """Return how the trigger may end the task; None when it must be resumed."""
        if not self.end_from_trigger:
            return None

        reason = why_on_worker(self)
        if reason is not None:
            self.log.info("end_from_trigger is set aside: %s", reason)
            return None

        # A policy decides on the exception, which only a worker raises.
        failure = Then.FAIL if self.retry_policy is None else Then.RESUME
        return Ending(
            statistics_key=self.statistics_key,
            push=self.do_xcom_push,
            attached=not owned,
            failure=failure,
            timeout=failure,
            refusal=failure,
        ).to_json()

    def _backstop(self, ends: float | None) -> timedelta | None:
        if ends is None:
            return None

        return timedelta(seconds=max(0.0, ends - wall_clock())) + BACKSTOP

    def _wait_here(
        self, context: Context, seen: Seen, end_time: float | None, *, owned: bool
    ) -> Any:
        trigger = self.make_trigger(
            seen, owned=owned, end_time=end_time, execution_deadline=None
        )
        return self._conclude(context, self._ask(trigger.wait_on), owned=owned)

    def _wait_behind(
        self, seen: Seen, end_time: float | None, superseded: str | None
    ) -> None:
        """Wait until another job has ended, then come back to the start."""
        trigger = self.make_trigger(
            seen, owned=False, end_time=end_time, execution_deadline=None
        )
        if self.deferrable:
            self.defer(
                trigger=trigger,
                method_name="execute_start",
                kwargs={
                    "waiting": {
                        "blocked_by": seen.job.id,
                        **self._carry(end_time, superseded),
                    }
                },
                timeout=self._backstop(end_time),
            )

        outcome = self._ask(trigger.wait_on)
        if outcome.kind is Kind.DEADLINE:
            raise JobTimedOut(outcome.message, job=outcome.job)

    def _wait_for_time(
        self, later: _Later, end_time: float | None, superseded: str | None
    ) -> None:
        """Wait until the start can be tried again."""
        seconds = later.seconds
        if self.deferrable:
            seconds = max(seconds, compat.earliest_event())

        moment = wall_clock() + seconds
        if end_time is not None and moment >= end_time:
            msg = f"The start could not be made before the timeout: {later.reason}"
            raise VendorUnavailable(msg)

        self.log.warning(
            "The start cannot be made now (%s); trying again in %.0f s",
            later.reason,
            seconds,
        )
        if self.deferrable:
            self.defer(
                trigger=MomentTrigger(moment),
                method_name="execute_start",
                kwargs={"waiting": self._carry(end_time, superseded)},
                timeout=self._backstop(end_time),
            )

        async def pause(_: LeasedAccount) -> None:
            await asyncio.sleep(seconds)

        self._ask(pause)

    def _carry(self, end_time: float | None, superseded: str | None) -> dict[str, Any]:
        """Return what the task must know when it comes back to the start."""
        record = self._carried
        return {
            "end_time": end_time,
            "superseded": superseded,
            "record": None if record is None else record.to_json(),
        }

    # Resuming ---------------------------------------------------------------------

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        waiting: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the job's result, or fail as the job did. Asks the vendor nothing."""
        waiting = waiting or {}
        outcome = events.from_payload(event)
        own = waiting.get("job_id")
        owned = bool(waiting.get("owned", True))
        self._job_id, self._owned = own or outcome.job_id, owned
        self.job_url = waiting.get("url") or (outcome.job.url if outcome.job else "")
        if own is not None and not self.same_job(own, outcome):
            self.log.warning(
                "The event tells of job %s, this task waits for %s: waiting on",
                outcome.job_id,
                own,
            )
            self._claim(context, own)
            self._defer_for(context, own, waiting.get("end_time"), owned=owned)

        return self._conclude(context, outcome, owned=owned)

    def same_job(self, own: str, outcome: Outcome) -> bool:
        """Tell whether an outcome is that of our own job."""
        return outcome.job_id == own

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume; when Airflow's own timeout came first, cancel what is ours."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except compat.TaskDeferralTimeout:
            record = self._read_record(context)
            if (
                record is not None
                and record.job_id is not None
                and record.owned
                and record.fingerprint == self._fingerprint()
            ):
                self._cancel_late(record.job_id)

            raise

    def _conclude(self, context: Context, outcome: Outcome, *, owned: bool) -> Any:
        job = outcome.job
        if outcome.kind is Kind.ENDED and job is None:
            msg = "The trigger's event says that the job ended and does not show it"
            raise EventUnusable(msg)

        match outcome.status:
            case Status.SUCCESS:
                assert job is not None  # noqa: S101 - looked at above
                return self._finish(context, job, attached=not owned)
            case Status.TIMEOUT:
                if owned and outcome.cancel is Cancel.UNCONFIRMED:
                    self._cancel_late(outcome.job_id)

                raise JobTimedOut(outcome.message, job=job)
            case Status.CANCELLED:
                self._publish(context, job, attached=not owned)
                raise JobCancelled(outcome.message, job=job)
            case Status.ERROR if outcome.kind is Kind.REFUSED:
                raise events.refusal(outcome)
            case Status.ERROR:
                self._publish(context, job, attached=not owned)
                raise JobFailed(outcome.message, job=job)

    def _complete(self, job: Job) -> Job:
        """Add what an ended job's row does not say."""
        return self._ask(lambda leased: self.complete(leased, job))

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Add what the row of an ended job does not say; by default nothing."""
        return job

    def _finish(self, context: Context, job: Job, *, attached: bool) -> Any:
        """Take the end of a job in: statistics, log, result or failure."""
        outcome = events.ended(job)
        if outcome.status is Status.ERROR:
            self._publish(context, job, attached=attached)
            raise JobFailed(outcome.message, job=job)

        if outcome.status is Status.CANCELLED:
            self._publish(context, job, attached=attached)
            raise JobCancelled(outcome.message, job=job)

        facts = ", ".join(
            f"{name} {value}"
            for name, value in job.statistics.items()
            if value is not None
        )
        self.log.info("%s%s", outcome.message, f" [{facts}]" if facts else "")
        self._publish(context, job, attached=attached)
        return self.result(job.id, job)

    def _publish(self, context: Context, job: Job | None, *, attached: bool) -> None:
        """Push the job's statistics, and add them to the events of asset outlets."""
        if job is None:
            return

        statistics = statistics_of(job, attached=attached)
        if self.do_xcom_push:
            context["ti"].xcom_push(key=self.statistics_key, value=statistics)

        if job.state is JobState.SUCCEEDED and self.outlets:
            outlet_events = context["outlet_events"]
            for outlet in self.outlets:
                with contextlib.suppress(KeyError, TypeError):
                    outlet_events[outlet].extra.update(statistics)

    # Deadlines --------------------------------------------------------------------

    def _new_deadline(self) -> float | None:
        return None if self.timeout is None else wall_clock() + self.timeout

    def _execution_deadline(self, context: Context) -> float | None:
        """Return when ``execution_timeout`` ends, which Airflow forgets while deferred."""
        limit = self.execution_timeout
        if limit is None:
            return None

        began = getattr(context["ti"], "start_date", None)
        start = wall_clock() if began is None else began.timestamp()
        return float(start + limit.total_seconds())

    # Killing ----------------------------------------------------------------------

    def on_kill(self) -> None:
        """Cancel the job that this attempt waits for on the worker.

        Called on top of the running ``execute``, in a signal handler: the cancel runs on
        a loop of its own in a thread, and is given up after four seconds. A worker is
        told to stop its task by users and by accidents alike, so the thread asks Airflow
        for the task's state first, its one question. ``execute`` ends by itself
        afterwards.
        """
        self._killed = True
        if isinstance(sys.exception(), compat.AirflowTaskTimeout):
            # Airflow calls it while it handles the end of execution_timeout.
            self._verdict = Verdict.CANCEL

        account, job_id = self._account, self._job_id
        if (
            account is not None
            and job_id is not None
            and self._owned
            and self.cancel_on_kill
        ):
            self._killing = threading.Thread(
                target=self._settle_from_thread, args=(account, job_id), daemon=True
            )
            self._killing.start()
            self._killing.join(KILL_JOIN)

        main = self._main
        if main is not None and self._interruptible and self._runner is not None:
            self._runner.get_loop().call_soon_threadsafe(main.cancel)

    def _learn_verdict(self) -> Verdict:
        """Return whether the task was stopped by somebody who wants its job stopped."""
        if self._verdict is None:
            state: str | Exception | None
            try:
                state = compat.task_state_on_worker(self._ti)
            except Exception as error:  # noqa: BLE001 - any failure means "not known"
                state = error

            self._verdict = judge_stop(state)

        return self._verdict

    def _settle_from_thread(self, account: Account, job_id: str) -> None:
        verdict = self._learn_verdict()
        if verdict is not Verdict.CANCEL:
            self.log.warning("Job %s: %s", job_id, verdict.value)
            return

        hook = self.make_hook()

        async def cancel() -> None:
            async with (
                asyncio.timeout(KILL_JOIN),
                hook.lease(account=account, linger=0) as leased,
            ):
                await self.cancel(leased, job_id)

        try:
            asyncio.run(cancel())
        except (EngineError, TimeoutError) as error:
            self.log.warning("Job %s could not be cancelled: %s", job_id, error)
        else:
            self.log.info("Job %s was cancelled, because the task was stopped", job_id)

    def _cancel_late(self, job_id: str) -> None:
        """Cancel after a deadline, on the worker, when nobody confirmed it before."""
        if not self.cancel_on_timeout:
            return

        try:
            ending = self.make_hook().run(
                lambda leased: self._cancel_and_confirm(leased, job_id)
            )
        except compat.AirflowException as error:
            self.log.warning("Job %s could not be cancelled: %s", job_id, error)
            return

        self.log.info("Job %s: %s", job_id, ending.job.word)

    def _mark_killed(self, context: Context) -> None:
        """Write down that a user stopped the task: the next attempt is no retry."""
        record = self._read_record(context)
        if record is not None:
            self._write(context, replace(record, killed=True))

    # What is written down ---------------------------------------------------------

    def _fingerprint(self) -> str:
        request = {"conn_id": self.make_hook().conn_id, **self.describe_request()}
        text = orjson.dumps(request, option=orjson.OPT_SORT_KEYS, default=str)
        return hashlib.sha256(text).hexdigest()[:16]

    def _read_record(self, context: Context) -> Record | None:
        store = context.get("task_state_store")
        if store is None:
            return self._carried

        return read_record(store.get(KEY))

    def _write(self, context: Context, record: Record) -> None:
        self._carried = record
        store = context.get("task_state_store")
        if store is not None:
            store.set(KEY, record.to_json())

    def _take_back(self, context: Context, earlier: Record | None) -> None:
        """Take an intent back: nothing was started, what was known before still holds."""
        if earlier is not None and earlier.job_id is not None:
            self._write(context, earlier)
            return

        self._carried = None
        store = context.get("task_state_store")
        if store is not None:
            store.delete(KEY)

    def _claim(self, context: Context, job_id: str) -> None:
        try:
            compat.push_owner_token(context, job_id)
        except Exception:
            self.log.warning(
                "The owner token could not be pushed: a kill of the deferred task will"
                " leave job %s running",
                job_id,
                exc_info=True,
            )

    # The worker's event loop --------------------------------------------------------

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keep an event loop and the account for the length of the block."""
        hook = self.make_hook()
        # Blocking, hence before there is a loop.
        self._account = account = hook.account()
        with asyncio.Runner() as runner:
            self._runner = runner
            stack = contextlib.AsyncExitStack()
            try:
                self._leased = runner.run(
                    stack.enter_async_context(hook.lease(account=account, linger=0))
                )
                yield
            except EngineError as error:
                raise translate(error, hook.conn_id) from None
            finally:
                self._leased = self._main = None
                runner.run(stack.aclose())
                self._runner = None

    def _ask(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        interruptible: bool = True,
    ) -> T:
        """Ask the vendor on the worker's loop; raise TaskKilled when killed meanwhile."""
        runner, leased = self._runner, self._leased
        assert runner is not None  # noqa: S101 - inside _at_work
        assert leased is not None  # noqa: S101 - as above

        async def ask() -> T:
            self._main = asyncio.current_task()
            self._interruptible = interruptible
            return await question(leased)

        self._stop_if_killed()
        try:
            answer = runner.run(ask())
        except asyncio.CancelledError:
            self._stop_if_killed()
            raise

        self._interruptible = False
        if interruptible:
            self._stop_if_killed()

        return answer

    def _stop_if_killed(self) -> None:
        if self._killed:
            msg = "The task was stopped"
            raise TaskKilled(msg)
