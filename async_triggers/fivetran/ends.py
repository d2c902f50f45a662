"""The next syncs of Fivetran's connections, as a sensor waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.arguments import text
from async_triggers.deferral.ends import EndsJob
from async_triggers.deferral.ends_query import EndsQuery, many
from async_triggers.deferral.ends_trigger import EndsTrigger
from async_triggers.deferral.ids import Ids
from async_triggers.engine.watch import Watch
from async_triggers.fivetran.api.ends import last_ends
from async_triggers.fivetran.gathering import gather
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.naming import connector

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.lineage.facets import Lineage


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

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return what the connections read and load."""
        return await gather(self.make_hook(), leased, job, self.targets)


@dataclass(frozen=True, kw_only=True)
class FivetranSyncsQuery(EndsQuery):
    """The first syncs of some connections after a time, or the next."""

    fivetran_conn_id: str
    connector_id: str | None
    connector_ids: Any

    one = "connector_id"
    several = "connector_ids"
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

    @staticmethod
    def read_target(name: str, value: object) -> str:
        """Read the id of a connection, or raise ArgumentUnusable."""
        return connector(name, value)

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

    job_class = FivetranSyncs
