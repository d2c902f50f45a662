"""Three vendors in a row, where the last one fails and is cleared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.connections import connection_variables

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import Run
    from async_triggers.demo.deployment import Deployment

PATIENCE = 600


@pytest.fixture
def vendors(sqlite_deployment: Deployment) -> Iterator[Simulator]:
    """Simulated vendors, and the Airflow connections that lead to them."""
    with SimulatorThread() as simulator:
        variables = connection_variables(simulator)
        for vendor in ("airbyte", "fivetran", "dbt_cloud"):
            fields = json.loads(variables[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"])
            sqlite_deployment.api.add_connection(f"three_{vendor}", **fields)

        for number in (1, 2):
            simulator.airbyte.add_connection(
                f"three-{number}", lives=["running:9 succeeded"]
            )
            simulator.airbyte.add_connection(
                f"slow-{number}",
                lives=["running" if number == 1 else "running:9 succeeded"],
            )
            simulator.fivetran.add_connection(
                f"three_{number}", lives=["syncing:9 succeeded"]
            )
            simulator.dbt_cloud.add_job(
                3000 + number, lives=["running:9 error", "running:9 success"]
            )

        yield simulator


def _starts(vendors: Simulator, number: int) -> tuple[int, int, int]:
    return (
        vendors.airbyte.record.starts[f"three-{number}"],
        vendors.fivetran.record.starts[f"three_{number}"],
        vendors.dbt_cloud.record.starts[str(3000 + number)],
    )


@pytest.mark.timeout(1500)
def test_a_cleared_dbt_task_reruns_just_itself(
    sqlite_deployment: Deployment, vendors: Simulator
) -> None:
    """Clear the failed dbt task, in a running and in a finished run: starts 1, 1, 2."""
    api = sqlite_deployment.api
    runs: dict[int, Run] = {
        number: api.trigger_run(f"three_vendors_{number}") for number in (1, 2)
    }
    for run in runs.values():
        api.wait_for(run, "dbt", "failed", timeout=PATIENCE)

    assert api.run_state(runs[1]) == "running"
    api.wait_for_run(runs[2], "failed", timeout=PATIENCE)
    log = api.log(runs[1], "dbt")
    assert "model.shop.orders" in log
    assert "simulator-token" not in log

    for run in runs.values():
        api.clear(run, ["dbt"], reset_dag_runs=True)

    for run in runs.values():
        api.wait_for(run, "dbt", "success", timeout=PATIENCE)

    (slow,) = vendors.airbyte.jobs()
    vendors.airbyte.finish(slow.job, "succeeded")
    for run in runs.values():
        api.wait_for_run(run, "success", timeout=PATIENCE)

    assert _starts(vendors, 1) == (1, 1, 2)
    assert _starts(vendors, 2) == (1, 1, 2)
    assert not vendors.airbyte.record.cancels
    assert not vendors.dbt_cloud.record.cancels
    for vendor, key in (
        ("airbyte", "airbyte_job"),
        ("fivetran", "fivetran_sync"),
        ("dbt", "dbt_cloud_run"),
    ):
        assert api.xcom(runs[1], vendor, key=key)
