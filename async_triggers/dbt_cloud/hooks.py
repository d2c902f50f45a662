"""Reads an Airflow connection to dbt Cloud, and makes the calls people make by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlsplit

from async_triggers.dbt_cloud import rights
from async_triggers.dbt_cloud.api import addresses, models, replies, requests
from async_triggers.dbt_cloud.api.models import DbtCloudJobRunStatus
from async_triggers.dbt_cloud.api.vendor import DBT_CLOUD
from async_triggers.dbt_cloud.by_hand import CallsByHand, Response
from async_triggers.dbt_cloud.explanation import Explanation, HearSteps
from async_triggers.dbt_cloud.naming import (
    ATTEMPTS,
    CONNECTION,
    check_hook_params,
    optional_id,
)
from async_triggers.deferral.arguments import ArgumentUnusable, text
from async_triggers.deferral.connection import (
    EXTRA_KEYS,
    read_belief,
    read_budget,
    read_extra,
    read_route,
)
from async_triggers.deferral.errors import EventUnusable, JobEnded, VendorRefused
from async_triggers.deferral.fields import plain_field, read_flag, secret_field
from async_triggers.deferral.finding import Finding, Identity, Startable
from async_triggers.deferral.names import one_named
from async_triggers.deferral.paging import list_pages
from async_triggers.engine.errors import (
    AccountMisconfigured,
    RequestRejected,
)
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    rows_by_id,
    words_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from airflow.sdk.types import Logger

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Reply, Request, Row

__all__ = [
    "DBT_CAUSE_MAX_LENGTH",
    "TRIGGER_EVENT_STATUSES",
    "DbtCloudHook",
    "DbtCloudJobRunException",
    "DbtCloudJobRunStatus",
    "DbtCloudResourceLookupError",
    "DbtCloudTriggerEventException",
    "HookParams",
    "JobRunInfo",
    "Response",
    "optional_id",
    "read_hook_params",
    "validate_execute_complete_event",
]

# The official provider's names of what this package raises.
DbtCloudJobRunException = JobEnded
DbtCloudResourceLookupError = VendorRefused
DbtCloudTriggerEventException = EventUnusable

DBT_CAUSE_MAX_LENGTH = requests.LONGEST_CAUSE
TRIGGER_EVENT_STATUSES = frozenset({"success", "cancelled", "error", "timeout"})


class JobRunInfo(TypedDict):
    """Which run of which account."""

    account_id: int | None
    run_id: int


def validate_execute_complete_event(
    event: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a trigger's event; raise EventUnusable if it does not say how a run ended."""
    if event is None:
        msg = "The trigger sent no event: clear the task"
        raise EventUnusable(msg)

    status = event.get("status")
    if status not in TRIGGER_EVENT_STATUSES:
        known = ", ".join(sorted(TRIGGER_EVENT_STATUSES))
        msg = f"The trigger's event has the status {status!r}, which is not of {known}"
        raise EventUnusable(msg)

    return event


# https://docs.getdbt.com/docs/dbt-apis/rate-limits: 5,000 requests a minute for an
# account. Who exceeds them is refused for five minutes, and no header says so.
BUDGET = Budget(
    requests=5000,
    per=60.0,
    share=0.6,
    polls=8,
    starts=4,
    cancels=2,
    cooldown=300.0,
    fastest=1.5,
)

_warned_hosts: set[str] = set()


