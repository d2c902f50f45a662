"""The two DAGs of Airbyte's own Airflow tutorial, and the same sync deferrable.

https://docs.airbyte.com/operator-guides/using-the-airflow-airbyte-operator: the tasks and
their arguments are the tutorial's; the imports and Airflow 3's spellings are not.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor

START = datetime(2026, 1, 1, tzinfo=UTC)

with DAG(
    dag_id="airbyte_synchronous",
    default_args={"owner": "airflow"},
    schedule=None,
    start_date=START,
    doc_md="Starts a sync and waits for it on the worker.",
):
    money_to_json = AirbyteTriggerSyncOperator(
        task_id="airbyte_money_json_example",
        airbyte_conn_id="airbyte_conn_example",
        connection_id="demo-synchronous",
        asynchronous=False,
        timeout=360,
        wait_seconds=5,
    )

with DAG(
    dag_id="airbyte_asynchronous",
    default_args={"owner": "airflow"},
    schedule=None,
    start_date=START,
    doc_md="Starts a sync, hands its id on, and lets a sensor wait for it.",
):
    async_money_to_json = AirbyteTriggerSyncOperator(
        task_id="airbyte_async_money_json_example",
        airbyte_conn_id="airbyte_conn_example",
        connection_id="demo-asynchronous",
        asynchronous=True,
    )

    airbyte_sensor = AirbyteJobSensor(
        task_id="airbyte_sensor",
        airbyte_conn_id="airbyte_conn_example",
        airbyte_job_id=async_money_to_json.output,
        poke_interval=5,
    )

    async_money_to_json >> airbyte_sensor

with DAG(
    dag_id="airbyte_deferrable",
    schedule=None,
    start_date=START,
    doc_md="Starts a sync and waits for it on the triggerer, without a worker slot.",
):
    AirbyteTriggerSyncOperator(
        task_id="sync",
        airbyte_conn_id="airbyte_conn_example",
        connection_id="demo-deferrable",
        deferrable=True,
    )
