"""What waits, from Airflow's database."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from sqlalchemy import and_, or_, select

from async_triggers.airbyte.links import AirbyteJobLink
from async_triggers.board.rows import PACKAGE, is_ours, read_waiting, web_address
from async_triggers.dbt_cloud.links import DbtCloudRunJobOperatorLink
from async_triggers.fivetran.links import FivetranConnectionLink

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

MOST_ROWS: Final = 10_000
"""Rows that the page shows at most, the oldest first."""
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
        )
        .join(Trigger, Trigger.id == TaskInstance.trigger_id)
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
    return {
        "now": time.time(),
        "is_cut": len(found) > MOST_ROWS,
        "rows": [
            row
            for each in found[:MOST_ROWS]
            if (
                row := _row(
                    *each, link=links.get((each[0], each[1], each[2], each[3]), "")
                )
            )
        ],
    }


def _links(
    session: Session, dag_ids: Collection[str]
) -> dict[tuple[str, str, str, int], str]:
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


def _row(
    dag_id: str,
    task_id: str,
    run_id: str,
    map_index: int,
    start_date: datetime | None,
    classpath: str,
    stored: str,
    created_date: datetime,
    *,
    link: str,
) -> dict[str, Any] | None:
    """Return a row of the page, None for a trigger that waits for something else."""
    arguments = _arguments(stored)
    if not is_ours(classpath, arguments):
        return None

    deferred_at = created_date.timestamp()
    waiting = read_waiting(classpath, arguments, since=deferred_at)
    mapped = "" if map_index == _NOT_MAPPED else f"/mapped/{map_index}"
    dag = f"dags/{quote(dag_id, safe='')}"
    task = f"runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}{mapped}"
    return {
        "vendor": waiting.vendor,
        "job": waiting.job,
        "url": waiting.url or link,
        "connection": waiting.conn_id,
        "is_started": waiting.is_started,
        "dag": dag_id,
        "dag_path": dag,
        "task": task_id if map_index == _NOT_MAPPED else f"{task_id} [{map_index}]",
        "task_path": f"{dag}/{task}",
        "run": run_id,
        "since": deferred_at if start_date is None else start_date.timestamp(),
        "deadline": waiting.deadline,
    }


def _arguments(stored: str) -> dict[str, Any]:
    """Return a trigger's arguments; none where they cannot be read, so that others are."""
    try:
        return Trigger._decrypt_kwargs(stored)  # noqa: SLF001 - as Trigger.kwargs does
    except Exception:  # noqa: BLE001 - another key, another release
        return {}
