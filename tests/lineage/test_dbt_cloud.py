"""What OpenLineage's own listener sends of runs of dbt Cloud, ours beside the official."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator.dbt_cloud import DEFAULT_PROJECT
from tests.lineage import artifacts

if TYPE_CHECKING:
    from tests.lineage.conftest import Emitted, Stage

pytest.importorskip("airflow.providers.openlineage")
pytest.importorskip("airflow.providers.dbt.cloud")

pytestmark = [pytest.mark.lineage, pytest.mark.timeout(600)]

OURS = ["deferred", "waited", "watched", "poked"]
"""An operator and a sensor, each on the triggerer and on a worker."""


@pytest.fixture(scope="module")
def emitted(stage: Stage) -> Emitted:
    vendor = stage.simulator.dbt_cloud
    vendor.configure(logs_after=0.0)
    vendor.add_project(DEFAULT_PROJECT, name="Shop", connection=artifacts.CONNECTION)
    job = vendor.add_job(artifacts=artifacts.of_run(), lives=["running:0.5 success"])
    slow = vendor.add_job(artifacts=artifacts.of_run(), lives=["running:9 success"])
    failing = vendor.add_job(
        artifacts={
            **artifacts.of_run(failed=True),
            "catalog.json": artifacts.catalog(),
        },
        lives=["running:0.5 error"],
    )
    return stage.run("of_dbt_cloud.py", job=job, slow=slow, failing=failing)


def facts(event: dict[str, Any]) -> tuple[Any, ...]:
    """Return what distinguishes the events of nodes, no matter who has emitted them."""
    tables = ([each["name"] for each in event[key]] for key in ("inputs", "outputs"))
    return (event["eventType"], event["job"]["name"], *tables)


VOLATILE = {"_producer", "_schemaURL", "parent", "runId"}


def facets(event: dict[str, Any]) -> dict[tuple[Any, ...], Any]:
    """Return all values of all facets by their paths, but for ids and producers."""
    found: dict[tuple[Any, ...], Any] = {}

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                if key not in VOLATILE:
                    walk(each, (*path, key))
        elif isinstance(value, list):
            for place, each in enumerate(value):
                walk(each, (*path, place))
        else:
            found[path] = value

    for key in ("run", "job", "inputs", "outputs"):
        walk(event[key], (key,))

    return found


@pytest.mark.parametrize("task", OURS)
def test_the_events_of_nodes_are_those_of_the_official_provider(
    emitted: Emitted, task: str
) -> None:
    theirs, ours = emitted.below("shop.theirs"), emitted.below(f"shop.{task}")

    assert len(theirs) == 10
    assert [facts(each) for each in ours] == [facts(each) for each in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert facets(other).items() <= facets(mine).items()


@pytest.mark.parametrize("task", OURS)
def test_a_node_has_the_run_of_the_task_as_its_parent(
    emitted: Emitted, task: str
) -> None:
    end = emitted.of_task(f"shop.{task}", "COMPLETE")

    parents = [
        each["run"]["facets"]["parent"] for each in emitted.below(f"shop.{task}")
    ]
    assert {each["run"]["runId"] for each in parents} == {end["run"]["runId"]}
    assert {each["root"]["job"]["name"] for each in parents} == {"shop"}


@pytest.mark.parametrize("task", OURS)
def test_the_event_of_the_task_describes_the_run(emitted: Emitted, task: str) -> None:
    facet = emitted.of_task(f"shop.{task}", "COMPLETE")["run"]["facets"][
        "async_triggers_job"
    ]

    assert facet["vendor"] == "dbt Cloud"
    assert facet["status"] == "success"
    assert facet["url"].endswith(f"/runs/{facet['job_id']}/")
    assert facet["statistics"]["project_id"] == DEFAULT_PROJECT


def test_a_sensor_that_deferred_has_sent_its_start_twice(emitted: Emitted) -> None:
    begun = [
        each["job"]["name"]
        for each in emitted.events
        if each["eventType"] == "START"
        and each["job"]["name"] in {"shop.watched", "shop.poked"}
    ]

    assert begun == ["shop.watched", "shop.watched", "shop.poked"]


def test_a_run_that_is_not_waited_for_has_no_lineage(emitted: Emitted) -> None:
    end = emitted.of_task("shop.started", "COMPLETE")

    assert emitted.below("shop.started") == []
    assert "async_triggers_job" not in end["run"]["facets"]


def test_a_run_that_fails_shows_the_nodes_that_did(emitted: Emitted) -> None:
    failed = [
        each["job"]["name"]
        for each in emitted.below("shop.failed")
        if each["eventType"] == "FAIL"
    ]
    facets = emitted.of_task("shop.failed", "FAIL")["run"]["facets"]

    assert "shop.public.shop.orders.build.run" in failed
    assert "shop.public.shop.customers.build.run" not in failed
    assert facets["async_triggers_job"]["status"] == "error"
    assert "step 3" in facets["errorMessage"]["message"]
    assert artifacts.FAILED in facets["errorMessage"]["message"]


def test_the_catalogue_gives_the_columns_their_types(emitted: Emitted) -> None:
    """The official provider reads it in an envelope that dbt Cloud does not use."""
    (output,) = next(
        each["outputs"]
        for each in emitted.below("shop.failed")
        if each["outputs"] and each["outputs"][0]["name"] == "shop.public.customers"
    )

    assert output["facets"]["schema"]["fields"][0]["type"] == "bigint"


def test_a_run_names_the_run_of_its_task_as_its_cause(
    emitted: Emitted, stage: Stage
) -> None:
    runs = stage.simulator.dbt_cloud.runs.values()
    causes = {
        each["parent"]["job"]["name"]: each
        for run in runs
        if run.body["cause"].startswith("{") and (each := json.loads(run.body["cause"]))
    }

    assert set(causes) == {"shop.theirs", "shop.deferred", "shop.waited"}
    marked = causes["shop.deferred"]
    assert marked.keys() >= {"parent", "at"}
    assert (
        marked["parent"]["run"]["runId"]
        == (emitted.of_task("shop.deferred", "COMPLETE")["run"]["runId"])
    )
    # Without the mark there is nothing in it but what the official provider writes.
    assert causes["shop.waited"].keys() == causes["shop.theirs"].keys()


@pytest.mark.parametrize("disabled", [False, True])
def test_end_from_trigger_gives_way_to_a_listener_that_is_active(
    stage: Stage, *, disabled: bool
) -> None:
    """Airflow refuses a DAG with such a task where a plugin listens."""
    settings = {"AIRFLOW__OPENLINEAGE__DISABLED": str(disabled)}

    assert stage.read("of_dbt_cloud.py", "deferred", **settings) is disabled


def test_a_task_that_wants_to_end_from_its_trigger_is_seen_to_end(
    emitted: Emitted,
) -> None:
    assert emitted.printed["state"] == "failed", "that of the run that fails"
    assert emitted.of_task("shop.deferred", "COMPLETE")
