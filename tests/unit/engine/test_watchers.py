from __future__ import annotations

import asyncio
import gc
import logging
import math
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest

from async_triggers.engine.errors import (
    ConnectionChanged,
    CredentialsRejected,
    EngineError,
    JobNotFound,
    RateLimited,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.jobs import JobState
from async_triggers.engine.watch import (
    LOOKBACK,
    MOST_REPORTED,
    End,
    Mark,
    Need,
    Watch,
    news_after,
)
from async_triggers.engine.watchers import (
    SAVE_CHECK,
    SAVE_EVERY,
    Subscription,
    Watchers,
)
from async_triggers.engine.wire import Account, Request, Row, Source, SourceKind
from tests.unit.engine.fake import (
    ENDS,
    EPOCH,
    EVERYTHING,
    FEED,
    GROUPS,
    IDS,
    LIST,
    LIVE,
    OVERLAP,
    FakeVendor,
    Life,
    Server,
    World,
    a_world,
    an_account,
)

if TYPE_CHECKING:
    from async_triggers.engine.wire import Vendor

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

WIDE = Source(name="feed", kind=SourceKind.FEED, page=1000)
ALL = Watch(place=EVERYTHING)


def of_group(group: str = "g") -> Watch:
    return Watch(place=("group", group), scope=group)


def of_job(job: str) -> Watch:
    return Watch(place=("id", job), subject=job)


FEEDS = pytest.mark.parametrize(
    "sources",
    [(FEED, LIVE), (ENDS, LIVE), (FEED, ENDS, LIVE), (IDS, FEED, LIVE)],
    ids=lambda sources: "+".join(source.name for source in sources),
)
EVERY_WAY = pytest.mark.parametrize(
    ("sources", "watch"),
    [
        ((FEED, LIVE), ALL),
        ((ENDS, LIVE), ALL),
        ((IDS, FEED, LIVE), ALL),
        ((LIST,), of_group()),
        ((GROUPS,), of_group()),
        ((LIST, GROUPS), of_group()),
    ],
    ids=lambda value: (
        "+".join(source.name for source in value) if isinstance(value, tuple) else ""
    ),
)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Watcher:
    """Watches, and again where it was ended; keeps all that it has heard."""

    heard: list[tuple[str, float]] = field(default_factory=list)
    """Ids, and when they were heard."""
    errors: list[EngineError] = field(default_factory=list)
    mark: Mark | None = None
    task: asyncio.Task[None] | None = None
    interval: float = 30.0

    @property
    def ids(self) -> list[str]:
        return [job for job, _ in self.heard]

    async def run(self, world: World, watch: Watch, owner: object = None) -> None:
        while True:
            subscription = world.poller.subscribe(
                watch,
                interval=self.interval,
                mark=self.mark,
                vouched=self.mark is not None and not self.errors,
                owner=owner,
            )
            try:
                while True:
                    heard = await subscription.hear()
                    self.heard += [(end.job.id, now()) for end in heard.ends]
                    self.mark = heard.mark
            except EngineError as error:
                self.errors.append(error)
            finally:
                subscription.close()

            await asyncio.sleep(300.0)

    def begin(self, world: World, watch: Watch, **how: Any) -> Watcher:
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.run(world, watch, **how))
        return self

    async def end(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})


@asynccontextmanager
async def watching(
    *sources: Source, watch: Watch = ALL, server: Server | None = None
) -> AsyncIterator[tuple[World, Watcher]]:
    async with a_world(*sources, server=server) as world:
        watcher = Watcher().begin(world, watch)
        try:
            yield world, watcher
        finally:
            await watcher.end()


def ending(world: World, *ends: float, first: int = 0) -> list[str]:
    """Let jobs end at these times of the loop; return their ids."""
    for number, at in enumerate(ends, first):
        world.server.lives[f"job {number}"] = Life(max(0.0, at - 20.0), at)

    return [f"job {number}" for number in range(first, first + len(ends))]


