"""Reads an Airflow connection to Fivetran, and makes the calls that people make by hand."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from async_triggers.deferral.hook import (
    VendorHook,
    read_budget,
    read_extra,
    read_route,
)
from async_triggers.engine.errors import (
    AccountMisconfigured,
    EngineError,
    RequestRejected,
    TransientError,
)
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Request,
)
from async_triggers.fivetran import api
from async_triggers.fivetran.api import FIVETRAN

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

API = "https://api.fivetran.com"
STOP_WAIT = 60.0
"""Seconds that a paused connection may take to stop its sync."""

# https://fivetran.com/docs/rest-api/getting-started/rate-limiting: 20,000 requests an hour
# for an account, paid or free; 500 on trial, which the connection's extra can say.
BUDGET = Budget(
    requests=20_000, per=3600.0, share=0.6, polls=8, starts=4, cancels=2, cooldown=300.0
)


class FivetranHook(VendorHook):
    """Fivetran's REST API.

    :param fivetran_conn_id: the Airflow connection
    :param timeout: seconds for one request; else ``timeout`` in the connection's extra,
        else 60
    :param attempts: how often a single call is tried
    """

    conn_name_attr = "fivetran_conn_id"
    default_conn_name = "fivetran_default"
    conn_type = "fivetran"
    hook_name = "Fivetran"

    vendor = FIVETRAN

    def __init__(
        self,
        fivetran_conn_id: str = default_conn_name,
        timeout: float | None = None,
        attempts: int = 4,
    ) -> None:
        super().__init__(fivetran_conn_id)
        self.timeout = timeout
        self.attempts = attempts

    @property
    def key(self) -> tuple[object, ...]:
        """What tells two hooks apart that would read the same connection differently."""
        return (*super().key, self.timeout)

    def read(self, connection: Connection) -> Account:
        """Turn a connection into an account.

        ``login`` and ``password`` are the API key and its secret; a ``password`` alone is
        the key that the dashboard shows in Base64. ``host`` is for tests and proxies of
        one's own. ``extra``:

        - ``trial``: true for a trial account, which has 500 requests an hour
        - ``proxies``, ``timeout``, ``connect_timeout``, ``read_timeout``, ``verify``,
          ``ca_bundle``
        - ``requests_per_minute``, ``share``, ``concurrent_polls``, ``concurrent_starts``
        """
        extra = read_extra(connection)
        if self.timeout is not None:
            extra = {**extra, "timeout": self.timeout}

        budget = replace(BUDGET, requests=500) if extra.get("trial") is True else BUDGET
        return Account(
            vendor=FIVETRAN.name,
            base_url=_base_url(connection.host or "", connection.port),
            credentials=_credentials(connection.login or "", connection.password or ""),
            route=read_route(extra, total=60.0),
            budget=read_budget(extra, budget, "fivetran"),
        )

    # Calls ------------------------------------------------------------------------
    # Each is a coroutine over a leased account; run() makes any of them blocking.

    async def get_fivetran_connection(
        self, leased: LeasedAccount, connector_id: str
    ) -> tuple[api.Connection, float | None]:
        """Return a connection of Fivetran, and the server's time of the answer."""
        request = api.get_connection(connector_id)
        reply = await leased.call(request, attempts=self.attempts)
        return api.read_connection(api.read_data(request, reply)), reply.date

    async def list_fivetran_connections(
        self, leased: LeasedAccount, group_id: str = "", *, name: str = ""
    ) -> list[api.Connection]:
        """Return the connections of the account or of a group, or those of one name."""
        request: Request | None = api.list_connections(group_id, schema=name)
        found: list[api.Connection] = []
        while request is not None:
            rows, following = api.read_items(
                request, await leased.call(request, attempts=self.attempts)
            )
            found += [api.read_connection(row) for row in rows]
            request = following

        return found

    async def find_connector_id(
        self, leased: LeasedAccount, connector_name: str, destination_name: str
    ) -> str:
        """Find a connection by its name and the name of its destination.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` unless there is
        exactly one.
        """
        request: Request | None = api.list_groups()
        groups: list[str] = []
        names: list[str] = []
        while request is not None:
            rows, following = api.read_items(
                request, await leased.call(request, attempts=self.attempts)
            )
            names += [str(row.get("name")) for row in rows]
            groups += [
                str(row["id"]) for row in rows if row.get("name") == destination_name
            ]
            request = following

        if len(groups) != 1:
            msg = (
                f"There are {len(groups)} destinations named {destination_name!r} in"
                f" Fivetran: check destination_name, or give connector_id. There are:"
                f" {', '.join(sorted(names)[:20])}"
            )
            raise RequestRejected(msg)

        known = await self.list_fivetran_connections(leased, groups[0])
        found = [each for each in known if each.schema == connector_name]
        if len(found) != 1:
            seen = ", ".join(sorted(each.schema for each in known)[:20])
            msg = (
                f"There are {len(found)} connections named {connector_name!r} in the"
                f" destination {destination_name!r}: check connector_name, or give"
                f" connector_id. There are: {seen}"
            )
            raise RequestRejected(msg)

        return found[0].id

    async def start_sync(
        self, leased: LeasedAccount, connector_id: str, *, force: bool = False
    ) -> float | None:
        """Start a sync; return the server's time of the answer.

        ``force`` stops a sync that is under way and starts it anew.
        """
        return (await leased.call(api.start_sync(connector_id, force=force))).date

    async def start_resync(
        self,
        leased: LeasedAccount,
        connector_id: str,
        scope: Mapping[str, Sequence[str]] | None = None,
    ) -> float | None:
        """Start a historical re-sync of all, or of the tables that ``scope`` names."""
        return (await leased.call(api.start_resync(connector_id, scope))).date

    async def set_paused(
        self, leased: LeasedAccount, connector_id: str, *, paused: bool
    ) -> None:
        """Pause or un-pause a connection.

        Pausing may answer 500 and yet work, so a failure is looked into before it counts.
        """

        async def change() -> None:
            try:
                await leased.transport.send(
                    api.modify_connection(connector_id, paused=paused)
                )
            except TransientError as error:
                request = api.get_connection(connector_id)
                reply = await leased.transport.send(request)
                shown = api.read_connection(api.read_data(request, reply))
                if shown.paused is not paused:
                    raise error from None

        await leased.persist(change, patience=60.0)

    async def stop_sync(
        self, leased: LeasedAccount, connector_id: str, *, unpause: bool = False
    ) -> None:
        """Stop a sync by pausing its connection; Fivetran has no other way.

        With ``unpause`` the connection is un-paused once the sync has stopped, so that
        its schedule goes on.
        """
        await self.set_paused(leased, connector_id, paused=True)
        loop = asyncio.get_running_loop()
        ends = loop.time() + STOP_WAIT
        while loop.time() < ends:
            shown, _ = await self.get_fivetran_connection(leased, connector_id)
            if shown.sync_state != api.SYNCING:
                break

            await asyncio.sleep(2.0)

        if unpause:
            await self.set_paused(leased, connector_id, paused=False)

    async def set_schedule_type(
        self, leased: LeasedAccount, connector_id: str, schedule_type: str
    ) -> None:
        """Say what starts a connection's syncs: ``auto`` (its schedule) or ``manual``."""
        await leased.call(
            api.modify_connection(connector_id, schedule_type=schedule_type)
        )

    async def look(self, leased: LeasedAccount, run: api.Run) -> Seen:
        """Ask how a run is doing."""
        connection, now = await self.get_fivetran_connection(leased, run.connection_id)
        return Seen(job=api.judge_run(connection, run), at=now)

    async def settle(self, leased: LeasedAccount, job: Job, connector_id: str) -> Job:
        """Add what the sync history tells of an ended run, where there is one.

        The id of the sync, its reason and volumes. An account without the history, or
        trouble with it, leaves the job as it is: its end is known.
        """
        ended = job.ended_at
        if ended is None:
            return job

        request = api.sync_history(
            connector_id,
            since=ended - api.HISTORY_WINDOW + 2 * api.HISTORY_MARGIN,
            until=ended + api.HISTORY_MARGIN,
        )
        try:
            reply = await leased.call(request, attempts=2, patience=5.0)
            record = api.record_of(job, api.read_history(request, reply))
        except EngineError as error:
            self.log.info("The sync history could not be read: %s", error.message)
            return job

        if record is None:
            return job

        return replace(
            job,
            message=record.reason or job.message if job.message else job.message,
            started_at=record.start,
            statistics={
                **job.statistics,
                "sync_id": record.sync_id,
                "sync_start": record.start,
                "sync_end": record.end,
                **record.volumes,
            },
        )

    async def check(self, leased: LeasedAccount) -> str:
        """Ask who we are."""
        request = api.account_info()
        data = api.read_data(request, await leased.call(request, attempts=1))
        name = data.get("account_name") or data.get("account_id") or "an account"
        return f"Fivetran knows these credentials as {name}"


