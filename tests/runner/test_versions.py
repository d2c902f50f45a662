"""Rows of another release in Airflow's own TriggerRunner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.errors import TriggerUnusable
from async_triggers.deferral.start_trigger import StartTrigger

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner


def rows(job: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return what is stored of a trigger that waits, one that starts, and a sensor."""
    operator = AirbyteTriggerSyncOperator(task_id="sync", connection_id="c")
    sensor = AirbyteJobSensor(
        task_id="sync", airbyte_job_id=job, deferrable=True, start_from_trigger=True
    )
    described = sensor.describe_start()
    waiting = AirbyteSyncTrigger(job, "airbyte_default", None, 0.3, owned=True)
    request = operator.make_request().to_json()
    return {
        "waiting": waiting.serialize(),
        "starting": StartTrigger(request, 2, None).serialize(),
        "sensor": (described.trigger_cls, dict(described.trigger_kwargs or {})),
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["waiting", "starting", "sensor"])
async def test_a_row_of_a_newer_release_fails_its_task_and_no_other(
    triggerer: Triggerer, simulator: Simulator, kind: str
) -> None:
    job = simulator.airbyte.add_job("c", "running:2 succeeded")
    classpath, arguments = rows(job)[kind]
    before = triggerer.add_row(*rows(job)["waiting"], task_id="before")
    newer = triggerer.add_row(classpath, {**arguments, "version": 2, "lane": "fast"})
    after = triggerer.add_row(*rows(job)["sensor"], task_id="after")

    await triggerer.until(lambda: newer in triggerer.supervisor.failures)

    # As Airflow's database passes it on to the worker that has to fail the task.
    traceback = triggerer.supervisor.failures[newer]
    task = AirbyteTriggerSyncOperator(task_id="sync", connection_id="c")
    failed = {"error": "Trigger failure", "traceback": traceback}
    with pytest.raises(TriggerUnusable) as caught:
        task.resume_execution("__fail__", failed, {})

    words = str(caught.value)
    assert (
        "have version 2, this triggerer reads version 1: upgrade the trigger" in words
    )
    assert "then clear the task" in words
    assert (await triggerer.event(before))["status"] == "success"
    assert (await triggerer.event(after))["status"] == "success"
    assert set(triggerer.supervisor.failures) == {newer}
    record = simulator.airbyte.record
    assert (dict(record.cancels), list(record.started)) == ({}, [])


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["waiting", "sensor"])
async def test_a_row_without_its_version_is_read(
    triggerer: Triggerer, simulator: Simulator, kind: str
) -> None:
    job = simulator.airbyte.add_job("c", "running:1 succeeded")
    classpath, arguments = rows(job)[kind]
    del arguments["version"]

    event = await triggerer.event(triggerer.add_row(classpath, arguments))

    assert event["status"] == "success"
