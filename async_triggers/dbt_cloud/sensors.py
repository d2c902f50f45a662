"""Waits for a run of dbt Cloud that something else started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from async_triggers.dbt_cloud.ends import DbtCloudRunsQuery
from async_triggers.dbt_cloud.hooks import (
    DbtCloudHook,
    DbtCloudJobRunException,
    DbtCloudJobRunStatus,
    validate_execute_complete_event,
)
from async_triggers.dbt_cloud.job_query import DbtCloudRunQuery
from async_triggers.dbt_cloud.naming import check_hook_params
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral.after import as_text
from async_triggers.deferral.compat import conf
from async_triggers.deferral.finding_sensor import FindingSensor
from async_triggers.deferral.sensor import JobSensor

if TYPE_CHECKING:
    from airflow.sdk import XComArg

__all__ = [
    "DbtCloudHook",
    "DbtCloudJobRunException",
    "DbtCloudJobRunSensor",
    "DbtCloudJobRunStatus",
    "DbtCloudJobSensor",
    "DbtCloudRunJobTrigger",
    "validate_execute_complete_event",
]

DEFERRABLE_POKE_INTERVAL = 5.0
"""How often a deferrable sensor looks, in seconds, where its task does not say."""


class DbtCloudJobRunSensor(JobSensor):
    """Waits until a run has ended, and fails if it did not succeed.

    Returns the run's id (int) in every mode.

    :param dbt_cloud_conn_id: the Airflow connection (templated)
    :param run_id: the run: an int, a template, or another task's output (templated)
    :param account_id: the account; else the connection's login (templated)
    :param deferrable: wait on the triggerer and not on a worker; ``poke_interval`` is then
        5 seconds unless the task says otherwise
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of single calls
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    template_fields: Sequence[str] = DbtCloudRunQuery.template_fields
    ui_color = "#FF694A"

    ids = DbtCloudRunQuery.ids
    query_class = DbtCloudRunQuery

    def __init__(
        self,
        *,
        dbt_cloud_conn_id: str = DbtCloudHook.default_conn_name,
        run_id: int | str | XComArg,
        account_id: int | str | None = None,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        hook_params: dict[str, Any] | None = None,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        if deferrable:
            default_args = kwargs.get("default_args") or {}
            kwargs.setdefault(
                "poke_interval",
                default_args.get("poke_interval", DEFERRABLE_POKE_INTERVAL),
            )

        super().__init__(**kwargs)
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.run_id = run_id
        self.account_id = account_id
        self.deferrable = deferrable
        self.hook_params = hook_params
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)
        check_hook_params(hook_params)

    @property
    def hook(self) -> DbtCloudHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return DbtCloudRunQuery.of(self).make_hook()


class DbtCloudJobSensor(FindingSensor):
    """Waits until jobs have run, no matter what has started the runs.

    Without ``completed_after_time`` the sensor waits for the next run to end after it has
    first looked. A success counts, also where a later run has failed since. With several
    jobs all must succeed; one whose run has failed fails the sensor at once.

    Returns the id of the run, a list of ids for ``job_ids``.

    :param dbt_cloud_conn_id: the Airflow connection (templated)
    :param job_id: the job in dbt Cloud (templated)
    :param job_ids: several jobs instead: a list, or a template of one (templated)
    :param completed_after_time: a run that ended later than this counts (templated): a
        datetime, or a text that Airflow can read as one. Without an offset it is in
        Airflow's ``[core] default_timezone``. None, ``now``, or a template that renders to
        nothing, waits for the next run
    :param account_id: the account; else the connection's login (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of single calls
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    template_fields: Sequence[str] = DbtCloudRunsQuery.template_fields
    ui_color = "#FF694A"

    ids = DbtCloudRunsQuery.ids
    query_class = DbtCloudRunsQuery

    def __init__(
        self,
        *,
        dbt_cloud_conn_id: str = DbtCloudHook.default_conn_name,
        job_id: int | str | XComArg | None = None,
        job_ids: Sequence[int | str] | str | XComArg | None = None,
        completed_after_time: str | datetime | None = None,
        account_id: int | str | None = None,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        hook_params: dict[str, Any] | None = None,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.job_id = job_id
        self.job_ids = job_ids
        # A template may make a datetime of it again.
        self.completed_after_time: str | datetime | None = as_text(completed_after_time)
        self.account_id = account_id
        self.deferrable = deferrable
        self.hook_params = hook_params
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)
        check_hook_params(hook_params)