def _base_url(host: str, port: int | None) -> str:
    text = host.strip().rstrip("/")
    if not text:
        return API

    if "://" not in text:
        text = f"https://{text}"

    try:
        parts = urlsplit(text)
        number = parts.port or port
    except ValueError:
        parts, number = urlsplit(""), None

    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"host {host!r} is no URL: leave it empty, or write it as https://host"
        raise AccountMisconfigured(msg)

    if parts.username or parts.password:
        msg = "host holds a user or a password: put them into login and password"
        raise AccountMisconfigured(msg)

    where = f"{parts.scheme}://{parts.hostname}" + (f":{number}" if number else "")
    return where + parts.path.removesuffix("/v1").rstrip("/")


def _credentials(login: str, password: str) -> Credentials:
    if login and password:
        return Credentials(kind=CredentialKind.BASIC, login=login, secret=password)

    if not password:
        field, what = (
            ("password", "secret")
            if login
            else ("login and password", "key and secret")
        )
        msg = f"{field} is empty: set it to the API {what}"
        raise AccountMisconfigured(msg)

    try:
        decoded = b64decode(password, validate=True).decode()
    except (Base64Error, UnicodeDecodeError):
        decoded = ""

    if ":" not in decoded:
        msg = (
            "login is empty and password is no Base64-encoded API key: set login to the"
            " API key and password to its secret"
        )
        raise AccountMisconfigured(msg)

    return Credentials(kind=CredentialKind.BEARER, secret=password)
