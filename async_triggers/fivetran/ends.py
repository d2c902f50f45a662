"""The next syncs of Fivetran's connections, as a sensor waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, Unpack

from async_triggers.deferral.arguments import ArgumentUnusable, text
from async_triggers.deferral.ends import EndsJob
from async_triggers.deferral.ends_query import EndsQuery, many
from async_triggers.deferral.ends_trigger import EndsTrigger
from async_triggers.deferral.ids import Ids
from async_triggers.engine.watch import Watch
from async_triggers.fivetran.api.ends import last_ends
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.naming import connector

if TYPE_CHECKING:
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.deferral.trigger import Wait
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job


@dataclass(frozen=True, kw_only=True)
class FivetranSyncs(EndsJob):
    """The next syncs of some connections."""

    trigger = "async_triggers.fivetran.ends.FivetranSyncsTrigger"

    def name_targets(self) -> str:
        """Name the connections."""
        if len(self.targets) == 1:
            return f"the sync of connection {self.targets[0]}"

        return f"the syncs of connections {', '.join(self.targets)}"

    def make_hook(self) -> FivetranHook:
        """Return the hook of the connection to Fivetran."""
        return FivetranHook(self.conn_id)

    def watch_of(self, target: str) -> Watch:
        """Return a connection, as the poller watches it."""
        return Watch(place=("connection_id", target), subject=target)

    async def newest(
        self, leased: LeasedAccount, target: str
    ) -> tuple[Sequence[Job], float | None]:
        """Request a connection, whose row shows its last success and its last failure."""
        hook = self.make_hook()
        connection, at = await hook.get_fivetran_connection(leased, target)
        return [end.job for end in reversed(last_ends(connection))], at


@dataclass(frozen=True, kw_only=True)
class FivetranSyncsQuery(EndsQuery):
    """The first syncs of some connections after a time, or the next."""

    fivetran_conn_id: str
    connector_id: str | None
    connector_ids: Any

    ids = Ids(
        required={"fivetran_conn_id": text},
        optional={"connector_id": connector, "connector_ids": many},
        either=(("connector_id",), ("connector_ids",)),
        hint="Give connector_id or connector_ids",
    )
    template_fields = (
        "connector_id",
        "connector_ids",
        "completed_after_time",
        "fivetran_conn_id",
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """The connections."""
        if not self.has_many:
            return (connector("connector_id", self.connector_id),)

        if self.connector_id:
            msg = "Give connector_id or connector_ids, not both"
            raise ArgumentUnusable(msg)

        ids = many("connector_ids", self.connector_ids)
        return tuple(connector("connector_ids", each) for each in ids)

    @property
    def has_many(self) -> bool:
        """True where a list was given."""
        return self.connector_ids is not None

    def make_hook(self) -> FivetranHook:
        """Return the hook of the query's connection."""
        return FivetranHook(self.fivetran_conn_id)

    def make_job(self, since: float) -> FivetranSyncs:
        """Return the syncs of which an end counts after a time."""
        return FivetranSyncs(
            conn_id=self.fivetran_conn_id,
            targets=self.targets,
            since=since,
            many=self.has_many,
        )


class FivetranSyncsTrigger(EndsTrigger):
    """Yields one event when connections have synced, or one of them has failed to.

    :param targets: the connections
    :param since: the server's time in epoch seconds after which an end counts
    :param conn_id: the Airflow connection
    :param end_time: the deadline in epoch seconds, None for none
    :param poll_interval: how often to poll, in seconds
    :param execution_deadline: the deadline that ``execution_timeout`` sets
    :param many: whether a list of ids is returned, also of one
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
        self.seen_at = seen_at
        self.ending = ending

    def make_job(self) -> FivetranSyncs:
        """Return the syncs that the arguments name."""
        return FivetranSyncs(
            conn_id=self.conn_id,
            targets=tuple(self.targets),
            since=self.since,
            many=self.many,
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for some syncs."""
        assert isinstance(job, FivetranSyncs)  # noqa: S101 - its own class says so
        return cls(
            list(job.targets),
            job.since,
            job.conn_id,
            wait["end_time"],
            wait["poll_interval"],
            wait["execution_deadline"],
            many=job.many,
            seen_at=wait["seen_at"],
        )
