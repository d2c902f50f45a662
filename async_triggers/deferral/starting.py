"""Which job a task waits for: the one of an earlier attempt, another user's, a new one.

One algorithm for both places where a start is made. It is written as coroutines over a
:class:`.inquiry.Desk`, which says how to reach the vendor and where to write down what was
done. On a worker a desk does everything at once and never suspends
(:func:`.inquiry.at_once`), since Airflow cannot be reached there from a running event loop;
on the triggerer it awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from async_triggers.deferral import compat
from async_triggers.deferral.cancelling import cancel_and_confirm
from async_triggers.deferral.contact import address_of, with_fate
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    JobAlreadyRunning,
    JobTimedOut,
    TaskKilled,
    VendorRefused,
    translate,
)
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.inquiry import Later
from async_triggers.deferral.left_starts import Find, LeftStarts, fate_of_left
from async_triggers.deferral.record import Intent, Next, Record, decide
from async_triggers.deferral.resuming import Resumption
from async_triggers.engine.errors import (
    AlreadyRunning,
    EngineError,
    JobNotFound,
    PermanentError,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.jobs import JobState, Seen
from async_triggers.engine.observer import STARTS
from async_triggers.engine.wording import aside, begun, sentence, with_url

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.deferral.inquiry import Desk, Inquiry
    from async_triggers.deferral.remote_job import Before, JobRequest, RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Vendor

T = TypeVar("T")

GONE = "gone"
"""The end in the record of a job of which it need not be known how it ended."""
SUPERSEDING = "superseding"
"""The job in the owner token of an attempt that ends an earlier one's job first."""


LOOKS_AGAIN = 2
LOOK_AGAIN_AFTER = 1.0
"""How often, and after how many seconds, a job is looked for again before another start.

A list of jobs may leave one out while others come and go.
"""


async def find_by_intent(
    request: JobRequest, leased: LeasedAccount, intent: Intent
) -> tuple[Seen | None, bool, float]:
    """Look for the job of a start that was not answered.

    Return it and whether it is ours; or None, and in how many seconds it must have shown
    up.
    """
    seen = await request.find_started(leased, intent)
    if seen is None:
        now = (await request.before_start(leased)).intent.at
        age = intent.age(server_now=now, now=wall_clock())
        if age < request.start_grace:
            return None, False, request.start_grace - age

        for _ in range(LOOKS_AGAIN):
            await asyncio.sleep(LOOK_AGAIN_AFTER)
            seen = await request.find_started(leased, intent)
            if seen is not None:
                break

    if seen is None:
        return None, False, 0.0

    return seen, await request.is_own_start(leased, seen, intent), 0.0


def log_found(log: Logger, vendor: Vendor, job: Job, *, owned: bool) -> None:
    """Log what may have come of a start that was not answered."""
    name = vendor.name_of(job.id)
    if owned:
        words = (
            f"The start request had no answer, but it started {name}: waiting for it"
        )
        log.info("%s", with_url(words, job.url))
        return

    words = (
        f"The start request had no answer. It may have started {name}, but so may another"
        " user: this task never cancels it"
    )
    log.warning("%s", with_url(words, job.url))


def log_left(log: Logger, vendor: Vendor, job_id: str) -> None:
    """Log that a job of the earlier attempt is not the task's to wait for."""
    log.warning(
        "An earlier attempt started %s with other arguments: it runs on, and a new %s is"
        " started",
        vendor.name_of(job_id),
        vendor.noun,
    )


