"""Events when Fivetran syncs finish, no matter what has started them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from async_triggers.deferral.watching import DEFAULT_INTERVAL, EndWatcher
from async_triggers.engine.watch import Watch
from async_triggers.fivetran.api import requests
from async_triggers.fivetran.hooks import FivetranHook

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount

__all__ = ["FivetranSyncFinished"]


class FivetranSyncFinished(EndWatcher):
    """An event for each sync that ends, for :class:`airflow.sdk.AssetWatcher`.

    Fivetran's sync history shows what has ended between two polls. Where it cannot be
    read, the last success and the last failure are all that is known. Which of the syncs
    Airflow has started is not known.

    :param connector_id: the connection in Fivetran
    :param group_id: instead of it, a group: all of its connections
    :param fivetran_conn_id: the Airflow connection
    :param statuses: which ends count: ``success``, ``error``, ``cancelled``. Fivetran
        shows that a sync was cancelled only once a later one has ended
    :param since: a time in ISO 8601, or a datetime: what has ended later counts, for as
        far as the history goes back, which is a week. Without an offset it is in UTC. None
        begins with the first poll
    :param poll_interval: how often to poll, in seconds, at most every 15
    :param own: not for Fivetran, which does not show who has started a sync
    """

    watched = ("connector_id", "group_id")

    def __init__(
        self,
        connector_id: str | None = None,
        group_id: str | None = None,
        *,
        fivetran_conn_id: str = "fivetran_default",
        statuses: Sequence[str] = ("success",),
        since: str | datetime | None = None,
        poll_interval: float = DEFAULT_INTERVAL,
        own: bool | None = None,
    ) -> None:
        super().__init__()
        self.connector_id = connector_id
        self.group_id = group_id
        self.fivetran_conn_id = fivetran_conn_id
        self.take(statuses=statuses, since=since, own=own, poll_interval=poll_interval)

    def make_hook(self) -> FivetranHook:
        """Return the hook of the watcher's connection."""
        return FivetranHook(self.fivetran_conn_id)

    def make_watch(self) -> Watch:
        """Return the connection, or the group."""
        if self.connector_id is not None:
            connector = self.connector_id.strip()
            return Watch(place=("connection_id", connector), subject=connector)

        group = str(self.group_id).strip()
        return Watch(place=("group_id", group), scope=group)

    async def check(self, leased: LeasedAccount) -> None:
        """Request what is watched."""
        hook = self.make_hook()
        if self.connector_id is not None:
            await hook.get_fivetran_connection(leased, self.connector_id.strip())
        else:
            await leased.call(requests.get_group(str(self.group_id).strip()))
