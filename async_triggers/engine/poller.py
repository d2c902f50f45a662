"""One loop, many waiters: plan a round, ask the vendor, tell those who wait.

Every waiter of an account awaits a future of its own; one loop asks for all of them.

*Joining and leaving are synchronous.* Membership and the loop's life change in one step
without an ``await``, so no task can see the one without the other, and cancelling a
waiter touches no other.

*Rounds belong to the account.* They stand on one grid, the shortest interval that anyone
asked for; a longer interval takes every n-th round. However spread their joining, a
thousand waiters cost no more than a thousand that start together.

*Absence is no answer.* A list or a feed that does not mention a job says nothing about
it. Every waited job is seen in a row of its own at least once in a sweep.

*Trouble is only a late answer.* No transient error ends a wait: the next round is the
retry. One log line says when trouble starts and one when it ends. A permanent error
reaches the waiters in its scope, each with an exception of its own, once it is believed
(:mod:`async_triggers.engine.doubt`).

*One bad job, row or source fails alone.* An exception that nothing here expects ends the
wait for the job that caused it, or the use of the source; the round goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from async_triggers.engine import backoff
from async_triggers.engine.clock import ServerClock
from async_triggers.engine.errors import (
    ConnectionChanged,
    Doubted,
    InBetween,
    PermanentError,
    RequestRejected,
    Scope,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.job_doubts import MOST_LAST, JobDoubts
from async_triggers.engine.planner import (
    Plan,
    Planner,
    Situation,
)
from async_triggers.engine.waiters import (
    Claims,
    Listener,
    Notice,
    Waiter,
    Watched,
)
from async_triggers.engine.walk import Misled, RoundGivenUp, Walk, reason_for
from async_triggers.engine.wire import (
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    SourceKind,
)

if TYPE_CHECKING:
    from async_triggers.engine.doubt import Doubt
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.transport import Transport

log = logging.getLogger(__name__)

SWEEP = 300.0
"""Seconds within which every waited job is seen in a row of its own."""
GATHER = 5.0
"""The first round comes at most this many seconds after the first waiter."""
DISTRUST = 600.0
"""Seconds for which a source is left alone after it refused or misled us."""
GIVE_UP_AFTER = 3
"""Failures in a row after which the rest of a round is left to the next one."""
LEAST_FOR_POLLS = 0.25
"""The part of the account's share that starts leave to polls, however many there are."""
NEWS_INTERVAL = 600.0
"""Seconds between two pieces of news of one job whose state has not changed."""
NEWS_PER_SECOND = 10
"""Pieces of news an account may give in a second: a log line costs a millisecond."""
READ_FIRST = 15.0
READ_EVERY = 60.0
"""Seconds at most between two reads of the connections of an account that is in doubt."""
NOTICE_AFTER = 60.0
"""Seconds of an outage after which those who wait hear of it; of a doubt at once."""


@dataclass(frozen=True, slots=True)
class PollerStatistics:
    """A snapshot of a poller. ``interval`` is in seconds.

    ``doubtful`` counts the jobs that the vendor refuses to show and that are waited for
    all the same; ``broken_rounds`` the rounds that an unforeseen error has ended;
    ``trouble`` says why polling fails now, empty where it works.
    """

    waiters: int
    jobs: int
    rounds: int
    failed_rounds: int
    broken_rounds: int
    doubtful: int
    trouble: str
    interval: float
    plan: str


T = TypeVar("T")


