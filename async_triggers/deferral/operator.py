"""Starting a job, or finding it again, and waiting for it.

:class:`JobOperator` is all of an operator but the vendor. One attempt of a task goes::

    execute ── what did the last attempt write down? (record.decide)
       │   ├─ its job is still there ─────────────── attach to it
       │   ├─ its start was not answered ─────────── look for it, by the intent
       │   └─ it was cleared ─────────────────────── cancel its job, confirm it
       ├─ check what runs already ────────────────── if_running
       ├─ write the intent, start, write the id
       └─ wait: on the worker, or defer ──────────── execute_complete

What to start, and how to reach the vendor, stands in a
:class:`~async_triggers.deferral.remote_job.JobRequest`. With ``start_in_trigger`` all but
the last step happens on the triggerer, which gets that request, see
:mod:`async_triggers.deferral.start_trigger`.

Calls to the vendor run on an event loop that lives for the length of one method; calls to
Airflow are made outside of it, where Airflow allows them.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from airflow.sdk import BaseOperator

from async_triggers.deferral import compat, events
from async_triggers.deferral.arguments import ArgumentUnusable, make_plain
from async_triggers.deferral.attempt import Attempt
from async_triggers.deferral.carried import leaving, take_out
from async_triggers.deferral.contact import (
    HASTE,
    SHORTEST_WAIT,
    FirstContact,
    with_fate,
)
from async_triggers.deferral.deadlines import earliest
from async_triggers.deferral.ending import (
    EndFromTrigger,
    Ending,
    failure_of,
    may_end,
)
from async_triggers.deferral.errors import (
    JobTimedOut,
    VendorUnavailable,
    explain,
    with_request,
)
from async_triggers.deferral.events import Kind, Outcome
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.ids import TakesIds
from async_triggers.deferral.importable import why_not_importable
from async_triggers.deferral.inquiry import Inquiry, Later, at_once
from async_triggers.deferral.kill import IDLE
from async_triggers.deferral.lineage import ShowsLineage
from async_triggers.deferral.record import (
    Next,
    decide,
    read_record,
)
from async_triggers.deferral.resuming import count_resumption
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.deferral.starting import Behind, Starting
from async_triggers.deferral.stored import failure_of_trigger
from async_triggers.deferral.worker import WorkerDesk
from async_triggers.deferral.written_once import (
    drop_links,
    hide_rendered,
    show_rendered,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.remote_job import JobRequest
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen
    from async_triggers.engine.wire import Vendor

T = TypeVar("T")


class JobOperator(BaseOperator, TakesIds, ShowsLineage):
    """Starts one job at a vendor and waits until it has ended."""

    statistics_key: ClassVar[str]
    """XCom key of the job's statistics."""

    # Set by the vendor's operator.
    deferrable: bool
    timeout: float | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    start_in_trigger: bool
    durable: bool = True

    end_from_trigger = EndFromTrigger()

    # The state of one segment on a worker; never templated, never serialized.
    _attempt: Attempt | None = None
    _killed: bool = False
    _waiting: Mapping[str, Any] = {}
    """What the deferral carried that this segment resumes from."""

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
        """Return what the rendered arguments request, once they are checked."""

    @property
    def job_request(self) -> JobRequest:
        """What the rendered arguments request; what starts a job has checked them."""
        attempt = self._attempt
        return self.make_request() if attempt is None else attempt.request

    @property
    def job_url(self) -> str:
        """Where the vendor shows the job, once it is known; for operator links."""
        return "" if self._attempt is None else self._attempt.job_url

    @property
    def _job_id(self) -> str | None:
        return None if self._attempt is None else self._attempt.job_id

    def _attempt_of(self, context: Context) -> Attempt:
        """Return the attempt as it is in one segment, with what the last one knew."""
        known = self._attempt
        if known is not None and known.context is context:
            return known

        attempt = self._attempt = Attempt(self, context)
        if known is not None:
            attempt.notes.record = known.notes.record
            attempt.notes.address = known.notes.address

        if self._killed:
            attempt.kill()

        return attempt

    # The attempt ------------------------------------------------------------------

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the templates, which Airflow stores in the first segment alone."""
        super().render_template_fields(context, jinja_env)
        hide_rendered(self, context)

    def execute(self, context: Context) -> Any:
        """Start the job, or find it again, and wait for it as the mode says."""
        make_plain(self, JobOperator)
        drop_links(self, written=False)
        attempt = self._attempt_of(context)
        attempt.notes.begin()
        self.check_arguments()
        self.warn_of_arguments()
        if not self.durable:
            attempt.notes.start_over()

        if self.start_in_trigger:
            reason = why_not_importable(type(self.job_request))
            if reason is None:
                self._leave_to_trigger(context, self._new_deadline())

            self.log.info("start_in_trigger is ignored: %s", reason)

        return self._begin(context, self._new_deadline(), None, FirstContact())

    def _leave_to_trigger(self, context: Context, end_time: float | None) -> None:
        """Defer at once, and leave the start to the trigger."""
        attempt = self._attempt_of(context)
        request, notes = attempt.request, attempt.notes
        # A connection that cannot be used fails the task here and now.
        request.make_hook().account()
        ti = context["ti"]
        record = notes.read()
        unsettled = notes.mark_unsettled() if self.durable else None
        step = decide(record, fingerprint=request.fingerprint(), max_tries=ti.max_tries)
        claimed = IDLE
        if record is not None and step is Next.FIND:
            claimed = record.intent.name
        elif record is not None and step is Next.REATTACH:
            claimed = record.job_id or IDLE

        # Behind the token that follows, the trigger could not see those of earlier runs.
        notes.address = notes.earlier_address() or ""
        notes.claim(claimed)
        limit = attempt.execution_deadline
        attempt.stop_if_killed()
        trigger = StartTrigger(
            request.to_json(),
            ti.max_tries,
            end_time,
            limit,
            record=None if record is None else record.to_json(),
            unsettled=None if unsettled is None else unsettled.to_json(),
            links=[link.xcom_key for link in self.operator_extra_links],
            announces=not compat.has_own_xcom_backend(),
            ending=self._ending(attempt),
        )
        waiting = {"try": ti.try_number, "end_time": end_time}
        ends = earliest(end_time, limit)
        self.defer(**leaving(trigger, "execute_complete", waiting, ends))

    def execute_start(
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """Come back to a start that had to wait, for a time or for another job."""
        waiting = self._waiting
        ends = waiting.get("end_time", self._new_deadline())
        attempt = self._attempt_of(context)
        attempt.notes.record = read_record(waiting.get("record"))
        contact = FirstContact.from_json(waiting.get("contact"))
        attempt.notes.address = attempt.found_at = contact.known or ""
        sought = waiting.get("sought")
        if sought is not None:
            # The trigger that watches the task leaves it to the worker from here on.
            attempt.notes.claim(sought)

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
        """Do all that must be done until the task can wait."""
        attempt = self._attempt_of(context)
        with attempt.at_work(is_quiet=bool(self._waiting)) as worker:
            # What sleeps for long does not do so in a slot.
            wait = HASTE if self.deferrable else None
            desk = WorkerDesk(worker, attempt.exchange, attempt.notes, wait)
            starting = Starting(
                request=attempt.request,
                inquiry=Inquiry(desk=desk, log=self.log, contact=contact),
                max_tries=context["ti"].max_tries,
                superseded=superseded,
            )
            while True:
                try:
                    seen, attempt.owned = at_once(starting.get_job())
                except Later as later:
                    self._wait_for_time(attempt, later, end_time, starting)
                except Behind as behind:
                    attempt.notes.address = starting.inquiry.contact.known or ""
                    self._wait_behind(
                        attempt, behind.seen, end_time, starting.superseded
                    )
                else:
                    if self.durable:
                        name = type(self).__name__
                        count_resumption(starting.resumption, name, context["ti"])

                    attempt.request = starting.request
                    attempt.job_id = seen.job.id
                    attempt.notes.address = starting.inquiry.contact.known or ""
                    attempt.stop_if_killed(has_started=True)
                    return self._wait_for_job(attempt, seen, end_time)

    # Waiting ----------------------------------------------------------------------

    def _wait_for_job(
        self, attempt: Attempt, seen: Seen, end_time: float | None
    ) -> Any:
        attempt.job_url = seen.job.url
        attempt.push_start_xcoms(seen.job, attempt.notes.record)
        # In every mode: a later run of the task must know that the connection works.
        attempt.notes.claim(seen.job.id)
        if seen.job.state.is_terminal:
            return attempt.conclude(events.ended(attempt.complete(seen)))

        if not attempt.request.waits:
            return attempt.job(seen.job.id, owned=attempt.owned).result(None)

        if self.deferrable:
            attempt.stop_if_killed()
            self._defer_for(attempt, seen, end_time)

        worker = attempt.worker
        trigger = attempt.trigger(
            seen, owned=attempt.owned, end_time=end_time, ends=worker.ends
        )
        trigger.report_interval()
        outcome = attempt.wait_on(trigger)
        # From here on the task ends as the trigger says, which keeps the deadline.
        worker.alarm.is_met = True
        return attempt.conclude(outcome)

    def _defer_for(
        self, attempt: Attempt, seen: Seen | str, end_time: float | None
    ) -> NoReturn:
        owned, limit = attempt.owned, attempt.execution_deadline
        ends = earliest(end_time, limit)
        job_id = seen if isinstance(seen, str) else seen.job.id
        attempt.report_deferral(job_id, ends)
        trigger = attempt.trigger(seen, owned=owned, end_time=end_time, ends=limit)
        trigger.ending = self._ending(attempt, attached=not owned)
        trigger.report_interval()
        waiting = {
            "job_id": job_id,
            "owned": owned,
            "end_time": end_time,
            "url": attempt.job_url,
            "address": attempt.notes.address,
        }
        self.defer(**leaving(trigger, "execute_complete", waiting, ends))

    def _ending(
        self, attempt: Attempt, *, attached: bool = False
    ) -> dict[str, Any] | None:
        """Return how the trigger may end the task; None when it must be resumed."""
        if not may_end(self, JobOperator):
            return None

        failure = failure_of(self)
        ending = Ending(
            statistics_key=self.statistics_key,
            push=self.do_xcom_push,
            attached=attached,
            failure=failure,
            timeout=failure,
            refusal=failure,
        )
        if self.start_in_trigger:
            ending = ending.of_a_start(remembers=attempt.request.remembers_failures)

        return ending.to_json()

    def _wait_behind(
        self,
        attempt: Attempt,
        seen: Seen,
        end_time: float | None,
        superseded: str | None,
    ) -> None:
        """Wait until another job has ended, then come back to the start."""
        limit = attempt.worker.ends
        trigger = attempt.trigger(seen, owned=False, end_time=end_time, ends=limit)
        if self.deferrable:
            waiting = {
                "blocked_by": seen.job.id,
                **attempt.start_to_come(end_time, superseded),
            }
            # The other job may be that of the attempt before, whose kill checks who waits.
            attempt.notes.claim(IDLE)
            ends = earliest(end_time, limit)
            self.defer(**leaving(trigger, "execute_start", waiting, ends))

        outcome = attempt.wait_on(trigger)
        if outcome.kind is Kind.DEADLINE:
            raise JobTimedOut(outcome.message, job=outcome.job)

    def _wait_for_time(
        self,
        attempt: Attempt,
        later: Later,
        end_time: float | None,
        starting: Starting,
    ) -> None:
        """Wait until the start can be tried again; fail where that is of no use."""
        inquiry, error, endpoint = starting.inquiry, later.error, attempt.endpoint()
        record = attempt.notes.read()
        fate = "" if record is None else record.fate(attempt.vendor)
        attempt.recall_address(inquiry)
        # On a worker that waits, execution_timeout is kept where it sleeps.
        limit = attempt.execution_deadline if self.deferrable else None
        ends = earliest(end_time, limit)
        left = None if ends is None else ends - wall_clock()
        seconds = inquiry.wait_for(later, endpoint, left=left, fate=fate)
        if self.deferrable:
            seconds = max(seconds, compat.earliest_event())

        moment = wall_clock() + seconds
        # The try itself takes some seconds where the vendor is in trouble.
        if ends is not None and moment + SHORTEST_WAIT >= ends:
            reason = later.reason
            if error is not None:
                reason = explain(error, endpoint.conn_id, endpoint.conn_type)

            msg = f"No {self.vendor.noun} could be started before the timeout: {reason}"
            msg = with_request(msg, error)
            raise with_fate(VendorUnavailable(msg), fate) from None

        inquiry.report(later, endpoint, wait=seconds, ends=ends, insists=error is None)
        if self.deferrable:
            trigger, sought = attempt.moment_trigger(moment)
            attempt.stop_if_killed()
            waiting = {
                **attempt.start_to_come(end_time, starting.superseded),
                "sought": sought,
                "contact": inquiry.contact.to_json(),
            }
            self.defer(**leaving(trigger, "execute_start", waiting, ends))

        async def pause(_: LeasedAccount) -> None:
            await asyncio.sleep(seconds)

        attempt.exchange(pause)

    # Resuming ---------------------------------------------------------------------

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the job's result, or fail as the job did, without a request."""
        waiting = self._waiting
        outcome = events.from_payload(event)
        if isinstance(event, Mapping) and "start" in event:
            return self._complete_start(context, outcome, event["start"], waiting)

        own, job = waiting.get("job_id"), outcome.job
        attempt = self._attempt_of(context)
        attempt.job_id = own or outcome.job_id
        attempt.owned = bool(waiting.get("owned", True))
        attempt.notes.address = attempt.found_at = waiting.get("address") or ""
        attempt.job_url = waiting.get("url") or ("" if job is None else job.url)
        drop_links(self, written=bool(waiting.get("url")))
        if own is not None and outcome.job_id != own:
            self.log.warning(
                "Ignoring an event for %s: this task is waiting for %s",
                self.vendor.name_of(outcome.job_id),
                self.vendor.name_of(own),
            )
            attempt.notes.claim(own)
            self._defer_for(attempt, own, waiting.get("end_time"))

        return attempt.conclude(outcome)

    def _complete_start(
        self,
        context: Context,
        outcome: Outcome,
        start: Mapping[str, Any],
        waiting: Mapping[str, Any],
    ) -> Any:
        """End as the job did that the trigger has started."""
        number, attempt = waiting.get("try"), self._attempt_of(context)
        if number is not None and start.get("try") != number:
            self.log.warning(
                "Ignoring an event of attempt %s: this is attempt %s",
                start.get("try"),
                number,
            )
            self.check_arguments()
            self._leave_to_trigger(context, waiting.get("end_time"))

        record = read_record(start.get("record"))
        attempt.notes.settle(record)
        job = outcome.job
        attempt.job_id = outcome.job_id
        attempt.owned = record is not None and record.owned
        if job is not None and record is not None:
            attempt.job_url = job.url
            attempt.push_start_xcoms(job, record)

        return attempt.conclude(outcome)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume; when Airflow's own timeout came first, cancel what is ours."""
        show_rendered(self)
        self._waiting, others = take_out(next_kwargs)
        make_plain(self, JobOperator)
        # What starts a job checks them. The end of one fails for no argument that has come
        # to nothing since, say because the task upstream was cleared.
        with contextlib.suppress(ArgumentUnusable):
            self.settle_ids()

        try:
            return super().resume_execution(next_method, others, context)
        except compat.TaskDeferralError as error:
            self._settle_claim(context)
            raise failure_of_trigger(next_kwargs) or error from None
        except compat.TaskDeferralTimeout:
            self._settle_claim(context)
            self._attempt_of(context).expire()
            raise

    def _settle_claim(self, context: Context) -> None:
        if self.start_in_trigger:
            self._attempt_of(context).notes.settle_claim()

    # Deadlines --------------------------------------------------------------------

    def _new_deadline(self) -> float | None:
        return None if self.timeout is None else wall_clock() + self.timeout

    # Killing ----------------------------------------------------------------------

    def on_kill(self) -> None:
        """Cancel the job that this attempt waits for on the worker.

        Called on top of the running ``execute``, in a signal handler: the cancel runs on
        another loop in a thread, and is given up after four seconds, since Airflow
        kills the process then. Users and accidents stop a task alike, so the thread first
        requests the task's state from Airflow. ``execute`` ends by itself afterwards.
        """
        self._killed = True
        if self._attempt is not None:
            self._attempt.kill()
