from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from async_triggers.engine import news
from async_triggers.engine.errors import (
    CredentialsRejected,
    EngineError,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import Budget, Lane, Request, Source, SourceKind
from tests.steps import counted_steps
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
    a_world,
)

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

WIDE = Source(name="feed", kind=SourceKind.FEED, page=1000)
LONG = Source(name="list", kind=SourceKind.LIST, page=1000)

EVERY_WAY = pytest.mark.parametrize(
    "sources",
    [
        (),
        (FEED,),
        (ENDS,),
        (FEED, ENDS, LIVE),
        (IDS,),
        (LIST,),
        (GROUPS,),
        (FEED, IDS, LIVE),
        (LIST, GROUPS),
    ],
    ids=lambda sources: "+".join(source.name for source in sources) or "singles",
)


def now() -> float:
    return asyncio.get_running_loop().time()


def jobs(count: int) -> list[str]:
    return [f"job {number}" for number in range(count)]


class TestWaiting:
    @EVERY_WAY
    @virtual
    async def test_tells_the_end_of_each_job(self, sources: tuple[Source, ...]) -> None:
        async with a_world(*sources) as world:
            outcomes = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]
            for number, job in enumerate(jobs(12)):
                outcome = outcomes[number % 3]
                world.server.start(job, lasts=40.0 * number, outcome=outcome)
                world.join(job)

            told = await world.all_told()

            assert [job.state for job in told.values()] == outcomes * 4
            for job, at in world.told_at.items():
                assert world.server.lives[job].ends <= at
                assert at <= world.server.lives[job].ends + 2 * 30.0 + 5.0

    @virtual
    async def test_first_round_comes_soon_and_the_others_on_the_grid(self) -> None:
        async with a_world(server=Server(latency=0.0)) as world:
            world.server.start("a", lasts=100.0)
            await world.join("a")

            times = [when for when, _, _ in world.server.requests]
            assert times == [pytest.approx(at, abs=0.01) for at in (5, 35, 65, 95, 125)]

    @virtual
    async def test_waiters_that_trickle_in_share_one_grid(self) -> None:
        async with a_world(WIDE) as world:
            for number in range(200):
                world.server.start(f"job {number}", lasts=600.0 - now())
                world.join(f"job {number}")
                await asyncio.sleep(1.0)

            await world.all_told()

            # One for each round, and what the sweeps of so many need.
            assert world.server.counts["feed"] <= 600 / 30 + 2

    @virtual
    async def test_ten_thousand_waiters_make_few_requests_and_little_work(self) -> None:
        async with a_world(LONG) as world:
            for job in jobs(10_000):
                world.server.start(job, lasts=20.0)

            rows = [world.server.row(job) for job in world.server.lives]
            by_id = {row["id"]: row for row in rows if row is not None}
            with counted_steps() as steps:
                for job in jobs(10_000):
                    world.join(job)

                await asyncio.sleep(1.0)
                for row in by_id.values():
                    world.poller.round._rows.take(row["id"], row)

            await world.all_told()

            assert world.server.counts["list"] <= 22
            assert world.server.counts["single"] == 0
            assert steps.count < 300 * 10_000

    @virtual
    async def test_ten_thousand_waiters_of_one_job(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=20.0)
            for number in range(10_000):
                world.join("a", name=f"waiter {number}")

            told = await world.all_told()

            assert len(told) == 10_000
            assert world.server.counts == {"single": 2}

    @virtual
    async def test_cancelling_one_waiter_leaves_the_others_untouched(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=50.0)
            world.server.start("b", lasts=50.0)
            first, second = (
                world.join("a", name="first"),
                world.join("a", name="second"),
            )
            other = world.join("b")
            await asyncio.sleep(20.0)
            first.cancel()
            await asyncio.wait([first])

            assert world.poller.statistics().waiters == 2
            assert (await second).state is (await other).state is JobState.SUCCEEDED
            assert first.cancelled()

    @virtual
    async def test_cancelled_after_the_answer_and_before_it_is_heard(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=2.0)
            first, second = (
                world.join("a", name="first"),
                world.join("a", name="second"),
            )
            await asyncio.sleep(3.0)
            row = world.server.row("a")
            assert row is not None
            world.poller.round._rows.take("a", row, alone=True)
            first.cancel()

            assert (await second).state is JobState.SUCCEEDED
            assert first.cancelled()
            assert world.poller.idle

    @virtual
    async def test_last_leave_stops_the_loop(self) -> None:
        async with a_world(FEED) as world:
            world.server.start("a", lasts=math.inf)
            waiter = world.join("a")
            await asyncio.sleep(50.0)
            waiter.cancel()
            await asyncio.sleep(0.5)
            asked = len(world.server.requests)
            await asyncio.sleep(1000.0)

            assert world.poller.idle
            assert len(world.server.requests) == asked > 0

    @virtual
    async def test_join_right_after_the_last_leave(self) -> None:
        async with a_world(FEED) as world:
            world.server.start("a", lasts=math.inf)
            world.server.start("b", lasts=100.0)
            waiter = world.join("a")
            await asyncio.sleep(50.0)
            waiter.cancel()
            await asyncio.wait([waiter])
            world.join("b")

            assert (await world.waits["b"]).state is JobState.SUCCEEDED
            assert now() < 160.0

    @virtual
    async def test_leave_and_join_in_the_middle_of_a_round(self) -> None:
        async with a_world(FEED, server=Server(latency=3.0)) as world:
            world.server.start("a", lasts=30.0)
            waiter = world.join("a")
            await asyncio.sleep(6.0)  # a request is under way
            waiter.cancel()
            again = world.join("a", name="again")
            world.server.start("b", lasts=30.0)
            world.join("b")

            assert (await again).state is JobState.SUCCEEDED
            await world.waits["b"]

    @virtual
    async def test_longer_intervals_take_every_nth_round_of_one_grid(self) -> None:
        async with a_world(server=Server(latency=0.0)) as world:
            for job, interval in (("a", 20.0), ("b", 45.0), ("c", 60.0), ("d", 1000.0)):
                world.server.start(job, lasts=math.inf)
                world.join(job, interval=interval)

            await asyncio.sleep(5.0 + 12 * 20.0 - 1.0)

            asked = {
                job: [at for at, _, which in world.server.requests if which == job]
                for job in "abcd"
            }
            assert [len(times) for times in asked.values()] == [12, 6, 4, 0]
            grid = {round(at, 3) for at in asked["a"]}
            assert grid == {round(5.0 + 20.0 * n, 3) for n in range(12)}
            assert {round(at, 3) for at in asked["b"] + asked["c"]} <= grid

    @virtual
    async def test_a_round_that_failed_is_owed_to_longer_intervals(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=math.inf)
            world.server.start("b", lasts=1.0)
            world.join("a", interval=10.0)
            world.join("b", interval=100.0)

            def fault(request: Request) -> EngineError | None:
                return Unreachable("gone") if 90.0 < now() < 110.0 else None

            world.server.fault = fault
            await world.waits["b"]

            assert now() < 150.0

    @virtual
    async def test_a_shorter_interval_speeds_the_grid_up_and_back_down(self) -> None:
        async with a_world(server=Server(latency=0.0)) as world:
            world.server.start("a", lasts=math.inf)
            world.server.start("b", lasts=40.0)
            world.join("a", interval=60.0)
            await asyncio.sleep(10.0)
            await world.join("b", interval=10.0)
            await asyncio.sleep(1.0)

            assert world.poller.statistics().interval == 60.0
            before = len(world.server.requests)
            await asyncio.sleep(600.0)
            assert len(world.server.requests) - before <= 11

    @virtual
    async def test_nobody_is_asked_for_below_the_floor(self) -> None:
        async with a_world(server=Server(latency=0.0)) as world:
            world.server.start("a", lasts=math.inf)
            world.join("a", interval=0.001)
            await asyncio.sleep(100.0)

            assert len(world.server.requests) <= 20


