"""One DAG for each vendor and way to wait; a run's ``conf`` names what it starts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor

TARGET = "{{ dag_run.conf['target'] }}"
JOB = "{{ dag_run.conf['job'] }}"
TIMEOUT = 25
# A crash of a worker takes an attempt, as a failed job does.
RETRIES = 12


def operator(vendor: str, **arguments: Any) -> None:
    """Make the task of one vendor."""
    task: dict[str, Any] = {"task_id": "job", **arguments}
    if vendor == "airbyte":
        AirbyteTriggerSyncOperator(connection_id=TARGET, wait_seconds=5, **task)
    elif vendor == "fivetran":
        FivetranOperator(connector_id=TARGET, poll_frequency=5, **task)
    else:
        DbtCloudRunJobOperator(job_id=TARGET, check_interval=5, **task)


def sensor(vendor: str, **arguments: Any) -> None:
    """Make the sensor of one vendor."""
    task: dict[str, Any] = {
        "task_id": "job",
        "deferrable": True,
        "poke_interval": 5,
        **arguments,
    }
    if vendor == "airbyte":
        AirbyteJobSensor(airbyte_job_id=JOB, **task)
    elif vendor == "fivetran":
        FivetranSensor(
            connector_id=TARGET,
            completed_after_time="{{ dag_run.conf['after'] }}",
            **task,
        )
    else:
        DbtCloudJobRunSensor(run_id=JOB, **task)


for name in ("airbyte", "fivetran", "dbt_cloud"):
    often = {"retries": RETRIES, "retry_delay": timedelta(seconds=2)}
    runs: dict[str, Any] = {"max_active_runs": 5000}
    with DAG(f"chaos_{name}_deferred", schedule=None, **runs):
        operator(name, deferrable=True, **often)
    with DAG(f"chaos_{name}_worker", schedule=None, **runs):
        operator(name, deferrable=False, **often)
    with DAG(f"chaos_{name}_sensor", schedule=None, **runs):
        sensor(name, **often)
    with DAG(f"chaos_{name}_timeout", schedule=None, **runs):
        limit = {} if name == "fivetran" else {"timeout": TIMEOUT}
        operator(name, deferrable=True, **limit, **often)
    with DAG(f"chaos_{name}_frail", schedule=None, **runs):
        operator(name, deferrable=True, **(often | {"retries": 2}))
