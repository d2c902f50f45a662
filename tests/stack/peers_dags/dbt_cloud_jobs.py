"""dbt Cloud as users of Airflow's provider write it: every operator and sensor of it."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.dbt.cloud.operators.dbt import (
    DbtCloudGetJobRunArtifactOperator,
    DbtCloudListJobRunsOperator,
    DbtCloudListJobsOperator,
    DbtCloudRunJobOperator,
)
from airflow.providers.dbt.cloud.sensors.dbt import DbtCloudJobRunSensor
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Label

ACCOUNT, OTHER_ACCOUNT = 4101, 4102
OTHER_PROJECT, OTHER_JOB = 5102, 6102

with DAG(
    dag_id="peers_dbt_cloud",
    default_args={"dbt_cloud_conn_id": "dbt", "account_id": ACCOUNT},
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    schedule=None,
    catchup=False,
):
    begin = EmptyOperator(task_id="begin")

    for end, job_id in (("succeeds", 6001), ("fails", 6002)):
        run = DbtCloudRunJobOperator(
            task_id=f"run_{end}", job_id=job_id, check_interval=3, timeout=300
        )
        artifact = DbtCloudGetJobRunArtifactOperator(
            task_id=f"artifact_{end}", run_id=run.output, path="run_results.json"
        )
        started = DbtCloudRunJobOperator(
            task_id=f"start_{end}",
            # Runs of one job would wait for one another.
            job_id=job_id + 10,
            wait_for_termination=False,
            additional_run_config={"threads_override": 8},
        )
        waited_for = DbtCloudJobRunSensor(
            task_id=f"wait_{end}", run_id=started.output, timeout=60, poke_interval=2
        )
        deferred = DbtCloudJobRunSensor(
            task_id=f"defer_{end}", run_id=started.output, timeout=60, deferrable=True
        )
        named = DbtCloudRunJobOperator(
            task_id=f"named_{end}",
            project_name="Shop",
            environment_name="Production",
            job_name=f"Nightly that {end}",
            check_interval=3,
            timeout=300,
        )
        begin >> Label("No async wait") >> run
        begin >> Label("Async wait with sensors") >> started
        report = EmptyOperator(task_id=f"report_{end}")
        [artifact, waited_for, deferred, named] >> report

    DbtCloudListJobsOperator(
        task_id="list_jobs", account_id=OTHER_ACCOUNT, project_id=OTHER_PROJECT
    )
    DbtCloudListJobRunsOperator(
        task_id="list_job_runs", account_id=OTHER_ACCOUNT, job_id=OTHER_JOB
    )
