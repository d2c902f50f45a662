"""Starts and ends that are made in Airflow's own TriggerRunner, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.deferral.ending import Ending
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.simulator import Fault
from tests.runner.harness import a_triggerer
from tests.vendors import AIRBYTE, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner


def _trigger(case: Case, *, ending: Ending | None = None) -> StartTrigger:
    """Return what the worker defers with."""
    operator: Any = case.sync(start_in_trigger=True, **{case.interval_key: 0.3})()
    return StartTrigger(
        operator.job_request.to_json(),
        2,
        None,
        links=["_link"],
        ending=None if ending is None else ending.to_json(),
    )


def _prepare(simulator: Simulator, case: Case, *, ends: bool = True) -> Any:
    """Add what jobs are started of, and return the vendor's part of the simulator."""
    part = case.part(simulator)
    life = case.life("success", lasts=1) if ends else case.life()
    case.add_target(part, case.target, life)
    return part


def _cut_off(simulator: Simulator, case: Case) -> None:
    """Have the vendor take the next start, and never answer it."""
    fault = Fault(kind="hang", takes_effect=True, **case.start)
    case.part(simulator).faults.add(fault)


@pytest.mark.asyncio
@every_vendor
async def test_a_job_is_started_and_waited_for(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    there = _prepare(simulator, case)

    event = await triggerer.event(triggerer.add(_trigger(case)))

    assert event["status"] == "success"
    assert event["start"]["try"] == 1
    assert event["start"]["record"]["owned"] is True
    assert len(there.record.started) == 1
    assert triggerer.supervisor.xcoms["_link"].startswith("http")


@pytest.mark.asyncio
@every_vendor
async def test_the_task_is_ended_with_its_xcoms(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    _prepare(simulator, case)
    ending = Ending(statistics_key="statistics")

    event = await triggerer.event(triggerer.add(_trigger(case, ending=ending)))

    assert event == "success"
    assert triggerer.supervisor.xcoms["statistics"]["attached"] is False
    assert "return_value" in triggerer.supervisor.xcoms


@pytest.mark.asyncio
@every_vendor
async def test_a_restart_between_intent_and_id_starts_nothing_twice(
    simulator: Simulator, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _prepare(simulator, case)
    _cut_off(simulator, case)
    async with a_triggerer(monkeypatch) as first:
        first.add(_trigger(case))
        await first.until(lambda: there.record.started)
        claim = first.supervisor.tokens["sync"]

    assert claim["record"]["job_id"] is None
    async with a_triggerer(monkeypatch) as second:
        second.supervisor.tokens["sync"] = claim
        event = await second.event(second.add(_trigger(case)))

    assert event["status"] == "success"
    assert len(there.record.started) == 1
    assert not there.record.cancels


@pytest.mark.asyncio
@every_vendor
async def test_a_kill_during_the_start_cancels_what_it_starts(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    there = _prepare(simulator, case, ends=False)
    late = Fault(kind="delay", takes_effect=True, seconds=1.5, **case.start)
    there.faults.add(late)
    trigger_id = triggerer.add(_trigger(case))
    await triggerer.until(lambda: there.record.started)
    triggerer.supervisor.states["sync"] = "failed"

    await triggerer.kill(trigger_id)
    await triggerer.settled()

    assert sum(there.record.cancels.values()) == 1
    assert len(there.record.started) == 1


@pytest.mark.asyncio
async def test_starts_share_one_account(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    """However many tasks start at once, the vendor is asked by two at a time."""
    _prepare(simulator, AIRBYTE)
    simulator.airbyte.configure(start_blocks=0.2)
    ids = []
    for number in range(8):
        simulator.airbyte.add_connection(f"s{number}", lives=["running:1 succeeded"])
        trigger = _trigger(AIRBYTE)
        fields = {**trigger.request["fields"], "connection_id": f"s{number}"}
        trigger.request = {**trigger.request, "fields": fields}
        ids.append(triggerer.add(trigger, task_id=f"t{number}"))

    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))

    events = [triggerer.supervisor.events[each][0] for each in ids]
    assert {event["status"] for event in events} == {"success"}
    assert len(simulator.airbyte.record.started) == 8
    assert simulator.airbyte.record.max_connections <= 5
