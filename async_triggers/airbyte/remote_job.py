"""Airbyte's jobs as values: what to start, and a job that there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from async_triggers.airbyte.api import addresses, requests
from async_triggers.airbyte.gathering import gather
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.naming import NAMES
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.record import Intent, Unsettled
from async_triggers.deferral.remote_job import Before, JobRequest, RemoteJob
from async_triggers.engine.errors import EngineError, RequestRejected
from async_triggers.engine.jobs import JobState
from async_triggers.engine.times import parse_time

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.lineage.facets import Lineage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AirbyteJob(RemoteJob):
    """A job of Airbyte."""

    api_version: str = "v1"

    trigger = "async_triggers.airbyte.triggers.AirbyteSyncTrigger"

    def problem(self) -> str | None:
        """Say why the id cannot be one, None where it may be."""
        job_id = self.job_id.strip()
        if job_id.isascii() and job_id.isdecimal():
            return None

        return f"job_id is {self.job_id!r}: give the number of the job"

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the job's connection."""
        return AirbyteHook(self.conn_id, self.api_version, address=self.address)

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request the job once."""
        seen = await self.make_hook().get_job(leased, self.job_id)
        return replace(seen, job=replace(seen.job, url=self.url))

    async def cancel(self, leased: LeasedAccount) -> Self:
        """Cancel the job, if it is still this one that runs."""
        await self.make_hook().stop_job(leased, self.job_id)
        return self

    async def complete(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Add the job's address, which its row does not hold.

        One that is not known is worth a request where people will want to see the job.
        """
        url = self.url
        if not url and job.state is not JobState.SUCCEEDED:
            url = await address_of_job(self.make_hook(), leased, job)

        return replace(job, url=url)

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return what the job's connection reads and loads; a reset moves nothing."""
        connection_id = job.statistics.get("connection_id")
        if job.statistics.get("job_type") != "sync" or not connection_id:
            return await super().lineage_of(leased, job)

        return await gather(leased, job, [str(connection_id)])

    def result(self, job: Job | None) -> int:
        """Return the job's id."""
        return int(self.job_id)


async def address_of_job(hook: AirbyteHook, leased: LeasedAccount, job: Job) -> str:
    """Return where the web interface shows a job, for which its connection is requested.

    Empty where that is not to be learnt: the job matters more than its address.
    """
    connection_id = job.statistics.get("connection_id")
    if not isinstance(connection_id, str) or not connection_id:
        return ""

    try:
        workspace = await hook.workspace_of(leased, connection_id)
    except EngineError as error:
        log.info("The address of job %s is not known: %s", job.id, error.message)
        return ""

    return addresses.job_url(leased.account.ui_url, workspace, connection_id, job.id)


