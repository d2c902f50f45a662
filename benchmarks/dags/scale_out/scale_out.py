"""Many sensors of Airbyte jobs that never see a worker, fifty to a DAG."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG

from async_triggers.airbyte.sensors import AirbyteJobSensor

JOBS = int(os.environ["SCALE_OUT_JOBS"])
EACH = 50

for first in range(0, JOBS, EACH):
    with DAG(
        f"scale_out_{first // EACH}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_tasks=EACH,
    ):
        for number in range(first, min(first + EACH, JOBS)):
            AirbyteJobSensor(
                task_id=f"wait_{number}",
                airbyte_job_id=number + 1,
                deferrable=True,
                poke_interval=5,
                start_from_trigger=True,
                end_from_trigger=True,
            )
