"""The arguments that the operator and the sensor of any vendor have."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from async_triggers.deferral.arguments import (
    IF_RUNNING,
    needs_deferrable,
    not_negative,
    one_of,
    time_limit,
)
from async_triggers.deferral.compat import conf
from async_triggers.deferral.operator import JobOperator
from async_triggers.deferral.sensor import JobSensor

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.plain_job import PlainQuery

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)


class PlainOperator(JobOperator):
    """Starts one job and waits until it has ended. Returns the job's id in every mode.

    A subclass adds what to start, passes the rest on, and calls ``note_ids`` at the end of
    its constructor.

    :param conn_id: the Airflow connection (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param poll_interval: the seconds between two checks of the job
    :param timeout: seconds after which the task gives up; None or 0 for never
    :param wait_for_completion: False hands the job's id back at once
    :param if_running: what to do when a job that is not the task's own is in the way:
        ``wait`` for it to end and start our own, ``attach`` to it, ``fail``, or ``skip``
    :param cancel_on_kill: cancel the job when a user stops the task
    :param cancel_on_timeout: cancel the job when ``timeout`` or ``execution_timeout``
        passes
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_in_trigger: leave the start to the triggerer as well; needs ``deferrable``
    """

    def __init__(
        self,
        *,
        conn_id: str,
        deferrable: bool = DEFERRABLE,
        poll_interval: float | timedelta = 30.0,
        timeout: float | timedelta | None = None,
        wait_for_completion: bool = True,
        if_running: str = "wait",
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        end_from_trigger: bool = False,
        start_in_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.deferrable = deferrable
        self.poll_interval = not_negative("poll_interval", poll_interval)
        self.timeout = time_limit("timeout", timeout)
        self.wait_for_completion = wait_for_completion
        self.if_running = one_of("if_running", if_running, IF_RUNNING)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.end_from_trigger = end_from_trigger
        self.start_in_trigger = needs_deferrable(
            "start_in_trigger", start_in_trigger, deferrable=deferrable
        )

    @property
    def hook(self) -> VendorHook:
        """The hook of the operator's connection, for calls made by hand."""
        return self.job_request.make_hook()

    @property
    def policy(self) -> dict[str, Any]:
        """What the arguments say that every :class:`.remote_job.JobRequest` has."""
        return {
            "conn_id": self.conn_id,
            "poll_interval": self.poll_interval,
            "waits": self.wait_for_completion,
            "if_running": self.if_running,
            "cancel_on_kill": self.cancel_on_kill,
            "cancel_on_timeout": self.cancel_on_timeout,
        }


class PlainSensor(JobSensor):
    """Waits until a job has ended, and fails if it did not succeed.

    :param job_id: the job: its id, a template, or another task's output (templated)
    :param conn_id: the Airflow connection (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    query_class: ClassVar[type[PlainQuery]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take from the query what it says of the arguments."""
        super().__init_subclass__(**kwargs)
        if "query_class" in vars(cls):
            cls.ids = cls.query_class.ids
            cls.template_fields = cls.query_class.template_fields

    def __init__(
        self,
        *,
        job_id: str | int | XComArg,
        conn_id: str = "",
        deferrable: bool = DEFERRABLE,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        default = self.query_class.job_class.hook_class.default_conn_name
        self.conn_id = conn_id or default
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)

    @property
    def hook(self) -> VendorHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return self.make_hook()
