"""Waits for an Airbyte job that something else started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.ends import AirbyteSyncsQuery
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.job_query import AirbyteJobQuery
from async_triggers.airbyte.naming import check_one_way, read_version
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.after import as_text
from async_triggers.deferral.compat import conf
from async_triggers.deferral.finding_sensor import FindingSensor

__all__ = [
    "AirbyteHook",
    "AirbyteJobSensor",
    "AirbyteSyncSensor",
    "AirbyteSyncTrigger",
]

if TYPE_CHECKING:
    from airflow.sdk import XComArg


class AirbyteJobSensor(FindingSensor):
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
        self.api_version = read_version(api_version)
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)
        check_one_way(self, kwargs)

    @property
    def hook(self) -> AirbyteHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return AirbyteJobQuery.of(self).make_hook()


class AirbyteSyncSensor(FindingSensor):
    """Waits until connections have synced, no matter what has started the syncs.

    Without ``completed_after_time`` the sensor waits for the next sync to end after it has
    first looked. A success counts, also where a later sync has failed since. With several
    connections all must succeed; one that has failed fails the sensor at once.

    Returns the id of the sync, a list of ids for ``connection_ids``.

    :param connection_id: the connection in Airbyte (templated)
    :param connection_ids: several connections instead: a list, or a template of one
        (templated)
    :param completed_after_time: a sync that ended later than this counts (templated): a
        datetime, or a text that Airflow can read as one. Without an offset it is in
        Airflow's ``[core] default_timezone``. None, ``now``, or a template that renders to
        nothing, waits for the next sync
    :param airbyte_conn_id: the Airflow connection (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param api_version: the version in the API's path, where the connection's host does
        not say it
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    template_fields: Sequence[str] = AirbyteSyncsQuery.template_fields
    ui_color = "#6C51FD"

    ids = AirbyteSyncsQuery.ids
    query_class = AirbyteSyncsQuery

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        connection_ids: Sequence[str] | str | XComArg | None = None,
        completed_after_time: str | datetime | None = None,
        airbyte_conn_id: str = "airbyte_default",
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        api_version: str = "v1",
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id
        self.connection_ids = connection_ids
        # A template may make a datetime of it again.
        self.completed_after_time: str | datetime | None = as_text(completed_after_time)
        self.airbyte_conn_id = airbyte_conn_id
        self.deferrable = deferrable
        self.api_version = read_version(api_version)
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)
