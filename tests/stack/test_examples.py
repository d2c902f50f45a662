"""DAGs written for other providers, of which only the imports have changed.

The wheels of those providers leave their example DAGs out. The DAGs in ``peers_dags`` use
what those use: every operator, every sensor, every argument. Each task is to end in the
state in which it ends with the provider that it was written for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from async_triggers.cli import main
from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.connections import connection_variables

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import Run

HERE = Path(__file__).parent
WRITTEN = HERE / "peers_dags"
TEMPLATE = HERE.parents[1] / ".airflow"
PATIENCE = 240

ACCOUNT, OTHER_ACCOUNT = 4101, 4102
PROJECT, OTHER_PROJECT = 5101, 5102
ENVIRONMENT = 5201
JOBS = {"succeeds": (6001, 6011, 6021), "fails": (6002, 6012, 6022)}
OTHER_JOB = 6102

VARIABLES = {
    "ads_connector_id": "ads",
    "succeeds_id": "whole",
    "fails_id": "broken",
    "started_succeeds_id": "started_whole",
    "started_fails_id": "started_broken",
    "resync_id": "resynced",
    "scoped_id": "scoped",
    "connector_name": "shop.orders",
    "destination_name": "Warehouse",
}

FIVETRAN = ["named", *(one for name, one in VARIABLES.items() if name.endswith("_id"))]

EXPECTED = {
    # What takes longest begins first.
    "peers_fivetran_ads": {
        "ads-sync": "success",
        "ads-sensor": "success",
        "branch": "success",
        "train": "skipped",
        "predict": "success",
    },
    "peers_airbyte": {
        "sync_succeeds": "success",
        "start_succeeds": "success",
        "wait_succeeds": "success",
        "report_succeeds": "success",
        "sync_fails": "failed",
        "start_fails": "success",
        "wait_fails": "failed",
        "report_fails": "upstream_failed",
    },
    "peers_dbt_cloud": {
        "begin": "success",
        "run_succeeds": "success",
        "artifact_succeeds": "success",
        "start_succeeds": "success",
        "wait_succeeds": "success",
        "defer_succeeds": "success",
        "named_succeeds": "success",
        "report_succeeds": "success",
        "run_fails": "failed",
        "artifact_fails": "upstream_failed",
        "start_fails": "success",
        "wait_fails": "failed",
        "defer_fails": "failed",
        "named_fails": "failed",
        "report_fails": "upstream_failed",
        "list_jobs": "success",
        "list_job_runs": "success",
    },
    "peers_fivetran_sync": {
        "sync_succeeds": "success",
        "report_succeeds": "success",
        "sync_fails": "failed",
        "report_fails": "upstream_failed",
    },
    "peers_fivetran_xcom": {
        "start_succeeds": "success",
        "between_succeeds": "success",
        "wait_succeeds": "success",
        "start_fails": "success",
        "between_fails": "success",
        "wait_fails": "failed",
    },
    "peers_fivetran_resync": {"resync_all": "success", "resync_scoped": "success"},
    "peers_fivetran_by_name": {"sync": "success"},
}


class Stage(NamedTuple):
    """An Airflow that has the migrated DAGs, and the vendors that they use."""

    deployment: Deployment
    vendors: Simulator


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Migrate the DAGs, and start an Airflow with the connections that they name."""
    dags = tmp_path / "migrated"
    shutil.copytree(WRITTEN, dags, ignore=shutil.ignore_patterns("__pycache__"))
    assert main(["migrate", str(dags), "--write"]) == 0

    with SimulatorThread() as vendors:
        arrange(vendors)
        with Deployment(
            tmp_path / "airflow",
            dags=[dags],
            env=environment(vendors),
            # The sooner a worker reports that a task is deferred, the sooner may it resume.
            config={"workers": {"min_heartbeat_interval": "1"}},
            template=TEMPLATE,
            parallelism=6,
        ) as deployment:
            yield Stage(deployment, vendors)