@dataclass(frozen=True, kw_only=True)
class AirbyteJobRequest(JobRequest):
    """A job of an Airbyte connection that is to be started.

    The connection is ``connection_id``, or what the names stand for.
    """

    connection_id: str | None = None
    connection_name: str | None = None
    workspace_name: str | None = None
    workspace_id: str | None = None
    found_id: str = ""
    job_type: str = "sync"
    api_version: str = "v1"

    start_grace = requests.START_GRACE

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the request's connection."""
        return AirbyteHook(self.conn_id, self.api_version, address=self.address)

    def describe(self) -> Mapping[str, Any]:
        """Return what is requested."""
        request = {"connection_id": self.connection_id, "job_type": self.job_type}
        if self.connection_id:
            return request

        return {**request, **{name: getattr(self, name) for name in NAMES}}

    def job(self, job_id: str, *, owned: bool, url: str = "") -> AirbyteJob:
        """Return a job that this request has led to."""
        return AirbyteJob(
            conn_id=self.conn_id,
            job_id=job_id,
            url=url,
            owned=owned,
            api_version=self.api_version,
            address=self.address,
        )

    async def resolved(self, leased: LeasedAccount) -> Self:
        """Return the request with the id of the connection, found by name if need be."""
        if self.connection_id or self.found_id:
            return self

        found = await self.make_hook().find_connection_id(
            leased,
            self.connection_name or "",
            workspace_name=self.workspace_name or "",
            workspace_id=self.workspace_id or "",
        )
        return replace(self, found_id=found)

    def resuming(self, intent: Intent) -> Self:
        """Return the request for the connection that a start was sent to.

        Its name may belong to another one by now, and a template may render another id.
        """
        return replace(self, found_id=intent.marker) if intent.marker else self

    @property
    def _target(self) -> str:
        """The id of the connection, once the request is resolved."""
        return self.found_id or self.connection_id or ""

    async def before_start(self, leased: LeasedAccount) -> Before:
        """Read the connection, which also shows the server's time."""
        connection, now = await self.make_hook().get_known_connection(
            leased, self._target
        )
        if connection.status and connection.status != "active":
            msg = (
                f"The Airbyte connection {self._target} is {connection.status}:"
                " enable it in Airbyte, nothing was started"
            )
            raise RequestRejected(msg)

        if connection.schedule_type not in {"", "manual"}:
            log.warning(
                "Airbyte also syncs this connection on a schedule (%s): set the schedule"
                " to manual in Airbyte if only this task should start syncs",
                connection.schedule_type,
            )

        # Not by times: that of an answer is a proxy's, and may be seconds or an hour off
        # from that of a job. The ids of jobs only grow.
        newest = [int(seen.job.id) for seen in await self._latest(leased)]
        intent = Intent(
            at=now, baseline=str(max(newest, default=0)), marker=self._target
        )
        return Before(intent=intent)

    async def start(self, leased: LeasedAccount, before: Before) -> Seen:
        """Start the job."""
        hook = self.make_hook()
        seen = await hook.start_job(leased, self._target, self.job_type)
        return await self._linked(leased, seen)

    def was_there_before(self, seen: Seen, intent: Intent) -> bool:
        """Return True if the vendor answered with a job that was queued already.

        A start of a connection whose job is queued answers with that job.
        """
        return int(seen.job.id) <= int(intent.baseline or 0)

    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """Look for the first job that was made after the intent.

        Others may have come after it, but none before it has ended.
        """
        for seen in reversed(await self._latest(leased)):
            is_later = int(seen.job.id) > int(intent.baseline or 0)
            if is_later and seen.job.statistics["job_type"] == self.job_type:
                return await self._linked(leased, seen)

        return None

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Decide by the time and the schedule: a job does not say who has started it."""
        if intent.at is None:
            return False

        connection, now = await self.make_hook().get_airbyte_connection(
            leased, self._target
        )
        is_manual = connection.schedule_type in {"", "manual"}
        return is_manual and intent.is_followed_by(
            parse_time(seen.job.started_at),
            within=requests.START_WINDOW,
            server_now=now,
            now=wall_clock(),
        )

    async def is_settled(self, leased: LeasedAccount, unsettled: Unsettled) -> bool:
        """Decide by when the latest jobs began and ended."""
        latest = await self._latest(leased)
        now = next((seen.at for seen in latest), None)
        if now is None:
            return False

        return unsettled.has_ended(
            [(parse_time(seen.job.started_at), seen.job.ended_at) for seen in latest],
            ahead=now - wall_clock(),
            within=requests.START_WINDOW + self.poll_interval,
        )

    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Return the newest job of the connection that has not ended."""
        for seen in await self._latest(leased):
            if not seen.job.state.is_terminal:
                return await self._linked(leased, seen)

        # Which refuses where there can be none.
        await self.before_start(leased)
        return None

    async def _latest(self, leased: LeasedAccount) -> list[Seen]:
        return await self.make_hook().list_jobs(leased, self._target)

    async def _linked(self, leased: LeasedAccount, seen: Seen) -> Seen:
        """Add the job's address."""
        url = await address_of_job(self.make_hook(), leased, seen.job)
        return replace(seen, job=replace(seen.job, url=url))

    def may_attach(self, job: Job) -> bool:
        """Attach to a sync only: a reset leaves no data behind."""
        return self.job_type == "sync" and job.statistics["job_type"] == "sync"
