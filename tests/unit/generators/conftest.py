from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from async_triggers.generators.cache import Cache
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import Simulator, SimulatorThread
from tests.unit.generators.stage import FakeDbt, make_project


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """The cache that every look-up of the test uses."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__GENERATORS_CACHE", str(folder))
    return Cache(folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A dbt project beside the YAML files."""
    return make_project(tmp_path / "transform")


@pytest.fixture
def dbt(tmp_path: Path, project: Path) -> FakeDbt:
    """A dbt in a virtualenv, that lists one table."""
    fake = FakeDbt(tmp_path / "venv")
    fake.says("RAW.shop.orders")
    return fake


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Both vendors, each with a connection that loads ``RAW.shop.orders``."""
    with SimulatorThread() as simulator:
        for name, value in connection_variables(simulator).items():
            monkeypatch.setenv(name, value)
        simulator.fivetran.add_group("wh", name="Warehouse", config={"database": "raw"})
        simulator.fivetran.add_connection(
            "f1", group_id="wh", schema="shop", tables={"shop": ["orders"]}
        )
        simulator.airbyte.add_source("s", name="Shop")
        simulator.airbyte.add_destination(
            "d", name="Warehouse", configuration={"database": "raw", "schema": "shop"}
        )
        simulator.airbyte.add_connection(
            "a1", source_id="s", destination_id="d", streams=["orders"]
        )
        yield simulator
