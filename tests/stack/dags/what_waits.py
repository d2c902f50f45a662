"""One task for each vendor, all of which wait at the same time."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.fivetran.operators import FivetranOperator

with DAG(
    dag_id="what_waits", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)
):
    AirbyteTriggerSyncOperator(
        task_id="airbyte",
        airbyte_conn_id="waits_airbyte",
        connection_id="waits",
        deferrable=True,
    )
    FivetranOperator(
        task_id="fivetran",
        fivetran_conn_id="waits_fivetran",
        connector_id="waits",
    )
    DbtCloudRunJobOperator(
        task_id="dbt",
        dbt_cloud_conn_id="waits_dbt_cloud",
        job_id=41,
        timeout=3600,
        deferrable=True,
    )
