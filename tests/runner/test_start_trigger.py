"""Starts and ends that are made in Airflow's own TriggerRunner, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.api.vendor import Airbyte
from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.api.vendor import DbtCloud
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.deferral.ending import Ending
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.fivetran.api.vendor import Fivetran
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.simulator import Fault
from tests.runner.harness import a_triggerer

if TYPE_CHECKING:
    from async_triggers.deferral.operator import JobOperator
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner

VENDORS = ("airbyte", "fivetran", "dbt_cloud")
STARTS = {"airbyte": "*/jobs", "fivetran": "*/sync", "dbt_cloud": "*/run/"}
every_vendor = pytest.mark.parametrize("vendor", VENDORS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rounds of all vendors come sooner than they may in earnest."""
    for each in (Airbyte, Fivetran, DbtCloud):
        monkeypatch.setattr(each, "grid_floor", 0.3)


def _operator(vendor: str) -> JobOperator:
    given: dict[str, Any] = {"task_id": "sync", "start_in_trigger": True}
    if vendor == "airbyte":
        return AirbyteTriggerSyncOperator(
            connection_id="starts", deferrable=True, wait_seconds=0.3, **given
        )

    if vendor == "fivetran":
        return FivetranOperator(
            connector_id="starts", poll_frequency=0.3, cancel_on_kill=True, **given
        )

    return DbtCloudRunJobOperator(
        job_id=9001, check_interval=0.3, deferrable=True, **given
    )


def _trigger(vendor: str, *, ending: Ending | None = None) -> StartTrigger:
    """Return what the worker defers with."""
    return StartTrigger(
        _operator(vendor).job_request.to_json(),
        2,
        None,
        links=["_link"],
        ending=None if ending is None else ending.to_json(),
    )


def _prepare(simulator: Simulator, vendor: str, *, ends: bool = True) -> Any:
    """Add what jobs are started of, and return the vendor's part of the simulator."""
    syncing, running = "syncing:1 succeeded", "running:1 succeeded"
    simulator.airbyte.add_connection("starts", lives=[running if ends else "running"])
    simulator.fivetran.add_connection("starts", lives=[syncing if ends else "syncing"])
    simulator.dbt_cloud.add_job(
        9001, lives=["running:1 success" if ends else "running"]
    )
    return getattr(simulator, vendor)


def _cut_off(simulator: Simulator, vendor: str) -> None:
    """Have the vendor take the next start, and never answer it."""
    fault: Any = {"kind": "hang", "method": "POST", "path": STARTS[vendor]}
    getattr(simulator, vendor).faults.add(Fault(takes_effect=True, **fault))


@pytest.mark.asyncio
@every_vendor
async def test_a_job_is_started_and_waited_for(
    triggerer: Triggerer, simulator: Simulator, vendor: str
) -> None:
    there = _prepare(simulator, vendor)

    event = await triggerer.event(triggerer.add(_trigger(vendor)))

    assert event["status"] == "success"
    assert event["start"]["try"] == 1
    assert event["start"]["record"]["owned"] is True
    assert len(there.record.started) == 1
    assert triggerer.supervisor.xcoms["_link"].startswith("http")


@pytest.mark.asyncio
@every_vendor
async def test_the_task_is_ended_with_its_xcoms(
    triggerer: Triggerer, simulator: Simulator, vendor: str
) -> None:
    _prepare(simulator, vendor)
    ending = Ending(statistics_key="statistics")

    event = await triggerer.event(triggerer.add(_trigger(vendor, ending=ending)))

    assert event == "success"
    assert triggerer.supervisor.xcoms["statistics"]["attached"] is False
    assert "return_value" in triggerer.supervisor.xcoms


@pytest.mark.asyncio
@every_vendor
async def test_a_restart_between_intent_and_id_starts_nothing_twice(
    simulator: Simulator, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _prepare(simulator, vendor)
    _cut_off(simulator, vendor)
    async with a_triggerer(monkeypatch) as first:
        first.add(_trigger(vendor))
        await first.until(lambda: there.record.started)
        claim = first.supervisor.tokens["sync"]

    assert claim["record"]["job_id"] is None
    async with a_triggerer(monkeypatch) as second:
        second.supervisor.tokens["sync"] = claim
        event = await second.event(second.add(_trigger(vendor)))

    assert event["status"] == "success"
    assert len(there.record.started) == 1
    assert not there.record.cancels


@pytest.mark.asyncio
@every_vendor
async def test_a_kill_during_the_start_cancels_what_it_starts(
    triggerer: Triggerer, simulator: Simulator, vendor: str
) -> None:
    there = _prepare(simulator, vendor, ends=False)
    fault: Any = {"kind": "delay", "method": "POST", "path": STARTS[vendor]}
    there.faults.add(Fault(takes_effect=True, seconds=1.5, **fault))
    trigger_id = triggerer.add(_trigger(vendor))
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
    _prepare(simulator, "airbyte")
    simulator.airbyte.configure(start_blocks=0.2)
    ids = []
    for number in range(8):
        simulator.airbyte.add_connection(f"s{number}", lives=["running:1 succeeded"])
        trigger = _trigger("airbyte")
        fields = {**trigger.request["fields"], "connection_id": f"s{number}"}
        trigger.request = {**trigger.request, "fields": fields}
        ids.append(triggerer.add(trigger, task_id=f"t{number}"))

    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))

    events = [triggerer.supervisor.events[each][0] for each in ids]
    assert {event["status"] for event in events} == {"success"}
    assert len(simulator.airbyte.record.started) == 8
    assert simulator.airbyte.record.max_connections <= 5
