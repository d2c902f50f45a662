"""Planner, limiter and poller together, under any order of anything that happens.

Somebody joins, leaves, is told; starts and cancels share the budget; the vendor fails,
answers 429, asks for a pause, lags, skips, repeats, is slow. Whatever the order: no job
is starved, no window is over budget, no waiter is lost.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from async_triggers.engine.errors import (
    CredentialsRejected,
    EngineError,
    RateLimited,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.jobs import Job
from async_triggers.engine.limiter import Limiter, TurnedAway
from async_triggers.engine.wire import Budget, Lane
from tests.clock import VirtualClockLoop
from tests.examples import examples
from tests.unit.engine.fake import (
    ENDS,
    FEED,
    GROUPS,
    IDS,
    LIST,
    LIVE,
    Life,
    World,
    a_world,
)

if TYPE_CHECKING:
    from async_triggers.engine.wire import Request, Source

JOBS = "abcdefgh"
SWEEP = 300.0
# Eight jobs asked for singly every five seconds would be 96 a minute.
TIGHT = Budget(requests=60, per=60.0, share=0.5, polls=2, starts=1, cancels=1)
ROOMY = Budget(requests=6000, per=60.0, share=0.6, polls=4)
SLOWEST_ROUND = 140.0
"""Seconds between two rounds at most: the interval, a budget all but spent, a backoff."""

intervals = st.sampled_from([5.0, 20.0, 60.0])
some_jobs = st.sets(st.sampled_from(JOBS), max_size=4)
ways = st.sampled_from(
    [
        (),
        (FEED,),
        (IDS,),
        (LIST,),
        (GROUPS, LIST),
        (FEED, ENDS, LIVE),
        (IDS, FEED, LIVE),
    ]
)


class Watchful(Limiter):
    """A limiter that keeps a list of what it has admitted."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self.admitted: list[tuple[float, Lane]] = []
        self.pauses: list[tuple[float, float]] = []

    def pause(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self.pauses.append((now, now + seconds))
        super().pause(seconds)

    @asynccontextmanager
    async def admit(self, lane: Lane) -> AsyncIterator[None]:
        async with super().admit(lane):
            self.admitted.append((asyncio.get_running_loop().time(), lane))
            yield


class Interleavings:
    """One account, and all that may happen to it."""

    def __init__(self, sources: tuple[Source, ...], budget: Budget) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualClockLoop)
        self.budget = budget
        self.told: dict[int, list[object]] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.waits: dict[int, tuple[str, float, float]] = {}
        self.left: set[int] = set()
        self.callers: list[asyncio.Task[None]] = []
        self.turned_away: set[Lane] = set()
        # Since when nothing has been in the way of an answer.
        self.well_since = 0.0
        self.bad = self.rejected = False
        self.error: EngineError | None = None

        async def enter() -> World:
            self.context = a_world(*sources, budget=budget)
            world = await self.context.__aenter__()
            self.limiter = Watchful(budget)
            world.transport.limiter = self.limiter
            world.server.fault = self.fault
            for job in JOBS:
                world.server.lives[job] = Life(
                    0.0, 1e9, group=job if job < "c" else "g"
                )

            return world

        self.world = self.runner.run(enter())

    # Time

    @property
    def now(self) -> float:
        return self.runner.get_loop().time()

    def fault(self, request: Request) -> EngineError | None:
        error = self.error
        if isinstance(error, RateLimited) and error.retry_after is not None:
            # What the transport does.
            self.limiter.pause(error.retry_after)

        return None if error is None else error.again()

    def wait_a_while(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    # Waiters

    def join(self, jobs: list[str], interval: float, sees: bool) -> None:
        for job in jobs:
            self.join_one(job, interval, sees=sees)

    def join_one(self, job: str, interval: float, *, sees: bool) -> None:
        number = len(self.told)
        told: list[object] = []
        self.told[number] = told
        self.waits[number] = (job, interval, self.now)

        async def wait() -> None:
            look = self.world.server.now() if sees else None
            try:
                found: object = await self.world.poller.wait(
                    job, interval=interval, seen_at=look
                )
            except EngineError as error:
                found = error

            told.append(found)

        async def start() -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(wait())

        self.tasks[number] = self.runner.run(start())

    def leave(self, pick: int, count: int) -> None:
        waiting = [number for number, task in self.tasks.items() if not task.done()]
        for number in waiting[pick % (len(waiting) or 1) :][:count]:
            self.tasks[number].cancel()
            self.left.add(number)

    def end(self, jobs: set[str]) -> None:
        for job in jobs:
            life = self.world.server.lives[job]
            self.world.server.lives[job] = replace(life, ends=min(life.ends, self.now))

    def start_over(self, jobs: set[str]) -> None:
        # As with a vendor whose rows speak of a connection: it may run again.
        for job in jobs:
            self.world.server.lives[job] = Life(self.now, 1e9, group="g")

    # Other requests of the account

    def call(self, lane: Lane, count: int, takes: float, gives_up: bool) -> None:
        async def one() -> None:
            try:
                async with self.limiter.admit(lane):
                    await asyncio.sleep(takes)
            except TurnedAway:
                self.turned_away.add(lane)

        async def all_of_them() -> list[asyncio.Task[None]]:
            loop = asyncio.get_running_loop()
            return [loop.create_task(one()) for _ in range(count)]

        calls = self.runner.run(all_of_them())
        if gives_up:
            for task in calls[::2]:
                self.runner.get_loop().call_later(3.0, task.cancel)

        self.callers += calls

    # The vendor

    def fall_ill(self, error: EngineError) -> None:
        self.error, self.bad = error, True

    def reject(self) -> None:
        """Reject the credentials: whoever waits then is told so."""
        self.error, self.bad = CredentialsRejected("no"), True
        self.rejected = True

    def lag(self, lag: float, repeats: int) -> None:
        self.world.server.lag = lag
        self.world.server.repeats = repeats

    def skip(self, hidden: set[str], ignores: bool) -> None:
        self.world.server.hidden = hidden
        self.world.server.ignores_filter = ignores

    def slow_down(self, latency: float) -> None:
        self.world.server.latency = latency

    def ask_for_a_pause(self, seconds: float) -> None:
        async def pause() -> None:
            self.limiter.pause(seconds)

        self.runner.run(pause())

    def tell_what_is_left(self, left: float) -> None:
        if self.budget is TIGHT:
            return

        async def observe() -> None:
            allowed = float(self.budget.requests)
            self.limiter.observe(left / 60.0 * allowed, allowed)

        self.runner.run(observe())

    def get_well(self) -> None:
        if self.bad:
            self.error, self.bad = None, False
            self.well_since = self.now

    # What must hold

    def nobody_is_told_twice_or_after_leaving(self) -> None:
        for number, told in self.told.items():
            assert len(told) <= 1
            assert not (number in self.left and told)

    def no_window_is_over_budget(self) -> None:
        times = [at for at, _ in self.limiter.admitted]
        allowed = math.floor(self.budget.requests * self.budget.share)
        for last, at in enumerate(times):
            first = bisect_left(times, at - self.budget.per + 1e-6)
            assert last - first + 1 <= allowed

    def a_pause_is_kept(self) -> None:
        for begins, ends in self.limiter.pauses:
            assert not [
                at for at, _ in self.limiter.admitted if begins < at < ends - 1e-6
            ]

    def nobody_is_starved(self) -> None:
        if self.bad:
            return

        paused = max((ends for _, ends in self.limiter.pauses), default=0.0)
        well = max(self.well_since, paused)
        for number, (job, interval, joined) in self.waits.items():
            ends = self.world.server.lives[job].ends
            if self.told[number] or number in self.left or ends > self.now:
                continue

            due = max(well, joined, ends + self.world.server.lag)
            assert self.now <= due + SWEEP + 2 * max(interval, SLOWEST_ROUND), (
                f"{job} has ended at {ends} and waiter {number} is not told"
            )

    def only_starts_are_turned_away(self) -> None:
        assert self.turned_away <= {Lane.START}

    def check(self) -> None:
        self.nobody_is_told_twice_or_after_leaving()
        self.no_window_is_over_budget()
        self.a_pause_is_kept()
        self.nobody_is_starved()
        self.only_starts_are_turned_away()

    def end_well(self) -> None:
        """Let all trouble pass and all jobs end: then everybody has been told."""
        self.get_well()
        self.end(set(JOBS))
        paused = max((ends for _, ends in self.limiter.pauses), default=0.0)
        self.wait_a_while(max(0.0, paused - self.now))
        self.wait_a_while(SWEEP + 3 * SLOWEST_ROUND)
        for number, told in self.told.items():
            if number in self.left:
                continue

            assert len(told) == 1, f"waiter {number} is lost"
            if isinstance(told[0], Job):
                assert told[0].id == self.waits[number][0]
                assert told[0].state.is_terminal
            else:
                assert isinstance(told[0], CredentialsRejected)
                assert self.rejected

        assert self.world.poller.idle
        self.wait_a_while(4000.0)
        assert all(task.done() for task in self.callers), "a caller is lost"
        failures = [task.exception() for task in self.callers if not task.cancelled()]
        assert not any(failures), failures
        assert set(self.limiter.statistics().under_way.values()) == {0}
        self.check()

    def close(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))
        self.runner.close()


