"""Waiting for a job that something else started.

A sensor never cancels: the job is not its own. ``soft_fail`` and ``never_fail`` turn
every failure into a skip in all three modes (poke, reschedule, deferrable), and trouble
with the API is only a late answer in all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.definitions.xcom_arg import PlainXComArg, XComArg
from airflow.triggers.base import StartTriggerArgs

from async_triggers.deferral import compat, events
from async_triggers.deferral.arguments import (
    ArgumentUnusable,
    constructor_arguments,
    needs_deferrable,
)
from async_triggers.deferral.ending import Ending, Then, why_on_worker
from async_triggers.deferral.errors import (
    EventUnusable,
    JobCancelled,
    JobFailed,
    VendorUnavailable,
)
from async_triggers.deferral.events import Kind, Outcome, Status
from async_triggers.deferral.hook import VendorHook, wall_clock
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.one_event import BACKSTOP
from async_triggers.deferral.sensor_trigger import SensorTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen


LOOK_AGAIN = 60.0
"""Seconds until the next try of a first look that the vendor did not answer."""


class _StartTriggerArgs:
    """What Airflow asks of a sensor that starts on the triggerer, when it asks.

    That is when the DAG is complete: what comes downstream says whether the trigger may
    end the task. The class itself has none, which is what keeps mapped sensors on workers.
    """

    def __get__(
        self, sensor: JobSensor | None, owner: type[JobSensor]
    ) -> StartTriggerArgs | None:
        if sensor is None or not sensor.start_from_trigger:
            return None

        return sensor.describe_start()


class JobSensor(BaseSensorOperator):
    """Waits until a job has ended."""

    start_trigger_args = _StartTriggerArgs()

    keeps_run: ClassVar[bool] = False
    """True where the first look finds out what later ones must know."""
    returns: ClassVar[bool] = False
    """Whether the sensor returns anything, see :meth:`result`."""

    # Set by the vendor's sensor.
    deferrable: bool
    end_from_trigger: bool
    _wanted_from_trigger: bool = False
    _not_from_trigger: str = ""

    # What a vendor adds -----------------------------------------------------------

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the sensor's connection."""

    @abstractmethod
    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""

    @abstractmethod
    async def look(self, leased: LeasedAccount) -> Seen:
        """Ask for the job, and for all that its end should tell."""

    @abstractmethod
    def make_trigger(
        self,
        seen: Seen | None,
        *,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> JobTrigger:
        """Return the trigger that waits for the job."""

    @property
    def waits_unseen(self) -> bool:
        """True where a job can be waited for that has never been looked at."""
        return True

    def result(self, job: Job) -> Any:
        """Return what the sensor returns; by default nothing."""
        return None

    @property
    def run_seen(self) -> str:
        """What the first look has found out, where the sensor :attr:`keeps_run`."""
        return ""

    def recall_run(self, told: str) -> None:
        """Take in what :attr:`run_seen` once said."""

    # Beginning on the triggerer -----------------------------------------------------

    def begin_on_triggerer(self, *, wanted: bool) -> None:
        """Take ``start_from_trigger``; called at the end of the vendor's constructor.

        Raise ArgumentUnusable for what a trigger could not render.
        """
        needs_deferrable("start_from_trigger", wanted, deferrable=self.deferrable)
        self._not_from_trigger = (
            f"the triggerer can build no {type(self).__name__}, which is a class of your"
            " own"
            if wanted and not type(self).__module__.startswith("async_triggers.")
            else ""
        )
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

    def describe_start(self) -> StartTriggerArgs:
        """Return what the scheduler defers the sensor with."""
        cls = type(self)
        reason = (
            (why_on_worker(self) or _why_begun(self)) if self.end_from_trigger else None
        )
        is_ended = self.end_from_trigger and reason is None
        limit = self.execution_timeout
        return StartTriggerArgs(
            trigger_cls=f"{SensorTrigger.__module__}.{SensorTrigger.__qualname__}",
            trigger_kwargs={
                "sensor": f"{cls.__module__}.{cls.__qualname__}",
                "arguments": self._arguments(),
                "lasts": self.timeout,
                "execution_timeout": None if limit is None else limit.total_seconds(),
                "ending": self.ending().to_json() if is_ended else None,
                "set_aside": reason or "",
            },
            next_method="execute_complete",
            next_kwargs=None,
            timeout=timedelta(seconds=self.timeout) + BACKSTOP,
        )

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as text where they are XComs."""
        given = constructor_arguments(self, JobSensor)
        given["poke_interval"] = self.poke_interval
        for name, value in given.items():
            if isinstance(value, XComArg):
                # As people wrote it before there were such objects.
                given[name] = str(value)

        return given

    # Waiting ----------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Wait for the job: here, or on the triggerer."""
        self.check_arguments()
        if self._wanted_from_trigger:
            reason = self._not_from_trigger or "Airflow begins mapped tasks on workers"
            self.log.info("start_from_trigger is set aside: %s", reason)

        if not self.deferrable:
            return super().execute(context)

        return self._look_and_defer(context, wall_clock() + self.timeout)

    def execute_look(
        self,
        context: Context,
        event: object = None,
        waiting: Mapping[str, Any] | None = None,
    ) -> Any:
        """Come back to a first look that the vendor did not answer."""
        self.check_arguments()
        ends = (waiting or {}).get("end_time", wall_clock() + self.timeout)
        return self._look_and_defer(context, ends)

    def _look_and_defer(self, context: Context, end_time: float) -> Any:
        try:
            seen: Seen | None = self.make_hook().run(self.look)
        except VendorUnavailable as error:
            self.log.warning("%s: waiting all the same", error)
            seen = None
            if not self.waits_unseen:
                self._look_later(end_time, str(error))
        except compat.AirflowException as error:
            self._skip_or_raise(error)

        if seen is not None and seen.job.state.is_terminal:
            return self._end(events.ended(seen.job))

        self._defer(context, seen, end_time)
        return None

    def _look_later(self, end_time: float, reason: str) -> None:
        """Leave the worker until the first look can be tried again."""
        now = wall_clock()
        # A short timeout leaves room for a look or two as well.
        wait = min(LOOK_AGAIN, max((end_time - now) / 2, compat.earliest_event()))
        moment = now + wait
        if moment >= end_time:
            msg = f"The vendor could not be asked before the timeout: {reason}"
            self._skip_or_raise(compat.AirflowSensorTimeout(msg))

        self.defer(
            trigger=MomentTrigger(moment),
            method_name="execute_look",
            kwargs={"waiting": {"end_time": end_time}},
            timeout=timedelta(seconds=end_time - wall_clock()) + BACKSTOP,
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when the job has succeeded."""
        try:
            seen = self.make_hook().run(self.look)
        except VendorUnavailable as error:
            self.log.warning("%s: looking again later", error)
            return PokeReturnValue(is_done=False)
        except compat.AirflowException as error:
            self._skip_or_raise(error)

        job = seen.job
        if not job.state.is_terminal:
            self.log.info("%s is %s", job.title, job.word)
            return PokeReturnValue(is_done=False)

        result = self._end(events.ended(job))
        return PokeReturnValue(is_done=True, xcom_value=result)

    def _defer(self, context: Context, seen: Seen | None, end_time: float) -> None:
        limit = self.execution_timeout
        began = getattr(context["ti"], "start_date", None)
        execution_deadline = None
        if limit is not None:
            start = wall_clock() if began is None else began.timestamp()
            execution_deadline = float(start + limit.total_seconds())

        ends = min(end_time, execution_deadline or end_time)
        trigger = self.make_trigger(
            seen, end_time=end_time, execution_deadline=execution_deadline
        )
        trigger.ending = self._ending()
        if trigger.ending is not None:
            compat.push_owner_token(context, trigger.shown_id)

        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"waiting": {"end_time": end_time, "job_id": trigger.shown_id}},
            timeout=timedelta(seconds=max(0.0, ends - wall_clock())) + BACKSTOP,
        )

    def _ending(self) -> dict[str, Any] | None:
        """Return how the trigger may end the task; None when it must be resumed."""
        if not self.end_from_trigger:
            return None

        reason = why_on_worker(self)
        if reason is not None:
            self.log.info("end_from_trigger is set aside: %s", reason)
            return None

        return self.ending().to_json()

    def ending(self) -> Ending:
        """Return how a trigger ends the task, which may be ended there."""
        if self.soft_fail or self.never_fail:
            failure = timeout = Then.SKIP
        else:
            # A policy decides on the exception, which only a worker raises.
            failure = Then.FAIL if self.retry_policy is None else Then.RESUME
            # A sensor's timeout is not retried, which a trigger cannot say.
            timeout = Then.RESUME

        return Ending(
            returns=self.returns,
            push=self.do_xcom_push,
            failure=failure,
            timeout=timeout,
            refusal=failure,
        )

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        waiting: Mapping[str, Any] | None = None,
    ) -> Any:
        """End as the job did. Asks the vendor nothing."""
        waiting = waiting or {}
        outcome = events.from_payload(event)
        own = waiting.get("job_id")
        if own is not None and outcome.job_id != own:
            self.log.warning(
                "The event tells of job %s, this task waits for %s: waiting on",
                outcome.job_id,
                own,
            )
            self._defer(context, None, waiting["end_time"])

        return self._end(outcome)

    def _end(self, outcome: Outcome) -> Any:
        job = outcome.job
        if outcome.status is Status.SUCCESS:
            if job is None:
                msg = "The trigger's event says success and does not show the job"
                raise EventUnusable(msg)

            self.log.info("%s", outcome.message)
            return self.result(job)

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
        """Fail, or skip where the sensor may not fail."""
        if self.soft_fail or self.never_fail:
            setting = "soft_fail" if self.soft_fail else "never_fail"
            msg = f"Skipping, because {setting} is set: {error}"
            raise compat.AirflowSkipException(msg) from error

        raise error


def _why_begun(sensor: JobSensor) -> str | None:
    """Tell why a worker is needed that would have begun the task; None if none is."""
    hooked = sensor._pre_execute_hook is not None  # noqa: SLF001 - its only name
    if hooked or type(sensor).pre_execute is not BaseOperator.pre_execute:
        return "only a worker calls pre_execute"

    if sensor.on_execute_callback:
        return "only a worker calls on_execute_callback"

    return None