class TestHearing:
    @EVERY_WAY
    @virtual
    async def test_each_end_is_heard_once_and_in_order(
        self, sources: tuple[Source, ...], watch: Watch
    ) -> None:
        async with watching(*sources, watch=watch) as (world, watcher):
            wanted = ending(world, 40.0, 41.0, 100.0, 300.0, 301.0, 650.0, 1500.0)
            await asyncio.sleep(3000.0)

            assert watcher.ids == wanted
            for job, at in watcher.heard:
                assert at <= world.server.lives[job].ends + 30.0 + 5.0

    @EVERY_WAY
    @virtual
    async def test_what_ended_before_is_no_news(
        self, sources: tuple[Source, ...], watch: Watch
    ) -> None:
        async with a_world(*sources) as world:
            ending(world, 1.0, 20.0, 90.0)
            await asyncio.sleep(100.0)
            watcher = Watcher().begin(world, watch)
            later = ending(world, 400.0, first=3)
            await asyncio.sleep(1200.0)
            await watcher.end()

            assert watcher.ids == later

    @pytest.mark.parametrize("waits", [False, True], ids=["alone", "beside a task"])
    @FEEDS
    @virtual
    async def test_ends_are_heard_once_the_only_feed_is_used_again(
        self, sources: tuple[Source, ...], waits: bool
    ) -> None:
        async with watching(*sources) as (world, watcher):
            await asyncio.sleep(60.0)
            wanted = ending(world, *[70.0 + 20.0 * number for number in range(43)])
            world.server.fault = lambda _: VendorBroken("away")
            await asyncio.sleep(300.0)
            world.server.fault = lambda _: None
            # For ten minutes nothing shows what has ended.
            for source in sources:
                if source.kind is SourceKind.FEED:
                    world.poller.state.sources.distrust(source, "it is to be")

            if waits:
                world.join(world.server.start("long", lasts=9000.0))

            await asyncio.sleep(1300.0)

            assert watcher.ids == wanted

    @virtual
    async def test_a_feed_that_ignored_its_filter_is_soon_read_again(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            ending(world, 10.0)
            await asyncio.sleep(100.0)
            wanted = ending(
                world, *[120.0 + 30.0 * each for each in range(10)], first=1
            )
            world.server.ignores_filter = True
            await asyncio.sleep(60.0)
            world.server.ignores_filter = False
            await asyncio.sleep(300.0)

            assert watcher.ids == ["job 0", *wanted]
            for job, at in watcher.heard[2:]:
                assert at <= max(world.server.lives[job].ends, 160.0 + 60.0) + 65.0

    @virtual
    async def test_a_mark_that_goes_back_is_where_it_begins(self) -> None:
        async with a_world(FEED, LIVE) as world:
            jobs = ending(world, 100.0, 200.0, 300.0)
            await asyncio.sleep(5000.0)
            mark = Mark(at=EPOCH + 150.0, floor=EPOCH + 150.0)
            watcher = Watcher(mark=mark).begin(world, ALL)
            await asyncio.sleep(100.0)
            await watcher.end()

            assert watcher.ids == jobs[1:]

    @EVERY_WAY
    @virtual
    async def test_ends_of_an_absence_are_heard_later_in_order_and_once(
        self, sources: tuple[Source, ...], watch: Watch
    ) -> None:
        async with watching(*sources, watch=watch) as (world, watcher):
            first = ending(world, 50.0, 590.0)
            await asyncio.sleep(600.0)
            await asyncio.sleep(60.0)
            await watcher.end()
            missed = ending(world, 1000.0, 2000.0, 3000.0, first=2)
            await asyncio.sleep(3600.0)
            assert watcher.mark is not None
            stored = Mark.from_json(watcher.mark.to_json())
            again = Watcher(mark=stored).begin(world, watch)
            await asyncio.sleep(900.0)
            await again.end()

            assert watcher.ids == first
            assert again.ids == missed

    @virtual
    async def test_all_who_watch_hear_of_every_end(self) -> None:
        async with a_world(FEED, LIVE) as world:
            watchers = [Watcher().begin(world, ALL) for _ in range(20)]
            await asyncio.sleep(20.0)
            jobs = ending(world, 40.0, 90.0)
            await asyncio.sleep(600.0)
            for each in watchers:
                await each.end()

            assert [each.ids for each in watchers] == [jobs] * 20

    @virtual
    async def test_only_the_own_place_is_heard_of(self) -> None:
        async with a_world(FEED, LIVE) as world:
            one = Watcher().begin(world, Watch(place=("group", "a")))
            other = Watcher().begin(world, Watch(place=("group", "b")))
            for group in "abc":
                world.server.lives[group] = Life(10.0, 60.0, group=group)

            await asyncio.sleep(200.0)
            await one.end()
            await other.end()

            assert (one.ids, other.ids) == (["a"], ["b"])

    @pytest.mark.parametrize("sources", [(), (LIST,), (GROUPS,), (LIST, GROUPS)])
    @virtual
    async def test_what_can_be_requested_by_itself_is(
        self, sources: tuple[Source, ...]
    ) -> None:
        async with watching(*sources, watch=of_job("job 0")) as (world, watcher):
            world.server.lives["job 0"] = Life(0.0, 60.0)
            await asyncio.sleep(600.0)

            assert watcher.ids == ["job 0"]
            assert len(world.server.requests) <= 600 / 30 + 1

    @virtual
    async def test_the_first_mark_and_then_a_late_one_are_heard(self) -> None:
        async with watching(FEED, LIVE) as (_, watcher):
            await asyncio.sleep(40.0)
            first = watcher.mark
            await asyncio.sleep(SAVE_EVERY + 100.0)

            assert first is not None
            assert watcher.mark is not None
            assert watcher.mark.at >= first.at + SAVE_EVERY
            assert watcher.mark.floor == first.floor

    @virtual
    async def test_a_longer_interval_reads_the_feed_less_often(self) -> None:
        async with a_world(IDS, WIDE, LIVE) as world:
            seldom = Watcher(interval=300.0).begin(world, ALL)
            jobs = ending(world, *range(50, 1500, 50))
            await asyncio.sleep(2300.0)
            await seldom.end()

            assert seldom.ids == jobs
            assert world.server.counts["feed"] <= 2300 / 300 + 2


class TestTogether:
    """Those who have heard up to the same time move on together."""

    @virtual
    async def test_a_round_takes_no_step_for_each_of_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        for name in ("settle", "begin"):
            step = getattr(Subscription, name)

            def counted(self: Any, *args: Any, step: Any = step) -> None:
                steps.append(step.__name__)
                step(self, *args)

            monkeypatch.setattr(Subscription, name, counted)

        async with a_world(FEED, LIVE) as world:
            watchers = [Watcher().begin(world, ALL) for _ in range(50)]
            await asyncio.sleep(40.0)
            steps.clear()
            jobs = ending(world, 100.0, 500.0)
            await asyncio.sleep(SAVE_EVERY)
            for each in watchers:
                await each.end()

            assert [each.ids for each in watchers] == [jobs] * 50
            assert not steps

    @pytest.mark.parametrize("interval", [30.0, 60.0, 100.0])
    @EVERY_WAY
    @virtual
    async def test_one_with_an_older_mark_hears_what_it_has_missed(
        self, sources: tuple[Source, ...], watch: Watch, interval: float
    ) -> None:
        async with a_world(*sources) as world:
            first = Watcher().begin(world, watch)
            late = Watcher(interval=interval).begin(world, watch)
            early = ending(world, 60.0)
            await asyncio.sleep(200.0)
            await late.end()
            missed = ending(world, 300.0, 410.0, first=1)
            await asyncio.sleep(310.0)
            late.begin(world, watch)
            news = ending(world, 560.0, 900.0, first=3)
            await asyncio.sleep(900.0)
            await first.end()
            await late.end()

            wanted = early + missed + news
            assert [first.ids, late.ids] == [wanted, wanted]

    @virtual
    async def test_each_hears_of_its_mark_in_its_own_time(self) -> None:
        async with a_world(FEED, LIVE) as world:
            marks: dict[int, list[Mark]] = {0: [], 1: []}

            async def watch(number: int) -> None:
                subscription = world.poller.subscribe(ALL, interval=30.0)
                while True:
                    marks[number].append((await subscription.hear()).mark)

            tasks = [asyncio.ensure_future(watch(0))]
            await asyncio.sleep(400.0)
            tasks.append(asyncio.ensure_future(watch(1)))
            await asyncio.sleep(3 * SAVE_EVERY)
            for each in tasks:
                each.cancel()

            await asyncio.wait(tasks)
            for heard in marks.values():
                assert len(heard) >= 3
                gaps = [b.at - a.at for a, b in pairwise(heard)]
                # A round and a check later at most.
                assert all(
                    SAVE_EVERY <= gap <= SAVE_EVERY + SAVE_CHECK + 30.0 for gap in gaps
                )

    @virtual
    async def test_a_clock_that_was_ahead_delays_no_mark(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            await asyncio.sleep(100.0)
            world.server.skew = 3600.0
            await asyncio.sleep(100.0)
            world.server.skew = 0.0
            await asyncio.sleep(100.0)
            ending(world, 330.0)
            await asyncio.sleep(100.0)
            first = watcher.mark
            await asyncio.sleep(SAVE_EVERY + SAVE_CHECK + 30.0)

            assert first is not None
            assert watcher.mark is not None
            assert watcher.mark.at >= first.at + SAVE_EVERY

    @virtual
    async def test_a_clock_that_was_ahead_hides_no_end_from_any(self) -> None:
        async with a_world(FEED, LIVE) as world:
            world.server.skew = 3600.0
            watchers = [Watcher().begin(world, ALL) for _ in range(3)]
            await asyncio.sleep(100.0)
            world.server.skew = 0.0
            await watchers[0].end()
            await asyncio.sleep(40.0)
            jobs = ending(world, 500.0)
            watchers[0].begin(world, ALL)
            await asyncio.sleep(900.0)
            for each in watchers:
                await each.end()

            assert [each.ids for each in watchers] == [jobs] * 3


class TestTurns:
    """Who takes part in which round, and up to when each has heard."""

    def watchers(self) -> Watchers:
        vendor = cast("Vendor", FakeVendor(FEED, LIVE))
        return Watchers(vendor, an_account())

    def join(
        self,
        watchers: Watchers,
        watch: Watch = ALL,
        *,
        at: float | None = 900.0,
        interval: float = 60.0,
    ) -> Subscription:
        subscription = Subscription(
            watch,
            interval=interval,
            mark=None if at is None else Mark(at=at, floor=0.0),
            owner=None,
            keeps=False,
            leave=watchers.leave,
        )
        watchers.join(subscription)
        return subscription

    def round(self, watchers: Watchers, number: int, at: float | None) -> Need | None:
        """Hold a round of 30 s; return what was to be shown."""
        watchers.begin(number, number * 30.0, 30.0)
        need = watchers.need(overlap=0.0, now=at)
        watchers.settle(at)
        return need

    def test_one_between_the_turns_of_others_keeps_its_time_until_the_next(
        self,
    ) -> None:
        watchers = self.watchers()
        first = self.join(watchers)
        self.round(watchers, 0, 1000.0)
        late = self.join(watchers, at=950.0)

        between = self.round(watchers, 1, 1030.0)

        assert between is not None
        assert between.since == 950.0
        assert (first.checked_until, late.checked_until) == (1000.0, 1030.0)
        assert first.cohort is not late.cohort

        together = self.round(watchers, 2, 1060.0)

        assert together is not None
        assert together.since == 1000.0
        assert (first.checked_until, late.checked_until) == (1060.0, 1060.0)
        assert first.cohort is late.cohort is not None

    def test_one_ahead_of_others_waits_for_them(self) -> None:
        watchers = self.watchers()
        first = self.join(watchers)
        ahead = self.join(watchers, at=5000.0)
        self.round(watchers, 0, None)
        watchers.begin(2, 60.0, 30.0)
        watchers.settle(1000.0)

        assert (first.checked_until, ahead.checked_until) == (1000.0, 5000.0)
        assert ahead.cohort is None

    def test_a_round_that_shows_no_ends_moves_none(self) -> None:
        watchers = self.watchers()
        each = self.join(watchers)
        self.round(watchers, 0, 1000.0)
        self.round(watchers, 2, None)

        assert each.checked_until == 1000.0

    def test_needs_follow_who_comes_and_goes(self) -> None:
        watchers = self.watchers()
        one = self.join(watchers, of_job("a"), interval=30.0)
        self.round(watchers, 0, 1000.0)
        self.join(watchers, of_job("b"), interval=30.0)
        both = self.round(watchers, 1, 1030.0)
        again = self.round(watchers, 2, 1060.0)
        one.close()
        rest = self.round(watchers, 3, 1090.0)

        assert both is not None
        assert again is not None
        assert rest is not None
        assert both.subjects == again.subjects == {"a", "b"}
        assert rest.subjects == {"b"}
        assert not rest.whole

    @pytest.mark.parametrize("alone", [True, False])
    def test_a_row_that_was_no_news_by_a_clock_ahead_is_news_later(
        self, *, alone: bool
    ) -> None:
        watchers = self.watchers()
        each = self.join(watchers, at=5000.0 if alone else 900.0)
        if not alone:
            self.round(watchers, 0, None)
            self.round(watchers, 2, 5000.0)

        row = {
            "id": "a",
            "state": "succeeded",
            "changed": 2000.0,
            "started": 1900.0,
            "ended": 2000.0,
            "group": "g",
        }
        watchers.begin(4, 120.0, 30.0)
        watchers.take(row, "a")
        watchers.settle(None)
        assert each.checked_until == 5000.0

        watchers.begin(6, 180.0, 30.0)
        watchers.need(overlap=0.0, now=2010.0)
        watchers.take(row, "a")

        assert [*watchers.found] == ["a"]

    def test_who_leaves_in_a_round_takes_no_later_turn(self) -> None:
        watchers = self.watchers()
        each = self.join(watchers)
        watchers.begin(0, 0.0, 30.0)
        each.close()
        watchers.settle(1000.0)

        assert self.round(watchers, 1, 1030.0) is None
        assert watchers.shortest_interval() == math.inf

    def test_who_leaves_the_others_knows_until_when_it_has_heard(self) -> None:
        watchers = self.watchers()
        one, other = self.join(watchers, interval=30.0), self.join(watchers)
        self.round(watchers, 0, 1000.0)
        self.round(watchers, 1, 1030.0)
        one.close()
        self.round(watchers, 2, 1060.0)

        assert one.checked_until == 1030.0
        assert other.checked_until == 1060.0
        assert watchers.shortest_interval() == 60.0


class TestRowsOfLists:
    """A list shows each row in every round."""

    @virtual
    async def test_a_row_is_read_again_only_with_news(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with watching(LIST, watch=of_group()) as (world, watcher):
            read: list[str] = []
            ends = world.vendor.ends

            def counted(account: Account, row: Row) -> Sequence[End]:
                read.append(row["id"])
                return ends(account, row)

            monkeypatch.setattr(world.vendor, "ends", counted)
            jobs = ending(world, 100.0, 700.0)
            await asyncio.sleep(2000.0)

            assert watcher.ids == jobs
            # As it runs, and with its end.
            assert sorted(read) == ["job 0", "job 0", "job 1", "job 1"]

            other = Watcher(mark=Mark(at=EPOCH, floor=EPOCH)).begin(world, of_group())
            await asyncio.sleep(100.0)
            await other.end()

            assert other.ids == jobs

    @virtual
    async def test_each_row_is_read_where_no_fields_are_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FakeVendor, "end_fields", ())
        async with watching(LIST, watch=of_group()) as (world, watcher):
            jobs = ending(world, 100.0, 700.0)
            await asyncio.sleep(2000.0)

            assert watcher.ids == jobs

    @virtual
    async def test_a_row_that_can_be_read_again_is(self) -> None:
        async with watching(LIST, watch=of_group()) as (world, watcher):
            jobs = ending(world, 100.0)
            world.vendor.unreadable = {"job 0"}
            await asyncio.sleep(500.0)
            assert watcher.ids == []

            world.vendor.unreadable = set()
            await asyncio.sleep(100.0)

            assert watcher.ids == jobs

    @virtual
    async def test_no_row_keeps_those_who_have_left(self) -> None:
        async with a_world(LIST) as world:
            ending(world, 100.0)
            subscription = world.poller.subscribe(of_group(), interval=30.0)
            await asyncio.sleep(200.0)
            left = weakref.ref(subscription)
            subscription.close()
            await asyncio.sleep(200.0)
            del subscription
            gc.collect()

            assert left() is None

    @virtual
    async def test_who_watches_again_hears_of_the_same_row(self) -> None:
        async with watching(LIST, watch=of_group()) as (world, watcher):
            await asyncio.sleep(40.0)
            mark = watcher.mark
            jobs = ending(world, 100.0)
            await asyncio.sleep(200.0)
            await watcher.end()
            again = Watcher(mark=mark).begin(world, of_group())
            await asyncio.sleep(100.0)
            await again.end()

            assert again.ids == watcher.ids == jobs


class TestCost:
    @pytest.mark.parametrize("count", [1, 1000])
    @virtual
    async def test_however_many_watch_a_round_takes_the_pages_of_the_feed(
        self, count: int
    ) -> None:
        async with a_world(WIDE, LIVE) as world:
            watchers = [Watcher().begin(world, ALL) for _ in range(count)]
            ending(world, *range(100, 3000, 10))
            await asyncio.sleep(3000.0)
            for each in watchers:
                await each.end()

            assert world.server.counts == {"feed": 100, "live": 1}

    @virtual
    async def test_beside_those_who_wait_no_request_is_added(self) -> None:
        async def requests(count: int) -> int:
            async with a_world(WIDE, LIVE) as world:
                for number in range(500):
                    world.server.start(f"job {number}", lasts=500.0 + number)
                    world.join(f"job {number}")

                watchers = [Watcher().begin(world, ALL) for _ in range(count)]
                await world.all_told()
                for each in watchers:
                    await each.end()

                return len(world.server.requests)

        alone = await requests(0)

        assert await requests(500) <= alone * 1.02

    @virtual
    async def test_a_busy_feed_is_not_read_much_further_back(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            # Five rows a page: a window of 90 s has 18 of them.
            jobs = ending(world, *range(20, 800, 1))
            await asyncio.sleep(900.0)

            assert watcher.ids == jobs
            assert world.server.counts["feed"] <= 900 / 30 * 23 + 900 / 300 * 6

    @virtual
    async def test_groups_are_read_where_the_list_of_all_is_long(self) -> None:
        async with watching(LIST, GROUPS, watch=of_group("a")) as (world, watcher):
            for number in range(400):
                world.server.lives[f"other {number}"] = Life(0.0, 1e6, group="b")

            world.server.lives["own"] = Life(0.0, 700.0, group="a")
            await asyncio.sleep(1000.0)

            assert watcher.ids == ["own"]
            assert world.server.counts["groups"] > 25


class TestTrouble:
    @FEEDS
    @pytest.mark.parametrize(
        "error",
        [VendorBroken("no"), RateLimited("later", retry_after=3600.0)],
        ids=["outage", "limit"],
    )
    @virtual
    async def test_an_hour_of_trouble_makes_ends_late_and_no_more(
        self,
        sources: tuple[Source, ...],
        error: EngineError,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async with watching(*sources) as (world, watcher):
            jobs = ending(world, 400.0, 1000.0, 2000.0)
            await asyncio.sleep(300.0)
            caplog.clear()
            caplog.set_level(logging.INFO)
            world.server.fault = lambda _: error.again()
            await asyncio.sleep(3600.0)
            world.server.fault = lambda _: None
            await asyncio.sleep(1000.0)

            assert watcher.ids == jobs
            assert not watcher.errors
            assert len(caplog.records) <= 4
            assert "1 watcher still watching" in caplog.text

    @virtual
    async def test_a_refused_account_ends_watching_until_it_is_watched_again(
        self,
    ) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            jobs = ending(world, 400.0, 700.0)
            await asyncio.sleep(300.0)
            world.server.fault = lambda _: CredentialsRejected("no", status=401)
            before = len(world.server.requests)
            await asyncio.sleep(3000.0)
            assert all(isinstance(each, CredentialsRejected) for each in watcher.errors)
            assert 8 <= len(watcher.errors) <= 11
            assert len(world.server.requests) - before <= 18
            world.server.fault = lambda _: None
            await asyncio.sleep(700.0)

            assert watcher.ids == jobs

    @pytest.mark.parametrize("kinds", [["live"], ["feed"], ["live", "feed"]])
    @virtual
    async def test_a_list_that_is_refused_first_of_all_fails_none_who_waits(
        self, kinds: list[str]
    ) -> None:
        async with a_world(FEED, LIVE) as world:
            world.server.dated = False
            world.server.refusals = dict.fromkeys(kinds, 403)
            world.server.start("a", lasts=100.0)
            watcher = Watcher().begin(world, ALL)
            wait = world.join("a", sees=False)

            assert (await wait).state is JobState.SUCCEEDED
            assert world.told_at["a"] < 100.0 + 2 * 30.0 + 5.0
            await watcher.end()

    @pytest.mark.parametrize("takes", [0.1, 60.0], ids=["breaks", "hangs"])
    @virtual
    async def test_a_list_that_fails_first_of_all_keeps_none_waiting(
        self, takes: float
    ) -> None:
        def fault(request: Request) -> EngineError | None:
            world.server.latency = 0.1
            if request.note["kind"] == "single":
                return None

            world.server.latency = takes
            return VendorBroken("no", status=504)

        async with a_world(FEED, LIVE) as world:
            world.server.dated = False
            world.server.fault = fault
            world.server.start("a", lasts=100.0)
            watcher = Watcher().begin(world, ALL)
            wait = world.join("a", sees=False)
            async with asyncio.timeout(1000.0):
                assert (await wait).state is JobState.SUCCEEDED

            await watcher.end()

    @virtual
    async def test_what_the_vendor_does_not_know_ends_its_own_watch_alone(self) -> None:
        async with watching(watch=of_job("gone")) as (world, watcher):
            other = Watcher().begin(world, of_job("job 0"))
            world.server.lives["job 0"] = Life(0.0, 400.0)
            await asyncio.sleep(1000.0)
            await other.end()

            assert all(isinstance(each, JobNotFound) for each in watcher.errors)
            assert other.ids == ["job 0"]
            assert not other.errors

    @virtual
    async def test_a_connection_that_leads_elsewhere_ends_the_watch(self) -> None:
        async with a_world(FEED, LIVE) as world:
            owner = object()
            watcher = Watcher().begin(world, ALL, owner=owner)
            other = Watcher().begin(world, ALL, owner=object())
            await asyncio.sleep(100.0)
            world.poller.dismiss(owner)
            await asyncio.sleep(1.0)
            assert isinstance(watcher.errors[0], ConnectionChanged)
            assert not other.errors
            await watcher.end()
            await other.end()

    @virtual
    async def test_shutdown_cancels_those_who_watch(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            await asyncio.sleep(10.0)
            world.poller.disband()
            assert watcher.task is not None
            await asyncio.wait({watcher.task})

            assert watcher.task.cancelled()
            with pytest.raises(asyncio.CancelledError):
                world.poller.subscribe(ALL, interval=30.0)

    @FEEDS
    @virtual
    async def test_an_end_that_is_shown_late_is_heard(
        self, sources: tuple[Source, ...]
    ) -> None:
        async with watching(*sources) as (world, watcher):
            jobs = ending(world, 1000.0, 1001.0, 1400.0)
            world.server.hidden = {"job 1"}
            await asyncio.sleep(1230.0)
            world.server.hidden = set()
            await asyncio.sleep(1000.0)

            assert sorted(watcher.ids) == jobs

    @FEEDS
    @virtual
    async def test_ends_of_an_outage_that_are_skipped_afterwards_are_heard(
        self, sources: tuple[Source, ...]
    ) -> None:
        async with watching(*sources) as (world, watcher):
            await asyncio.sleep(200.0)
            world.server.fault = lambda _: VendorBroken("HTTP 503", status=503)
            jobs = ending(world, 250.0, 300.0, 480.0)
            await asyncio.sleep(300.0)
            world.server.fault = lambda _: None
            world.server.hidden = {"job 0", "job 1"}
            for _ in range(120):
                await asyncio.sleep(1.0)
                if watcher.heard:
                    break

            world.server.hidden = set()
            await asyncio.sleep(70.0)

            assert sorted(watcher.ids) == jobs

    @FEEDS
    @virtual
    async def test_ends_that_were_skipped_before_a_takeover_are_heard_after_it(
        self, sources: tuple[Source, ...]
    ) -> None:
        marks: list[Mark | None] = []
        heard: list[str] = []
        server = Server()
        jobs: list[str] = []
        for number in range(4):
            async with a_world(*sources, server=server) as world:
                watcher = Watcher(mark=marks[-1] if marks else None)
                watcher.begin(world, ALL)
                await asyncio.sleep(40.0)
                if number == 0:
                    jobs = ending(world, now() + 5.0, now() + 110.0)
                    server.hidden = {"job 0"}

                # A triggerer is replaced before five minutes are over, again and again.
                await asyncio.sleep(140.0)
                await watcher.end()
                server.hidden = set()
                heard += watcher.ids
                marks.append(watcher.mark)

        assert sorted(heard) == jobs

    @virtual
    async def test_a_list_may_lag(self) -> None:
        async with watching(LIST, watch=of_group()) as (world, watcher):
            world.server.lives["a"] = Life(0.0, 1000.0)
            world.server.lag = 500.0
            await asyncio.sleep(2000.0)

            assert watcher.ids == ["a"]

    @virtual
    async def test_a_walk_that_breaks_off_reports_nothing_out_of_order(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            await asyncio.sleep(200.0)
            jobs = ending(world, *range(211, 223))

            def fault(request: Request) -> EngineError | None:
                late = 225.0 < now() < 300.0
                return VendorBroken("no") if late and request.note["offset"] else None

            world.server.fault = fault
            await asyncio.sleep(800.0)

            assert watcher.ids == jobs

    @virtual
    async def test_who_comes_back_in_the_middle_of_a_walk_hears_in_order(self) -> None:
        async with a_world(FEED, LIVE) as world:
            jobs = ending(world, *range(1000, 4900, 300), *range(4930, 4990, 5))
            await asyncio.sleep(5000.0)
            world.server.latency = 1.0
            late = Mark(at=EPOCH + 4930.0, floor=EPOCH + 4930.0)
            first = Watcher(mark=late).begin(world, ALL)
            await asyncio.sleep(7.5)
            assert world.server.counts["feed"] == 2
            early = Mark(at=EPOCH + 1100.0, floor=EPOCH + 1100.0)
            second = Watcher(mark=early).begin(world, ALL)
            await asyncio.sleep(200.0)
            await first.end()
            await second.end()

            assert second.ids == jobs[1:]

    @virtual
    async def test_who_comes_back_to_a_walk_that_breaks_off_hears_in_order(
        self,
    ) -> None:
        async with a_world(FEED, LIVE) as world:
            jobs = ending(world, *range(1000, 4900, 300), *range(4930, 4990, 5))
            often = Watcher(interval=5.0).begin(world, ALL)
            await asyncio.sleep(5000.0)
            world.server.fault = lambda request: (
                VendorBroken("no") if request.note.get("offset") else None
            )
            mark = Mark(at=EPOCH + 1100.0, floor=EPOCH + 1100.0)
            seldom = Watcher(interval=300.0, mark=mark).begin(world, ALL)
            await asyncio.sleep(5.5)
            world.server.fault = lambda _: None
            await asyncio.sleep(500.0)
            await often.end()
            await seldom.end()

            assert seldom.ids == jobs[1:]

    @virtual
    async def test_a_first_end_while_the_clock_was_ahead_is_heard_from_a_list(
        self,
    ) -> None:
        async with watching(LIST, watch=of_group()) as (world, watcher):
            await asyncio.sleep(200.0)
            world.server.dates_off = 3600.0
            await asyncio.sleep(100.0)
            jobs = ending(world, now() + 10.0)
            await asyncio.sleep(100.0)
            assert not watcher.ids
            world.server.dates_off = 0.0
            await asyncio.sleep(200.0)

            assert watcher.ids == jobs

    @virtual
    async def test_a_row_that_breaks_is_logged_once_and_costs_no_other(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            jobs = ending(world, 100.0, 200.0)
            world.vendor.unreadable = {"job 0"}
            await asyncio.sleep(900.0)

            assert watcher.ids == jobs[1:]
            assert caplog.text.count("a row cannot be watched") == 1

    @virtual
    async def test_a_clock_that_was_an_hour_ahead_hides_nothing(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            await asyncio.sleep(200.0)
            world.server.skew = 3600.0
            await asyncio.sleep(100.0)
            world.server.skew = 0.0
            await asyncio.sleep(100.0)
            jobs = ending(world, 500.0)
            await asyncio.sleep(900.0)

            assert watcher.ids == jobs

    @pytest.mark.parametrize("off", [3600.0, -3600.0])
    @virtual
    async def test_wrong_dates_repeat_nothing(self, off: float) -> None:
        async with a_world(FEED, LIVE) as world:
            watcher = Watcher(interval=5.0).begin(world, ALL)
            jobs = ending(world, 100.0, 200.0, 262.0)
            await asyncio.sleep(246.0)
            world.server.dates_off = off
            await asyncio.sleep(20.0)
            world.server.dates_off = 0.0
            await asyncio.sleep(900.0)
            await watcher.end()

            assert watcher.ids == jobs


class TestTheRest:
    @virtual
    async def test_is_requested_once_for_all_who_watch(self) -> None:
        async with a_world(FEED, LIVE) as world:
            world.vendor.rest = lambda ends: [
                replace(each, job=replace(each.job, id="whole")) for each in ends
            ]
            watchers = [Watcher().begin(world, ALL) for _ in range(10)]
            ending(world, 100.0)
            await asyncio.sleep(300.0)
            for each in watchers:
                await each.end()

            assert [each.ids for each in watchers] == [["whole"]] * 10
            assert world.server.counts["rest"] == 1

    @virtual
    async def test_may_hold_ends_that_no_row_has_shown(self) -> None:
        def rest(ends: Sequence[End]) -> list[End]:
            (last,) = ends
            earlier = [
                replace(last, at=last.at - 60.0, job=replace(last.job, id="earlier")),
                replace(last, at=last.at - 5000.0, job=replace(last.job, id="old")),
            ]
            return [*earlier, last]

        async with watching(LIST, watch=of_group()) as (world, watcher):
            world.vendor.rest = rest
            ending(world, 1000.0)
            await asyncio.sleep(1500.0)

            assert watcher.ids == ["earlier", "job 0"]

    @virtual
    async def test_that_does_not_come_holds_an_end_for_three_rounds(self) -> None:
        def rest(ends: Sequence[End]) -> list[End]:
            msg = "not yet"
            raise UnreadableReply(msg)

        async with watching(FEED, LIVE) as (world, watcher):
            world.vendor.rest = rest
            jobs = ending(world, 100.0)
            await asyncio.sleep(400.0)

            assert watcher.ids == jobs
            assert world.server.counts["rest"] == 3
            assert watcher.heard[0][1] >= 100.0 + 60.0

    @pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
    @pytest.mark.parametrize(
        ("sources", "watch"), [((WIDE, LIVE), ALL), ((LIST,), of_group())]
    )
    @virtual
    async def test_that_comes_after_more_than_ten_minutes_loses_no_end(
        self, sources: tuple[Source, ...], watch: Watch, away: bool
    ) -> None:
        failures = [UnreadableReply("not yet")]

        def rest(ends: Sequence[End]) -> Sequence[End]:
            if failures:
                raise failures.pop()

            return ends

        async with a_world(*sources) as world:
            world.vendor.rest = rest
            watcher = Watcher(interval=1800.0).begin(world, watch)
            jobs = ending(world, 100.0, 2000.0)
            await asyncio.sleep(1900.0)
            if away:
                assert not failures
                await watcher.end()
                watcher.begin(world, watch)

            await asyncio.sleep(8000.0)
            await watcher.end()

            assert watcher.ids == jobs

    @virtual
    async def test_that_does_not_come_loses_no_end_of_a_row_that_has_a_later_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rest(ends: Sequence[End]) -> list[End]:
            msg = "not yet"
            raise UnreadableReply(msg)

        async with watching(LIST, watch=of_group()) as (world, watcher):
            ends = world.vendor.ends

            def syncs(account: Account, row: Row) -> list[End]:
                return [
                    replace(each, job=replace(each.job, id=f"until {row['ended']}"))
                    for each in ends(account, row)
                ]

            monkeypatch.setattr(world.vendor, "ends", syncs)
            world.vendor.rest = rest
            world.server.lives["sync"] = Life(50.0, 100.0)
            await asyncio.sleep(130.0)
            world.server.lives["sync"] = Life(131.0, 140.0)
            await asyncio.sleep(300.0)

            assert watcher.ids == [f"until {EPOCH + at}" for at in (100.0, 140.0)]

    @virtual
    async def test_that_is_refused_holds_nothing(self) -> None:
        async with watching(FEED, LIVE) as (world, watcher):
            world.vendor.rest = lambda ends: ends
            world.server.refusals["rest"] = 404
            jobs = ending(world, 100.0)
            await asyncio.sleep(160.0)

            assert watcher.ids == jobs


class TestMark:
    def test_comes_back_from_json(self) -> None:
        mark = Mark(at=5000.0, floor=10.0, reported={"a": 4990.0})

        assert Mark.from_json(mark.to_json()) == mark

    def test_stores_only_what_may_be_shown_again(self) -> None:
        mark = Mark(at=5000.0, floor=0.0, reported={"a": 4990.0, "b": 4389.0})

        assert mark.to_json()["reported"] == {"a": 4990.0}

    def test_that_is_ahead_of_the_server_s_time_stores_the_last_ends(self) -> None:
        mark = Mark(at=8600.0, floor=0.0, reported={"a": 4990.0, "b": 4389.0})

        assert mark.to_json()["reported"] == {"a": 4990.0}

    def test_stays_small_and_forgets_nothing(self) -> None:
        reported = {
            f"job {each}": 4500.0 + each / 10 for each in range(MOST_REPORTED + 50)
        }
        mark = Mark.from_json(Mark(at=5000.0, floor=0.0, reported=reported).to_json())

        assert mark is not None
        assert len(mark.reported) == MOST_REPORTED
        for key, at in reported.items():
            assert at <= news_after(
                key, at=mark.at, floor=mark.floor, reported=mark.reported
            )

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "text",
            {},
            {"at": "1", "floor": 0, "reported": {}},
            {"at": True, "floor": 0, "reported": {}},
            {"at": 1, "floor": None, "reported": {}},
            {"at": 1, "floor": 0, "reported": []},
            {"at": 1, "floor": 0, "reported": {"a": "b"}},
        ],
    )
    def test_is_nothing_where_something_else_is_stored(self, value: object) -> None:
        assert Mark.from_json(value) is None

    def test_looks_back_by_ten_minutes(self) -> None:
        since = news_after("a", at=5000.0, floor=0.0, reported={})

        assert since == 5000.0 - LOOKBACK
        assert OVERLAP < LOOKBACK
        assert JobState.SUCCEEDED.is_terminal
