"""Waits for an Airbyte job that something else started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.job_query import AirbyteJobQuery
from async_triggers.airbyte.naming import check_one_way
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral import compat
from async_triggers.deferral.compat import conf
from async_triggers.deferral.record import KEY
from async_triggers.deferral.sensor import JobSensor

__all__ = ["AirbyteHook", "AirbyteJobSensor", "AirbyteSyncTrigger"]

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.bases.sensor import PokeReturnValue


class AirbyteJobSensor(JobSensor):
    """Waits until an Airbyte job has ended, and fails if it did not succeed.

    Give the job, or a connection: then the sensor waits for its newest sync, which runs
    already or has ended when the sensor first looks.

    :param airbyte_job_id: the job: an int, a template, or another task's output (templated)
    :param connection_id: the connection in Airbyte, instead of a job (templated)
    :param connection_name: its name, instead of its id (templated). It is looked up when
        the task runs, never when the DAG is parsed
    :param workspace_name: the name of the connection's workspace, where the name of the
        connection alone is not enough (templated)
    :param workspace_id: the workspace itself, instead of its name (templated)
    :param airbyte_conn_id: the Airflow connection (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param api_version: the version in the API's path, where the connection's host does
        not say it
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    template_fields: Sequence[str] = AirbyteJobQuery.template_fields
    ui_color = "#6C51FD"

    ids = AirbyteJobQuery.ids
    query_class = AirbyteJobQuery

    def __init__(
        self,
        *,
        airbyte_job_id: int | str | XComArg | None = None,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        airbyte_conn_id: str = "airbyte_default",
        api_version: str = "v1",
        connection_id: str | None = None,
        connection_name: str | None = None,
        workspace_name: str | None = None,
        workspace_id: str | None = None,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.airbyte_job_id = airbyte_job_id
        self.connection_id = connection_id
        self.connection_name = connection_name
        self.workspace_name = workspace_name
        self.workspace_id = workspace_id
        self.deferrable = deferrable
        self.airbyte_conn_id = airbyte_conn_id
        self.api_version = api_version
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)
        check_one_way(self, kwargs)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when the job has succeeded."""
        store = compat.airflows_store(context) if self.reschedule else None
        if not self.query.keeps_found or store is None:
            return super().poke(context)

        # Each look is a new process.
        attempt = context["ti"].try_number
        kept = store.get(KEY)
        if isinstance(kept, Mapping) and kept.get("try") == attempt:
            self.query = self.query.recalling(str(kept.get("run", "")))

        known = self.query.found
        try:
            return super().poke(context)
        finally:
            if self.query.found != known:
                store.set(KEY, {"try": attempt, "run": self.query.found})

    @property
    def hook(self) -> AirbyteHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return AirbyteJobQuery.of(self).make_hook()
