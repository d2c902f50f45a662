"""``async-triggers jobs``: which tasks wait for jobs of a vendor."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from async_triggers.commands.requirement import WHOLE_PACKAGE, needs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from async_triggers.commands.airflow_rest import AirflowRest

_PACKAGE: Final = "async_triggers."
_NO_VENDOR: Final = "deferral"
_OPERATORS: Final = {
    "Airbyte": "airbyte",
    "Fivetran": "fivetran",
    "DbtCloud": "dbt_cloud",
}
"""How the names of each vendor's operators and sensors begin."""
_NOT_MAPPED: Final = -1
_DEFAULT_URL: Final = "http://localhost:8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTask:
    """A deferred task of this package. ``since`` is an ISO time, ``url`` the job's.

    ``vendor`` is empty where neither the trigger nor the operator shows it.
    """

    vendor: str
    dag_id: str
    task: str
    run_id: str
    since: str
    waited: str
    triggerer: str
    url: str = ""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "jobs",
        help="list the tasks that wait for jobs, the oldest first",
        description=(
            "List the deferred tasks that wait for a vendor's job, the oldest first, from"
            " Airflow's REST API. AIRFLOW_API_TOKEN holds a token of Airflow, or"
            " AIRFLOW_API_USER and AIRFLOW_API_PASSWORD a user's name and password."
        ),
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("AIRFLOW_API_URL", _DEFAULT_URL),
        help="Airflow's address; else AIRFLOW_API_URL (%(default)s)",
    )
    parser.add_argument("--dag", default="", metavar="DAG_ID", help="only this DAG's")
    parser.add_argument(
        "--links",
        action="store_true",
        help="show the jobs' addresses too: one request more for each task",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """List, print, and return the exit code."""
    with needs(WHOLE_PACKAGE):
        from async_triggers.commands import table
        from async_triggers.commands.airflow_rest import (
            AirflowRefusedError,
            AirflowRest,
        )

    airflow = AirflowRest(
        chosen.url,
        token=os.environ.get("AIRFLOW_API_TOKEN", ""),
        user=os.environ.get("AIRFLOW_API_USER", ""),
        password=os.environ.get("AIRFLOW_API_PASSWORD", ""),
    )
    try:
        found = [*waiting_tasks(airflow, chosen.dag, with_links=chosen.links)]
    except AirflowRefusedError as error:
        print(f"async-triggers jobs: {error}", file=sys.stderr)
        return 2
    finally:
        airflow.close()

    rows = [asdict(each) for each in sorted(found, key=lambda each: each.since)]
    if not chosen.links:
        for row in rows:
            del row["url"]

    if chosen.json:
        print(table.as_json(rows))
    elif rows:
        print(table.as_columns(rows))
    else:
        print("No task waits for a job.", file=sys.stderr)

    return 0


def waiting_tasks(
    airflow: AirflowRest, dag_id: str = "", *, with_links: bool = False
) -> Iterator[WaitingTask]:
    """Yield the deferred tasks of this package, of one DAG or of all."""
    dag = quote(dag_id or "~", safe="~")
    path = f"/dags/{dag}/dagRuns/~/taskInstances"
    query = {"state": "deferred", "order_by": "id"}
    now = datetime.now(tz=UTC)
    for row in airflow.rows(path, "task_instances", query):
        trigger = row.get("trigger") or {}
        classpath = str(trigger.get("classpath") or "")
        if classpath.startswith(_PACKAGE):
            url = _job_url(airflow, row) if with_links else ""
            yield _waiting(row, classpath, now=now, url=url)


def _waiting(
    row: dict[str, Any], classpath: str, *, now: datetime, url: str
) -> WaitingTask:
    trigger = row["trigger"]
    since = str(row.get("start_date") or trigger.get("created_date") or "")
    index = row["map_index"]
    return WaitingTask(
        vendor=_vendor(classpath, str(row.get("operator") or "")),
        dag_id=row["dag_id"],
        task=row["task_id"] if index == _NOT_MAPPED else f"{row['task_id']}[{index}]",
        run_id=row["dag_run_id"],
        since=since,
        waited=waited(since, now),
        triggerer=str((row.get("triggerer_job") or {}).get("hostname") or "none"),
        url=url,
    )


def _vendor(classpath: str, operator: str) -> str:
    """Return whose job a trigger waits for, or is about to start.

    The triggers that start jobs are of no vendor, and Airflow shows no arguments.
    """
    found = classpath.removeprefix(_PACKAGE).partition(".")[0]
    if found != _NO_VENDOR:
        return found

    names = (name for prefix, name in _OPERATORS.items() if operator.startswith(prefix))
    return next(names, "")


def waited(since: str, now: datetime) -> str:
    """Return how long ago an ISO time was, in words; empty where it is none."""
    try:
        seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    except (ValueError, TypeError):
        return ""

    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"

    if hours:
        return f"{hours} h {minutes} min"

    return f"{minutes} min" if minutes else f"{seconds} s"


def _job_url(airflow: AirflowRest, row: dict[str, Any]) -> str:
    """Return the first address that the task's operator shows of its job."""
    run = f"/dags/{quote(row['dag_id'])}/dagRuns/{quote(row['dag_run_id'])}"
    path = f"{run}/taskInstances/{quote(row['task_id'])}/links"
    answer = airflow.get(path, {"map_index": row["map_index"]})
    links = (answer.get("extra_links") or {}).values()
    return next((link for link in links if isinstance(link, str) and link), "")
