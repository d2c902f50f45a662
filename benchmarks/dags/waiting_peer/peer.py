"""As many jobs as asked for, with the official providers."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib import import_module

from airflow.sdk import DAG

# The other vendors would only make each worker load more.
VENDOR = os.environ["END_TO_END_VENDOR"]
INTERVAL = float(os.environ["END_TO_END_INTERVAL"])
TARGETS = json.loads(os.environ["END_TO_END_TARGETS"])


def operator(number: int, target: str) -> None:
    """Make the task that starts a job and waits for it."""
    task_id = f"sync_{number}"
    match VENDOR:
        case "airbyte":
            module = import_module("airflow.providers.airbyte.operators.airbyte")
            module.AirbyteTriggerSyncOperator(
                task_id=task_id, connection_id=target, deferrable=True
            )
        case "fivetran":
            module = import_module("fivetran_provider_async.operators")
            module.FivetranOperator(
                task_id=task_id,
                connector_id=target,
                poll_frequency=int(INTERVAL),
                deferrable=True,
            )
        case "dbt_cloud":
            module = import_module("airflow.providers.dbt.cloud.operators.dbt")
            module.DbtCloudRunJobOperator(
                task_id=task_id,
                job_id=int(target),
                check_interval=int(INTERVAL),
                deferrable=True,
            )


with DAG(
    os.environ["END_TO_END_DAG"],
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_tasks=len(TARGETS) + 1,
):
    for each in enumerate(TARGETS):
        operator(*each)
