"""The DAG of dbt Labs' guide to Airflow and dbt Cloud, deferrable.

https://docs.getdbt.com/guides/airflow-and-dbt-cloud: the task's arguments are the guide's;
the import and Airflow 3's spellings are not. The connection may be without an account id,
since the tasks name it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator

ACCOUNT_ID = 70403103916001
JOB_ID = 70403103950001

with DAG(
    dag_id="dbt_cloud_guide",
    default_args={
        "dbt_cloud_conn_id": "dbt_cloud_conn_example",
        "account_id": ACCOUNT_ID,
    },
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md="Runs a job of dbt Cloud and waits for it on the triggerer.",
):
    DbtCloudRunJobOperator(
        task_id="trigger_dbt_cloud_job_run",
        job_id=JOB_ID,
        check_interval=10,
        timeout=300,
        deferrable=True,
    )
