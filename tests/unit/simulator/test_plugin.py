from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator

pytest_plugins = ["async_triggers.simulator.pytest_plugin"]


@pytest.mark.parametrize("turn", [1, 2])
def test_the_simulator_is_as_good_as_new_for_each_test(
    vendor_simulator: Simulator, turn: int
) -> None:
    assert vendor_simulator.airbyte.record.total == 0
    assert vendor_simulator.airbyte.connections == {}
    vendor_simulator.airbyte.add_connection("c")
    with urllib.request.urlopen(
        f"{vendor_simulator.airbyte_url}/v1/health", timeout=5
    ) as reply:
        assert reply.status == 200
    assert vendor_simulator.airbyte.record.requests == {"GET /health": 1}


def test_connections_lead_to_the_simulator(
    vendor_simulator: Simulator, vendor_simulator_connections: dict[str, str]
) -> None:
    found = {
        name: json.loads(value) for name, value in vendor_simulator_connections.items()
    }
    assert {name: one["conn_type"] for name, one in found.items()} == {
        "AIRFLOW_CONN_AIRBYTE_DEFAULT": "airbyte",
        "AIRFLOW_CONN_FIVETRAN_DEFAULT": "fivetran",
        "AIRFLOW_CONN_DBT_CLOUD_DEFAULT": "dbt_cloud",
    }
    hosts = [one["host"] for one in found.values()]
    assert hosts == [
        vendor_simulator.airbyte_url + "/api/public/v1",
        vendor_simulator.fivetran_url,
        vendor_simulator.dbt_cloud_url,
    ]
