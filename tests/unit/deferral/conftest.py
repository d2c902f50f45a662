from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.deferral.stage import Task, World, make_world
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world

if TYPE_CHECKING:
    from tests.unit.deferral.vendors import Set
    from tests.vendors import Entry


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything around a task, on a virtual clock."""
    return make_world(monkeypatch)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Return what makes a world in which jobs take the lives that are named."""

    def set_it(case: Entry, *lives: str, **arguments: Any) -> tuple[VendorWorld, Task]:
        world = make_vendor_world(monkeypatch, case)
        world.add_target(*lives)
        return world, Task(world, case.sync(**arguments))

    return set_it
