"""What waits, from Airflow's database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.jobs.job import Job
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from sqlalchemy import and_, or_, select

from async_triggers.airbyte.links import AirbyteJobLink
from async_triggers.board.rows import PACKAGE, is_ours, read_waiting, web_address
from async_triggers.dbt_cloud.links import DbtCloudRunJobOperatorLink
from async_triggers.deferral.compat import conf
from async_triggers.fivetran.links import FivetranConnectionLink

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

MOST_ROWS: Final = 10_000
"""Rows that the page shows at most, the oldest first."""
HEALTHY: Final = 30.0
"""Seconds without a heartbeat after which Airflow gives a triggerer's tasks to another."""
_NOT_MAPPED: Final = -1
_LINK_KEYS: Final = [
    link().xcom_key
    for link in (AirbyteJobLink, FivetranConnectionLink, DbtCloudRunJobOperatorLink)
]


def waiting_tasks(session: Session, dag_ids: Collection[str]) -> dict[str, Any]:
    """Return the deferred tasks of these DAGs that wait for a vendor's job, as JSON.

    ``now`` is the server's time in epoch seconds, ``is_cut`` says that there are more.
    """
    found = session.execute(
        select(
            TaskInstance.dag_id,
            TaskInstance.task_id,
            TaskInstance.run_id,
            TaskInstance.map_index,
            TaskInstance.start_date,
            Trigger.classpath,
            Trigger.encrypted_kwargs,
            Trigger.created_date,
            Job.hostname,
            Job.latest_heartbeat,
        )
        .join(Trigger, Trigger.id == TaskInstance.trigger_id)
        .outerjoin(Job, Job.id == Trigger.triggerer_id)
        .where(
            TaskInstance.state == "deferred",
            TaskInstance.dag_id.in_(dag_ids),
            # The rest is decided by what is stored, which takes the time to decrypt it.
            or_(
                Trigger.classpath.startswith(PACKAGE, autoescape=True),
                ~Trigger.classpath.startswith("airflow."),
            ),
        )
        .order_by(TaskInstance.start_date, TaskInstance.id)
        .limit(MOST_ROWS + 1)
    ).all()
    links = _links(session, dag_ids)
    now = time.time()
    oldest = now - conf.getfloat(
        "triggerer", "triggerer_health_check_threshold", fallback=HEALTHY
    )
    return {
        "now": now,
        "is_cut": len(found) > MOST_ROWS,
        "rows": [
            row
            for each in found[:MOST_ROWS]
            if (row := _row(each, link=links.get(tuple(each[:4]), ""), oldest=oldest))
        ],
    }


def _links(session: Session, dag_ids: Collection[str]) -> dict[tuple[object, ...], str]:
    """Return the addresses that the workers stored of jobs, by DAG, task, run and index.

    Not every vendor's trigger knows its own.
    """
    found = session.execute(
        select(
            XComModel.dag_id,
            XComModel.task_id,
            XComModel.run_id,
            XComModel.map_index,
            XComModel.value,
        )
        .join(
            TaskInstance,
            and_(
                TaskInstance.dag_id == XComModel.dag_id,
                TaskInstance.task_id == XComModel.task_id,
                TaskInstance.run_id == XComModel.run_id,
                TaskInstance.map_index == XComModel.map_index,
            ),
        )
        .where(
            TaskInstance.state == "deferred",
            TaskInstance.dag_id.in_(dag_ids),
            XComModel.key.in_(_LINK_KEYS),
        )
    )
    return {
        (dag_id, task_id, run_id, map_index): web_address(value)
        for dag_id, task_id, run_id, map_index, value in found
    }


def _row(stored: Any, *, link: str, oldest: float) -> dict[str, Any] | None:
    """Return a row of the page, None for a trigger that waits for something else.

    A triggerer whose heartbeat is older than ``oldest`` is not alive.
    """
    arguments = _arguments(stored.encrypted_kwargs)
    if not is_ours(stored.classpath, arguments):
        return None

    deferred_at = stored.created_date.timestamp()
    waiting = read_waiting(stored.classpath, arguments, since=deferred_at)
    is_mapped = stored.map_index != _NOT_MAPPED
    mapped = f"/mapped/{stored.map_index}" if is_mapped else ""
    dag = f"dags/{quote(stored.dag_id, safe='')}"
    run, task_id = quote(stored.run_id, safe=""), quote(stored.task_id, safe="")
    began, heartbeat = stored.start_date, stored.latest_heartbeat
    alive_at = None if heartbeat is None else heartbeat.timestamp()
    return {
        "vendor": waiting.vendor,
        "job": waiting.job,
        "url": waiting.url or link,
        "connection": waiting.conn_id,
        "is_started": waiting.is_started,
        "dag": stored.dag_id,
        "dag_path": dag,
        "task": f"{stored.task_id} [{stored.map_index}]"
        if is_mapped
        else stored.task_id,
        "task_path": f"{dag}/runs/{run}/tasks/{task_id}{mapped}",
        "run": stored.run_id,
        "triggerer": stored.hostname or "",
        "alive_at": alive_at,
        "is_alive": alive_at is not None and alive_at >= oldest,
        "since": deferred_at if began is None else began.timestamp(),
        "deadline": waiting.deadline,
    }


def _arguments(stored: str) -> dict[str, Any]:
    """Return a trigger's arguments; none where they cannot be read, so that others are."""
    try:
        return Trigger._decrypt_kwargs(stored)  # noqa: SLF001 - as Trigger.kwargs does
    except Exception:  # noqa: BLE001 - another key, another release
        return {}
