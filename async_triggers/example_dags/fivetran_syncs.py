"""Fivetran: a sync that defers, and the pair of a start and a sensor."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor

START = datetime(2026, 1, 1, tzinfo=UTC)

with DAG(
    dag_id="fivetran_deferrable",
    schedule=None,
    start_date=START,
    doc_md="Starts a sync and waits for it on the triggerer.",
):
    FivetranOperator(
        task_id="sync",
        fivetran_conn_id="fivetran_conn_example",
        connector_id="demo_deferrable",
    )

with DAG(
    dag_id="fivetran_with_sensor",
    schedule=None,
    start_date=START,
    doc_md="Starts a sync, hands on what the connection had done before, and lets a"
    " sensor wait for anything later than that.",
):
    start = FivetranOperator(
        task_id="start",
        fivetran_conn_id="fivetran_conn_example",
        connector_id="demo_pair",
        wait_for_completion=False,
    )
    wait = FivetranSensor(
        task_id="wait",
        fivetran_conn_id="fivetran_conn_example",
        connector_id="demo_pair",
        completed_after_time="{{ task_instance.xcom_pull('start', key='return_value') }}",
        poke_interval=15,
    )
    start >> wait

with DAG(
    dag_id="fivetran_ten_syncs",
    schedule=None,
    start_date=START,
    doc_md="One poller waits for ten syncs; no worker slot is held meanwhile.",
):
    FivetranOperator.partial(
        task_id="sync", fivetran_conn_id="fivetran_conn_example"
    ).expand(connector_id=[f"demo_sync_{number:02}" for number in range(1, 11)])
