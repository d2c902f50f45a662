"""Starting a job on the triggerer, outside of any worker.

The worker defers at once; :class:`StartTrigger` gets its request, finds or starts the job
as a worker would (:mod:`async_triggers.deferral.starting`), and then waits for it with
the vendor's own trigger. Starts share the account's limiter with all else that the
triggerer requests, and wait for their turn before they look and not after.

A triggerer may die, freeze or lose the trigger to another one between any two steps, so a
start is *claimed*: the intent is written to an XCom of the task before the request is
sent, and completed with the job's id after. The next run of the trigger reads the claim
first. Each run of the trigger has a name, which it writes to its claim and looks for right
before its request: one that was frozen meanwhile finds another name, and sends nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from async_triggers.deferral import compat, events
from async_triggers.deferral.deadlines import earliest, seconds_left
from async_triggers.deferral.errors import (
    AsyncTriggersException,
    explain,
    translate,
    with_request,
)
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.inquiry import Inquiry, Later
from async_triggers.deferral.job_cancel import KILL_LOOK, JobCancel
from async_triggers.deferral.kill import IDLE
from async_triggers.deferral.left_starts import LeftStarts
from async_triggers.deferral.one_event import (
    OneEventTrigger,
    insist,
    run_alone,
    see_through,
)
from async_triggers.deferral.record import (
    Next,
    Record,
    decide,
    read_record,
    read_unsettled,
)
from async_triggers.deferral.remote_job import JobRequest
from async_triggers.deferral.start_later import (
    NOTHING,
    settle_lost,
    settle_record,
)
from async_triggers.deferral.starting import (
    SUPERSEDING,
    Behind,
    Starting,
)
from async_triggers.deferral.stored import Unreadable
from async_triggers.deferral.trigger import trigger_for
from async_triggers.engine.errors import (
    EngineError,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.wording import aside

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from async_triggers.deferral.ending import Ending
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.engine.observer import Tally
    from async_triggers.engine.wire import Account

T = TypeVar("T")

STARTING = "starting"
"""The job in the owner token of an attempt that is just starting one."""
CLAIM_PATIENCE = 60.0
"""Seconds for which the id of a job that runs is tried to be written down."""
LOST_CLAIM = 10.0
"""Seconds after which a trigger that lost its claim looks again."""
LAST_ANSWER = 90.0
"""Seconds for the answer of a start that is under way when the deadline comes."""
BREATH = 5.0
"""Seconds between the end of another job and the next look."""


class StartTrigger(OneEventTrigger):
    """Starts a job, waits until it has ended, and yields one event.

    The event is that of the vendor's trigger; its ``start`` holds the number of the
    attempt and the record that the worker keeps.

    :param request: what to start, see
        :meth:`async_triggers.deferral.stored.StoredValue.to_json`
    :param max_tries: Airflow's ``max_tries`` of the attempt, which only a clear raises
    :param end_time: the deadline in epoch seconds, None for none
    :param execution_deadline: the deadline that ``execution_timeout`` sets
    :param record: what an earlier attempt has written down
    :param unsettled: starts by earlier attempts that were not written down
    :param links: the XCom keys of the links to the job
    :param announces: push what is known of the job as soon as it is started
    :param ending: how the trigger ends its task; None to resume it
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        max_tries: int,
        end_time: float | None,
        execution_deadline: float | None = None,
        *,
        record: Mapping[str, Any] | None = None,
        unsettled: Mapping[str, Any] | None = None,
        links: Sequence[str] = (),
        announces: bool = True,
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.request = request
        self.max_tries = max_tries
        self.end_time = end_time
        self.execution_deadline = execution_deadline
        self.record = record
        self.unsettled = unsettled
        self.links = links
        self.announces = announces
        self.ending = ending
        # What is known of the start, for the event and for a kill.
        self._desk: _TriggerDesk | None = None
        self._request: JobRequest | None = None
        self._inner: JobTrigger | None = None
        self._owned = False
        self._waits_for = "its turn"
        self._error: EngineError | None = None
        """Why it waits, where that is a failure."""

    # Starting ---------------------------------------------------------------------

    async def _outcome(self) -> Outcome:
        try:
            request = self._request = self._read_request()
        except Unreadable as error:
            return events.not_started(error)

        hook = request.make_hook()
        try:
            account = await hook.known_account(patience=self._seconds_left())
        except EngineError as error:
            return events.not_started(translate(error, hook.conn_id, hook.conn_type))

        async with hook.lease(account=account) as leased:
            self._desk = desk = _TriggerDesk(self, leased)
            try:
                async with asyncio.timeout(self._seconds_left()):
                    seen, self._owned = await self._get_job(request, desk)
            except TimeoutError:
                return await self._at_deadline(request, desk)
            except EngineError as error:
                return events.not_started(
                    translate(error, hook.conn_id, hook.conn_type)
                )
            except (AsyncTriggersException, compat.AirflowSkipException) as error:
                return events.not_started(error)

            return await self._wait_for(request, seen, leased)

    def _read_request(self) -> JobRequest:
        request, ti = JobRequest.from_json(self.request), self.task_instance
        return request if ti is None else request.of_attempt(ti, self.max_tries)

    async def _get_job(
        self, request: JobRequest, desk: _TriggerDesk
    ) -> tuple[Seen, bool]:
        """Find or start the job, even if that takes hours."""
        starting = Starting(
            request=request,
            inquiry=Inquiry(desk=desk, log=self.log),
            max_tries=self.max_tries,
            left=LeftStarts.of(
                read_unsettled(self.unsettled),
                max_tries=self.max_tries,
                fingerprint=request.fingerprint(),
            ),
        )
        while True:
            try:
                return await starting.get_job()
            except Later as later:
                await desk.leased.sleep(await self._wait_of(desk, later, starting))
            except Behind as behind:
                other = behind.seen
                self._waits_for = f"{other.job.title} was running"
                job = request.job(other.job.id, owned=False, url=other.job.url)
                trigger = trigger_for(request, job, seen_at=other.at)
                await trigger.wait_on(desk.leased)
                await asyncio.sleep(BREATH)

    async def _wait_of(
        self, desk: _TriggerDesk, later: Later, starting: Starting
    ) -> float:
        """Return how long the start must wait; raise where that is of no use."""
        error, left, inquiry = later.error, self._seconds_left(), starting.inquiry
        endpoint = starting.request.make_hook().endpoint(desk.account)
        self._waits_for, fate = later.reason, ""
        if error is not None:
            self._waits_for = explain(error, endpoint.conn_id, endpoint.conn_type)
            self._error = error
            await self._recall(inquiry)
            if inquiry.contact.is_known(desk.account):
                desk.leased.transport.trust.vouch()

            fate = "" if desk.record is None else desk.record.fate(starting.vendor)

        wait = inquiry.wait_for(later, endpoint, left=left, fate=fate)
        ends = None if left is None else wall_clock() + left
        inquiry.report(later, endpoint, wait=wait, ends=ends)
        return wait

    async def _recall(self, inquiry: Inquiry) -> None:
        """Look up, once, which address has worked for an earlier run of the task."""
        ti = self.task_instance
        contact = inquiry.contact
        if contact.known is not None or contact.evidence_since is None:
            return

        known: str | None = ""
        if ti is not None:
            try:
                async with asyncio.timeout(KILL_LOOK):
                    known = await compat.earlier_address_of(ti)
            except Exception as error:  # noqa: BLE001 - the supervisor's, of any kind
                self.log.debug("The token of an earlier run was not shown: %s", error)
                known = None

        inquiry.contact = replace(contact, known=known)

    async def _wait_for(
        self, request: JobRequest, seen: Seen, leased: LeasedAccount
    ) -> Outcome:
        """Wait for the job that there is now."""
        job = seen.job
        inner = self._take_over(
            request,
            request.job(job.id, owned=self._owned, url=job.url),
            leased,
            seen_at=seen.at,
        )
        await self._announce(request, job)
        if job.state.is_terminal:
            return events.ended(await inner.complete(leased, job))

        if not request.waits:
            return Outcome(
                status=Status.SUCCESS,
                kind=Kind.STARTED,
                job_id=job.id,
                message=f"{job.title} is not waited for",
                job=job,
            )

        inner.report_interval()
        return await inner.wait_on(leased)

    def _take_over(
        self,
        request: JobRequest,
        job: RemoteJob,
        leased: LeasedAccount,
        *,
        seen_at: float | None = None,
    ) -> JobTrigger:
        """Make the vendor's trigger, whose kill is ours."""
        inner = self._inner = trigger_for(
            request,
            job,
            end_time=self.end_time,
            execution_deadline=self.execution_deadline,
            seen_at=seen_at,
        )
        inner.task_instance = self.task_instance
        inner._leased = leased  # noqa: SLF001 - its kill is ours
        return inner

    async def _announce(self, request: JobRequest, job: Job) -> None:
        """Push what people may want to know before the job has ended."""
        ti = self.task_instance
        if ti is None or not self.announces:
            return

        desk = self._desk
        record = None if desk is None else desk.record
        facts = dict.fromkeys(self.links, job.url) if job.url else {}
        if record is not None:
            facts |= request.start_xcoms(job, record.intent)

        try:
            for key, value in facts.items():
                await compat.push_from_trigger(ti, key, value)
        except Exception:
            # The worker pushes them as well, once the job has ended.
            self.log.warning(
                "The XComs of the started job could not be pushed", exc_info=True
            )

    # Deadlines --------------------------------------------------------------------

    def _seconds_left(self) -> float | None:
        ends = earliest(self.end_time, self.execution_deadline)
        return seconds_left(ends, wall_clock())

    async def _at_deadline(self, request: JobRequest, desk: _TriggerDesk) -> Outcome:
        """Cancel what is ours: a job just being started, or that of an earlier attempt."""
        if desk.start is not None:
            await desk.start.settled(request, LAST_ANSWER)
            seen = desk.start.seen
            if seen is not None:
                await desk.write(desk.start.record.with_job(seen.job, owned=True))

        record = desk.record
        if (
            record is None
            or record.job_id is None
            or not record.owned
            or record.ended
            or not record.is_same(request.fingerprint(), request.try_number)
        ):
            return self._too_late()

        self._owned = True
        job = request.job(record.job_id, owned=True, url=record.url)
        return await self._take_over(request, job, desk.leased).wait_on(desk.leased)

    def _too_late(self) -> Outcome:
        desk = self._desk
        lost = desk is not None and desk.is_in_doubt
        request = self._request
        assert request is not None  # noqa: S101 - read before
        noun = request.vendor.noun
        fate = f"; a start was not answered, a {noun} may be running" if lost else ""
        words = (
            f"The {noun} could not be started before the task timed out"
            f" {aside(self._waits_for)}{fate}"
        )
        return Outcome(
            status=Status.TIMEOUT,
            kind=Kind.DEADLINE,
            job_id="",
            message=with_request(words, self._error),
            cancel=Cancel.NONE,
        )

    # The event --------------------------------------------------------------------

    async def _event(self, outcome: Outcome) -> TriggerEvent:
        if self._inner is not None:
            # Its cancel may go on, and checks then whether the task has.
            self._inner._fired = True  # noqa: SLF001 - its event is ours

        return await super()._event(outcome)

    def _how_to_end(self) -> Ending | None:
        ending = super()._how_to_end()
        return None if ending is None else replace(ending, attached=not self._owned)

    def result(self, job: Job) -> Any:
        """Return what a task returns that this trigger ends."""
        inner, request = self._inner, self._request
        if inner is None or request is None:
            return None

        return inner.remote_job.result(job if request.waits else None)

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the payload of the vendor's event, and what became of the start."""
        inner, ti, desk = self._inner, self.task_instance, self._desk
        payload = super().payload(outcome) if inner is None else inner.payload(outcome)
        record = None if desk is None else desk.record
        return {
            **payload,
            "start": {
                "try": None if ti is None else ti.try_number,
                "record": None if record is None else record.to_json(),
            },
        }

    # Being killed -----------------------------------------------------------------

    async def on_kill(self) -> None:
        """Cancel the job if the user's intention says so, also one just being started."""
        inner, desk, request = self._inner, self._desk, self._request
        if self._fired or self.task_instance is None:
            return

        if inner is not None:
            await inner.on_kill()
            return

        if request is None or not request.cancel_on_kill:
            return

        name = "settle the kill of a start"
        if desk is not None and desk.start is not None:
            settling = self._settle_start(request, desk.leased, desk.start)
            errand = desk.leased.run_errand(settling, name)
        else:
            errand = run_alone(self._settle_claim(request), name)

        message = await see_through(errand)
        if message is not None:
            self.log.info("%s", message)

    async def _settle_claim(self, request: JobRequest) -> str:
        """Settle the kill of what an earlier run of the trigger has started, if one has."""
        ti = self.task_instance
        try:
            async with asyncio.timeout(KILL_LOOK):
                # First of all: the worker of the next attempt wipes it.
                claim = await insist(lambda: compat.read_claim(ti), self.log)

            record = read_record(self.record if claim is None else claim[1])
            step = decide(
                record,
                fingerprint=request.fingerprint(),
                max_tries=self.max_tries,
                try_number=request.try_number,
            )
            if (
                record is None
                or not record.owned
                or step not in {Next.REATTACH, Next.FIND}
            ):
                return NOTHING

            return await settle_record(request, record, ti, self.log)
        except (EngineError, TimeoutError) as error:
            message = f"What was started could not be cancelled: {error}"
            self.log.warning("%s", message)
            return message

    async def _settle_start(
        self, request: JobRequest, leased: LeasedAccount, start: _Start
    ) -> str:
        """Wait for the answer of a start, and settle the kill of what it started."""
        await start.settled(request)
        ti = self.task_instance
        if start.is_lost:
            return await settle_lost(request, leased, start.record, ti, self.log)

        if start.seen is None:
            return NOTHING

        shown = start.seen.job
        job = request.job(shown.id, owned=True, url=shown.url)
        return await JobCancel(job, self.log, ti).settle_kill(leased)


