"""The trigger, also as others use it by itself."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from async_triggers.fivetran.triggers import FivetranTrigger
from async_triggers.simulator.faults import Fault
from tests.unit.deferral.stage import the_event
from tests.unit.fivetran.stage import HOUR, C, FivetranWorld

ARGUMENTS = {
    "task_id": "sync",
    "connector_id": C,
    "fivetran_conn_id": "fivetran_default",
    "previous_completed_at": None,
    "xcom": "",
    "poke_interval": 4.0,
    "reschedule_wait_time": None,
    "baseline": None,
    "end_time": None,
    "execution_deadline": None,
    "owned": False,
    "cancel_on_kill": False,
    "cancel_on_timeout": False,
    "unpause_after_cancel": False,
    "seen_at": None,
    "ending": None,
}


def test_what_is_stored_of_a_trigger_does_not_change() -> None:
    """Deferred tasks of the last release are resumed with this one."""
    trigger = FivetranTrigger("sync", C, "fivetran_default")

    assert trigger.serialize() == (
        "async_triggers.fivetran.triggers.FivetranTrigger",
        {**ARGUMENTS, "version": 1, "stored_at": trigger.stored_at},
    )


def test_the_peers_arguments_may_be_given_by_position() -> None:
    before = datetime(2026, 1, 1, tzinfo=UTC)

    trigger = FivetranTrigger("t", C, "conn", before, "", 30, 60)

    run = trigger.run_waited_for
    assert run.succeeded_at == run.failed_at == "2026-01-01T00:00:00+00:00"
    assert trigger.poll_interval == 30
    assert trigger.reschedule_wait_time == 60


def test_a_constructor_never_raises() -> None:
    nonsense: Any = object()

    FivetranTrigger(nonsense, nonsense, nonsense, nonsense, nonsense, nonsense)


@pytest.mark.parametrize("given", ["previous_completed_at", "xcom"])
def test_a_time_before_is_the_baseline(world: FivetranWorld, given: str) -> None:
    before = datetime.fromtimestamp(world.now() - 2 * HOUR, tz=UTC).isoformat()
    trigger = FivetranTrigger("t", C, "fivetran_default", **{given: before})  # type: ignore[arg-type]

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "success"
    assert event["return_value"] == world.shown()["succeeded_at"]
    assert world.elapsed() < 30


@pytest.mark.parametrize("outage", [False, True])
def test_without_a_time_before_the_first_look_sets_it(
    world: FivetranWorld, *, outage: bool
) -> None:
    """As the peers' trigger does: a sync of long ago is not the one waited for."""
    if outage:
        world.fivetran.faults.add(
            Fault(kind="status", status=503, times=None, lasts=100)
        )
    trigger = FivetranTrigger("t", C, "fivetran_default")

    async def wait() -> Any:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(300)
        assert not waiting.done()
        world.fivetran.start_sync(C, "syncing:60 succeeded")
        return await waiting

    event = asyncio.run(wait())

    assert event["status"] == "success"
    assert event["return_value"] == world.shown()["succeeded_at"]


def test_an_event_is_plain_json_and_tells_all(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing:60 failed")
    trigger = FivetranTrigger("t", C, "fivetran_default", baseline="~~")
    trigger.baseline = f"{world.shown()['succeeded_at']}~~"

    event = asyncio.run(the_event(trigger))

    assert json.loads(json.dumps(event)) == event
    assert event["status"] == "error"
    assert re.match(
        rf"Sync of {C} failed \(.*\): The simulated sync has", event["message"]
    )
    assert event["job_id"] == trigger.remote_job.job_id
    assert event["return_value"] == world.shown()["succeeded_at"]


def test_by_itself_it_stops_nothing_at_its_deadline(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing")
    trigger = FivetranTrigger(
        "t",
        C,
        "fivetran_default",
        end_time=world.now() + 100,
        cancel_on_timeout=True,
    )

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "timeout"
    assert re.match(rf"Sync of {C}( \(.*\))? had not ended", event["message"])
    assert world.facts == {}


def test_a_connection_that_is_gone_is_believed_at_the_second_look(
    world: FivetranWorld,
) -> None:
    trigger = FivetranTrigger(
        "t", C, "fivetran_default", baseline="~~", seen_at=world.now()
    )
    trigger.baseline = f"{world.shown()['succeeded_at']}~~"

    async def wait() -> Any:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(60)
        del world.fivetran.connections[C]
        return await waiting

    event = asyncio.run(wait())

    assert event["status"] == "error"
    assert event["error"] == "JobNotFound"
    assert "fivetran_default" in event["message"]
    assert world.fivetran.record.statuses[404] >= 2
