"""Reads an Airflow connection to Airbyte, and makes the calls that people make by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from async_triggers.airbyte import rights
from async_triggers.airbyte.api import addresses, models, replies, requests
from async_triggers.airbyte.api.models import JobResponse, JobStatusEnum
from async_triggers.airbyte.api.vendor import AIRBYTE
from async_triggers.airbyte.by_hand import CallsByHand
from async_triggers.airbyte.naming import read_version
from async_triggers.deferral.connection import (
    EXTRA_KEYS,
    read_belief,
    read_budget,
    read_extra,
    read_route,
)
from async_triggers.deferral.contact import address_of
from async_triggers.deferral.fields import plain_field, secret_field
from async_triggers.deferral.finding import Finding, Identity, Startable
from async_triggers.deferral.names import one_named
from async_triggers.deferral.paging import list_rows
from async_triggers.engine.errors import (
    AccountMisconfigured,
    EngineError,
    JobNotFound,
    RequestRejected,
)
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wire import (
    HTTP_CONFLICT,
    Account,
    Budget,
    CredentialKind,
    Credentials,
    is_web_page,
    words_of,
)
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Request, Row

__all__ = ["AirbyteHook", "JobResponse", "JobStatusEnum"]

# Airbyte names no limit. A self-managed server serves its public API with five threads
# (PUBLIC_API_EXECUTOR_THREADS), of which a start holds one for up to a minute: two polls,
# two starts and one cancel at a time leave it room. Cloud answers 429 without saying for
# how long, and expects no request for some minutes then.
BUDGET = Budget(
    requests=600,
    per=60.0,
    share=0.6,
    polls=2,
    starts=2,
    cancels=1,
    cooldown=120.0,
    fastest=2.0,
)

_workspaces: WeakKeyDictionary[LeasedAccount, dict[str, str]] = WeakKeyDictionary()
"""The workspaces of Airbyte's connections, by account: they never change."""

_KINDS = {
    "client_credentials": CredentialKind.CLIENT_CREDENTIALS,
    "bearer": CredentialKind.BEARER,
    "basic": CredentialKind.BASIC,
    "none": CredentialKind.NONE,
}


