"""The jobs of a vendor whose jobs have ids, and whose starts can carry a mark.

A vendor gives the requests, and how a row is read. What stands here makes of them all that
:mod:`async_triggers.deferral.remote_job` needs. Its connections have no fields but
those of Airflow, so that ``conn_id`` is all that leads to the account.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

from async_triggers.deferral.arguments import identifier, text
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.job_query import JobQuery
from async_triggers.deferral.record import Intent
from async_triggers.deferral.remote_job import Before, JobRequest, RemoteJob
from async_triggers.deferral.trigger import JobTrigger, Wait
from async_triggers.engine.errors import RequestRejected
from async_triggers.engine.jobs import Seen

if TYPE_CHECKING:
    from async_triggers.deferral.plain_hook import PlainHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Reply, Request, Row

CANCEL_PATIENCE = 60.0
"""Seconds for which a cancel is tried."""


@dataclass(frozen=True, kw_only=True)
class PlainJob(RemoteJob):
    """A job that is polled by its id."""

    hook_class: ClassVar[type[PlainHook]]

    def make_hook(self) -> PlainHook:
        """Return the hook of the job's connection."""
        return self.hook_class(self.conn_id)

    @abstractmethod
    def stop(self) -> Request:
        """Return the request that cancels the job."""

    def check_stopped(
        self, leased: LeasedAccount, request: Request, reply: Reply
    ) -> None:
        """Raise UnreadableReply unless the vendor itself has answered :meth:`stop`.

        By default it answers with the job; a proxy may answer with anything.
        """
        self.read(leased, request, reply)

    async def cancel(self, leased: LeasedAccount) -> Self:
        """Cancel the job, unless it has ended."""
        check = leased.vendor.single(leased.account, self.polled_id)

        async def has_ended() -> bool:
            reply = await leased.transport.send(check)
            return self.read(leased, check, reply).job.state.is_terminal

        async def check_and_cancel() -> None:
            if await has_ended():
                return

            stop = self.stop()
            try:
                self.check_stopped(leased, stop, await leased.transport.send(stop))
            except RequestRejected:
                # Perhaps it has ended since.
                if not await has_ended():
                    raise

        await leased.persist(check_and_cancel, patience=CANCEL_PATIENCE)
        return self


@dataclass(frozen=True, kw_only=True)
class PlainRequest(JobRequest):
    """A job that is to be started, and is found again by a mark that its start carries."""

    job_class: ClassVar[type[PlainJob]]
    start_grace = 60.0

    @abstractmethod
    def begin(self, mark: str) -> Request:
        """Return the request that starts the job, which carries a mark."""

    @abstractmethod
    def newest(self) -> Request:
        """Return the request for the newest jobs of the same target, the newest first."""

    @abstractmethod
    def mark_of(self, row: Row) -> str:
        """Return the mark that a row shows."""

    def make_hook(self) -> PlainHook:
        """Return the hook of the request's connection."""
        return self.job_class.hook_class(self.conn_id)

    def describe(self) -> Mapping[str, Any]:
        """Return what to request: all that a vendor's class adds."""
        policy = {each.name for each in fields(JobRequest)}
        stored = self.stored_fields()
        return {name: getattr(self, name) for name in stored if name not in policy}

    def job(self, job_id: str, *, owned: bool, url: str = "") -> PlainJob:
        """Return a job that this request has led to."""
        return self.job_class(
            conn_id=self.conn_id,
            job_id=job_id,
            url=url,
            owned=owned,
            address=self.address,
        )

    async def before_start(self, leased: LeasedAccount) -> Before:
        """Request the newest jobs, which also shows the server's time."""
        reply = await leased.call(self.newest())
        leased.vendor.read(self.newest(), reply)
        return Before(intent=Intent(at=reply.date, marker=secrets.token_hex(8)))

    async def start(self, leased: LeasedAccount, before: Before) -> Seen:
        """Start the job."""
        request = self.begin(before.intent.marker)
        reply = await leased.call(request)
        return self.job("", owned=True).read(leased, request, reply)

    async def _newest(self, leased: LeasedAccount) -> list[tuple[Seen, Row]]:
        request = self.newest()
        reply = await leased.call(request)
        rows = leased.vendor.read(request, reply).rows
        return [
            (
                Seen(
                    job=leased.vendor.judge(leased.account, job_id, row, None),
                    at=reply.date,
                ),
                row,
            )
            for job_id, row in rows.items()
        ]

    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """Look for the job that bears the mark of a start."""
        for seen, row in await self._newest(leased):
            if intent.marker and self.mark_of(row) == intent.marker:
                return seen

        return None

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Return True: no other job bears that mark."""
        return True

    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Return the newest job of the target that has not ended."""
        for seen, _ in await self._newest(leased):
            if not seen.job.state.is_terminal:
                return seen

        return None


