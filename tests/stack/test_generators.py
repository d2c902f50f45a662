from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import Simulator, SimulatorThread
from tests.stack.conftest import DAG_FOLDER

if TYPE_CHECKING:
    from async_triggers.demo.deployment import Deployment

GROUP = "extract_and_load"
TASKS = {
    f"{GROUP}.warehouse-shop-trigger",
    f"{GROUP}.warehouse-ads-trigger",
    f"{GROUP}.warehouse-ads-sensor",
    f"{GROUP}.people-warehouse",
    "transform",
}
YAML = "generated.yml"


@pytest.fixture
def vendors(sqlite_deployment: Deployment) -> Iterator[Simulator]:
    """The connections that load the sources, and others; Airflow knows the way."""
    with SimulatorThread() as simulator:
        fivetran, airbyte = simulator.fivetran, simulator.airbyte
        # Longer than a worker may take to tell of a deferral.
        life = "scheduled:1 syncing:20 succeeded"
        fivetran.add_group("wh", name="Warehouse", config={"database": "RAW"})
        for schema, table in (("shop", "orders"), ("ads", "clicks"), ("x", "other")):
            fivetran.add_connection(
                schema,
                group_id="wh",
                schema=schema,
                tables={schema: [table]},
                lives=[life],
            )
        airbyte.add_source("s", name="People")
        airbyte.add_destination(
            "d", name="Warehouse", configuration={"database": "RAW", "schema": "crm"}
        )
        airbyte.add_connection(
            "people",
            source_id="s",
            destination_id="d",
            prefix="pg_",
            streams=["people"],
            lives=["pending:1 running:20 succeeded"],
        )
        api = sqlite_deployment.api
        variables = connection_variables(simulator)
        for vendor in ("fivetran", "airbyte"):
            fields = json.loads(variables[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"])
            api.add_connection(f"generated_{vendor}", **fields)
        # It was read before the connections were there; a file that changes is read again.
        (DAG_FOLDER / "generated.py").touch()
        yield simulator
        for vendor in ("fivetran", "airbyte"):
            api.delete_connection(f"generated_{vendor}")


def test_the_tasks_of_a_yaml_file_run_to_the_end(
    sqlite_deployment: Deployment, vendors: Simulator
) -> None:
    api = sqlite_deployment.api

    run = api.trigger_run("stack_generated")
    state = api.wait_for_run(run, timeout=200)

    assert state == "success"
    assert {ti.task_id for ti in api.task_instances(run)} == TASKS
    assert vendors.fivetran.record.starts == {"shop": 1, "ads": 1}
    assert vendors.airbyte.record.starts == {"people": 1}
    # The DAG processor has read the file since then, and every task once or twice: none of
    # them has requested anything again.
    assert vendors.fivetran.record.requests["GET /v1/groups"] == 1
    schemas = "GET /v1/connections/{connection_id}/schemas"
    assert vendors.fivetran.record.requests[schemas] == 3
    assert vendors.airbyte.record.requests["GET /sources"] == 2

    # A person who has nothing but Airflow's configuration finds the connections too.
    file = str(Path(__file__).with_name("dags") / YAML)
    shown = sqlite_deployment.python(
        "-m", "async_triggers.cli", "generate", "--dry-run", file
    )
    assert "warehouse-shop-trigger <- Warehouse.shop (shop)" in shown.stdout
    assert "poke_intervall: unknown key" in shown.stderr
    assert vendors.fivetran.record.requests["GET /v1/groups"] == 1


def test_a_dag_that_cannot_be_built_takes_no_other_with_it(
    sqlite_deployment: Deployment, vendors: Simulator
) -> None:
    api = sqlite_deployment.api

    api.wait_until(
        lambda: any(file.endswith(YAML) for file in api.import_errors()),
        what="the import error of the YAML file",
        timeout=600,
    )
    api.wait_until(
        lambda: "poke_intervall" in api.import_errors().get(YAML, ""),
        what="the error to name the key alone, once the connections are known",
        timeout=600,
        instead=lambda: str(api.import_errors()),
    )

    errors = api.import_errors()
    assert (
        "generated.yml:40: stack_generated_broken.tasks.load.poke_intervall"
        in (errors[YAML])
    )
    assert "generated.py" not in errors
    api.wait_for_dag("stack_generated")
    shown = api.request("GET", "/dags/stack_generated")
    assert shown["has_import_errors"] is False
    assert shown["is_stale"] is False
