"""DAGs of this package's operators and sensors; as a script, it runs them whole.

What they name comes from the environment, since Airflow reads this file by itself too.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import (
    DbtCloudGetJobRunArtifactOperator,
    DbtCloudListJobsOperator,
    DbtCloudRunJobOperator,
)
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.fivetran.operators import FivetranOperator, FivetranResyncOperator
from async_triggers.fivetran.sensors import FivetranSensor

if TYPE_CHECKING:
    from collections.abc import Callable


def airbyte(given: dict[str, Any]) -> None:
    connection = given["connection"]
    synced = AirbyteTriggerSyncOperator(
        task_id="deferred", connection_id=connection, deferrable=True
    )
    watched = AirbyteJobSensor(
        task_id="watched", airbyte_job_id=synced.output, deferrable=True
    )
    waited = AirbyteTriggerSyncOperator(
        task_id="waited", connection_id=connection, asynchronous=False, wait_seconds=1
    )
    synced >> watched >> waited


def airbyte_cancelled(given: dict[str, Any]) -> None:
    AirbyteTriggerSyncOperator(
        task_id="cancelled",
        connection_id=given["endless"],
        deferrable=False,
        timeout=3,
        wait_seconds=1,
    )


def fivetran(given: dict[str, Any]) -> None:
    synced = FivetranOperator(task_id="synced", connector_id=given["connection"])
    resynced = FivetranResyncOperator(
        task_id="resynced",
        connector_name=given["schema"],
        destination_name=given["group_name"],
        scope={"sales": ["orders"]},
    )
    watched = FivetranSensor(
        task_id="watched",
        connector_id=given["connection"],
        completed_after_time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    synced >> resynced >> watched


def dbt_cloud(given: dict[str, Any]) -> None:
    run = DbtCloudRunJobOperator(
        task_id="run", job_id=given["job"], deferrable=True, check_interval=1
    )
    watched = DbtCloudJobRunSensor(
        task_id="watched", run_id=run.output, deferrable=True
    )
    named = DbtCloudRunJobOperator(
        task_id="named",
        project_name="Simulated project",
        environment_name="Production",
        job_name="Nightly build",
        steps_override=["dbt build"],
        check_interval=1,
    )
    artifact = DbtCloudGetJobRunArtifactOperator(
        task_id="artifact", run_id=run.output, path="run_results.json"
    )
    run >> watched >> named >> artifact >> DbtCloudListJobsOperator(task_id="jobs")


def dbt_cloud_failed(given: dict[str, Any]) -> None:
    DbtCloudRunJobOperator(
        task_id="failed", job_id=given["failing"], deferrable=True, check_interval=1
    )


def dbt_cloud_cancelled(given: dict[str, Any]) -> None:
    DbtCloudRunJobOperator(
        task_id="cancelled",
        job_id=given["endless"],
        deferrable=False,
        timeout=3,
        check_interval=1,
    )


DAGS: dict[str, dict[Callable[[dict[str, Any]], None], str]] = {
    "airbyte": {airbyte: "success", airbyte_cancelled: "failed"},
    "fivetran": {fivetran: "success"},
    "dbt_cloud": {
        dbt_cloud: "success",
        dbt_cloud_failed: "failed",
        dbt_cloud_cancelled: "failed",
    },
}


GIVEN: dict[str, Any] = json.loads(os.environ["CONFORMANCE_GIVEN"])
VENDOR = os.environ["CONFORMANCE_VENDOR"]
built = {}

for build in DAGS[VENDOR]:
    with DAG(
        dag_id=build.__name__,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"execution_timeout": timedelta(minutes=2)},
    ) as dag:
        build(GIVEN)
    built[build.__name__] = dag


if __name__ == "__main__":
    for (name, dag), state in zip(built.items(), DAGS[VENDOR].values(), strict=True):
        # It ends as the table above says, or the lines of its log say why not.
        print(
            json.dumps({"dag": name, "state": str(dag.test().state), "wanted": state})
        )
