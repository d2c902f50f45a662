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
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from async_triggers.engine import backoff
from async_triggers.engine.errors import (
    PermanentError,
    Scope,
    TransientError,
)
from async_triggers.engine.jobs import Job
from async_triggers.engine.planner import (
    BYTES_PER_REQUEST,
    Plan,
    Planner,
    Situation,
)
from async_triggers.engine.wire import Page, Reply, Request, Row, Source, SourceKind

if TYPE_CHECKING:
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
NEWS_INTERVAL = 600.0
"""Seconds between two pieces of news of one job whose state has not changed."""
NEWS_PER_SECOND = 10
"""Pieces of news an account may give in a second: a log line costs a millisecond."""

News = Callable[[Job], None]


@dataclass(frozen=True, slots=True)
class PollerStatistics:
    """A snapshot of a poller. ``interval`` is in seconds."""

    waiters: int
    jobs: int
    rounds: int
    failed_rounds: int
    interval: float
    plan: str


@dataclass(slots=True, eq=False)
class _Waiter:
    future: asyncio.Future[Job]
    interval: float
    mark: str | None
    news: News | None
    context: contextvars.Context | None
    told: tuple[str, object] | None = None
    told_at: float = -math.inf


@dataclass(slots=True, eq=False)
class _Watched:
    """One subject and those who wait for it."""

    waiters: list[_Waiter] = field(default_factory=list)
    known: bool = False
    """The vendor has shown the job before, so that "gone" needs a second opinion."""
    doubted: int | None = None
    """The round in which the vendor first said that the job is gone."""


T = TypeVar("T")


class _RoundGivenUp(Exception):
    """Too much went wrong in a row: leave the rest to the next round."""


