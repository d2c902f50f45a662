"""Runs a sync, a reset or a clear of an Airbyte connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.links import AirbyteJobLink
from async_triggers.airbyte.naming import (
    CONNECTION,
    JOB_TYPES,
    NAMES,
    check_one_way,
    read_version,
)
from async_triggers.deferral.arguments import (
    IF_RUNNING,
    needs_deferrable,
    not_negative,
    one_of,
    text,
    time_limit,
)
from async_triggers.deferral.compat import conf
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.on_demand import on_demand
from async_triggers.deferral.operator import JobOperator

if TYPE_CHECKING:
    from async_triggers.airbyte.hooks import AirbyteHook
    from async_triggers.airbyte.remote_job import AirbyteJobRequest
    from async_triggers.airbyte.triggers import AirbyteSyncTrigger
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "async_triggers.airbyte.hooks": ("AirbyteHook",),
            "async_triggers.airbyte.triggers": ("AirbyteSyncTrigger",),
        },
    )

__all__ = ["AirbyteHook", "AirbyteSyncTrigger", "AirbyteTriggerSyncOperator"]


class AirbyteTriggerSyncOperator(JobOperator):
    """Starts a job of an Airbyte connection and waits until it has ended.

    Returns the job's id (int) in every mode. The job's statistics are pushed to the XCom
    ``airbyte_job``: job_id, status, url, attached, job_started_at, connection_id,
    job_type, rows_synced, bytes_synced, duration.

    :param connection_id: the connection in Airbyte (templated); or ``connection_name``
    :param airbyte_conn_id: the Airflow connection (templated)
    :param asynchronous: hand the job's id back at once, and do not wait
    :param deferrable: wait on the triggerer and not on a worker
    :param api_version: the version in the API's path, where the connection's host does
        not say it
    :param wait_seconds: the seconds between two checks of the job. All tasks of an account
        share their polls, which come every five seconds at most: the default, which is the
        official provider's, means five
    :param timeout: seconds after which the task gives up; None or 0 for never
    :param connection_name: the name of the connection, which must be the only one of that
        name (templated). It is looked up when the job is to start, never when the DAG is
        parsed
    :param workspace_name: the name of the connection's workspace, where the name of the
        connection alone is not enough (templated)
    :param workspace_id: the workspace itself, instead of its name (templated)
    :param job_type: sync, reset or clear (Airbyte's API offers no refresh)
    :param if_running: what to do when another user's job of the connection is under way:
        ``wait`` for it to end and start our own, ``attach`` to it (to a sync only),
        ``fail``, or ``skip``
    :param cancel_on_kill: cancel the job when a user stops the task
    :param cancel_on_timeout: cancel the job when ``timeout`` or ``execution_timeout``
        passes
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_in_trigger: leave the start to the triggerer as well; needs ``deferrable``
    :param durable: a retry attaches to what an earlier attempt has started, as Airflow's
        own resumable operators do; False starts a new job in each attempt, and
        leaves an earlier one running
    """

    template_fields: Sequence[str] = ("connection_id", "airbyte_conn_id", *NAMES)
    ui_color = "#6C51FD"
    operator_extra_links = (AirbyteJobLink(),)

    ids = Ids(
        required={"airbyte_conn_id": text},
        optional=CONNECTION,
        either=(("connection_id",), ("connection_name",)),
        hint="Give connection_id or connection_name",
    )
    statistics_key = "airbyte_job"

    def __init__(
        self,
        connection_id: str | None = None,
        airbyte_conn_id: str = "airbyte_default",
        asynchronous: bool = False,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        api_version: str = "v1",
        wait_seconds: float | timedelta = 3,
        timeout: float | timedelta | None = 3600,
        *,
        connection_name: str | None = None,
        workspace_name: str | None = None,
        workspace_id: str | None = None,
        job_type: str = "sync",
        if_running: str = "wait",
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        end_from_trigger: bool = False,
        start_in_trigger: bool = False,
        durable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id
        self.connection_name = connection_name
        self.workspace_name = workspace_name
        self.workspace_id = workspace_id
        self.airbyte_conn_id = airbyte_conn_id
        self.asynchronous = asynchronous
        self.deferrable = deferrable
        self.api_version = read_version(api_version)
        self.wait_seconds = not_negative("wait_seconds", wait_seconds)
        self.timeout = time_limit("timeout", timeout)
        self.job_type = one_of("job_type", job_type, JOB_TYPES)
        self.if_running = one_of("if_running", if_running, IF_RUNNING)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.end_from_trigger = end_from_trigger
        self.start_in_trigger = needs_deferrable(
            "start_in_trigger", start_in_trigger, deferrable=deferrable
        )
        self.durable = durable
        self.note_ids(kwargs)
        check_one_way(self, kwargs)

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        super().check_arguments()
        check_one_way(self)

    @property
    def hook(self) -> AirbyteHook:
        """The hook of the operator's connection, for calls made by hand."""
        # From this module, where tests of DAGs patch it.
        from async_triggers.airbyte.operators import AirbyteHook

        return AirbyteHook(self.airbyte_conn_id, self.api_version)

    @property
    def job_id(self) -> int | None:
        """The id of the job, as soon as the task knows it; for callbacks."""
        return int(self._job_id) if self._job_id else None

    def make_request(self) -> AirbyteJobRequest:
        """Return what the rendered arguments request."""
        from async_triggers.airbyte.remote_job import AirbyteJobRequest

        return AirbyteJobRequest(
            conn_id=self.airbyte_conn_id,
            connection_id=self.connection_id or None,
            connection_name=self.connection_name or None,
            workspace_name=self.workspace_name or None,
            workspace_id=self.workspace_id or None,
            job_type=self.job_type,
            api_version=self.api_version,
            poll_interval=self.wait_seconds,
            waits=not self.asynchronous,
            if_running=self.if_running,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
        )
