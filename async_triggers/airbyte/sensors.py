"""Waits for an Airbyte job that something else started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.arguments import text, whole_number
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.sensor import JobSensor

__all__ = ["AirbyteHook", "AirbyteJobSensor", "AirbyteSyncTrigger"]

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen


class AirbyteJobSensor(JobSensor):
    """Waits until an Airbyte job has ended, and fails if it did not succeed.

    :param airbyte_job_id: the job: an int, a template, or another task's output (templated)
    :param airbyte_conn_id: the Airflow connection (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param api_version: the version in the API's path, where the connection's host does
        not say it
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    template_fields: Sequence[str] = ("airbyte_job_id", "airbyte_conn_id")
    ui_color = "#6C51FD"

    ids = Ids(required={"airbyte_job_id": whole_number, "airbyte_conn_id": text})

    def __init__(
        self,
        *,
        airbyte_job_id: int | str | XComArg,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        airbyte_conn_id: str = "airbyte_default",
        api_version: str = "v1",
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.airbyte_job_id = airbyte_job_id
        self.deferrable = deferrable
        self.airbyte_conn_id = airbyte_conn_id
        self.api_version = api_version
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)

    @property
    def _job_id(self) -> int:
        return whole_number("airbyte_job_id", self.airbyte_job_id)

    @property
    def hook(self) -> AirbyteHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return self.make_hook()

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the sensor's connection."""
        return AirbyteHook(
            self.airbyte_conn_id, self.api_version, address=self.found_at
        )

    async def look(self, leased: LeasedAccount) -> Seen:
        """Ask for the job."""
        return await self.make_hook().get_job(leased, self._job_id)

    def make_trigger(
        self,
        seen: Seen | None,
        *,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> AirbyteSyncTrigger:
        """Return the trigger that waits for the job."""
        return AirbyteSyncTrigger(
            self._job_id,
            self.airbyte_conn_id,
            end_time,
            self.poke_interval,
            execution_deadline,
            api_version=self.api_version,
            address=self.found_at,
            seen_at=None if seen is None else seen.at,
        )
