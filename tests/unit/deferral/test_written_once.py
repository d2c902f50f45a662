"""What a task requests of Airflow, and what it need not request again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.links import DbtCloudRunJobOperatorLink
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.deferral.compat import AirflowException
from async_triggers.deferral.record import KEY
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import (
    TARGET,
    StateStore,
    Task,
    World,
    deferred,
    make_world,
)


class CountingStore(StateStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.deletes = 0

    def get(self, key: str) -> Any:
        self.reads.append(key)
        return super().get(key)

    def delete(self, key: str) -> None:
        self.deletes += 1
        super().delete(key)


def sync(**arguments: Any) -> AirbyteTriggerSyncOperator:
    given: dict[str, Any] = {
        "task_id": "sync",
        "connection_id": TARGET,
        "deferrable": True,
    }
    return AirbyteTriggerSyncOperator(**given | arguments)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


# The record -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{}, {"deferrable": False}, {"start_in_trigger": True}]
)
def test_the_first_try_requests_no_record(
    world: World, arguments: dict[str, Any]
) -> None:
    store = CountingStore()
    task = Task(world, lambda: sync(**arguments), store=store)

    task.execute()

    assert not store.reads


def test_a_first_try_that_is_not_durable_deletes_nothing(world: World) -> None:
    store = CountingStore()

    Task(world, lambda: sync(durable=False), store=store).execute()

    assert not store.deletes


@pytest.mark.parametrize("is_cleared", [True, False])
def test_every_later_try_requests_the_record(world: World, *, is_cleared: bool) -> None:
    store = CountingStore()
    task = Task(world, sync, store=store)
    task.execute()

    if is_cleared:
        task.clear()
    else:
        task.retry()

    deferred(task.execute())
    assert KEY in store.reads
    assert world.cancels == is_cleared
    assert world.starts == 1 + is_cleared


def test_a_first_try_that_comes_back_to_its_start_requests_the_record(
    world: World,
) -> None:
    world.airbyte.faults.add(Fault(kind="status", status=429, retry_after=60, times=1))
    store = CountingStore()
    task = Task(world, sync, store=store)
    waits = deferred(task.execute())
    assert waits.method == "execute_start"
    assert not store.reads

    task.resume(waits, task.wait(waits))

    assert KEY in store.reads
    assert world.starts == 1


def test_the_end_of_a_failed_job_is_written_into_the_record_that_there_is(
    world: World,
) -> None:
    world.airbyte.add_connection(TARGET, lives=["running:60 failed"])
    task = Task(world, sync)
    deferral = deferred(task.execute())

    with pytest.raises(AirflowException):
        task.resume(deferral, task.wait(deferral))

    assert task.store.values[KEY]["ended"] == "failed"


# Rendered fields ------------------------------------------------------------------------


def instance(next_method: str | None) -> dict[str, Any]:
    """Return the context of a segment as the server has described it."""
    server = SimpleNamespace(next_method=next_method)
    return {"ti": SimpleNamespace(_ti_context_from_server=server)}


def sensor() -> AirbyteJobSensor:
    return AirbyteJobSensor(task_id="wait", airbyte_job_id="{{ 1 + 1 }}")


@pytest.mark.parametrize("make", [sync, sensor])
def test_a_task_that_resumes_sends_no_rendered_fields(make: Any) -> None:
    task = make()
    before = task.template_fields
    context: Any = instance("execute_complete")

    task.render_template_fields(context)

    assert task.template_fields == ()
    with pytest.raises(AttributeError):
        task.resume_execution("no_such_method", {}, context)
    assert task.template_fields == before
    if isinstance(task, AirbyteJobSensor):
        assert task.airbyte_job_id == "2", "it is rendered all the same"


@pytest.mark.parametrize("make", [sync, sensor])
@pytest.mark.parametrize(
    "context", [instance(None), {"ti": SimpleNamespace()}], ids=["starts", "unknown"]
)
def test_a_task_that_starts_sends_them(make: Any, context: Any) -> None:
    task = make()

    task.render_template_fields(context)

    assert task.template_fields == type(task).template_fields


# Links ----------------------------------------------------------------------------------


def test_a_link_is_written_when_the_task_is_deferred_and_not_again(
    world: World,
) -> None:
    task = Task(world, sync)
    deferral = deferred(task.execute())
    (link,) = task.operator.operator_extra_links
    assert link.get_link(task.operator).endswith("jobId=1")

    task.resume(deferral, task.wait(deferral))

    assert not task.operator.operator_extra_links
    assert link.get_link(task.operator).endswith("jobId=1"), "callbacks want it"


def test_a_link_that_was_not_known_at_the_deferral_is_written_at_the_end(
    world: World,
) -> None:
    world.airbyte.add_connection(TARGET, lives=["running:60 failed"])
    task = Task(world, sync)
    deferral = deferred(task.execute())
    deferral.kwargs["_async_triggers_waiting"]["url"] = ""

    with pytest.raises(AirflowException):
        task.resume(deferral, task.wait(deferral))

    (link,) = task.operator.operator_extra_links
    assert link.get_link(task.operator).endswith("jobId=1")


def test_links_of_others_stay(world: World) -> None:
    theirs = DbtCloudRunJobOperatorLink()
    foreign: Any = SimpleNamespace(name="Wiki", xcom_key="_link_Wiki")

    class Linked(AirbyteTriggerSyncOperator):
        operator_extra_links: Any = (foreign, theirs)

    task = Task(
        world,
        lambda: Linked(task_id="sync", connection_id=TARGET, deferrable=True),
    )
    deferral = deferred(task.execute())

    task.resume(deferral, task.wait(deferral))

    assert task.operator.operator_extra_links == (foreign,)


def test_the_link_of_dbt_cloud_is_an_xcom_that_each_start_pushes() -> None:
    (link,) = DbtCloudRunJobOperator.operator_extra_links

    assert link.xcom_key == "job_run_url"
    assert isinstance(link, DbtCloudRunJobOperatorLink)
    assert link.is_start_xcom
