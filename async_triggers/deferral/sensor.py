"""Waiting for a job that something else started.

A sensor never cancels: the job is not its own. In all three modes (poke, reschedule,
deferrable) trouble with the API is only a late answer; ``soft_fail`` turns a timeout and
the job's own end into a skip, but never a broken configuration, which would be skipped
every day; ``never_fail`` turns every failure into a skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.definitions.xcom_arg import PlainXComArg, XComArg
from airflow.triggers.base import StartTriggerArgs

from async_triggers.deferral import compat, events
from async_triggers.deferral.arguments import (
    ArgumentUnusable,
    make_plain,
    needs_deferrable,
    not_negative,
    time_out,
)
from async_triggers.deferral.carried import leaving, take_out
from async_triggers.deferral.contact import HASTE, FirstContact
from async_triggers.deferral.deadlines import (
    BACKSTOP,
    earliest,
    execution_deadline,
)
from async_triggers.deferral.end_from_trigger import EndFromTrigger, wants_end
from async_triggers.deferral.ending import (
    Ending,
    Then,
    failure_of,
    may_end,
    why_on_worker,
)
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    EventUnusable,
    JobCancelled,
    JobEnded,
    JobFailed,
    VendorUnavailable,
)
from async_triggers.deferral.events import Kind, Outcome, Status
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.ids import TakesIds
from async_triggers.deferral.importable import why_not_importable
from async_triggers.deferral.lineage import ShowsLineage
from async_triggers.deferral.looks import Looks, remember_address
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.sensor_trigger import SensorTrigger, trigger_of
from async_triggers.deferral.stored import failure_of_trigger
from async_triggers.deferral.written_once import hide_rendered, show_rendered
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.job_query import JobQuery
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.engine.wire import Vendor


SOFT = (
    JobEnded,
    compat.AirflowSensorTimeout,
    compat.AirflowFailException,
)
"""What soft_fail turns into a skip: the job's end, and what Airflow's own sensor does."""
LOOK_AGAIN = 60.0
"""Seconds until the next try of a first look that the vendor did not answer."""


class _StartTriggerArgs:
    """What Airflow reads of a sensor that starts on the triggerer, when it reads it.

    That is when the DAG is complete: what comes downstream says whether the trigger may
    end the task. The class itself has none, which is what keeps mapped sensors on workers.
    """

    def __get__(
        self, sensor: JobSensor | None, owner: type[JobSensor]
    ) -> StartTriggerArgs | None:
        if sensor is None or not sensor.start_from_trigger:
            return None

        return sensor.describe_start()


class JobSensor(BaseSensorOperator, TakesIds, ShowsLineage):
    """Waits until a job has ended."""

    start_trigger_args = _StartTriggerArgs()

    query_class: ClassVar[type[JobQuery]]
    """What the arguments make: which job to wait for."""

    # Set by the vendor's sensor.
    deferrable: bool
    _wanted_from_trigger: bool = False
    _not_from_trigger: str = ""

    end_from_trigger = EndFromTrigger()

    # The state of one segment; never templated, never serialized.
    _looks: Looks | None = None
    _waiting: Mapping[str, Any] = {}
    """What the deferral carried that this segment resumes from."""

    def __init__(
        self,
        *,
        poke_interval: float | timedelta = 60,
        timeout: float | timedelta | None = None,
        max_wait: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        # Airflow takes a timedelta that no date can hold, and raises OverflowError for a
        # number that it cannot make one of. Airflow 3.1 refuses `timeout=None`, which
        # means its default from 3.2 on.
        if timeout is not None:
            kwargs["timeout"] = time_out("timeout", timeout)
        super().__init__(
            poke_interval=not_negative("poke_interval", poke_interval),
            max_wait=None if max_wait is None else time_out("max_wait", max_wait),
            **kwargs,
        )

    # What is waited for -------------------------------------------------------------

    def make_query(self) -> JobQuery:
        """Return which job the arguments name, as they are now."""
        return self.query_class.of(self)

    @property
    def looks(self) -> Looks:
        """The looks for the job that the rendered arguments name."""
        if self._looks is None:
            self._looks = Looks(self.make_query(), self.log)

        return self._looks

    @property
    def query(self) -> JobQuery:
        """Which job the rendered arguments name, and what looks have found."""
        return self.make_query() if self._looks is None else self._looks.query

    @query.setter
    def query(self, query: JobQuery) -> None:
        self.looks.query = query

    def make_hook(self) -> VendorHook:
        """Return the hook of the sensor's connection."""
        return self.query.make_hook()

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.query.vendor

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        self.settle_ids()
        self._looks = None
        self.looks.query.check()
        self.query.warn_of_arguments(self.log)

    def in_attempt(self, context: Context) -> AbstractContextManager[None]:
        """Frame what each segment of an attempt does; by default with nothing."""
        return nullcontext()

    # Beginning on the triggerer -----------------------------------------------------

    def begin_on_triggerer(self, *, wanted: bool) -> None:
        """Take ``start_from_trigger``; called at the end of the vendor's constructor.

        Raise ArgumentUnusable for what a trigger could not render.
        """
        needs_deferrable("start_from_trigger", wanted, deferrable=self.deferrable)
        self._not_from_trigger = self._why_not_from_trigger() if wanted else ""
        self._wanted_from_trigger = wanted
        if not wanted or self._not_from_trigger:
            return

        for name in self.template_fields:
            value = getattr(self, name)
            if isinstance(value, XComArg) and not isinstance(value, PlainXComArg):
                msg = (
                    f"{name} cannot be {type(value).__name__} where"
                    " start_from_trigger=True: give another task's output as it is, a"
                    " template, or set start_from_trigger=False"
                )
                raise ArgumentUnusable(msg)

        self.start_from_trigger = True

    def _why_not_from_trigger(self) -> str:
        """Say why a triggerer cannot stand in for the sensor; nothing where it can."""
        if not compat.STARTS_FROM_TRIGGER:
            # Not refused: a DAG must be read by the versions before and after an upgrade,
            # and waits as well from a worker.
            return "this Airflow starts every task on a worker"

        classes = (type(self), self.query_class)
        return next(filter(None, map(why_not_importable, classes)), "")

    def describe_start(self) -> StartTriggerArgs:
        """Return what the scheduler defers the sensor with."""
        reason = (
            (why_on_worker(self, JobSensor) or _why_begun(self))
            if wants_end(self)
            else None
        )
        is_ended = wants_end(self) and reason is None
        limit = self.execution_timeout
        trigger = SensorTrigger(
            self.make_query().to_json(),
            self.timeout,
            None if limit is None else limit.total_seconds(),
            ending=self.ending().to_json() if is_ended else None,
            why_resumed=reason or "",
        )
        classpath, arguments = trigger.serialize()
        return StartTriggerArgs(
            trigger_cls=classpath,
            trigger_kwargs=arguments,
            next_method="execute_complete",
            next_kwargs=None,
            timeout=timedelta(seconds=self.timeout) + BACKSTOP,
        )

    # Waiting ----------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Wait for the job: here, or on the triggerer."""
        make_plain(self, JobSensor)
        self._check_arguments()
        if self._wanted_from_trigger:
            reason = self._not_from_trigger or "Airflow begins mapped tasks on workers"
            self.log.info("start_from_trigger is ignored: %s", reason)

        with self.in_attempt(context):
            if not self.deferrable:
                return self._look_until_timeout(context)

            return self._look_and_defer(context, wall_clock() + self.timeout)

    def _look_until_timeout(self, context: Context) -> Any:
        """Wait as Airflow's own sensors do, and judge a timeout as in the other modes."""
        try:
            return super().execute(context)
        except compat.AirflowSensorTimeout as error:
            return self._skip_or_raise(error)
        except compat.AirflowSkipException as error:
            failure = self._too_late(
                f"{sentence(str(error))} Until then: {self.looks.trouble}"
            )
            if isinstance(failure, compat.AirflowSensorTimeout):
                raise

            raise failure from None

    def _too_late(self, words: str) -> compat.AirflowException:
        """Return what a timeout fails with.

        While a field of the connection looks wrong it is no timeout to be softened.
        """
        if self.soft_fail and self.looks.is_suspect:
            return ConnectionUnusable(words)

        return compat.AirflowSensorTimeout(words)

    def _check_arguments(self) -> None:
        try:
            self.check_arguments()
        except compat.AirflowException as error:
            self._skip_or_raise(error)

    def execute_look(self, context: Context, event: object = None) -> Any:
        """Come back to a first look that the vendor did not answer."""
        self._check_arguments()
        waiting = self._waiting
        self.looks.contact = FirstContact.from_json(waiting.get("contact"))
        with self.in_attempt(context):
            return self._look_and_defer(
                context, waiting.get("end_time", wall_clock() + self.timeout)
            )

    def _look_and_defer(self, context: Context, end_time: float) -> Any:
        seen: Seen | None = None
        began = wall_clock()
        try:
            seen = self._look_on_worker(context)
        except VendorUnavailable as error:
            self._meet_trouble(context, error, began)
            if self.looks.proves_wrong or not self.query.waits_unseen:
                self._look_later(error, end_time)

            self.log.warning("%s Waiting all the same", sentence(str(error)))
        except compat.AirflowException as error:
            self._skip_or_raise(error)
        else:
            self.looks.note_answer(context)

        if seen is not None and seen.job.state.is_terminal:
            return self._end(events.ended(seen.job))

        self._defer(context, seen, end_time)
        return None

    def _look_on_worker(self, context: Context) -> Seen:
        """Look once, and do not sleep for long in a slot that can be left."""
        wait = HASTE if self.deferrable or self.reschedule else None
        return self.looks.look(context, wait=wait, is_quiet=bool(self._waiting))

    def _meet_trouble(
        self, context: Context, error: compat.AirflowException, began: float
    ) -> None:
        """Take in that a look begun at a time has failed; fail where that is of no use."""
        failure = self.looks.meet(context, error, began)
        if failure is not None:
            self._skip_or_raise(failure)

    def _look_later(self, error: compat.AirflowException, end_time: float) -> None:
        """Leave the worker until the first look can be tried again."""
        now = wall_clock()
        # A short timeout leaves room for a look or two as well.
        wait = min(LOOK_AGAIN, max((end_time - now) / 2, compat.earliest_event()))
        wait = max(self.looks.next_wait(wait), compat.earliest_event())
        moment = now + wait
        if moment >= end_time:
            msg = f"No poll succeeded before the timeout: {error}"
            self._skip_or_raise(self._too_late(msg))

        self.looks.report(error, wait=wait, ends=end_time)
        waiting = {"end_time": end_time, "contact": self.looks.contact.to_json()}
        trigger = MomentTrigger(moment)
        self.defer(**leaving(trigger, "execute_look", waiting, end_time))

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when the job has succeeded."""
        looks = self.looks
        # Each look of a rescheduled sensor is a new process.
        store = compat.airflows_store(context) if self.reschedule else None
        if store is not None:
            looks.recall(store, context["ti"].try_number)

        began = wall_clock()
        job: Job | None = None
        try:
            job = self._look_on_worker(context).job
        except compat.AirflowException as error:
            if not (isinstance(error, VendorUnavailable) or looks.may_outlive(error)):
                self._skip_or_raise(error)

            self._meet_trouble(context, error, began)
            ends = looks.began + self.timeout
            looks.report(error, wait=self.poke_interval, ends=ends)
        else:
            looks.note_answer(context)

        if store is not None:
            looks.keep(store, context["ti"].try_number)

        if job is None:
            return PokeReturnValue(is_done=False)

        if not job.state.is_terminal:
            self.report(job)
            return PokeReturnValue(is_done=False)

        result = self._end(events.ended(job))
        return PokeReturnValue(is_done=True, xcom_value=result)

    def report(self, job: Job) -> None:
        """Log how a job is doing that has not ended."""
        self.log.info("%s is %s", job.title, job.word)

    def _defer(self, context: Context, seen: Seen | None, end_time: float) -> None:
        limit = execution_deadline(context["ti"], self.execution_timeout, wall_clock())
        ends, looks = earliest(end_time, limit), self.looks
        trigger = trigger_of(
            looks.query, seen, end_time=end_time, execution_deadline=limit
        )
        trigger.report_interval()
        trigger.ending = self._ending()
        if trigger.ending is not None:
            known = looks.noted_address
            compat.push_owner_token(context, trigger.remote_job.job_id, address=known)

        waiting = {
            "end_time": end_time,
            "job_id": trigger.remote_job.job_id,
            "address": looks.address_to_note,
        }
        self.defer(**leaving(trigger, "execute_complete", waiting, ends))

    def _ending(self) -> dict[str, Any] | None:
        """Return how the trigger may end the task; None when it must be resumed."""
        if not may_end(self, JobSensor):
            return None

        return self.query.narrowed(self.ending()).to_json()

    def ending(self) -> Ending:
        """Return how a trigger ends the task, which may be ended there."""
        hard = failure_of(self)
        is_soft = self.soft_fail or self.never_fail
        return Ending(
            returns=self.query_class.returns,
            push=self.do_xcom_push,
            failure=Then.SKIP if is_soft else hard,
            # A sensor's timeout is not retried, which a trigger cannot say.
            timeout=Then.SKIP if is_soft else Then.RESUME,
            refusal=Then.SKIP if self.never_fail else hard,
        )

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the templates, which Airflow stores in the first segment alone."""
        super().render_template_fields(context, jinja_env)
        hide_rendered(self, context)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume, with what only the package's own methods know of taken out."""
        show_rendered(self)
        self._waiting, others = take_out(next_kwargs)
        make_plain(self, JobSensor)
        try:
            # Past Airflow's own sensor, which takes every failure for a soft one.
            return super(BaseSensorOperator, self).resume_execution(
                next_method, others, context
            )
        except compat.AirflowSkipException:
            raise
        except compat.TaskDeferralTimeout as error:
            self._skip_or_raise(compat.AirflowSensorTimeout(*error.args))
        except compat.TaskDeferralError as error:
            self._skip_or_raise(failure_of_trigger(next_kwargs) or error)
        except compat.AirflowException as error:
            self._skip_or_raise(error)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """End as the job did, without a request."""
        with self.in_attempt(context):
            return self._take_in(context, event)

    def _take_in(self, context: Context, event: Mapping[str, Any] | None) -> Any:
        waiting = self._waiting
        outcome = events.from_payload(event)
        own = waiting.get("job_id")
        if own is not None and outcome.job_id != own:
            self.log.warning(
                "Ignoring an event for %s: this task is waiting for %s",
                self.vendor.name_of(outcome.job_id),
                self.vendor.name_of(own),
            )
            if self.query.keeps_found:
                self.query = self.query.recalling(own)

            self._defer(context, None, waiting["end_time"])

        address = waiting.get("address") or (event or {}).get("address")
        if address and outcome.kind is Kind.ENDED:
            remember_address(context, address, self.log)

        return self._end(outcome)

    def _end(self, outcome: Outcome) -> Any:
        job = outcome.job
        if outcome.kind is Kind.ENDED and job is not None:
            self.gather_lineage(lambda: self.query.ended(job), job)

        if outcome.status is Status.SUCCESS:
            if job is None:
                msg = f"The trigger's event is a success without its {self.vendor.noun}"
                raise EventUnusable(msg)

            self.log.info("%s", outcome.message)
            return self.query.result(job)

        error: compat.AirflowException
        if outcome.status is Status.TIMEOUT:
            # Airflow's own class, which is not retried.
            error = compat.AirflowSensorTimeout(outcome.message)
        elif outcome.status is Status.CANCELLED:
            error = JobCancelled(outcome.message, job=job)
        elif outcome.kind is not Kind.ENDED:
            error = events.refusal(outcome)
        else:
            error = JobFailed(outcome.message, job=job)

        return self._skip_or_raise(error)

    def _skip_or_raise(self, error: compat.AirflowException) -> Any:
        """Fail, or skip where the sensor may not fail in this way."""
        is_soft = self.soft_fail and isinstance(error, SOFT)
        if is_soft or self.never_fail:
            setting = "soft_fail" if is_soft else "never_fail"
            msg = f"Skipping, because {setting} is set: {error}"
            raise compat.AirflowSkipException(msg) from error

        raise error


def _why_begun(sensor: JobSensor) -> str | None:
    """Return why a worker is needed that would have begun the task; None if none is."""
    hooked = sensor._pre_execute_hook is not None  # noqa: SLF001 - its only name
    if hooked or type(sensor).pre_execute is not BaseOperator.pre_execute:
        return "only a worker calls pre_execute"

    if sensor.on_execute_callback:
        return "only a worker calls on_execute_callback"

    return None
