from __future__ import annotations

import subprocess
import sys

# All that an installation without Airflow has beside the standard library.
SIMULATES = """
import sys

class OnlyAiohttp:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "airflow", "httpx", "orjson", "pydantic", "requests", "rich", "slugify",
            "sqlalchemy", "tenacity", "yaml",
        }:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyAiohttp())

import json
import urllib.request
from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables

def call(method, url, body=None, **headers):
    request = urllib.request.Request(
        url, method=method, headers=headers, data=body and json.dumps(body).encode()
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)

with SimulatorThread() as simulator:
    assert len(connection_variables(simulator)) == 3
    connection = simulator.airbyte.add_connection()
    started = call(
        "POST",
        simulator.airbyte_url + "/v1/jobs",
        {"connectionId": connection, "jobType": "sync"},
        Authorization="Bearer simulator-token",
    )
    assert started["status"] == "pending", started
    run = simulator.dbt_cloud.add_run(simulator.dbt_cloud.add_job())
    account = simulator.dbt_cloud.settings.account_id
    found = call(
        "GET",
        f"{simulator.dbt_cloud_url}/api/v2/accounts/{account}/runs/{run}/",
        Authorization="Token simulator-token",
    )
    assert found["data"]["id"] == run
    known = call("GET", simulator.fivetran_url + "/_simulator/jobs")
    assert known == []
print("simulated with", *sorted(m for m in sys.modules if m in {"aiohttp", "airflow"}))
"""


def test_the_simulator_runs_with_aiohttp_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIMULATES],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.stdout == "simulated with aiohttp\n", done.stderr
