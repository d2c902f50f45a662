"""Polling more often than anyone requested, from a spare part of the limit."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from async_triggers.engine.errors import Unreachable
from async_triggers.engine.spare import REST
from async_triggers.engine.watch import Watch
from async_triggers.engine.wire import Budget, Lane, Source
from tests.unit.engine.fake import EVERYTHING, FEED, IDS, LIST, World, a_world

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

MINUTE, HOUR = 60.0, 3600.0
DBT = Budget(requests=5000, per=MINUTE, polls=8, spare=0.1, fastest=1.5)
FIVETRAN = Budget(requests=20_000, per=HOUR, polls=16, spare=0.1, fastest=3.2)
HUNDREDS = replace(IDS, page=100)
ENDED = replace(FEED, page=100)
# The fake has another page after one that is full.
THOUSANDS = replace(LIST, page=1001)


def a_few(world: World, *, interval: float = 60.0) -> None:
    world.vendor.grid_floor = 5.0
    jobs = [f"job {number}" for number in range(30)]
    world.start_and_join(jobs, lasts=math.inf, interval=interval)


async def rounds_in(world: World, seconds: float) -> int:
    before = world.poller.statistics().rounds
    await asyncio.sleep(seconds)
    return world.poller.statistics().rounds - before


@pytest.mark.parametrize(
    ("budget", "source", "interval", "confirms", "most"),
    [
        (DBT, ENDED, 60.0, False, 1.0),
        (FIVETRAN, THOUSANDS, 15.0, True, 2.0),
    ],
    ids=["dbt Cloud", "Fivetran"],
)
@virtual
async def test_a_thousand_ends_are_known_soon_at_a_tenth_of_the_limit(
    budget: Budget, source: Source, interval: float, most: float, *, confirms: bool
) -> None:
    async with a_world(source, budget=budget, confirms=confirms) as world:
        world.vendor.grid_floor = interval
        world.vendor.tells_all = lambda job: job
        for number in range(1000):
            # Each of these thousand jobs lasts two hours; at Fivetran its end takes a
            # request besides.
            lasts = 30.0 + number * 7919 % 300 if number < 50 else math.inf
            world.start_and_join([f"job {number}"], lasts=lasts, interval=interval)

        await asyncio.sleep(360.0)

        late = sorted(
            at - world.server.lives[job].ends for job, at in world.told_at.items()
        )
        assert len(late) == 50
        assert late[25] <= most
        assert late[49] <= 2 * most + 0.5
        allowed = budget.requests / budget.per * 360.0
        assert len(world.server.requests) <= 0.1 * allowed


@virtual
async def test_nothing_is_polled_more_often_unless_it_is_set() -> None:
    async with a_world(HUNDREDS, budget=replace(DBT, spare=0.0)) as world:
        a_few(world)
        await asyncio.sleep(10.0)

        assert await rounds_in(world, 600.0) == 10
        assert not world.poller.state.is_quick


@virtual
async def test_rounds_are_no_closer_than_the_vendor_may_be_polled() -> None:
    async with a_world(HUNDREDS, budget=DBT) as world:
        a_few(world)
        await asyncio.sleep(10.0)

        assert await rounds_in(world, 60.0) == 40
        assert world.server.counts["ids"] >= 40


@virtual
async def test_the_share_of_many_requests_sets_the_pace() -> None:
    budget = replace(DBT, spare=0.02)
    async with a_world(budget=budget) as world:
        a_few(world)
        await asyncio.sleep(10.0)

        # Thirty singles a round, and a hundred requests a minute.
        assert world.poller.state.quick == pytest.approx(18.0)
        before = len(world.server.requests)
        await asyncio.sleep(600.0)
        assert len(world.server.requests) - before <= 1000


@virtual
async def test_an_interval_that_is_shorter_stays() -> None:
    async with a_world(budget=replace(DBT, spare=0.001)) as world:
        a_few(world, interval=5.0)
        await asyncio.sleep(10.0)

        assert await rounds_in(world, 60.0) == 12


@virtual
async def test_a_pause_ends_it_for_a_while() -> None:
    async with a_world(HUNDREDS, budget=DBT) as world:
        a_few(world)
        await asyncio.sleep(10.0)
        world.transport.limiter.pause(30.0)
        await asyncio.sleep(40.0)

        assert await rounds_in(world, REST - 60.0) <= REST / 60.0
        await asyncio.sleep(120.0)
        assert await rounds_in(world, 60.0) == 40


def another_program(world: World) -> None:
    world.transport.limiter.observe(2400.0, 5000.0)


def starts_that_wait(world: World) -> None:
    async def hold() -> Any:
        async with world.transport.limiter.admit(Lane.START):
            await asyncio.Event().wait()

    for number in range(world.transport.account.budget.starts + 1):
        world.waits[f"start {number}"] = asyncio.create_task(hold())


def an_outage(world: World) -> None:
    world.server.fault = lambda _: Unreachable("no")


@pytest.mark.parametrize("trouble", [another_program, starts_that_wait, an_outage])
@virtual
async def test_it_makes_way_for_others(trouble: Any) -> None:
    async with a_world(HUNDREDS, budget=DBT) as world:
        a_few(world)
        await asyncio.sleep(10.0)
        trouble(world)
        await asyncio.sleep(5.0)

        assert await rounds_in(world, 300.0) <= 6
        assert not world.poller.state.is_quick


@virtual
async def test_it_comes_back_when_others_leave_enough() -> None:
    async with a_world(HUNDREDS, budget=DBT) as world:
        a_few(world)
        await asyncio.sleep(10.0)
        another_program(world)
        await asyncio.sleep(120.0)
        world.transport.limiter.observe(4900.0, 5000.0)
        await asyncio.sleep(60.0)

        assert await rounds_in(world, 60.0) == 40


@virtual
async def test_starts_of_the_last_hour_count_against_it() -> None:
    budget = Budget(requests=100, per=HOUR, share=1.0, starts=8, spare=1.0, fastest=1.5)
    async with a_world(HUNDREDS, budget=budget) as world:
        a_few(world)
        await asyncio.sleep(10.0)
        quick = world.poller.state.quick
        for _ in range(5):
            async with world.transport.limiter.admit(Lane.START):
                pass

        await asyncio.sleep(180.0)

        assert quick == pytest.approx(3600.0 / (90.0 - 60.0), rel=0.2)
        assert world.poller.state.quick > quick * 1.1


@virtual
async def test_those_who_only_watch_need_no_more_rounds() -> None:
    async with a_world(THOUSANDS, budget=DBT) as world:
        world.vendor.grid_floor = 5.0
        world.poller.subscribe(Watch(place=EVERYTHING), interval=30.0)
        await asyncio.sleep(60.0)

        assert await rounds_in(world, 300.0) == 10
