"""Runs tasks for dbt Cloud as a script, ours beside those of the official provider."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from airflow.providers.dbt.cloud.operators.dbt import (
    DbtCloudRunJobOperator as OfficialOperator,
)
from airflow.sdk import DAG

from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor

given = json.loads(os.environ["LINEAGE_GIVEN"])

with DAG(
    dag_id="shop",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"trigger_rule": "all_done"},
) as dag:
    common = {
        "job_id": given["job"],
        "check_interval": 1,
        "openlineage_inject_parent_job_info": True,
    }
    theirs = OfficialOperator(
        task_id="theirs", dbt_cloud_conn_id="official", trigger_reason="x", **common
    )
    deferred = DbtCloudRunJobOperator(
        task_id="deferred", deferrable=True, end_from_trigger=True, **common
    )
    waited = DbtCloudRunJobOperator(
        task_id="waited", deferrable=False, mark_cause=False, **common
    )
    started = DbtCloudRunJobOperator(
        task_id="started", job_id=given["slow"], wait_for_termination=False
    )
    watched = DbtCloudJobRunSensor(
        task_id="watched", run_id=started.output, deferrable=True
    )
    poked = DbtCloudJobRunSensor(
        task_id="poked", run_id=started.output, deferrable=False
    )
    failed = DbtCloudRunJobOperator(
        task_id="failed", job_id=given["failing"], deferrable=True, check_interval=1
    )
    theirs >> deferred >> waited >> started >> watched >> poked >> failed


if __name__ == "__main__":
    print(json.dumps({"state": str(dag.test().state)}))
