"""The calls of the other provider's hooks, for tasks and scripts that make them by hand."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.after import read_after
from async_triggers.deferral.arguments import (
    ArgumentUnusable,
    identifier,
    one_of,
    text,
)
from async_triggers.deferral.errors import JobFailed, VendorRefused
from async_triggers.deferral.hook import VendorHook, wall_clock
from async_triggers.deferral.paging import list_rows
from async_triggers.engine.times import format_time, parse_time
from async_triggers.engine.wording import spaced, with_url
from async_triggers.fivetran.api import models, replies, requests
from async_triggers.fivetran.naming import SCHEDULE_TYPES

if TYPE_CHECKING:
    import pendulum

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Reply, Request, Row

METADATA = ("tables", "columns")
RESTART_MARGIN = 60.0
"""Seconds after the time that Fivetran names, at which a sync is started again."""


class CallsByHand(VendorHook):
    """The calls that block, over requests that :class:`FivetranHook` sends.

    An answer is returned as Fivetran gives it, as a dict. All errors are subclasses of
    ``AirflowException``; an argument that cannot be used is a ``ValueError`` as well.
    """

    # Those who build addresses themselves take them from here.
    api_protocol = "https"
    api_host = "api.fivetran.com"
    api_path_connectors = "v1/connectors/"
    api_metadata_path_connectors = "v1/metadata/connectors/"
    api_path_destinations = "v1/destinations/"
    api_path_groups = "v1/groups/"

    @abstractmethod
    async def send(self, leased: LeasedAccount, request: Request) -> Reply:
        """Send a request, as often as the hook says."""

    @abstractmethod
    async def start_sync(
        self, leased: LeasedAccount, connector_id: str, *, force: bool = False
    ) -> float | None:
        """Start a sync; return the server's time of the answer."""

    async def _data(self, leased: LeasedAccount, request: Request) -> dict[str, Any]:
        return replies.read_data(request, await self.send(leased, request))

    def _get(self, request: Request) -> dict[str, Any]:
        return self.run(lambda leased: self._data(leased, request))

    def _list(self, first: Request) -> Iterator[dict[str, Any]]:
        async def read(leased: LeasedAccount) -> list[Row]:
            return await list_rows(
                first, lambda request: self.send(leased, request), replies.read_items
            )

        return (dict(row) for row in self.run(read))

    # What there is ----------------------------------------------------------------

    def get_connector(self, connector_id: str) -> dict[str, Any]:
        """Return a connection."""
        return self._get(requests.get_connection(_id("connector_id", connector_id)))

    def get_connector_schemas(self, connector_id: str) -> dict[str, Any]:
        """Return the schemas and tables of a connection."""
        return self._get(requests.get_schemas(_id("connector_id", connector_id)))

    def get_metadata(self, connector_id: str, metadata: str) -> dict[str, Any]:
        """Return what Fivetran knows of a connection's ``tables`` or ``columns``."""
        one_of("metadata", metadata, METADATA)
        return self._get(
            requests.get_metadata(_id("connector_id", connector_id), metadata)
        )

    def get_destinations(self, group_id: str) -> dict[str, Any]:
        """Return the destination of a group."""
        return self._get(requests.get_destination(_id("group_id", group_id)))

    def get_groups(
        self, group_id: str = ""
    ) -> Iterator[dict[str, Any]] | dict[str, Any]:
        """Return one group, or an iterator over all of them."""
        if group_id:
            return self._get(requests.get_group(group_id))

        return self._list(requests.list_groups())

    def get_connectors(self, group_id: str) -> Iterator[dict[str, Any]]:
        """Return an iterator over the connections of a group."""
        return self._list(requests.list_connections(_id("group_id", group_id)))

    def get_connector_id(self, connector_name: str, destination_name: str) -> str:
        """Return the id of the one connection of that name in that destination.

        Raise :class:`~async_triggers.deferral.arguments.ArgumentUnusable` unless there is
        exactly one.
        """
        text("connector_name", connector_name)
        text("destination_name", destination_name)
        try:
            return self.run(
                lambda leased: self.find_connector_id(
                    leased, connector_name, destination_name
                )
            )
        except VendorRefused as error:
            if error.cause is None or error.cause.status is not None:
                raise

            failure = ArgumentUnusable(str(error))

        raise failure

    @abstractmethod
    async def find_connector_id(
        self, leased: LeasedAccount, connector_name: str, destination_name: str
    ) -> str:
        """Find a connection by its name and the name of its destination."""

    # Before a sync ----------------------------------------------------------------

    def test_connector(self, connector_id: str) -> dict[str, Any]:
        """Run the setup tests of a connection, and return it as they left it."""
        return self._get(requests.run_setup_tests(_id("connector_id", connector_id)))

    def check_connector(self, connector_id: str) -> dict[str, Any]:
        """Return a connection that is set up; else run its setup tests first.

        Raise :class:`~async_triggers.deferral.errors.VendorRefused` if they fail as well.
        """
        _id("connector_id", connector_id)
        return self.run(lambda leased: self._checked(leased, connector_id))

    async def _checked(
        self, leased: LeasedAccount, connector_id: str
    ) -> dict[str, Any]:
        row = await self._data(leased, requests.get_connection(connector_id))
        if not models.is_set_up(replies.read_connection(row)):
            row = await self._data(leased, requests.run_setup_tests(connector_id))
            models.refuse_unless_set_up(replies.read_connection(row))
            self.log.info("Connection %s has passed its setup tests", connector_id)

        return row

    def set_schedule_type(
        self, connector_id: str, schedule_type: str
    ) -> dict[str, Any]:
        """Set what starts a connection's syncs: ``auto`` (its schedule) or ``manual``."""
        _id("connector_id", connector_id)
        one_of("schedule_type", schedule_type, SCHEDULE_TYPES)
        return self.run(
            lambda leased: self.change_schedule_type(
                leased, connector_id, schedule_type
            )
        )

    @abstractmethod
    async def change_schedule_type(
        self, leased: LeasedAccount, connector_id: str, schedule_type: str
    ) -> dict[str, Any]:
        """Set what starts a connection's syncs, and return the answer."""

    def prep_connector(self, connector_id: str, schedule_type: str) -> None:
        """Check a connection as :meth:`check_connector`, and set its schedule type."""
        _id("connector_id", connector_id)
        one_of("schedule_type", schedule_type, SCHEDULE_TYPES)

        async def prepare(leased: LeasedAccount) -> None:
            row = await self._checked(leased, connector_id)
            if row.get("schedule_type") != schedule_type:
                await self.change_schedule_type(leased, connector_id, schedule_type)

        self.run(prepare)

    # The sync ---------------------------------------------------------------------

    def start_fivetran_sync(
        self,
        connector_id: str,
        mode: str = "sync",
        payload: dict[str, Any] | None = None,
    ) -> str:
        """Start a sync, or a re-sync with ``mode="resync"``; un-pause the connection.

        Return when the connection had last ended a sync, in ISO 8601; where it never had,
        the server's time before the start. The ``scope`` of ``payload`` names the tables of
        a re-sync. A sync that is under way is not stopped, and no other follows it.
        """
        _id("connector_id", connector_id)
        one_of("mode", mode, ("sync", "resync"))
        if payload and mode != "resync":
            msg = "payload needs mode='resync': it names the tables of a re-sync"
            raise ArgumentUnusable(msg)

        return self.run(
            lambda leased: self._start_anyhow(leased, connector_id, mode, payload)
        )

    async def _start_anyhow(
        self,
        leased: LeasedAccount,
        connector_id: str,
        mode: str,
        payload: dict[str, Any] | None,
    ) -> str:
        request = requests.get_connection(connector_id)
        reply = await self.send(leased, request)
        connection = replies.read_connection(replies.read_data(request, reply))
        if connection.paused:
            await self.set_paused(leased, connector_id, paused=False)

        if mode == "resync":
            scope = (payload or {}).get("scope")
            await self.start_resync(leased, connector_id, scope)
        else:
            await self.start_sync(leased, connector_id)

        before = connection.run().before
        return before or format_time(reply.date or wall_clock())

    @abstractmethod
    async def set_paused(
        self, leased: LeasedAccount, connector_id: str, *, paused: bool
    ) -> None:
        """Pause or un-pause a connection."""

    @abstractmethod
    async def start_resync(
        self, leased: LeasedAccount, connector_id: str, scope: Any = None
    ) -> float | None:
        """Start a historical re-sync."""

    def get_last_sync(self, connector_id: str, xcom: str = "") -> pendulum.DateTime:
        """Return when a connection last ended a sync, well or not.

        A time before 1970 where it never has. ``xcom`` is deprecated: a text to read the
        time from.
        """
        if xcom:
            _deprecated("xcom", "the time itself")
            return _moment(xcom)

        return _last_sync(self.get_connector(connector_id))

    def get_sync_status(
        self,
        connector_id: str,
        previous_completed_at: datetime | str,
        reschedule_time: int | None = None,
    ) -> bool:
        """Do as :meth:`is_synced_after_target_time` does, which is the newer name."""
        _deprecated("get_sync_status()", "is_synced_after_target_time()")
        return self.is_synced_after_target_time(
            connector_id,
            previous_completed_at,
            reschedule_time,
            propagate_failures_forward=False,
        )

    def is_synced_after_target_time(
        self,
        connector_id: str,
        completed_after_time: datetime | str,
        reschedule_wait_time: int | None = None,
        always_wait_when_syncing: bool = False,
        propagate_failures_forward: bool = True,
    ) -> bool:
        """Return True if a connection has succeeded in a sync after a time.

        The time may be a text, such as what :meth:`start_fivetran_sync` returns.
        Raise :class:`~async_triggers.deferral.errors.JobFailed` if it has failed after
        that time; with ``propagate_failures_forward`` also if it had failed before. With
        ``always_wait_when_syncing`` return False while it is syncing, even if a sync has
        ended. A sync that Fivetran has put off is started again, see
        :meth:`pause_and_restart`, where the schedule is manual.
        """
        _id("connector_id", connector_id)
        since = _since(completed_after_time)
        return self.run(
            lambda leased: self._is_synced(
                leased,
                connector_id,
                since,
                reschedule_wait_time,
                always_wait=always_wait_when_syncing,
                strict=propagate_failures_forward,
            )
        )

    async def _is_synced(
        self,
        leased: LeasedAccount,
        connector_id: str,
        since: str,
        wait: float | None,
        *,
        always_wait: bool,
        strict: bool,
    ) -> bool:
        row = await self._data(leased, requests.get_connection(connector_id))
        connection = replies.read_connection(row)
        self.log.info("Connection %s is %s", connector_id, connection.sync_state)
        if always_wait and connection.sync_state == models.SYNCING:
            return False

        if models.is_later(connection.succeeded_at, since):
            return True

        failed = connection.failed_at
        has_failed = models.is_later(failed, since)
        had_failed = strict and models.is_later(failed, connection.succeeded_at)
        if has_failed or had_failed:
            reason = "; ".join(connection.tasks) or "Fivetran reports a failure"
            words = f"The sync of {connector_id} failed at {failed}: {spaced(reason)}"
            raise JobFailed(with_url(words, models.dashboard_url(connector_id)))

        is_put_off = connection.sync_state == models.RESCHEDULED
        if is_put_off and connection.schedule_type == models.MANUAL:
            await self._start_again(
                leased, connector_id, connection.rescheduled_for, wait
            )

        return False

    def pause_and_restart(
        self,
        connector_id: str,
        reschedule_for: str,
        reschedule_wait_time: int | None = None,
        *,
        reschedule_time: int | None = None,
    ) -> str:
        """Wait, and start a sync again that Fivetran has put off.

        For ``reschedule_wait_time`` seconds; if that is None, until a minute after
        ``reschedule_for``. Return what :meth:`start_fivetran_sync` does.
        """
        if reschedule_time is not None:
            _deprecated("reschedule_time", "reschedule_wait_time")
            if reschedule_wait_time is None:
                reschedule_wait_time = reschedule_time

        _id("connector_id", connector_id)
        return self.run(
            lambda leased: self._start_again(
                leased, connector_id, reschedule_for, reschedule_wait_time
            )
        )

    async def _start_again(
        self,
        leased: LeasedAccount,
        connector_id: str,
        until: str | None,
        wait: float | None,
    ) -> str:
        if wait is None:
            moment = parse_time(until)
            if moment is None:
                msg = f"reschedule_for must be a time in ISO 8601, not {until!r}"
                raise ArgumentUnusable(msg)

            wait = max(0.0, moment + RESTART_MARGIN - wall_clock())

        self.log.info(
            "Fivetran has put the sync of %s off; it is started again in %.0f s",
            connector_id,
            wait,
        )
        await asyncio.sleep(wait)
        return await self._start_anyhow(leased, connector_id, "sync", None)


