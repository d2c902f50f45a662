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

*Trouble is only a late answer.* No waiter hears of a transient error: the next round is
the retry. One log line tells when trouble starts and one when it ends. A permanent error
reaches the waiters in its scope, each with an exception of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from async_triggers.engine import backoff
from async_triggers.engine.errors import (
    PermanentError,
    Scope,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.planner import (
    Plan,
    Planner,
    Situation,
)
from async_triggers.engine.waiters import Claims, Listener, Waiter, Watched
from async_triggers.engine.walk import Misled, RoundGivenUp, Walk
from async_triggers.engine.wire import Page, Reply, Request, Row, Source, SourceKind

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class PollerStatistics:
    """A snapshot of a poller. ``interval`` is in seconds."""

    waiters: int
    jobs: int
    rounds: int
    failed_rounds: int
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
        self._watched: dict[str, Watched] = {}
        self._waiters = 0
        self._changed = asyncio.Event()
        self._grid = math.inf
        self._next_round = math.inf
        self._round = 0
        self._failed_rounds = 0
        self._trouble: TransientError | None = None
        self._trouble_since = 0.0
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
        # Those whose turn it was in a round that did not get to them.
        self._owed: set[str] = set()
        # What is known of the server: its clock, up to which time the changes of all
        # jobs are known, and of which jobs less is known.
        self._server_now: float | None = None
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
        listener: Listener | None = None,
        patience: float | None = None,
    ) -> Job:
        """Wait until a job has ended, and return it.

        ``interval`` is how often in seconds the job should be looked at. ``seen_at`` is
        the server's time (epoch seconds) of the last look at it, before which nothing
        needs to be learnt. ``mark`` is handed to the vendor with each row. ``listener``
        hears when the job has changed, at most every ten minutes of a change that is not
        one of state, and may end the wait for a job that has not ended. ``patience`` is
        how many seconds to wait at most, None for ever.

        Raise :class:`~async_triggers.engine.errors.PermanentError` when the vendor's
        refusal concerns this job or the whole account, :class:`TimeoutError` when the
        patience is over.
        """
        if self._disbanded:
            raise asyncio.CancelledError

        loop = asyncio.get_running_loop()
        waiter = Waiter(
            future=loop.create_future(),
            interval=max(interval, self._vendor.grid_floor),
            mark=mark,
            listener=listener,
            ends=math.inf if patience is None else loop.time() + patience,
        )
        self._join(subject, waiter, seen_at)
        try:
            while True:
                future = waiter.future
                job = await future
                if listener is None or future is waiter.future:
                    return job

                try:
                    listener.hear(job)
                except Exception:
                    log.exception("The news of job %s could not be given", job.id)
        finally:
            self._leave(subject, waiter)

    # No await in these two: membership, the grid and the loop's alarm change together.

    def _join(self, subject: str, waiter: Waiter, seen_at: float | None) -> None:
        now = asyncio.get_running_loop().time()
        look = None if seen_at is None else seen_at - self._vendor.overlap
        watched = self._watched.get(subject)
        if watched is None:
            watched = self._watched[subject] = Watched()
            self._last_row[subject] = now

        # Also behind when the look is newer than the cursor: pages of the walk that is
        # under way may have passed by already.
        known = self._behind.get(subject, look)
        self._behind[subject] = (
            None if known is None or look is None else min(known, look)
        )
        self._joined.add(subject)
        watched.known = watched.known or seen_at is not None
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
        if watched.newest is None:
            del self._watched[subject]
            self._behind.pop(subject, None)
            self._scopes.pop(subject, None)
            self._last_row.pop(subject, None)
            self._owed.discard(subject)
        else:
            watched.thinned = True

        if not self._watched:
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
        """Hold rounds for as long as anybody waits."""
        loop = asyncio.get_running_loop()
        while self._watched:
            if loop.time() >= self._next_round:
                # Where it stands on the grid, not when the loop got to it.
                planned = self._next_round
                await self._hold_round()
                self._schedule(planned)
                continue

            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._next_round):
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
        steps = max(1, math.ceil((now - planned) / pace))
        self._next_round = planned + steps * pace

    async def _hold_round(self) -> None:
        self._round += 1
        try:
            await self._round_through()
        except RoundGivenUp:
            self._failed_rounds += 1
            self._failures += 1
        except PermanentError as error:
            self._refuse_all(error)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            # Whatever it is, those who wait must not lose their jobs over it.
            strange = UnreadableReply(f"a round broke off: {type(error).__name__}")
            self.note_trouble(strange, cause=error)
            self._failed_rounds += 1
            self._failures += 1

    def _due(self) -> list[str]:
        pace = self._pace
        return [
            subject
            for subject, watched in self._watched.items()
            if subject in self._owed
            or self._round % max(1, int(watched.interval / pace + 1e-6)) == 0
            or self._second_opinion_due(watched)
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

    def _second_opinion_due(self, watched: Watched) -> bool:
        return watched.doubted is not None and self._round >= watched.doubted + 2

    async def _round_through(self) -> None:
        due = self._due()
        if not due:
            return

        self._answers = 0
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
        if plan.source is not None:
            left += [
                subject
                for subject, watched in self._watched.items()
                if self._second_opinion_due(watched)
            ]

        await self._confirm(walk)
        await self._see_alone(left)
        own_rows = plan.source is None or plan.source.kind is SourceKind.IDS
        if own_rows:
            self._check_ids(plan, due, left)
            self._move_cursor()
        else:
            await self._sweep_some()

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
                now=self._server_now,
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

    async def ask(self, request: Request) -> tuple[Reply, Page]:
        """Send one request of a round and read its page, keeping track of trouble."""
        reply = await self._transport.send(request)
        page = self._vendor.read(request, reply)
        self._answers += 1
        date = reply.date
        if date is not None:
            self._server_now = max(self._server_now or date, date)
            self._round_began = min(self._round_began or date, date)

        return reply, page

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

        request = self._vendor.confirmation(first, now=self._server_now)
        if request is None:
            return False

        job: Job | None = None
        why = "it does not show what has ended"
        try:
            reply = await self._transport.send(request)
            self._answers += 1
            job = self._vendor.confirmed(request, reply, first)
        except (TransientError, PermanentError) as error:
            if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
                raise

            why = error.message

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
        """How many requests of polling may be under way at once."""
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
            reply, page = await self.ask(request)
        except TransientError as error:
            self.note_trouble(error)
            return False
        except PermanentError as error:
            if error.scope is Scope.ACCOUNT:
                raise

            self._doubt(subject, error)
            return True

        self._planner.learn_single(len(reply.body))
        date = reply.date
        for key, row in page.rows.items():
            self.see(key, row, alone=True)
            self.catch_up(key, date)

        return True

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

    def _doubt(self, subject: str, error: PermanentError) -> None:
        """Believe that a job is gone: at once if it was never seen, else the 2nd time."""
        watched = self._watched.get(subject)
        if watched is None:
            return

        if watched.known and watched.doubted is None:
            watched.doubted = self._round
            log.warning("%s; asking again before this is believed", error.message)
            return

        if watched.doubted is not None and self._round < watched.doubted + 2:
            return

        for waiter in watched:
            if not waiter.future.done():
                waiter.future.set_exception(error.again())

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
        # Spread evenly over the rounds, a little faster than need be.
        credit = count * min(1.0, 1.25 * passed / self._sweep)
        self._sweep_credit = min(self._sweep_credit, 1.0) + credit
        oldest = min(self._last_row.values(), default=now)
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
        return [subject for subject, seen in self._last_row.items() if seen <= since]

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

            job = self._judge(waiter, subject, row)
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
        watched.doubted = None
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

    def _judge(self, waiter: Waiter, subject: str, row: Row) -> Job | None:
        """Read a waiter's job from a row; None when it cannot be read."""
        account = self._transport.account
        try:
            return self._vendor.judge(account, subject, row, waiter.mark)
        except TransientError as error:
            self.note_trouble(error)
        except PermanentError as error:
            waiter.future.set_exception(error.again())

        return None

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
            return

        self._trouble = error
        self._trouble_since = asyncio.get_running_loop().time()
        log.warning(
            "%s: polling is in trouble, %d waiting tasks keep waiting: %s",
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
        self._cursor = max(self._cursor or resume, resume)
        if since is not None:
            self._behind = {
                subject: look
                for subject, look in self._behind.items()
                if look is None or look < since or subject in self._joined
            }

    def last_resume(self, first: Reply, resume: float | None) -> float | None:
        """Return where the next window of a feed may begin at the latest.

        What changed while we paged may have missed us: never past the first reply.
        """
        if resume is None or first.date is None:
            return resume

        return min(resume, first.date - self._vendor.overlap)

    @property
    def server_now(self) -> float | None:
        """The latest server time seen, in epoch seconds."""
        return self._server_now


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
