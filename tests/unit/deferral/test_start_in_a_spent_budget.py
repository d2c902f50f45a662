"""Starts while other processes have spent the budget that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from async_triggers.deferral import hook
from async_triggers.engine.shared_budget import PATIENCE
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import every_vendor

if TYPE_CHECKING:
    from tests.vendors import Entry as Case

WINDOW = 600.0


class Spent:
    """A store in which others have spent everything until ``until``."""

    def __init__(self, world: VendorWorld, until: float) -> None:
        self._world = world
        self._until = until

    async def take(self, key: str, most: int, seconds: int) -> float:
        if key.endswith(":polls"):
            return 0.0

        return max(0.0, self._until - self._world.now())

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("success"))
    return world


@every_vendor
def test_a_task_defers_until_there_may_be_a_budget(
    world: VendorWorld, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Spent(world, world.now() + WINDOW)
    monkeypatch.setattr(hook, "store_maker", lambda: lambda: store)
    task = Task(world, case.sync())

    waits = deferred(task.execute())
    assert world.starts == 0
    # Each of its few requests waits no longer than that.
    assert world.elapsed() <= 4 * (PATIENCE + 1.0)

    task.go_on(waits)
    assert world.starts == 1
    assert world.elapsed() >= WINDOW
