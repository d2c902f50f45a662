"""Triggers that go on on another triggerer, of which no look has shown the job before."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.fivetran.triggers import FivetranTrigger
from async_triggers.simulator import Fault
from tests.airflow_versions import end_with_the_loop
from tests.unit.deferral.stage import Deferral, Task, deferred, the_event
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import FIVETRAN, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.deferral.trigger import JobTrigger

every_refusal = pytest.mark.parametrize("status", [401, 403, 404])


def a_world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    world = make_vendor_world(monkeypatch, case)
    world.add_target()
    return world


def stored(trigger: JobTrigger) -> Deferral:
    """Return what Airflow's database keeps of a trigger that is used by itself."""
    classpath, arguments = trigger.serialize()
    arguments = json.loads(json.dumps(arguments))
    return Deferral(classpath, arguments, "execute_complete", {}, None)


def taken_over(task: Task, deferral: Deferral, *, after: float) -> JobTrigger:
    """Return the trigger on a second triggerer, the first one having ended."""
    first = task.trigger(deferral)

    async def until_the_end() -> None:
        waiting = asyncio.ensure_future(the_event(first))
        await asyncio.sleep(after)
        await end_with_the_loop([waiting])

    asyncio.run(until_the_end())
    second: JobTrigger = task.trigger(deferral)
    return second


def of_a_sensor(world: VendorWorld, case: Case) -> tuple[Task, Deferral]:
    """Defer a sensor whose first look has met an outage."""
    job = world.add_foreign(case.life("success", lasts=3000))
    given = {**case.recent, "timeout": 20_000, "poke_interval": 15}
    task = Task(world, case.sensor(job, **given))
    world.vendor.faults.add(Fault(kind="status", times=None, lasts=30))
    deferral = deferred(task.execute())
    world.pass_time(30)
    return task, deferral


def of_a_trigger(world: VendorWorld, case: Case) -> tuple[Task, Deferral]:
    """Defer with a trigger as code of users makes it."""
    job = world.add_foreign(case.life("success", lasts=3000))
    conn_id = f"{case.name}_default"
    trigger = case.trigger(job, conn_id, mark=case.a_mark, interval=15.0)
    return Task(world, case.sensor(job)), stored(trigger)


MADE = {"sensor": of_a_sensor, "trigger": of_a_trigger}
every_one = pytest.mark.parametrize("made", MADE)


@every_vendor
@every_one
@every_refusal
def test_a_refusal_of_a_minute_is_doubted(
    monkeypatch: pytest.MonkeyPatch, case: Case, made: str, status: int
) -> None:
    world = a_world(monkeypatch, case)
    task, deferral = MADE[made](world, case)
    trigger = taken_over(task, deferral, after=300)
    world.vendor.faults.add(Fault(kind="status", status=status, times=None, lasts=60))

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "success", event["message"]


@every_vendor
@every_one
@every_refusal
def test_a_refusal_for_good_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, case: Case, made: str, status: int
) -> None:
    world = a_world(monkeypatch, case)
    task, deferral = MADE[made](world, case)
    trigger = taken_over(task, deferral, after=300)
    world.vendor.faults.add(Fault(kind="status", status=status, times=None))
    began = world.now()

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "error"
    assert 300 <= world.now() - began < 600


@every_vendor
@every_one
@every_refusal
def test_a_fresh_one_believes_a_refusal_at_once(
    monkeypatch: pytest.MonkeyPatch, case: Case, made: str, status: int
) -> None:
    world = a_world(monkeypatch, case)
    task, deferral = MADE[made](world, case)
    world.vendor.faults.add(Fault(kind="status", status=status, times=None))
    began = world.now()

    event = asyncio.run(the_event(task.trigger(deferral)))

    assert event["status"] == "error"
    assert world.now() - began < 30


@every_vendor
def test_what_a_look_has_shown_is_stored_without_a_time(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success", lasts=3000))

    deferral = deferred(Task(world, case.sensor(job)).execute())

    assert "stored_at" not in deferral.arguments


# Without a baseline ---------------------------------------------------------------------


def without_a_baseline(world: VendorWorld) -> tuple[Task, Deferral]:
    task = Task(world, FIVETRAN.sensor(FIVETRAN.target))
    return task, stored(FivetranTrigger("t", FIVETRAN.target, "fivetran_default"))


@every_refusal
@pytest.mark.parametrize("lasts", [60, 20_000])
def test_the_look_for_a_baseline_doubts_a_refusal(
    monkeypatch: pytest.MonkeyPatch, status: int, lasts: float
) -> None:
    world = a_world(monkeypatch, FIVETRAN)
    task, deferral = without_a_baseline(world)
    trigger = taken_over(task, deferral, after=300)
    world.vendor.faults.add(
        Fault(kind="status", status=status, times=None, lasts=lasts)
    )
    began = world.now()

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        loop.call_later(
            600, world.vendor.start_sync, FIVETRAN.target, "syncing:10 succeeded"
        )
        return await the_event(trigger)

    event = asyncio.run(main())

    if lasts == 60:
        assert event["status"] == "success", event["message"]
    else:
        assert event["status"] == "error"
        assert 300 <= world.now() - began < 600


def test_the_look_for_a_baseline_ends_where_the_address_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = a_world(monkeypatch, FIVETRAN)
    task, deferral = without_a_baseline(world)
    world.vendor.faults.add(Fault(kind="proxy", answer="login-302", times=None))
    began = world.now()

    event = asyncio.run(the_event(task.trigger(deferral)))

    assert event["status"] == "error"
    assert "another page, at https://login.example.com" in event["message"]
    assert 300 <= world.now() - began < 400
