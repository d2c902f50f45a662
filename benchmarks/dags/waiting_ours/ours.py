"""As many Airbyte syncs as asked for, in one of three ways of this package."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor

TASKS = int(os.environ["END_TO_END_TASKS"])
START = datetime(2026, 1, 1, tzinfo=UTC)
HOW: dict[str, Any] = {"start_date": START, "max_active_tasks": TASKS + 1}

# The others would only make each worker read a longer file.
WAY = os.environ["END_TO_END_WAY"]

if WAY in {"ours", "ours_ended"}:
    with DAG(WAY, schedule=None, **HOW):
        for number in range(TASKS):
            AirbyteTriggerSyncOperator(
                task_id=f"sync_{number}",
                connection_id=f"c{number}",
                deferrable=True,
                wait_seconds=5,
                end_from_trigger=WAY == "ours_ended",
            )

else:
    with DAG(WAY, schedule=None, **HOW):
        for number in range(TASKS):
            AirbyteJobSensor(
                task_id=f"wait_{number}",
                airbyte_job_id=number + 1,
                deferrable=True,
                poke_interval=5,
                start_from_trigger=True,
                end_from_trigger=True,
            )
