"""A task for each vendor and wrong address, each with a connection of its own."""

from __future__ import annotations

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.fivetran.operators import FivetranOperator

with DAG("first_contact", schedule=None):
    for wrong in ("name", "port", "tls", "page"):
        AirbyteTriggerSyncOperator(
            task_id=f"{wrong}_airbyte",
            airbyte_conn_id=f"{wrong}_airbyte",
            connection_id="c1",
            deferrable=True,
        )
        FivetranOperator(
            task_id=f"{wrong}_fivetran",
            fivetran_conn_id=f"{wrong}_fivetran",
            connector_id="c1",
        )
        DbtCloudRunJobOperator(
            task_id=f"{wrong}_dbt_cloud",
            dbt_cloud_conn_id=f"{wrong}_dbt_cloud",
            job_id=501,
            deferrable=True,
        )
