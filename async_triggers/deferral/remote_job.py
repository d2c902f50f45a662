"""Jobs as values: what to start, and a job at a vendor.

:class:`JobRequest` says what to start, and how; it travels only in a trigger that still
has to start a job. :class:`RemoteJob` is a job that there is. It holds nothing that was
rendered, because the arguments of a trigger lie in plain text in the database. Both are
frozen and can be written as JSON. An operator holds a request and, once there is one, a
job; a trigger that waits holds a job. So each process sends the vendor the same requests.

A vendor writes one subclass of each.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import orjson

from async_triggers.deferral.stored import NOT_STORED, StoredValue
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wording import begun

if TYPE_CHECKING:
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.record import Intent, Unsettled
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Reply, Request, Vendor
    from async_triggers.lineage.facets import Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Which attempt of which task starts a job."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    max_tries: int

    @classmethod
    def of(cls, ti: Any, max_tries: int) -> Attempt:
        """Return the attempt of a task instance."""
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
            max_tries=max_tries,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the vendor shows right before a start.

    ``running`` is the job that is under way already, if one is. ``facts`` is what the
    vendor's own :meth:`JobRequest.start` wants to know of it. ``request`` is the request
    from here on, where it has learnt something.
    """

    intent: Intent
    running: Seen | None = None
    facts: Any = None
    request: JobRequest | None = None


