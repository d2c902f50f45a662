"""Many Airbyte syncs that start at once, and some that were waited for before them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator

STARTS = int(os.environ["STORM_STARTS"])
BEFORE = int(os.environ["STORM_BEFORE"])
POOL = os.environ["STORM_POOL"]
HOW: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "max_active_tasks": STARTS + BEFORE,
    # A worker that Airflow loses sight of on a busy machine costs an attempt.
    "default_args": {"retries": 3, "retry_delay": timedelta(0)},
}
SYNC: dict[str, Any] = {
    "task_id": "sync",
    "deferrable": True,
    "wait_seconds": 5,
    # Five hundred workers more, to resume them, would measure the machine.
    "end_from_trigger": True,
}

with DAG("before", schedule=None, **HOW):
    AirbyteTriggerSyncOperator.partial(**SYNC).expand(
        connection_id=[f"before-{number}" for number in range(BEFORE)]
    )

with DAG("storm", schedule=None, **HOW):
    AirbyteTriggerSyncOperator.partial(pool=POOL, **SYNC).expand(
        connection_id=[f"storm-{number}" for number in range(STARTS)]
    )
