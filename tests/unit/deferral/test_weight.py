"""What a trigger that waits weighs: thousands of them wait in one process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from async_triggers.deferral import hook
from async_triggers.engine.accounts import shared_accounts
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

MANY = 200
MOST = 16
"""Objects for each that waits, which the garbage collector has to walk over each time."""
MOST_AT_FIRST = 15
"""The same while the connection is looked up."""


async def weigh(begin: Callable[[int], asyncio.Task[Any]]) -> tuple[float, int]:
    """Return how many objects each that waits adds, and how many have come to a poller."""
    # What the first one brings along stays out of it.
    tasks = [begin(1)]
    await asyncio.sleep(0.5)
    gc.collect()
    before = len(gc.get_objects())
    tasks += [begin(number) for number in range(2, MANY + 2)]
    await asyncio.sleep(0.5)
    gc.collect()
    after = len(gc.get_objects())

    waiters = sum(each.poller.statistics().waiters for each in shared_accounts())
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()

    await asyncio.gather(*tasks, return_exceptions=True)
    return (after - before) / MANY, waiters


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    return make_vendor_world(monkeypatch, case)


@pytest.fixture
def begin(world: VendorWorld, case: Case) -> Callable[[int], asyncio.Task[Any]]:
    """Begin a trigger with a deadline of its own."""

    def begun(number: int) -> asyncio.Task[Any]:
        trigger: Any = case.trigger(
            f"c{number}" if case.job_is_target else number,
            f"{case.name}_default",
            mark="~~~1",
            interval=60.0,
            end_time=world.now() + 3600.0 + number,
            seen_at=1.0,
        )
        return asyncio.get_running_loop().create_task(anext(trigger.run()))

    return begun


@every_vendor
def test_a_waiting_trigger_is_few_objects(
    begin: Callable[[int], asyncio.Task[Any]],
) -> None:
    objects, waiters = asyncio.run(weigh(begin))
    assert waiters == MANY + 1
    assert objects <= MOST


@every_vendor
def test_a_trigger_that_waits_for_its_connection_is_few_objects(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[[int], asyncio.Task[Any]]
) -> None:
    # Those that begin together wait for one look-up, while ever more begin.
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(hook, "in_thread", never)

    objects, waiters = asyncio.run(weigh(begin))
    assert not waiters
    assert objects <= MOST_AT_FIRST
