"""Waits for an Airbyte job that something else started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.naming import (
    CONNECTION,
    NAMES,
    check_one_way,
)
from async_triggers.airbyte.remote_job import address_of_job
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.arguments import ArgumentUnusable, text, whole_number
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.record import KEY
from async_triggers.deferral.sensor import JobSensor

__all__ = ["AirbyteHook", "AirbyteJobSensor", "AirbyteSyncTrigger"]

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.bases.sensor import PokeReturnValue

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen


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

    template_fields: Sequence[str] = (
        "airbyte_job_id",
        "airbyte_conn_id",
        "connection_id",
        *NAMES,
    )
    ui_color = "#6C51FD"

    ids = Ids(
        required={"airbyte_conn_id": text},
        optional={"airbyte_job_id": whole_number, **CONNECTION},
        either=(("airbyte_job_id",), ("connection_id",), ("connection_name",)),
        hint="Give airbyte_job_id, connection_id or connection_name",
    )

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

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        super().check_arguments()
        check_one_way(self)
        if self.airbyte_job_id is not None and self._is_named:
            msg = "Give airbyte_job_id or a connection, not both"
            raise ArgumentUnusable(msg)

    @property
    def _is_named(self) -> bool:
        return any(getattr(self, name) for name in CONNECTION)

    @property
    def _is_given(self) -> bool:
        """True where the job is, and not its connection."""
        return self.airbyte_job_id is not None or not self._is_named

    @property
    def _job_id(self) -> int:
        given = self.airbyte_job_id if self._is_given else self._found
        return whole_number("airbyte_job_id", given)

    # The newest sync of the connection, as the first look has found it.

    _found: str = ""
    _url: str = ""

    @property
    def keeps_run(self) -> bool:
        """True where a connection is given: its newest sync is found once."""
        return not self._is_given

    @property
    def run_seen(self) -> str:
        """The job that was found and its address, which outlive a triggerer's restart."""
        return f"{self._found} {self._url}".strip()

    def recall_run(self, text: str) -> None:
        """Take the job that was found before."""
        self._found, _, self._url = text.partition(" ")

    @property
    def waits_unseen(self) -> bool:
        """Only where the job is known."""
        return self._is_given or bool(self._found)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when the job has succeeded."""
        store = context.get("task_state_store") if self.reschedule else None
        if self._is_given or store is None:
            return super().poke(context)

        # Each look is a new process.
        attempt = context["ti"].try_number
        kept = store.get(KEY)
        if isinstance(kept, Mapping) and kept.get("try") == attempt:
            self.recall_run(str(kept.get("run", "")))

        known = self._found
        try:
            return super().poke(context)
        finally:
            if self._found != known:
                store.set(KEY, {"try": attempt, "run": self.run_seen})

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
        """Request the job, which the first look has to find where it is not given."""
        hook = self.make_hook()
        if self.waits_unseen:
            seen = await hook.get_job(leased, self._job_id)
            # Of a job that goes on, once: before the sensor is deferred.
            is_wanted = seen.job.state.is_terminal or self.deferrable
            if is_wanted and not self._url:
                self._url = await address_of_job(hook, leased, seen.job)
        else:
            connection_id = self.connection_id or await hook.find_connection_id(
                leased,
                self.connection_name or "",
                workspace_name=self.workspace_name or "",
                workspace_id=self.workspace_id or "",
            )
            seen = await hook.newest_sync(leased, connection_id)
            self._found = seen.job.id
            self._url = await address_of_job(hook, leased, seen.job)
            self.log.info(
                "%s is the newest sync of connection %s: waiting for it",
                seen.job.title,
                connection_id,
            )

        return replace(seen, job=replace(seen.job, url=self._url))

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
            job_url=self._url,
        )
