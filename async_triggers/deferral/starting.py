"""Which job a task waits for: the one of an earlier attempt, somebody else's, a new one.

One algorithm for both places where a start is made. It is written as coroutines over a
:class:`Desk`, which says how to ask the vendor and where to write down what was done. On
a worker a desk does everything at once and never suspends (:func:`at_once`), since
Airflow may not be asked there from a running event loop; on the triggerer it awaits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from async_triggers.deferral import compat
from async_triggers.deferral.errors import JobAlreadyRunning
from async_triggers.deferral.record import Next, Record, Unsettled, decide
from async_triggers.engine.errors import (
    AlreadyRunning,
    JobNotFound,
    PermanentError,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.jobs import JobState, Seen

if TYPE_CHECKING:
    from async_triggers.deferral.operator import JobOperator
    from async_triggers.engine.accounts import LeasedAccount

T = TypeVar("T")

SUPERSEDING = "superseding"
"""The job in the owner token of an attempt that ends an earlier one's job first."""
TRY_AGAIN = 60.0
"""Seconds until the next try of a start that the vendor could not take."""
SHORTEST_WAIT = 5.0
"""Seconds between two tries, however near the deadline is."""


class Later(Exception):
    """The start cannot be made now: come back after some seconds.

    ``is_told`` says that they are the vendor's own; otherwise they are a guess.
    """

    def __init__(self, seconds: float, reason: str, *, is_told: bool = False) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason
        self.is_told = is_told

    def within(self, left: float | None) -> float:
        """Return the seconds to wait where so many are left until the deadline.

        A guess gives way to a try or two that come before it.
        """
        if left is None or self.is_told:
            return self.seconds

        return min(self.seconds, max(left / 2, SHORTEST_WAIT))


def _refused_for_now(error: TransientError) -> Later:
    seconds = error.retry_after or TRY_AGAIN
    is_told = error.retry_after is not None and not error.is_guess
    return Later(seconds, error.message, is_told=is_told)


class Behind(Exception):
    """Another job must end before ours can start."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.job.id)
        self.seen = seen


class Desk(Protocol):
    """Where an attempt asks the vendor, and keeps its record."""

    async def ask(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        whole: bool = False,
    ) -> T:
        """Ask the vendor; ``whole`` is for what must not be cut off once it is sent."""
        ...

    async def read(self) -> Record | None:
        """Return the record, of this attempt or of an earlier one."""
        ...

    async def write(self, record: Record) -> None:
        """Replace the record."""
        ...

    async def announce(self) -> None:
        """Say in the owner token that the job of an earlier attempt is being ended."""
        ...

    async def forget(self) -> None:
        """Delete the record."""
        ...

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Wait for the moment to start, and hold it for the length of the block."""
        ...


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose desk never suspends, without an event loop."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result

    work.close()
    msg = "A worker's desk has suspended"
    raise RuntimeError(msg)