def action(name: str, **arguments: st.SearchStrategy[Any]) -> Any:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


joins = action(
    "join",
    jobs=st.lists(st.sampled_from(JOBS), min_size=1, max_size=12),
    interval=intervals,
    sees=st.booleans(),
)
ends = action("end", jobs=some_jobs)
actions = st.one_of(
    joins,
    joins,
    joins,
    ends,
    ends,
    action("start_over", jobs=some_jobs),
    action("leave", pick=st.integers(0, 1000), count=st.integers(1, 6)),
    action(
        "call",
        lane=st.sampled_from([Lane.START, Lane.CANCEL]),
        count=st.integers(1, 40),
        takes=st.sampled_from([0.1, 20.0, 60.0]),
        gives_up=st.booleans(),
    ),
    action(
        "fall_ill",
        error=st.sampled_from(
            [
                Unreachable("gone", ambiguous=True),
                VendorBroken("503", status=503),
                RateLimited("429", status=429, retry_after=20.0),
                RateLimited("429", status=429, retry_after=600.0),
            ]
        ),
    ),
    action("get_well"),
    action("reject"),
    action(
        "lag",
        lag=st.sampled_from([0.0, 40.0]),
        repeats=st.sampled_from([0, 3, 4]),
    ),
    action("skip", hidden=some_jobs, ignores=st.booleans()),
    action("slow_down", latency=st.sampled_from([0.0, 0.1, 2.0])),
    action("ask_for_a_pause", seconds=st.sampled_from([1.0, 30.0, 300.0])),
    action("tell_what_is_left", left=st.floats(0, 60)),
)
steps = st.tuples(
    actions, st.sampled_from([0.0, 0.05, 0.1, 1.0, 4.9, 5.0, 30.0, 60.0, 200.0, 700.0])
)


@examples(40)
@given(
    sources=ways,
    budget=st.sampled_from([TIGHT, ROOMY]),
    story=st.lists(steps, min_size=15, max_size=40),
)
def test_whatever_happens_in_whatever_order(
    sources: tuple[Source, ...],
    budget: Budget,
    story: list[tuple[tuple[str, dict[str, Any]], float]],
) -> None:
    account = Interleavings(sources, budget)
    try:
        for (name, arguments), seconds in story:
            getattr(account, name)(**arguments)
            account.wait_a_while(seconds)
            account.check()

        account.end_well()
    finally:
        account.close()
