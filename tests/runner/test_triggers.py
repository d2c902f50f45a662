"""Triggers in Airflow's own TriggerRunner, against vendors over HTTP."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral import compat
from async_triggers.engine.accounts import shared_accounts
from async_triggers.simulator import Fault
from tests.runner.harness import BEAT, a_triggerer, are_closed

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner


def a_trigger(simulator: Simulator, life: str = "running", **arguments: Any) -> Any:
    """Return the trigger of a job that runs already."""
    job = simulator.airbyte.add_job("c", life)
    given: dict[str, Any] = {
        "job_id": job,
        "conn_id": "airbyte_default",
        "end_time": None,
        "poll_interval": 0.3,
        "owned": True,
        "seen_at": time.time(),
        **arguments,
    }
    return AirbyteSyncTrigger(**given)


def state_of(simulator: Simulator, job_id: int) -> str:
    """Tell what a job is doing."""
    views = simulator.airbyte.jobs(finished=True)
    return next(view.state for view in views if view.job == str(job_id))


async def is_waited_for(triggerer: Triggerer, simulator: Simulator) -> None:
    """Run until the vendor has been asked for a job."""
    record = simulator.airbyte.record
    await triggerer.until(lambda: record.count("GET", "/jobs"))


@pytest.mark.asyncio
async def test_an_event_arrives_once(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    trigger_id = triggerer.add(a_trigger(simulator, "running:1 succeeded"))

    event = await triggerer.event(trigger_id)

    assert event["status"] == "success"
    assert event["job_id"] == 1
    assert triggerer.supervisor.failures == {}


@pytest.mark.asyncio
async def test_three_hundred_triggers_share_one_poller(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    ids = [
        triggerer.add(a_trigger(simulator, "running:2 succeeded"), task_id=f"sync{n}")
        for n in range(300)
    ]

    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))

    events = [triggerer.supervisor.events[each] for each in ids]
    assert {(len(each), each[0]["status"]) for each in events} == {(1, "success")}
    record = simulator.airbyte.record
    assert record.tokens_issued == 1
    # Alone, each would have asked some ten times.
    assert record.total < 100
    assert record.max_connections <= 5
    assert len(shared_accounts()) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("state", ["failed", "success", None])
async def test_a_kill_cancels_the_job_although_airflow_interrupts_it(
    triggerer: Triggerer, simulator: Simulator, state: str | None
) -> None:
    # Airflow repeats its cancellation at each cycle, and here after a tenth of a second.
    simulator.airbyte.configure(latency=3 * BEAT)
    trigger_id = triggerer.add(a_trigger(simulator))
    await is_waited_for(triggerer, simulator)
    if state is not None:
        triggerer.supervisor.states["sync"] = state

    triggerer.supervisor.tokens["sync"] = {"try": 1, "job_id": "1"}
    await triggerer.kill(trigger_id)
    await triggerer.settled()

    assert state_of(simulator, 1) == "cancelled"
    assert triggerer.supervisor.failures == {}
    assert trigger_id not in triggerer.supervisor.events


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("state", "token", "fate"),
    [
        pytest.param("deferred", (1, "1"), "running", id="taken over"),
        pytest.param("deferred", None, "running", id="no token"),
        pytest.param("deferred", (2, "1"), "running", id="newer attempt, same job"),
        pytest.param("deferred", (2, "9"), "cancelled", id="newer attempt, other job"),
        pytest.param("running", None, "cancelled", id="cleared, begun anew"),
        pytest.param("up_for_retry", (1, "1"), "running", id="to be retried"),
    ],
)
async def test_a_kill_is_judged_by_what_airflow_says_of_the_task(
    triggerer: Triggerer,
    simulator: Simulator,
    state: str,
    token: tuple[int, str] | None,
    fate: str,
) -> None:
    trigger_id = triggerer.add(a_trigger(simulator))
    await is_waited_for(triggerer, simulator)
    triggerer.supervisor.states["sync"] = state
    if token is not None:
        triggerer.supervisor.tokens["sync"] = {"try": token[0], "job_id": token[1]}

    await triggerer.kill(trigger_id)
    await triggerer.settled()

    assert {"GetTaskStates", "GetXCom"} <= set(triggerer.supervisor.asked)
    assert state_of(simulator, 1) == fate


@pytest.mark.asyncio
async def test_a_kill_before_the_connection_is_known_still_cancels(
    triggerer: Triggerer, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A triggerer's first look-up takes seconds, in which a user may have acted already.
    asked, answer = threading.Event(), threading.Event()
    look_up = AirbyteHook.get_connection

    def slow(conn_id: str) -> Any:
        asked.set()
        answer.wait()
        return look_up(conn_id)

    monkeypatch.setattr(AirbyteHook, "get_connection", staticmethod(slow))
    trigger_id = triggerer.add(a_trigger(simulator))
    await triggerer.until(asked.is_set)
    triggerer.supervisor.states["sync"] = "failed"
    triggerer.supervisor.to_cancel.add(trigger_id)
    await triggerer.beat()
    await triggerer.beat()

    answer.set()
    await triggerer.until(lambda: state_of(simulator, 1) == "cancelled")

    await triggerer.until(lambda: trigger_id not in triggerer.runner.triggers)
    assert simulator.airbyte.record.cancels == {"1": 1}


@pytest.mark.asyncio
async def test_a_trigger_that_lingers_after_its_event_leaves_all_untouched(
    triggerer: Triggerer, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = asyncio.Event()
    linger = asyncio.Event()
    on_kill = AirbyteSyncTrigger.on_kill
    run = AirbyteSyncTrigger.run

    async def lingering(self: AirbyteSyncTrigger) -> Any:
        async for event in run(self):
            yield event
            await linger.wait()

    async def noted(self: AirbyteSyncTrigger) -> None:
        killed.set()
        await on_kill(self)

    monkeypatch.setattr(AirbyteSyncTrigger, "run", lingering)
    monkeypatch.setattr(AirbyteSyncTrigger, "on_kill", noted)
    trigger_id = triggerer.add(a_trigger(simulator, "running:1 succeeded"))
    await triggerer.until(lambda: trigger_id in triggerer.supervisor.events)
    later = simulator.airbyte.add_job("c", "running")
    total = simulator.airbyte.record.total

    await triggerer.kill(trigger_id)
    await triggerer.settled()

    # Where the kill is bridged, only our own run() could have called it.
    assert killed.is_set() == compat.CALLS_ON_KILL
    assert simulator.airbyte.record.total == total
    assert state_of(simulator, later) == "running"


@pytest.mark.asyncio
async def test_a_triggerer_that_stops_leaves_the_job_running(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    triggerer.add(a_trigger(simulator))
    await is_waited_for(triggerer, simulator)

    await triggerer.stop()

    assert state_of(simulator, 1) == "running"
    assert "GetTaskStates" not in triggerer.supervisor.asked


@pytest.mark.asyncio
async def test_a_restarted_triggerer_tells_of_the_end_it_missed(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = a_trigger(simulator)
    async with a_triggerer(monkeypatch) as first:
        first.add(trigger)
        await is_waited_for(first, simulator)

    simulator.airbyte.finish("1", "succeeded")
    async with a_triggerer(monkeypatch) as second:
        event = await second.event(second.add(trigger))

    assert event["status"] == "success"
    assert not simulator.airbyte.record.cancels


@pytest.mark.asyncio
async def test_at_the_deadline_the_job_is_cancelled(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    trigger_id = triggerer.add(a_trigger(simulator, end_time=time.time() + 1.0))

    event = await triggerer.event(trigger_id)

    assert event["status"] == "timeout"
    assert event["cancel"] == "confirmed"
    assert state_of(simulator, 1) == "cancelled"


@pytest.mark.asyncio
async def test_a_connection_that_is_missing_is_waited_for(
    triggerer: Triggerer,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("AIRFLOW_CONN_AIRBYTE_DEFAULT")
        trigger_id = triggerer.add(a_trigger(simulator, "running:1 succeeded"))
        await triggerer.until(lambda: "could not be looked up" in caplog.text)

    event = await triggerer.event(trigger_id)

    assert event["status"] == "success"


@pytest.mark.asyncio
async def test_trouble_is_only_a_late_answer(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    for kind in ("reset", "close", "truncate", "html", "cut", "empty"):
        fault: Any = {"kind": kind, "path": "*/jobs*", "times": 1}
        simulator.airbyte.faults.add(Fault(**fault))

    trigger_id = triggerer.add(a_trigger(simulator, "running:2 succeeded"))

    assert (await triggerer.event(trigger_id))["status"] == "success"
    assert sum(simulator.airbyte.record.faults.values()) >= 3


@pytest.mark.asyncio
async def test_a_job_nobody_knows_ends_in_an_event_and_not_in_a_crash(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    trigger = a_trigger(simulator, job_id=99, owned=False, seen_at=None)
    event = await triggerer.event(triggerer.add(trigger))

    assert event["error"] == "JobNotFound"
    assert triggerer.supervisor.failures == {}


@pytest.mark.asyncio
async def test_arguments_of_nonsense_end_a_trigger_and_not_the_triggerer(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    nonsense: Any = AirbyteSyncTrigger(None, None, "soon", "often")  # type: ignore[arg-type]
    bad = triggerer.add(nonsense, task_id="bad")
    good = triggerer.add(a_trigger(simulator, "running:1 succeeded"))

    assert (await triggerer.event(good))["status"] == "success"
    assert "give a number of seconds" in (await triggerer.event(bad))["message"]
    assert triggerer.supervisor.failures == {}


@pytest.mark.asyncio
async def test_nothing_blocks_the_triggerers_loop(
    triggerer: Triggerer, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow warns of a loop that is late by 0.2 s, on a busy machine also without us.

    So what counts here is the processor time that each callback takes.
    """
    steps: list[float] = []
    step = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        step(handle)
        steps.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.Handle, "_run", measured)
    ids = [
        triggerer.add(a_trigger(simulator, "running:1 succeeded")) for _ in range(50)
    ]

    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))

    assert len(steps) > len(ids)
    assert max(steps) < 0.2


@pytest.mark.parametrize("order", ["triggers first", "all at once"])
def test_a_loop_may_end_in_any_order(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    async def go() -> None:
        async with a_triggerer(monkeypatch) as triggerer:
            for _ in range(5):
                triggerer.add(a_trigger(simulator))

            await is_waited_for(triggerer, simulator)
            if order == "all at once":
                # As asyncio.run does with what is left when a loop ends.
                me = asyncio.current_task()
                rest = [task for task in asyncio.all_tasks() if task is not me]
                for task in rest:
                    task.cancel()

                await asyncio.gather(*rest, return_exceptions=True)

    try:
        asyncio.run(go())
    except asyncio.CancelledError:
        assert order == "all at once"

    # A session or a socket that was left open warns when it is collected.
    gc.collect()
    are_closed(simulator)