class _Misled(Exception):
    """A source refused or did not do what it was asked: plan without it."""


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
        self._watched: dict[str, _Watched] = {}
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
        # What is known of the server: its clock, how far each feed has been read, and
        # whose news reach less far than that.
        self._server_now: float | None = None
        self._cursor: float | None = None
        self._behind: dict[str, float | None] = {}
        self._scopes: dict[str, str] = {}
        self._distrusted: dict[str, float] = {}
        # When a row of its own was last seen, oldest first.
        self._last_row: dict[str, float] = {}
        self._swept_at = 0.0
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
        news: News | None = None,
    ) -> Job:
        """Wait until a job has ended, and return it.

        ``interval`` is how often in seconds the job should be looked at. ``seen_at`` is
        the server's time (epoch seconds) of the last look at it, before which nothing
        needs to be learnt. ``mark`` is handed to the vendor with each row. ``news`` is
        called in the caller's context when the job has changed, at most every ten
        minutes for a change that is not one of state.

        Raise :class:`~async_triggers.engine.errors.PermanentError` when the vendor's
        refusal concerns this job or the whole account.
        """
        waiter = _Waiter(
            future=asyncio.get_running_loop().create_future(),
            interval=max(interval, self._vendor.grid_floor),
            mark=mark,
            news=news,
            context=contextvars.copy_context() if news is not None else None,
        )
        self._join(subject, waiter, seen_at)
        try:
            return await waiter.future
        finally:
            self._leave(subject, waiter)

    # No await in these two: membership, the grid and the loop's alarm change together.

    def _join(self, subject: str, waiter: _Waiter, seen_at: float | None) -> None:
        now = asyncio.get_running_loop().time()
        look = None if seen_at is None else seen_at - self._vendor.overlap
        watched = self._watched.get(subject)
        if watched is None:
            watched = self._watched[subject] = _Watched()
            self._behind[subject] = look
            self._last_row[subject] = now
        elif subject in self._behind:
            known = self._behind[subject]
            self._behind[subject] = (
                None if known is None or look is None else min(known, look)
            )
        elif look is None or self._cursor is None or look < self._cursor:
            self._behind[subject] = look

        watched.known = watched.known or seen_at is not None
        watched.waiters.append(waiter)
        self._waiters += 1
        if waiter.interval < self._grid:
            self._grid = waiter.interval
            self._next_round = min(
                self._next_round, now + min(self._grid, self._gather)
            )
            self._changed.set()
            self._stir()

    def _leave(self, subject: str, waiter: _Waiter) -> None:
        watched = self._watched[subject]
        watched.waiters.remove(waiter)
        self._waiters -= 1
        if not watched.waiters:
            del self._watched[subject]
            self._behind.pop(subject, None)
            self._scopes.pop(subject, None)
            self._last_row.pop(subject, None)

        if not self._watched:
            self._grid = self._next_round = math.inf
            self._changed.set()

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
                started = loop.time()
                await self._hold_round()
                self._schedule(started)
                continue

            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._next_round):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def disband(self) -> None:
        """End all waiting by cancellation: the loop is shutting down."""
        for watched in self._watched.values():
            for waiter in watched.waiters:
                waiter.future.cancel()

    def _schedule(self, started: float) -> None:
        """Set the next round on the grid, later while there is trouble."""
        if not self._watched:
            return

        # The shortest interval may have left; the grid is looked for once a round.
        self._grid = min(
            waiter.interval
            for watched in self._watched.values()
            for waiter in watched.waiters
        )
        pace = max(self._grid, self._stretch)
        if self._failures:
            pace = max(pace, backoff.delay(self._failures))

        now = asyncio.get_running_loop().time()
        steps = max(1, math.ceil((now - started) / pace))
        self._next_round = started + steps * pace

    async def _hold_round(self) -> None:
        self._round += 1
        try:
            await self._round_through(self._due())
        except _RoundGivenUp:
            self._failed_rounds += 1
            self._failures += 1
        except PermanentError as error:
            self._refuse_all(error)
        except Exception:
            # Whatever it is, those who wait must not lose their jobs over it.
            log.exception("%s: a round broke off", self._transport.account)
            self._failed_rounds += 1
            self._failures += 1
        else:
            self._failures = 0
            self._note_recovery()

    def _due(self) -> list[str]:
        grid = self._grid
        return [
            subject
            for subject, watched in self._watched.items()
            if self._round
            % max(1, int(min(each.interval for each in watched.waiters) / grid + 1e-6))
            == 0
            or (watched.doubted is not None and self._round >= watched.doubted + 2)
        ]

    async def _round_through(self, due: Sequence[str]) -> None:
        walk = _Walk(self, due)
        while True:
            plan = self._plan(due)
            self._stretch = plan.stretch
            try:
                await walk.follow(plan)
            except _Misled:
                continue

            break

        await self._singly(walk.left(plan))
        await self._singly(walk.unconfirmed)
        if plan.source is not None and plan.source.kind is not SourceKind.IDS:
            await self._sweep_some()

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
                hourly=max(1.0, limiter.hourly_share - limiter.starts_per_hour()),
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
        if reply.date is not None:
            self._server_now = max(self._server_now or 0.0, reply.date)

        return reply, page

    async def _singly(self, subjects: Iterable[str]) -> None:
        """Ask for jobs one by one, a few at a time."""
        failures = 0

        async def ask(subject: str) -> None:
            nonlocal failures
            if subject not in self._watched:
                return

            if await self._ask_single(subject):
                failures = 0
                return

            failures += 1
            if failures >= GIVE_UP_AFTER:
                raise _RoundGivenUp

        await self.spread(dict.fromkeys(subjects), ask)

    async def spread(
        self, items: Iterable[T], work: Callable[[T], Awaitable[None]]
    ) -> None:
        """Do the work for each item, no more at once than the account has room for.

        The first thing that goes wrong ends the rest and is raised.
        """
        todo = iter(list(items))

        async def hand() -> None:
            for item in todo:
                await work(item)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._transport.account.budget.polls):
                    group.create_task(hand())
        except BaseExceptionGroup as errors:
            raise _gravest(errors) from None

    async def _ask_single(self, subject: str) -> bool:
        """Ask for one job; False when no answer came."""
        request = self._vendor.single(self._transport.account, subject)
        try:
            reply, page = await self.ask(request)
        except TransientError as error:
            self.note_trouble(error)
            # Those that fail go last, so that they keep nobody else waiting.
            self._touch(subject, self._last_row.get(subject))
            return False
        except PermanentError as error:
            if error.scope is Scope.ACCOUNT:
                raise

            self._doubt(subject, error)
            return True

        self._planner.learn_single(len(reply.body))
        for key, row in page.rows.items():
            self.see(key, row, alone=True)

        if subject in self._behind and reply.date is not None:
            self._catch_up(subject, reply.date - self._vendor.overlap)

        return True

    def _catch_up(self, subject: str, covered: float) -> None:
        """Take note that nothing is unknown of a job up to a server time."""
        if self._cursor is not None and covered >= self._cursor:
            self._behind.pop(subject, None)
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

        for waiter in watched.waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error.again())

    def _refuse_all(self, error: PermanentError) -> None:
        for watched in self._watched.values():
            for waiter in watched.waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(error.again())

    # Sweeping -----------------------------------------------------------------

    async def _sweep_some(self) -> None:
        """See those in a row of their own whose last one is longest ago."""
        now = asyncio.get_running_loop().time()
        passed = now - self._swept_at
        self._swept_at = now
        # Whoever would be too late by the next round must be seen in this one.
        late = now - self._sweep + self._grid * 1.5
        early = now - self._sweep / 2
        oldest = next(iter(self._last_row.values()), now)
        if oldest > max(late, early):
            return

        count = len(self._last_row)
        walk = next(
            (
                source
                for source in self._trusted()
                if source.kind in {SourceKind.LIVE, SourceKind.LIST}
                and not source.scoped
                and self._planner.list_cost(source)[1] < count
            ),
            None,
        )
        if walk is not None:
            if oldest <= late:
                await self._walk_sweep(walk, count)
                await self._sweep_through(self._overdue(late, count))

            return

        # Evenly over the rounds, a little faster than need be.
        quota = math.ceil(count * min(1.0, 1.25 * passed / self._sweep))
        await self._sweep_through(self._overdue(max(late, early), quota))

    def _overdue(self, since: float, most: int) -> list[str]:
        """Return those not seen in a row of their own since then, longest ago first."""
        return [
            subject
            for subject, seen in itertools.islice(self._last_row.items(), most)
            if seen <= since
        ]

    async def _sweep_through(self, subjects: Sequence[str]) -> None:
        if not subjects:
            return

        ids = next(
            (each for each in self._trusted() if each.kind is SourceKind.IDS), None
        )
        if ids is None or len(subjects) == 1:
            await self._singly(subjects)
            return

        walk = _Walk(self, subjects)
        batches = tuple(
            tuple(subjects[start : start + ids.page])
            for start in range(0, len(subjects), ids.page)
        )
        plan = Plan(
            source=ids, singles=(), batches=batches, requests=len(batches), cost=0.0
        )
        try:
            await walk.follow(plan)
        except _Misled:
            await self._singly(subjects)
            return

        await self._singly(walk.unconfirmed)

    async def _walk_sweep(self, source: Source, count: int) -> None:
        walk = _Walk(self, ())
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
        except _Misled:
            return

        await self._singly(walk.unconfirmed)

    # Telling ------------------------------------------------------------------

    def see(
        self,
        subject: str,
        row: Row,
        *,
        alone: bool = False,
        feed: bool = False,
        unconfirmed: list[str] | None = None,
    ) -> None:
        """Take a row in, and tell those who wait for it.

        ``alone`` marks a reply that was asked for this job; only such a one may end a job
        that needs confirmation. ``feed`` marks a row of the feed.
        """
        watched = self._watched.get(subject)
        if watched is None:
            return

        now = asyncio.get_running_loop().time()
        watched.known = True
        watched.doubted = None
        self._touch(subject, now)
        scope = self._vendor.scope_of(row)
        if scope:
            self._scopes[subject] = scope

        for waiter in watched.waiters:
            if waiter.future.done():
                continue

            try:
                job = self._vendor.judge(
                    self._transport.account, subject, row, waiter.mark
                )
            except TransientError as error:
                self.note_trouble(error)
                continue

            if not job.state.is_terminal:
                self._give_news(waiter, job, now)
            elif not alone and self._vendor.needs_confirmation(job):
                if unconfirmed is not None:
                    unconfirmed.append(subject)
            else:
                if not feed:
                    self._check_feed(job)

                waiter.future.set_result(job)

    def _touch(self, subject: str, when: float | None) -> None:
        if when is not None and self._last_row.pop(subject, None) is not None:
            self._last_row[subject] = when

    def _check_feed(self, job: Job) -> None:
        """Distrust a feed that should have told of this end and did not."""
        if job.ended_at is None or self._cursor is None or job.ended_at >= self._cursor:
            return

        for source in self._trusted():
            if (
                source.kind is SourceKind.FEED
                and job.state not in source.omits
                and job.id not in self._behind
                and self._planner.current == source.name
            ):
                self.distrust(source, f"it did not show the end of job {job.id}")

    def _give_news(self, waiter: _Waiter, job: Job, now: float) -> None:
        if waiter.news is None or waiter.context is None:
            return

        news = (job.word, tuple(job.statistics.items()))
        if news == waiter.told:
            return

        same_state = waiter.told is not None and waiter.told[0] == job.word
        if same_state and now < waiter.told_at + NEWS_INTERVAL:
            return

        if int(now) != self._news_second:
            self._news_second = int(now)
            self._news_count = 0

        if self._news_count >= NEWS_PER_SECOND:
            return

        self._news_count += 1
        waiter.told = news
        waiter.told_at = now
        try:
            waiter.context.run(waiter.news, job)
        except Exception:
            log.exception("The news of job %s could not be given", job.id)

    # Trouble ------------------------------------------------------------------

    def note_trouble(self, error: TransientError) -> None:
        """Take note of a transient error, and log it when it is the first."""
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
        )

    def _note_recovery(self) -> None:
        if self._trouble is None or self._troubled_round == self._round:
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
            request = self._vendor.many(account, source, since=plan.since)
            return [("", request)]

        if source.kind is SourceKind.IDS:
            return [
                ("", self._vendor.many(account, source, subjects=batch))
                for batch in plan.batches
            ]

        return [
            (scope, self._vendor.many(account, source, scope=scope))
            for scope in plan.scopes
        ]

    def feed_complete(self, since: float | None, resume: float | None) -> None:
        """Move the cursor after a whole walk over a feed."""
        if resume is None:
            return

        self._cursor = max(self._cursor or resume, resume)
        if since is not None:
            self._behind = {
                subject: look
                for subject, look in self._behind.items()
                if look is None or look < since
            }

    @property
    def server_now(self) -> float | None:
        """The latest server time seen, in epoch seconds."""
        return self._server_now


