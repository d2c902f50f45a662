"""The watcher of a vendor whose jobs are started of one kind of thing, such as a route."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from async_triggers.deferral.watching import DEFAULT_INTERVAL, EndWatcher
from async_triggers.engine.watch import Watch

if TYPE_CHECKING:
    from async_triggers.deferral.plain_hook import PlainHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Request


class PlainWatcher(EndWatcher):
    """Yields an event for each job of a target that ends, no matter what started it.

    For :class:`airflow.sdk.AssetWatcher`. The vendor's
    :meth:`~async_triggers.engine.wire.Vendor.places` names the target of a row, and one of
    its sources is a feed or a list.

    :param target: the vendor's id of what jobs are started of
    :param conn_id: the Airflow connection, the hook's default where it is empty
    :param statuses: which ends count: ``success``, ``error``, ``cancelled``
    :param since: a time in ISO 8601, or a datetime: what has ended later counts. Without
        an offset it is in UTC. None begins with the first poll
    :param poll_interval: how often to poll, in seconds
    :param own: not for these, which do not show who started a job
    """

    watched = ("target",)

    hook_class: ClassVar[type[PlainHook]]
    place: ClassVar[str]
    """What the vendor's ``places`` call the target."""

    def __init__(
        self,
        target: str,
        conn_id: str = "",
        *,
        statuses: Sequence[str] = ("success",),
        since: str | datetime | None = None,
        poll_interval: float = DEFAULT_INTERVAL,
        own: bool | None = None,
    ) -> None:
        super().__init__()
        self.target = target
        self.conn_id = conn_id or self.hook_class.default_conn_name
        self.take(statuses=statuses, since=since, own=own, poll_interval=poll_interval)

    @property
    def subject(self) -> str:
        """What is watched, in words."""
        return f"{self.place} {self.target}"

    def make_hook(self) -> PlainHook:
        """Return the hook of the watcher's connection."""
        return self.hook_class(self.conn_id)

    def make_watch(self) -> Watch:
        """Return the target."""
        return Watch(place=(self.place, str(self.target).strip()))

    def find(self) -> Request | None:
        """Return a request that is refused where the target does not exist.

        None where there is none: then nothing warns of a target that was deleted.
        """
        return None

    async def check(self, leased: LeasedAccount) -> None:
        """Request the target."""
        request = self.find()
        if request is not None:
            await leased.call(request)
