"""What people write in their DAGs, in a whole Airflow: all runs go on at once."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.airflow_api import AirflowApi, Run
    from async_triggers.demo.deployment import Deployment
    from async_triggers.simulator import Simulator

PATIENCE = 220
DAGS = ("users_override", "users_soften", "users_map", "users_mail")
STEPS = ["dbt run --select model_1", "dbt run --select model_2"]


@dataclass(frozen=True, slots=True)
class Stage:
    """The runs of all DAGs, and their vendors."""

    api: AirflowApi
    vendors: Simulator
    runs: dict[str, Run]

    def end(self, dag_id: str) -> Run:
        """Wait until the run of a DAG has ended; return it."""
        run = self.runs[dag_id]
        self.api.wait_until(
            lambda: self.api.run_state(run) in {"success", "failed"} or None,
            what=f"{dag_id} to end",
            timeout=PATIENCE,
            instead=lambda: str(self.api.task_instances(run)),
        )
        return run

    def state(self, run: Run, task: str) -> str | None:
        """Return the state of a task."""
        return self.api.task_instance(run, task).state


def _connect(api: AirflowApi, vendors: Simulator) -> None:
    variables = connection_variables(vendors)
    for vendor in ("airbyte", "fivetran", "dbt_cloud"):
        fields: dict[str, Any] = json.loads(
            variables[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"]
        )
        api.add_connection(f"users_{vendor}", **fields)
        if vendor == "airbyte":
            api.add_connection("users_rejected", **{**fields, "password": "wrong"})


@pytest.fixture(scope="module")
def stage(sqlite_deployment: Deployment) -> Iterator[Stage]:
    api = sqlite_deployment.api
    with ExitStack() as closing:
        vendors = closing.enter_context(SimulatorThread())
        _connect(api, vendors)
        vendors.airbyte.add_connection("orders", lives=["running:12 succeeded"])
        vendors.airbyte.add_connection("foreign")
        for connection in ("failing", "failing-too"):
            vendors.airbyte.add_connection(connection, lives=["running:12 failed"])

        for connector in ("orders", "foreign"):
            vendors.fivetran.add_connection(connector, lives=["syncing:12 succeeded"])

        for job in (3001, 3002, 3003, 3004, 3005):
            vendors.dbt_cloud.add_job(job, lives=["running:12 success"])

        for dag_id in DAGS:
            api.wait_for_dag(dag_id)

        # What the sensors wait for, long enough that they find it running.
        for life in ("running:90 succeeded", "running:90 failed", "running"):
            vendors.airbyte.add_job("foreign", life)

        vendors.fivetran.start_sync("foreign", "syncing:90 succeeded")
        run = vendors.dbt_cloud.add_run(3005, "running:90 success")
        runs = {dag_id: api.trigger_run(dag_id, {"run": str(run)}) for dag_id in DAGS}
        yield Stage(api, vendors, runs)
        for each in runs.values():
            if api.run_state(each) not in {"success", "failed"}:
                api.set_run_state(each, "failed")


def test_classes_of_users_are_resumed_as_airflow_documents_it(stage: Stage) -> None:
    run = stage.end("users_override")

    assert stage.api.run_state(run) == "success", stage.api.task_instances(run)
    tasks = ["airbyte", "fivetran", "dbt"]
    for task in [*tasks, *(f"wait_{task}" for task in tasks)]:
        assert stage.api.xcom(run, task, "came") == "success"

    # Nothing but the event came.
    assert stage.api.xcom(run, "dbt") == []


def test_the_output_of_a_mapped_task_is_an_argument(stage: Stage) -> None:
    run = stage.end("users_map")

    assert stage.api.run_state(run) == "success", stage.api.task_instances(run)
    sent = {
        each.target: each.details.get("steps_override")
        for each in stage.vendors.dbt_cloud.record.started
    }
    assert sent["3002"] == STEPS
    assert sent["3003"] == STEPS
    assert sent["3004"] == [each.upper() for each in STEPS]


def test_a_failure_that_sends_mail_ends_on_a_worker(stage: Stage) -> None:
    run = stage.end("users_mail")

    for task in ("airbyte", "no_mail"):
        assert stage.state(run, task) == "failed"

    # What sends mail is not set up, which the worker complains of.
    assert "email notification" in stage.api.log(run, "airbyte")
    assert "email notification" not in stage.api.log(run, "no_mail")
    assert "The task fails: " in stage.api.log(run, "no_mail")


def test_a_broken_configuration_is_no_soft_failure(stage: Stage) -> None:
    run = stage.end("users_soften")

    assert stage.state(run, "rejected_soft_fail") == "failed"
    for task in (
        "rejected_never_fail",
        *("failed_soft_fail", "failed_never_fail"),
        *("late_soft_fail", "late_never_fail"),
    ):
        assert stage.state(run, task) == "skipped", task
