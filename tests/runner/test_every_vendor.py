"""What any vendor's trigger does in Airflow's own TriggerRunner, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.api.vendor import Airbyte
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.api.vendor import DbtCloud
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.engine.accounts import shared_accounts
from async_triggers.fivetran.api.vendor import Fivetran
from async_triggers.fivetran.triggers import FivetranTrigger
from async_triggers.simulator import Fault
from tests.runner.harness import a_triggerer

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer

pytestmark = pytest.mark.runner


@dataclass(frozen=True, slots=True)
class Case:
    """One vendor: how a job of it is begun, and the trigger that waits for it.

    ``begin`` takes one of the ``words`` below for how the job ends, "" for never, and
    returns the job's id at the simulator with its trigger.
    """

    name: str
    begin: Callable[..., tuple[str, BaseTrigger]]
    words: dict[str, str]

    def vendor(self, simulator: Simulator) -> Any:
        """Return the vendor's part of the simulator."""
        return getattr(simulator, self.name)

    def life(self, end: str) -> str:
        """Return the life of a job that ends a second from now, or never."""
        running = "syncing" if self.name == "fivetran" else "running"
        return f"{running}:1 {self.words[end]}" if end else running


def _airbyte(simulator: Simulator, life: str, **given: Any) -> tuple[str, BaseTrigger]:
    connection = simulator.airbyte.add_connection()
    job = simulator.airbyte.add_job(connection, life)
    trigger = AirbyteSyncTrigger(
        job,
        "airbyte_default",
        given.pop("end_time", None),
        0.3,
        seen_at=time.time(),
        **given,
    )
    return str(job), trigger


def _fivetran(simulator: Simulator, life: str, **given: Any) -> tuple[str, BaseTrigger]:
    connection = simulator.fivetran.add_connection(schedule_type="manual")
    simulator.fivetran.start_sync(connection, life)
    trigger = FivetranTrigger(
        "sync",
        connection,
        "fivetran_default",
        poke_interval=0.3,
        baseline="~~",
        **{"cancel_on_kill": True, "cancel_on_timeout": True, **given},
    )
    return connection, trigger


def _dbt_cloud(
    simulator: Simulator, life: str, **given: Any
) -> tuple[str, BaseTrigger]:
    run = simulator.dbt_cloud.add_run(simulator.dbt_cloud.add_job(), life)
    trigger = DbtCloudRunJobTrigger(
        "dbt_cloud_default",
        run,
        given.pop("end_time", None),
        0.3,
        None,
        seen_at=time.time(),
        **given,
    )
    return str(run), trigger


CASES = [
    Case(
        "airbyte",
        _airbyte,
        {"success": "succeeded", "error": "failed", "cancelled": "cancelled"},
    ),
    Case("fivetran", _fivetran, {"success": "succeeded", "error": "failed"}),
    Case(
        "dbt_cloud",
        _dbt_cloud,
        {"success": "success", "error": "error", "cancelled": "cancelled"},
    ),
]
every_vendor = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rounds of all vendors come sooner than they may in earnest."""
    for vendor in (Airbyte, Fivetran, DbtCloud):
        monkeypatch.setattr(vendor, "grid_floor", 0.3)


async def _is_waited_for(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    record = case.vendor(simulator).record
    await triggerer.until(lambda: record.count("GET"))


def _is_stopped(simulator: Simulator, case: Case, job: str) -> bool:
    return job not in {view.job for view in case.vendor(simulator).jobs()}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("case", "end"),
    [
        pytest.param(case, end, id=f"{case.name}-{end}")
        for case in CASES
        for end in case.words
    ],
)
async def test_the_event_tells_how_the_job_ended(
    triggerer: Triggerer, simulator: Simulator, case: Case, end: str
) -> None:
    _, trigger = case.begin(simulator, case.life(end))

    event = await triggerer.event(triggerer.add(trigger))

    assert event["status"] == end
    assert event["kind"] == "ended"
    assert event["job"]["url"].startswith("http") or case.name == "airbyte"
    assert triggerer.supervisor.failures == {}


@pytest.mark.asyncio
@every_vendor
async def test_thirty_triggers_share_one_poller(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    ids = [
        triggerer.add(case.begin(simulator, case.life("success"))[1], task_id=f"t{n}")
        for n in range(30)
    ]

    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))

    events = [triggerer.supervisor.events[each] for each in ids]
    assert {(len(each), each[0]["status"]) for each in events} == {(1, "success")}
    assert len(shared_accounts()) == 1
    # Each sync of Fivetran is confirmed and settled by two requests of its own.
    own = 60 if case.name == "fivetran" else 0
    assert case.vendor(simulator).record.total - own < 30


@pytest.mark.asyncio
@every_vendor
async def test_a_kill_cancels_an_owned_job(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    job, trigger = case.begin(simulator, case.life(""), owned=True)
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
    job, trigger = case.begin(simulator, case.life(""), **arguments)
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
    job, trigger = case.begin(
        simulator, case.life(""), owned=True, end_time=time.time() + 1.0
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
    job, trigger = case.begin(simulator, case.life(""), end_time=time.time() + 1.0)

    event = await triggerer.event(triggerer.add(trigger))

    assert (event["status"], event["cancel"]) == ("timeout", "none")
    assert not _is_stopped(simulator, case, job)


@pytest.mark.asyncio
@every_vendor
async def test_a_restarted_triggerer_tells_of_the_end_it_missed(
    simulator: Simulator, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, trigger = case.begin(simulator, case.life(""), owned=True)
    async with a_triggerer(monkeypatch) as first:
        first.add(trigger)
        await _is_waited_for(first, simulator, case)

    case.vendor(simulator).finish(job, case.words["success"])
    async with a_triggerer(monkeypatch) as second:
        event = await second.event(second.add(trigger))

    assert event["status"] == "success"
    assert not case.vendor(simulator).record.cancels


@pytest.mark.asyncio
@every_vendor
async def test_trouble_is_only_a_late_answer(
    triggerer: Triggerer, simulator: Simulator, case: Case
) -> None:
    for kind in ("reset", "close", "html", "cut"):
        fault: Any = {"kind": kind, "method": "GET", "times": 1}
        case.vendor(simulator).faults.add(Fault(**fault))

    case.vendor(simulator).faults.add(Fault(kind="status", status=503, method="GET"))
    _, trigger = case.begin(simulator, case.life("success"))

    assert (await triggerer.event(triggerer.add(trigger)))["status"] == "success"
    assert sum(case.vendor(simulator).record.faults.values()) == 5
