"""Tasks that hardly see a worker: their triggers start and end them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor

LONG_AGO = "2020-01-01T00:00:00Z"


def conns(name: str) -> dict[str, str]:
    """Return the Airflow connections that a test has made."""
    vendors = ("airbyte", "fivetran", "dbt_cloud")
    return {f"{vendor}_conn_id": f"{name}_{vendor}" for vendor in vendors}


def operators(**switches: Any) -> tuple[Any, ...]:
    """Return one task of each vendor."""
    return (
        AirbyteTriggerSyncOperator(
            task_id="airbyte", connection_id="orders", deferrable=True, **switches
        ),
        FivetranOperator(task_id="fivetran", connector_id="orders", **switches),
        DbtCloudRunJobOperator(
            task_id="dbt", job_id=3001, check_interval=5, deferrable=True, **switches
        ),
    )


with DAG(
    "without_workers",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"poke_interval": 5, **conns("without")},
):
    both = {"start_in_trigger": True, "end_from_trigger": True}
    first: dict[str, Any] = {"start_from_trigger": True, "end_from_trigger": True}
    airbyte, fivetran, dbt = operators(**both)
    AirbyteJobSensor(
        task_id="wait_airbyte", airbyte_job_id=airbyte.output, deferrable=True, **first
    )
    fivetran >> FivetranSensor(
        task_id="wait_fivetran",
        connector_id="orders",
        completed_after_time=LONG_AGO,
        **first,
    )
    dbt >> DbtCloudJobRunSensor(
        task_id="wait_dbt",
        run_id="{{ ti.xcom_pull('dbt') }}",
        deferrable=True,
        **first,
    )
    mapped = AirbyteTriggerSyncOperator.partial(
        task_id="mapped", deferrable=True, **both
    ).expand(connection_id=["mapped-0", "mapped-1"])
    AirbyteJobSensor.partial(
        task_id="wait_mapped", deferrable=True, poke_interval=5, **first
    ).expand(airbyte_job_id=mapped.output)

with DAG(
    "without_workers_retried",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"retries": 1, "retry_delay": timedelta(0), **conns("retried")},
):
    operators(end_from_trigger=True)

with DAG(
    "without_workers_cut_off",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args=conns("cut_off"),
):
    operators(start_in_trigger=True)

with DAG(
    "without_workers_cleared",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args=conns("cleared"),
):
    operators(start_in_trigger=True)