@dataclass(slots=True, kw_only=True)
class Starting:
    """One attempt's way to its job.

    ``superseded`` is the job that must end first, because it is that of a cleared
    attempt; ``unsettled`` tells of starts by earlier attempts that nobody wrote down.
    """

    operator: JobOperator
    desk: Desk
    max_tries: int
    superseded: str | None = None
    unsettled: Unsettled | None = None

    async def get_job(self) -> tuple[Seen, bool]:  # noqa: C901 - rows of a table
        """Return the job to wait for and whether it is ours.

        Raise :class:`Later` or :class:`Behind` where that must be waited for, and what
        ``if_running`` says about a job of somebody else.
        """
        record = await self.desk.read()
        fingerprint = self.operator.fingerprint()
        step = decide(record, fingerprint=fingerprint, max_tries=self.max_tries)
        if record is not None and record.job_id is not None:
            if step is Next.REATTACH:
                found = await self._reattach(record, record.job_id)
                if found is not None:
                    return found, record.owned

            elif step is Next.SUPERSEDE:
                # From here on the old job is ours to end: its trigger may yet be killed.
                await self.desk.announce()
                found = await self._supersede(record.job_id)
                if found is not None:
                    new = replace(record, max_tries=self.max_tries, killed=False)
                    await self.desk.write(new)
                    return found, True

                self.superseded = record.job_id

            elif step is Next.LEAVE:
                self.operator.log.warning(
                    "An earlier attempt started job %s with other arguments; it is left"
                    " alone and a new job is started",
                    record.job_id,
                )

        elif record is not None and step is Next.FIND:
            seen = await self._find_lost(record)
            if seen is not None:
                record = record.with_job(seen.job.id, owned=True)
                await self.desk.write(record)
                if record.max_tries == self.max_tries and not record.killed:
                    return seen, True

                # The task was cleared since: it is the old job, and is superseded.
                return await self.get_job()

        if self._was_cleared:
            found = await self._settle()
            if found is not None:
                # Perhaps ours, and hence never to be cancelled.
                new = Record(fingerprint=fingerprint, max_tries=self.max_tries)
                await self.desk.write(new.with_job(found.job.id, owned=False))
                return found, False

        return await self._start_new(
            Record(fingerprint=fingerprint, max_tries=self.max_tries)
        )

    async def _reattach(self, record: Record, job_id: str) -> Seen | None:
        """Look at the job of an earlier attempt; None when a new one is needed."""
        operator = self.operator
        try:
            seen = await self.desk.ask(lambda leased: operator.look(leased, job_id))
        except JobNotFound as error:
            operator.log.warning("%s: starting a new job", error.message)
            return None
        except TransientError as error:
            raise Later(TRY_AGAIN, error.message) from None

        if seen.job.state in {JobState.FAILED, JobState.CANCELLED}:
            operator.log.info(
                "Job %s of the earlier attempt %s: starting a new one",
                job_id,
                seen.job.word,
            )
            operator.failed_before(seen)
            return None

        whose = "the earlier attempt started" if record.owned else "it waited for"
        operator.log.info("Attaching to job %s, which %s", job_id, whose)
        return seen

    async def _supersede(self, job_id: str) -> Seen | None:
        """Cancel the job of a cleared attempt and see it end, before a new one starts.

        Return it where the vendor cannot cancel, so that it is attached to.
        """
        operator = self.operator
        try:
            seen = await self.desk.ask(lambda leased: operator.look(leased, job_id))
        except JobNotFound:
            return None
        except TransientError as error:
            raise Later(TRY_AGAIN, error.message) from None

        if seen.job.state.is_terminal:
            return None

        if operator.attaches_when_cleared:
            operator.log.info(
                "The task was cleared and its job %s cannot be cancelled: attaching to it",
                job_id,
            )
            return seen

        self.superseded = job_id
        if not operator.cancel_on_kill:
            operator.log.info(
                "Waiting for job %s of the cleared attempt to end", job_id
            )
            raise Behind(seen)

        operator.log.info("The task was cleared: cancelling its job %s", job_id)
        try:
            ending = await self.desk.ask(
                lambda leased: operator.cancel_and_confirm(leased, job_id)
            )
        except TransientError as error:
            raise Later(TRY_AGAIN, error.message) from None

        if not ending.job.state.is_terminal:
            raise Behind(ending)

        return None

    async def _find_lost(self, record: Record) -> Seen | None:
        """Look for the job of a start that was not answered.

        None once it must have shown up and has not; until then come back later.
        """
        operator, intent = self.operator, record.intent
        try:
            seen = await self.desk.ask(
                lambda leased: operator.find_started(leased, intent)
            )
            if seen is not None:
                operator.log.info(
                    "Found job %s, whose start was not answered", seen.job.id
                )
                return seen

            now = (await self.desk.ask(operator.before_start)).intent.at
        except TransientError as error:
            raise Later(TRY_AGAIN, error.message) from None

        if now is None or intent.at is None or now >= intent.at + operator.start_grace:
            return None

        left = intent.at + operator.start_grace - now
        raise Later(min(left, 20.0), "a start was not answered and may yet show up")

    @property
    def _was_cleared(self) -> bool:
        """Tell whether a job may be under way that a cleared attempt had started."""
        unsettled = self.unsettled
        return unsettled is not None and unsettled.was_cleared(self.max_tries)

    async def _settle(self) -> Seen | None:
        """End the job that a cleared attempt may have started, where it can be told.

        Return it where the vendor cannot cancel, so that it is attached to.
        """
        unsettled, operator = self.unsettled, self.operator
        assert unsettled is not None  # noqa: S101 - _was_cleared looked
        try:
            seen = await self.desk.ask(
                lambda leased: operator.find_unsettled(leased, unsettled)
            )
        except TransientError as error:
            raise Later(TRY_AGAIN, error.message) from None

        return None if seen is None else await self._supersede(seen.job.id)

    async def _start_new(self, record: Record) -> tuple[Seen, bool]:
        """Start a job of our own, or take the one that ``if_running`` allows."""
        async with self.desk.turn():
            return await self._start_in_turn(record)

    async def _start_in_turn(  # noqa: C901 - the ways in which a start can go
        self, record: Record
    ) -> tuple[Seen, bool]:
        operator, desk = self.operator, self.desk
        try:
            before = await desk.ask(operator.before_start)
        except TransientError as error:
            raise _refused_for_now(error) from None

        if before.running is not None:
            attached = await self._meet(record, before.running)
            if attached is not None:
                return attached, False

        earlier = await desk.read()
        record = replace(record, intent=before.intent)
        await desk.write(record)
        try:
            seen = await desk.ask(
                lambda leased: operator.start(leased, record.intent), whole=True
            )
        except AlreadyRunning as error:
            await self._take_back(earlier)
            return await self._after_conflict(record, error), False
        except TransientError as error:
            # An answer that cannot be read came from a start that may well have worked.
            if not (error.ambiguous or isinstance(error, UnreadableReply)):
                await self._take_back(earlier)
                raise _refused_for_now(error) from None

            operator.log.warning(
                "The start was not answered (%s): looking for the job", error.message
            )
            found = await self._find_lost(record)
            if found is None:
                raise Later(1.0, error.message) from None

            seen = found
        except PermanentError:
            await self._take_back(earlier)
            raise

        if operator.was_there_before(seen, before.intent):
            await self._take_back(earlier)
            attached = await self._meet(record, seen)
            if attached is not None:
                return attached, False

        await desk.write(record.with_job(seen.job.id, owned=True))
        where = f" ({seen.job.url})" if seen.job.url else ""
        operator.log.info("%s: started%s", seen.job.title, where)
        return seen, True

    async def _take_back(self, earlier: Record | None) -> None:
        """Take an intent back: nothing was started, what was known before still holds."""
        if earlier is not None and earlier.job_id is not None:
            await self.desk.write(earlier)
        else:
            await self.desk.forget()

    async def _after_conflict(self, record: Record, error: AlreadyRunning) -> Seen:
        """The vendor says that a job runs already: see which."""
        try:
            running = await self.desk.ask(self.operator.find_running)
        except TransientError as failure:
            raise Later(TRY_AGAIN, failure.message) from None

        if running is None:
            raise Later(10.0, error.message)

        attached = await self._meet(record, running)
        if attached is None:
            raise Later(10.0, error.message)

        return attached

    async def _meet(self, record: Record, running: Seen) -> Seen | None:
        """Do what ``if_running`` says about a job that is not ours.

        Return it if it is to be waited for as if it were; None when it is over already.
        """
        operator, job = self.operator, running.job
        if job.state.is_terminal:
            return None

        if job.id == self.superseded:
            raise Behind(running)

        where = f" ({job.url})" if job.url else ""
        since = f" since {job.started_at}" if job.started_at else ""
        told = f"{job.title} is running already{since}{where}"
        unsettled = self.unsettled
        if (
            self._was_cleared
            and unsettled is not None
            and unsettled.may_have_started(job)
        ):
            operator.log.info(
                "%s, perhaps started by the cleared attempt: waiting for it to end",
                told,
            )
            raise Behind(running)

        if operator.if_running == "fail":
            msg = f"{told}, and if_running is 'fail'"
            raise JobAlreadyRunning(msg)

        if operator.if_running == "skip":
            msg = f"{told}, and if_running is 'skip'"
            raise compat.AirflowSkipException(msg)

        if operator.if_running == "attach" and operator.may_attach(job):
            operator.log.info("%s: attaching to it", told)
            await self.desk.write(record.with_job(job.id, owned=False))
            return running

        operator.log.info("%s: waiting for it to end, then starting our own", told)
        raise Behind(running)
