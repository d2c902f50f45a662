from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import pytest

from async_triggers.engine.accounts import LINGER, hold, lease
from async_triggers.engine.observer import (
    METRICS,
    REQUESTS,
    STARTS,
    Kind,
    Tally,
)
from async_triggers.engine.reporter import REPORT_EVERY, Reporter
from async_triggers.engine.watch import Watch
from tests.unit.engine.fake import (
    EVERYTHING,
    FEED,
    FakeTransport,
    FakeVendor,
    Server,
    a_world,
    an_account,
)

if TYPE_CHECKING:
    from async_triggers.engine.wire import Vendor

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

VENDOR = cast("Vendor", FakeVendor(FEED))


class Observed:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.gauges: list[tuple[float, str, float, str]] = []
        self.times: list[tuple[str, float]] = []
        self.fails = False

    def count(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        self.counts[name, tuple(tags.items())] += number

    def gauge(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        if self.fails:
            raise OSError

        now = asyncio.get_running_loop().time()
        self.gauges.append((now, name, value, tags["account"]))

    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        self.times.append((name, seconds))

    def values(self, name: str) -> list[float]:
        return [value for _, known, value, _ in self.gauges if known == name]


def test_a_tally_without_an_observer_keeps_nothing() -> None:
    tally = Tally()

    for _ in range(3):
        tally.count(REQUESTS, "poll", "200")
        tally.time(METRICS[-1], 1.0)

    tally.observer = observed = Observed()
    tally.report({"account": "a"})
    assert not observed.counts
    assert not observed.times


def test_a_tally_reports_each_thing_once() -> None:
    observed = Observed()
    tally = Tally(observed)
    tally.count(REQUESTS, "poll", "200")
    tally.count(REQUESTS, "poll", "200")
    tally.count(STARTS, "started")

    tally.report({"account": "a"})
    tally.report({"account": "a"})

    assert observed.counts == {
        ("requests", (("account", "a"), ("lane", "poll"), ("status", "200"))): 2,
        ("starts", (("account", "a"), ("result", "started"))): 1,
    }


@virtual
async def test_an_account_is_reported_every_ten_seconds() -> None:
    observed = Observed()
    async with lease(VENDOR, an_account(), name="a", observer=observed):
        await asyncio.sleep(3 * REPORT_EVERY + 1)

    moments = sorted({moment for moment, *_ in observed.gauges})
    assert moments == [10.0, 20.0, 30.0]
    gauges = {metric.name for metric in METRICS if metric.kind is Kind.GAUGE}
    assert {name for _, name, *_ in observed.gauges} == gauges


@virtual
async def test_those_who_watch_and_those_who_wait_are_counted_apart() -> None:
    observed = Observed()
    async with a_world(FEED) as world:
        world.transport.tally.observer = observed
        reporter = Reporter(world.poller.state, lambda: "a")
        reporter.start()
        world.start_and_join(["job 1"], lasts=60.0)
        watches = [
            world.poller.subscribe(Watch(place=EVERYTHING), interval=30.0)
            for _ in range(3)
        ]
        await asyncio.sleep(REPORT_EVERY + 1)
        for each in watches:
            each.close()

        await asyncio.sleep(REPORT_EVERY)
        reporter.stop()

    assert observed.values("watchers") == [3, 0, 0]
    assert observed.values("waiters")[:2] == [1, 1]


@virtual
async def test_what_is_left_is_reported_when_the_account_closes() -> None:
    observed = Observed()
    async with lease(VENDOR, an_account(), name="a", observer=observed, linger=0) as it:
        it.tally.count(STARTS, "started")

    # Also the name: a worker's lease is over before the first report.
    [(name, tags)] = observed.counts
    assert name == STARTS.name
    assert dict(tags)["account"] == "a"
    assert observed.gauges == []


@virtual
async def test_no_gauge_stays_behind_when_the_account_closes() -> None:
    observed = Observed()
    leased = hold(VENDOR, an_account(), name="a", observer=observed)
    await asyncio.sleep(REPORT_EVERY + 1)
    leased.limiter.observe(50.0, 200.0)
    leased.release()
    await asyncio.sleep(LINGER + 1)

    last = {name: value for _, name, value, _ in observed.gauges}
    # Nothing of the limit is spent by an account that is not there.
    assert last.pop("budget_left") == 1
    assert set(last.values()) == {0}
    before = len(observed.gauges)
    await asyncio.sleep(5 * REPORT_EVERY)
    assert len(observed.gauges) == before


@virtual
async def test_the_oldest_lease_names_the_account_and_its_old_name_is_idle() -> None:
    observed = Observed()
    first = hold(VENDOR, an_account(), connection=1, name="a", observer=observed)
    second = hold(VENDOR, an_account(), connection=2, name="b", observer=observed)
    first.limiter.observe(50.0, 200.0)
    await asyncio.sleep(REPORT_EVERY + 1)
    first.release()
    await asyncio.sleep(REPORT_EVERY)

    left = [
        (value, account)
        for _, name, value, account in observed.gauges
        if name == "budget_left"
    ]
    assert left == [(0.25, "a"), (1, "a"), (0.25, "b")]
    second.release()


@virtual
async def test_a_backend_that_fails_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    observed = Observed()
    observed.fails = True
    async with lease(VENDOR, an_account(), name="a", observer=observed):
        await asyncio.sleep(REPORT_EVERY + 1)
        observed.fails = False
        await asyncio.sleep(REPORT_EVERY)

    assert observed.values("jobs")
    assert "could not be reported" in caplog.text


@virtual
async def test_rounds_and_ends_are_measured() -> None:
    server, observed = Server(latency=0.5), Observed()
    async with a_world(FEED, server=server) as world:
        tally = world.poller.state.transport.tally
        tally.observer = observed
        server.start("late", lasts=30.0)
        server.start("early", lasts=0.0)
        world.join("late", interval=10.0)
        world.join("late", name="again", interval=10.0)
        await world.all_told()
        tally.report({})
        detected = [
            took for name, took in observed.times if name == "detection_seconds"
        ]
        assert len(detected) == 1
        assert 0 <= detected[0] <= 12

    rounds = [took for name, took in observed.times if name == "round_seconds"]
    late = [took for name, took in observed.times if name == "round_late_seconds"]
    assert len(rounds) == len(late)
    assert all(took >= 0.5 for took in rounds)
    assert max(late) < 0.01


@virtual
async def test_an_end_before_the_wait_is_not_measured() -> None:
    server, observed = Server(), Observed()
    server.start("a", lasts=10.0)
    async with a_world(FEED, server=server) as world:
        world.poller.state.transport.tally.observer = observed
        await asyncio.sleep(500.0)
        world.join("a")
        await world.all_told()
        world.poller.state.transport.tally.report({})

    assert "detection_seconds" not in {name for name, _ in observed.times}


@virtual
async def test_the_oldest_job_is_as_old_as_the_vendor_says() -> None:
    server = Server()
    server.start("a", lasts=5000.0)
    async with a_world(FEED, server=server) as world:
        await asyncio.sleep(1000.0)
        world.join("a")
        await asyncio.sleep(100.0)
        waiters = world.poller.state.waiters
        assert waiters.oldest(asyncio.get_running_loop().time()) == pytest.approx(
            1100.0, abs=2.0
        )


@virtual
async def test_the_budget_left_is_the_least_that_anyone_says() -> None:
    fake = FakeTransport(cast("FakeVendor", VENDOR), an_account(), Server())
    limiter = fake.limiter
    assert limiter.left == 1.0

    limiter.observe(50.0, 200.0)

    assert limiter.left == 0.25