class TestLastLook:
    @virtual
    async def test_an_end_between_the_look_and_the_join_is_told(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(10), lasts=math.inf)
            await asyncio.sleep(1000.0)
            look = world.server.now()
            world.server.start("late", lasts=10.0)
            await asyncio.sleep(200.0)  # it waits in a queue for that long
            joined = now()
            await world.join("late", seen_at=look)

            assert now() <= joined + 31.0
            assert world.server.counts["single"] <= 45  # sweeps of ten jobs

    @virtual
    async def test_a_joiner_without_a_look_is_asked_for_once(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(10), lasts=math.inf)
            await asyncio.sleep(40.0)
            world.server.start("blind", lasts=200.0)
            world.join("blind", sees=False)
            await asyncio.sleep(100.0)

            asked = [
                which for _, kind, which in world.server.requests if kind == "single"
            ]
            assert asked.count("blind") == 1
            assert (await world.waits["blind"]).state is JobState.SUCCEEDED
            assert now() < 300.0

    @virtual
    async def test_joining_while_its_page_goes_by_is_not_missed(self) -> None:
        async with a_world(FEED, server=Server(latency=1.0)) as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            await asyncio.sleep(30.0)
            world.server.start("late", lasts=1.0)
            look = world.server.now()
            await asyncio.sleep(4.5)
            for job in jobs(20):  # three pages of changes
                world.server.lives[job] = world.server.lives["late"].__class__(
                    now() - 1.0, math.inf
                )

            pages = world.server.counts["feed"]
            while world.server.counts["feed"] == pages:  # noqa: ASYNC110 - virtual
                await asyncio.sleep(0.1)

            joined = now()
            await world.join("late", seen_at=look)

            assert now() <= joined + 2 * 30.0


