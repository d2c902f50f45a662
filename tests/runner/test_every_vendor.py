"""What any vendor's trigger does in Airflow's own TriggerRunner, over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.engine.accounts import shared_accounts
from async_triggers.simulator import Fault
from tests.runner.harness import a_triggerer
from tests.vendors import Entry as Case
from tests.vendors import every_end, every_vendor

if TYPE_CHECKING:
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner


def begin(
    simulator: Simulator, case: Case, life: str, **given: Any
) -> tuple[str, JobTrigger]:
    """Begin a job; return its id at the simulator, and a trigger that waits for it."""
    job, mark = case.watch(case.part(simulator), life)
    trigger = case.trigger(
        job,
        f"{case.name}_default",
        mark=mark,
        interval=0.3,
        seen_at=time.time(),
        **{**case.permits, **given},
    )
    return job, trigger


async def _is_waited_for(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    record = case.part(simulator).record
    await triggerer.until(lambda: record.count("GET"))


def _is_stopped(simulator: Simulator, case: Case, job: str) -> bool:
    return job not in {view.job for view in case.part(simulator).jobs()}


@pytest.mark.asyncio
@every_end
async def test_the_event_tells_how_the_job_ended(
    triggerer: Triggerer, simulator: Simulator, case: Case, end: str
) -> None:
    _, trigger = begin(simulator, case, case.life(end, lasts=1))

    event = await triggerer.event(triggerer.add(trigger))

    assert event["status"] == end
    assert event["kind"] == "ended"
    assert event["job"]["url"].startswith("http") or not case.knows_url
    assert triggerer.supervisor.failures == {}


@pytest.mark.asyncio
@every_vendor
async def test_thirty_triggers_share_one_poller(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    ids = [
        triggerer.add(
            begin(simulator, case, case.life("success", lasts=1))[1], task_id=f"t{n}"
        )
        for n in range(30)
    ]

    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))

    events = [triggerer.supervisor.events[each] for each in ids]
    assert {(len(each), each[0]["status"]) for each in events} == {(1, "success")}
    assert len(shared_accounts()) == 1
    own = 30 * case.confirmations
    assert case.part(simulator).record.total - own < 30


@pytest.mark.asyncio
@every_vendor
async def test_a_kill_cancels_an_owned_job(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    job, trigger = begin(simulator, case, case.life(), owned=True)
    trigger_id = triggerer.add(trigger)
    await _is_waited_for(triggerer, simulator, case)
    triggerer.supervisor.states["sync"] = "failed"

    await triggerer.kill(trigger_id)
    await triggerer.settled()

    assert _is_stopped(simulator, case, job)


@pytest.mark.asyncio
@every_vendor
@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        pytest.param({"owned": False}, "failed", id="not ours"),
        pytest.param(
            {"owned": True, "cancel_on_kill": False}, "failed", id="told not to"
        ),
        pytest.param({"owned": True}, "deferred", id="taken over"),
        pytest.param({"owned": True}, "up_for_retry", id="to be retried"),
    ],
)
async def test_a_kill_leaves_other_jobs_alone(
    triggerer: Triggerer,
    simulator: Simulator,
    case: Case,
    arguments: dict[str, Any],
    state: str,
) -> None:
    job, trigger = begin(simulator, case, case.life(), **arguments)
    trigger_id = triggerer.add(trigger)
    await _is_waited_for(triggerer, simulator, case)
    triggerer.supervisor.states["sync"] = state
    shown: Any = trigger
    triggerer.supervisor.tokens["sync"] = {"try": 1, "job_id": shown.remote_job.job_id}

    await triggerer.kill(trigger_id)
    await triggerer.settled()

    assert not _is_stopped(simulator, case, job)


@pytest.mark.asyncio
@every_vendor
async def test_at_the_deadline_an_owned_job_is_cancelled(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    job, trigger = begin(
        simulator, case, case.life(), owned=True, end_time=time.time() + 1.0
    )

    event = await triggerer.event(triggerer.add(trigger))

    assert event["status"] == "timeout"
    assert event["cancel"] == "confirmed"
    assert _is_stopped(simulator, case, job)


@pytest.mark.asyncio
@every_vendor
async def test_at_the_deadline_a_foreign_job_is_left_alone(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    job, trigger = begin(simulator, case, case.life(), end_time=time.time() + 1.0)

    event = await triggerer.event(triggerer.add(trigger))

    assert (event["status"], event["cancel"]) == ("timeout", "none")
    assert not _is_stopped(simulator, case, job)


@pytest.mark.asyncio
@every_vendor
async def test_a_restarted_triggerer_tells_of_the_end_it_missed(
    simulator: Simulator, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, trigger = begin(simulator, case, case.life(), owned=True)
    async with a_triggerer(monkeypatch) as first:
        first.add(trigger)
        await _is_waited_for(first, simulator, case)

    case.part(simulator).finish(job, case.ends["success"])
    async with a_triggerer(monkeypatch) as second:
        event = await second.event(second.add(trigger))

    assert event["status"] == "success"
    assert not case.part(simulator).record.cancels


@pytest.mark.asyncio
@every_vendor
async def test_trouble_is_only_a_late_answer(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    for kind in ("reset", "close", "html", "cut"):
        fault: Any = {"kind": kind, "method": "GET", "times": 1}
        case.part(simulator).faults.add(Fault(**fault))

    case.part(simulator).faults.add(Fault(kind="status", status=503, method="GET"))
    _, trigger = begin(simulator, case, case.life("success", lasts=1))

    assert (await triggerer.event(triggerer.add(trigger)))["status"] == "success"
    assert sum(case.part(simulator).record.faults.values()) == 5
