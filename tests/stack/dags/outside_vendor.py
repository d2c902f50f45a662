"""Crossings of Ferry, the vendor of another package, which hardly see a worker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG
from ferry_provider.operators import FerryOperator
from ferry_provider.sensors import FerrySensor

with DAG(
    "outside_vendor",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"poke_interval": 5, "poll_interval": 5, "deferrable": True},
):
    ends: dict[str, Any] = {"end_from_trigger": True}
    cross = FerryOperator(
        task_id="cross", route="dover-calais", start_in_trigger=True, **ends
    )
    FerryOperator(task_id="stopped", route="oslo-kiel", start_in_trigger=True, **ends)
    FerryOperator(task_id="on_a_worker", route="turku-visby", deferrable=False)
    FerrySensor(task_id="wait", job_id=cross.output, start_from_trigger=True, **ends)
    FerrySensor(task_id="watch", job_id=1, start_from_trigger=True, **ends)
