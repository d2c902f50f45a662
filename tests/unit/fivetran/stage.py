"""The world of a task whose vendor is Fivetran."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from async_triggers.fivetran.operators import FivetranOperator, FivetranResyncOperator
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.simulator import FivetranSimulator, SimRequest
from async_triggers.simulator.fivetran.rows import connection_row
from tests.unit.deferral import stage
from tests.unit.deferral.stage import World, make_world

if TYPE_CHECKING:
    import pytest

C = "connection_id"
HOUR = 3600.0
LIFE = "scheduled:5 syncing:60 succeeded"


class FivetranWorld(World):
    """A world with one connection, ``C``, that has synced before."""

    def __init__(self) -> None:
        super().__init__()
        self.fivetran = FivetranSimulator(clock=self.now)
        # What the wire leads to.
        self.airbyte = self.fivetran  # type: ignore[assignment]
        self.add(lives=[LIFE])
        self.connect(
            "fivetran_default",
            conn_type="Fivetran",
            login="simulator-key",
            password="simulator-secret",
        )

    def add(self, connection: str = C, **how: Any) -> None:
        """Add a connection, or replace it."""
        given = {"schema": "sheets.orders", "succeeded_ago": HOUR, **how}
        self.fivetran.add_connection(connection, **given)

    def shown(self, connection: str = C) -> dict[str, Any]:
        """Return what the API would show of a connection."""
        one = self.fivetran.connections[connection]
        self.fivetran.settle(one)
        return connection_row(self.fivetran, one, one.state)

    def times_asked(self, method: str, path: str = "") -> int:
        """Count the requests to a path below /v1, given by its end."""
        return sum(
            each.method == method and each.path.endswith(path) for each in self.requests
        )

    @property
    def facts(self) -> dict[str, int]:
        """What was noted besides starts and cancels."""
        return dict(self.fivetran.record.facts)


def make_fivetran_world(monkeypatch: pytest.MonkeyPatch) -> FivetranWorld:
    """Make a world and put it into the place of the real one."""
    monkeypatch.setattr(stage, "World", FivetranWorld)
    world = make_world(monkeypatch)
    assert isinstance(world, FivetranWorld)
    return world


def sync(**arguments: Any) -> Callable[[], FivetranOperator]:
    """Return a maker of one and the same operator, as each worker parses it."""
    given = {"task_id": "sync", "connector_id": C, **arguments}
    return lambda: FivetranOperator(**given)


def resync(**arguments: Any) -> Callable[[], FivetranResyncOperator]:
    """Return a maker of one and the same re-sync operator."""
    given = {"task_id": "sync", "connector_id": C, **arguments}
    return lambda: FivetranResyncOperator(**given)


def sensor(**arguments: Any) -> Callable[[], FivetranSensor]:
    """Return a maker of one and the same sensor."""
    given = {"task_id": "sync", "connector_id": C, **arguments}
    return lambda: FivetranSensor(**given)


def paths(world: World) -> list[str]:
    """Return what was asked."""
    return [f"{each.method} {each.path.removeprefix('/v1')}" for each in world.requests]


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> str:
    """Return what was logged."""
    return "\n".join(
        each.getMessage() for each in caplog.records if each.levelno >= level
    )


def sent(request: SimRequest) -> dict[str, Any]:
    """Return the body of a request."""
    return request.json_object()
