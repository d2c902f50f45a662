"""What a trigger that waits weighs: thousands of them wait in one process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.engine.accounts import leased_accounts
from async_triggers.fivetran.triggers import FivetranTrigger
from tests.unit.deferral.vendors import Case, every_vendor, make_vendor_world

if TYPE_CHECKING:
    import pytest

MANY = 200
MOST = 16
"""Objects for each that waits, which the garbage collector has to walk over each time."""

TRIGGERS: dict[str, Callable[[int, float], Any]] = {
    "airbyte": lambda number, ends: AirbyteSyncTrigger(
        number, "airbyte_default", ends, 60.0, seen_at=1.0
    ),
    "fivetran": lambda number, ends: FivetranTrigger(
        "sync", f"c{number}", "fivetran_default", baseline="~~~1", end_time=ends
    ),
    "dbt_cloud": lambda number, ends: DbtCloudRunJobTrigger(
        "dbt_cloud_default", number, ends, 60.0, 70403103916001
    ),
}


@every_vendor
def test_a_waiting_trigger_is_few_objects(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = make_vendor_world(monkeypatch, case)

    async def count() -> float:
        def begin(number: int) -> asyncio.Task[Any]:
            # Deadlines of their own.
            trigger = TRIGGERS[case.name](number, world.now() + 3600.0 + number)
            return asyncio.get_running_loop().create_task(anext(trigger.run()))

        # What the first one brings along stays out of it.
        tasks = [begin(1)]
        await asyncio.sleep(0.5)
        gc.collect()
        before = len(gc.get_objects())
        tasks += [begin(number) for number in range(2, MANY + 2)]
        await asyncio.sleep(0.5)
        gc.collect()
        after = len(gc.get_objects())

        (leased,) = leased_accounts()
        assert leased.poller.statistics().waiters == MANY + 1
        for task in tasks:
            task.cancel()

        await asyncio.gather(*tasks, return_exceptions=True)
        return (after - before) / MANY

    assert asyncio.run(count()) <= MOST
