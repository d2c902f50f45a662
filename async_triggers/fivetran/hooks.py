"""Reads an Airflow connection to Fivetran, and makes the calls that people make by hand."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.connection import (
    EXTRA_KEYS,
    read_belief,
    read_budget,
    read_extra,
    read_route,
)
from async_triggers.deferral.fields import plain_field, read_flag, secret_field
from async_triggers.deferral.finding import Finding, Identity, Startable
from async_triggers.deferral.names import one_named
from async_triggers.deferral.paging import list_rows
from async_triggers.engine.address import read_https_address
from async_triggers.engine.errors import (
    AccountMisconfigured,
    EngineError,
    JobNotFound,
    TransientError,
    VendorBroken,
)
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Request,
    rows_by_id,
    words_of,
)
from async_triggers.fivetran import rights
from async_triggers.fivetran.api import history, models, replies, requests
from async_triggers.fivetran.api.vendor import FIVETRAN
from async_triggers.fivetran.by_hand import AsyncCallsByHand, CallsByHand

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Reply, Row

STOP_WAIT = 60.0
"""Seconds that a paused connection may take to stop its sync."""
HISTORY_WAIT = 30.0
"""Seconds after which an end is reported without what the sync history adds to it."""
HISTORY_PAGES = 5
"""Pages of a thousand syncs that are read for one run at most."""

# https://fivetran.com/docs/rest-api/getting-started/rate-limiting: 20,000 requests an hour
# for an account, paid or free; 500 on trial, which the connection's extra can say.
BUDGET = Budget(
    requests=20_000,
    per=3600.0,
    share=0.6,
    # Each end is confirmed by a request, and a thousand syncs may end within one round.
    polls=16,
    starts=4,
    cancels=2,
    cooldown=300.0,
    fastest=3.2,
)
TRIAL_REQUESTS = 500


class FivetranHook(CallsByHand):
    """Fivetran's REST API.

    :param fivetran_conn_id: the Airflow connection
    :param fivetran_conn: the connection itself, where it need not be looked up
    :param timeout_seconds: seconds for one request at most; ``timeout`` in the
        connection's extra (60 if it is empty) may set fewer
    :param retry_limit: how often a single call is tried
    :param retry_delay: accepted as the peers do; the waits between tries follow the
        vendor's word and double from one second
    """

    conn_name_attr = "fivetran_conn_id"
    default_conn_name = "fivetran_default"
    conn_type = "fivetran"
    hook_name = "Fivetran (async-triggers)"

    vendor = FIVETRAN
    startables = "connections"
    extra_keys = EXTRA_KEYS | {"trial", "insecure_http"}
    is_always_https = True

    def __init__(
        self,
        fivetran_conn_id: str = default_conn_name,
        fivetran_conn: AirflowConnection | None = None,
        timeout_seconds: float | None = 180,
        retry_limit: int = 3,
        retry_delay: float = 1.0,
    ) -> None:
        super().__init__(fivetran_conn_id)
        self.fivetran_conn = fivetran_conn
        self.timeout_seconds = timeout_seconds
        self.retry_limit = retry_limit
        self.retry_delay = retry_delay

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes two hooks that would read the same connection differently."""
        given = self.fivetran_conn
        fields = () if given is None else (hash(given.get_uri()),)
        return (*super().key, self.timeout_seconds, *fields)

    def look_up(self) -> AirflowConnection:
        """Return the Airflow connection (blocking)."""
        return self.fivetran_conn or super().look_up()

    @property
    def attempts(self) -> int:
        """How often a single call is tried: at least once."""
        return max(1, int(self.retry_limit))

    def read(self, connection: AirflowConnection) -> Account:
        """Turn a connection into an account.

        ``login`` and ``password`` are the API key and its secret; one of them alone is
        the key that the dashboard shows in Base64. ``host`` is for tests and proxies of
        one's own. ``extra``:

        - ``trial``: true for a trial account, which has 500 requests an hour
        - ``insecure_http``: true sends the credentials unencrypted where ``host`` or
          ``schema`` says http
        - ``proxies``, ``timeout``, ``connect_timeout``, ``read_timeout``, ``verify``,
          ``ca_bundle``
        - ``requests_per_minute``, ``share``, ``concurrent_polls``, ``concurrent_starts``
        - ``doubt_seconds``, ``in_between_seconds``, ``first_contact_seconds``
        """
        extra = read_extra(connection)
        own = f"{self.api_protocol}://{self.api_host}"
        route = read_route(extra, total=60.0)
        if self.timeout_seconds and self.timeout_seconds < route.total:
            route = read_route({**extra, "timeout": self.timeout_seconds}, total=60.0)

        budget = read_budget(extra, BUDGET, "fivetran")
        if (
            read_flag(extra, "trial", default=False)
            and "requests_per_minute" not in extra
        ):
            # It wins over what the section says of accounts in general.
            budget = replace(budget, requests=min(budget.requests, TRIAL_REQUESTS))

        schema = plain_field(connection.schema).lower()
        given = _base_url(
            plain_field(connection.host),
            port=connection.port,
            scheme="http" if schema == "http" else "https",
            insecure=read_flag(extra, "insecure_http", default=False),
        )
        base = given or own
        return Account(
            vendor=FIVETRAN.name,
            base_url=base,
            host_is_typed=base != own,
            is_always_https=self.is_always_https,
            credentials=_credentials(
                plain_field(connection.login), secret_field(connection.password)
            ),
            belief=read_belief(extra),
            route=route,
            budget=budget,
        )

    # Calls ------------------------------------------------------------------------
    # Each is a coroutine over a leased account; run() makes any of them blocking.

    async def send(self, leased: LeasedAccount, request: Request) -> Reply:
        """Send a request, as often as the hook says."""
        return await leased.call(request, attempts=self.attempts)

    async def get_fivetran_connection(
        self, leased: LeasedAccount, connector_id: str
    ) -> tuple[models.Connection, float | None]:
        """Return a connection of Fivetran, and the server's time of the answer."""
        request = requests.get_connection(connector_id)
        reply = await leased.call(request, attempts=self.attempts)
        connection = replies.read_connection(replies.read_data(request, reply))
        return connection, reply.date

    async def run_setup_tests(
        self, leased: LeasedAccount, connector_id: str
    ) -> tuple[models.Connection, float | None]:
        """Run the setup tests of a connection; return it as they have left it.

        And the server's time of the answer. They may take a minute and more.
        """
        request = requests.run_setup_tests(connector_id)
        reply = await self.send(leased, request)
        connection = replies.read_connection(replies.read_data(request, reply))
        return connection, reply.date

    async def list_fivetran_connections(
        self, leased: LeasedAccount, group_id: str = "", *, name: str = ""
    ) -> list[models.Connection]:
        """Return the connections of the account or of a group, or those of one name."""
        rows = await self._rows(
            leased, requests.list_connections(group_id, schema=name)
        )
        return replies.read_connections(rows)

    async def list_groups(self, leased: LeasedAccount) -> dict[str, str]:
        """Return the names of all groups by their ids."""
        rows = await self._rows(leased, requests.list_groups())
        known = rows_by_id(rows, models.row_id)
        return {key: words_of(row.get("name")) for key, row in known.items()}

    async def _rows(self, leased: LeasedAccount, first: Request) -> list[Row]:
        return await list_rows(
            first, lambda request: self.send(leased, request), replies.read_items
        )

    async def get_destination(
        self, leased: LeasedAccount, group_id: str
    ) -> models.Destination:
        """Return the destination of a group."""
        request = requests.get_destination(group_id)
        reply = await leased.call(request, attempts=self.attempts)
        return replies.read_destination(replies.read_data(request, reply))

    async def list_tables(
        self, leased: LeasedAccount, connector_id: str
    ) -> tuple[models.Table, ...] | None:
        """Return the tables that a connection loads, None where it has no schema config."""
        request = requests.get_schemas(connector_id)
        try:
            reply = await leased.call(request, attempts=self.attempts)
        except JobNotFound:
            return None

        return replies.read_tables(replies.read_data(request, reply))

    async def find_connector_id(
        self, leased: LeasedAccount, connector_name: str, destination_name: str
    ) -> str:
        """Find a connection by its name and the name of its destination.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` unless there is
        exactly one.
        """
        group = one_named(
            "Fivetran",
            "destination",
            destination_name,
            await self.list_groups(leased),
            instead="connector_id",
        )
        known = await self.list_fivetran_connections(leased, group)
        return one_named(
            "Fivetran",
            "connection",
            connector_name,
            {each.id: each.schema for each in known},
            instead="connector_id",
        )

    async def start_sync(
        self, leased: LeasedAccount, connector_id: str, *, force: bool = False
    ) -> float | None:
        """Start a sync; return the server's time of the answer.

        ``force`` stops a sync that is under way and starts it again.
        """
        return await self._start(leased, requests.start_sync(connector_id, force=force))

    async def start_resync(
        self,
        leased: LeasedAccount,
        connector_id: str,
        scope: Mapping[str, Sequence[str]] | None = None,
    ) -> float | None:
        """Start a historical re-sync of all, or of the tables that ``scope`` names."""
        return await self._start(leased, requests.start_resync(connector_id, scope))

    async def _start(self, leased: LeasedAccount, request: Request) -> float | None:
        reply = await leased.call(request, attempts=self.attempts)
        replies.read_accepted(request, reply)
        return reply.date

    async def set_paused(
        self, leased: LeasedAccount, connector_id: str, *, paused: bool
    ) -> None:
        """Pause or un-pause a connection.

        Pausing may answer 500 and yet work, so a failure is looked into before it counts.
        """

        async def change() -> None:
            try:
                request = requests.modify_connection(connector_id, paused=paused)
                replies.read_accepted(request, await leased.transport.send(request))
            except TransientError as error:
                request = requests.get_connection(connector_id)
                reply = await leased.transport.send(request)
                shown = replies.read_connection(replies.read_data(request, reply))
                if shown.paused is not paused:
                    raise error from None

        await leased.persist(change, patience=60.0)

    async def stop_sync(
        self, leased: LeasedAccount, run: models.Run, *, unpause: bool = False
    ) -> None:
        """Stop a sync by pausing its connection, if it is still that sync which runs.

        Fivetran has no other way. With ``unpause`` the connection is un-paused once the
        sync has stopped, so that its schedule goes on. Raise a transient error when the
        sync has not stopped after a minute; the connection is left paused then.
        """
        connector_id = run.connection_id
        if (await self.look(leased, run)).job.state.is_terminal:
            return

        await self.set_paused(leased, connector_id, paused=True)
        loop = asyncio.get_running_loop()
        ends = loop.time() + STOP_WAIT
        while True:
            shown, _ = await self.get_fivetran_connection(leased, connector_id)
            if shown.sync_state != models.SYNCING:
                break

            if loop.time() >= ends:
                msg = (
                    f"Fivetran still syncs connection {connector_id}"
                    f" {STOP_WAIT:.0f} s after it was paused"
                )
                raise VendorBroken(msg)

            await asyncio.sleep(2.0)

        if unpause:
            await self.set_paused(leased, connector_id, paused=False)

    async def change_schedule_type(
        self, leased: LeasedAccount, connector_id: str, schedule_type: str
    ) -> dict[str, Any]:
        """Set what starts a connection's syncs: ``auto`` (its schedule) or ``manual``.

        Return Fivetran's answer.
        """
        request = requests.modify_connection(connector_id, schedule_type=schedule_type)

        async def change() -> dict[str, Any]:
            reply = await leased.transport.send(request)
            replies.read_accepted(request, reply)
            return reply.object(request.about)

        # Doing it twice does no harm.
        return await leased.persist(change, attempts=self.attempts)

    async def look(self, leased: LeasedAccount, run: models.Run) -> Seen:
        """Request how a run is doing."""
        connection, now = await self.get_fivetran_connection(leased, run.connection_id)
        return Seen(job=models.judge_run(connection, run), at=now)

    async def list_syncs(
        self, leased: LeasedAccount, connector_id: str, *, since: float, until: float
    ) -> list[models.HistoryRecord]:
        """Return the syncs of a connection in a window of server times (epoch seconds).

        At most seven days, and none that are longer ago. Raise
        :class:`~async_triggers.engine.errors.JobNotFound` for an account without the
        history.
        """
        request: Request | None = requests.sync_history(
            connector_id, since=since, until=until
        )
        found: list[models.HistoryRecord] = []
        for _ in range(HISTORY_PAGES):
            if request is None:
                break

            reply = await leased.call(request, attempts=2, patience=5.0)
            records, request = replies.read_history(request, reply)
            found += records

        return found

    async def find_stop(
        self,
        leased: LeasedAccount,
        connection: models.Connection,
        run: models.Run,
        *,
        now: float,
    ) -> Job | None:
        """Check in the history that a run has stopped: its connection may not show it.

        Raise a permanent error for an account without the history.
        """
        since, until = history.history_window(run, now=now)
        records = await self.list_syncs(
            leased, run.connection_id, since=since, until=until
        )
        return history.find_stop(connection, run, records, now=now)

    async def settle(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Add what the sync history shows of an ended run, where there is one.

        The id of the sync, its reason and volumes. ``now`` is the server's time. An
        account without the history, or trouble with it, leaves the job as it is: its end
        is known.
        """
        run = models.Run.from_id(job.id)
        if run.behind or "sync_id" in job.statistics:
            return job

        latest = max((each for each in (now, job.ended_at) if each), default=None)
        if latest is None:
            return job

        since, until = history.history_window(run, now=latest)
        try:
            async with asyncio.timeout(HISTORY_WAIT):
                records = await self.list_syncs(
                    leased, run.connection_id, since=since, until=until
                )
        except EngineError as error:
            self.log.info("The sync history could not be read: %s", error.message)
            return job
        except TimeoutError:
            self.log.info("The sync history was not shown in %.0f s", HISTORY_WAIT)
            return job

        return history.settle_job(job, run, records)

    async def identify(self, leased: LeasedAccount) -> Identity:
        """Request who we are."""
        request = requests.account_info()
        reply = await leased.call(request, attempts=1)
        data = replies.read_data(request, reply)
        names = (words_of(data.get(each)) for each in ("account_name", "account_id"))
        name = next(filter(None, names), "an account")
        return Identity(text=f"Fivetran knows these credentials as {name}", reply=reply)

    async def find_rights(self, leased: LeasedAccount) -> list[Finding]:
        """Return what the account may read, start and cancel, without starting a job."""
        return await rights.find_rights(leased)

    async def list_startables(self, leased: LeasedAccount) -> list[Startable]:
        """Return the connections of the account, with the destinations' names."""
        groups = await self.list_groups(leased)
        return [
            Startable(
                id=each.id,
                name=each.schema,
                place=groups.get(each.group_id, each.group_id),
            )
            for each in await self.list_fivetran_connections(leased)
        ]


class FivetranHookAsync(AsyncCallsByHand, FivetranHook):
    """The same, with the other provider's calls for a running loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class PeersFivetranHook(FivetranHook):
    """The same for connections of the type that the peers' provider declares.

    Airflow wants a class for each type; the type itself is never read.
    """

    conn_type = "Fivetran"
    hook_name = "Fivetran"


def _base_url(host: str, *, port: int | None, scheme: str, insecure: bool) -> str:
    """Return where a connection says that the API is; empty where it does not.

    That is always https, but for this machine and where ``insecure`` allows http.
    """
    text = host.rstrip("/")
    if not text:
        return ""

    address = read_https_address(
        text,
        port=port,
        scheme=scheme,
        insecure=insecure,
        credentials="put them into login and password",
        form="host is not a URL: leave it empty, or write it as https://host",
    )
    return address.origin + address.path.removesuffix("/v1").rstrip("/")


def _credentials(login: str, password: str) -> Credentials:
    if login and password:
        return Credentials(kind=CredentialKind.BASIC, login=login, secret=password)

    # It is encoded, so that blanks are no part of it.
    alone = login or password.strip()
    if not alone:
        msg = "login and password are empty: set them to the API key and its secret"
        raise AccountMisconfigured(msg)

    try:
        decoded = b64decode(alone, validate=True).decode()
    except (Base64Error, UnicodeDecodeError):
        decoded = ""

    if ":" not in decoded:
        empty, given = ("password", "login") if login else ("login", "password")
        msg = (
            f"{empty} is empty and {given} is not a Base64-encoded API key: set login to"
            " the API key and password to its secret"
        )
        raise AccountMisconfigured(msg)

    return Credentials(kind=CredentialKind.BEARER, secret=alone)