class AsyncCallsByHand(CallsByHand):
    """The same from a running loop, such as a trigger's; nothing of it blocks."""

    async def get_connector_async(self, connector_id: str) -> dict[str, Any]:
        """Return a connection."""
        request = requests.get_connection(_id("connector_id", connector_id))
        return await self.run_async(lambda leased: self._data(leased, request))

    async def get_sync_status_async(
        self,
        connector_id: str,
        previous_completed_at: datetime | str,
        reschedule_wait_time: int | None = None,
    ) -> str:
        """Do as :meth:`is_synced_after_target_time_async`, which is the newer name."""
        _deprecated("get_sync_status_async()", "is_synced_after_target_time_async()")
        return await self.is_synced_after_target_time_async(
            connector_id,
            previous_completed_at,
            reschedule_wait_time,
            propagate_failures_forward=False,
        )

    async def is_synced_after_target_time_async(
        self,
        connector_id: str,
        completed_after_time: datetime | str,
        reschedule_wait_time: int | None = None,
        always_wait_when_syncing: bool = False,
        propagate_failures_forward: bool = True,
    ) -> str:
        """Return ``success`` or ``pending``, see :meth:`is_synced_after_target_time`."""
        _id("connector_id", connector_id)
        since = _since(completed_after_time)
        is_synced = await self.run_async(
            lambda leased: self._is_synced(
                leased,
                connector_id,
                since,
                reschedule_wait_time,
                always_wait=always_wait_when_syncing,
                strict=propagate_failures_forward,
            )
        )
        return "success" if is_synced else "pending"

    async def get_last_sync_async(
        self, connector_id: str, xcom: str = ""
    ) -> pendulum.DateTime:
        """Return when a connection last ended a sync, see :meth:`get_last_sync`."""
        if xcom:
            return _moment(xcom)

        return _last_sync(await self.get_connector_async(connector_id))


def _id(name: str, value: object) -> str:
    return identifier(name, value)


def _since(after: object) -> str:
    moment = None
    with contextlib.suppress(ArgumentUnusable):
        moment = read_after(after)

    if moment is None:
        msg = (
            "completed_after_time must be a time, such as 2026-01-01T00:00:00Z or what"
            f" start_fivetran_sync() returns, not {after!r:.100}"
        )
        raise ArgumentUnusable(msg)

    return moment.isoformat()


def _last_sync(row: Row) -> pendulum.DateTime:
    return _moment(replies.read_connection(row).run().before)


def _moment(given: str | None) -> pendulum.DateTime:
    # What reads a DAG file need not load it.
    import pendulum  # noqa: PLC0415

    seconds = -1.0 if given is None else parse_time(given)
    if seconds is None:
        msg = f"{given!r} is not a time in ISO 8601"
        raise ArgumentUnusable(msg)

    return pendulum.from_timestamp(seconds)


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated: use {new}", FutureWarning, stacklevel=3)
