"""What any vendor's watcher does in Airflow's own TriggerRunner, over HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.dbt_cloud.api import requests
from async_triggers.deferral import watching
from async_triggers.engine.accounts import shared_accounts
from async_triggers.simulator import Fault
from tests.airflow_versions import HAS_ASSET_STORE, needs_asset_store
from tests.runner.harness import a_triggerer
from tests.vendors import DBT_CLOUD, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.deferral.watching import EndWatcher
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write marks and try again sooner than in earnest."""
    monkeypatch.setattr(watching, "SETTLE", 0.5)
    monkeypatch.setattr(watching, "RETRY", 1.0)
    monkeypatch.setattr(watching, "RETRY_SOON", 0.5)


def a_watcher(case: Case, **given: Any) -> EndWatcher:
    return case.watcher(case.target, poll_interval=0.3, **given)


def add_target(simulator: Simulator, case: Case) -> None:
    case.add_target(case.part(simulator), case.target)


def let_end(simulator: Simulator, case: Case, end: str = "success") -> None:
    """Let something else begin a job that ends within the second."""
    part = case.part(simulator)
    job = case.add_job(part, case.target, case.life())
    part.jobs()
    part.finish(str(job), case.ends[end])


def watch_from_now_on(count: int) -> bool:
    """Return whether so many watchers have been polled for, and know what is news."""
    found = [
        each
        for shared in shared_accounts()
        for each in shared.poller.state.watchers
        if each.has_begun and each.asked_at > -math.inf
    ]
    return len(found) == count


async def has_begun(triggerer: Triggerer, watcher: int, *assets: str) -> None:
    """Run until a watcher knows what is news, and has stored its mark where it can."""
    rows, marks = triggerer.runner.triggers, triggerer.supervisor.marks
    await triggerer.until(lambda: watcher in rows and watch_from_now_on(len(rows)))
    if HAS_ASSET_STORE:
        await triggerer.until(lambda: all(marks.get(each) for each in assets))
    assert watcher in rows


def later(events: list[Any], count: int) -> list[str]:
    """Return the ids of so many events, in order and each once."""
    ids = [each["id"] for each in events]
    assert len(ids) == len(set(ids)) == count
    return ids


async def next_second() -> None:
    """Let the second pass in which the last job has ended: a server's time has no less."""
    await asyncio.sleep(1.1)


