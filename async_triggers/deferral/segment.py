"""One segment of an operator's task on a worker: from where it begins to where it defers.

An operator is what a DAG file imports; this is what its task does, loaded when it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from async_triggers.deferral import compat, events
from async_triggers.deferral.attempt import JobTask
from async_triggers.deferral.carried import leaving
from async_triggers.deferral.contact import (
    HASTE,
    SHORTEST_WAIT,
    FirstContact,
    with_fate,
)
from async_triggers.deferral.deadlines import earliest
from async_triggers.deferral.ending import Ending, failure_of, may_end
from async_triggers.deferral.errors import (
    JobTimedOut,
    VendorUnavailable,
    explain,
    with_request,
)
from async_triggers.deferral.events import Kind, Outcome
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.importable import why_not_importable
from async_triggers.deferral.inquiry import Inquiry, Later, at_once
from async_triggers.deferral.kill import IDLE
from async_triggers.deferral.record import Next, decide, read_record
from async_triggers.deferral.resuming import count_resumption
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.deferral.starting import Behind, Starting
from async_triggers.deferral.worker import WorkerDesk
from async_triggers.deferral.written_once import drop_links

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from async_triggers.deferral.attempt import Attempt
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen


class SegmentTask(JobTask, Protocol):
    """What a segment must know of its task."""

    operator_extra_links: Collection[Any]
    timeout: float | None
    start_in_trigger: bool
    durable: bool

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        ...

    def defer(
        self,
        *,
        trigger: BaseTrigger,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta | float | None = None,
    ) -> NoReturn:
        """Leave the worker."""
        ...


class Segment:
    """One segment of a task.

    ``waiting`` is what the deferral carried that it resumes from, ``base`` the class of
    this package that says how such a task resumes.
    """

    def __init__(
        self,
        task: SegmentTask,
        attempt: Attempt,
        waiting: Mapping[str, Any],
        base: type,
    ) -> None:
        self._task = task
        self._attempt = attempt
        self._waiting = waiting
        self._base = base
        self._ti = attempt.context["ti"]

    # Starting ---------------------------------------------------------------------

    def start(self) -> Any:
        """Start the job, or find it again, and wait for it as the mode says."""
        task = self._task
        if not task.durable:
            self._attempt.notes.start_over()

        if task.start_in_trigger:
            reason = why_not_importable(type(self._attempt.request))
            if reason is None:
                self._leave_to_trigger(self._new_deadline())

            task.log.info("start_in_trigger is ignored: %s", reason)

        return self._begin(self._new_deadline(), None, FirstContact())

    def _leave_to_trigger(self, end_time: float | None) -> None:
        """Defer at once, and leave the start to the trigger."""
        task, attempt, ti = self._task, self._attempt, self._ti
        request, notes = attempt.request, attempt.notes
        # A connection that cannot be used fails the task here and now.
        request.make_hook().account()
        record = notes.read()
        unsettled = None
        if task.durable:
            unsettled = notes.mark_unsettled(request.fingerprint())

        step = decide(
            record,
            fingerprint=request.fingerprint(),
            max_tries=ti.max_tries,
            try_number=ti.try_number,
        )
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
            links=[link.xcom_key for link in task.operator_extra_links],
            announces=not compat.has_own_xcom_backend(),
            ending=self._ending(),
        )
        waiting = {"try": ti.try_number, "end_time": end_time}
        ends = earliest(end_time, limit)
        task.defer(**leaving(trigger, "execute_complete", waiting, ends))

    def start_again(self, event: Mapping[str, Any] | None) -> Any:
        """Come back to a start that had to wait, for a time or for another job."""
        waiting, attempt = self._waiting, self._attempt
        ends = waiting.get("end_time", self._new_deadline())
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

        self._task.check_arguments()
        return self._begin(ends, waiting.get("superseded"), contact)

    def _begin(
        self, end_time: float | None, superseded: str | None, contact: FirstContact
    ) -> Any:
        """Do all that must be done until the task can wait."""
        task, attempt = self._task, self._attempt
        with attempt.at_work(is_quiet=bool(self._waiting)) as worker:
            # What sleeps for long does not do so in a slot.
            wait = HASTE if task.deferrable else None
            notes, stop = attempt.notes, attempt.stop_unwritten
            desk = WorkerDesk(worker, attempt.exchange, notes, wait, stop)
            starting = Starting(
                request=attempt.request,
                inquiry=Inquiry(desk=desk, log=task.log, contact=contact),
                max_tries=self._ti.max_tries,
                superseded=superseded,
            )
            while True:
                try:
                    seen, attempt.owned = at_once(starting.get_job())
                except Later as later:
                    self._wait_for_time(later, end_time, starting)
                except Behind as behind:
                    attempt.notes.address = starting.inquiry.contact.known or ""
                    self._wait_behind(behind.seen, end_time, starting.superseded)
                else:
                    if task.durable:
                        name = type(task).__name__
                        count_resumption(starting.resumption, name, self._ti)

                    attempt.request = starting.request
                    attempt.job_id = seen.job.id
                    attempt.notes.address = starting.inquiry.contact.known or ""
                    attempt.stop_if_killed(has_started=True)
                    return self._wait_for_job(seen, end_time)

    # Waiting ----------------------------------------------------------------------

    def _wait_for_job(self, seen: Seen, end_time: float | None) -> Any:
        attempt = self._attempt
        attempt.job_url = seen.job.url
        attempt.push_start_xcoms(seen.job, attempt.notes.record)
        # In every mode: a later run of the task must know that the connection works.
        attempt.notes.claim(seen.job.id)
        if seen.job.state.is_terminal:
            return attempt.conclude(events.ended(attempt.complete(seen)))

        if not attempt.request.waits:
            return attempt.job(seen.job.id, owned=attempt.owned).result(None)

        if self._task.deferrable:
            attempt.stop_if_killed()
            self._defer_for(seen, end_time)

        worker = attempt.worker
        trigger = attempt.trigger(
            seen, owned=attempt.owned, end_time=end_time, ends=worker.ends
        )
        trigger.report_interval()
        outcome = attempt.wait_on(trigger)
        # From here on the task ends as the trigger says, which keeps the deadline.
        worker.alarm.is_met = True
        return attempt.conclude(outcome)

    def _defer_for(self, seen: Seen | str, end_time: float | None) -> NoReturn:
        attempt = self._attempt
        owned, limit = attempt.owned, attempt.execution_deadline
        ends = earliest(end_time, limit)
        job_id = seen if isinstance(seen, str) else seen.job.id
        attempt.report_deferral(job_id, ends)
        trigger = attempt.trigger(seen, owned=owned, end_time=end_time, ends=limit)
        trigger.ending = self._ending(attached=not owned)
        trigger.report_interval()
        waiting = {
            "job_id": job_id,
            "owned": owned,
            "end_time": end_time,
            "url": attempt.job_url,
            "address": attempt.notes.address,
        }
        self._task.defer(**leaving(trigger, "execute_complete", waiting, ends))

    def _ending(self, *, attached: bool = False) -> dict[str, Any] | None:
        """Return how the trigger may end the task; None when it must be resumed."""
        task = self._task
        if not may_end(task, self._base):
            return None

        failure = failure_of(task)
        ending = Ending(
            statistics_key=task.statistics_key,
            push=task.do_xcom_push,
            attached=attached,
            failure=failure,
            timeout=failure,
            refusal=failure,
        )
        if task.start_in_trigger:
            remembers = self._attempt.request.remembers_failures
            ending = ending.of_a_start(remembers=remembers)

        return ending.to_json()

    def _wait_behind(
        self, seen: Seen, end_time: float | None, superseded: str | None
    ) -> None:
        """Wait until another job has ended, then come back to the start."""
        attempt = self._attempt
        limit = attempt.worker.ends
        trigger = attempt.trigger(seen, owned=False, end_time=end_time, ends=limit)
        if self._task.deferrable:
            waiting = {
                "blocked_by": seen.job.id,
                **attempt.start_to_come(end_time, superseded),
            }
            # The other job may be that of the attempt before, whose kill checks who waits.
            attempt.notes.claim(IDLE)
            ends = earliest(end_time, limit)
            self._task.defer(**leaving(trigger, "execute_start", waiting, ends))

        outcome = attempt.wait_on(trigger)
        if outcome.kind is Kind.DEADLINE:
            raise JobTimedOut(outcome.message, job=outcome.job)

    def _wait_for_time(
        self, later: Later, end_time: float | None, starting: Starting
    ) -> None:
        """Wait until the start can be tried again; fail where that is of no use."""
        task, attempt = self._task, self._attempt
        inquiry, error, endpoint = starting.inquiry, later.error, attempt.endpoint()
        record = attempt.notes.read()
        fate = "" if record is None else record.fate(attempt.vendor)
        attempt.recall_address(inquiry)
        # On a worker that waits, execution_timeout is kept where it sleeps.
        limit = attempt.execution_deadline if task.deferrable else None
        ends = earliest(end_time, limit)
        left = None if ends is None else ends - wall_clock()
        seconds = inquiry.wait_for(later, endpoint, left=left, fate=fate)
        if task.deferrable:
            seconds = max(seconds, compat.earliest_event())

        moment = wall_clock() + seconds
        # The try itself takes some seconds where the vendor is in trouble.
        if ends is not None and moment + SHORTEST_WAIT >= ends:
            reason = later.reason
            if error is not None:
                reason = explain(error, endpoint.conn_id, endpoint.conn_type)

            noun = attempt.vendor.noun
            msg = f"No {noun} could be started before the timeout: {reason}"
            msg = with_request(msg, error)
            raise with_fate(VendorUnavailable(msg), fate) from None

        inquiry.report(later, endpoint, wait=seconds, ends=ends, insists=error is None)
        if task.deferrable:
            trigger, sought = attempt.moment_trigger(moment)
            attempt.stop_if_killed()
            waiting = {
                **attempt.start_to_come(end_time, starting.superseded),
                "sought": sought,
                "contact": inquiry.contact.to_json(),
            }
            task.defer(**leaving(trigger, "execute_start", waiting, ends))

        async def pause(_: LeasedAccount) -> None:
            await asyncio.sleep(seconds)

        attempt.exchange(pause)

    def _new_deadline(self) -> float | None:
        timeout = self._task.timeout
        return None if timeout is None else wall_clock() + timeout

    # Resuming ---------------------------------------------------------------------

    def complete(self, event: Mapping[str, Any] | None) -> Any:
        """Return the job's result, or fail as the job did, without a request."""
        waiting, attempt = self._waiting, self._attempt
        outcome = events.from_payload(event)
        if isinstance(event, Mapping) and "start" in event:
            return self._complete_start(outcome, event["start"])

        own, job = waiting.get("job_id"), outcome.job
        attempt.job_id = own or outcome.job_id
        attempt.owned = bool(waiting.get("owned", True))
        attempt.notes.address = attempt.found_at = waiting.get("address") or ""
        attempt.job_url = waiting.get("url") or ("" if job is None else job.url)
        drop_links(self._task, written=bool(waiting.get("url")))
        if own is not None and outcome.job_id != own:
            vendor = attempt.vendor
            self._task.log.warning(
                "Ignoring an event for %s: this task is waiting for %s",
                vendor.name_of(outcome.job_id),
                vendor.name_of(own),
            )
            attempt.notes.claim(own)
            self._defer_for(own, waiting.get("end_time"))

        return attempt.conclude(outcome)

    def _complete_start(self, outcome: Outcome, start: Mapping[str, Any]) -> Any:
        """End as the job did that the trigger has started."""
        waiting, attempt = self._waiting, self._attempt
        number = waiting.get("try")
        if number is not None and start.get("try") != number:
            self._task.log.warning(
                "Ignoring an event of attempt %s: this is attempt %s",
                start.get("try"),
                number,
            )
            self._task.check_arguments()
            self._leave_to_trigger(waiting.get("end_time"))

        record = read_record(start.get("record"))
        attempt.notes.settle(record)
        job = outcome.job
        attempt.job_id = outcome.job_id
        attempt.owned = record is not None and record.owned
        if job is not None and record is not None:
            attempt.job_url = job.url
            attempt.push_start_xcoms(job, record)

        return attempt.conclude(outcome)
