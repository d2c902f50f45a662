"""Fixtures to test your DAGs against simulated vendors.

Opt in with ``pytest_plugins = ["async_triggers.simulator.pytest_plugin"]`` in the
``conftest.py`` at the top of your tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import Simulator, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def vendor_simulator_process() -> Iterator[Simulator]:
    """The simulator that serves the whole test session on free ports."""
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def vendor_simulator(vendor_simulator_process: Simulator) -> Simulator:
    """A running simulator, as good as new for each test."""
    vendor_simulator_process.reset()
    return vendor_simulator_process


@pytest.fixture
def vendor_simulator_connections(vendor_simulator: Simulator) -> dict[str, str]:
    """The simulator's connections as ``AIRFLOW_CONN_*`` variables, by name.

    Give them to ``monkeypatch.setenv`` or to the environment of a process.
    """
    return connection_variables(vendor_simulator)