@pytest.mark.asyncio
@every_vendor
async def test_ends_after_the_first_look_are_events_and_no_others(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    add_target(simulator, case)
    let_end(simulator, case)
    await next_second()
    watcher = triggerer.watch(a_watcher(case), "a")
    await has_begun(triggerer, watcher, "a")
    assert watcher not in triggerer.supervisor.events
    await next_second()

    for _ in range(3):
        let_end(simulator, case)
        await next_second()

    events = triggerer.supervisor.events
    await triggerer.until(lambda: len(events.get(watcher, ())) == 3)
    later(events[watcher], 3)
    assert watcher not in triggerer.supervisor.finished


@pytest.mark.asyncio
@needs_asset_store
@every_vendor
async def test_what_ended_meanwhile_is_told_by_the_next_triggerer(
    simulator: Simulator, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_target(simulator, case)
    async with a_triggerer(monkeypatch) as first:
        watcher = first.watch(a_watcher(case), "a")
        await has_begun(first, watcher, "a")

    for _ in range(3):
        await next_second()
        let_end(simulator, case)

    async with a_triggerer(monkeypatch) as second:
        second.supervisor.marks = first.supervisor.marks
        watcher = second.watch(a_watcher(case), "a")
        events = second.supervisor.events
        await second.until(lambda: len(events.get(watcher, ())) == 3)
        ids = later(events[watcher], 3)
        times = [each["ended_at"] for each in events[watcher]]
        assert times == sorted(times)
        known = [*second.supervisor.marks["a"].values()]
        await second.until(lambda: [*second.supervisor.marks["a"].values()] != known)

    async with a_triggerer(monkeypatch) as third:
        third.supervisor.marks = second.supervisor.marks
        watcher = third.watch(a_watcher(case), "a")
        await next_second()
        let_end(simulator, case)
        events = third.supervisor.events
        await third.until(lambda: events.get(watcher))
        assert not set(ids) & set(later(events[watcher], 1))


@pytest.mark.asyncio
@needs_asset_store
@every_vendor
async def test_a_triggerer_that_is_killed_too_soon_tells_again(
    simulator: Simulator, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_target(simulator, case)
    monkeypatch.setattr(watching, "SETTLE", 60.0)
    async with a_triggerer(monkeypatch) as first:
        watcher = first.watch(a_watcher(case), "a")
        await has_begun(first, watcher, "a")
        await next_second()
        let_end(simulator, case)
        events = first.supervisor.events
        await first.until(lambda: events.get(watcher))
        ids = later(events[watcher], 1)

    async with a_triggerer(monkeypatch) as second:
        second.supervisor.marks = first.supervisor.marks
        watcher = second.watch(a_watcher(case), "a")
        events = second.supervisor.events
        await second.until(lambda: events.get(watcher))
        assert later(events[watcher], 1) == ids


@pytest.mark.asyncio
@every_vendor
async def test_one_row_for_two_assets_and_two_rows_for_one_asset(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    add_target(simulator, case)
    shared = triggerer.watch(a_watcher(case), "a", "b")
    other = triggerer.watch(a_watcher(case, since="2020-01-01T00:00:00Z"), "a")
    await has_begun(triggerer, shared, "a", "b")
    await next_second()
    let_end(simulator, case)

    events = triggerer.supervisor.events
    await triggerer.until(lambda: events.get(shared) and events.get(other))
    later(events[shared], 1)
    if HAS_ASSET_STORE:
        marks = triggerer.supervisor.marks
        await triggerer.until(lambda: len(marks["a"]) == 2)
        assert len(marks["b"]) == 1


@pytest.mark.asyncio
@every_vendor
async def test_trouble_ends_no_watcher_and_is_no_event(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    add_target(simulator, case)
    watcher = triggerer.watch(a_watcher(case), "a")
    await has_begun(triggerer, watcher, "a")
    await next_second()
    part = case.part(simulator)
    # Each costs a pause before the next round.
    part.faults.add(Fault(kind="html", method="GET", times=1))
    part.faults.add(Fault(kind="status", status=503, method="GET", times=1))
    let_end(simulator, case)

    events = triggerer.supervisor.events
    await triggerer.until(lambda: events.get(watcher))
    later(events[watcher], 1)
    assert sum(part.record.faults.values()) == 2
    assert triggerer.supervisor.failures == {}
    assert watcher not in triggerer.supervisor.finished


@pytest.mark.asyncio
@every_vendor
async def test_what_is_deleted_ends_no_watcher(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    add_target(simulator, case)
    case.remove_target(case.part(simulator), case.target)
    watcher = triggerer.watch(a_watcher(case), "a")
    before = time.monotonic()
    await triggerer.until(lambda: time.monotonic() > before + 3.0)

    assert watcher not in triggerer.supervisor.finished
    assert triggerer.supervisor.events == {}
    assert triggerer.supervisor.failures == {}


@pytest.mark.asyncio
@every_vendor
async def test_a_hundred_watchers_share_one_poller(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    add_target(simulator, case)
    rows = [
        triggerer.watch(
            a_watcher(case, since=f"2020-01-01T00:00:{number % 60:02}Z"), "a"
        )
        for number in range(100)
    ]
    part = case.part(simulator)
    await triggerer.until(lambda: watch_from_now_on(len(rows)))
    let_end(simulator, case)
    before = part.record.total

    events = triggerer.supervisor.events
    await triggerer.until(lambda: all(events.get(each) for each in rows))
    assert part.record.total - before <= 100


@pytest.mark.asyncio
async def test_own_runs_can_be_left_out(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    case = DBT_CLOUD
    add_target(simulator, case)
    every = triggerer.watch(a_watcher(case), "a")
    others = triggerer.watch(a_watcher(case, own=False), "b")
    await has_begun(triggerer, every, "a", "b")
    await next_second()
    part = case.part(simulator)
    cause = requests.make_cause("Triggered by Airflow", requests.make_marker(["d"], 1))
    operator: Any = case.sync()()
    hook = operator.hook
    await hook.run_async(
        lambda leased: hook.start_run(leased, case.target, cause=cause)
    )
    (view,) = part.jobs()
    part.finish(view.job, "success")
    events = triggerer.supervisor.events
    await triggerer.until(lambda: events.get(every))
    let_end(simulator, case)
    await triggerer.until(lambda: events.get(others))

    own = events[every][0]["id"]
    assert own not in later(events[others], 1)
