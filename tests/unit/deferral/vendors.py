"""Every vendor on the stage of one task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.unit.deferral import stage
from tests.unit.deferral.stage import Task, World, make_world

if TYPE_CHECKING:
    import pytest

    from tests.vendors import Entry as Case


class VendorWorld(World):
    """A world with any vendor in it; ``airbyte`` is its part of the simulator."""

    case: Case

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.vendor: Any = case.simulator(clock=self.now)
        # What the wire leads to.
        self.airbyte = self.vendor
        self.connect(
            f"{case.name}_default",
            conn_type=case.name,
            host="http://localhost:8000",
            **case.connection,
        )

    def add_target(self, *lives: str) -> None:
        """Add what the operator starts jobs of; each job takes the next life."""
        self.case.add_target(self.vendor, self.case.target, *lives)

    def add_foreign(self, life: str) -> Any:
        """Begin a job of somebody else; return what a sensor calls it."""
        return self.case.add_job(self.vendor, self.case.target, life)


Set = Callable[..., tuple[VendorWorld, Task]]
"""Takes an entry, the lives of its jobs and the arguments of its operator."""


def make_vendor_world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    """Make a world and put it into the place of the real one."""
    monkeypatch.setattr(stage, "World", lambda: VendorWorld(case))
    world = make_world(monkeypatch)
    assert isinstance(world, VendorWorld)
    return world
