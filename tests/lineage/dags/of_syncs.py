"""Runs tasks for Airbyte and Fivetran as a script."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor, FivetranSyncSensor

given = json.loads(os.environ["LINEAGE_GIVEN"])

with DAG(
    dag_id="syncs",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"trigger_rule": "all_done", "poke_interval": 1},
) as dag:
    airbyte_deferred = AirbyteTriggerSyncOperator(
        task_id="airbyte_deferred",
        connection_id=given["airbyte"],
        deferrable=True,
        wait_seconds=1,
    )
    airbyte_waited = AirbyteTriggerSyncOperator(
        task_id="airbyte_waited",
        connection_id=given["airbyte"],
        deferrable=False,
        wait_seconds=1,
    )
    airbyte_started = AirbyteTriggerSyncOperator(
        task_id="airbyte_started", connection_id=given["slow"], asynchronous=True
    )
    airbyte_watched = AirbyteJobSensor(
        task_id="airbyte_watched",
        airbyte_job_id=airbyte_started.output,
        deferrable=True,
    )
    airbyte_poked = AirbyteJobSensor(
        task_id="airbyte_poked",
        airbyte_job_id=airbyte_started.output,
        deferrable=False,
    )
    airbyte_failed = AirbyteTriggerSyncOperator(
        task_id="airbyte_failed",
        connection_id=given["failing"],
        deferrable=True,
        wait_seconds=1,
    )
    fivetran_deferred = FivetranOperator(
        task_id="fivetran_deferred",
        connector_id=given["fivetran"],
        deferrable=True,
        poll_frequency=1,
    )
    fivetran_waited = FivetranOperator(
        task_id="fivetran_waited",
        connector_id=given["fivetran"],
        deferrable=False,
        poll_frequency=1,
    )
    # Each waits for the sync of the one before it, by the time of its end.
    past = datetime(2026, 1, 1, tzinfo=UTC)
    fivetran_watched = FivetranSensor(
        task_id="fivetran_watched",
        connector_name="shop",
        destination_name="Warehouse",
        completed_after_time=past,
        deferrable=True,
    )
    fivetran_poked = FivetranSyncSensor(
        task_id="fivetran_poked",
        connector_id=given["fivetran"],
        completed_after_time=past,
        deferrable=False,
    )
    (
        airbyte_deferred
        >> airbyte_waited
        >> airbyte_started
        >> airbyte_watched
        >> airbyte_poked
        >> airbyte_failed
        >> fivetran_deferred
        >> fivetran_waited
        >> fivetran_watched
        >> fivetran_poked
    )


if __name__ == "__main__":
    print(json.dumps({"state": str(dag.test().state)}))
