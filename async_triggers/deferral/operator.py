"""Starting a job, or finding it again, and waiting for it.

:class:`JobOperator` is all of an operator but the vendor. One attempt of a task goes::

    execute ── what did the last attempt write down? (record.decide)
       │   ├─ its job is still there ─────────────── attach to it
       │   ├─ its start was not answered ─────────── look for it, by the intent
       │   └─ it was cleared ─────────────────────── cancel its job, confirm it
       ├─ look at what runs already ──────────────── if_running
       ├─ write the intent, start, write the id
       └─ wait: on the worker, or defer ──────────── execute_complete

What to start, and how to ask the vendor, stands in a
:class:`~async_triggers.deferral.remote_job.JobRequest`. With ``start_in_trigger`` all but
the last step happens on the triggerer, which gets that request, see
:mod:`async_triggers.deferral.start_trigger`.

Calls to the vendor run on an event loop that lives for the length of one method; calls to
Airflow are made outside of it, where Airflow allows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from airflow.sdk import BaseOperator

from async_triggers.deferral import compat, events
from async_triggers.deferral.alarm import Alarm
from async_triggers.deferral.arguments import ArgumentUnusable, make_plain
from async_triggers.deferral.cancelling import cancel_and_confirm
from async_triggers.deferral.carried import carry, take_out
from async_triggers.deferral.contact import (
    HASTE,
    SHORTEST_WAIT,
    Endpoint,
    FirstContact,
    with_fate,
)
from async_triggers.deferral.deadlines import backstop, earliest, seconds_left
from async_triggers.deferral.ending import (
    Ending,
    Then,
    failure_of,
    statistics_of,
    why_on_worker,
)
from async_triggers.deferral.errors import (
    EventUnusable,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    TaskKilled,
    VendorUnavailable,
    explain,
    translate,
    with_request,
)
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.ids import TakesIds
from async_triggers.deferral.importable import why_not_importable
from async_triggers.deferral.kill import IDLE, Verdict, judge_stop
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.record import (
    KEY,
    UNSETTLED_KEY,
    Intent,
    Next,
    Record,
    Unsettled,
    decide,
    read_record,
    read_unsettled,
)
from async_triggers.deferral.start_later import (
    PAUSE,
    StartLaterTrigger,
    find_own,
    lost,
)
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.deferral.starting import (
    SUPERSEDING,
    Behind,
    Later,
    Starting,
    at_once,
)
from async_triggers.deferral.stored import failure_of_trigger
from async_triggers.deferral.trigger import trigger_for
from async_triggers.engine.backoff import repeating_for
from async_triggers.engine.errors import EngineError, TransientError
from async_triggers.engine.jobs import Job, JobState, Seen
from async_triggers.engine.limiter import urgent
from async_triggers.engine.wording import aside, begun, sentence, with_url

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.remote_job import JobRequest, RemoteJob
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Account, Vendor

T = TypeVar("T")

KILL_JOIN = 4.0
"""Seconds that on_kill may take: Airflow sends SIGKILL five seconds after SIGTERM."""
KILL_TRY = 3.5
"""Seconds of these for the vendor: what came of it must be logged within the rest."""
KILL_PAUSE = 0.5
"""Seconds between two tries within these."""
FIND_PATIENCE = 60.0
"""Seconds more than a start takes to show up in which it is looked for at a deadline."""


class JobOperator(BaseOperator, TakesIds):
    """Starts one job at a vendor and waits until it has ended."""

    statistics_key: ClassVar[str]
    """XCom key of the job's statistics."""

    # Set by the vendor's operator.
    deferrable: bool
    timeout: float | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    end_from_trigger: bool
    start_in_trigger: bool

    # The state of one attempt on a worker; never templated, never serialized.
    _request: JobRequest | None = None
    _runner: asyncio.Runner | None = None
    _leased: LeasedAccount | None = None
    _account: Account | None = None
    job_url: str = ""
    """Where the vendor shows the job, once it is known; for operator links."""
    _waiting: Mapping[str, Any] = {}
    """What the deferral carried that this segment resumes from."""
    _job_id: str | None = None
    _owned: bool = False
    _carried: Record | None = None
    _address: str = ""
    """Where the vendor has answered this task, in this run or in an earlier one."""
    found_at: str = ""
    """The hash of the address, where the connection may mean more than one."""
    _killed: bool = False
    _killing: threading.Thread | None = None
    _ti: Any = None
    _verdict: Verdict | None = None
    _main: asyncio.Task[Any] | None = None
    _interruptible: bool = False
    _alarm: Alarm | None = None
    _ends: float | None = None
    """When execution_timeout has passed, in epoch seconds, for a task on its worker."""

    # What a vendor adds -----------------------------------------------------------

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        self.settle_ids()

    def warn_of_arguments(self) -> None:
        """Log what of the arguments has no effect; called once in an attempt."""

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.job_request.vendor

    @abstractmethod
    def make_request(self) -> JobRequest:
        """Return what the rendered arguments ask for, once they are checked."""

    @property
    def job_request(self) -> JobRequest:
        """What the rendered arguments ask for; what starts a job has checked them."""
        if self._request is None:
            self._request = replace(self.make_request(), address=self.found_at)

        return self._request

    # The attempt ------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Start the job, or find it again, and wait for it as the mode says."""
        make_plain(self, JobOperator)
        self.check_arguments()
        self.warn_of_arguments()
        if self.start_in_trigger:
            reason = why_not_importable(type(self.job_request))
            if reason is None:
                self._leave_to_trigger(context, self._new_deadline())

            self.log.info("start_in_trigger is ignored: %s", reason)

        return self._begin(context, self._new_deadline(), None, FirstContact())

    def _leave_to_trigger(self, context: Context, end_time: float | None) -> None:
        """Defer at once, and leave the start to the trigger."""
        request = self.job_request
        # A connection that cannot be used fails the task here and now.
        request.make_hook().account()
        ti = context["ti"]
        record = self._read_record(context)
        unsettled = self._note_unsettled(context)
        step = decide(record, fingerprint=request.fingerprint(), max_tries=ti.max_tries)
        told = IDLE
        if record is not None and step is Next.FIND:
            told = record.intent.name
        elif record is not None and step is Next.REATTACH:
            told = record.job_id or IDLE

        # Behind the token that follows, the trigger could not see those of earlier runs.
        self._address = self._earlier_address(context) or ""
        self._claim(context, told)
        execution_deadline = self._execution_deadline(context)
        ends = earliest(end_time, execution_deadline)
        self._stop_if_killed()
        self.defer(
            trigger=StartTrigger(
                request.to_json(),
                ti.max_tries,
                end_time,
                execution_deadline,
                record=None if record is None else record.to_json(),
                unsettled=None if unsettled is None else unsettled.to_json(),
                links=[link.xcom_key for link in self.operator_extra_links],
                tells=not compat.has_own_xcom_backend(),
                ending=self._ending(owned=True),
            ),
            method_name="execute_complete",
            kwargs=carry({"try": ti.try_number, "end_time": end_time}),
            timeout=backstop(ends, wall_clock()),
        )

    def execute_start(
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """Come back to a start that had to wait, for a time or for another job."""
        waiting = self._waiting
        ends = waiting.get("end_time", self._new_deadline())
        self._carried = read_record(waiting.get("record"))
        contact = FirstContact.from_json(waiting.get("contact"))
        self._address = self.found_at = contact.known or ""
        sought = waiting.get("sought")
        if sought is not None:
            # Whoever watches the task leaves it to the worker from here on.
            self._claim(context, sought)

        blocked_by = waiting.get("blocked_by")
        if blocked_by is not None:
            outcome = events.from_payload(event)
            if outcome.kind is Kind.DEADLINE:
                raise JobTimedOut(outcome.message, job=outcome.job)

        self.check_arguments()
        return self._begin(context, ends, waiting.get("superseded"), contact)

    def _begin(
        self,
        context: Context,
        end_time: float | None,
        superseded: str | None,
        contact: FirstContact,
    ) -> Any:
        ti = self._ti = context["ti"]
        self._request = self.job_request.of_attempt(ti, ti.max_tries)
        with self._at_work(context):
            try:
                return self._attempt(context, end_time, superseded, contact)
            except TaskKilled:
                if self._killing is not None:
                    self._killing.join(KILL_JOIN)

                if self._learn_verdict() is Verdict.CANCEL:
                    self._mark_killed(context)

                raise

    def _attempt(
        self,
        context: Context,
        end_time: float | None,
        superseded: str | None,
        contact: FirstContact,
    ) -> Any:
        """Do all that must be done until the task can wait."""
        starting = Starting(
            request=self.job_request,
            desk=_WorkerDesk(self, context),
            log=self.log,
            max_tries=context["ti"].max_tries,
            superseded=superseded,
            contact=contact,
        )
        while True:
            try:
                seen, owned = at_once(starting.get_job())
            except Later as later:
                self._wait_for_time(context, later, end_time, starting)
            except Behind as behind:
                self._wait_behind(behind.seen, end_time, starting.superseded)
            else:
                self._request = starting.request
                self._job_id, self._owned = seen.job.id, owned
                self._address = starting.contact.known or ""
                if self._killed:
                    # The kill came while the start was under way: there was no id yet.
                    self.on_kill()
                    self._stop_if_killed()

                return self._wait_for_job(context, seen, end_time, owned=owned)

    # Waiting ----------------------------------------------------------------------

    def _wait_for_job(
        self, context: Context, seen: Seen, end_time: float | None, *, owned: bool
    ) -> Any:
        job_id = seen.job.id
        self.job_url = seen.job.url
        self._push_start_xcoms(context, seen.job, self._carried)
        # In every mode: a later run of the task must know that the connection works.
        self._claim(context, job_id)
        if seen.job.state.is_terminal:
            return self._finish(context, self._complete(seen), attached=not owned)

        if not self.job_request.waits:
            return self._result(job_id, None)

        if self.deferrable:
            self._stop_if_killed()
            self._defer_for(context, seen, end_time, owned=owned)

        return self._wait_here(context, seen, end_time, owned=owned)

    def _push_start_xcoms(
        self, context: Context, job: Job, record: Record | None
    ) -> None:
        intent = Intent() if record is None else record.intent
        for key, value in self.job_request.start_xcoms(job, intent).items():
            context["ti"].xcom_push(key=key, value=value)

    def _job(self, job_id: str, *, owned: bool, url: str = "") -> RemoteJob:
        return self.job_request.job(job_id, owned=owned, url=url or self.job_url)

    def _result(self, job_id: str, job: Job | None) -> Any:
        """Return what the task returns."""
        waits = self.job_request.waits
        return self._job(job_id, owned=self._owned).result(job if waits else None)

    def _trigger(
        self,
        seen: Seen | str,
        *,
        owned: bool,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> JobTrigger:
        """Return the trigger that waits for a job."""
        if isinstance(seen, str):
            job, seen_at = self._job(seen, owned=owned), None
        else:
            job = self._job(seen.job.id, owned=owned, url=seen.job.url)
            seen_at = seen.at

        return trigger_for(
            self.job_request,
            job,
            end_time=end_time,
            execution_deadline=execution_deadline,
            seen_at=seen_at,
        )

    def _defer_for(
        self, context: Context, seen: Seen | str, end_time: float | None, *, owned: bool
    ) -> None:
        execution_deadline = self._execution_deadline(context)
        ends = earliest(end_time, execution_deadline)
        job_id = seen if isinstance(seen, str) else seen.job.id
        if ends is not None:
            moment = datetime.fromtimestamp(ends, tz=UTC).isoformat(timespec="seconds")
            fate = (
                "it is cancelled and the task fails"
                if owned and self.cancel_on_timeout
                else "the task fails and it is left running"
            )
            self.log.info(
                "Deferring until %s ends; if it runs until %s %s",
                self.vendor.name_of(job_id),
                moment,
                fate,
            )

        trigger = self._trigger(
            seen,
            owned=owned,
            end_time=end_time,
            execution_deadline=execution_deadline,
        )
        trigger.ending = self._ending(owned=owned)
        trigger.report_interval()
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs=carry(
                {
                    "job_id": job_id,
                    "owned": owned,
                    "end_time": end_time,
                    "url": self.job_url,
                    "address": self._address,
                }
            ),
            timeout=backstop(ends, wall_clock()),
        )

    def _ending(self, *, owned: bool) -> dict[str, Any] | None:
        """Return how the trigger may end the task; None when it must be resumed."""
        if not self.end_from_trigger:
            return None

        reason = why_on_worker(self, JobOperator)
        if reason is not None:
            self.log.info("end_from_trigger is ignored: %s", reason)
            return None

        failure = failure_of(self)
        ending = Ending(
            statistics_key=self.statistics_key,
            push=self.do_xcom_push,
            attached=not owned,
            failure=failure,
            timeout=failure,
            refusal=failure,
        )
        if self.start_in_trigger:
            # Only a worker can write down a job that runs on, or one to start from.
            if self.job_request.remembers_failures:
                ending = replace(ending, failure=Then.RESUME)

            ending = replace(ending, timeout=Then.RESUME, refusal=Then.RESUME)

        return ending.to_json()

    def _wait_here(
        self, context: Context, seen: Seen, end_time: float | None, *, owned: bool
    ) -> Any:
        trigger = self._trigger(
            seen, owned=owned, end_time=end_time, execution_deadline=self._ends
        )
        trigger.report_interval()
        outcome = self._wait_on(trigger)
        alarm = self._alarm
        assert alarm is not None  # noqa: S101 - inside _at_work
        # From here on the task ends as the trigger says, which keeps the deadline.
        alarm.is_met = True
        return self._conclude(context, outcome, owned=owned)

    def _wait_behind(
        self, seen: Seen, end_time: float | None, superseded: str | None
    ) -> None:
        """Wait until another job has ended, then come back to the start."""
        trigger = self._trigger(
            seen, owned=False, end_time=end_time, execution_deadline=self._ends
        )
        if self.deferrable:
            ends = earliest(end_time, self._ends)
            self.defer(
                trigger=trigger,
                method_name="execute_start",
                kwargs=carry(
                    {
                        "blocked_by": seen.job.id,
                        **self._carry(end_time, superseded),
                    }
                ),
                timeout=backstop(ends, wall_clock()),
            )

        outcome = self._wait_on(trigger)
        if outcome.kind is Kind.DEADLINE:
            raise JobTimedOut(outcome.message, job=outcome.job)

    def _wait_on(self, trigger: JobTrigger) -> Outcome:
        """Wait as the trigger does, which keeps the deadlines by itself."""
        alarm = self._alarm
        assert alarm is not None  # noqa: S101 - inside _at_work
        return self._ask(
            lambda leased: trigger.wait_on_worker(leased, alarm), keeps_deadline=True
        )

    def _wait_for_time(
        self,
        context: Context,
        later: Later,
        end_time: float | None,
        starting: Starting,
    ) -> None:
        """Wait until the start can be tried again; fail where that is of no use."""
        now, error = wall_clock(), later.error
        record = self._read_record(context)
        fate = "" if record is None else record.fate(self.vendor)
        self._recall_address(context, starting)
        contact, endpoint = starting.contact, self._endpoint()
        failure = endpoint.verdict(contact, error, now=now, fate=fate)
        if failure is not None:
            # Without what led to it, all of which the message says.
            raise failure from None

        # On a worker that waits, execution_timeout is kept where it sleeps.
        limit = self._execution_deadline(context) if self.deferrable else None
        ends = earliest(end_time, limit)
        seconds = later.within(None if ends is None else ends - now)
        if error is not None and not later.is_told:
            seconds = contact.wait(seconds, endpoint.account, now=now)

        if self.deferrable:
            seconds = max(seconds, compat.earliest_event())

        moment = now + seconds
        # The try itself takes some seconds where the vendor is in trouble.
        if ends is not None and moment + SHORTEST_WAIT >= ends:
            told = later.reason
            if error is not None:
                told = explain(error, endpoint.conn_id, endpoint.conn_type)

            msg = f"The start could not be made before the timeout: {told}"
            msg = with_request(msg, error)
            raise with_fate(VendorUnavailable(msg), fate) from None

        self._report_delay(later, seconds, ends, starting)
        if self.deferrable:
            trigger, sought = self._moment_trigger(context, moment)
            self._stop_if_killed()
            waiting = {
                **self._carry(end_time, starting.superseded),
                "sought": sought,
                "contact": starting.contact.to_json(),
            }
            self.defer(
                trigger=trigger,
                method_name="execute_start",
                kwargs=carry(waiting),
                timeout=backstop(ends, wall_clock()),
            )

        async def pause(_: LeasedAccount) -> None:
            await asyncio.sleep(seconds)

        self._ask(pause)

    def _report_delay(
        self, later: Later, seconds: float, end_time: float | None, starting: Starting
    ) -> None:
        """Log that the start must wait: at first and now and then, else for debugging."""
        error, now, contact = later.error, wall_clock(), starting.contact
        words = f"{sentence(later.reason)} Trying again in {seconds:.0f} s"
        if error is not None:
            words = self._endpoint().report(contact, error, wait=seconds, ends=end_time)

        if error is None or contact.must_report(error, now=now):
            self.log.warning("The start cannot be made now: %s", words)
            starting.contact = contact.reported(error, now=now)
        else:
            self.log.debug("The start cannot be made now: %s", words)

    def _endpoint(self) -> Endpoint:
        """Return whom the task talks to, in words."""
        account, hook = self._account, self.job_request.make_hook()
        assert account is not None  # noqa: S101 - inside _at_work
        return hook.endpoint(account)

    def _recall_address(self, context: Context, starting: Starting) -> None:
        """Look up, once, where the vendor has answered an earlier run of the task."""
        if starting.contact.known is None:
            known = self._earlier_address(context)
            starting.contact = replace(starting.contact, known=known)
            self._address = known or ""

        account, leased = self._account, self._leased
        assert account is not None  # noqa: S101 - inside _at_work
        assert leased is not None  # noqa: S101 - as above
        if starting.contact.is_known(account):
            leased.transport.trust.vouch()

    def _earlier_address(self, context: Context) -> str | None:
        """Return the address that worked for an earlier run; None if that is not known."""
        try:
            return compat.earlier_address(context)
        except Exception:
            self.log.warning(
                "Airflow did not say whether the connection has worked before",
                exc_info=True,
            )
            return None

    def _recall_found(self, context: Context) -> str | None:
        """Return the address that has worked for this task, or for an earlier run of it."""
        record = self._read_record(context)
        known = "" if record is None else record.address
        return known or self._earlier_address(context)

    def _moment_trigger(
        self, context: Context, moment: float
    ) -> tuple[MomentTrigger, str | None]:
        """Return what waits, and what it looks for when it is killed.

        That is a job of our own, or one that was perhaps started; None for neither.
        """
        record, request = self._read_record(context), self.job_request
        if (
            record is None
            or not self._is_ours(record)
            or not self.cancel_on_kill
            or why_not_importable(type(request)) is not None
        ):
            return MomentTrigger(moment), None

        sought = record.job_id or record.intent.name
        self._claim(context, sought, moment)
        trigger = StartLaterTrigger(
            moment,
            request.to_json(),
            context["ti"].max_tries,
            record.to_json(),
        )
        return trigger, sought

    def _is_ours(self, record: Record) -> bool:
        """Return whether a record is of a job that we have started, or may have."""
        return (
            record.owned
            and not record.ended
            and record.fingerprint == self.job_request.fingerprint()
        )

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
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the job's result, or fail as the job did. Asks the vendor nothing."""
        waiting = self._waiting
        outcome = events.from_payload(event)
        if isinstance(event, Mapping) and "start" in event:
            return self._complete_start(context, outcome, event["start"], waiting)

        own = waiting.get("job_id")
        owned = bool(waiting.get("owned", True))
        self._job_id, self._owned = own or outcome.job_id, owned
        self._address = self.found_at = waiting.get("address") or ""
        self.job_url = waiting.get("url") or (outcome.job.url if outcome.job else "")
        if own is not None and outcome.job_id != own:
            self.log.warning(
                "The event is that of %s, this task waits for %s: waiting on",
                self.vendor.name_of(outcome.job_id),
                self.vendor.name_of(own),
            )
            self._claim(context, own)
            self._defer_for(context, own, waiting.get("end_time"), owned=owned)

        return self._conclude(context, outcome, owned=owned)

    def _complete_start(
        self,
        context: Context,
        outcome: Outcome,
        start: Mapping[str, Any],
        waiting: Mapping[str, Any],
    ) -> Any:
        """End as the job did that the trigger has started."""
        attempt = waiting.get("try")
        if attempt is not None and start.get("try") != attempt:
            self.log.warning(
                "The event belongs to attempt %s, this is attempt %s: waiting on",
                start.get("try"),
                attempt,
            )
            self.check_arguments()
            self._leave_to_trigger(context, waiting.get("end_time"))

        record = read_record(start.get("record"))
        self._settle(context, record)
        job = outcome.job
        owned = record is not None and record.owned
        self._job_id, self._owned = outcome.job_id, owned
        if job is not None and record is not None:
            self.job_url = job.url
            self._push_start_xcoms(context, job, record)

        return self._conclude(context, outcome, owned=owned)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume; when Airflow's own timeout came first, cancel what is ours."""
        self._waiting, others = take_out(next_kwargs)
        make_plain(self, JobOperator)
        # What starts a job checks them. The end of one fails for no argument that has come
        # to nothing since, say because the task upstream was cleared.
        with contextlib.suppress(ArgumentUnusable):
            self.settle_ids()

        try:
            return super().resume_execution(next_method, others, context)
        except compat.TaskDeferralError as error:
            self._carry_claim(context)
            raise failure_of_trigger(next_kwargs) or error from None
        except compat.TaskDeferralTimeout:
            self._carry_claim(context)
            record = self._read_record(context)
            if record is not None and record.job_id is not None:
                # Callbacks want to know it as well.
                self._job_id, self._owned = record.job_id, self._is_ours(record)
                if self._owned:
                    self._cancel_late(record.job_id)

            raise

    def _conclude(self, context: Context, outcome: Outcome, *, owned: bool) -> Any:
        job = outcome.job
        if outcome.kind is Kind.ENDED and job is None:
            noun = self.vendor.noun
            msg = f"The trigger's event is that of an end without its {noun}"
            raise EventUnusable(msg)

        self._note_end(context, job)
        match outcome.status:
            case Status.SUCCESS if outcome.kind is Kind.STARTED:
                return self._result(outcome.job_id, None)
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
            case Status.SKIPPED:
                raise events.refusal(outcome)
            case Status.ERROR if outcome.kind is not Kind.ENDED:
                raise events.refusal(outcome)
            case Status.ERROR:
                self._publish(context, job, attached=not owned)
                raise JobFailed(outcome.message, job=job)

    def _complete(self, seen: Seen) -> Job:
        """Add what an ended job's row does not say, if there is time for it."""
        job = self._job(seen.job.id, owned=self._owned, url=seen.job.url)
        try:
            return self._ask(lambda leased: job.complete(leased, seen.job, now=seen.at))
        except JobTimedOut:
            return seen.job

    def _finish(self, context: Context, job: Job, *, attached: bool) -> Any:
        """Take the end of a job in: statistics, log, result or failure."""
        outcome = events.ended(job)
        self._note_end(context, job)
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
        self.log.info("%s", events.describe_end(job, facts))
        self._publish(context, job, attached=attached)
        return self._result(job.id, job)

    def _note_end(self, context: Context, job: Job | None) -> None:
        """Write down that the job has failed: the next attempt need not look at it."""
        has_failed = job is not None and job.state in {
            JobState.FAILED,
            JobState.CANCELLED,
        }
        if job is None or not has_failed or not self.job_request.is_over(job):
            return

        try:
            record = self._read_record(context)
            if record is not None and record.job_id == self._job_id:
                self._write(context, replace(record, ended=job.word))
        except Exception:
            # The next attempt looks at the job, then.
            self.log.warning(
                "The end of the %s could not be noted", self.vendor.noun, exc_info=True
            )

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
        a loop of its own in a thread, and is given up after four seconds, since Airflow
        kills the process then. Users and accidents stop a task alike, so the thread first
        requests the task's state from Airflow. ``execute`` ends by itself afterwards.
        """
        self._killed = True
        may_cancel = self.cancel_on_kill
        if isinstance(sys.exception(), compat.AirflowTaskTimeout):
            # Airflow calls it while it handles the end of execution_timeout.
            self._verdict = Verdict.CANCEL
            may_cancel = self.cancel_on_timeout

        account, main = self._account, self._main
        wanted = self._job_to_stop()
        if account is not None and wanted is not None and may_cancel:
            self._killing = threading.Thread(
                target=self._settle_from_thread, args=(account, wanted), daemon=True
            )
            self._killing.start()
            self._killing.join(KILL_JOIN)

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

    def _job_to_stop(self) -> str | Intent | None:
        """Return the job of our own, or the intent of a start that was not answered."""
        if self._job_id is not None:
            return self._job_id if self._owned else None

        main, record = self._main, self._carried
        # A start that is under way is answered first, and its job is stopped then.
        is_starting = main is not None and not main.done() and not self._interruptible
        if record is None or is_starting or not self._is_ours(record):
            return None

        # That of an earlier attempt, which this one has not looked at yet.
        return record.job_id or record.intent

    def _settle_from_thread(self, account: Account, wanted: str | Intent) -> None:
        """Cancel while there is time for it, and log what came of it."""
        began = time.monotonic()
        is_lost = isinstance(wanted, Intent)
        name = lost(self.vendor)
        if not isinstance(wanted, Intent):
            name = begun(self.vendor.name_of(wanted))

        verdict = self._learn_verdict()
        if verdict is not Verdict.CANCEL:
            self.log.warning("%s: %s", name, verdict.value)
            return

        hook = self.job_request.make_hook()
        failure: Exception | None = None

        async def settle() -> str:
            nonlocal failure
            left = KILL_TRY - (time.monotonic() - began)
            async with (
                asyncio.timeout(left),
                hook.lease(account=account, linger=0) as leased,
            ):
                with urgent():
                    while True:
                        try:
                            return await self._stop_once(leased, wanted)
                        except TransientError as error:
                            failure = error
                            await asyncio.sleep(KILL_PAUSE)

        try:
            told = asyncio.run(settle())
        except EngineError as error:
            failure = error
        except TimeoutError:
            pass
        else:
            self.log.info("%s %s", name, told)
            return

        why = aside(str(failure or f"{self.vendor.name} did not answer in time"))
        fate = "It may still be running" if is_lost else "It is still running"
        self.log.warning(
            "%s could not be cancelled before its worker ends %s. %s",
            name,
            why,
            with_url(fate, self.job_url),
        )

    async def _stop_once(self, leased: LeasedAccount, wanted: str | Intent) -> str:
        """Check a job, or look for it, and cancel it; return what was done."""
        if not isinstance(wanted, Intent):
            job = self._job(wanted, owned=True)
            seen = await job.recheck(leased)
        else:
            request = await self.job_request.resuming(wanted).resolved(leased)
            found = await request.find_started(leased, wanted)
            if found is None or not await request.is_own_start(leased, found, wanted):
                return "was not found, or may belong to others: it is not cancelled"

            seen = found
            job = self._job(seen.job.id, owned=True, url=seen.job.url)

        self.job_url = seen.job.url or self.job_url
        if seen.job.state.is_terminal:
            return "had ended already"

        await job.cancel(leased)
        return "was cancelled, because the task was stopped"

    def _cancel_late(self, job_id: str) -> None:
        """Cancel after a deadline, on the worker, what was not seen to stop before."""
        if not self.cancel_on_timeout:
            return

        late = self._job(job_id, owned=True)

        async def cancel(leased: LeasedAccount) -> Seen:
            with urgent():
                return await cancel_and_confirm(late, leased)

        try:
            job = late.make_hook().run(cancel).job
        except compat.AirflowException as error:
            self.log.warning(
                "%s could not be cancelled %s. %s",
                late.title,
                aside(str(error)),
                with_url("It is still running", self.job_url),
            )
            return

        if job.state.is_terminal:
            self.log.info("%s has stopped: it is %s", late.title, job.word)
            return

        self.log.warning(
            "%s was cancelled and has not stopped yet. %s",
            late.title,
            with_url("It is still running", job.url or self.job_url),
        )

    def _mark_killed(self, context: Context) -> None:
        """Write down that a user stopped the task: the next attempt is no retry."""
        record = self._read_record(context)
        if record is not None:
            self._write(context, replace(record, killed=True))

    # What is written down ---------------------------------------------------------

    def _read_record(self, context: Context) -> Record | None:
        store = context.get("task_state_store")
        if store is None:
            return self._carried

        self._carried = read_record(store.get(KEY))
        return self._carried

    def _write(self, context: Context, record: Record) -> None:
        self._carried = record
        store = context.get("task_state_store")
        if store is not None:
            store.set(KEY, record.to_json())

    def _forget(self, context: Context) -> None:
        self._carried = None
        store = context.get("task_state_store")
        if store is not None:
            store.delete(KEY)

    def _note_unsettled(self, context: Context) -> Unsettled | None:
        """Write down that a trigger starts from here on; return what there was before."""
        store = context.get("task_state_store")
        if store is None:
            return None

        ti = context["ti"]
        before = read_unsettled(store.get(UNSETTLED_KEY))
        known = before or Unsettled(at=wall_clock(), attempts=())
        store.set(UNSETTLED_KEY, known.and_then(ti.try_number, ti.max_tries).to_json())
        return before

    def _carry_claim(self, context: Context) -> None:
        """Write down what a trigger claimed that did not live to tell."""
        if not self.start_in_trigger:
            return

        try:
            record = read_record(compat.claim_left_behind(context))
        except Exception:
            self.log.warning(
                "The claim of the trigger could not be read: a %s may be running that"
                " the retry does not know",
                self.vendor.noun,
                exc_info=True,
            )
        else:
            if record is not None:
                self._settle(context, record)

    def _settle(self, context: Context, record: Record | None) -> None:
        """Write down what became of a start that was left to a trigger."""
        if record is not None:
            self._write(context, record)

        store = context.get("task_state_store")
        if store is not None:
            store.delete(UNSETTLED_KEY)

    def _claim(
        self, context: Context, job_id: str, moment: float | None = None
    ) -> None:
        try:
            compat.push_owner_token(context, job_id, moment, address=self._address)
        except Exception:
            self.log.warning(
                "The owner token could not be pushed: a kill of the deferred task will"
                " leave its %s running",
                self.vendor.noun,
                exc_info=True,
            )

    # The worker's event loop --------------------------------------------------------

    @contextlib.contextmanager
    def _at_work(self, context: Context) -> Iterator[None]:
        """Keep an event loop and the account for the length of the block.

        Airflow's alarm is held back meanwhile. It is met by whatever ends the block with
        an exception: the task fails, or its trigger keeps the deadline.
        """
        hook = self.job_request.make_hook()
        # A segment before this one has warned of what it found.
        hook.is_quiet = bool(self._waiting)
        self._ends = self._deadline_here()
        # Blocking, hence before there is a loop, and where Airflow's alarm is heard.
        self._account = account = hook.first_account(
            lambda: self._recall_found(context)
        )
        self.found_at = hook.address
        self._request = replace(self.job_request, address=hook.address)
        with Alarm() as alarm:
            self._alarm = alarm
            with asyncio.Runner() as runner:
                self._runner = runner
                stack = contextlib.AsyncExitStack()
                try:
                    self._leased = runner.run(
                        stack.enter_async_context(hook.lease(account=account, linger=0))
                    )
                    yield
                except EngineError as error:
                    alarm.is_met = True
                    raise translate(error, hook.conn_id, hook.conn_type) from None
                except BaseException:
                    alarm.is_met = True
                    raise
                finally:
                    self._leased = self._main = None
                    runner.run(stack.aclose())
                    self._runner = None

    def _deadline_here(self) -> float | None:
        """Return when ``execution_timeout`` has passed for this segment of the task.

        A task that waits on its worker has as long as Airflow gives it, from now on. One
        that defers had begun to wait when its first segment started.
        """
        if self.deferrable:
            return self._execution_deadline({"ti": self._ti})

        limit = self.execution_timeout
        return None if limit is None else wall_clock() + limit.total_seconds()

    def _ask(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        interruptible: bool = True,
        keeps_deadline: bool = False,
    ) -> T:
        """Request something of the vendor on the worker's loop.

        Raise TaskKilled when the task is stopped meanwhile, JobTimedOut when its
        ``execution_timeout`` passes, unless the question keeps that deadline itself.
        What is not interruptible is answered first: a start.
        """
        runner, leased, alarm = self._runner, self._leased, self._alarm
        assert runner is not None  # noqa: S101 - inside _at_work
        assert leased is not None  # noqa: S101 - as above
        assert alarm is not None  # noqa: S101 - as above
        is_late = False

        async def ask() -> T:
            nonlocal is_late
            self._main = asyncio.current_task()
            self._interruptible = interruptible
            if keeps_deadline or not interruptible:
                return await question(leased)

            bound: asyncio.Timeout | None = None
            try:
                async with alarm.timeout(self._seconds_left()) as bound:
                    return await question(leased)
            except TimeoutError:
                is_late = bound is not None and bound.expired()
                raise

        self._stop_if_killed()
        if not keeps_deadline and (alarm.has_come or self._seconds_left() == 0.0):
            self._time_out(is_sent=interruptible)

        try:
            answer = runner.run(ask())
        except asyncio.CancelledError:
            self._stop_if_killed()
            raise
        except TimeoutError:
            if not is_late:
                raise

            self._stop_if_killed()
            self._time_out()

        self._interruptible = False
        if interruptible:
            self._stop_if_killed()

        return answer

    def _seconds_left(self) -> float | None:
        return seconds_left(self._ends, wall_clock())

    def _time_out(self, *, is_sent: bool = True) -> NoReturn:
        """Fail at the end of ``execution_timeout``; stop a job that is ours, or may be.

        ``is_sent`` is False right before a start: what was written down for it is not
        there yet.
        """
        runner, leased, alarm = self._runner, self._leased, self._alarm
        assert runner is not None  # noqa: S101 - inside _at_work
        assert leased is not None  # noqa: S101 - as above
        assert alarm is not None  # noqa: S101 - as above
        alarm.is_met = True
        noun = self.vendor.noun
        late = (
            f"The {noun} could not be started before the execution_timeout of the task"
            " passed"
        )
        wanted = self._job_to_stop()
        if wanted is None or (isinstance(wanted, Intent) and not is_sent):
            raise JobTimedOut(late)

        async def stop() -> Outcome | None:
            self._main = asyncio.current_task()
            self._interruptible = False
            return await self._stop_at_deadline(leased, wanted)

        outcome = runner.run(stop())
        self._stop_if_killed()
        if outcome is None:
            msg = f"{late}; a start was not answered, a {noun} may be running"
            raise JobTimedOut(msg)

        if outcome.kind is not Kind.DEADLINE:
            msg = f"The execution_timeout of the task passed. {outcome.message}"
            raise JobTimedOut(msg, job=outcome.job)

        if outcome.cancel is Cancel.UNCONFIRMED:
            self._cancel_late(outcome.job_id)

        raise JobTimedOut(outcome.message, job=outcome.job)

    async def _stop_at_deadline(
        self, leased: LeasedAccount, wanted: str | Intent
    ) -> Outcome | None:
        """Stop a job of ours as a trigger does; None for a lost one that is not found."""
        seen: Seen | str | None = None
        if isinstance(wanted, Intent):
            patience = self.job_request.start_grace + PAUSE + FIND_PATIENCE
            try:
                async with asyncio.timeout(patience):
                    seen = await find_own(self.job_request, leased, wanted)
            except (EngineError, TimeoutError) as error:
                self.log.warning(
                    "%s could not be looked for: %s", lost(self.vendor), error
                )
        else:
            seen = wanted

        if seen is None:
            return None

        trigger = self._trigger(
            seen, owned=True, end_time=None, execution_deadline=self._ends
        )
        return await trigger.time_out(leased)

    def _stop_if_killed(self) -> None:
        if self._killed:
            msg = "The task was stopped"
            raise TaskKilled(msg)


class _WorkerDesk:
    """The worker's: it answers at once, outside of any running event loop."""

    def __init__(self, operator: JobOperator, context: Context) -> None:
        self._operator = operator
        self._context = context
        self._has_read = False

    @property
    def account(self) -> Account:
        account = self._operator._account  # noqa: SLF001 - one module
        assert account is not None  # noqa: S101 - inside _at_work
        return account

    async def ask(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        whole: bool = False,
    ) -> T:
        # What sleeps for long does not do so in a slot.
        wait = HASTE if self._operator.deferrable else None

        async def in_haste(leased: LeasedAccount) -> T:
            with repeating_for(wait):
                return await question(leased)

        return self._operator._ask(in_haste, interruptible=not whole)  # noqa: SLF001 - one module

    async def read(self) -> Record | None:
        # Nobody else writes while the attempt runs.
        if self._has_read:
            return self._operator._carried  # noqa: SLF001 - as above

        self._has_read = True
        return self._operator._read_record(self._context)  # noqa: SLF001 - as above

    async def write(self, record: Record) -> None:
        self._operator._write(self._context, record)  # noqa: SLF001 - as above

    async def announce(self) -> None:
        self._operator._claim(self._context, SUPERSEDING)  # noqa: SLF001 - as above

    async def forget(self) -> None:
        self._operator._forget(self._context)  # noqa: SLF001 - as above

    def turn(self) -> AbstractAsyncContextManager[object]:
        return contextlib.nullcontext()