class Poller:
    """Polls one account for all who wait for its jobs.

    :meth:`wait` is for waiters; :meth:`run` is the loop, driven by the account, which
    ``stir`` tells that somebody has begun to wait.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        stir: Callable[[], None],
        sweep: float = SWEEP,
        gather: float = GATHER,
    ) -> None:
        self._transport = transport
        self._stir = stir
        self._vendor = transport.vendor
        self._planner = Planner()
        self._sweep = sweep
        self._gather = gather
        transport.trust.on_doubt = self._hurry
        self._watched: dict[str, Watched] = {}
        self._waiters = 0
        self._changed = asyncio.Event()
        self._grid = math.inf
        self._next_round = math.inf
        self._round = 0
        self._failed_rounds = 0
        self._broken_rounds = 0
        self._broken_at: set[str] = set()
        self._trouble: TransientError | None = None
        self._trouble_since = 0.0
        # How many have heard of trouble that is not over, and when more of them will.
        self._noticed = 0
        self._notifying: asyncio.TimerHandle | None = None
        self._troubled_round = -1
        self._failures = 0
        self._stretch = 0.0
        self._disbanded = False
        # Rings when the first of those who wait runs out of patience.
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        # Walks that failed in a row, and answers that came in this round.
        self._walk_failures = 0
        self._answers = 0
        # Jobs whose refusal is not believed yet, those that were refused in this round,
        # and those whose row in a list could not be taken in.
        self._doubts = JobDoubts(transport.account.belief.doubt)
        self._refusals: dict[str, PermanentError] = {}
        self._odd: set[str] = set()
        # Those whose turn it was in a round that did not get to them.
        self._owed: set[str] = set()
        # What is known of the server: its clock, up to which time the changes of all
        # jobs are known, and of which jobs less is known.
        self._clock = ServerClock()
        self._cursor: float | None = None
        self._behind: dict[str, float | None] = {}
        # Of this round: the server time at which it began, who has been seen in a row of
        # his own since then, and who joined after it was planned.
        self._round_began: float | None = None
        self._covered: set[str] = set()
        self._joined: set[str] = set()
        # Whose end a feed has shown in this round, so that it is only to be confirmed.
        self._shown: set[str] = set()
        self._scopes: dict[str, str] = {}
        self._distrusted: dict[str, float] = {}
        # Confirmations in a row that confirmed nothing, and until when none is tried.
        self._unhelpful = 0
        self._unhelpful_until = 0.0
        # When a row of its own was last seen, oldest first.
        self._last_row: dict[str, float] = {}
        self._swept_at = 0.0
        self._sweep_credit = 0.0
        self._news_second = -1
        self._news_count = 0

    def __repr__(self) -> str:
        """State the state."""
        state = "polling" if self._watched else "idle"
        grid = f"every {self._grid:g} s" if self._watched else "no grid"
        trouble = f" | trouble: {self._trouble.message}" if self._trouble else ""
        if self._doubts:
            trouble += f" | {len(self._doubts)} jobs in doubt"

        return (
            f"<Poller [{state} | {self._waiters} waiters, {len(self._watched)} jobs |"
            f" {grid}, {self._round} rounds | {self._planner.current}{trouble}]>"
        )

    def statistics(self) -> PollerStatistics:
        """Return a snapshot."""
        return PollerStatistics(
            waiters=self._waiters,
            jobs=len(self._watched),
            rounds=self._round,
            failed_rounds=self._failed_rounds,
            broken_rounds=self._broken_rounds,
            doubtful=len(self._doubts),
            trouble="" if self._trouble is None else self._trouble.message,
            interval=self._grid if self._watched else 0.0,
            plan=self._planner.current,
        )

    # Waiting ------------------------------------------------------------------

    async def wait(
        self,
        subject: str,
        *,
        interval: float,
        mark: str | None = None,
        seen_at: float | None = None,
        known: bool = False,
        vouched: bool = False,
        owner: object = None,
        listener: Listener | None = None,
        patience: float | None = None,
    ) -> Job:
        """Wait until a job has ended, and return it.

        ``interval`` is how often in seconds the job should be looked at. ``seen_at`` is
        the server's time (epoch seconds) of the last look at it, before which nothing
        needs to be learnt. ``known`` says that the vendor has shown the job before, as
        ``seen_at`` does: then a refusal is doubted. ``vouched`` says that the account has
        worked before, whatever is known of the job. ``mark`` is handed to the vendor with
        each row. ``owner`` is what :meth:`dismiss` knows the waiter by. ``listener`` hears
        when the job has changed, at most every ten minutes of a change that is not one of
        state, and may end the wait for a job that has not ended. ``patience`` is how many
        seconds to wait at most, None for ever.

        Raise :class:`~async_triggers.engine.errors.PermanentError` when the vendor's
        refusal concerns this job or the whole account,
        :class:`~async_triggers.engine.errors.ConnectionChanged` when the waiter was
        dismissed, :class:`TimeoutError` when the patience is over.
        """
        if self._disbanded:
            raise asyncio.CancelledError

        _check_wait(subject, interval, seen_at)
        loop = asyncio.get_running_loop()
        waiter = Waiter(
            future=loop.create_future(),
            interval=max(interval, self._vendor.grid_floor),
            mark=mark,
            listener=listener,
            owner=owner,
            ends=math.inf if patience is None else loop.time() + patience,
        )
        known = known or seen_at is not None
        if known or vouched:
            self._transport.trust.vouch()

        self._join(subject, waiter, seen_at, known=known)
        try:
            while True:
                future = waiter.future
                news = await future
                if isinstance(news, Notice):
                    self._hand_over(listener, news)
                    continue

                if listener is None or future is waiter.future:
                    return news

                try:
                    listener.hear(news)
                except Exception:
                    log.exception("The news of job %s could not be given", news.id)
        finally:
            self._leave(subject, waiter)

    def _hand_over(self, listener: Listener | None, notice: Notice) -> None:
        if listener is None:
            return

        try:
            listener.hear_notice(notice)
        except Exception:
            log.exception("A notice about polling could not be given")

    def dismiss(self, owner: object) -> None:
        """End the waits of an owner: its connection leads to another account now."""
        error = ConnectionChanged("The Airflow connection leads to another account now")
        for watched in self._watched.values():
            for waiter in watched:
                if waiter.owner is owner and not waiter.future.done():
                    waiter.future.set_exception(error.again())

    # No await in these two: membership, the grid and the loop's alarm change together.

    def _join(
        self, subject: str, waiter: Waiter, seen_at: float | None, *, known: bool
    ) -> None:
        now = asyncio.get_running_loop().time()
        look = None if seen_at is None else seen_at - self._vendor.overlap
        watched = self._watched.get(subject)
        if watched is None:
            watched = self._watched[subject] = Watched()
            self._last_row[subject] = now

        # Also behind when the look is newer than the cursor: pages of the walk that is
        # under way may have passed by already.
        earliest = self._behind.get(subject, look)
        self._behind[subject] = (
            None if earliest is None or look is None else min(earliest, look)
        )
        self._joined.add(subject)
        watched.known = watched.known or known
        watched.interval = min(watched.interval, waiter.interval)
        watched.add(waiter)
        watched.digest = None
        self._waiters += 1
        if waiter.ends < self._alarm_at:
            self._set_alarm(waiter.ends)

        if waiter.interval < self._grid:
            self._grid = waiter.interval
            self._next_round = min(
                self._next_round, now + min(self._grid, self._gather)
            )
            self._changed.set()
            self._stir()

    def _leave(self, subject: str, waiter: Waiter) -> None:
        watched = self._watched[subject]
        watched.remove(waiter)
        self._waiters -= 1
        self._noticed -= waiter.noticed_at is not None
        if watched.newest is None:
            del self._watched[subject]
            self._doubts.forget(subject)
            self._behind.pop(subject, None)
            self._scopes.pop(subject, None)
            self._last_row.pop(subject, None)
            self._owed.discard(subject)
        else:
            watched.thinned = True

        if not self._watched:
            if self._notifying is not None:
                self._notifying.cancel()

            self._grid = self._next_round = math.inf
            self._changed.set()
            self._set_alarm(math.inf)

    # One alarm for all: a timer for each of thousands is memory, and work for the loop.

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

        self._alarm_at = at
        self._alarm = None
        if at < math.inf:
            loop = asyncio.get_running_loop()
            # It speaks for nobody in particular.
            self._alarm = loop.call_at(at, self._ring, context=contextvars.Context())

    def _ring(self) -> None:
        """End the wait of those whose patience is over."""
        # A timer may fire a hair early.
        now = max(self._alarm_at, asyncio.get_running_loop().time())
        following = math.inf
        for watched in self._watched.values():
            for waiter in watched:
                if waiter.future.done():
                    continue

                if waiter.ends <= now:
                    waiter.future.set_exception(TimeoutError())
                else:
                    following = min(following, waiter.ends)

        self._set_alarm(following)

    # The loop -----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True when nobody waits."""
        return not self._watched

    async def run(self) -> None:
        """Hold rounds for as long as there are waiters."""
        loop = asyncio.get_running_loop()
        while self._watched:
            if loop.time() >= self._next_round:
                # Where it stands on the grid, not when the loop got to it.
                planned = self._next_round
                self._round += 1
                await self._hold(self._round_through)
                self._schedule(planned)
                continue

            if loop.time() >= self._doubts.next_check:
                await self._hold(self._check_doubtful)
                continue

            self._changed.clear()
            try:
                async with asyncio.timeout_at(
                    min(self._next_round, self._doubts.next_check)
                ):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def disband(self) -> None:
        """End all waiting by cancellation, for good: the loop is shutting down."""
        self._disbanded = True
        for watched in self._watched.values():
            for waiter in watched:
                waiter.future.cancel()

    @property
    def _pace(self) -> float:
        """Seconds between two rounds while all is well."""
        return max(self._grid, self._stretch)

    def _schedule(self, planned: float) -> None:
        """Set the next round on the grid, later while there is trouble."""
        if not self._watched:
            return

        # The shortest interval may have left; the grid is looked for once a round.
        for watched in self._watched.values():
            if watched.thinned:
                watched.interval = min(each.interval for each in watched)
                watched.thinned = False

        self._grid = min(watched.interval for watched in self._watched.values())
        pace = self._pace
        if self._failures:
            pace = max(pace, backoff.delay(self._failures))

        now = asyncio.get_running_loop().time()
        doubt = self._transport.trust.doubt
        if doubt is not None:
            # Until it ends, one request at a time is let through, and not before then.
            # A connection that has changed meanwhile is followed without one.
            read = now + (READ_FIRST if now < doubt.since + READ_EVERY else READ_EVERY)
            self._next_round = max(min(doubt.next_check, read), now + 1.0)
            return

        steps = max(1, math.ceil((now - planned) / pace))
        self._next_round = planned + steps * pace

    async def _hold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Hold a round, or a part of one; nothing that goes wrong in it may end polling."""
        try:
            await work()
        except RoundGivenUp:
            self._failed_rounds += 1
            self._failures += 1
            self._doubts.put_off([*self._watched], asyncio.get_running_loop().time())
        except PermanentError as error:
            self._refuse_all(error)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            self._note_break(error)

        # None of those who wait has ever been answered, or this would be an outage.
        wrong = self._transport.trust.wrong_field(asyncio.get_running_loop().time())
        if wrong is not None:
            self._refuse_all(wrong)

        self._notify()

    def _note_break(self, error: Exception) -> None:
        """Take note of a round that an unforeseen error has ended.

        Whatever it is, those who wait must not lose their jobs over it. Where it ends a
        second round at the same place, all of them hear of it.
        """
        place = _place_of(error)
        self._failed_rounds += 1
        self._broken_rounds += 1
        self._failures += 1
        broken = UnreadableReply(f"A round broke off: {place}")
        if place in self._broken_at:
            broken = UnreadableReply(
                f"Polling breaks off again and again: {place}. This is an error of the"
                " package: report it with the triggerer's log"
            )
            if self._trouble is not None:
                self._trouble = broken

        self._broken_at.add(place)
        self.note_trouble(broken, cause=error)

    def _due(self) -> list[str]:
        pace = self._pace
        return [
            subject
            for subject, watched in self._watched.items()
            if (
                subject in self._owed
                or self._round % max(1, int(watched.interval / pace + 1e-6)) == 0
            )
            and subject not in self._doubts
        ]

    async def _works_singly(self, plan: Plan, due: Sequence[str]) -> bool:
        """After a walk failed: tell whether the source is to blame and not the vendor."""
        self._walk_failures += 1
        if plan.source is None or self._walk_failures < GIVE_UP_AFTER:
            return False

        wanted = [subject for subject in due if subject in self._watched]
        wanted.sort(key=lambda subject: self._watched[subject].failures)
        if not wanted or not await self._ask_single(wanted[0]):
            return False

        self.distrust(plan.source, "it fails while single jobs can be asked for")
        return True

    def _hurry(self, doubt: Doubt) -> None:
        """Hold the next round when a doubt that has just begun is to be checked."""
        if self._watched and doubt.next_check < self._next_round:
            self._next_round = doubt.next_check
            self._changed.set()

    async def _round_through(self) -> None:
        doubt = self._transport.trust.doubt
        if doubt is not None and asyncio.get_running_loop().time() < doubt.next_check:
            await self._transport.read_connections_again()
            return

        self._answers = 0
        due = self._due()
        if not due:
            return

        self._owed.update(due)
        self._round_began = None
        self._covered.clear()
        self._shown.clear()
        walk = Walk(self, due)
        while True:
            plan = self._plan(due)
            self._stretch = plan.stretch
            self._joined.clear()
            try:
                await walk.follow(plan)
            except Misled:
                continue
            except RoundGivenUp:
                if not await self._works_singly(plan, due):
                    raise

                continue

            break

        self._walk_failures = 0
        left = walk.left(plan)
        await self._confirm(walk)
        await self._see_alone(left)
        own_rows = plan.source is None or plan.source.kind is SourceKind.IDS
        if own_rows:
            self._check_ids(plan, due, left)
            self._move_cursor()
        else:
            await self._sweep_some()

        await self._singly(self._take_odd())
        await self._weigh_refusals()
        self._failures = 0
        if self._troubled_round != self._round:
            # Those whom a sound round did not mention have no news.
            self._owed.clear()
            self._note_recovery()
        elif not self._watched:
            # The vendor answers, and nobody waits for a round that would tell so.
            self._note_recovery()

    def _move_cursor(self) -> None:
        """Move the cursor after a round in which all who were due were asked for."""
        if self._round_began is None or self._troubled_round == self._round:
            return

        resume = self._round_began - self._vendor.overlap
        if self._cursor is not None:
            if resume <= self._cursor:
                return

            for subject in self._watched:
                if subject not in self._covered:
                    self._behind.setdefault(subject, self._cursor)

        self._cursor = resume

    def _check_ids(self, plan: Plan, due: Sequence[str], left: Sequence[str]) -> None:
        """Distrust a source that most of the ids it was asked for had to be asked again."""
        if plan.source is not None:
            shown = sum(subject in self._covered for subject in left)
            if shown * 2 > len(due):
                self.distrust(plan.source, "it does not show jobs that are there")

    def _plan(self, due: Sequence[str]) -> Plan:
        limiter = self._transport.limiter
        return self._planner.plan(
            Situation(
                due=due,
                behind={key: self._behind[key] for key in due if key in self._behind},
                cursor=self._cursor,
                now=self.server_now,
                sources=self._trusted(),
                scopes=self._scopes,
                interval=self._grid,
                hourly=max(
                    limiter.hourly_share * LEAST_FOR_POLLS,
                    limiter.hourly_share - limiter.starts_per_hour(),
                ),
            )
        )

    def _trusted(self) -> list[Source]:
        now = asyncio.get_running_loop().time()
        return [
            source
            for source in self._vendor.sources
            if self._distrusted.get(source.name, 0.0) <= now
        ]

    def distrust(self, source: Source, why: str) -> None:
        """Leave a source alone for a while."""
        now = asyncio.get_running_loop().time()
        if self._distrusted.get(source.name, 0.0) <= now:
            log.warning(
                "%s: %s is left alone for %d s: %s",
                self._transport.account,
                source.name,
                DISTRUST,
                why,
            )

        self._distrusted[source.name] = now + DISTRUST

    # Asking -------------------------------------------------------------------

    async def ask(
        self, request: Request, *, lane: Lane = Lane.SHARED
    ) -> tuple[Reply, Page, float | None]:
        """Send one request of a round and read its page, keeping track of trouble.

        Return the server's time of the answer as well, in epoch seconds; None where it
        does not say.
        """
        reply = await self._transport.send(request, lane=lane)
        page = self._vendor.read(request, reply)
        self._transport.trust.answered()
        self._answers += 1
        date = reply.date
        if date is None:
            return reply, page, None

        date, step = self._clock.read(date, asyncio.get_running_loop().time())
        if step < 0.0:
            self._step_back(step)

        self._round_began = min(self._round_began or date, date)
        return reply, page, date

    def _step_back(self, step: float) -> None:
        """Move all that was measured by a clock that was ahead."""
        if self._cursor is not None:
            self._cursor += step

        self._behind = {
            subject: None if look is None else look + step
            for subject, look in self._behind.items()
        }
        if self._round_began is not None:
            self._round_began += step

    async def _confirm(self, walk: Walk) -> None:
        """Have the ends confirmed that a walk has found and that still are to be."""
        await self.spread(range(walk.unconfirmed), lambda _: walk.confirm())
        await self._singly(walk.doubtful)

    async def confirm(self, subject: str, claims: Claims) -> bool:
        """Confirm an end and tell it; False where the job must be asked for singly.

        One answer can confirm one end: not where several wait for different runs of it.
        """
        claims = [claim for claim in claims if not claim[0].future.done()]
        if not claims:
            return True

        first = claims[0][1]
        now = asyncio.get_running_loop().time()
        if now < self._unhelpful_until or any(job.id != first.id for _, job in claims):
            return False

        request = self._vendor.confirmation(first, now=self.server_now)
        if request is None:
            return False

        job: Job | None = None
        why = "it does not show what has ended"
        try:
            reply = await self._transport.send(request, lane=Lane.LOOK)
            self._answers += 1
            job = self._vendor.confirmed(request, reply, first)
        except Exception as error:
            if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
                raise

            why = reason_for(error)

        if job is None:
            self._note_unhelpful(request, why)
            return False

        self._unhelpful = 0
        self._check_feed(subject, job)
        for waiter, _ in claims:
            if not waiter.future.done():
                waiter.future.set_result(job)

        return True

    def _note_unhelpful(self, request: Request, why: str) -> None:
        """Ask singly for a while when confirmations turn out to be asked for in vain."""
        self._unhelpful += 1
        if self._unhelpful < GIVE_UP_AFTER:
            return

        self._unhelpful = 0
        self._unhelpful_until = asyncio.get_running_loop().time() + DISTRUST
        log.info(
            "%s: ends are confirmed by single answers for %d s, not by %s: %s",
            self._transport.account,
            DISTRUST,
            request.about,
            why,
        )

    async def _see_alone(self, subjects: Sequence[str]) -> None:
        """See jobs in rows of their own: many in the list of all that has not ended.

        Those that it does not show are asked for one by one.
        """
        wanted = [subject for subject in subjects if subject in self._watched]
        _, _, live = self._planner.alone(len(wanted), self._trusted())
        # A list that fails is to blame only where the vendor answers at all.
        if live is not None and (self._answers or await self._ask_single(wanted[0])):
            await self._walk_sweep(live, len(wanted))
            wanted = [subject for subject in wanted if subject not in self._covered]

        await self._singly(wanted)

    async def _singly(self, subjects: Iterable[str]) -> None:
        """Ask for jobs one by one, a few at a time.

        Jobs for which no answer came go last, so that they keep nobody else waiting. When
        the round has had no answer at all, the vendor is in trouble and not the jobs.
        """
        failures = 0

        async def ask(subject: str) -> None:
            nonlocal failures
            watched = self._watched.get(subject)
            if watched is None or failures >= GIVE_UP_AFTER:
                return

            if await self._ask_single(subject):
                watched.failures = failures = 0
                return

            watched.failures += 1
            failures += 1
            if failures >= GIVE_UP_AFTER and not self._answers:
                raise RoundGivenUp

        wanted = [
            subject for subject in dict.fromkeys(subjects) if subject in self._watched
        ]
        wanted.sort(key=lambda subject: self._watched[subject].failures)
        await self.spread(wanted, ask)

    @property
    def hands(self) -> int:
        """How many requests of polling may be under way at once.

        One while the account is in doubt: the others would not be sent, and end the round
        under the one that is.
        """
        if self._transport.trust.doubt is not None:
            return 1

        return self._transport.account.budget.polls

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
        # 3.13 such a cancellation cannot be told from one that came from outside.
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

    async def _ask_single(self, subject: str) -> bool:
        """Ask for one job; False when no answer came."""
        try:
            request = self._vendor.single(self._transport.account, subject)
        except Exception as error:  # noqa: BLE001 - whatever the job's id has led to
            self._fail(subject, _unusable(subject, error))
            return True

        try:
            reply, page, date = await self.ask(request, lane=Lane.POLL)
        except TransientError as error:
            self.note_trouble(error)
            return False
        except PermanentError as error:
            if error.scope is Scope.ACCOUNT:
                raise

            self._job_refused(subject, error)
            return True
        except Exception as error:  # noqa: BLE001 - of this job alone, see below
            return self._note_odd_answer(subject, error)

        self._planner.learn_single(len(reply.body))
        # The answer belongs to the job that was asked for, however its row spells the id.
        for row in page.rows.values():
            try:
                self.see(subject, row, alone=True)
            except Exception as error:  # noqa: BLE001 - as above
                return self._note_odd_answer(subject, error)

            self.catch_up(subject, date)

        watched = self._watched.get(subject)
        if watched is not None:
            watched.breaks = 0

        return True

    def _note_odd_answer(self, subject: str, error: Exception) -> bool:
        """Take note of an answer about one job that nothing here is prepared for.

        Where it comes again and again, the wait for that job ends with the reason: soon
        if others are answered, else as late as the refusal of most jobs is believed.
        """
        self.note_trouble(
            UnreadableReply(
                f"The answer about job {subject} broke: {_place_of(error)}"
            ),
            cause=error,
        )
        watched = self._watched.get(subject)
        if watched is None:
            return False

        now = asyncio.get_running_loop().time()
        if not watched.breaks:
            watched.broken_since = now

        watched.breaks += 1
        lasts = MOST_LAST * self._transport.account.belief.doubt
        is_alone = self._answers > 0 or now >= watched.broken_since + lasts
        if watched.breaks >= GIVE_UP_AFTER and is_alone:
            self._fail(subject, _unusable(subject, error))

        return False

    def _take_odd(self) -> list[str]:
        """Return those whose row in a list could not be taken in, once."""
        odd, self._odd = self._odd, set()
        return [*odd]

    def catch_up(self, subject: str, date: float | None) -> None:
        """Take note that a row of its own told all about a job until the reply."""
        if date is None or subject not in self._watched:
            return

        self._covered.add(subject)
        if subject in self._behind:
            covered = date - self._vendor.overlap
            if self._cursor is not None and covered >= self._cursor:
                del self._behind[subject]
            else:
                self._behind[subject] = covered

    def _job_refused(self, subject: str, error: PermanentError) -> None:
        """Believe a refusal at once where the job was never shown, else weigh it later."""
        watched = self._watched.get(subject)
        if watched is None:
            return

        if watched.known:
            self._refusals[subject] = error
        else:
            self._fail(subject, error)

    def _fail(self, subject: str, error: PermanentError) -> None:
        """End the waits for one job."""
        watched = self._watched.get(subject)
        if watched is None:
            return

        for waiter in watched:
            if not waiter.future.done():
                waiter.future.set_exception(error.again())

    async def _check_doubtful(self) -> None:
        """Ask again for jobs whose refusal is not believed yet.

        What the last round has shown of others still holds: they answer, or they do not.
        """
        due = self._doubts.due(asyncio.get_running_loop().time())
        await self._singly(due)
        await self._weigh_refusals()
        # Those that were neither shown nor refused.
        self._doubts.put_off(due, asyncio.get_running_loop().time())

    async def _weigh_refusals(self) -> None:
        """Decide which refusals of this round are believed."""
        refusals, self._refusals = self._refusals, {}
        if not refusals and not self._doubts:
            return

        before = {subject for subject in refusals if subject in self._doubts}
        believed, most = self._doubts.weigh(
            refusals,
            waiting=len(self._watched),
            is_sound=self._answers > 0,
            now=asyncio.get_running_loop().time(),
        )
        fresh = [each for each in refusals if each not in before | believed.keys()]
        if fresh:
            log.warning(
                "%s (%d jobs refused that were shown before; checking again before this"
                " is believed)",
                refusals[fresh[0]].message,
                len(fresh),
            )

        if most:
            await self._singly(most)
            refusals, self._refusals = self._refusals, {}
            believed = self._doubts.believe_most(refusals)

        for subject, error in believed.items():
            self._fail(subject, error)

    def _refuse_all(self, error: PermanentError) -> None:
        for watched in self._watched.values():
            for waiter in watched:
                if not waiter.future.done():
                    waiter.future.set_exception(error.again())

    # Sweeping -----------------------------------------------------------------

    async def _sweep_some(self) -> None:
        """See those in a row of their own whose last one is longest ago."""
        now = asyncio.get_running_loop().time()
        passed = now - self._swept_at
        self._swept_at = now
        # Whoever would be too late by the next round must be seen in this one.
        late = now - self._sweep + self._pace * 1.5
        early = max(late, now - self._sweep / 5)
        count = len(self._last_row)
        # Those in doubt are asked for by themselves.
        rows = (
            (seen for job, seen in self._last_row.items() if job not in self._doubts)
            if self._doubts
            else self._last_row.values()
        )
        # Spread evenly over the rounds, a little faster than need be.
        credit = count * min(1.0, 1.25 * passed / self._sweep)
        self._sweep_credit = min(self._sweep_credit, 1.0) + credit
        oldest = min(rows, default=now)
        if oldest > early:
            return

        alone = self._cost_of_sweeping(count)
        walk = next(
            (
                source
                for source in self._trusted()
                if source.kind in {SourceKind.LIVE, SourceKind.LIST}
                and not source.scoped
                and self._planner.list_cost(source)[1] < alone
            ),
            None,
        )
        if walk is not None:
            if oldest <= late:
                await self._walk_sweep(walk, count)
                await self._sweep_through(self._overdue(late))

            return

        overdue = self._overdue(late)
        if len(overdue) < self._sweep_credit:
            overdue = self._overdue(early)[: int(self._sweep_credit)]

        self._sweep_credit = max(0.0, self._sweep_credit - len(overdue))
        await self._sweep_through(overdue)

    def _cost_of_sweeping(self, count: int) -> float:
        """Return what it costs to see so many jobs once, a few in each round."""
        ids = self._source_by_ids()
        if ids is None:
            return float(count)

        rounds = max(1.0, self._sweep / self._pace)
        some = min(count, math.ceil(count * 1.25 / rounds))
        return rounds * self._planner.walk_cost(ids, some)[1]

    def _source_by_ids(self) -> Source | None:
        return next(
            (each for each in self._trusted() if each.kind is SourceKind.IDS), None
        )

    def _overdue(self, since: float) -> list[str]:
        """Return those not seen in a row of their own since then, longest ago first."""
        return [
            subject
            for subject, seen in self._last_row.items()
            if seen <= since and subject not in self._doubts
        ]

    async def _sweep_through(self, subjects: Sequence[str]) -> None:
        if not subjects:
            return

        ids = self._source_by_ids()
        if ids is None or len(subjects) == 1:
            await self._singly(subjects)
            return

        walk = Walk(self, subjects)
        batches = tuple(
            tuple(subjects[start : start + ids.page])
            for start in range(0, len(subjects), ids.page)
        )
        plan = Plan(
            source=ids, singles=(), batches=batches, requests=len(batches), cost=0.0
        )
        try:
            await walk.follow(plan)
        except Misled:
            await self._singly(subjects)
            return
        except RoundGivenUp:
            # The source of this round has answered, and so does the vendor.
            self.distrust(ids, "it fails while others answer")
            return

        await self._singly(walk.left(plan))
        await self._confirm(walk)

    async def _walk_sweep(self, source: Source, count: int) -> None:
        walk = Walk(self, ())
        plan = Plan(
            source=source,
            singles=(),
            scopes=("",),
            requests=0,
            cost=0.0,
            patience=count * self._planner.single_cost,
        )
        try:
            await walk.follow(plan)
        except Misled:
            return
        except RoundGivenUp:
            self.distrust(source, "it fails while others answer")
            return

        await self._confirm(walk)

    # Telling ------------------------------------------------------------------

    def see(
        self,
        subject: str,
        row: Row,
        *,
        alone: bool = False,
        feed: bool = False,
    ) -> Claims:
        """Take a row in, and tell those who wait for it.

        ``alone`` marks a reply that was asked for this job; only such a one may end a job
        that needs confirmation. ``feed`` marks a row of the feed. Return what is to be
        told as soon as it is confirmed.
        """
        claims: Claims = []
        watched = self._watched.get(subject)
        if watched is None:
            return claims

        now = asyncio.get_running_loop().time()
        self._note_row(watched, subject, row, now)
        digest = self._vendor.digest(row)
        if not alone and self._knows(watched, digest, now):
            return claims

        going_on = True
        watched.untold = False
        for waiter in watched:
            if waiter.future.done():
                continue

            job = self._judge(waiter, subject, row, alone=alone)
            if job is None:
                going_on = False
            elif not job.state.is_terminal:
                watched.untold |= not self._note_progress(waiter, job, now)
            elif not alone and self._vendor.needs_confirmation(job):
                going_on = False
                claims.append((waiter, job))
            else:
                if not feed:
                    self._check_feed(subject, job)

                waiter.future.set_result(job)

        if claims and feed:
            self._shown.add(subject)

        watched.digest = digest if going_on else None
        return claims

    def _note_row(self, watched: Watched, subject: str, row: Row, now: float) -> None:
        """Keep account of who has been seen in a row of his own."""
        watched.known = True
        if subject in self._doubts:
            self._doubts.forget(subject)

        self._owed.discard(subject)
        # The one seen last stands last.
        self._last_row.pop(subject, None)
        self._last_row[subject] = now
        scope = self._vendor.scope_of(row)
        if scope:
            self._scopes[subject] = scope

    def _knows(self, watched: Watched, digest: int | None, now: float) -> bool:
        """Tell whether a row says nothing new, and nothing that is still to be told."""
        if digest is None or digest != watched.digest:
            return False

        return not (watched.untold and self._may_give_news(now))

    def _judge(
        self, waiter: Waiter, subject: str, row: Row, *, alone: bool
    ) -> Job | None:
        """Read a waiter's job from a row; None when it cannot be read."""
        account = self._transport.account
        try:
            return self._vendor.judge(account, subject, row, waiter.mark)
        except TransientError as error:
            self.note_trouble(error)
        except PermanentError as error:
            waiter.future.set_exception(error.again())
        except Exception as error:
            if not alone:
                raise

            log.exception("The answer about job %s cannot be judged", subject)
            waiter.future.set_exception(_unusable(subject, error))

        return None

    def see_safely(self, source: Source, subject: str, row: Row) -> Claims:
        """Take a row of a source in; one that breaks is asked for by itself instead."""
        try:
            return self.see(subject, row, feed=source.kind is SourceKind.FEED)
        except Exception:
            log.exception("A row of %s about job %s broke", source.name, subject)
            self._odd.add(subject)
            self.distrust(source, f"its row about job {subject} cannot be taken in")
            return []

    def _check_feed(self, subject: str, job: Job) -> None:
        """Distrust a feed that should have told of this end and did not."""
        if subject in self._shown:
            return

        if job.ended_at is None or self._cursor is None or job.ended_at >= self._cursor:
            return

        for source in self._trusted():
            if (
                source.kind is SourceKind.FEED
                and job.state not in source.omits
                and subject not in self._behind
                and self._planner.current == source.name
            ):
                self.distrust(source, f"it did not show the end of job {job.id}")

    def _note_progress(self, waiter: Waiter, job: Job, now: float) -> bool:
        """Tell how a job goes on; False where that is to be told another time."""
        listener = waiter.listener
        if listener is None:
            return True

        told = self._give_news(waiter, job, now)
        if listener.needs_attention(job):
            waiter.future.set_result(job)

        return told

    def _give_news(self, waiter: Waiter, job: Job, now: float) -> bool:
        news = (job.word, tuple(job.statistics.items()))
        if news == waiter.told:
            return True

        same_state = waiter.told is not None and waiter.told[0] == job.word
        if same_state and now < waiter.told_at + NEWS_INTERVAL:
            return False

        if not self._may_give_news(now):
            return False

        self._news_count += 1
        waiter.told = news
        waiter.told_at = now
        # Its own task gives them, in its own context. What comes before it has done so
        # finds another future already.
        taken, waiter.future = waiter.future, waiter.future.get_loop().create_future()
        taken.set_result(job)
        return True

    def _may_give_news(self, now: float) -> bool:
        if int(now) != self._news_second:
            self._news_second = int(now)
            self._news_count = 0

        return self._news_count < NEWS_PER_SECOND

    # Trouble ------------------------------------------------------------------

    def note_trouble(
        self, error: TransientError, *, cause: Exception | None = None
    ) -> None:
        """Take note of a transient error, and log it when it is the first.

        ``cause`` is an error that nobody thought of: it is logged with its traceback.
        """
        self._troubled_round = self._round
        if self._trouble is not None:
            if isinstance(error, Doubted | InBetween):
                # What is said of trouble in general: the one that may end a wait.
                self._trouble = error

            return

        self._trouble = error
        self._trouble_since = asyncio.get_running_loop().time()
        if self._notifying is None:
            self._notify_later(NOTICE_AFTER)

        log.warning(
            "%s: polling failed (%d tasks still waiting, retrying): %s",
            self._transport.account,
            self._waiters,
            error.message,
            exc_info=cause,
        )

    def _note_recovery(self) -> None:
        if self._trouble is None:
            return

        seconds = asyncio.get_running_loop().time() - self._trouble_since
        self._trouble = None
        log.info(
            "%s: polling works again after %.0f s", self._transport.account, seconds
        )

    # What those who wait hear of it ---------------------------------------------------

    def _notify(self) -> None:
        """Let those who wait know of trouble: when it begins, now and then, at its end.

        No more at once than the account's news allow; the rest follows each second.
        """
        if self._notifying is not None:
            self._notifying.cancel()
            self._notifying = None

        now = asyncio.get_running_loop().time()
        general = self._general_notice(now)
        if not self._watched or (
            self._trouble is None and not self._doubts and not self._noticed
        ):
            return

        for subject, watched in self._watched.items():
            notice = self._notice_of(subject) or general
            for waiter in watched:
                if waiter.listener is None or waiter.future.done():
                    continue

                if not self._is_notice_due(waiter, notice, now):
                    continue

                if not self._may_give_news(now):
                    self._notify_later(1.0)
                    return

                self._give_notice(waiter, notice, now)

        if self._trouble is not None:
            # A round may wait for an hour until it may request anything.
            self._notify_later(NOTICE_AFTER)

    def _notify_later(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._notifying = loop.call_later(
            seconds, self._notify, context=contextvars.Context()
        )

    def _general_notice(self, now: float) -> Notice | None:
        error = self._trouble
        if error is None:
            return None

        is_serious = isinstance(error, Doubted | InBetween) or self._broken_rounds > 1
        if not is_serious and now < self._trouble_since + NOTICE_AFTER:
            return None

        return Notice(f"Polling failed (still waiting, retrying): {error.message}")

    def _notice_of(self, subject: str) -> Notice | None:
        refusal = self._doubts.refusal_of(subject)
        if refusal is None:
            return None

        return Notice(
            f"Polling failed (still waiting, checking again before this is believed):"
            f" {refusal.message}"
        )

    def _is_notice_due(self, waiter: Waiter, notice: Notice | None, now: float) -> bool:
        if notice is None:
            return waiter.noticed_at is not None

        return waiter.noticed_at is None or now >= waiter.noticed_at + NEWS_INTERVAL

    def _give_notice(self, waiter: Waiter, notice: Notice | None, now: float) -> None:
        self._news_count += 1
        if notice is None:
            self._noticed -= 1
            waiter.noticed_at = None
            notice = Notice("Polling works again", is_over=True)
        else:
            self._noticed += waiter.noticed_at is None
            waiter.noticed_at = now

        taken, waiter.future = waiter.future, waiter.future.get_loop().create_future()
        taken.set_result(notice)

    # What a walk needs of the poller -------------------------------------------

    @property
    def planner(self) -> Planner:
        """The planner that walks report to."""
        return self._planner

    def first_requests(self, plan: Plan) -> list[tuple[str, Request]]:
        """Return the (scope, first request) of each walk of a plan."""
        source = plan.source
        assert source is not None  # noqa: S101 - singles have no walk
        account = self._transport.account
        if source.kind is SourceKind.FEED:
            return [
                (part, self._vendor.many(account, source, since=plan.since, scope=part))
                for part in source.parts or ("",)
            ]

        if source.kind is SourceKind.IDS:
            return [
                ("", self._vendor.many(account, source, subjects=batch))
                for batch in plan.batches
            ]

        return [
            (scope, self._vendor.many(account, source, scope=scope))
            for scope in plan.scopes
        ]

    def feed_complete(self, since: float | None, resume: float) -> None:
        """Move the cursor after a whole walk over a feed."""
        if since is not None and self._cursor is not None and since > self._cursor:
            # The server's clock has turned out to be behind: the window was too late.
            return

        self._cursor = max(self._cursor or resume, resume)
        if since is not None:
            self._behind = {
                subject: look
                for subject, look in self._behind.items()
                if look is None or look < since or subject in self._joined
            }

    def last_resume(self, first: float | None, resume: float | None) -> float | None:
        """Return where the next window of a feed may begin at the latest.

        ``first`` is the server's time of the walk's first answer: what changed while we
        paged may have missed us.
        """
        if resume is None or first is None:
            return resume

        # The clock of that answer may have turned out to be ahead since.
        began = first if self._round_began is None else min(first, self._round_began)
        return min(resume, began - self._vendor.overlap)

    @property
    def server_now(self) -> float | None:
        """The server's time now, in epoch seconds, None before its first answer."""
        return self._clock.now(asyncio.get_running_loop().time())


def _check_wait(subject: object, interval: object, seen_at: object) -> None:
    """Refuse what would break a round for all others, before it joins one."""
    if not isinstance(subject, str) or not subject.strip():
        msg = f"{subject!r} is no id of a job to wait for"
    elif not _is_number(interval) or interval < 0:  # type: ignore[operator]
        msg = f"{interval!r} is no interval in seconds to poll job {subject} at"
    elif seen_at is not None and not _is_number(seen_at):
        msg = f"{seen_at!r} is no time in epoch seconds of a look at job {subject}"
    else:
        return

    raise RequestRejected(msg)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False

    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _place_of(error: BaseException) -> str:
    """Name an unforeseen error by its type and where it came from, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    )
    return f"{type(error).__name__}{where}"


def _unusable(subject: str, error: Exception) -> PermanentError:
    """Return what ends the wait for a job that causes an unforeseen error."""
    if isinstance(error, PermanentError):
        return error.again()  # type: ignore[return-value]

    return RequestRejected(
        f"Job {subject} cannot be polled: {_place_of(error)}. Check its id; if it is"
        " right, report this with the triggerer's log"
    )


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
