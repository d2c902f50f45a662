"""Waits for a run of dbt Cloud that something else started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from async_triggers.dbt_cloud.hooks import (
    DbtCloudHook,
    DbtCloudJobRunException,
    DbtCloudJobRunStatus,
    optional_id,
    read_hook_params,
    validate_execute_complete_event,
)
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral.arguments import text, whole_number
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.sensor import JobSensor

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen

__all__ = [
    "DbtCloudHook",
    "DbtCloudJobRunException",
    "DbtCloudJobRunSensor",
    "DbtCloudJobRunStatus",
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

    template_fields: Sequence[str] = ("dbt_cloud_conn_id", "run_id", "account_id")
    ui_color = "#FF694A"

    ids = Ids(
        required={"dbt_cloud_conn_id": text, "run_id": whole_number},
        optional={"account_id": whole_number},
    )
    returns = True

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

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        super().check_arguments()
        self.make_hook()
        read_hook_params(self.hook_params).warn(self.log)

    @property
    def _run_id(self) -> int:
        return whole_number("run_id", self.run_id)

    @property
    def hook(self) -> DbtCloudHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return self.make_hook()

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the sensor's connection."""
        return DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request the run, and why it failed if it did."""
        hook = self.make_hook()
        seen = await hook.get_run(leased, self._run_id)
        return replace(seen, job=await hook.complete(leased, seen.job))

    def make_trigger(
        self,
        seen: Seen | None,
        *,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> DbtCloudRunJobTrigger:
        """Return the trigger that waits for the run."""
        return DbtCloudRunJobTrigger(
            self.dbt_cloud_conn_id,
            self._run_id,
            end_time,
            self.poke_interval,
            optional_id("account_id", self.account_id),
            read_hook_params(self.hook_params).to_json(),
            execution_deadline,
            seen_at=None if seen is None else seen.at,
            job_url="" if seen is None else seen.job.url,
        )

    def result(self, job: Job) -> int:
        """Return the run's id."""
        return int(job.id)
