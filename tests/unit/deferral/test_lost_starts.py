"""A start that was not answered: whose job is found, by which attempt, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.deferral.errors import JobTimedOut
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill
from tests.unit.deferral.stage import Deferral, Task, deferred, the_event
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest

REASON = "nightly"
"""The reason that several DAGs give to dbt Cloud."""

Set = Callable[..., tuple[VendorWorld, Task]]

three_vendors = pytest.mark.parametrize(
    "case", [AIRBYTE, FIVETRAN, DBT_CLOUD], ids=lambda case: case.name
)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Return what makes a world in which jobs take the lives that are named."""

    def set_it(case: Case, *lives: str, **arguments: Any) -> tuple[VendorWorld, Task]:
        world = make_vendor_world(monkeypatch, case)
        world.add_target(*lives)
        return world, Task(world, case.sync(**arguments))

    return set_it


@pytest.fixture
def shared(scene: Set) -> Set:
    """Return what makes a world in which a found job may be another user's."""

    def set_it(case: Case, *lives: str, **arguments: Any) -> tuple[VendorWorld, Task]:
        given = {**case.unscheduled, **arguments}
        if case is DBT_CLOUD:
            given |= {"mark_cause": False, "trigger_reason": REASON}

        world, task = scene(case, *lives, **given)
        case.schedule(world.vendor, case.target)
        return world, task

    return set_it


def run_another(world: VendorWorld) -> None:
    """Let a schedule start a job, or another DAG that gives the same reason."""
    if world.case is DBT_CLOUD:
        world.vendor.add_run(world.case.target, world.case.life(), cause=REASON)
    else:
        world.add_foreign(world.case.life())


def at_the_start(world: VendorWorld, act: Callable[[], object]) -> None:
    """Do something when the request is sent that starts a job."""

    def listen(asked: SimRequest) -> None:
        if asked.method == "POST" and asked.path.endswith(world.case.start_path):
            world.on_request.remove(listen)
            act()

    world.on_request.append(listen)


def lose_the_start(
    world: VendorWorld, *, takes_effect: bool = True, outage: float = 90.0
) -> None:
    """Lose the answer of the next start, and let the vendor be away after it."""
    lost = Fault(kind="reset", takes_effect=takes_effect, **world.case.start)
    away = Fault(kind="status", method="GET", times=None, lasts=outage, status=502)
    world.vendor.faults.add(lost)
    at_the_start(world, lambda: world.vendor.faults.add(away))


def running(world: VendorWorld) -> list[str]:
    """Return the jobs that have not ended."""
    return [view.job for view in world.vendor.jobs()]


def begin(task: Task) -> Deferral:
    """Run the segment that loses the start."""
    found = deferred(task.execute())
    assert found.method == "execute_start"
    return found


def follow(task: Task, outcome: Deferral) -> Deferral:
    """Let the task come back to its start until it waits for a job."""
    while outcome.method == "execute_start":
        outcome = deferred(task.resume(outcome, task.wait(outcome)))

    return outcome


def kill(task: Task, deferral: Deferral) -> None:
    """Let a user mark the deferred task as failed."""
    trigger = task.trigger(deferral)

    async def main() -> None:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(10)
        task.world.states["sync", -1] = "failed"
        waiting.cancel()
        await asyncio.wait({waiting})
        await call_on_kill(trigger)
        await asyncio.sleep(1500)

    asyncio.run(main())


# Whose job it is ------------------------------------------------------------------------


@every_vendor
def test_a_job_that_is_certain_to_be_ours_stays_ours(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life())
    lose_the_start(world)

    found = follow(task, begin(task))

    assert found.arguments["owned"] is True
    kill(task, found)
    assert (world.starts, world.cancels) == (1, 1)
    assert running(world) == []


def found_of_others(world: VendorWorld, task: Task) -> Deferral:
    """Return the wait for a job of others that comes while the task cannot look."""
    lose_the_start(world, takes_effect=False)
    outcome = begin(task)
    run_another(world)
    found = follow(task, outcome)
    assert len(running(world)) == 1
    assert world.starts == 0
    return found


@three_vendors
def test_a_kill_spares_a_job_that_may_be_of_others(
    shared: Set, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    world, task = shared(case)

    found = found_of_others(world, task)

    assert found.arguments["owned"] is False
    assert "so may another user: this task never cancels it" in caplog.text
    kill(task, found)
    assert world.cancels == 0
    assert len(running(world)) == 1


@three_vendors
def test_a_timeout_spares_a_job_that_may_be_of_others(shared: Set, case: Case) -> None:
    world, task = shared(case, timeout=900)

    with pytest.raises(JobTimedOut, match="left running"):
        task.go_on(found_of_others(world, task))

    assert world.cancels == 0
    assert len(running(world)) == 1


@three_vendors
def test_a_clear_spares_a_job_that_may_be_of_others(shared: Set, case: Case) -> None:
    world, task = shared(case, case.life())
    found_of_others(world, task)
    task.clear()

    task.execute()

    assert world.cancels == 0
    # Runs of dbt Cloud do not stand in each other's way.
    assert len(running(world)) == (2 if case is DBT_CLOUD else 1)


@three_vendors
def test_a_job_of_others_that_comes_with_the_lost_answer_is_spared(
    shared: Set, case: Case
) -> None:
    world, task = shared(case)
    world.vendor.faults.add(Fault(kind="reset", **case.start))
    at_the_start(world, lambda: run_another(world))

    found = deferred(task.execute())

    assert found.method == "execute_complete"
    assert found.arguments["owned"] is False


def test_after_a_clear_what_may_be_the_old_job_is_waited_for(shared: Set) -> None:
    """Although if_running attaches to jobs of others: it is not the one to come."""
    world, task = shared(
        AIRBYTE, AIRBYTE.life("success", lasts=600), if_running="attach"
    )
    lose_the_start(world)
    begin(task)
    world.pass_time(100)
    task.clear()

    behind = deferred(task.execute())

    assert behind.method == "execute_start"
    assert behind.arguments["job_id"] == 1
    assert task.go_on(behind) == 2
    assert (world.starts, world.cancels) == (2, 0)


def test_without_the_history_an_old_start_is_waited_for_all_the_same(
    scene: Set,
) -> None:
    """Fivetran shows the history only to some plans, and it is not the task's end."""
    world, task = scene(FIVETRAN, FIVETRAN.life("success", lasts=1200))
    world.vendor.configure(sync_history=False)
    lose_the_start(world, outage=500.0)

    found = follow(task, begin(task))

    assert found.arguments["owned"] is False
    assert task.go_on(found) is not None
    assert world.starts == 1


def test_an_outage_between_the_two_checks_makes_no_job_another_users(
    scene: Set,
) -> None:
    world, task = scene(AIRBYTE, AIRBYTE.life())
    away = Fault(
        kind="status", method="GET", path=AIRBYTE.before_start, times=None, lasts=60
    )
    world.vendor.faults.add(
        Fault(kind="reset", takes_effect=True, **AIRBYTE.start),
    )
    at_the_start(world, lambda: world.vendor.faults.add(away))

    found = follow(task, deferred(task.execute()))

    assert found.arguments["owned"] is True
    assert world.starts == 1
