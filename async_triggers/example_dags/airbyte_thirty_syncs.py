"""Thirty mapped syncs that wait on the triggerer together."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator

with DAG(
    dag_id="airbyte_thirty_syncs",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md="One poller waits for thirty syncs; no worker slot is held meanwhile.",
):
    AirbyteTriggerSyncOperator.partial(
        task_id="sync",
        airbyte_conn_id="airbyte_conn_example",
        deferrable=True,
        wait_seconds=3,
    ).expand(connection_id=[f"demo-sync-{number:02}" for number in range(1, 31)])
