"""As many jobs as asked for, in one of the ways of this package."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from airflow.sdk import DAG

# The other vendors and ways would only make each worker read a longer file.
VENDOR = os.environ["END_TO_END_VENDOR"]
WAY = os.environ["END_TO_END_WAY"]
INTERVAL = float(os.environ["END_TO_END_INTERVAL"])
TARGETS = json.loads(os.environ["END_TO_END_TARGETS"])
FIRST_JOB = int(os.environ["END_TO_END_FIRST_JOB"])


def operator(number: int, target: str) -> None:
    """Make the task that starts a job and waits for it."""
    how: dict[str, Any] = {
        "task_id": f"sync_{number}",
        "deferrable": True,
        "end_from_trigger": WAY == "ours_ended",
    }
    module = import_module(f"async_triggers.{VENDOR}.operators")
    match VENDOR:
        case "airbyte":
            module.AirbyteTriggerSyncOperator(
                connection_id=target, wait_seconds=INTERVAL, **how
            )
        case "fivetran":
            module.FivetranOperator(connector_id=target, poll_frequency=INTERVAL, **how)
        case "dbt_cloud":
            module.DbtCloudRunJobOperator(
                job_id=int(target), check_interval=INTERVAL, **how
            )


def sensor(number: int, target: str) -> None:
    """Make the task that waits for a job without ever being on a worker."""
    how: dict[str, Any] = {
        "task_id": f"sync_{number}",
        "deferrable": True,
        "poke_interval": INTERVAL,
        "start_from_trigger": True,
        "end_from_trigger": True,
    }
    module = import_module(f"async_triggers.{VENDOR}.sensors")
    match VENDOR:
        case "airbyte":
            module.AirbyteJobSensor(airbyte_job_id=FIRST_JOB + number, **how)
        case "fivetran":
            module.FivetranSensor(connector_id=target, **how)
        case "dbt_cloud":
            module.DbtCloudJobRunSensor(run_id=FIRST_JOB + number, **how)


with DAG(
    os.environ["END_TO_END_DAG"],
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_tasks=len(TARGETS) + 1,
):
    for each in enumerate(TARGETS):
        (sensor if WAY == "ours_sensors" else operator)(*each)
