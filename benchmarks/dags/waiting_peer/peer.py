"""As many Airbyte syncs as asked for, with the official provider."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.airbyte.operators.airbyte import (
    AirbyteTriggerSyncOperator,
)
from airflow.sdk import DAG

TASKS = int(os.environ["END_TO_END_TASKS"])

with DAG(
    "peer",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_tasks=TASKS + 1,
):
    for number in range(TASKS):
        AirbyteTriggerSyncOperator(
            task_id=f"sync_{number}",
            connection_id=f"c{number}",
            deferrable=True,
            wait_seconds=5,
        )
