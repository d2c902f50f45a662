from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from async_triggers.deferral import compat
from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.connections import connection_variables
from tests.runner.harness import Triggerer, a_triggerer, are_closed
from tests.vendors import OTHERS, VENDORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    with SimulatorThread(others=OTHERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(
    simulator_process: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Simulator:
    """The vendor, and an Airflow connection to it."""
    # One that the test before has just closed would count in this one.
    are_closed(simulator_process)
    simulator_process.reset()
    simulator_process.airbyte.add_connection("c")
    for name, value in connection_variables(simulator_process).items():
        monkeypatch.setenv(name, value)

    return simulator_process


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rounds come and events go sooner than they may in earnest."""
    for entry in VENDORS:
        monkeypatch.setattr(type(entry.vendor), "grid_floor", 0.3)

    monkeypatch.setattr(compat, "earliest_event", lambda: 0.0)


@pytest_asyncio.fixture
async def triggerer(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Triggerer]:
    async with a_triggerer(monkeypatch) as triggerer:
        yield triggerer
