"""What is gathered of a run, and what the facet methods make of it without a request."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from async_triggers.dbt_cloud import gathering
from async_triggers.dbt_cloud.gathering import Gathering
from async_triggers.engine.errors import JobNotFound
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import Reply, Request
from tests.lineage import artifacts

pytest.importorskip("airflow.providers.openlineage")

pytestmark = pytest.mark.lineage

VIRTUAL = pytest.mark.asyncio(loop_factories=["virtual"])
JOB = Job(id="7", state=JobState.SUCCEEDED, word="success", url="https://dbt.test/7")


class Hook:
    """Answers from memory; ``late`` artifacts are there at the second request."""

    def __init__(
        self, *, late: bool = False, connection: Any = artifacts.CONNECTION
    ) -> None:
        self.late = late
        self.connection = connection
        self.requested: list[tuple[int | None, str]] = []
        self.log = logging.getLogger("task")
        steps = ["dbt deps", "dbt seed", "dbt build --select a.b", "dbt docs generate"]
        self.row: dict[str, Any] = {
            "id": 7,
            "project_id": 3,
            "run_steps": [
                {"index": 1, "name": "Clone git repository"},
                *(
                    {"index": index, "name": f"Invoke dbt with `{step}`"}
                    for index, step in enumerate(steps, start=2)
                ),
            ],
        }

    async def get_run_details(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.row

    async def call(self, _: Request) -> Reply:
        body = {"data": {"id": 3, "connection": self.connection}}
        return Reply(200, {}, json.dumps(body).encode())

    async def get_artifact(
        self, leased: Any, run_id: str, path: str, *, step: int | None
    ) -> bytes:
        requested = (step, path)
        is_first = requested not in self.requested
        self.requested.append(requested)
        is_late = self.late and is_first and path == "run_results.json"
        if is_late or path == "catalog.json":
            msg = "no such artifact"
            raise JobNotFound(msg, status=404)

        return json.dumps(artifacts.of_run()[path]).encode()


async def gather(hook: Any) -> Any:
    leased: Any = SimpleNamespace(
        vendor=SimpleNamespace(name="dbt Cloud"),
        account=SimpleNamespace(account_id="1"),
        call=hook.call,
    )
    return await Gathering(hook, leased, JOB).gather()


@VIRTUAL
async def test_only_steps_that_run_nodes_are_asked_for() -> None:
    hook = Hook()

    lineage = await gather(hook)

    assert [step.index for step in lineage.steps] == [3, 4]
    assert {step for step, _ in hook.requested} == {3, 4, None}


@VIRTUAL
async def test_artifacts_that_come_late_are_asked_for_again() -> None:
    lineage = await gather(Hook(late=True))

    assert [step.index for step in lineage.steps] == [3, 4]


@VIRTUAL
@pytest.mark.parametrize("connection", [None, {}])
async def test_without_a_warehouse_there_is_nothing_to_name(connection: Any) -> None:
    assert await gather(Hook(connection=connection)) is None


@VIRTUAL
async def test_what_is_kept_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = sum(len(json.dumps(each)) for each in artifacts.of_run().values())
    monkeypatch.setattr(gathering, "MOST", int(step * 1.5))

    lineage = await gather(Hook())

    kept = [len(each.manifest) + len(each.run_results) for each in lineage.steps]
    assert kept == [step]
    assert "is left out of its lineage" in caplog.text
    # A listener may be set to write down all that a task holds.
    assert len(repr(lineage)) < 2000


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    from openlineage.common.provider.dbt import ParentRunMetadata

    from async_triggers.lineage import dbt

    found: list[Any] = []
    run = "01a2275d-4faf-7d2d-9b45-3d3f2a70e503"
    parent = ParentRunMetadata(run_id=run, job_name="shop.run", job_namespace="default")
    monkeypatch.setattr(dbt, "emit", found.append)
    monkeypatch.setattr(dbt, "parent_of", lambda _: parent)
    return found


@VIRTUAL
async def test_the_facets_are_made_without_a_request(emitted: list[Any]) -> None:
    hook = Hook()
    lineage = await gather(hook)
    requested = len(hook.requested)

    shown = lineage.describe("ti")

    assert len(hook.requested) == requested
    assert len(emitted) == 20
    assert shown.run_facets["async_triggers_job"].job_id == "7"


@VIRTUAL
async def test_a_step_of_another_version_costs_only_its_own_events(
    emitted: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    class FromTheFuture(Hook):
        async def get_artifact(self, *of_run: Any, step: int | None) -> bytes:
            content = await super().get_artifact(*of_run, step=step)
            return content.replace(b'"which"', b'"what"') if step == 3 else content

    lineage = await gather(FromTheFuture())

    lineage.describe("ti")

    assert len(emitted) == 10
    assert "Step 3 of run 7 gives no lineage: KeyError" in caplog.text
