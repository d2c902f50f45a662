"""A load by Airbyte, one by Fivetran, and a dbt run over both."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.fivetran.operators import FivetranOperator

for number in (1, 2):
    with DAG(
        dag_id=f"three_vendors_{number}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={
            "airbyte_conn_id": "three_airbyte",
            "fivetran_conn_id": "three_fivetran",
            "dbt_cloud_conn_id": "three_dbt_cloud",
        },
    ):
        airbyte = AirbyteTriggerSyncOperator(
            task_id="airbyte", connection_id=f"three-{number}", deferrable=True
        )
        fivetran = FivetranOperator(task_id="fivetran", connector_id=f"three_{number}")
        dbt = DbtCloudRunJobOperator(
            task_id="dbt", job_id=3000 + number, check_interval=5, deferrable=True
        )
        # Another branch, which keeps one of the two runs going while dbt has failed.
        slow = AirbyteTriggerSyncOperator(
            task_id="slow", connection_id=f"slow-{number}", deferrable=True
        )
        airbyte >> fivetran >> dbt
