"""Defers every task of a DAG on a trigger, in Airflow's database and without a worker.

``python -m benchmarks.deferred DAG_ID floor|ours`` runs in the environment of an Airflow
whose DAG has a run in which no task has begun.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from async_triggers.airbyte.triggers import AirbyteSyncTrigger

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


def make_trigger(side: str, number: int) -> BaseTrigger:
    """Return a trigger that waits for a day, or for an Airbyte job with this id."""
    if side == "floor":
        return DateTimeTrigger(moment=datetime.now(UTC) + timedelta(days=1))
    return AirbyteSyncTrigger(number, "airbyte_default", None, 5.0, owned=True)


def main(dag_id: str, side: str) -> None:
    """Defer the tasks; they wait for jobs 1, 2, 3 and so on."""
    with create_session() as session:
        tasks = session.scalars(
            select(TaskInstance).where(TaskInstance.dag_id == dag_id)
        )
        for number, task in enumerate(tasks.all(), start=1):
            row = Trigger.from_object(make_trigger(side, number))
            session.add(row)
            session.flush()
            task.trigger_id = row.id
            task.state = TaskInstanceState.DEFERRED
            task.try_number = 1


if __name__ == "__main__":
    main(*sys.argv[1:])
