"""The next syncs of Airbyte's connections, as a sensor waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.gathering import gather
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.remote_job import address_of_job
from async_triggers.deferral.arguments import identifier, text
from async_triggers.deferral.ends import EndsJob
from async_triggers.deferral.ends_query import EndsQuery, many
from async_triggers.deferral.ends_trigger import EndsTrigger
from async_triggers.deferral.ids import Ids
from async_triggers.engine.jobs import JobState
from async_triggers.engine.watch import Watch

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.lineage.facets import Lineage

NEWEST = 20
"""How many of a connection's newest syncs a look shows."""


@dataclass(frozen=True, kw_only=True)
class AirbyteSyncs(EndsJob):
    """The next syncs of some connections."""

    api_version: str = "v1"

    trigger = "async_triggers.airbyte.ends.AirbyteSyncsTrigger"

    def name_targets(self) -> str:
        """Name the connections."""
        if len(self.targets) == 1:
            return f"the sync of connection {self.targets[0]}"

        return f"the syncs of connections {', '.join(self.targets)}"

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the connection to Airbyte."""
        return AirbyteHook(self.conn_id, self.api_version, address=self.address)

    def read_id(self, job_id: str) -> int:
        """Return the id of a job as a number."""
        return int(job_id)

    def watch_of(self, target: str) -> Watch:
        """Return a connection, as the poller watches it."""
        return Watch(place=("connection_id", target))

    def counts(self, job: Job) -> bool:
        """Return whether a job is a sync."""
        return job.statistics.get("job_type") == "sync"

    async def newest(
        self, leased: LeasedAccount, target: str
    ) -> tuple[Sequence[Job], float | None]:
        """Request the newest syncs of a connection, or itself where there are none."""
        hook = self.make_hook()
        seen = await hook.list_jobs(leased, target, NEWEST, job_type="sync")
        if seen:
            return [each.job for each in seen], seen[0].at

        _, at = await hook.get_known_connection(leased, target)
        return (), at

    async def complete(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Add the address of the sync that has failed, which its row does not hold."""
        if job.url or job.state is JobState.SUCCEEDED or len(self.targets) > 1:
            return job

        failed = replace(job, id=str(job.statistics[self.targets[0]]))
        url = await address_of_job(self.make_hook(), leased, failed)
        return replace(job, url=url)

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return what the connections read and load."""
        return await gather(leased, job, self.targets)


@dataclass(frozen=True, kw_only=True)
class AirbyteSyncsQuery(EndsQuery):
    """The first syncs of some connections after a time, or the next."""

    airbyte_conn_id: str
    api_version: str
    connection_id: str | None
    connection_ids: Any

    one = "connection_id"
    several = "connection_ids"
    ids = Ids(
        required={"airbyte_conn_id": text},
        optional={"connection_id": identifier, "connection_ids": many},
        either=(("connection_id",), ("connection_ids",)),
        hint="Give connection_id or connection_ids",
    )
    template_fields = (
        "connection_id",
        "connection_ids",
        "completed_after_time",
        "airbyte_conn_id",
    )

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the query's connection."""
        return AirbyteHook(self.airbyte_conn_id, self.api_version, address=self.address)

    def make_job(self, since: float) -> AirbyteSyncs:
        """Return the syncs of which an end counts after a time."""
        return AirbyteSyncs(
            conn_id=self.airbyte_conn_id,
            api_version=self.api_version,
            address=self.address,
            targets=self.targets,
            since=since,
            many=self.has_many,
        )


class AirbyteSyncsTrigger(EndsTrigger):
    """Yields one event when connections have synced, or one of them has failed to.

    :param targets: the connections
    :param since: the server's time in epoch seconds after which an end counts
    :param conn_id: the Airflow connection
    :param end_time: the deadline in epoch seconds, None for none
    :param poll_interval: how often to poll, in seconds
    :param execution_deadline: the deadline that ``execution_timeout`` sets
    :param many: whether a list of ids is returned, also of one
    :param api_version: the version in the API's path
    :param address: the hash of the address at which the API was found
    :param seen_at: the server's time of the last look, in epoch seconds
    :param ending: how the trigger ends its task; None to resume it
    """

    job_class = AirbyteSyncs
    own_arguments = ("api_version", "address")

    def __init__(
        self,
        targets: Sequence[str],
        since: float,
        conn_id: str,
        end_time: float | None,
        poll_interval: float,
        execution_deadline: float | None = None,
        *,
        many: bool = False,
        api_version: str = "v1",
        address: str = "",
        seen_at: float | None = None,
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            targets,
            since,
            conn_id,
            end_time,
            poll_interval,
            execution_deadline,
            many=many,
            seen_at=seen_at,
            ending=ending,
        )
        self.api_version = api_version
        self.address = address
