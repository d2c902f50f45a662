"""What must hold whatever the vendor does."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from async_triggers.engine.errors import (
    EngineError,
    RateLimited,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import Budget, Request, Source
from tests.clock import run_virtually
from tests.examples import examples
from tests.unit.engine.fake import (
    ENDS,
    EPOCH,
    FEED,
    GENEROUS,
    GROUPS,
    IDS,
    LIST,
    LIVE,
    OVERLAP,
    Life,
    Server,
    World,
    a_world,
)

SLACK = 8.0
"""Seconds for the first round and for the requests themselves."""
SWEEP = 300.0
TIGHT = Budget(requests=120, per=60.0, share=0.5, polls=4)


@dataclass(frozen=True)
class Wait:
    """A job and somebody who waits for it, all in seconds."""

    starts: float
    lasts: float
    joins: float
    interval: float
    sees: bool
    outcome: JobState
    touched: float
    group: str


waits = st.builds(
    Wait,
    starts=st.integers(0, 300),
    lasts=st.integers(0, 600),
    joins=st.integers(0, 200),  # after the start
    interval=st.sampled_from([5.0, 20.0, 30.0, 45.0, 60.0]),
    sees=st.booleans(),
    outcome=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]),
    touched=st.sampled_from([0.0, 0.0, 7.0, 40.0]),
    group=st.sampled_from("ab"),
)
scenarios = st.lists(waits, min_size=1, max_size=14)
ways = st.sampled_from(
    [
        (),
        (FEED,),
        (FEED,),
        (IDS,),
        (IDS, replace(FEED, page=20)),
        (LIST,),
        (GROUPS, LIST),
        (FEED, LIVE),
        (FEED, ENDS),
        (ENDS, LIVE),
        (FEED, IDS, LIVE),
    ]
)
others = st.sampled_from([0, 5, 40])


async def play(world: World, scenario: list[Wait], others: int = 0) -> None:
    """Let jobs start and waiters join when the scenario says so."""
    loop = asyncio.get_running_loop()
    for number in range(others):
        world.server.lives[f"other {number}"] = Life(0.0, 1e9, touched=11.0 + number)

    def join(job: str, wait: Wait) -> None:
        look = EPOCH + world.server.skew + wait.starts
        world.join(
            job,
            interval=wait.interval,
            sees=False,
            seen_at=float(int(look)) if wait.sees else None,
        )

    for number, wait in enumerate(scenario):
        job = f"job {number}"
        world.server.lives[job] = Life(
            wait.starts,
            wait.starts + wait.lasts,
            outcome=wait.outcome,
            group=wait.group,
            touched=wait.touched,
        )
        loop.call_at(wait.starts + wait.joins, join, job, wait)

    await asyncio.sleep(max(wait.starts + wait.joins for wait in scenario) + 0.01)


def watch_cursor(world: World) -> None:
    """Check at the end of each round how far the cursor has moved."""
    poller, server = world.poller, world.server
    hold = poller.round.hold

    async def watched_round(number: int, planned: float) -> None:
        before, asked = poller.state.coverage.cursor, len(server.requests)
        await hold(number, planned)
        after = poller.state.coverage.cursor
        if after == before:
            return

        assert after is not None
        assert before is None or after > before
        first = server.requests[asked][0]
        assert after <= EPOCH + server.skew + first - OVERLAP

    poller.round.hold = watched_round  # type: ignore[method-assign]


def check_told(world: World, told: dict[str, Job]) -> None:
    """Nobody is told what no row of that very job held."""
    for job, end in told.items():
        assert end.id == job
        assert end.state is world.server.lives[job].outcome
        assert world.server.shown_ends[job] <= world.told_at[job]


def check_rate(server: Server, budget: Budget) -> None:
    """No rolling window holds more than the share."""
    times = [at for at, _, _ in server.requests]
    allowed = budget.requests * budget.share
    first = 0
    for last, at in enumerate(times):
        # A request is counted when it is answered, a little after it was let out.
        while times[first] <= at - budget.per + server.latency:
            first += 1

        assert last - first + 1 <= allowed


@examples(60)
@given(
    scenario=scenarios,
    sources=ways,
    others=others,
    dated=st.booleans(),
    repeats=st.integers(0, 3),
    latency=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_a_sound_vendor_is_told_within_two_intervals(
    scenario: list[Wait],
    sources: tuple[Source, ...],
    others: int,
    dated: bool,
    repeats: int,
    latency: float,
) -> None:
    async def main() -> None:
        server = Server(dated=dated, repeats=repeats, latency=latency)
        async with a_world(*sources, server=server) as world:
            watch_cursor(world)
            await play(world, scenario, others)
            told = await world.all_told()

            check_told(world, told)
            for number, wait in enumerate(scenario):
                known = max(wait.lasts, wait.joins) + wait.starts
                at = world.told_at[f"job {number}"]
                assert at <= known + 2 * wait.interval + SLACK, f"job {number}"

    run_virtually(main())


def habit(server: Server, name: str) -> None:
    """Let a vendor fall into a bad habit."""
    match name:
        case "lags":
            server.lag = 200.0
        case "skips":
            server.hidden = {f"job {number}" for number in range(0, 14, 2)}
        case "repeats":
            server.repeats = 4
        case "ignores the filter":
            server.ignores_filter = True
        case "refuses":
            server.refusals = dict.fromkeys(["feed", "ids", "list", "groups"], 403)
        case "refuses lists":
            server.refusals = dict.fromkeys(["feed", "live"], 400)
        case "fails":
            server.fault = _fails
        case "fails at times":
            server.fault = lambda request: _fails(request) if _odd(server) else None
        case "limits":
            server.fault = lambda _: RateLimited("429", retry_after=1.0)


def _fails(request: Request) -> EngineError:
    return VendorBroken("503", status=503)


def _odd(server: Server) -> bool:
    return len(server.requests) % 3 == 0


HABITS = [
    "lags",
    "skips",
    "repeats",
    "ignores the filter",
    "refuses",
    "refuses lists",
    "fails at times",
]


@examples(80)
@given(
    scenario=scenarios,
    sources=ways,
    habits=st.lists(
        st.tuples(st.integers(0, 500), st.sampled_from(HABITS)), min_size=1, max_size=3
    ),
    budget=st.sampled_from([TIGHT, None]),
)
def test_an_unsound_vendor_is_told_within_a_sweep(
    scenario: list[Wait],
    sources: tuple[Source, ...],
    habits: list[tuple[int, str]],
    budget: Budget | None,
) -> None:
    async def main() -> None:
        async with a_world(*sources, budget=budget or GENEROUS) as world:
            watch_cursor(world)
            for when, name in habits:
                asyncio.get_running_loop().call_at(when, habit, world.server, name)

            await play(world, scenario)
            told = await world.all_told()

            check_told(world, told)
            for number, wait in enumerate(scenario):
                known = max(wait.lasts, wait.joins) + wait.starts
                late = world.told_at[f"job {number}"] - known
                # A sweep by list sees no more than the list shows.
                old = world.server.lag if set(sources) - {FEED, ENDS} else 0.0
                bound = SWEEP + old + 2 * wait.interval + SLACK
                assert late <= bound, f"job {number}"

            if budget is not None:
                check_rate(world.server, budget)

    run_virtually(main())


@examples(30)
@given(
    scenario=scenarios,
    sources=ways,
    dead=st.tuples(st.integers(0, 400), st.integers(1, 900)),
    how=st.sampled_from(["fails", "limits"]),
)
def test_an_outage_is_only_a_late_answer(
    scenario: list[Wait],
    sources: tuple[Source, ...],
    dead: tuple[int, int],
    how: str,
) -> None:
    async def main() -> None:
        async with a_world(*sources) as world:
            loop = asyncio.get_running_loop()
            back = float(sum(dead))
            loop.call_at(dead[0], habit, world.server, how)
            loop.call_at(back, setattr, world.server, "fault", lambda _: None)
            await play(world, scenario)
            told = await world.all_told()

            check_told(world, told)
            for number, wait in enumerate(scenario):
                known = max(max(wait.lasts, wait.joins) + wait.starts, back)
                late = world.told_at[f"job {number}"] - known
                # A minute is the longest that a failed round waits for the next.
                assert late <= 60.0 + 2 * wait.interval + SLACK, f"job {number}"

    run_virtually(main())


@examples(25)
@given(scenario=scenarios, sources=ways, others=others, name=st.sampled_from(HABITS))
def test_a_skew_of_the_clocks_changes_no_request(
    scenario: list[Wait], sources: tuple[Source, ...], others: int, name: str
) -> None:
    async def main(skew: float) -> list[tuple[float, str, Any]]:
        random.seed(1)
        async with a_world(*sources, server=Server(skew=skew)) as world:
            asyncio.get_running_loop().call_at(200.0, habit, world.server, name)
            await play(world, scenario, others)
            with suppress(TimeoutError):
                async with asyncio.timeout(600.0):
                    await world.all_told()

            return [
                (at, kind, seen_from(what, skew))
                for at, kind, what in world.server.requests
            ]

    plain = run_virtually(main(0.0))
    assert run_virtually(main(3600.0)) == plain
    assert run_virtually(main(-3600.0)) == plain


def seen_from(what: str, skew: float) -> str:
    """Tell a request's window in our own time."""
    before, mark, after = what.partition("'since': ")
    if not mark:
        return what

    since, comma, rest = after.partition(",")
    since = since.rstrip("}")
    return f"{before}{float(since) - EPOCH - skew:.3f}{comma}{rest}"
