"""As many tasks as there are jobs, which only defer until the time at which one ends."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, BaseOperator

from benchmarks.whole.sleeper import Sleeper

LENGTHS = json.loads(os.environ["END_TO_END_LENGTHS"])


class Floor(BaseOperator):
    """Defers for some seconds, and returns."""

    def __init__(self, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context: Any) -> None:
        """Defer."""
        self.defer(
            trigger=Sleeper(time.time() + self.seconds), method_name="execute_complete"
        )

    def execute_complete(self, context: Any, event: Any = None) -> None:
        """Return."""


with DAG(
    os.environ["END_TO_END_DAG"],
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_tasks=len(LENGTHS) + 1,
):
    for number, length in enumerate(LENGTHS):
        Floor(task_id=f"wait_{number}", seconds=length)
