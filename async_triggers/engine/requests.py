"""Sends the requests of a round: the only place of a poller that awaits the vendor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from async_triggers.engine.amounts import counted
from async_triggers.engine.errors import (
    Doubted,
    EngineError,
    InBetween,
    PermanentError,
    RequestRejected,
    Scope,
    TransientError,
    UnreadableReply,
    UnreadableRow,
)
from async_triggers.engine.job_doubts import MOST_LAST
from async_triggers.engine.knowledge import DISTRUST
from async_triggers.engine.trouble import place_of, unusable
from async_triggers.engine.wire import Lane

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.rows import Rows
    from async_triggers.engine.state import PollingState
    from async_triggers.engine.waiters import Claims, Watched
    from async_triggers.engine.wire import Page, Reply, Request, Row

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 3
"""Failures in a row after which the rest of a round is left to the next one."""

T = TypeVar("T")


class RoundGivenUp(Exception):
    """Too much went wrong in a row: leave the rest to the next round."""


class Misled(Exception):
    """A source refused, or ignored its filters: plan without it."""


class Sender:
    """Sends the requests of rounds, and keeps account of what their answers show."""

    def __init__(self, state: PollingState) -> None:
        self._state = state
        self.answers = 0
        """Answers that came in this round."""

    async def send(
        self, request: Request, *, lane: Lane = Lane.SHARED
    ) -> tuple[Reply, Page, float | None]:
        """Send one request of a round and read its page.

        Return the server's time of the answer as well, in epoch seconds; None where it
        does not say.
        """
        state = self._state
        reply = await state.transport.send(request, lane=lane)
        page = state.vendor.read(request, reply)
        state.transport.trust.answered()
        self.answers += 1
        date = reply.date
        return reply, page, None if date is None else state.coverage.read_date(date)

    def withdraw_answer(self) -> None:
        """Take note that an answer of this round has turned out not to be sound."""
        self.answers -= 1

    async def confirm(self, request: Request, job: Job) -> Job | None:
        """Send the request that confirms an end; return the job if it does."""
        return self._state.vendor.confirmed(request, await self.look(request), job)

    async def look(self, request: Request) -> Reply:
        """Send a single request about an end."""
        reply = await self._state.transport.send(request, lane=Lane.LOOK)
        self.answers += 1
        return reply

    async def read_connections(self) -> None:
        """Read the connections of an account that is in doubt again."""
        await self._state.transport.read_connections_again()

    @property
    def hands(self) -> int:
        """How many requests of polling may be under way at once.

        One while the account is in doubt: the others would not be sent, and end the round
        under the one that is.
        """
        if self._state.transport.trust.doubt is not None:
            return 1

        return self._state.account.budget.polls

    async def spread(
        self, items: Iterable[T], work: Callable[[T], Awaitable[None]]
    ) -> None:
        """Do the work for each item, no more at once than the account has room for.

        The first thing that goes wrong ends the rest and is raised.
        """
        batch = list(items)
        todo = iter(batch)
        errors: list[Exception] = []
        tasks: list[asyncio.Task[None]] = []

        # An error that reaches the group would cancel this task too, and until Python
        # 3.13 such a cancellation looks like one that came from outside.
        async def hand() -> None:
            try:
                for item in todo:
                    await work(item)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
                for task in tasks:
                    if task is not asyncio.current_task():
                        task.cancel()

        async with asyncio.TaskGroup() as group:
            hands = min(len(batch), self.hands)
            tasks.extend(group.create_task(hand()) for _ in range(hands))

        if errors:
            raise _gravest(errors)


class Singles:
    """Polls jobs one by one, and decides which refusals of jobs are believed."""

    def __init__(self, state: PollingState, sender: Sender, rows: Rows) -> None:
        self._state = state
        self._sender = sender
        self._rows = rows
        # What was refused since refusals were last weighed.
        self._refusals: dict[str, PermanentError] = {}

    def sorted(self, subjects: Iterable[str]) -> list[str]:
        """Return those that anyone waits for or watches; those without answers last."""
        watched, watches = self._state.waiters.watched, self._state.watchers.watches
        wanted = [
            each for each in dict.fromkeys(subjects) if each in watched or watches(each)
        ]

        def failures(subject: str) -> int:
            return watched[subject].failures if subject in watched else 0

        return sorted(wanted, key=failures)

    async def poll_all(self, subjects: Iterable[str]) -> None:
        """Request jobs one by one, a few at a time.

        Jobs for which no answer came go last, so that they hold up no other. When
        the round has had no answer at all, the vendor is in trouble and not the jobs.
        """
        failures = 0

        async def poll(subject: str) -> None:
            nonlocal failures
            if not self.sorted([subject]) or failures >= GIVE_UP_AFTER:
                return

            if await self.poll(subject):
                failures = 0
                return

            failures += 1
            if failures >= GIVE_UP_AFTER and not self._sender.answers:
                raise RoundGivenUp

        await self._sender.spread(self.sorted(subjects), poll)

    async def poll_any(self, subjects: Iterable[str]) -> bool:
        """Request one of some jobs; False when no answer came.

        One that was not answered goes last, so that no bad job stands for all.
        """
        wanted = self.sorted(subjects)
        return bool(wanted) and await self.poll(wanted[0])

    async def poll(self, subject: str) -> bool:
        """Request one job; False when no answer came."""
        is_answered = await self._poll(subject)
        watched = self._state.waiters.watched.get(subject)
        if watched is not None:
            watched.failures = 0 if is_answered else watched.failures + 1

        return is_answered

    async def _poll(self, subject: str) -> bool:
        state = self._state
        try:
            request = state.vendor.single(state.account, subject)
        except Exception as error:  # noqa: BLE001 - an id may lead to anything
            refusal = unusable(state.vendor.name_of(subject), error)
            state.waiters.fail(subject, refusal)
            state.watchers.refuse(subject, refusal)
            return True

        try:
            reply, page, date = await self._sender.send(request, lane=Lane.POLL)
        except UnreadableRow as error:
            self._note_unreadable(subject, error)
            return True
        except TransientError as error:
            return self._note_no_answer(subject, error)
        except PermanentError as error:
            if error.scope is Scope.ACCOUNT:
                raise

            self._note_refusal(subject, error)
            return True
        except Exception as error:  # noqa: BLE001 - of this job alone, see below
            return self._note_odd_answer(subject, error)

        state.planner.learn_single(len(reply.body))
        return self._take(subject, page, date)

    def _take(self, subject: str, page: Page, date: float | None) -> bool:
        """Take an answer about one job in; False where that breaks.

        It belongs to the job that was requested, however its row spells the id.
        """
        state = self._state
        for row in page.rows.values():
            try:
                self._rows.take(subject, row, alone=True)
            except UnreadableReply as error:
                self._sender.withdraw_answer()
                self._note_unreadable(subject, error)
                continue
            except Exception as error:  # noqa: BLE001 - of this job alone
                return self._note_odd_answer(subject, error)

            if subject in state.waiters:
                state.coverage.catch_up(subject, date)

        watched = state.waiters.watched.get(subject)
        if watched is not None:
            watched.breaks = 0

        return True

    def _note_no_answer(self, subject: str, error: TransientError) -> bool:
        """Take note of trouble; return True for what is an answer about the job after all.

        Where a list has shown its end, lists are answered. They end a doubt about the
        account, and the time in between, but neither of them for this job.
        """
        watched = self._state.waiters.watched.get(subject)
        if watched is not None and watched.end is not None:
            if isinstance(error, Doubted):
                self._note_refusal(subject, error.refusal)
                return True

            if self._is_blocked(watched, error):
                self._believe_list(subject, watched.end, error)
                return True

        self._state.trouble.note(error)
        return False

    def _is_blocked(self, watched: Watched, error: TransientError) -> bool:
        """Return True once something in between has refused to confirm an end too long.

        Its lists get through, so the account is not cut off, and nothing else ends that.
        """
        if not isinstance(error, InBetween):
            watched.blocked_since = None
            return False

        now = asyncio.get_running_loop().time()
        if watched.blocked_since is None:
            watched.blocked_since = now

        limit = self._state.account.belief.in_between
        return 0 < limit <= now - watched.blocked_since

    def _note_odd_answer(self, subject: str, error: Exception) -> bool:
        """Take note of an answer about one job that nothing here is prepared for.

        Where it comes again and again, the wait for that job ends with the reason: soon
        if others are answered, else as late as the refusal of most jobs is believed.
        """
        state = self._state
        state.trouble.note(
            UnreadableReply(
                f"The response for {state.vendor.name_of(subject)} broke:"
                f" {place_of(error)}"
            ),
            cause=error,
        )
        watched = state.waiters.watched.get(subject)
        if watched is None:
            return False

        now = asyncio.get_running_loop().time()
        if not watched.breaks:
            watched.broken_since = now

        watched.breaks += 1
        lasts = MOST_LAST * state.account.belief.doubt
        is_alone = self._sender.answers > 0 or now >= watched.broken_since + lasts
        if watched.breaks >= GIVE_UP_AFTER and is_alone:
            state.waiters.fail(subject, unusable(state.vendor.name_of(subject), error))

        return False

    # Refusals ------------------------------------------------------------------------

    def _note_unreadable(self, subject: str, error: UnreadableReply) -> None:
        """Weigh an answer about one job that cannot be read like a refusal of the job.

        Even where the job was never shown: nothing says that it is not there.
        """
        vendor, watchers = self._state.vendor, self._state.watchers
        if watchers.watches(subject):
            watchers.note_unreadable(subject, error)

        if subject in self._state.waiters:
            self._refusals[subject] = RequestRejected(
                f"{vendor.name}'s response for {vendor.name_of(subject)} cannot be read:"
                f" check it in {vendor.name}. {error.message}",
                status=error.status,
            )

    def _note_refusal(self, subject: str, error: PermanentError) -> None:
        """Believe a refusal at once where the job was never shown, else weigh it later.

        Those who watch lose nothing: they watch again after a while.
        """
        self._state.watchers.refuse(subject, error)
        watched = self._state.waiters.watched.get(subject)
        if watched is None:
            return

        if watched.known:
            self._refusals[subject] = error
        else:
            self._state.waiters.fail(subject, error)

    async def check_doubtful(self) -> None:
        """Request again jobs whose refusal is not believed yet.

        What the last round has shown of others still holds: they answer, or they do not.
        """
        doubts = self._state.doubts
        due = doubts.due(asyncio.get_running_loop().time())
        if not self._state.transport.seconds_to_check:
            await self.poll_all(due)
            await self.weigh_refusals()

        # Those that were neither shown nor refused.
        doubts.missed(due, asyncio.get_running_loop().time())

    async def weigh_refusals(self) -> None:
        """Decide which refusals are believed."""
        doubts, waiters = self._state.doubts, self._state.waiters
        refusals = self._take_refusals()
        if not refusals and not doubts:
            return

        before = {subject for subject in refusals if subject in doubts}
        believed, most = doubts.weigh(
            refusals,
            waiting=len(waiters.watched),
            is_sound=self._sender.answers > 0,
            now=asyncio.get_running_loop().time(),
        )
        fresh = [each for each in refusals if each not in before | believed.keys()]
        if fresh:
            log.warning(
                "Could not read %s, checking again before any task fails: %s",
                counted(len(fresh), self._state.vendor.noun),
                refusals[fresh[0]].message,
            )

        if most:
            await self.poll_all(most)
            believed = doubts.believe_most(self._take_refusals())

        for subject, error in believed.items():
            self._believe(subject, error)

    def _take_refusals(self) -> dict[str, PermanentError]:
        """Return what is to be weighed; those who waited for it may have left meanwhile."""
        refusals, self._refusals = self._refusals, {}
        watched = self._state.waiters.watched
        return {each: error for each, error in refusals.items() if each in watched}

    def _believe(self, subject: str, refusal: PermanentError) -> None:
        """End the waits for a job that the vendor refuses to show by itself for good.

        Where a list has shown its end, which that would have confirmed, the end counts.
        """
        watched = self._state.waiters.watched.get(subject)
        if watched is None or watched.end is None:
            self._state.waiters.fail(subject, refusal)
            return

        self._believe_list(subject, watched.end, refusal)

    def _believe_list(self, subject: str, end: Row, why: EngineError) -> None:
        """End the waits that a row of a list ends, since nothing will confirm it.

        Waits for another run of the same job, which goes on, are not affected.
        """
        log.warning(
            "Using the end that a list shows, since it cannot be confirmed: %s",
            why.message,
        )
        self._rows.take_end(subject, end)


class Confirmations:
    """Has ends confirmed that a list or a feed has shown."""

    def __init__(self, state: PollingState, sender: Sender, rows: Rows) -> None:
        self._state = state
        self._sender = sender
        self._rows = rows
        # Confirmations in a row that confirmed nothing, and until when none is tried.
        self._unhelpful = 0
        self._unhelpful_until = 0.0

    async def confirm(self, subject: str, claims: Claims) -> bool:
        """Confirm an end and report it; False where the job must be requested singly.

        One answer can confirm one end: not where several wait for different runs of it.
        """
        claims = [claim for claim in claims if not claim[0].future.done()]
        if not claims:
            return True

        first = claims[0][1]
        now = asyncio.get_running_loop().time()
        if now < self._unhelpful_until or any(job.id != first.id for _, job in claims):
            return False

        server_now = self._state.coverage.server_now
        request = self._state.vendor.confirmation(first, now=server_now)
        if request is None:
            return False

        job: Job | None = None
        why = "it does not show what has ended"
        try:
            job = await self._sender.confirm(request, first)
        except Exception as error:
            if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
                raise

            why = reason_for(error)

        if job is None:
            self._note_unhelpful(request, why)
            return False

        self._unhelpful = 0
        self._rows.check_feed(subject, job)
        self._rows.measure(subject, job)
        for waiter, _ in claims:
            if not waiter.future.done():
                waiter.future.set_result(job)

        return True

    def _note_unhelpful(self, request: Request, why: str) -> None:
        """Request singly a while when confirmations turn out to be requested in vain."""
        self._unhelpful += 1
        if self._unhelpful < GIVE_UP_AFTER:
            return

        self._unhelpful = 0
        self._unhelpful_until = asyncio.get_running_loop().time() + DISTRUST
        log.info(
            "%s: not using %s for %d s, and confirming ends one by one: %s",
            self._state.account,
            request.about,
            DISTRUST,
            why,
        )


def reason_for(error: Exception) -> str:
    """Say why an answer is of no use; of an unforeseen error no more than its kind."""
    if isinstance(error, EngineError):
        return error.message

    return f"an answer cannot be read ({type(error).__name__})"


def _gravest(errors: Sequence[Exception]) -> Exception:
    """Return what weighs most of all that went wrong at the same time."""
    order = (PermanentError, Misled, RoundGivenUp)
    strange = [error for error in errors if not isinstance(error, order)]
    if strange:
        return strange[0]

    return min(
        errors,
        key=lambda error: [isinstance(error, each) for each in order].index(True),
    )
