"""The page and the command line show what waits in a whole Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import Run
    from async_triggers.demo.deployment import Deployment

TASKS = ("airbyte", "fivetran", "dbt")
PLUGINS = {each.name for each in entry_points(group="airflow.plugins")}


@pytest.fixture(scope="module")
def waiting(sqlite_deployment: Deployment) -> Iterator[Run]:
    """A run whose three tasks have deferred, for jobs that never end."""
    api = sqlite_deployment.api
    with SimulatorThread() as simulator:
        for name, value in connection_variables(simulator).items():
            vendor = name.removeprefix("AIRFLOW_CONN_").removesuffix("_DEFAULT").lower()
            api.add_connection(f"waits_{vendor}", **json.loads(value))

        simulator.airbyte.add_connection("waits", lives=["running"])
        simulator.fivetran.add_connection("waits", lives=["syncing"])
        simulator.dbt_cloud.add_job(41, lives=["running"])
        run = api.trigger_run("what_waits")
        for task in TASKS:
            api.wait_for(run, task, "deferred", timeout=240)

        yield run
        api.set_run_state(run, "failed")


def command(deployment: Deployment, *words: str) -> tuple[int, Any]:
    """Run the command line with an Airflow's environment; return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "async_triggers", *words, "--json"],
        env=deployment.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.skipif(
    "async_triggers" not in PLUGINS,
    reason="the installed package is older than the page: install it again",
)
def test_the_page_shows_tasks_that_wait(
    sqlite_deployment: Deployment, waiting: Run
) -> None:
    url = sqlite_deployment.url
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        token = client.get("/auth/token").json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        answer = client.get("/async-triggers/jobs").json()

    rows = {row["task"]: row for row in answer["rows"] if row["run"] == waiting.run_id}
    assert {task: row["vendor"] for task, row in rows.items()} == {
        "airbyte": "Airbyte",
        "fivetran": "Fivetran",
        "dbt": "dbt Cloud",
    }
    assert all(row["job"] for row in rows.values())
    assert all(row["url"].startswith("http") for row in rows.values())
    assert {row["connection"] for row in rows.values()} == {
        "waits_airbyte",
        "waits_fivetran",
        "waits_dbt_cloud",
    }
    assert 0 < rows["dbt"]["deadline"] - answer["now"] <= 3600


def test_the_command_line_lists_them_with_their_addresses(
    sqlite_deployment: Deployment, waiting: Run
) -> None:
    code, found = command(
        sqlite_deployment,
        *("jobs", "--url", sqlite_deployment.url, "--dag", "what_waits", "--links"),
    )

    assert code == 0
    assert {each["task"] for each in found} == {*TASKS}
    assert all(each["url"].startswith("http") for each in found)
    assert all(each["waited"] for each in found)


def test_a_check_finds_the_connections_in_the_database(
    sqlite_deployment: Deployment, waiting: Run
) -> None:
    _, report = command(sqlite_deployment, "check")

    sections = {each["name"]: each for each in report["sections"]}
    for vendor in ("airbyte", "fivetran", "dbt_cloud"):
        assert sections[f"waits_{vendor}"]["worst"] in {"ok", "note"}

    capacity = sections["triggerer"]["findings"][1]
    assert "5,000 tasks" in capacity["text"]


def test_ids_are_listed_through_a_connection_of_the_database(
    sqlite_deployment: Deployment, waiting: Run
) -> None:
    code, found = command(sqlite_deployment, "list", "connections", "waits_fivetran")

    assert code == 0
    assert [each["id"] for each in found] == ["waits"]