class _Start:
    """A request that starts a job, under way or answered."""

    def __init__(self, record: Record, request: asyncio.Task[Seen]) -> None:
        self.record = record
        self.seen: Seen | None = None
        """The job that it has started, which is ours."""
        self.is_lost = False
        """True when it was not answered, so that a job may be running."""
        self._request = request

    async def settled(self, made: JobRequest, timeout: float | None = None) -> None:  # noqa: ASYNC109 - not cancelled
        """Wait for the answer, and take it in."""
        request = self._request
        await asyncio.wait({request}, timeout=timeout)
        if not request.done() or request.cancelled():
            self.is_lost = True
            return

        error = request.exception()
        if error is None:
            seen = request.result()
            if not made.was_there_before(seen, self.record.intent):
                self.seen = seen

        elif isinstance(error, TransientError):
            self.is_lost = error.ambiguous or isinstance(error, UnreadableReply)


class _TriggerDesk:
    """The triggerer's: it awaits, and keeps the record in an XCom of the task."""

    def __init__(self, trigger: StartTrigger, leased: LeasedAccount) -> None:
        self.leased = leased
        self.record: Record | None = None
        self.address = ""
        """Where the vendor has answered the task, for its claim."""
        self.start: _Start | None = None
        """The start that was sent last, until what came of it is written down."""
        self._trigger = trigger
        self._name = uuid.uuid4().hex
        self._is_known = False
        # Whose claim was seen last.
        self._seen: str | None = None

    @property
    def account(self) -> Account:
        """The account as it was last read."""
        return self.leased.account

    @property
    def tally(self) -> Tally:
        """Where metrics of the account are noted."""
        return self.leased.tally

    @property
    def is_in_doubt(self) -> bool:
        """True while a start may have worked of which nothing is known."""
        return self.record is not None and self.record.job_id is None

    async def request(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        whole: bool = False,
    ) -> T:
        if not whole:
            return await question(self.leased)

        await self._expect(self._name)
        record = self.record
        assert record is not None  # noqa: S101 - the intent comes before the start
        context = contextvars.copy_context()

        async def once() -> T:
            return await question(self.leased)

        async def as_the_trigger() -> T:
            # An errand has no context: what is logged belongs to the task all the same.
            loop = asyncio.get_running_loop()
            return await loop.create_task(once(), context=context)

        errand = self.leased.run_errand(as_the_trigger(), "start a job")
        # A request that is whole is a start.
        self.start = _Start(record, cast("asyncio.Task[Seen]", errand))
        # Not awaited: a trigger that is cancelled must not cut its start off.
        await asyncio.wait({errand})
        return errand.result()

    async def _claim(self) -> tuple[str, Any] | None:
        ti = self._trigger.task_instance
        if ti is None:
            return None

        return await insist(lambda: compat.read_claim(ti), self._trigger.log)

    async def _expect(self, name: str | None) -> None:
        """Raise Later where another run of the trigger has written its claim since."""
        if self._trigger.task_instance is None:
            return

        claim = await self._claim()
        if (None if claim is None else claim[0]) != name:
            self._is_known = False
            # What it has led to is the other's to find.
            self.start = None
            raise Later(LOST_CLAIM, "another triggerer makes this start")

    async def read(self) -> Record | None:
        if not self._is_known:
            claim = await self._claim()
            stored = self._trigger.record if claim is None else claim[1]
            self._seen = None if claim is None else claim[0]
            self.record = read_record(stored)
            self._is_known = True

        return self.record

    async def write(self, record: Record) -> None:
        start = self.start
        # What a start of ours has led to is written down in any case.
        if start is None or record.intent != start.record.intent:
            await self._expect(self._seen)

        self.record = record
        self.address = record.address or self.address
        await self._keep(record)
        self.start = None

    async def announce(self) -> None:
        ti, record = self._trigger.task_instance, self.record
        if ti is None or record is None:
            return

        await self._expect(self._seen)
        self.address = record.address or self.address
        stored = record.to_json()
        await insist(lambda: self._put(ti, SUPERSEDING, stored), self._trigger.log)

    async def forget(self) -> None:
        await self._expect(self._seen)
        self.record = None
        await self._keep(None)
        self.start = None

    async def _keep(self, record: Record | None) -> None:
        ti = self._trigger.task_instance
        if ti is None:
            return

        job_id = IDLE
        if record is not None:
            job_id = record.job_id or STARTING

        stored = None if record is None else record.to_json()
        if record is None or record.job_id is None:
            await insist(lambda: self._put(ti, job_id, stored), self._trigger.log)
            return

        try:
            async with asyncio.timeout(CLAIM_PATIENCE):
                await insist(lambda: self._put(ti, job_id, stored), self._trigger.log)
        except TimeoutError:
            # The intent is written: the job is found by it, should that be needed.
            self._trigger.log.warning(
                "The id of the started job could not be stored: %s", job_id
            )

    async def _put(self, ti: Any, job_id: str, stored: object) -> None:
        await compat.write_claim(ti, self._name, job_id, stored, address=self.address)
        self._seen = self._name

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the account's places for starts.

        What is read before a start must not be old when it is made, and a claim must
        not be old either, as it would be after a wait in the limiter.
        """
        async with self.leased.shared.starts:
            yield
