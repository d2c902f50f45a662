"""Kills of tasks that wait to come back to a start, in Airflow's own TriggerRunner."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.deferral import one_event
from async_triggers.deferral.record import Record
from async_triggers.deferral.start_later import StartLaterTrigger
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner

TI = SimpleNamespace(
    dag_id="dag", run_id="run", task_id="sync", map_index=-1, try_number=1
)
MAX_TRIES = 2


def _lose_a_start(
    simulator: Simulator, case: Case, wait: float = 600.0
) -> StartLaterTrigger:
    """Start a job as a worker does that never hears of it; return what it defers with."""
    case.add_target(case.part(simulator), case.target, case.life())
    operator: Any = case.sync()()
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
@every_vendor
@pytest.mark.parametrize("state", ["failed", "deferred"])
async def test_a_kill_stops_the_job_that_nobody_knows(
    triggerer: Triggerer, simulator: Simulator, case: Case, state: str
) -> None:
    trigger = await asyncio.to_thread(_lose_a_start, simulator, case)
    there = case.part(simulator)
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
@every_vendor
async def test_a_stop_before_the_worker_has_the_task_stops_the_job_all_the_same(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    trigger = await asyncio.to_thread(_lose_a_start, simulator, case, 0.5)
    there = case.part(simulator)
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
