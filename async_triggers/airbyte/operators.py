"""Runs a sync, a reset or a clear of an Airbyte connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from async_triggers.airbyte import api
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.links import AirbyteJobLink
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.arguments import (
    identifier,
    needs_deferrable,
    not_negative,
    one_of,
    text,
    time_limit,
)
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.operator import IF_RUNNING, Before, JobOperator
from async_triggers.deferral.record import Intent
from async_triggers.engine.errors import JobNotFound, RequestRejected
from async_triggers.engine.wire import parse_time

__all__ = ["AirbyteHook", "AirbyteSyncTrigger", "AirbyteTriggerSyncOperator"]

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen


class AirbyteTriggerSyncOperator(JobOperator):
    """Starts a job of an Airbyte connection and waits until it has ended.

    Returns the job's id (int) in every mode. The job's statistics are pushed to the XCom
    ``airbyte_job``: job_id, status, url, attached, job_started_at, connection_id,
    job_type, rows_synced, bytes_synced, duration.

    :param connection_id: the connection in Airbyte (templated)
    :param airbyte_conn_id: the Airflow connection (templated)
    :param asynchronous: hand the job's id back at once, and do not wait
    :param deferrable: wait on the triggerer and not on a worker
    :param api_version: the version in the API's path, where the connection's host does
        not say it
    :param wait_seconds: how often to look at the job, in seconds; never more often than
        every five
    :param timeout: seconds after which the task gives up; None or 0 for never
    :param job_type: sync, reset or clear (Airbyte's API offers no refresh)
    :param if_running: what to do when somebody else's job of the connection is under way:
        ``wait`` for it to end and start our own, ``attach`` to it (to a sync only),
        ``fail``, or ``skip``
    :param cancel_on_kill: cancel the job when a user stops the task
    :param cancel_on_timeout: cancel the job when ``timeout`` or ``execution_timeout``
        passes
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_in_trigger: leave the start to the triggerer as well; needs ``deferrable``
    """

    template_fields: Sequence[str] = ("connection_id", "airbyte_conn_id")
    ui_color = "#6C51FD"
    operator_extra_links = (AirbyteJobLink(),)

    ids = Ids(required={"connection_id": identifier, "airbyte_conn_id": text})
    statistics_key = "airbyte_job"
    start_grace = api.START_GRACE

    def __init__(
        self,
        connection_id: str,
        airbyte_conn_id: str = "airbyte_default",
        asynchronous: bool = False,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        api_version: str = "v1",
        wait_seconds: float | timedelta = 3,
        timeout: float | timedelta | None = 3600,
        *,
        job_type: str = "sync",
        if_running: str = "wait",
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        end_from_trigger: bool = False,
        start_in_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id
        self.airbyte_conn_id = airbyte_conn_id
        self.asynchronous = asynchronous
        self.deferrable = deferrable
        self.api_version = api_version
        self.wait_seconds = not_negative("wait_seconds", wait_seconds)
        self.timeout = time_limit("timeout", timeout)
        self.job_type = one_of("job_type", job_type, api.JOB_TYPES)
        self.if_running = one_of("if_running", if_running, IF_RUNNING)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.end_from_trigger = end_from_trigger
        self.start_in_trigger = needs_deferrable(
            "start_in_trigger", start_in_trigger, deferrable=deferrable
        )
        self.note_ids(kwargs)

    @property
    def hook(self) -> AirbyteHook:
        """The hook of the operator's connection, for calls made by hand."""
        return self.make_hook()

    @property
    def job_id(self) -> int | None:
        """The id of the job, as soon as the task knows it; for callbacks."""
        return int(self._job_id) if self._job_id else None

    @property
    def waits(self) -> bool:
        """False when the task hands back the id and does not wait."""
        return not self.asynchronous

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the operator's connection."""
        return AirbyteHook(
            self.airbyte_conn_id, self.api_version, address=self.found_at
        )

    def describe_request(self) -> Mapping[str, Any]:
        """Return what is asked for."""
        return {"connection_id": self.connection_id, "job_type": self.job_type}

    async def before_start(self, leased: LeasedAccount) -> Before:
        """Look at the connection, which also tells the server's time."""
        try:
            connection, now = await self.make_hook().get_airbyte_connection(
                leased, self.connection_id
            )
        except JobNotFound as error:
            msg = f"{error.message}: check connection_id"
            raise RequestRejected(msg, status=error.status) from None

        self._connection = connection
        if connection.status and connection.status != "active":
            msg = (
                f"The Airbyte connection {self.connection_id} is {connection.status}:"
                " enable it in Airbyte, nothing was started"
            )
            raise RequestRejected(msg)

        if connection.schedule_type not in {"", "manual"}:
            self.log.warning(
                "The connection has a schedule of its own in Airbyte (%s), which starts"
                " syncs besides this task's: set it to manual there",
                connection.schedule_type,
            )

        if now is not None:
            return Before(intent=Intent(at=now))

        # A proxy has taken the server's time off: the ids of jobs only grow.
        newest = [int(seen.job.id) for seen in await self._latest(leased)]
        return Before(intent=Intent(baseline=str(max(newest, default=0))))

    async def start(self, leased: LeasedAccount, intent: Intent) -> Seen:
        """Start the job."""
        seen = await self.make_hook().start_job(
            leased, self.connection_id, self.job_type
        )
        return self._linked(leased, seen)

    def was_there_before(self, seen: Seen, intent: Intent) -> bool:
        """Tell whether the vendor answered with a job that was queued already.

        A start of a connection whose job is queued answers with that job.
        """
        created = parse_time(seen.job.started_at)
        return (
            created is not None and intent.at is not None and created < int(intent.at)
        )

    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """Look for the first job that was made after the intent.

        Others may have come after it, but none before it has ended.
        """
        for seen in reversed(await self._latest(leased)):
            if intent.at is None:
                is_later = int(seen.job.id) > int(intent.baseline or 0)
            else:
                created = parse_time(seen.job.started_at)
                is_later = created is not None and created >= int(intent.at)

            if is_later and seen.job.statistics["job_type"] == self.job_type:
                return seen

        return None

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Tell by the time and the schedule: a job does not say who has started it."""
        created = parse_time(seen.job.started_at)
        if created is None or intent.at is None:
            return False

        connection, _ = await self.make_hook().get_airbyte_connection(
            leased, self.connection_id
        )
        is_manual = connection.schedule_type in {"", "manual"}
        return is_manual and created <= intent.at + api.START_WINDOW

    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Return the newest job of the connection that has not ended."""
        for seen in await self._latest(leased):
            if not seen.job.state.is_terminal:
                return seen

        await self.before_start(leased)
        return None

    async def _latest(self, leased: LeasedAccount) -> list[Seen]:
        found = await self.make_hook().list_jobs(leased, self.connection_id)
        return [self._linked(leased, seen) for seen in found]

    async def look(self, leased: LeasedAccount, job_id: str) -> Seen:
        """Ask for a job."""
        return self._linked(leased, await self.make_hook().get_job(leased, job_id))

    async def cancel(self, leased: LeasedAccount, job_id: str) -> None:
        """Cancel a job, if it is still that job which runs."""
        await self.make_hook().stop_job(leased, job_id)

    def may_attach(self, job: Job) -> bool:
        """Attach to a sync only: a reset leaves no data behind."""
        return self.job_type == "sync" and job.statistics["job_type"] == "sync"

    def make_trigger(
        self,
        seen: Seen | str,
        *,
        owned: bool,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> AirbyteSyncTrigger:
        """Return the trigger that waits for a job."""
        job_id = seen if isinstance(seen, str) else seen.job.id
        return AirbyteSyncTrigger(
            int(job_id),
            self.airbyte_conn_id,
            end_time,
            self.wait_seconds,
            execution_deadline,
            api_version=self.api_version,
            address=self.found_at,
            owned=owned,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
            seen_at=None if isinstance(seen, str) else seen.at,
            job_url=self.job_url if isinstance(seen, str) else seen.job.url,
        )

    def result(self, job_id: str, job: Job | None) -> int:
        """Return the job's id."""
        return int(job_id)

    _connection: api.Connection | None = None

    def _linked(self, leased: LeasedAccount, seen: Seen) -> Seen:
        """Add the job's address, for which the workspace must be known."""
        connection = self._connection
        workspace = connection.workspace_id if connection is not None else ""
        url = api.job_url(
            leased.account.ui_url, workspace, self.connection_id, seen.job.id
        )
        return replace(seen, job=replace(seen.job, url=url))
