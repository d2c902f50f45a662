"""Kills of tasks that wait to come back to a start, in Airflow's own TriggerRunner."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.deferral import one_event
from async_triggers.deferral.record import Record
from async_triggers.deferral.start_later import StartLaterTrigger
from async_triggers.fivetran.operators import FivetranOperator

if TYPE_CHECKING:
    from async_triggers.deferral.operator import JobOperator
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner

OPERATORS: dict[str, tuple[type[JobOperator], dict[str, Any]]] = {
    "airbyte": (
        AirbyteTriggerSyncOperator,
        {"connection_id": "starts", "deferrable": True},
    ),
    "fivetran": (FivetranOperator, {"connector_id": "starts", "cancel_on_kill": True}),
    "dbt_cloud": (DbtCloudRunJobOperator, {"job_id": 9001, "deferrable": True}),
}
TI = SimpleNamespace(
    dag_id="dag", run_id="run", task_id="sync", map_index=-1, try_number=1
)
MAX_TRIES = 2


def _lose_a_start(
    simulator: Simulator, vendor: str, wait: float = 600.0
) -> StartLaterTrigger:
    """Start a job as a worker does that never hears of it; return what it defers with."""
    simulator.airbyte.add_connection("starts", lives=["running"])
    simulator.fivetran.add_connection("starts", lives=["syncing"])
    simulator.dbt_cloud.add_job(9001, lives=["running"])
    cls, arguments = OPERATORS[vendor]
    operator = cls(task_id="sync", **arguments)
    request = operator.job_request.of_attempt(TI, MAX_TRIES)
    hook = request.make_hook()
    before = hook.run(request.before_start)
    hook.run(lambda leased: request.start(leased, before))
    record = Record(
        fingerprint=request.fingerprint(), max_tries=MAX_TRIES, intent=before.intent
    )
    return StartLaterTrigger(
        time.time() + wait,
        request.to_json(),
        MAX_TRIES,
        record.to_json(),
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("vendor", OPERATORS)
@pytest.mark.parametrize("state", ["failed", "deferred"])
async def test_a_kill_stops_the_job_that_nobody_knows(
    triggerer: Triggerer, simulator: Simulator, vendor: str, state: str
) -> None:
    trigger = await asyncio.to_thread(_lose_a_start, simulator, vendor)
    there = getattr(simulator, vendor)
    trigger_id = triggerer.add(trigger)
    await triggerer.until(lambda: trigger_id in triggerer.runner.triggers)
    # Where it is deferred still, another triggerer has taken it over.
    triggerer.supervisor.states["sync"] = state
    triggerer.supervisor.tokens["sync"] = {"try": 1, "job_id": "sought"}

    await triggerer.kill(trigger_id)
    await triggerer.until(lambda: not one_event._errands)

    is_stopped = state == "failed"
    assert sum(there.record.cancels.values()) == (1 if is_stopped else 0)
    assert len(there.jobs()) == (0 if is_stopped else 1)
    assert len(there.record.started) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("vendor", OPERATORS)
async def test_a_stop_before_the_worker_has_the_task_stops_the_job_all_the_same(
    triggerer: Triggerer, simulator: Simulator, vendor: str
) -> None:
    trigger = await asyncio.to_thread(_lose_a_start, simulator, vendor, 0.5)
    there = getattr(simulator, vendor)
    supervisor = triggerer.supervisor
    token = {"try": 1, "job_id": "sought", "moment": trigger.moment}
    supervisor.states["sync"] = "deferred"
    supervisor.tokens["sync"] = token

    assert await triggerer.event(triggerer.add(trigger)) == trigger.moment
    supervisor.states["sync"] = "queued"
    asked = supervisor.asked.count("GetTaskStates")
    await triggerer.until(lambda: supervisor.asked.count("GetTaskStates") > asked)
    assert len(there.jobs()) == 1
    supervisor.states["sync"] = "failed"
    await triggerer.until(lambda: not one_event._errands)

    assert sum(there.record.cancels.values()) == 1
    assert there.jobs() == []
    assert len(there.record.started) == 1