class _Walk:
    """Follows the plan of one round through the pages of its source."""

    def __init__(self, poller: Poller, due: Sequence[str]) -> None:
        self._poller = poller
        self._due = due
        self._seen: set[str] = set()
        self._spent = 0.0
        self._cut_short = False
        self.unconfirmed: list[str] = []

    async def follow(self, plan: Plan) -> None:
        """Ask all that the plan's source is to be asked.

        Raise :class:`_RoundGivenUp` when the vendor is in trouble, :class:`_Misled` when
        the source cannot be used.
        """
        if plan.source is None:
            return

        source = plan.source

        async def pages(start: tuple[str, Request]) -> None:
            await self._pages(plan, source, *start)

        await self._poller.spread(self._poller.first_requests(plan), pages)

    async def _pages(
        self, plan: Plan, source: Source, scope: str, first: Request
    ) -> None:
        request: Request | None = first
        rows = size = 0
        resume: float | None = None
        while request is not None:
            if self._spent >= plan.patience and request is not first:
                self._cut_short = True
                return

            try:
                reply, page = await self._poller.ask(request)
            except TransientError as error:
                self._poller.note_trouble(error)
                raise _RoundGivenUp from None
            except PermanentError as error:
                if error.scope is Scope.ACCOUNT:
                    raise

                self._poller.distrust(source, error.message)
                raise _Misled from None

            if not page.sound:
                self._poller.distrust(source, "its rows are not what was asked for")
                raise _Misled

            rows += page.count
            size += len(reply.body)
            self._spent += 1.0 + len(reply.body) / BYTES_PER_REQUEST
            if page.resume is not None:
                resume = max(resume or page.resume, page.resume)

            self._take(source, page)
            request = page.next

        span = 0.0
        if plan.since is not None and self._poller.server_now is not None:
            span = self._poller.server_now - plan.since

        self._poller.planner.learn(source, rows=rows, size=size, scope=scope, span=span)
        if source.kind is SourceKind.FEED:
            self._poller.feed_complete(plan.since, resume)

    def _take(self, source: Source, page: Page) -> None:
        feed = source.kind is SourceKind.FEED
        for subject, row in page.rows.items():
            self._seen.add(subject)
            self._poller.see(subject, row, feed=feed, unconfirmed=self.unconfirmed)

    def left(self, plan: Plan) -> list[str]:
        """Return those that must be asked for singly after the walk."""
        if plan.source is None or plan.source.kind is SourceKind.FEED:
            singles = list(plan.singles)
        else:
            singles = [*plan.singles]
            if plan.source.kind is SourceKind.IDS:
                singles += [key for key in self._due if key not in self._seen]

        if self._cut_short:
            singles += [key for key in self._due if key not in self._seen]

        return singles


def _gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what weighs most of all that went wrong at the same time."""
    order = (PermanentError, _Misled, _RoundGivenUp)
    found = [
        _gravest(error) if isinstance(error, BaseExceptionGroup) else error
        for error in group.exceptions
    ]
    strange = [error for error in found if not isinstance(error, order)]
    if strange:
        return strange[0]

    return min(
        found, key=lambda error: [isinstance(error, each) for each in order].index(True)
    )