class DbtCloudHook(CallsByHand):
    """dbt Cloud's Admin API.

    :param dbt_cloud_conn_id: the Airflow connection
    :param timeout_seconds: seconds for one request; else ``timeout`` in the connection's
        extra, else 60
    :param retry_limit: how often one call is tried while only trouble answers; tasks try
        four times where their ``hook_params`` say nothing
    :param retry_delay: accepted as the official provider does; the waits between tries
        follow the vendor's word and double from one second
    :param retry_args: likewise
    :param account_id: the account; else the connection's login
    """

    conn_name_attr = "dbt_cloud_conn_id"
    default_conn_name = CONNECTION
    conn_type = "dbt_cloud"
    hook_name = "dbt Cloud"

    vendor = DBT_CLOUD
    extra_keys = EXTRA_KEYS | {"insecure_http"}
    is_always_https = True

    def __init__(
        self,
        dbt_cloud_conn_id: str = default_conn_name,
        timeout_seconds: float | None = None,
        retry_limit: int = 1,
        retry_delay: float = 1.0,
        retry_args: dict[Any, Any] | None = None,
        *,
        account_id: int | str | None = None,
    ) -> None:
        super().__init__(dbt_cloud_conn_id)
        if retry_limit < 1:
            msg = f"retry_limit must be at least 1, not {retry_limit!r}"
            raise ArgumentUnusable(msg)

        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.timeout_seconds = timeout_seconds
        self.retry_limit = retry_limit
        self.retry_delay = retry_delay
        self.retry_args = retry_args
        self.account_id = account_id

    @classmethod
    def for_task(
        cls,
        conn_id: str,
        *,
        account_id: object = None,
        hook_params: Mapping[str, Any] | None = None,
    ) -> DbtCloudHook:
        """Return the hook that a task's rendered arguments request.

        Raise :class:`~async_triggers.deferral.arguments.ArgumentUnusable` for any of them
        that cannot be used.
        """
        params = read_hook_params(hook_params)
        return cls(
            text("dbt_cloud_conn_id", conn_id),
            params.timeout_seconds,
            params.retry_limit,
            account_id=optional_id("account_id", account_id),
        )

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes two hooks that would read the same connection differently."""
        return (*super().key, self.timeout_seconds, str(self.account_id or ""))

    @property
    def alias(self) -> str:
        """What metrics call the account: one connection may lead to several."""
        return f"{self.conn_id}.{self.account_id}" if self.account_id else self.conn_id

    def read(self, connection: Connection) -> Account:
        """Turn a connection into an account.

        ``host`` is the account's access URL, ``login`` the account's id unless the task
        names one, ``password`` an API token. ``extra``:

        - ``insecure_http``: true sends the token unencrypted where ``host`` or ``schema``
          says http
        - ``proxies``, ``timeout``, ``connect_timeout``, ``read_timeout``, ``verify``,
          ``ca_bundle``
        - ``requests_per_minute``, ``share``, ``concurrent_polls``, ``concurrent_starts``
        - ``doubt_seconds``, ``in_between_seconds``, ``first_contact_seconds``
        """
        extra = read_extra(connection)
        host = plain_field(connection.host)
        schema = plain_field(connection.schema).lower()
        base = addresses.base_url(
            host,
            port=connection.port,
            scheme=schema if schema in {"http", "https"} else "",
            insecure=read_flag(extra, "insecure_http", default=False),
        )
        token = secret_field(connection.password)
        if not token:
            msg = "password is empty: set it to an API token of dbt Cloud"
            raise AccountMisconfigured(msg)

        if self.account_id is not None and self.account_id != "":
            account_id = addresses.account_id(self.account_id, "account_id")
        elif plain_field(connection.login):
            account_id = addresses.account_id(connection.login, "login")
        else:
            msg = "login is empty: set it to the account's id, or give the task account_id"
            raise AccountMisconfigured(msg)

        if self.timeout_seconds:
            extra = {**extra, "timeout": self.timeout_seconds}

        doubt = addresses.doubt_host(host, base)
        if doubt and base not in _warned_hosts:
            _warned_hosts.add(base)
            self.log.warning("Connection %r: %s", self.conn_id, doubt)

        return Account(
            vendor=DBT_CLOUD.name,
            base_url=base,
            credentials=Credentials(kind=CredentialKind.BEARER, secret=token),
            account_id=account_id,
            ui_url=base,
            host_is_typed=urlsplit(base).hostname != addresses.SHARED_HOST,
            is_always_https=self.is_always_https,
            belief=read_belief(extra),
            route=read_route(extra, total=60.0),
            budget=read_budget(extra, BUDGET, "dbt_cloud"),
        )

    # Calls ------------------------------------------------------------------------
    # Each is a coroutine over a leased account; run() makes any of them blocking.

    async def start_run(
        self,
        leased: LeasedAccount,
        job_id: int | str,
        cause: str,
        overrides: Mapping[str, Any] | None = None,
    ) -> Seen:
        """Start a run of a job; ``overrides`` are in the words of the API.

        dbt Cloud queues the runs of a job, so a run that is under way is no hindrance.
        """
        body = {**(overrides or {}), "cause": cause}
        request = requests.start_run(leased.account, job_id, body)
        return await self._seen(leased, request)

    async def retry_run(self, leased: LeasedAccount, run_id: int | str) -> Seen:
        """Run what failed in a run, and what was skipped after it, as a new run.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` when dbt Cloud cannot.
        """
        return await self._seen(leased, requests.retry_run(leased.account, run_id))

    async def get_run(self, leased: LeasedAccount, run_id: int | str) -> Seen:
        """Request a run.

        Raise :class:`~async_triggers.engine.errors.JobNotFound` when dbt Cloud does not
        know it or does not show it.
        """
        return await self._seen(leased, requests.get_run(leased.account, run_id))

    async def get_run_details(
        self,
        leased: LeasedAccount,
        run_id: int | str,
        *,
        include_related: Sequence[str] = (),
    ) -> Row:
        """Return a run as dbt Cloud shows it, with what is related to it."""
        request = requests.get_run(
            leased.account, run_id, include_related=include_related
        )
        return replies.read_row(request, await self.send(leased, request))

    async def cancel_run(self, leased: LeasedAccount, run_id: int | str) -> Job:
        """Cancel a run if it has not ended; return what dbt Cloud last showed of it."""
        request = requests.cancel_run(leased.account, run_id)
        try:
            return (await self._seen(leased, request, patience=60.0)).job
        except RequestRejected:
            # Perhaps because there was nothing left to cancel.
            job = (await self.get_run(leased, run_id)).job
            if job.state.is_terminal:
                return job

            raise

    async def list_runs(
        self,
        leased: LeasedAccount,
        *,
        job_id: int | str | None = None,
        order_by: str | None = None,
        include_related: Sequence[str] = (),
        statuses: Sequence[int] = (),
        latest_only: bool = False,
    ) -> list[Row]:
        """Return runs as dbt Cloud shows them, all of them or the first one alone."""
        first = requests.list_runs(
            leased.account,
            job_id=job_id,
            order_by=order_by,
            include_related=include_related,
            statuses=statuses,
        )
        found: list[Row] = []
        async with aclosing(self._walk(leased, first)) as pages:
            async for rows in pages:
                # The server may ignore a filter that it does not understand.
                found += [
                    row for row in rows if not statuses or row.get("status") in statuses
                ]
                if latest_only and found:
                    return found[:1]

        return found

    async def newest_runs(
        self, leased: LeasedAccount, job_id: int | str
    ) -> list[tuple[Seen, Row]]:
        """Return the newest runs of a job with their causes, the newest first."""
        request = requests.list_runs(
            leased.account,
            job_id=job_id,
            order_by="-id",
            include_related=("trigger",),
            limit=requests.NEWEST,
        )
        reply = await self.send(leased, request)
        rows, _ = replies.read_rows(request, reply)
        return [(self._read(leased, row, reply), row) for row in rows]

    async def get_job_definition(
        self, leased: LeasedAccount, job_id: int | str
    ) -> tuple[Row, float | None]:
        """Return a job of dbt Cloud, and the server's time of the answer."""
        request = requests.get_job(leased.account, job_id)
        reply = await self.send(leased, request)
        return replies.read_row(request, reply), reply.date

    async def list_job_definitions(
        self,
        leased: LeasedAccount,
        *,
        project_id: int | str | None = None,
        environment_id: int | str | None = None,
        name_contains: str | None = None,
        order_by: str | None = None,
    ) -> list[Row]:
        """Return the jobs of the account, or those that pass."""
        request = requests.list_jobs(
            leased.account,
            project_id=project_id,
            environment_id=environment_id,
            name_contains=name_contains,
            order_by=order_by,
        )
        return await self._all(leased, request)

    async def find_job(
        self,
        leased: LeasedAccount,
        *,
        project_name: str,
        environment_name: str,
        job_name: str,
    ) -> int:
        """Return the id of the one job of that name in that environment of that project.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` when a name stands for
        nothing, or for more than one thing.
        """
        account = leased.account
        project = await self._one_named(
            leased,
            "project",
            project_name,
            requests.list_projects(account, name_contains=project_name),
        )
        environment = await self._one_named(
            leased,
            "environment",
            environment_name,
            requests.list_environments(
                account, project, name_contains=environment_name
            ),
        )
        return await self._one_named(
            leased,
            "job",
            job_name,
            requests.list_jobs(
                account,
                project_id=project,
                environment_id=environment,
                name_contains=job_name,
            ),
        )

    async def list_artifacts(
        self, leased: LeasedAccount, run_id: int | str, *, step: int | None = None
    ) -> list[str]:
        """Return the paths of a run's artifacts, of its last step if none is named."""
        request = requests.list_artifacts(leased.account, run_id, step=step)
        return replies.read_paths(request, await self.send(leased, request))

    async def get_artifact(
        self,
        leased: LeasedAccount,
        run_id: int | str,
        path: str,
        *,
        step: int | None = None,
    ) -> bytes:
        """Return one artifact as it is, of the run's last step if none is named."""
        request = requests.get_artifact(leased.account, run_id, path, step=step)
        return (await self.send(leased, request)).body

    async def identify(self, leased: LeasedAccount) -> Identity:
        """Request the account, which any token of it may see."""
        request = requests.get_account(leased.account)
        reply = await leased.call(request, attempts=1)
        row = replies.read_row(request, reply)
        return Identity(
            text=(
                f"dbt Cloud answers for account {leased.account.account_id},"
                f" {words_of(row.get('name'))}: {leased.account.base_url}"
            ),
            reply=reply,
        )

    async def find_rights(self, leased: LeasedAccount) -> list[Finding]:
        """Return what the account may read, start and cancel, without starting a job."""
        return await rights.find_rights(leased)

    async def list_startables(self, leased: LeasedAccount) -> list[Startable]:
        """Return the jobs of the account, with their projects' ids."""
        known = rows_by_id(await self.list_job_definitions(leased), models.row_id)
        return [
            Startable(
                id=key,
                name=words_of(row.get("name")),
                place=f"project {words_of(row.get('project_id'))}",
            )
            for key, row in known.items()
        ]

    # Why a run failed -------------------------------------------------------------

    async def complete(
        self,
        leased: LeasedAccount,
        job: Job,
        *,
        summarize: bool = False,
        with_steps: bool = False,
        hear_steps: HearSteps | None = None,
    ) -> Job:
        """Say in a failed run's message which step and nodes failed, and log its end.

        Its steps are logged, or given to ``hear_steps``, and its ``run_results.json`` is
        summarized. For a run that has not failed, ``with_steps`` and ``summarize`` do so
        at the cost of one more request each. A failure here costs only the explanation.
        """
        explanation = Explanation(
            job,
            lambda request: self.send(leased, request),
            self.log,
            hear_steps=hear_steps,
        )
        return await explanation.of(
            leased.account, summarize=summarize, with_steps=with_steps
        )

    async def ended_steps(
        self, leased: LeasedAccount, run_id: str
    ) -> list[models.EndedStep]:
        """Return the steps of a run that have ended."""
        row = await self.get_run_details(leased, run_id, include_related=("run_steps",))
        return replies.read_ended_steps(row)

    # Sending ----------------------------------------------------------------------

    async def send(
        self, leased: LeasedAccount, request: Request, *, patience: float = 20.0
    ) -> Reply:
        """Send a request, as often as the hook says."""
        return await leased.call(request, attempts=self.retry_limit, patience=patience)

    async def _seen(
        self, leased: LeasedAccount, request: Request, *, patience: float = 20.0
    ) -> Seen:
        reply = await self.send(leased, request, patience=patience)
        return self._read(leased, replies.read_row(request, reply), reply)

    def _read(self, leased: LeasedAccount, row: Row, reply: Reply) -> Seen:
        job = models.read_run(row)
        return Seen(
            job=replace(job, url=models.run_url(leased.account, row)), at=reply.date
        )

    async def _all(self, leased: LeasedAccount, first: Request) -> list[Row]:
        return [row async for rows in self._walk(leased, first) for row in rows]

    def _walk(
        self, leased: LeasedAccount, first: Request
    ) -> AsyncGenerator[list[Row], None]:
        return list_pages(
            first, lambda request: self.send(leased, request), replies.read_rows
        )

    async def _one_named(
        self, leased: LeasedAccount, kind: str, name: str, request: Request
    ) -> int:
        # The filter of the server is "contains", and ignores the case of letters.
        rows = await self._all(leased, request)
        known = rows_by_id(rows, models.row_id)
        names = {key: words_of(row.get("name")) for key, row in known.items()}
        return int(one_named("dbt Cloud", kind, name, names, instead="job_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HookParams:
    """What of ``hook_params`` has an effect; ``ignored`` are the names of the rest."""

    timeout_seconds: float | None = None
    retry_limit: int = ATTEMPTS
    ignored: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what a trigger is to be given."""
        return {
            "timeout_seconds": self.timeout_seconds,
            "retry_limit": self.retry_limit,
        }

    def warn(self, log: Logger) -> None:
        """Say once which of them have no effect."""
        if self.ignored:
            log.warning(
                "hook_params %s have no effect here: how long to wait between two tries is"
                " decided by what went wrong",
                ", ".join(self.ignored),
            )


def read_hook_params(value: object) -> HookParams:
    """Read ``hook_params``: ``timeout_seconds`` and ``retry_limit``.

    Raise :class:`~async_triggers.deferral.arguments.ArgumentUnusable` for any that cannot
    be used.
    """
    timeout, limit, ignored = check_hook_params(value)
    return HookParams(timeout_seconds=timeout, retry_limit=limit, ignored=ignored)
