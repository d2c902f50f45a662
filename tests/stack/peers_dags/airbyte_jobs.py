"""Syncs of Airbyte as users of its own provider write them: waited for, and not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator
from airflow.providers.airbyte.sensors.airbyte import AirbyteJobSensor
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG(
    dag_id="peers_airbyte",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    dagrun_timeout=timedelta(minutes=60),
    tags=["peers"],
    catchup=False,
):
    for end in ("succeeds", "fails"):
        waiting = AirbyteTriggerSyncOperator(
            task_id=f"sync_{end}", connection_id=f"waiting-{end}"
        )
        started = AirbyteTriggerSyncOperator(
            task_id=f"start_{end}", connection_id=f"started-{end}", asynchronous=True
        )
        waited_for = AirbyteJobSensor(
            task_id=f"wait_{end}", airbyte_job_id=started.output, poke_interval=2
        )
        [waiting, waited_for] >> EmptyOperator(task_id=f"report_{end}")