@dataclass(frozen=True, kw_only=True)
class RemoteJob(ABC):
    """A job at a vendor.

    ``job_id`` names it in records, events and messages. ``url`` shows it to people, empty
    where that is not known. ``owned`` says that this task has started it. ``address`` is
    the hash of where the API was found, where the connection may mean more than one place.
    """

    conn_id: str
    job_id: str
    url: str = ""
    owned: bool = False
    address: str = ""

    trigger: ClassVar[str]
    """The classpath of the vendor's trigger, see :meth:`.trigger.JobTrigger.of`."""
    stops_whatever_runs: ClassVar[bool] = False
    """The vendor's cancel names no job, and the job that came after looks like ours."""

    @property
    def polled_id(self) -> str:
        """The id that the vendor's rows go by, which is what the poller requests."""
        return self.job_id

    @property
    def mark(self) -> str | None:
        """What was known before the job started, for vendors that need it."""
        return None

    @property
    def title(self) -> str:
        """What to call the job at the beginning of a sentence."""
        return begun(self.vendor.name_of(self.job_id))

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.hook.vendor

    @cached_property
    def hook(self) -> VendorHook:
        """The hook of the job's connection, made when it is first used."""
        return self.make_hook()

    def problem(self) -> str | None:
        """Say why this can be no job, None where it may be one."""
        polled: object = self.polled_id
        if not isinstance(polled, str) or polled.strip() in {"", "None"}:
            noun = self.vendor.noun
            return f"{polled!r} is not the id of a {noun}: give the vendor's id"

        return None

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the job's connection. No I/O.

        Raise :class:`~async_triggers.deferral.arguments.ArgumentUnusable` where there can
        be none.
        """

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request the job once; by default as the poller does."""
        request = leased.vendor.single(leased.account, self.polled_id)
        return self.read(leased, request, await leased.call(request))

    def read(self, leased: LeasedAccount, request: Request, reply: Reply) -> Seen:
        """Read the job from an answer that is about it alone."""
        rows = [*leased.vendor.read(request, reply).rows.values()]
        if len(rows) != 1:
            msg = f"The response for {request.about} shows {len(rows)} {self.vendor.noun}s"
            raise reply.unreadable(msg)

        job = leased.vendor.judge(leased.account, self.polled_id, rows[0], self.mark)
        return Seen(job=replace(job, url=job.url or self.url), at=reply.date)

    async def recheck(self, leased: LeasedAccount) -> Seen:
        """Request a job that may have stopped without a trace since it was watched."""
        return await self.look(leased)

    @abstractmethod
    async def cancel(self, leased: LeasedAccount) -> Self:
        """Cancel the job, if it is still this one that runs.

        Return it as it is to be requested from now on.
        """

    async def complete(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Add what the row of an ended job does not say; by default nothing.

        ``now`` is the server's time, None where it is not known.
        """
        return job

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return what OpenLineage's listener is shown of an ended job; by default itself.

        Called only where there is such a listener.
        """
        # OpenLineage may not be installed.
        from async_triggers.lineage.facets import Lineage  # noqa: PLC0415

        return Lineage(vendor=leased.vendor.name, job=job)

    def result(self, job: Job | None) -> Any:
        """Return what the task returns; ``job`` is None where its end is not waited for."""
        return self.job_id


@dataclass(frozen=True, kw_only=True)
class JobRequest(StoredValue, ABC):
    """What to start, and what to do about it.

    Fields are plain JSON. ``poll_interval`` is in seconds. ``waits`` is False for a task
    that hands back the id of its job. ``address`` is as in :class:`RemoteJob`.
    ``attempt`` is whose job it will be; it is set by the
    process that starts, and not stored.
    """

    conn_id: str
    poll_interval: float
    waits: bool = True
    if_running: str = "wait"
    cancel_on_kill: bool = True
    cancel_on_timeout: bool = True
    address: str = ""
    attempt: Attempt | None = field(default=None, metadata=NOT_STORED)

    kind = "request"
    start_grace: ClassVar[float] = 0.0
    """Seconds after which a start whose answer was lost shows up, if it ever does."""

    # Between processes ------------------------------------------------------------

    def of_attempt(self, ti: Any, max_tries: int) -> Self:
        """Return the request as an attempt of a task makes it."""
        return replace(self, attempt=Attempt.of(ti, max_tries))

    @property
    def try_number(self) -> int:
        """The number of the try that starts; 0 where Airflow does not show whose it is."""
        return 0 if self.attempt is None else self.attempt.try_number

    def fingerprint(self) -> str:
        """Return what distinguishes two requests."""
        request = {"conn_id": self.conn_id, **self.describe()}
        text = orjson.dumps(request, option=orjson.OPT_SORT_KEYS, default=str)
        return hashlib.sha256(text).hexdigest()[:16]

    # What a vendor adds -----------------------------------------------------------

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the request's connection. No I/O."""

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.make_hook().vendor

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return what is requested, as JSON: what makes two requests the same."""

    @abstractmethod
    def job(self, job_id: str, *, owned: bool, url: str = "") -> RemoteJob:
        """Return a job that this request has led to."""

    async def resolved(self, leased: LeasedAccount) -> Self:
        """Return the request with the ids of all that it names; by default as it is."""
        return self

    @abstractmethod
    async def before_start(self, leased: LeasedAccount) -> Before:
        """Learn what is there before the start.

        Raise :class:`~async_triggers.engine.errors.RequestRejected` where the vendor will
        not start one at all.
        """

    @abstractmethod
    async def start(self, leased: LeasedAccount, before: Before) -> Seen:
        """Start the job.

        Raise :class:`~async_triggers.engine.errors.AlreadyRunning` when the vendor did
        not, because one is under way.
        """

    def was_there_before(self, seen: Seen, intent: Intent) -> bool:
        """Return True if a start was answered with a job that it has not started."""
        return False

    @abstractmethod
    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """Look for the job of a start whose answer was lost."""

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Return True if a running job that was found so is hardly anyone else's.

        A task waits for any that is found, but ends only such a job.
        """
        return False

    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Look for the job that is in the way of a start."""
        return (await self.before_start(leased)).running

    async def find_unsettled(
        self, leased: LeasedAccount, unsettled: Unsettled
    ) -> Seen | None:
        """Look for a job that a trigger of a cleared attempt must have started.

        Where it cannot be cancelled and is attached to, it will do if the attempt may have
        started it. None also where the vendor's jobs do not show whose they are.
        """
        return None

    async def is_settled(self, leased: LeasedAccount, unsettled: Unsettled) -> bool:
        """Return True if what the trigger of a cleared attempt started must have ended.

        For vendors whose jobs do not show whose they are, see
        :meth:`.record.Unsettled.has_ended`.
        """
        return False

    async def find_retried(
        self, leased: LeasedAccount, unsettled: Unsettled
    ) -> Seen | None:
        """Look for the newest job that a trigger of a retried attempt has started.

        None also where the vendor's jobs do not show whose they are.
        """
        return None

    def may_attach(self, job: Job) -> bool:
        """Return True if a job that is not ours would do as well."""
        return True

    @property
    def attaches_when_cleared(self) -> bool:
        """True where a running job cannot be cancelled to make way for a new one."""
        return False

    @property
    def remembers_failures(self) -> bool:
        """True where a retry must know which job has failed before it."""
        return False

    def after(self, job_id: str) -> Self:
        """Return the request of a retry, given the job that failed before it."""
        return self

    def resuming(self, intent: Intent) -> Self:
        """Return the request as it was when an intent was written down."""
        return self

    def is_over(self, job: Job) -> bool:
        """Return True if a job that has failed is never taken up again by the vendor."""
        return True

    def start_xcoms(self, job: Job, intent: Intent) -> Mapping[str, Any]:
        """Return the XComs that are pushed as soon as the job is known."""
        return {}