class AirbyteHook(CallsByHand):
    """Airbyte's public API, Cloud or self-managed.

    :param airbyte_conn_id: the Airflow connection
    :param api_version: the version in the API's path, used where the connection's host
        does not say it
    :param timeout: seconds for one request; else ``timeout`` in the connection's extra,
        else 30
    :param address: the hash of the address at which a task has found the API, where the
        connection's host may mean one of two
    """

    conn_name_attr = "airbyte_conn_id"
    default_conn_name = "airbyte_default"
    conn_type = "airbyte"
    hook_name = "Airbyte"

    vendor = AIRBYTE
    startables = "connections"
    extra_keys = EXTRA_KEYS | {"api_path", "auth", "ui_url"}

    def __init__(
        self,
        airbyte_conn_id: str = default_conn_name,
        api_version: str = "v1",
        timeout: float | None = None,
        *,
        address: str = "",
    ) -> None:
        super().__init__(airbyte_conn_id)
        self.airbyte_conn_id = airbyte_conn_id
        self.api_version = read_version(api_version)
        self.timeout = timeout
        self.address = address

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes two hooks that would read the same connection differently."""
        return (*super().key, self.api_version, self.timeout, self.address)

    def read(self, connection: Connection) -> Account:
        """Turn a connection into an account.

        ``host`` is the server's URL, Cloud's or one's own, with or without the path of the
        API. ``login`` and ``password`` are the client id and secret of an application and
        ``schema`` its token endpoint; a ``password`` alone is a bearer token. In
        connections of type HTTP, ``schema`` may hold the scheme of the URL. ``extra``:

        - ``api_path``: the path of the API on the server, where it is none of Airbyte's
        - ``auth``: client_credentials, bearer, basic or none, where the above guesses wrong
        - ``ui_url``: the address of the web interface
        - ``proxies``, ``timeout``, ``connect_timeout``, ``read_timeout``, ``verify``,
          ``ca_bundle``
        - ``requests_per_minute``, ``share``, ``concurrent_polls``, ``concurrent_starts``
        - ``doubt_seconds``, ``in_between_seconds``, ``first_contact_seconds``
        """
        accounts = self._read_all(connection)
        found = (each for each in accounts if address_of(each) == self.address)
        return next(found, accounts[0])

    def _read_all(self, connection: Connection) -> list[Account]:
        """Return the accounts that a connection may mean, the likeliest first."""
        extra = read_extra(connection)
        schema = plain_field(connection.schema)
        is_scheme = schema in {"http", "https"}
        bases = addresses.base_urls(
            plain_field(connection.host),
            port=connection.port,
            scheme=schema if is_scheme else "",
            api_version=self.api_version,
            api_path=extra.get("api_path") or "",
        )
        endpoint = "" if is_scheme else schema
        return [self._read_at(base, connection, endpoint, extra) for base in bases]

    def _read_at(
        self,
        base: str,
        connection: Connection,
        endpoint: str,
        extra: Mapping[str, Any],
    ) -> Account:
        login = plain_field(connection.login)
        password = secret_field(connection.password)
        kind = _credential_kind(extra.get("auth"), login, password)
        token_url = ""
        if kind is CredentialKind.CLIENT_CREDENTIALS:
            token_url = addresses.token_url(endpoint, base)

        interface = extra.get("ui_url", "")
        if not isinstance(interface, str):
            msg = "extra.ui_url must be a URL"
            raise AccountMisconfigured(msg)

        if self.timeout is not None:
            extra = {**extra, "timeout": self.timeout}

        interface = interface.strip()
        return Account(
            vendor=AIRBYTE.name,
            base_url=base,
            credentials=Credentials(
                kind=kind,
                login=login if kind is not CredentialKind.NONE else "",
                secret=password if kind is not CredentialKind.NONE else "",
                token_url=token_url,
            ),
            ui_url=addresses.ui_url(base, interface),
            host_is_typed=urlsplit(base).hostname != addresses.CLOUD_HOST,
            belief=read_belief(extra),
            route=read_route(extra, total=30.0),
            budget=read_budget(extra, BUDGET, "airbyte", knows_limit=False),
        )

    def first_account(self, recall: Callable[[], str | None]) -> Account:
        """Read the connection on a worker; where it may mean two paths, find the right one.

        Unless one of them has worked before, the health of both is requested, without
        credentials.
        """
        connection = self.look_up()
        account = self.account_of(connection)
        accounts = self._read_all(connection)
        if len(accounts) == 1 or address_of(account) == self.address:
            return account

        known = recall()
        found = [each for each in accounts if address_of(each) == known]
        if not found:
            found = asyncio.run(self._healthy(accounts))

        if len(found) != 1:
            # Neither answers, or the server answers any path.
            return account

        self.address = address_of(found[0])
        return found[0]

    async def _healthy(self, accounts: Sequence[Account]) -> list[Account]:
        """Return the accounts at whose address Airbyte answers; none of them is used."""
        # Heavy, and rarely needed.
        from async_triggers.engine.limiter import Limiter  # noqa: PLC0415
        from async_triggers.engine.transport import Transport  # noqa: PLC0415

        found = []
        for account in accounts:
            anonymous = replace(
                account, credentials=Credentials(kind=CredentialKind.NONE)
            )
            transport = Transport(self.vendor, anonymous, Limiter(account.budget))
            try:
                reply = await transport.send(requests.get_health())
            except EngineError:
                continue
            finally:
                await transport.close()

            if not is_web_page(reply):
                found.append(account)

        return found

    # Calls ------------------------------------------------------------------------
    # Each is a coroutine over a leased account; run() makes any of them blocking.

    async def start_job(
        self, leased: LeasedAccount, connection_id: str, job_type: str = "sync"
    ) -> Seen:
        """Start a sync, a reset or a clear of a connection.

        Raise :class:`~async_triggers.engine.errors.AlreadyRunning` when one is under way.
        """
        request = requests.start_job(connection_id, job_type)
        reply = await leased.call(request)
        job = models.read_job(reply.object(request.about))
        return Seen(job=job, at=reply.date)

    async def get_job(self, leased: LeasedAccount, job_id: int | str) -> Seen:
        """Request a job.

        Raise :class:`~async_triggers.engine.errors.JobNotFound` when Airbyte does not
        know it or does not show it.
        """
        request = requests.get_job(str(job_id))
        reply = await leased.call(request)
        job = models.read_job(reply.object(request.about))
        return Seen(job=job, at=reply.date)

    async def stop_job(self, leased: LeasedAccount, job_id: int | str) -> Job:
        """Cancel a job if it has not ended; return what Airbyte last showed of it.

        Airbyte cancels any job that the connection is running, so each try checks first
        that it is still this one.
        """

        async def look_and_cancel() -> Job:
            look = requests.get_job(str(job_id))
            reply = await leased.transport.send(look)
            job = models.read_job(reply.object(look.about))
            if job.state.is_terminal:
                return job

            request = requests.cancel_job(str(job_id))
            try:
                reply = await leased.transport.send(request)
            except RequestRejected as error:
                if error.status != HTTP_CONFLICT:
                    raise

                # Older servers refuse to cancel a job that has ended since the look.
                reply = await leased.transport.send(look)
                job = models.read_job(reply.object(look.about))
                if not job.state.is_terminal:
                    raise

                return job

            return models.read_job(reply.object(request.about))

        return await leased.persist(look_and_cancel, patience=60.0)

    async def list_jobs(
        self,
        leased: LeasedAccount,
        connection_id: str,
        limit: int = 5,
        *,
        job_type: str = "",
    ) -> list[Seen]:
        """Return the newest jobs of a connection, of one type or all, the newest first."""
        request = requests.latest_jobs(connection_id, limit, job_type=job_type)
        reply = await leased.call(request)
        return [
            Seen(job=models.read_job(row), at=reply.date)
            for row in replies.read_jobs(request, reply)
        ]

    async def get_airbyte_connection(
        self, leased: LeasedAccount, connection_id: str
    ) -> tuple[models.Connection, float | None]:
        """Return a connection of Airbyte, and the server's time of the answer."""
        request = requests.get_connection(connection_id)
        reply = await leased.call(request)
        connection = replies.read_connection(request, reply)
        of_account = _workspaces.setdefault(leased, {})
        of_account[connection_id] = connection.workspace_id
        return connection, reply.date

    async def workspace_of(self, leased: LeasedAccount, connection_id: str) -> str:
        """Return the workspace of a connection, which is requested once."""
        known = _workspaces.get(leased, {}).get(connection_id)
        if known is not None:
            return known

        connection, _ = await self.get_airbyte_connection(leased, connection_id)
        return connection.workspace_id

    async def get_known_connection(
        self, leased: LeasedAccount, connection_id: str
    ) -> tuple[models.Connection, float | None]:
        """Return a connection as :meth:`get_airbyte_connection`.

        One that Airbyte does not know is
        :class:`~async_triggers.engine.errors.RequestRejected`.
        """
        try:
            return await self.get_airbyte_connection(leased, connection_id)
        except JobNotFound as error:
            msg = f"{sentence(error.message)} Check connection_id"
            raise RequestRejected(msg, status=error.status) from None

    async def newest_sync(self, leased: LeasedAccount, connection_id: str) -> Seen:
        """Return the newest sync of a connection, running or not.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` where it has had none.
        """
        connection, _ = await self.get_known_connection(leased, connection_id)
        jobs = await self.list_jobs(leased, connection_id, job_type="sync")
        # Not every server keeps to the filter.
        syncs = [each for each in jobs if each.job.statistics["job_type"] == "sync"]
        if not syncs:
            msg = (
                f"The Airbyte connection {connection_id} ({connection.name}) has had no"
                " sync: there is none to wait for"
            )
            raise RequestRejected(msg)

        return syncs[0]

    async def find_connection_id(
        self,
        leased: LeasedAccount,
        connection_name: str,
        *,
        workspace_name: str = "",
        workspace_id: str = "",
    ) -> str:
        """Find a connection by its name, in one workspace or in all.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` unless there is
        exactly one.
        """
        workspace = ""
        if workspace_name or workspace_id:
            workspace = await self._find_workspace_id(
                leased, workspace_name, workspace_id
            )

        rows = await self._list(leased, requests.list_connections(workspace))
        return one_named(
            AIRBYTE.name,
            "connection",
            connection_name,
            # Not every server keeps to the filter.
            replies.read_names(
                [row for row in rows if not workspace or replies.is_in(row, workspace)],
                "connection",
            ),
            instead="connection_id"
            if workspace
            else "workspace_name, workspace_id or connection_id",
        )

    async def _find_workspace_id(
        self, leased: LeasedAccount, workspace_name: str, workspace_id: str
    ) -> str:
        rows = await self._list(leased, requests.list_workspaces())
        names = replies.read_names(rows, "workspace")
        if not workspace_id:
            return one_named(
                AIRBYTE.name,
                "workspace",
                workspace_name,
                names,
                instead="workspace_id",
            )

        if workspace_id not in names:
            # A request for connections would be refused with these credentials.
            msg = (
                f"Airbyte shows no workspace {workspace_id!r} to these credentials: check"
                " workspace_id"
            )
            raise RequestRejected(msg)

        return workspace_id

    async def list_replications(
        self, leased: LeasedAccount
    ) -> list[models.Replication]:
        """Return the connections of all workspaces, with what they replicate."""
        rows = await self._list(leased, requests.list_connections())
        return [replies.read_replication(row) for row in rows]

    async def list_sources(self, leased: LeasedAccount) -> list[models.Endpoint]:
        """Return the sources of all workspaces."""
        rows = await self._list(leased, requests.list_sources())
        return [replies.read_endpoint(row, "source") for row in rows]

    async def list_destinations(self, leased: LeasedAccount) -> list[models.Endpoint]:
        """Return the destinations of all workspaces."""
        rows = await self._list(leased, requests.list_destinations())
        return [replies.read_endpoint(row, "destination") for row in rows]

    async def _list(self, leased: LeasedAccount, first: Request) -> list[Row]:
        return await list_rows(first, leased.call, replies.read_page)

    async def identify(self, leased: LeasedAccount) -> Identity:
        """Request a workspace, which any credentials that work may see."""
        request = requests.any_workspace()
        reply = await leased.call(request, attempts=1)
        reply.object(request.about)
        return Identity(
            text=f"Airbyte answers at {leased.account.base_url}", reply=reply
        )

    async def find_rights(self, leased: LeasedAccount) -> list[Finding]:
        """Return what the account may read, start and cancel, without starting a job."""
        return await rights.find_rights(leased)

    async def list_startables(self, leased: LeasedAccount) -> list[Startable]:
        """Return the connections of all workspaces, with the workspaces' names."""
        workspaces = await self._list(leased, requests.list_workspaces())
        places = replies.read_names(workspaces, "workspace")
        rows = await self._list(leased, requests.list_connections())
        return [
            Startable(
                id=words_of(row.get("connectionId")),
                name=words_of(row.get("name")),
                place=places.get(words_of(row.get("workspaceId")), ""),
            )
            for row in rows
        ]


def _credential_kind(said: Any, login: str, password: str) -> CredentialKind:
    if said:
        kind = _KINDS.get(str(said).strip().lower().replace(" ", "_"))
        if kind is None:
            # What it holds is not repeated: it may be a token.
            msg = f"extra.auth must be one of {', '.join(_KINDS)}"
            raise AccountMisconfigured(msg)

    elif login and password:
        kind = CredentialKind.CLIENT_CREDENTIALS
    elif password:
        kind = CredentialKind.BEARER
    elif login:
        msg = "password is empty: set it to the client secret that belongs to login"
        raise AccountMisconfigured(msg)
    else:
        kind = CredentialKind.NONE

    needs = {
        CredentialKind.CLIENT_CREDENTIALS: (login, password),
        CredentialKind.BEARER: ("-", password),
        CredentialKind.BASIC: (login, "-"),
        CredentialKind.NONE: ("-", "-"),
    }[kind]
    if not all(needs):
        field = "login" if not needs[0] else "password"
        msg = f"{field} is empty, which {kind.value} needs: set it in the connection"
        raise AccountMisconfigured(msg)

    return kind