def arrange(vendors: Simulator) -> None:
    """Have all that the DAGs name."""
    airbyte, dbt_cloud, fivetran = vendors.airbyte, vendors.dbt_cloud, vendors.fivetran
    for end, state in (("succeeds", "succeeded"), ("fails", "failed")):
        for name in ("waiting", "started"):
            life = f"pending:1 running:4 {state}"
            airbyte.add_connection(f"{name}-{end}", lives=[life])

    dbt_cloud.add_account(ACCOUNT)
    dbt_cloud.add_project(PROJECT, name="Shop", account_id=ACCOUNT)
    dbt_cloud.add_environment(ENVIRONMENT, project_id=PROJECT, name="Production")
    for end, job_ids in JOBS.items():
        state = "success" if end == "succeeds" else "error"
        for job_id in job_ids:
            dbt_cloud.add_job(
                job_id,
                name=f"Nightly that {end}" if job_id == job_ids[-1] else None,
                project_id=PROJECT,
                environment_id=ENVIRONMENT,
                lives=[f"queued:1 running:5 {state}"],
            )
    dbt_cloud.add_project(OTHER_PROJECT, name="Other", account_id=OTHER_ACCOUNT)
    dbt_cloud.add_job(OTHER_JOB, project_id=OTHER_PROJECT)
    dbt_cloud.add_run(OTHER_JOB, "running:1 success", age=3600)

    fivetran.add_group("warehouse", name="Warehouse")
    for one in FIVETRAN:
        state = "failed" if one.endswith("broken") else "succeeded"
        fivetran.add_connection(
            one,
            group_id="warehouse",
            schema="shop.orders" if one == "named" else one,
            schedule_type="auto",
            succeeded_ago=3600,
            lives=[f"syncing:4 {state}"],
        )


def environment(vendors: Simulator) -> dict[str, str]:
    """Return the connections and variables of the DAGs."""
    found = connection_variables(vendors)
    found["AIRFLOW_CONN_DBT"] = found.pop("AIRFLOW_CONN_DBT_CLOUD_DEFAULT")
    fivetran = json.loads(found["AIRFLOW_CONN_FIVETRAN_DEFAULT"])
    # As the other provider's connections have it.
    found["AIRFLOW_CONN_FIVETRAN_DEFAULT"] = json.dumps(
        {**fivetran, "conn_type": "Fivetran"}
    )
    for name, value in VARIABLES.items():
        found[f"AIRFLOW_VAR_{name.upper()}"] = value
    return found


def run_all(stage: Stage) -> dict[str, Run]:
    """Run all DAGs at the same time, until each has ended."""
    api = stage.deployment.api
    runs = {dag_id: api.trigger_run(dag_id) for dag_id in EXPECTED}
    ads = runs["peers_fivetran_ads"]
    api.wait_for(ads, "ads-sensor", "deferred", timeout=PATIENCE)
    # The sensor waits for a sync that no task starts.
    stage.vendors.fivetran.start_sync("ads")
    for run in runs.values():
        api.wait_for_run(run, timeout=PATIENCE)
    return runs


@pytest.mark.timeout(2 * PATIENCE)
def test_each_task_ends_as_with_the_provider_that_it_was_written_for(
    stage: Stage,
) -> None:
    runs = run_all(stage)

    api, vendors = stage.deployment.api, stage.vendors
    assert {
        dag_id: {ti.task_id: ti.state for ti in api.task_instances(run)}
        for dag_id, run in runs.items()
    } == EXPECTED
    assert set(vendors.airbyte.record.starts.values()) == {1}
    assert vendors.dbt_cloud.record.starts == {
        str(job_id): 1 for job_ids in JOBS.values() for job_id in job_ids
    }
    assert vendors.fivetran.record.starts == dict.fromkeys(FIVETRAN, 1)
    dbt_cloud = runs["peers_dbt_cloud"]
    assert api.xcom(dbt_cloud, "list_jobs") == [OTHER_JOB]
    (listed,) = api.xcom(dbt_cloud, "list_job_runs")
    assert listed["account_id"] == OTHER_ACCOUNT
    written = stage.deployment.home / api.xcom(dbt_cloud, "artifact_succeeds")
    results = json.loads(written.read_text())["results"]
    assert {each["status"] for each in results} == {"success"}
