"""Starts and ends that are made on the triggerer, one of which dies in between.

All runs go on at the same time: on a real Airflow a test mostly waits.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator import Fault, SimulatorThread
from async_triggers.simulator.connections import connection_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.airflow_api import AirflowApi, Run
    from async_triggers.demo.deployment import Deployment
    from async_triggers.simulator import Simulator

PATIENCE = 300
LIVES = {
    "airbyte": ("running:12 failed", "running:12 succeeded"),
    "fivetran": ("syncing:12 failed", "syncing:12 succeeded"),
    "dbt_cloud": ("running:12 error", "running:12 success"),
}
# The triggerer may have been killed before it had written the job's id down, or after.
AGAIN = re.compile("Attaching to (job|run)|it started (job|run) .*: waiting for it")
TASKS = {"airbyte": "airbyte", "fivetran": "fivetran", "dbt": "dbt_cloud"}
TARGETS = {"airbyte": "orders", "fivetran": "orders", "dbt_cloud": "3001"}


@dataclass(frozen=True, slots=True)
class Scene:
    """A run of one DAG, and vendors of its own."""

    api: AirflowApi
    vendors: Simulator
    run: Run

    def starts(self, vendor: str, target: str | None = None) -> int:
        """Tell how often a vendor was asked to start a job."""
        record = getattr(self.vendors, vendor).record
        return int(record.starts[target or TARGETS[vendor]])

    def instance(self, task: str, map_index: int = -1) -> dict[str, Any]:
        """Return all that Airflow shows of a task."""
        run = self.run
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}"
        found: dict[str, Any] = self.api.request(
            "GET", path if map_index < 0 else f"{path}/{map_index}"
        )
        return found


def _vendors(closing: ExitStack, api: AirflowApi, name: str, *, ends: int) -> Simulator:
    """Start vendors whose jobs take the last of their lives, or all."""
    vendors = closing.enter_context(SimulatorThread())
    variables = connection_variables(vendors)
    for vendor in LIVES:
        fields = json.loads(variables[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"])
        api.add_connection(f"{name}_{vendor}", **fields)

    lives = {vendor: given[-ends:] for vendor, given in LIVES.items()}
    for connection in ("orders", "mapped-0", "mapped-1"):
        vendors.airbyte.add_connection(connection, lives=lives["airbyte"])
    vendors.fivetran.add_connection("orders", lives=lives["fivetran"])
    vendors.dbt_cloud.add_job(3001, lives=lives["dbt_cloud"])
    return vendors


def _cut_off(closing: ExitStack, api: AirflowApi) -> Scene:
    """Begin a run whose starts are answered late."""
    vendors = _vendors(closing, api, "cut_off", ends=1)
    for vendor, path in (
        (vendors.airbyte, "*/jobs"),
        (vendors.fivetran, "*/sync"),
        (vendors.dbt_cloud, "*/run/"),
    ):
        vendor.faults.add(
            Fault(kind="hang", method="POST", path=path, takes_effect=True)
        )
    return Scene(api, vendors, api.trigger_run("without_workers_cut_off"))


def _cleared(closing: ExitStack, api: AirflowApi) -> Scene:
    """Begin a run whose first jobs never end."""
    vendors = _vendors(closing, api, "cleared", ends=1)
    vendors.airbyte.add_connection("orders", lives=["running", LIVES["airbyte"][1]])
    vendors.dbt_cloud.add_job(3001, lives=["running", LIVES["dbt_cloud"][1]])
    return Scene(api, vendors, api.trigger_run("without_workers_cleared"))


@pytest.fixture(scope="module")
def scenes(postgres_deployment: Deployment) -> Iterator[dict[str, Scene]]:
    deployment, api = postgres_deployment, postgres_deployment.api
    with ExitStack() as closing:
        cut_off, cleared = _cut_off(closing, api), _cleared(closing, api)
        for vendor in LIVES:
            for scene in (cut_off, cleared):
                api.wait_until(
                    lambda scene=scene, vendor=vendor: scene.starts(vendor) or None,  # type: ignore[misc]
                    what=f"{scene.run.dag_id} to start a job of {vendor}",
                    timeout=PATIENCE,
                )

        deployment.kill_triggerer(len(deployment.triggerers) - 1)
        deployment.start_triggerer()
        scenes = {"cut_off": cut_off, "cleared": cleared}
        for name, dag_id, ends in (
            ("whole", "without_workers", 1),
            ("retried", "without_workers_retried", 2),
        ):
            key = "without" if name == "whole" else name
            vendors = _vendors(closing, api, key, ends=ends)
            scenes[name] = Scene(api, vendors, api.trigger_run(dag_id))

        yield scenes
        for scene in scenes.values():
            if api.run_state(scene.run) not in {"success", "failed"}:
                api.set_run_state(scene.run, "failed")


def test_a_start_that_was_cut_off_is_not_made_twice(scenes: dict[str, Scene]) -> None:
    """The triggerer was killed between the intent and the answer."""
    scene = scenes["cut_off"]

    scene.api.wait_for_run(scene.run, "success", timeout=PATIENCE)

    for task, vendor in TASKS.items():
        assert scene.starts(vendor) == 1
        assert scene.instance(task)["try_number"] == 1
        assert scene.api.xcom(scene.run, task) is not None
    log = scene.api.log(scene.run, "airbyte")
    assert "it started job 1: waiting for it" in log


def test_tasks_are_started_and_ended_by_their_triggers(
    scenes: dict[str, Scene],
) -> None:
    scene = scenes["whole"]

    scene.api.wait_for_run(scene.run, "success", timeout=PATIENCE)

    for task, vendor in TASKS.items():
        assert scene.starts(vendor) == 1
        returned = scene.api.xcom(scene.run, task)
        assert isinstance(returned, str if task == "fivetran" else int)
        log = scene.api.log(scene.run, task)
        assert "started: http" in log
        assert "execute_complete" not in log
    statistics = scene.api.xcom(scene.run, "airbyte", "airbyte_job")
    assert statistics["status"] == "succeeded"
    assert scene.api.xcom(scene.run, "dbt", "job_run_id") == scene.api.xcom(
        scene.run, "dbt"
    )


def test_sensors_never_see_a_worker(scenes: dict[str, Scene]) -> None:
    scene = scenes["whole"]

    scene.api.wait_for_run(scene.run, "success", timeout=PATIENCE)

    for task in TASKS:
        shown = scene.instance(f"wait_{task}")
        assert shown["state"] == "success"
        assert not shown["hostname"]
        assert shown["pid"] is None
    run_id = scene.api.xcom(scene.run, "dbt")
    assert scene.api.xcom(scene.run, "wait_dbt") == run_id
    assert scene.api.xcom(scene.run, "wait_fivetran") == scene.api.xcom(
        scene.run, "fivetran"
    )


def test_mapped_tasks_start_in_their_triggers_and_mapped_sensors_on_workers(
    scenes: dict[str, Scene],
) -> None:
    scene = scenes["whole"]

    scene.api.wait_for_run(scene.run, "success", timeout=PATIENCE)

    for index in (0, 1):
        assert scene.starts("airbyte", f"mapped-{index}") == 1
        assert scene.instance("mapped", index)["hostname"]
        shown = scene.instance("wait_mapped", index)
        assert shown["state"] == "success"
        assert shown["hostname"]


def test_a_task_that_its_trigger_failed_is_retried(scenes: dict[str, Scene]) -> None:
    scene = scenes["retried"]

    scene.api.wait_for_run(scene.run, "success", timeout=PATIENCE)

    for task, vendor in TASKS.items():
        assert scene.instance(task)["try_number"] == 2
        assert scene.starts(vendor) == 2
        assert "The task fails: " in scene.api.log(scene.run, task, try_number=1)


def test_a_cleared_task_starts_anew_and_nothing_else_twice(
    scenes: dict[str, Scene],
) -> None:
    """The old triggerer is gone by then: another one is told of the clear."""
    scene, tasks = scenes["cleared"], ["airbyte", "dbt"]
    for task in tasks:
        scene.api.wait_until(
            lambda task=task: (  # type: ignore[misc]
                AGAIN.search(scene.api.log(scene.run, task))
            ),
            what=f"{task} to be waited for again",
            timeout=PATIENCE,
        )

    scene.api.clear(scene.run, tasks)
    scene.api.wait_for_run(scene.run, "success", timeout=PATIENCE)

    for vendor in ("airbyte", "dbt_cloud"):
        assert scene.starts(vendor) == 2
        assert sum(getattr(scene.vendors, vendor).record.cancels.values()) == 1
    assert scene.starts("fivetran") == 1