class TestSweep:
    @pytest.mark.parametrize("count", [1, 3, 40, 200])
    @virtual
    async def test_each_job_is_seen_in_a_row_of_its_own_in_time(
        self, count: int
    ) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(count), lasts=math.inf, interval=30.0)
            # A feed that anyone else's changes keep cheap, and which shows none of ours.
            world.server.hidden = set(jobs(count))
            await asyncio.sleep(1500.0)

            seen: dict[str, list[float]] = {job: [0.0] for job in jobs(count)}
            for at, kind, which in world.server.requests:
                if kind == "single":
                    seen[which].append(at)

            for times in seen.values():
                gaps = [b - a for a, b in zip(times, [*times[1:], 1500.0], strict=True)]
                assert max(gaps) <= 300.0 + 1.0

            singles = world.server.counts["single"]
            if count > 1:  # a single job is asked for by itself
                assert singles <= count * (1500.0 / 240.0 + 1)

    @virtual
    async def test_sweeps_are_spread_over_the_rounds(self) -> None:
        async with a_world(FEED, server=Server(latency=0.0)) as world:
            world.start_and_join(jobs(100), lasts=math.inf)
            world.server.hidden = set(jobs(100))
            await asyncio.sleep(1000.0)

            by_round: dict[float, int] = {}
            for at, kind, _ in world.server.requests:
                if kind == "single":
                    by_round[at] = by_round.get(at, 0) + 1

            assert max(by_round.values()) <= 15

    @virtual
    async def test_a_live_list_sweeps_where_it_is_cheaper(self) -> None:
        async with a_world(WIDE, LIVE) as world:
            world.start_and_join(jobs(60), lasts=math.inf)
            world.server.hidden = set()
            await asyncio.sleep(1000.0)

            assert world.server.counts["live"] >= 9  # three sweeps of three pages
            assert world.server.counts["single"] == 0

    @virtual
    async def test_the_live_list_shows_many_joiners_that_brought_no_look(self) -> None:
        async with a_world(WIDE, LIVE) as world:
            over = [f"over {number}" for number in range(7)]
            for job in over:
                world.server.start(job, lasts=1.0)

            await asyncio.sleep(100.0)
            world.start_and_join(jobs(300), lasts=900.0, sees=False)
            for job in over:
                world.join(job, sees=False)

            # The budget of a minute is ten times smaller than one question for each.
            await asyncio.sleep(60.0)

            # Those that are over are in no list of what runs. One is asked for before it,
            # to see whether the vendor answers.
            assert {job for job in world.told_at if world.waits[job].done()} == set(
                over
            )
            assert world.server.counts["single"] == len(over) + 1
            assert world.server.counts["live"] == 16
            await world.all_told()
            assert max(world.told_at.values()) <= 100.0 + 900.0 + 2 * 30.0

    @virtual
    async def test_ids_sweep_many_at_once(self) -> None:
        async with a_world(WIDE, IDS) as world:
            world.start_and_join(jobs(60), lasts=math.inf)
            await asyncio.sleep(1000.0)

            assert world.server.counts["single"] <= 2
            assert world.server.counts["ids"] >= 18

    @virtual
    async def test_ids_sweep_where_a_list_is_long_with_the_jobs_of_others(self) -> None:
        async with a_world(WIDE, IDS, LIVE) as world:
            for number in range(700):
                world.server.start(f"other {number}", lasts=math.inf)

            world.start_and_join(jobs(60), lasts=math.inf)
            await asyncio.sleep(2000.0)

            # Once, to learn how long it is: 38 pages, and ids take ten requests.
            assert world.server.counts["live"] <= 40
            assert world.server.counts["ids"] >= 50
            assert world.server.counts["single"] <= 2

    @virtual
    async def test_a_feed_that_missed_an_end_is_distrusted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            await asyncio.sleep(40.0)
            world.server.start("missed", lasts=20.0)
            world.join("missed")
            world.server.hidden = {"missed"}
            await world.waits["missed"]

            assert now() <= 60.0 + 300.0 + 30.0
            assert "did not show the end of job missed" in caplog.text
            before = world.server.counts["feed"]
            await asyncio.sleep(500.0)
            assert world.server.counts["feed"] == before
            await asyncio.sleep(200.0)
            assert world.server.counts["feed"] > before

    @virtual
    async def test_a_feed_is_not_blamed_for_ends_that_it_never_shows(self) -> None:
        omitting = Source(
            name="feed",
            kind=SourceKind.FEED,
            page=5,
            omits=frozenset({JobState.CANCELLED}),
        )
        async with a_world(omitting) as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            world.server.start("odd", lasts=20.0, outcome=JobState.CANCELLED)
            world.join("odd")
            world.server.hidden = {"odd"}
            await world.waits["odd"]
            before = world.server.counts["feed"]
            await asyncio.sleep(100.0)

            assert world.server.counts["feed"] > before


