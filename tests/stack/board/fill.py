"""Stores deferred tasks in an Airflow's database; run with that Airflow's environment.

Each line of the standard input is a list of tasks, and is answered when they are stored.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
from sqlalchemy import delete, insert

BUNDLE = "board"
_KEYS = ("dag_id", "task_id", "run_id", "map_index")


def fill(tasks: list[dict[str, Any]]) -> None:
    """Replace all deferred tasks by these.

    Each has ``dag``, ``task``, ``classpath`` and ``kwargs``, and may have ``run``,
    ``map_index``, ``state``, ``age`` in seconds, the ``link`` of its operator, and
    ``triggerer``: seconds since the last heartbeat of the one that has it.
    """
    now = datetime.now(tz=UTC)
    with create_session() as session:
        for table in (XComModel, TaskInstance, Trigger, DagRun, DagModel, Job):
            session.execute(delete(table))

        if session.get(DagBundleModel, BUNDLE) is None:
            session.add(DagBundleModel(name=BUNDLE))

        session.flush()
        for dag_id in sorted({task["dag"] for task in tasks}):
            session.add(
                DagModel(dag_id=dag_id, bundle_name=BUNDLE, is_stale=False, fileloc="x")
            )

        for dag_id, run_id in sorted({_run(task) for task in tasks}):
            session.add(
                DagRun(
                    dag_id=dag_id,
                    run_id=run_id,
                    run_type=DagRunType.MANUAL,
                    state=DagRunState.RUNNING,
                    start_date=now,
                )
            )

        session.flush()
        triggers = [
            Trigger(task["classpath"], task["kwargs"], created_date=_since(task, now))
            for task in tasks
        ]
        triggerers = {
            task["triggerer"]: Job(
                job_type="TriggererJob",
                state="running",
                hostname=f"triggerer-{task['triggerer']}",
                latest_heartbeat=now - timedelta(seconds=task["triggerer"]),
            )
            for task in tasks
            if "triggerer" in task
        }
        session.add_all(triggerers.values())
        session.flush()
        for task, trigger in zip(tasks, triggers, strict=True):
            if "triggerer" in task:
                trigger.triggerer_id = triggerers[task["triggerer"]].id

        session.add_all(triggers)
        session.flush()
        rows = [
            {
                "dag_id": task["dag"],
                "run_id": _run(task)[1],
                "task_id": task["task"],
                "map_index": task.get("map_index", -1),
                "state": task.get("state", "deferred"),
                "start_date": _since(task, now),
                "trigger_id": trigger.id,
                "try_number": 1,
                "max_tries": 0,
                "pool": "default_pool",
                "pool_slots": 1,
                "executor_config": {},
            }
            for task, trigger in zip(tasks, triggers, strict=True)
        ]
        if rows:
            session.execute(insert(TaskInstance), rows)

        runs = {(run.dag_id, run.run_id): run.id for run in session.query(DagRun)}
        for task, row in zip(tasks, rows, strict=True):
            if "link" in task:
                session.add(
                    XComModel(
                        **{name: row[name] for name in _KEYS},
                        dag_run_id=runs[row["dag_id"], row["run_id"]],
                        key="_link_AirbyteJobLink",
                        value=task["link"],
                    )
                )


def _run(task: dict[str, Any]) -> tuple[str, str]:
    return task["dag"], task.get("run", "manual__2026-11-29T08:00:00+00:00")


def _since(task: dict[str, Any], now: datetime) -> datetime:
    return now - timedelta(seconds=task.get("age", 60))


if __name__ == "__main__":
    for line in sys.stdin:
        fill(json.loads(line))
        print("filled", flush=True)  # noqa: T201 - the answer to who wrote the line
