"""Events when Airbyte syncs finish, no matter what has started them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from async_triggers.airbyte.api.vendor import EVERYTHING
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.watching import DEFAULT_INTERVAL, EndWatcher
from async_triggers.engine.errors import JobNotFound
from async_triggers.engine.watch import Watch

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

__all__ = ["AirbyteSyncFinished"]

SYNC = "sync"
DEPRECATED = "deprecated"
"""The status of a connection that was deleted in Airbyte."""


class AirbyteSyncFinished(EndWatcher):
    """An event for each sync that ends, for :class:`airflow.sdk.AssetWatcher`.

    Resets and clears are no syncs. Which of the syncs Airflow has started is not known.

    :param connection_id: the connection in Airbyte
    :param workspace_id: instead of it, a workspace: all of its connections
    :param airbyte_conn_id: the Airflow connection
    :param statuses: which ends count: ``success``, ``error``, ``cancelled``
    :param since: a time in ISO 8601, or a datetime: what has ended later counts. Without
        an offset it is in UTC. None begins with the first poll
    :param poll_interval: how often to poll, in seconds, at most every 5
    :param api_version: the version in the API's path, where the connection's host does
        not say it
    :param own: not for Airbyte, which does not show who has started a sync
    """

    watched = ("connection_id", "workspace_id")

    def __init__(
        self,
        connection_id: str | None = None,
        workspace_id: str | None = None,
        *,
        airbyte_conn_id: str = "airbyte_default",
        statuses: Sequence[str] = ("success",),
        since: str | datetime | None = None,
        poll_interval: float = DEFAULT_INTERVAL,
        api_version: str = "v1",
        own: bool | None = None,
    ) -> None:
        super().__init__()
        self.connection_id = connection_id
        self.workspace_id = workspace_id
        self.airbyte_conn_id = airbyte_conn_id
        self.api_version = api_version
        self.take(statuses=statuses, since=since, own=own, poll_interval=poll_interval)

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the watcher's connection."""
        return AirbyteHook(self.airbyte_conn_id, self.api_version)

    def make_watch(self) -> Watch:
        """Return the connection; a job does not show its workspace."""
        if self.connection_id is None:
            return Watch(place=EVERYTHING)

        return Watch(place=("connection_id", self.connection_id.strip()))

    def is_wanted(self, job: Job) -> bool:
        """Return whether it is a sync that has ended as wanted."""
        return job.statistics.get("job_type") == SYNC and super().is_wanted(job)

    def target_of(self, job: Job) -> str:
        """Return the id of the connection that a job has synced."""
        return str(job.statistics.get("connection_id"))

    async def belongs(self, leased: LeasedAccount, target: str) -> bool:
        """Return whether a connection is in the workspace: one request for each."""
        if self.workspace_id is None:
            return True

        workspace = await self.make_hook().workspace_of(leased, target)
        return workspace == self.workspace_id.strip()

    async def check(self, leased: LeasedAccount) -> None:
        """Request the connection; nothing needs to be known of a workspace."""
        if self.connection_id is None:
            return

        hook = self.make_hook()
        connection, _ = await hook.get_airbyte_connection(leased, self.connection_id)
        if connection.status == DEPRECATED:
            msg = f"Connection {connection.id} was deleted in Airbyte"
            raise JobNotFound(msg)