@dataclass(frozen=True, kw_only=True)
class PlainQuery(JobQuery):
    """Which job a sensor waits for: one that is given by its id."""

    job_class: ClassVar[type[PlainJob]]

    job_id: str
    conn_id: str

    ids = Ids(required={"job_id": identifier, "conn_id": text})
    template_fields = ("job_id", "conn_id")

    def make_hook(self) -> PlainHook:
        """Return the hook of the query's connection."""
        return self.job_class.hook_class(self.conn_id)

    async def look(self, leased: LeasedAccount) -> tuple[Self, Seen]:
        """Request the job, and the rest of it once it has ended."""
        job = self.job(None)
        seen = await job.look(leased)
        if seen.job.state.is_terminal:
            ended = await job.complete(leased, seen.job, now=seen.at)
            seen = replace(seen, job=ended)

        return self, seen

    def job(self, shown: Job | None) -> PlainJob:
        """Return the job to wait for."""
        return self.job_class(
            conn_id=self.conn_id,
            job_id=str(self.job_id),
            url="" if shown is None else shown.url,
            address=self.address,
        )


class PlainTrigger(JobTrigger):
    """Yields one event when a job has ended or a deadline has passed.

    Used by itself, the trigger never cancels the job unless ``owned`` says that it may.
    The event is described in :mod:`async_triggers.deferral.events`.

    :param job_id: the job
    :param conn_id: the Airflow connection
    :param poll_interval: the seconds between two checks of the job
    :param end_time: the deadline in epoch seconds, None for none
    :param execution_deadline: the deadline that ``execution_timeout`` sets, in epoch
        seconds
    :param owned: whether the job was started by this task, so that it may be cancelled
    :param cancel_on_kill: cancel an owned job when a user stops the deferred task; needs
        the token of :meth:`claim`
    :param cancel_on_timeout: cancel an owned job when a deadline passes
    :param seen_at: the server's time of the last check, in epoch seconds
    :param job_url: where the vendor shows the job
    :param address: the hash of the address at which the task has found the API
    :param ending: how the trigger ends its task, see
        :class:`async_triggers.deferral.ending.Ending`; None to resume it
    """

    job_class: ClassVar[type[PlainJob]]

    def __init__(
        self,
        job_id: str,
        conn_id: str,
        *,
        poll_interval: float = 30.0,
        end_time: float | None = None,
        execution_deadline: float | None = None,
        owned: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        seen_at: float | None = None,
        job_url: str = "",
        address: str = "",
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.execution_deadline = execution_deadline
        self.owned = owned
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.seen_at = seen_at
        self.job_url = job_url
        self.address = address
        self.ending = ending

    def make_job(self) -> PlainJob:
        """Return the job that the arguments name."""
        return self.job_class(
            conn_id=self.conn_id,
            job_id=self.job_id,
            url=self.job_url,
            owned=self.owned,
            address=self.address,
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for a job."""
        return cls(
            job.job_id,
            job.conn_id,
            owned=job.owned,
            job_url=job.url,
            address=job.address,
            **wait,
        )
