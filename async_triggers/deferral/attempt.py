"""One attempt of a task on its worker: what it starts, what it has, and how it stops."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, TypeVar

from async_triggers.deferral import compat
from async_triggers.deferral.conclusion import Conclusion
from async_triggers.deferral.deadlines import execution_deadline
from async_triggers.deferral.errors import JobTimedOut, TaskKilled
from async_triggers.deferral.events import Cancel, Kind, Outcome
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.importable import why_not_importable
from async_triggers.deferral.kill import IDLE, Verdict, judge_stop
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.notes import Notes
from async_triggers.deferral.own_job import KILL_JOIN, OwnJob
from async_triggers.deferral.record import Intent, Record
from async_triggers.deferral.start_later import StartLaterTrigger
from async_triggers.deferral.trigger import trigger_for
from async_triggers.deferral.worker import OutOfTime, Worker

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

    from async_triggers.deferral.contact import Endpoint
    from async_triggers.deferral.inquiry import Inquiry
    from async_triggers.deferral.remote_job import JobRequest, RemoteJob
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.engine.wire import Account, Vendor

T = TypeVar("T")


class JobTask(Protocol):
    """What an attempt must know of its task."""

    statistics_key: ClassVar[str]
    deferrable: bool
    cancel_on_kill: bool
    cancel_on_timeout: bool
    do_xcom_push: bool
    execution_timeout: timedelta | None
    outlets: list[Any]

    @property
    def log(self) -> Logger:
        """The log of the task."""
        ...

    def make_request(self) -> JobRequest:
        """Return the request of the rendered arguments."""
        ...

    def gather_lineage(self, find: Callable[[], RemoteJob], ended: Job) -> None:
        """Request what lineage needs of a job that has ended."""
        ...


class Attempt:
    """One attempt of a task, in one segment of it.

    ``job_id`` is the job that it waits for, once it is known, ``owned`` whether this task
    has started it, and ``job_url`` where the vendor shows it.
    """

    def __init__(self, task: JobTask, context: Context) -> None:
        self.context = context
        self.notes = Notes(context, task.log, lambda: self.vendor.noun)
        self.job_id: str | None = None
        self.owned = False
        self.job_url = ""
        self.found_at = ""
        """The hash of the address, where the connection may mean more than one."""
        self._task = task
        self._request: JobRequest | None = None
        self._worker: Worker | None = None
        self._killing: threading.Thread | None = None
        self._is_killed = False
        self._verdict: Verdict | None = None

    # The request and the job -------------------------------------------------------

    @property
    def request(self) -> JobRequest:
        """The request of the rendered arguments; what starts a job has checked them."""
        if self._request is None:
            request = self._task.make_request()
            self._request = replace(request, address=self.found_at)

        return self._request

    @request.setter
    def request(self, request: JobRequest) -> None:
        self._request = request

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.request.vendor

    def job(self, job_id: str, *, owned: bool, url: str = "") -> RemoteJob:
        """Return a job at the vendor."""
        return self.request.job(job_id, owned=owned, url=url or self.job_url)

    def trigger(
        self,
        seen: Seen | str,
        *,
        owned: bool,
        end_time: float | None,
        ends: float | None,
    ) -> JobTrigger:
        """Return the trigger that waits for a job.

        ``ends`` is the deadline that ``execution_timeout`` sets.
        """
        if isinstance(seen, str):
            job, seen_at = self.job(seen, owned=owned), None
        else:
            job = self.job(seen.job.id, owned=owned, url=seen.job.url)
            seen_at = seen.at

        return trigger_for(
            self.request,
            job,
            end_time=end_time,
            execution_deadline=ends,
            seen_at=seen_at,
        )

    def moment_trigger(self, moment: float) -> tuple[MomentTrigger, str | None]:
        """Return what waits for a moment, and what it looks for when it is killed.

        That is our job, or one that was perhaps started; None for neither.
        """
        record, request = self.notes.read(), self.request
        if record is None or not self._is_ours(record):
            # The attempt before may have a job all the same: its kill checks who waits.
            self.notes.claim(IDLE)
            return MomentTrigger(moment), None

        if (
            not self._task.cancel_on_kill
            or why_not_importable(type(request)) is not None
        ):
            return MomentTrigger(moment), None

        sought = record.job_id or record.intent.name
        self.notes.claim(sought, moment)
        max_tries = self.context["ti"].max_tries
        trigger = StartLaterTrigger(
            moment, request.to_json(), max_tries, record.to_json()
        )
        return trigger, sought

    @property
    def execution_deadline(self) -> float | None:
        """When ``execution_timeout`` ends for a task that defers."""
        limit = self._task.execution_timeout
        return execution_deadline(self.context["ti"], limit, wall_clock())

    def report_deferral(self, job_id: str, ends: float | None) -> None:
        """Log what becomes of the job if it has not ended by the deadline."""
        if ends is None:
            return

        moment = datetime.fromtimestamp(ends, tz=UTC).isoformat(timespec="seconds")
        fate = (
            "it is cancelled and the task fails"
            if self.owned and self._task.cancel_on_timeout
            else "it is left running and the task fails"
        )
        self._task.log.info(
            "Deferring until %s ends; if it has not ended by %s %s",
            self.vendor.name_of(job_id),
            moment,
            fate,
        )

    def start_to_come(
        self, end_time: float | None, superseded: str | None
    ) -> dict[str, Any]:
        """Return what the task must know when it comes back to the start."""
        record = self.notes.record
        return {
            "end_time": end_time,
            "superseded": superseded,
            "record": None if record is None else record.to_json(),
        }

    def _is_ours(self, record: Record) -> bool:
        """Return whether a record is of a job that we have started, or may have."""
        return (
            record.owned
            and not record.ended
            and record.is_same(
                self.request.fingerprint(), self.context["ti"].try_number
            )
        )

    # On the worker --------------------------------------------------------------------

    @contextlib.contextmanager
    def at_work(self, *, is_quiet: bool) -> Iterator[Worker]:
        """Keep the worker's event loop for the length of the block.

        ``is_quiet`` is for a segment after one that has warned of what it found.
        """
        ti = self.context["ti"]
        request = self.request.of_attempt(ti, ti.max_tries)
        hook = request.make_hook()
        hook.is_quiet = is_quiet
        ends = self._deadline()
        # Blocking, hence before there is a loop, and where Airflow's alarm is heard.
        account = hook.first_account(self.notes.known_address)
        self.found_at = hook.address
        self.request = replace(request, address=hook.address)
        worker = self._worker = Worker(hook, account, ends, self.stop_if_killed)
        with worker.at_work():
            try:
                yield worker
            except TaskKilled:
                if self._killing is not None:
                    self._killing.join(KILL_JOIN)

                if self._learn_verdict() is Verdict.CANCEL:
                    self.notes.mark_killed()

                raise

    def _deadline(self) -> float | None:
        """Return when ``execution_timeout`` has passed for this segment of the task.

        A task that waits on its worker has as long as Airflow gives it, from now on. One
        that defers had begun to wait when its first segment started.
        """
        if self._task.deferrable:
            return self.execution_deadline

        limit = self._task.execution_timeout
        return None if limit is None else wall_clock() + limit.total_seconds()

    @property
    def worker(self) -> Worker:
        """The worker, inside :meth:`at_work`."""
        assert self._worker is not None  # noqa: S101 - as said
        return self._worker

    def endpoint(self) -> Endpoint:
        """Return whom the task talks to, in words."""
        return self.request.make_hook().endpoint(self.worker.account)

    def exchange(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        interruptible: bool = True,
    ) -> T:
        """Request something of the vendor; stop the job where there is no time left."""
        try:
            return self.worker.request(question, interruptible=interruptible)
        except OutOfTime as late:
            self._time_out(is_sent=late.is_sent)

    def wait_on(self, trigger: JobTrigger) -> Outcome:
        """Wait as a trigger does, which keeps the deadlines by itself."""
        worker = self.worker
        return worker.request(
            lambda leased: trigger.wait_on_worker(leased, worker.alarm),
            keeps_deadline=True,
        )

    def complete(self, seen: Seen) -> Job:
        """Add what an ended job's row does not say, if there is time for it."""
        job = self.job(seen.job.id, owned=self.owned, url=seen.job.url)
        try:
            return self.exchange(
                lambda leased: job.complete(leased, seen.job, now=seen.at)
            )
        except JobTimedOut:
            return seen.job

    def recall_address(self, inquiry: Inquiry) -> None:
        """Look up, once, where the vendor has answered an earlier run of the task."""
        if inquiry.contact.known is None:
            known = self.notes.earlier_address()
            inquiry.contact = replace(inquiry.contact, known=known)

        # A token that is pushed before the vendor has answered carries it on.
        self.notes.address = inquiry.contact.known or ""
        if inquiry.contact.is_known(self.worker.account):
            self.worker.leased.transport.trust.vouch()

    # The end ------------------------------------------------------------------------

    def conclude(self, outcome: Outcome) -> Any:
        """Return the result, or fail as the job did."""
        task, job = self._task, outcome.job
        if outcome.kind is Kind.ENDED and job is not None and self.request.waits:
            task.gather_lineage(
                lambda: self.job(job.id, owned=self.owned, url=job.url), job
            )

        is_cancelled = self.owned and task.cancel_on_timeout
        return Conclusion(
            notes=self.notes,
            log=task.log,
            request=self.request,
            job_id=self.job_id or "",
            owned=self.owned,
            cancel_late=(
                partial(self._cancel_late, outcome.job_id) if is_cancelled else None
            ),
            statistics_key=task.statistics_key if task.do_xcom_push else "",
            outlets=task.outlets,
        ).end(outcome)

    def push_start_xcoms(self, job: Job, record: Record | None) -> None:
        """Push what is known of a job as soon as it is started."""
        intent = Intent() if record is None else record.intent
        for key, value in self.request.start_xcoms(job, intent).items():
            self.context["ti"].xcom_push(key=key, value=value)

    def expire(self) -> None:
        """Cancel what is ours, because Airflow's own timeout of the deferral came first."""
        record = self.notes.read_again()
        if record is None or record.job_id is None:
            return

        # Callbacks want to know it as well.
        self.job_id, self.owned = record.job_id, self._is_ours(record)
        if self.owned and self._task.cancel_on_timeout:
            self._cancel_late(record.job_id)

    def _cancel_late(self, job_id: str) -> None:
        """Cancel a job that was not seen to stop at a deadline.

        If it has not stopped even so, the next attempt ends it, and takes nothing of it.
        """
        if not self._own(job_id).cancel_late():
            self.notes.mark_killed()

    def _time_out(self, *, is_sent: bool) -> NoReturn:
        """Fail at the end of ``execution_timeout``; stop a job that is ours, or may be."""
        worker, own, noun = self.worker, self._own_job(), self.vendor.noun
        worker.alarm.is_met = True
        late = (
            f"The {noun} could not be started before the execution_timeout of the task"
            " passed"
        )
        if own is None or (own.is_lost and not is_sent):
            raise JobTimedOut(late) from None

        outcome = worker.request_at_deadline(
            lambda leased: own.time_out(leased, worker.ends)
        )
        if outcome is None:
            msg = f"{late}; a start was not answered, a {noun} may be running"
            raise JobTimedOut(msg) from None

        if outcome.kind is not Kind.DEADLINE:
            msg = f"The execution_timeout of the task passed. {outcome.message}"
            raise JobTimedOut(msg, job=outcome.job) from None

        if outcome.cancel is Cancel.UNCONFIRMED and self._task.cancel_on_timeout:
            self._cancel_late(outcome.job_id)

        raise JobTimedOut(outcome.message, job=outcome.job) from None

    # Killing ------------------------------------------------------------------------

    def kill(self) -> None:
        """Cancel the job in a thread, and end what is requested just now.

        Called in a signal handler, on top of what runs.
        """
        self._is_killed = True
        may_cancel = self._task.cancel_on_kill
        if isinstance(sys.exception(), compat.AirflowTaskTimeout):
            # Airflow calls it while it handles the end of execution_timeout.
            self._verdict = Verdict.CANCEL
            may_cancel = self._task.cancel_on_timeout

        worker, own = self._worker, self._own_job()
        if worker is not None and own is not None and may_cancel:
            # One at a time: some vendors' cancel would act on the next job that runs.
            if self._killing is None or not self._killing.is_alive():
                self._killing = threading.Thread(
                    target=self._stop_from_thread,
                    args=(worker.account, own),
                    daemon=True,
                )
                self._killing.start()

            self._killing.join(KILL_JOIN)

        if worker is not None:
            worker.interrupt()

    def stop_if_killed(self, *, has_started: bool = False) -> None:
        """Raise TaskKilled where the task was stopped meanwhile.

        ``has_started`` is for a job that there was no id of at the kill.
        """
        if not self._is_killed:
            return

        if has_started:
            self.kill()

        msg = "The task was stopped"
        raise TaskKilled(msg)

    def stop_unwritten(self) -> None:
        """Cancel a job whose id could not be written down if a user stopped the task.

        Airflow writes nothing more for a task that was cleared, and its signal comes
        seconds later. Raise TaskKilled then. If Airflow goes on with the task, the next
        attempt finds the job by the intent.
        """
        self.kill()
        if self._learn_verdict() is Verdict.CANCEL:
            self.stop_if_killed()

    def _stop_from_thread(self, account: Account, own: OwnJob) -> None:
        began = time.monotonic()
        verdict = self._learn_verdict()
        if verdict is Verdict.CANCEL:
            own.stop(account, began)
        else:
            self._task.log.warning("%s: %s", own.name, verdict.value)

    def _learn_verdict(self) -> Verdict:
        """Return whether the task was stopped by a user, who wants its job stopped."""
        if self._verdict is None:
            state: str | Exception | None
            try:
                state = compat.task_state_on_worker(self.context["ti"])
            except Exception as error:  # noqa: BLE001 - any failure means "not known"
                state = error

            self._verdict = judge_stop(state)

        return self._verdict

    def _own(self, wanted: str | Intent) -> OwnJob:
        return OwnJob(self.request, wanted, self.job_url, self._task.log)

    def _own_job(self) -> OwnJob | None:
        """Return our job, or the start that was not answered."""
        if self.job_id is not None:
            return self._own(self.job_id) if self.owned else None

        worker, record = self._worker, self.notes.record
        # A start that is under way is answered first, and its job is stopped then.
        is_starting = worker is not None and worker.is_starting
        if record is None or is_starting or not self._is_ours(record):
            return None

        # That of an earlier attempt, which this one has not checked yet.
        return self._own(record.job_id or record.intent)
