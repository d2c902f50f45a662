"""Starts on the triggerer while the account pauses, and no task waits for a job of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator import Fault
from tests.airflow_versions import needs_start_from_trigger
from tests.unit.deferral.stage import Task, deferred, scheduled, the_event
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3600.0


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("success"))
    return world


def paused(world: VendorWorld, status: int = 429) -> Any:
    """Return the trigger of a start that comes when the vendor allows nothing."""
    how: dict[str, Any] = {"start_in_trigger": True, "timeout": 90_000}
    task = Task(world, world.case.sync(**how))
    trigger = task.trigger(deferred(task.execute()))
    world.vendor.faults.add(
        Fault(kind="status", status=status, retry_after=3600, times=1)
    )
    return trigger


def play(trigger: Any, *later: tuple[float, Callable[[], None]]) -> Any:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        for seconds, change in later:
            loop.call_later(seconds, change)

        return await the_event(trigger)

    return asyncio.run(main())


def change(world: VendorWorld) -> None:
    """Let the Airflow connection lead to another account."""
    world.connect(
        f"{world.case.name}_default",
        conn_type=world.case.name,
        host="http://127.0.0.1:8000",
        **world.case.connection,
    )


@every_vendor
def test_it_starts_when_the_pause_ends(world: VendorWorld, case: Case) -> None:
    trigger = paused(world)
    reads = world.connection_reads

    event = play(trigger)

    assert event["status"] == "success"
    assert HOUR <= world.elapsed() < HOUR + 120
    assert world.starts == 1
    # The pause may last for a day, and a read takes the triggerer's supervisor a while.
    assert world.connection_reads - reads <= HOUR / 60 + 2


@every_vendor
@pytest.mark.parametrize("at", [5.0, 200.0, 3000.0])
def test_a_changed_connection_is_tried_at_once(
    world: VendorWorld, case: Case, at: float
) -> None:
    trigger = paused(world)

    event = play(trigger, (at, lambda: change(world)))

    assert event["status"] == "success"
    assert world.elapsed() < at + 60 + 120
    assert world.starts == 1


@every_vendor
def test_of_many_starts_one_reads_the_connection(
    world: VendorWorld, case: Case
) -> None:
    """Each has a deadline, so that none of them needs to be started."""
    triggers = [paused(world) for _ in range(50)]
    for trigger in triggers:
        trigger.end_time = world.now() + 1800.0

    reads = world.connection_reads

    async def main() -> list[Any]:
        return await asyncio.gather(*map(the_event, triggers))

    events = asyncio.run(main())

    assert {each["status"] for each in events} == {"timeout"}
    assert world.connection_reads - reads <= 1800 / 60 + 2
    assert world.starts == 0


@every_vendor
@needs_start_from_trigger
def test_a_sensor_that_has_not_looked_follows_a_changed_connection(
    world: VendorWorld, case: Case
) -> None:
    job = world.add_foreign(case.life("success", lasts=600))
    task = Task(world, case.sensor(job, start_from_trigger=True, timeout=90_000))
    world.vendor.faults.add(Fault(kind="status", status=429, retry_after=3600, times=1))

    event = play(scheduled(task), (200.0, lambda: change(world)))

    assert event["status"] == "success"
    # One that needs no look of its own has the poller wait out the pause.
    assert world.elapsed() < 900 or not case.job_is_target
