"""The next syncs of Airbyte's connections, as a sensor waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, Unpack

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.arguments import ArgumentUnusable, identifier, text
from async_triggers.deferral.ends import EndsJob
from async_triggers.deferral.ends_query import EndsQuery, many
from async_triggers.deferral.ends_trigger import EndsTrigger
from async_triggers.deferral.ids import Ids
from async_triggers.engine.watch import Watch

if TYPE_CHECKING:
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.deferral.trigger import Wait
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

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


@dataclass(frozen=True, kw_only=True)
class AirbyteSyncsQuery(EndsQuery):
    """The first syncs of some connections after a time, or the next."""

    airbyte_conn_id: str
    api_version: str
    connection_id: str | None
    connection_ids: Any

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

    @property
    def targets(self) -> tuple[str, ...]:
        """The connections."""
        if not self.has_many:
            return (identifier("connection_id", self.connection_id),)

        if self.connection_id:
            msg = "Give connection_id or connection_ids, not both"
            raise ArgumentUnusable(msg)

        ids = many("connection_ids", self.connection_ids)
        return tuple(identifier("connection_ids", each) for each in ids)

    @property
    def has_many(self) -> bool:
        """True where a list was given."""
        return self.connection_ids is not None

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
        super().__init__()
        self.targets = targets
        self.since = since
        self.conn_id = conn_id
        self.end_time = end_time
        self.poll_interval = poll_interval
        self.execution_deadline = execution_deadline
        self.many = many
        self.api_version = api_version
        self.address = address
        self.seen_at = seen_at
        self.ending = ending

    def make_job(self) -> AirbyteSyncs:
        """Return the syncs that the arguments name."""
        return AirbyteSyncs(
            conn_id=self.conn_id,
            api_version=self.api_version,
            address=self.address,
            targets=tuple(self.targets),
            since=self.since,
            many=self.many,
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for some syncs."""
        assert isinstance(job, AirbyteSyncs)  # noqa: S101 - its own class says so
        return cls(
            list(job.targets),
            job.since,
            job.conn_id,
            wait["end_time"],
            wait["poll_interval"],
            wait["execution_deadline"],
            many=job.many,
            api_version=job.api_version,
            address=job.address,
            seen_at=wait["seen_at"],
        )
