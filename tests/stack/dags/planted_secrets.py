"""Jobs of all vendors over connections with marked secrets, and every way to end."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.fivetran.operators import FivetranOperator

with DAG(
    dag_id="planted_secrets", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)
):
    for end in ("fails", "killed", "late"):
        AirbyteTriggerSyncOperator(
            task_id=f"airbyte_{end}",
            connection_id=end,
            airbyte_conn_id="planted_airbyte",
            deferrable=True,
            timeout=9 if end == "late" else 600,
        )

    for end in ("succeeds", "killed"):
        FivetranOperator(
            task_id=f"fivetran_{end}",
            connector_id=end,
            fivetran_conn_id="planted_fivetran",
            cancel_on_kill=True,
        )

    for number, end in enumerate(("fails", "late")):
        DbtCloudRunJobOperator(
            task_id=f"dbt_{end}",
            job_id=4711 + number,
            dbt_cloud_conn_id="planted_dbt",
            check_interval=5,
            deferrable=True,
            timeout=9 if end == "late" else 600,
        )

    # Credentials that the vendor does not accept, and repeats in its refusal.
    AirbyteTriggerSyncOperator(
        task_id="airbyte_wrong",
        connection_id="fails",
        airbyte_conn_id="planted_wrong",
        deferrable=True,
    )
    DbtCloudRunJobOperator(
        task_id="dbt_wrong",
        job_id=4711,
        account_id=4710,
        dbt_cloud_conn_id="planted_wrong_dbt",
        deferrable=True,
    )