class TestSources:
    @pytest.mark.parametrize("status", [400, 403])
    @virtual
    async def test_a_refused_feed_is_not_used_for_ten_minutes(
        self, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with a_world(FEED) as world:
            world.server.refusals["feed"] = status
            world.start_and_join(jobs(10), lasts=700.0)
            await world.all_told()

            assert world.server.counts["feed"] == 2
            assert caplog.text.count("feed is not used") == 2
            assert max(world.told_at.values()) <= 700.0 + 31.0

    @virtual
    async def test_a_feed_that_ignores_its_filter_is_left_alone(self) -> None:
        async with a_world(FEED) as world:
            for number in range(30):
                world.server.start(f"old {number}", lasts=1.0)

            await asyncio.sleep(5000.0)
            world.server.ignores_filter = True
            world.start_and_join(jobs(10), lasts=100.0)
            await world.all_told()

            assert world.server.counts["feed"] <= 8
            assert now() <= 5000.0 + 100.0 + 31.0

    @virtual
    async def test_ids_that_bring_strangers_are_tried_less_and_less(self) -> None:
        async with a_world(IDS) as world:
            world.server.start("stranger", lasts=math.inf)
            world.server.ignores_filter = True
            world.start_and_join(jobs(10), lasts=3600.0)
            await world.all_told()

            # After one, two, four, eight minutes, and then every ten.
            tried = [at for at, kind, _ in world.server.requests if kind == "ids"]
            assert len(tried) == 9
            assert min(late - early for early, late in pairwise(tried[4:])) >= 600.0

    @virtual
    async def test_ids_that_are_not_shown_are_asked_for_singly(self) -> None:
        async with a_world(IDS) as world:
            world.start_and_join(jobs(10), lasts=100.0)
            world.server.hidden = {"job 3"}
            await world.all_told()

            assert world.server.counts["single"] == world.server.counts["ids"] == 5

    @virtual
    async def test_ids_that_show_next_to_nothing_are_left_alone(self) -> None:
        async with a_world(IDS) as world:
            world.start_and_join(jobs(10), lasts=100.0)
            world.server.hidden = set(jobs(6))
            await world.all_told()

            assert world.server.counts["ids"] == 1

    @virtual
    async def test_a_source_that_fails_where_singles_work_is_left_alone(self) -> None:
        async with a_world(FEED) as world:

            def fault(request: Request) -> EngineError | None:
                feed = request.note["kind"] == "feed"
                return VendorBroken("too much for the database") if feed else None

            world.server.fault = fault
            world.start_and_join(jobs(10), lasts=10.0)
            await world.all_told()

            assert now() <= 2 * 60.0 + 35.0
            assert world.server.counts["fault"] == 3

    @virtual
    async def test_a_sweep_that_fails_where_the_feed_works_falls_back(self) -> None:
        async with a_world(WIDE, LIVE) as world:

            def fault(request: Request) -> EngineError | None:
                live = request.note["kind"] == "live"
                return VendorBroken("too much for the database") if live else None

            world.server.fault = fault
            world.start_and_join(jobs(60), lasts=math.inf)
            await asyncio.sleep(40.0)
            world.server.start("missed", lasts=20.0)
            world.join("missed")
            world.server.hidden = {"missed"}
            await world.waits["missed"]

            assert now() <= 40.0 + 20.0 + 300.0 + 2 * 30.0

    @virtual
    async def test_an_end_that_a_list_shows_is_confirmed_singly(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            world.start_and_join(jobs(15), lasts=50.0)
            await world.all_told()

            assert world.server.counts == {"list": 3, "single": 15}

    @virtual
    async def test_many_who_join_at_once_read_of_ends_alone(self) -> None:
        async with a_world(FEED, ENDS) as world:
            # All of them have begun in the window of a feed that shows what has begun.
            for job in jobs(300):
                world.server.lives[job] = Life(-600.0, math.inf)
                world.join(job, seen_at=EPOCH - 600.0)

            world.start_and_join(["a"], lasts=2.0)
            await asyncio.sleep(7.0)

            assert world.waits["a"].done()
            assert world.server.counts == {"ends": 3}

            # Later on there is little to read, and one feed tells it.
            await asyncio.sleep(10 * 30.0)
            assert world.server.counts["ends"] == 3
            assert world.server.counts["feed"] == 10

    @virtual
    async def test_all_parts_of_a_feed_move_its_window_together(self) -> None:
        server = Server(latency=1.0)
        budget = Budget(requests=360_000, per=3600.0, share=1.0, polls=1)
        async with a_world(ENDS, server=server, budget=budget) as world:
            world.start_and_join(jobs(30), lasts=math.inf)
            await asyncio.sleep(8.5)
            # One part after the other, at 6, 7 and 8: the next window begins at the first.
            assert world.poller.state.coverage.cursor == EPOCH + 6.0 - OVERLAP

            world.server.fault = lambda request: (
                Unreachable("no") if request.note.get("part") == "failed" else None
            )
            await asyncio.sleep(30.0)
            assert world.poller.state.coverage.cursor == EPOCH + 6.0 - OVERLAP

    @virtual
    async def test_one_answer_may_confirm_an_end_and_tell_all_of_it(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            world.vendor.tells_all = lambda job: replace(job, message="and more")
            world.start_and_join(jobs(15), lasts=50.0)
            told = await world.all_told()

            assert world.server.counts == {"list": 3, "whole": 15}
            assert {job.message for job in told.values()} == {"and more"}

    @pytest.mark.parametrize("pages", [1, 4])
    @virtual
    async def test_a_thousand_ends_of_one_round_are_told_within_it(
        self, pages: int
    ) -> None:
        budget = Budget(requests=360_000, per=3600.0, share=1.0, polls=8)
        source = replace(LIST, page=1000 // pages)
        async with a_world(source, budget=budget, confirms=True) as world:
            world.vendor.tells_all = lambda job: job
            for number in range(1000):
                # In an order that has nothing to do with that of the list.
                lasts = 60.0 + 15.0 * (number * 7919 % 1000) / 1000
                job = f"job {number}"
                world.start_and_join([job], lasts=lasts, interval=15.0)

            await world.all_told()

            late = sorted(
                at - world.server.lives[job].ends for job, at in world.told_at.items()
            )
            # Twelve and a half seconds of confirmations, eight at once.
            assert world.server.counts["whole"] == 1000
            assert late[989] <= 15.0 + 1.5
            assert late[500] <= 14.5

    @pytest.mark.parametrize("refused", [404, 500, None])
    @virtual
    async def test_where_that_answer_does_not_help_it_is_asked_singly(
        self, refused: int | None
    ) -> None:
        async with a_world(LIST, confirms=True) as world:
            world.vendor.tells_all = lambda _: None
            if refused is not None:
                world.server.refusals["whole"] = refused

            world.start_and_join(jobs(15), lasts=50.0)
            world.start_and_join(["later"], lasts=1000.0)
            told = await world.all_told()

            assert {job.state for job in told.values()} == {JobState.SUCCEEDED}
            # Those that are under way at the same time, and one that is tried again.
            assert world.server.counts["whole"] <= 4 + 3 + 1
            assert world.server.counts["single"] >= 16
            assert world.told_at["job 7"] < 100.0

    @pytest.mark.parametrize("whole", [True, False])
    @virtual
    async def test_a_feed_that_showed_an_end_is_trusted_while_it_is_confirmed(
        self, *, whole: bool
    ) -> None:
        async with a_world(WIDE, confirms=True) as world:
            world.vendor.tells_all = (lambda job: job) if whole else None
            for job in jobs(15):
                world.server.lives[job] = Life(-600.0, -300.0)
                world.join(job, seen_at=EPOCH - 600.0)

            world.start_and_join(["b"], lasts=100.0)
            await world.all_told()

            # The window moved past those ends before they were confirmed.
            assert WIDE in world.poller.state.sources.trusted

    @virtual
    async def test_rejected_credentials_are_told_of_by_any_answer(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            world.vendor.tells_all = lambda job: job
            world.server.refusals["whole"] = 401
            world.start_and_join(jobs(15), lasts=50.0)

            # The list shows the account in order; what confirms an end does not.
            for _ in range(3):
                world.server.refusals["list"] = 401
                await asyncio.sleep(300.0)

            with pytest.raises(CredentialsRejected):
                await world.waits["job 3"]

    @virtual
    async def test_one_answer_does_not_confirm_the_ends_of_two_runs(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            judge = world.vendor.judge

            def by_mark(account: Any, subject: str, row: Any, mark: Any) -> Job:
                job = judge(account, subject, row, mark)
                return replace(job, id=f"{subject}@{mark}")

            world.vendor.judge = by_mark  # type: ignore[method-assign]
            world.vendor.tells_all = lambda job: job
            world.start_and_join(jobs(15), lasts=50.0, mark="one")
            world.join("job 7", name="again", mark="another")
            told = await world.all_told()

            assert world.server.counts == {"list": 3, "whole": 14, "single": 1}
            assert told["job 7"].id == "job 7@one"
            assert told["again"].id == "job 7@another"

    @pytest.mark.parametrize("polls", [1, 2, 8])
    @virtual
    async def test_an_end_on_one_page_waits_for_no_later_page(self, polls: int) -> None:
        budget = Budget(requests=360_000, per=3600.0, share=1.0, polls=polls)
        server = Server(latency=1.0)
        async with a_world(LIST, server=server, budget=budget, confirms=True) as world:
            world.vendor.tells_all = lambda job: job
            world.start_and_join(jobs(1), lasts=50.0)
            world.start_and_join([f"other {job}" for job in jobs(160)], lasts=math.inf)
            world.start_and_join(["last"], lasts=50.0)
            for name in ("job 0", "last"):
                await world.waits[name]

            # Nine pages of a second each, and a second for each confirmation.
            assert world.told_at["last"] <= 65.0 + 9.0 + 2.0
            waits = 9.0 if polls == 1 else 1.0
            assert world.told_at["job 0"] == pytest.approx(66.0 + waits, abs=0.1)

    @virtual
    async def test_a_walk_costs_no_more_than_singles_would(self) -> None:
        async with a_world(FEED) as world:
            for number in range(1000):  # a busy instance
                world.server.start(f"other {number}", lasts=math.inf, touched=10.0)

            world.start_and_join(jobs(6), lasts=math.inf)
            await asyncio.sleep(5.0 + 30.0 * 9 + 10.0)

            # The first walk is given up, the later rounds ask singly.
            assert world.server.counts["feed"] <= 7
            assert world.server.counts["single"] <= 6 * 11
            assert world.poller.statistics().plan == "singles"

    @virtual
    async def test_rounds_of_singles_move_the_window(self) -> None:
        async with a_world(WIDE) as world:
            world.start_and_join(jobs(5), lasts=math.inf)
            world.server.refusals["feed"] = 403
            await asyncio.sleep(3000.0)
            world.server.refusals.clear()
            await asyncio.sleep(700.0)

            windows = [
                float(which.split("'since': ")[1].split("}")[0].split(",")[0])
                for _, kind, which in world.server.requests
                if kind == "feed"
            ]
            assert windows[-1] > EPOCH + 3000.0


class TestGone:
    @virtual
    async def test_a_job_never_seen_is_gone_at_once(self) -> None:
        async with a_world() as world:
            waiter = world.join("nothing", sees=False)
            with pytest.raises(JobNotFound):
                await waiter

            assert now() < 6.0

    @EVERY_WAY
    @virtual
    async def test_a_job_seen_before_is_gone_after_minutes_and_three_checks(
        self, sources: tuple[Source, ...]
    ) -> None:
        async with a_world(*sources) as world:
            world.start_and_join(jobs(8), lasts=math.inf)
            await asyncio.sleep(200.0)
            world.server.refusals["job 0"] = 404
            world.server.hidden = {"job 0"}
            with pytest.raises(JobNotFound):
                await world.waits["job 0"]

            # Found by the sweep at the latest, and then in doubt for as long again.
            assert now() <= 200.0 + 300.0 + 300.0 + 3 * 30.0 + 1.0
            asked = [
                at
                for at, _, which in world.server.requests
                if which == "job 0" and at >= 200.0
            ]
            assert asked[-1] - asked[0] >= 300.0
            assert 3 <= len(asked) <= 9
            assert world.poller.statistics().jobs == 7

    @virtual
    async def test_none_doubts_a_job_once_all_have_left_who_wait_for_it(self) -> None:
        # One request at a time: the refusal of "a" comes before the request about "b".
        budget = replace(GENEROUS, polls=1)

        def fault(request: Request) -> None:
            if request.note.get("id") == "b" and world.server.refusals:
                world.waits["a"].cancel()

        async with a_world(budget=budget) as world:
            world.start_and_join("ab", lasts=math.inf)
            await asyncio.sleep(100.0)
            world.server.fault = fault
            world.server.refusals["a"] = 404
            await asyncio.sleep(100.0)

            assert world.waits["a"].cancelled()
            assert world.poller.statistics().jobs == 1
            assert world.poller.statistics().doubtful == 0

    @virtual
    async def test_a_moment_of_not_found_is_forgotten(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=400.0)
            world.join("a")
            for _ in range(5):
                await asyncio.sleep(20.0)
                world.server.refusals["a"] = 403
                await asyncio.sleep(30.0)
                world.server.refusals.clear()
                await asyncio.sleep(20.0)

            assert (await world.waits["a"]).state is JobState.SUCCEEDED

    @virtual
    async def test_an_id_that_cannot_be_asked_for_concerns_its_waiter_alone(
        self,
    ) -> None:
        async with a_world() as world:

            def single(account: Any, subject: str) -> Request:
                if subject == "../x":
                    msg = "holds a slash"
                    raise RequestRejected(msg)

                return real(account, subject)

            real = world.vendor.single
            world.vendor.single = single  # type: ignore[method-assign]
            world.start_and_join(jobs(3), lasts=50.0)
            bad = world.join("../x", sees=False)
            with pytest.raises(RequestRejected):
                await bad

            assert (
                len(await asyncio.gather(*[world.waits[job] for job in jobs(3)])) == 3
            )


class TestTrouble:
    @virtual
    async def test_rejected_credentials_reach_everybody_each_in_his_own_error(
        self,
    ) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            world.join("job 0", name="second")
            await asyncio.sleep(40.0)
            rejected = CredentialsRejected(
                "The vendor does not accept the key", status=401
            )
            world.server.fault = lambda _: rejected
            done = await asyncio.gather(*world.waits.values(), return_exceptions=True)

            assert {type(error) for error in done} == {CredentialsRejected}
            assert {str(error) for error in done} == {str(rejected)}
            assert len({id(error) for error in done} | {id(rejected)}) == 22
            assert world.poller.idle

    @EVERY_WAY
    @pytest.mark.parametrize(
        "error",
        [
            VendorBroken("500", status=500, ambiguous=True),
            RateLimited("429", status=429),
            Unreachable("reset", ambiguous=True),
        ],
        ids=str,
    )
    @virtual
    async def test_ten_minutes_of_trouble_reach_no_waiter(
        self,
        sources: tuple[Source, ...],
        error: EngineError,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        async with a_world(*sources) as world:
            world.start_and_join(jobs(30), lasts=300.0)
            await asyncio.sleep(100.0)
            world.server.fault = lambda _: error
            await asyncio.sleep(600.0)
            assert not world.told_at
            world.server.fault = lambda _: None
            told = await world.all_told()

            assert {job.state for job in told.values()} == {JobState.SUCCEEDED}
            assert now() <= 700.0 + 60.0 + 31.0
            await asyncio.sleep(30.0)  # until the round has come to its end
            assert (
                caplog.text.count("polling failed (30 tasks still waiting, retrying)")
                == 1
            )
            assert caplog.text.count("polling works again after") == 1
            assert world.server.counts["fault"] < 100

    @virtual
    async def test_a_share_spent_on_starts_starves_no_waiter(self) -> None:
        trial = Budget(requests=500, per=3600.0, share=0.6)
        async with a_world(budget=trial) as world:
            limiter = world.transport.limiter

            async def start() -> None:
                async with limiter.admit(Lane.START):
                    pass

            starts = [asyncio.create_task(start()) for _ in range(1000)]
            await asyncio.sleep(3600.0)
            assert limiter.starts_per_hour() > 290
            world.start_and_join(jobs(3), lasts=60.0)
            began = now()
            await world.all_told()

            # Three requests a round, and every second one is a start's.
            assert now() - began < 400.0
            for task in starts:
                task.cancel()

            await asyncio.wait(starts)

    @virtual
    async def test_the_end_of_trouble_is_told_though_nobody_waits_any_more(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with a_world(GROUPS) as world:
            world.start_and_join(jobs(30), lasts=100.0)
            await asyncio.sleep(99.0)

            def fault(request: Request) -> EngineError | None:
                lists = request.note["kind"] == "groups"
                return VendorBroken("503", status=503) if lists else None

            # The third round whose list fails asks for single jobs: all have ended.
            world.server.fault = fault
            await world.all_told()
            await asyncio.sleep(60.0)

            assert caplog.text.count("polling failed") == 1
            assert caplog.text.count("polling works again after") == 1

    @virtual
    async def test_trouble_is_told_in_repr_and_statistics(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(30), lasts=math.inf)
            await asyncio.sleep(40.0)
            world.server.fault = lambda _: Unreachable("no route to host")
            await asyncio.sleep(30.0)

            state = world.poller.statistics()
            assert (state.waiters, state.jobs) == (30, 30)
            assert (state.rounds, state.failed_rounds) == (3, 1)
            assert (state.interval, state.plan) == (30.0, "feed")
            assert repr(world.poller) == (
                "<Poller [polling | 30 waiters, 30 jobs | every 30 s, 3 rounds |"
                " feed | trouble: no route to host]>"
            )

    @virtual
    async def test_repr_of_an_idle_poller(self) -> None:
        async with a_world() as world:
            assert repr(world.poller) == (
                "<Poller [idle | 0 waiters, 0 jobs | no grid, 0 rounds | singles]>"
            )
            assert world.poller.statistics().interval == 0.0

    @virtual
    async def test_three_jobs_that_always_fail_keep_nobody_else_waiting(self) -> None:
        async with a_world() as world:

            def fault(request: Request) -> EngineError | None:
                bad = request.note["id"] in {"job 0", "job 1", "job 2"}
                return VendorBroken("500", status=500) if bad else None

            world.server.fault = fault
            world.start_and_join(jobs(20), lasts=50.0)
            done, late = await asyncio.wait(world.waits.values(), timeout=70.0)

            assert {task.get_name() for task in late} == {"job 0", "job 1", "job 2"}
            assert len(done) == 17

    @virtual
    async def test_a_row_that_cannot_be_read_keeps_nobody_else_waiting(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with a_world(FEED) as world:
            world.vendor.unreadable = {"job 0"}
            world.start_and_join(jobs(20), lasts=50.0)
            await asyncio.wait(world.waits.values(), timeout=100.0)
            assert len(world.told_at) == 19
            world.vendor.unreadable = set()
            await world.waits["job 0"]

            # It is trouble of this job alone.
            assert "polling failed" not in caplog.text
            assert caplog.text.count("Could not read 1 job") == 1

    @virtual
    async def test_a_job_that_never_answers_does_not_stand_for_all(self) -> None:
        """What it is asked with fails too, and so does the list."""
        async with a_world(LIST) as world:

            def fault(request: Request) -> EngineError | None:
                bad = request.note.get("id", "job 0") in {"job 0", "job 1"}
                return VendorBroken("500", status=500) if bad else None

            world.server.fault = fault
            world.start_and_join(jobs(20), lasts=50.0)
            done, late = await asyncio.wait(world.waits.values(), timeout=600.0)

            assert {task.get_name() for task in late} == {"job 0", "job 1"}
            assert len(done) == 18

    @virtual
    async def test_an_error_that_nobody_thought_of_is_logged_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with a_world(FEED) as world:
            real = world.vendor.read

            def read(*_: Any) -> Any:
                raise ZeroDivisionError

            world.vendor.read = read  # type: ignore[method-assign,assignment]
            world.start_and_join(jobs(5), lasts=50.0)
            await asyncio.sleep(500.0)
            world.vendor.read = real  # type: ignore[method-assign]
            await world.all_told()

            assert sum(record.exc_info is not None for record in caplog.records) == 1
            assert caplog.text.count("polling failed") == 1

    @virtual
    async def test_the_pace_is_stretched_to_what_the_budget_allows(self) -> None:
        budget = Budget(requests=600, per=3600.0, share=1.0)
        async with a_world(budget=budget) as world:
            world.start_and_join(jobs(100), lasts=3000.0, interval=10.0)
            told = await world.all_told()

            assert len(told) == 100
            assert len(world.server.requests) <= 600 * now() / 3600.0 + 60
            assert max(world.told_at.values()) <= 3000.0 + 2 * 700.0


class TestShutdown:
    @virtual
    async def test_disband_ends_waiters_by_cancellation(self) -> None:
        async with a_world() as world:
            world.start_and_join(jobs(3), lasts=math.inf)
            await asyncio.sleep(1.0)
            world.poller.disband()
            await asyncio.wait(world.waits.values())

            assert all(waiter.cancelled() for waiter in world.waits.values())
            with pytest.raises(asyncio.CancelledError):
                await world.poller.wait("job 0", interval=5.0)

    @virtual
    async def test_a_cancellation_that_meets_an_error_is_not_lost(self) -> None:
        async with a_world() as world:
            world.start_and_join(jobs(8), lasts=math.inf)
            runner = asyncio.get_running_loop().create_task(world.poller.run())

            def fault(request: Request) -> EngineError | None:
                runner.cancel()
                return CredentialsRejected("no")

            world.server.fault = fault
            await asyncio.wait([runner], timeout=100.0)

            assert runner.cancelled()


class TestUnchangedRows:
    @virtual
    async def test_are_judged_once(self) -> None:
        async with a_world(LIST) as world:
            for job in jobs(40):
                world.server.start(job, lasts=1000.0)
                world.join(job)

            await world.all_told()

            assert world.server.counts["list"] > 30
            # While it went on, and at its end.
            assert set(world.vendor.judged.values()) == {2}

    @virtual
    async def test_are_judged_for_each_who_joins(self) -> None:
        async with a_world(LIST) as world:
            for job in jobs(40):
                world.server.start(job, lasts=1000.0)
                world.join(job)

            await asyncio.sleep(100.0)
            heard: list[Job] = []
            world.join("job 7", name="late", news=heard.append)
            await asyncio.sleep(100.0)

            assert [job.word for job in heard] == ["running"]

    @virtual
    async def test_are_judged_again_while_an_end_is_not_confirmed(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            for job in jobs(40):
                world.server.start(job, lasts=100.0)
                world.join(job)

            told = await world.all_told()

            assert {job.state for job in told.values()} == {JobState.SUCCEEDED}

    @virtual
    async def test_that_cannot_be_read_are_judged_again(self) -> None:
        async with a_world(LIST) as world:
            for job in jobs(40):
                world.server.start(job, lasts=1000.0)
                world.join(job)

            world.vendor.unreadable.add("job 7")
            await asyncio.sleep(200.0)
            assert world.vendor.judged["job 7"] > world.vendor.judged["job 8"] == 1

    @virtual
    async def test_keep_the_news_that_had_to_wait(self) -> None:
        async with a_world(LONG) as world:
            heard: list[str] = []
            for job in jobs(35):
                world.server.start(job, lasts=300.0)
                world.join(job, news=lambda job: heard.append(job.id))

            await world.all_told()

            assert sorted(heard) == sorted(jobs(35))


class TestPatience:
    @virtual
    async def test_ends_the_wait_of_its_owner_alone(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=100.0)
            world.join("a", name="short", patience=40.5)
            world.join("a", name="long", patience=2000.0)
            world.join("a", name="without")

            with pytest.raises(TimeoutError):
                await world.waits["short"]

            assert world.told_at["short"] == pytest.approx(40.5, abs=0.01)
            assert (await world.waits["long"]).state is JobState.SUCCEEDED
            assert (await world.waits["without"]).state is JobState.SUCCEEDED

    @virtual
    async def test_is_kept_in_whatever_order_it_ends(self) -> None:
        async with a_world() as world:
            ends = {"a": 70.0, "b": 20.0, "c": 3.0, "d": 20.0, "e": 45.0}
            for job, patience in ends.items():
                world.server.start(job, lasts=math.inf)
                world.join(job, patience=patience)

            await asyncio.wait(world.waits.values())

            assert world.told_at == pytest.approx(ends, abs=0.01)

    @virtual
    async def test_is_none_from_the_beginning(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=100.0)
            with pytest.raises(TimeoutError):
                await world.join("a", patience=0.0)

            assert world.poller.idle

    @virtual
    async def test_of_a_thousand_takes_one_timer(self) -> None:
        loop: Any = asyncio.get_running_loop()

        def timers() -> int:
            return sum(not each.cancelled() for each in loop._scheduled)

        async with a_world(LONG) as world:
            for number, job in enumerate(jobs(1000)):
                world.server.start(job, lasts=math.inf)
                world.join(job)
                world.join(job, name=f"again {job}", patience=3000.0 - number)

            await asyncio.sleep(1.0)
            assert timers() <= 3

            for task in world.waits.values():
                task.cancel()

            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)
            assert world.poller.idle
            assert world.poller.state.waiters._alarm is None


class TestNews:
    @virtual
    async def test_an_end_right_behind_is_told_after_them(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=2.0)
            heard: list[str] = []
            waiter = world.join("a", news=lambda job: heard.append(job.word))
            await asyncio.sleep(1.0)
            before = world.server.row("a")
            await asyncio.sleep(2.0)
            after = world.server.row("a")
            assert before is not None
            assert after is not None
            # Both before the waiting task gets to run.
            world.poller.round._rows.take("a", before, alone=True)
            world.poller.round._rows.take("a", after, alone=True)

            assert (await waiter).state is JobState.SUCCEEDED
            assert heard == ["running"]

    @virtual
    async def test_changes_are_told_and_repeats_are_not(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=100.0)
            news: list[Job] = []
            await world.join("a", news=news.append)

            assert [job.word for job in news] == ["running"]

    @virtual
    async def test_changes_that_are_none_of_state_come_every_ten_minutes(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=2000.0)
            news: list[float] = []
            world.join("a", news=lambda _: news.append(now()), interval=10.0)
            rows = iter(range(1000))
            judge = world.vendor.judge

            def growing(account: Any, subject: str, row: Any, mark: Any) -> Job:
                return judge(account, subject, {**row, "rows": next(rows)}, mark)

            world.vendor.digests = False
            world.vendor.judge = growing  # type: ignore[method-assign]
            await world.waits["a"]

            assert len(news) == 4
            assert min(b - a for a, b in itertools.pairwise(news)) > 599.9

    @virtual
    @pytest.mark.parametrize("source", [FEED, LONG, LIVE])
    async def test_who_waits_hears_every_ten_minutes_that_nothing_changes(
        self, source: Source
    ) -> None:
        async with a_world(source) as world:
            world.server.start("a", lasts=4000.0)
            heard: list[float] = []

            def hear(_: object = None) -> None:
                heard.append(now())

            world.join("a", news=hear, again=hear, interval=10.0)
            await world.waits["a"]

            gaps = [b - a for a, b in itertools.pairwise([0.0, *heard, 4000.0])]
            assert max(gaps) <= 611.0
            assert min(gaps[1:-1]) >= 599.9

    @virtual
    async def test_a_reminder_gives_the_numbers_as_they_are(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=1500.0)
            rows: list[object] = []
            judge = world.vendor.judge

            def changed(account: Any, subject: str, row: Any, mark: Any) -> Job:
                count = 1 if now() < 60.0 else 2
                return judge(account, subject, {**row, "rows": count}, mark)

            world.vendor.digests = False
            world.vendor.judge = changed  # type: ignore[method-assign]
            world.join(
                "a",
                news=lambda job: rows.append(job.statistics["rows"]),
                again=lambda: rows.append("again"),
                interval=10.0,
            )
            await world.waits["a"]

            assert rows == [1, 2, "again"]

    @virtual
    async def test_reminders_keep_to_ten_a_second(self) -> None:
        async with a_world(LONG) as world:
            heard: list[tuple[float, str]] = []
            for job in jobs(35):
                world.server.start(job, lasts=1000.0)
                world.join(
                    job,
                    news=lambda _: None,
                    again=lambda job=job: heard.append((now(), job)),  # type: ignore[misc]
                )

            await world.all_told()

            seconds = Counter(int(at) for at, _ in heard)
            assert max(seconds.values()) == 10
            assert sorted(job for _, job in heard) == sorted(jobs(35))

    @pytest.mark.parametrize(
        ("kind", "error"),
        [("again", None), ("notices", VendorBroken("no", status=500))],
        ids=["reminders", "an outage"],
    )
    @virtual
    async def test_the_last_of_very_many_hear_of_it_as_well(
        self, kind: str, error: VendorBroken | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(news, "NEWS_PER_SECOND", 1)
        async with a_world(LONG) as world:
            # More than can hear of it before the first are due again.
            count = int(1.5 * news.NEWS_INTERVAL)
            heard: Counter[str] = Counter()
            for job in jobs(count):
                world.server.start(job, lasts=4000.0)
                how: dict[str, Any] = {kind: lambda *_, job=job: heard.update([job])}
                world.join(job, **how)

            world.server.fault = lambda _: error
            await asyncio.sleep(3000.0)

            assert len(heard) == count
            assert max(heard.values()) <= min(heard.values()) + 1

    @virtual
    async def test_nobody_is_reminded_once_all_have_left(self) -> None:
        async with a_world(LONG) as world:
            heard: list[float] = []
            world.server.start("a", lasts=10.0)
            world.join("a", again=lambda: heard.append(now()))
            await world.waits["a"]
            await asyncio.sleep(2000.0)

            assert heard == []

    @virtual
    async def test_an_account_gives_ten_a_second_and_the_rest_later(self) -> None:
        async with a_world(LONG) as world:
            news: list[tuple[float, str]] = []
            for job in jobs(35):
                world.server.start(job, lasts=300.0)
                world.join(job, news=lambda job: news.append((now(), job.id)))

            await world.all_told()

            by_second = [
                sum(int(at) == second for at, _ in news) for second in range(300)
            ]
            assert max(by_second) == 10
            assert sorted(job for _, job in news) == sorted(jobs(35))

    @virtual
    async def test_news_come_in_the_callers_context_and_break_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        whose = contextvars.ContextVar("whose", default="nobody's")
        heard = []

        def hear(job: Job) -> None:
            heard.append(whose.get())
            raise ValueError(job.id)

        async with a_world() as world:
            world.server.start("a", lasts=100.0)
            whose.set("the caller's")
            world.join("a", news=hear)
            assert (await world.waits["a"]).state is JobState.SUCCEEDED

        assert heard == ["the caller's"]
        assert "news of a could not be given" in caplog.text


GRIDS = {
    "two that come": [60.0, *[5.0] * 10, *[7.0] * 6],
    "one by one": [60.0, 20.0, 15.0, 10.0, 7.0, *[5.0] * 12],
    "at random": [*random.Random(7).choices([5.0, 7.0, 10.0, 15.0, 20.0], k=500)],
}


@pytest.mark.parametrize("grids", GRIDS.values(), ids=GRIDS)
@virtual
async def test_a_long_interval_is_kept_however_the_grid_changes(
    grids: list[float],
) -> None:
    async with a_world() as world:
        world.join("slow", interval=60.0)
        await asyncio.sleep(0)
        planned = last = 0.0
        for number, grid in enumerate(grids, start=1):
            world.poller.state.grid = grid
            planned += grid
            if world.poller.round._due(number, planned):
                last = planned

            assert planned - last <= 60.0 + max(grids[1:])
