from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

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
from async_triggers.engine.watch import LOOKBACK, MOST_REPORTED, End, Mark, Watch
from async_triggers.engine.watchers import SAVE_EVERY
from async_triggers.engine.wire import Request, Source, SourceKind
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
    Life,
    Server,
    World,
    a_world,
)

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


class TestCost:
    @pytest.mark.parametrize("count", [1, 1000])
    @pytest.mark.timeout(120)
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
            assert at <= mark.bound(key)

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
        mark = Mark(at=5000.0, floor=0.0)

        assert mark.bound("a") == 5000.0 - LOOKBACK
        assert OVERLAP < LOOKBACK
        assert JobState.SUCCEEDED.is_terminal
