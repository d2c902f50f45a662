"""Ten mapped dbt Cloud runs that wait on the triggerer together."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator

with DAG(
    dag_id="dbt_cloud_ten_runs",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md="One poller waits for ten runs; no worker slot is held meanwhile.",
):
    DbtCloudRunJobOperator.partial(
        task_id="run",
        dbt_cloud_conn_id="dbt_cloud_conn_example",
        deferrable=True,
        check_interval=5,
    ).expand(job_id=list(range(1001, 1011)))
