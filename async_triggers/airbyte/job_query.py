"""Which Airbyte job a sensor waits for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.naming import CONNECTION, NAMES, check_one_way
from async_triggers.airbyte.remote_job import AirbyteJob, address_of_job
from async_triggers.deferral.arguments import ArgumentUnusable, text, whole_number
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.job_query import JobQuery
from async_triggers.deferral.stored import NOT_STORED

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AirbyteJobQuery(JobQuery):
    """An Airbyte job, or the newest sync of a connection.

    ``found`` is the job that was found and its address, with a blank between; ``job_url``
    is the address, as soon as it is known.
    """

    airbyte_job_id: int | str | None
    airbyte_conn_id: str
    api_version: str
    connection_id: str | None
    connection_name: str | None
    workspace_name: str | None
    workspace_id: str | None
    deferrable: bool
    job_url: str = field(default="", metadata=NOT_STORED)

    ids = Ids(
        required={"airbyte_conn_id": text},
        optional={"airbyte_job_id": whole_number, **CONNECTION},
        either=(("airbyte_job_id",), ("connection_id",), ("connection_name",)),
        hint="Give airbyte_job_id, connection_id or connection_name",
    )
    template_fields = ("airbyte_job_id", "airbyte_conn_id", "connection_id", *NAMES)

    def check(self) -> None:
        """Raise ArgumentUnusable where the job is given in more than one way."""
        check_one_way(self)
        if self.airbyte_job_id is not None and self._is_named:
            msg = "Give airbyte_job_id or a connection, not both"
            raise ArgumentUnusable(msg)

    @property
    def _is_named(self) -> bool:
        return any(getattr(self, name) for name in CONNECTION)

    @property
    def keeps_found(self) -> bool:
        """True where a connection is given: its newest sync is found once."""
        return self.airbyte_job_id is None and self._is_named

    @property
    def waits_unseen(self) -> bool:
        """Only where the job is known."""
        return not self.keeps_found or bool(self.found)

    def recalling(self, found: str) -> Self:
        """Return the query with the job that was found before."""
        return replace(self, found=found, job_url=found.partition(" ")[2])

    @property
    def _job_id(self) -> int:
        given = self.found.partition(" ")[0] if self.keeps_found else None
        return whole_number("airbyte_job_id", given or self.airbyte_job_id)

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the query's connection."""
        return AirbyteHook(self.airbyte_conn_id, self.api_version, address=self.address)

    async def look(self, leased: LeasedAccount) -> tuple[Self, Seen]:
        """Request the job, which the first look has to find where it is not given."""
        hook, query = self.make_hook(), self
        if self.waits_unseen:
            seen = await hook.get_job(leased, self._job_id)
            # Of a job that goes on, once: before the sensor is deferred.
            is_wanted = seen.job.state.is_terminal or self.deferrable
            if is_wanted and not self.job_url:
                url = await address_of_job(hook, leased, seen.job)
                query = replace(self, job_url=url)
        else:
            connection_id = self.connection_id or await hook.find_connection_id(
                leased,
                self.connection_name or "",
                workspace_name=self.workspace_name or "",
                workspace_id=self.workspace_id or "",
            )
            seen = await hook.newest_sync(leased, connection_id)
            url = await address_of_job(hook, leased, seen.job)
            query = self.recalling(f"{seen.job.id} {url}".strip())
            log.info(
                "%s is the newest sync of connection %s: waiting for it",
                seen.job.title,
                connection_id,
            )

        return query, replace(seen, job=replace(seen.job, url=query.job_url))

    def job(self, shown: Job | None) -> AirbyteJob:
        """Return the job to wait for."""
        return AirbyteJob(
            conn_id=self.airbyte_conn_id,
            job_id=str(self._job_id),
            url=self.job_url,
            api_version=self.api_version,
            address=self.address,
        )