class Behind(Exception):
    """Another job must end before ours can start."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.job.id)
        self.seen = seen


@dataclass(slots=True, kw_only=True)
class Starting:
    """One attempt's way to its job.

    ``superseded`` is the job that must end first, because it is that of a cleared
    attempt; ``left`` holds starts by earlier attempts that were not written down.
    ``inquiry`` is how the vendor is reached. ``resumption`` is what has become of the
    job of an earlier attempt.
    """

    request: JobRequest
    inquiry: Inquiry
    max_tries: int
    superseded: str | None = None
    left: LeftStarts = field(default_factory=LeftStarts)
    resumption: Resumption = Resumption.FRESH
    _result: str = "started"
    """How the job was come by, for the metrics."""

    @property
    def desk(self) -> Desk:
        """Where the record is kept."""
        return self.inquiry.desk

    @property
    def log(self) -> Logger:
        """The log of the task."""
        return self.inquiry.log

    @property
    def vendor(self) -> Vendor:
        """Whose jobs they are."""
        return self.request.vendor

    async def get_job(self) -> tuple[Seen, bool]:
        """Return the job to wait for and whether it is ours.

        Raise :class:`Later` or :class:`Behind` where that must be waited for, and what
        ``if_running`` says about another user's job.
        """
        try:
            found = await self._get_job()
        except (PermanentError, ConnectionUnusable, VendorRefused):
            self.desk.tally.count(STARTS, "refused")
            raise

        self.desk.tally.count(STARTS, self._result)
        return found

    async def _get_job(self) -> tuple[Seen, bool]:
        record = await self.desk.read()
        address = address_of(self.desk.account)
        if record is not None and record.address == address:
            # An attempt before this one has had an answer from there.
            self.inquiry.contact = replace(self.inquiry.contact, known=address)

        fingerprint, number = self.request.fingerprint(), self.request.try_number
        step = decide(
            record, fingerprint=fingerprint, max_tries=self.max_tries, try_number=number
        )
        if record is not None and record.job_id is not None:
            known = await self._take_up(step, record, record.job_id)
            if known is not None:
                return known

        elif record is not None and step is Next.FIND:
            lost = await self._find_lost(record)
            if lost is not None:
                return await self._take_found(record, lost)

        new = Record(
            fingerprint=fingerprint,
            max_tries=self.max_tries,
            try_number=number,
            address=address,
        )
        if self.left.cleared is not None:
            found = await self._settle()
            if found is not None:
                # Perhaps ours, and hence never to be cancelled.
                await self.desk.write(new.with_job(found.job, owned=False))
                self._result = "attached"
                return found, False

        resumed = await self._resume(new)
        if resumed is not None:
            return resumed, True

        return await self._start_new(new)

    async def _take_found(
        self, record: Record, found: tuple[Seen, bool]
    ) -> tuple[Seen, bool]:
        """Write down what came of a start without an answer, and take it up."""
        seen, owned = found
        await self.desk.write(record.with_job(seen.job, owned=owned))
        if record.try_number == self.request.try_number:
            self._result = "found_again"
            return found

        if not owned:
            # Perhaps ours: after a clear it is waited for, and never attached to.
            self.superseded = seen.job.id

        # Of an earlier try: what follows is as with any other job of that.
        return await self._get_job()

    async def _take_up(
        self, step: Next, record: Record, job_id: str
    ) -> tuple[Seen, bool] | None:
        """Do what must be done about a known job; None where a new one is needed."""
        if step is Next.REATTACH:
            found = await self._reattach(record, job_id)
            return None if found is None else (found, record.owned)

        if step is Next.SUPERSEDE:
            # From here on the old job is ours to end: its trigger may yet be killed.
            await self.desk.announce()
            job = self.request.job(job_id, owned=record.owned, url=record.url)
            found = await self._supersede(job, record.fate(self.vendor))
            if found is None:
                self.superseded = job_id
                # If the start has to wait, the job need not be checked again.
                await self.desk.write(replace(record, ended=GONE))
                return None

            number = self.request.try_number
            renewed = replace(
                record, max_tries=self.max_tries, try_number=number, killed=False
            )
            await self.desk.write(renewed)
            self._result, self.resumption = "found_again", Resumption.RECONNECTED
            return found, True

        if step is Next.AFTER:
            self._start_after(job_id, record.ended)
        elif step is Next.LEAVE:
            log_left(self.log, self.vendor, job_id)

        return None

    async def _check(
        self, question: Callable[[LeasedAccount], Awaitable[T]], fate: str
    ) -> T:
        return await self.inquiry.check(question, self.request, fate)

    def _start_after(self, job_id: str, word: str) -> None:
        """Take note that the job of the earlier attempt has ended, and not well."""
        self.resumption = Resumption.RESUBMITTED
        self.log.info(
            "%s of the earlier attempt %s: starting a new one",
            begun(self.vendor.name_of(job_id)),
            word,
        )
        self.request = self.request.after(job_id)

    async def _reattach(self, record: Record, job_id: str) -> Seen | None:
        """Check the job of an earlier attempt; None when a new one is needed."""
        job = self.request.job(job_id, owned=record.owned, url=record.url)
        try:
            seen = await self._check(job.recheck, record.fate(self.vendor))
        except JobNotFound as error:
            self.log.warning(
                "%s Starting a new %s", sentence(error.message), self.vendor.noun
            )
            await self.desk.write(replace(record, ended=GONE))
            self.resumption = Resumption.RESUBMITTED
            return None

        self.inquiry.settle()
        has_failed = seen.job.state in {JobState.FAILED, JobState.CANCELLED}
        # A try fails with its own job; a job of an earlier one is started again.
        if has_failed and not 0 < record.try_number == self.request.try_number:
            await self.desk.write(replace(record, ended=seen.job.word))
            self._start_after(job_id, seen.job.word)
            return None

        self._result = "found_again"
        self.resumption = Resumption.RECONNECTED
        if seen.job.state is JobState.SUCCEEDED:
            self.resumption = Resumption.SUCCEEDED

        whose = "the earlier attempt started" if record.owned else "it waited for"
        self.log.info("Attaching to %s, which %s", self.vendor.name_of(job_id), whose)
        return seen

    async def _supersede(self, job: RemoteJob, fate: str) -> Seen | None:
        """Cancel the job of an attempt that is over, and see it end before one starts.

        Return it where the vendor cannot cancel, so that it is attached to.
        """
        name = self.vendor.name_of(job.job_id)
        try:
            seen = await self._check(job.recheck, fate)
            if seen.job.state.is_terminal:
                self.inquiry.settle()
                return None

            if self.request.attaches_when_cleared:
                self.log.info(
                    "Attaching to %s of the earlier attempt, which cannot be cancelled",
                    name,
                )
                self.inquiry.settle()
                return seen

            self.superseded = job.job_id
            if not self.request.cancel_on_kill:
                self.log.info("Waiting for %s of the earlier attempt to end", name)
                self.inquiry.settle()
                raise Behind(seen)

            self.log.info("Cancelling %s of the earlier attempt", name)
            ending = await self._check(
                lambda leased: cancel_and_confirm(job, leased, "cleared"), fate
            )
        except JobNotFound:
            return None

        self.inquiry.settle()
        if not ending.job.state.is_terminal:
            raise Behind(ending)

        return None

    async def _find_lost(self, record: Record) -> tuple[Seen, bool] | None:
        """Look for the job of a start that was not answered, and whether it is ours.

        None once it must have shown up and has not; until then come back later.
        """
        intent = record.intent
        self.request = self.request.resuming(intent)

        async def find(leased: LeasedAccount) -> tuple[Seen | None, bool, float]:
            return await find_by_intent(await self._resolved(leased), leased, intent)

        try:
            seen, owned, left = await self._check(find, record.fate(self.vendor))
        except JobNotFound as error:
            hook = self.request.make_hook()
            failure = translate(error, hook.conn_id, hook.conn_type)
            raise with_fate(failure, record.fate(self.vendor)) from None

        self.inquiry.settle()
        if seen is not None:
            log_found(self.log, self.vendor, seen.job, owned=owned)
            return seen, owned

        if left <= 0:
            return None

        raise Later(
            min(left, 20.0), "a start request had no answer and its job may yet show up"
        )

    async def _settle(self) -> Seen | None:
        """End the job that a cleared attempt may have started, where it can be known.

        Return it where the vendor cannot cancel, so that it is attached to.
        """
        seen = await self.left.find_cleared(self._search)
        if seen is None:
            return None

        job = self.request.job(seen.job.id, owned=True, url=seen.job.url)
        return await self._supersede(job, fate_of_left(self.vendor))

    async def _resume(self, new: Record) -> Seen | None:
        """Take over the job of a retried attempt of which only its mark is known."""
        seen = await self.left.find_retried(self._search)
        known = await self.desk.read()
        # The record may say already that it has ended, and that another is to be started.
        if seen is None or (known is not None and known.job_id == seen.job.id):
            return None

        # Of an earlier try, whose number is not known.
        record = replace(new.with_job(seen.job, owned=True), try_number=0)
        await self.desk.write(record)
        return await self._reattach(record, seen.job.id)

    async def _search(self, find: Find) -> Seen | None:
        """Look for a job that an earlier attempt had left to its trigger."""

        async def look(leased: LeasedAccount) -> Seen | None:
            return await find(await self._resolved(leased), leased)

        fate = fate_of_left(self.vendor)
        return await self.inquiry.find(look, self.request, fate)

    async def _resolved(self, leased: LeasedAccount) -> JobRequest:
        """Return the request with the ids of all that it names."""
        self.request = await self.request.resolved(leased)
        return self.request

    async def _before_start(self, leased: LeasedAccount) -> Before:
        before = await (await self._resolved(leased)).before_start(leased)
        self.request = before.request or self.request
        return before

    async def _start_new(self, record: Record) -> tuple[Seen, bool]:
        """Start our job, or take the one that ``if_running`` allows."""
        async with self.desk.turn():
            return await self._start_in_turn(record)

    async def _start_in_turn(self, record: Record) -> tuple[Seen, bool]:
        desk, began = self.desk, wall_clock()
        try:
            before = await self.inquiry.request(self._before_start)
        except EngineError as error:
            self.inquiry.refuse_start(error, began)
            raise

        if before.running is not None:
            attached = await self._meet(record, before.running)
            if attached is not None:
                return attached, False

        earlier = await desk.read()
        record = replace(record, intent=replace(before.intent, sent_at=wall_clock()))
        await desk.write(record)
        began = wall_clock()
        try:
            seen = await self._send(before, earlier)
        except AlreadyRunning as error:
            await self._take_back(earlier)
            return await self._after_conflict(record, error), False
        except EngineError as error:
            # An answer that cannot be read came from a start that may well have worked.
            is_lost = isinstance(error, TransientError) and (
                error.ambiguous or isinstance(error, UnreadableReply)
            )
            if is_lost:
                return await self._after_silence(record, error)

            await self._take_back(earlier)
            self.inquiry.refuse_start(error, began)
            raise

        if self.request.was_there_before(seen, before.intent):
            await self._take_back(earlier)
            attached = await self._meet(record, seen)
            if attached is None:
                reason = f"{seen.job.title}, which was there before, has just ended"
                raise Later(10.0, reason)

            return attached, False

        await desk.write(record.with_job(seen.job, owned=True))
        self.log.info("%s", with_url(f"{seen.job.title} started", seen.job.url))
        return seen, True

    async def _send(self, before: Before, earlier: Record | None) -> Seen:
        """Request the start; take its intent back where there is no time to send it."""
        request, is_sent = self.request, False

        async def start(leased: LeasedAccount) -> Seen:
            nonlocal is_sent
            is_sent = True
            return await request.start(leased, before)

        try:
            return await self.inquiry.request(start, whole=True)
        except (TaskKilled, JobTimedOut):
            if not is_sent:
                try:
                    await self._take_back(earlier)
                except Exception as error:  # noqa: BLE001 - the end of the task counts
                    # Airflow writes nothing more for a task that was cleared.
                    self.log.warning("The intent could not be taken back: %s", error)

            raise

    async def _after_silence(
        self, record: Record, error: EngineError
    ) -> tuple[Seen, bool]:
        """The start has no answer: look for what came of it."""
        self.log.warning(
            "No answer to the start request %s: checking whether it started a %s",
            aside(error.message),
            self.vendor.noun,
        )
        found = await self._find_lost(record)
        if found is None:
            raise Later(1.0, error.message, error=error) from None

        return await self._take_found(record, found)

    async def _take_back(self, earlier: Record | None) -> None:
        """Take an intent back: nothing was started, what was known before still holds."""
        if earlier is not None and earlier.job_id is not None:
            await self.desk.write(earlier)
        else:
            await self.desk.forget()

    async def _after_conflict(self, record: Record, error: AlreadyRunning) -> Seen:
        """The vendor says that a job runs already: see which."""
        try:
            running = await self.inquiry.request(self.request.find_running)
        except TransientError as failure:
            raise Later.than(failure) from None

        attached = None if running is None else await self._meet(record, running)
        if attached is None:
            raise Later(10.0, error.message)

        return attached

    async def _meet(self, record: Record, running: Seen) -> Seen | None:
        """Do what ``if_running`` says about a job that is not ours.

        Return it if it is to be waited for as if it were; None when it is over already.
        """
        request, job = self.request, running.job
        if job.state.is_terminal:
            return None

        if job.id == self.superseded:
            raise Behind(running)

        is_running = "is already running"
        if job.started_at:
            is_running = f"has been running since {job.started_at}"

        state = f"{job.title} {is_running}"
        if self.left.may_include(job):
            state += ", perhaps started by the cleared attempt: waiting for it to end"
            self.log.info("%s", with_url(state, job.url))
            raise Behind(running)

        if request.if_running in {"fail", "skip"}:
            msg = with_url(f"{state}, and if_running is {request.if_running}", job.url)
            if request.if_running == "fail":
                raise JobAlreadyRunning(msg)

            raise compat.AirflowSkipException(msg)

        if request.if_running == "attach" and request.may_attach(job):
            self.log.info("%s", with_url(f"{state}, attaching to it", job.url))
            await self.desk.write(record.with_job(job, owned=False))
            self._result = "attached"
            return running

        state += ", waiting for it to end, then starting our own"
        self.log.info("%s", with_url(state, job.url))
        raise Behind(running)
