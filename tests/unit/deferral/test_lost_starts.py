"""A start that was not answered: whose job is found, by which attempt, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.deferral.errors import JobFailed, JobTimedOut
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill
from tests.unit.deferral.stage import Deferral, Task, deferred, the_event
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest
    from tests.unit.deferral.vendors import Set, VendorWorld

three_vendors = pytest.mark.parametrize(
    "case", [AIRBYTE, FIVETRAN, DBT_CLOUD], ids=lambda case: case.name
)


@pytest.fixture
def shared(scene: Set) -> Set:
    """Return what makes a world in which a found job may be another user's."""

    def set_it(case: Case, *lives: str, **arguments: Any) -> tuple[VendorWorld, Task]:
        given = {**case.unscheduled, **case.anonymous, **arguments}
        world, task = scene(case, *lives, **given)
        case.schedule(world.vendor, case.target)
        return world, task

    return set_it


def run_another(world: VendorWorld) -> None:
    """Let a schedule start a job, or another DAG that gives the same reason."""
    world.case.add_alike(world.vendor, world.case.target, world.case.life())


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
    assert len(running(world)) == (1 if case.has_other_jobs else 2)


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


@pytest.mark.parametrize("status", [401, 403])
def test_one_refusal_between_the_two_checks_makes_no_job_another_users(
    scene: Set, status: int
) -> None:
    world, task = scene(AIRBYTE, AIRBYTE.life())
    lose_the_start(world)
    outcome = begin(task)
    refused = Fault(
        kind="status", path="*connections/*", times=None, lasts=20, status=status
    )
    is_refused = False

    def refuse_once(request: SimRequest) -> None:
        nonlocal is_refused
        is_look = request.method == "GET" and request.path.endswith("/jobs")
        if is_look and world.elapsed() > 95 and not is_refused:
            is_refused = True
            world.vendor.faults.add(refused)

    world.on_request.append(refuse_once)
    found = follow(task, outcome)
    kill(task, found)

    assert is_refused
    assert found.arguments["owned"] is True
    assert running(world) == []


def test_a_run_that_bears_the_mark_counts_before_a_users_retry_of_the_same_run(
    scene: Set,
) -> None:
    lives = [DBT_CLOUD.life("error"), DBT_CLOUD.life(), DBT_CLOUD.life()]
    world, task = scene(DBT_CLOUD, *lives, retry_from_failure=True)
    with pytest.raises(JobFailed):
        task.run()

    failed = int(world.vendor.jobs(finished=True)[0].job)
    theirs = world.vendor.add_run(DBT_CLOUD.target, DBT_CLOUD.life())
    world.vendor.runs[theirs].retrying = failed
    task.retry()
    lose_the_start(world)
    found = follow(task, deferred(task.execute()))
    assert len(running(world)) == 2
    kill(task, found)

    assert running(world) == [str(theirs)]


# Which attempt looks for it -------------------------------------------------------------


@every_vendor
def test_a_retry_that_finds_a_failed_job_starts_another(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life("error", lasts=30), case.life("success"))
    lose_the_start(world)
    begin(task)
    # The worker is lost, and Airflow takes its time to see that.
    world.pass_time(400)
    task.retry()

    assert task.run() is not None
    assert world.starts == 2


@every_vendor
def test_the_attempt_itself_fails_with_its_job(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life("error", lasts=30), case.life("success"))
    lose_the_start(world)

    with pytest.raises(JobFailed):
        task.go_on(begin(task))

    assert world.starts == 1
    task.retry()
    assert task.run() is not None
    assert world.starts == 2


@every_vendor
def test_a_retry_after_the_deadline_of_a_lost_start_starts_another(
    scene: Set, case: Case
) -> None:
    limit = timedelta(seconds=60)
    world, task = scene(
        case,
        case.life(),
        case.life("success"),
        deferrable=False,
        execution_timeout=limit,
    )
    lose_the_start(world, outage=limit.total_seconds() + 10)
    with pytest.raises(JobTimedOut):
        task.execute()

    assert world.cancels == 1
    task.retry()
    task.make = case.sync(deferrable=False)

    assert task.run() is not None
    assert (world.starts, world.cancels) == (2, 1)


@every_vendor
def test_a_retry_attaches_to_the_job_that_runs(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life())
    lose_the_start(world)
    begin(task)
    world.pass_time(100)
    task.retry()

    found = deferred(task.execute())

    assert found.method == "execute_complete"
    assert found.arguments["owned"] is True
    assert world.starts == 1


# What templates render meanwhile --------------------------------------------------------


def render_otherwise(world: VendorWorld, task: Task) -> None:
    """Let the templates of the task render something else from here on."""
    case = world.case
    if case.target_key in case.rendered:
        other = case.rendered[case.target_key]
        case.add_target(world.vendor, other, case.life("success"))

    task.make = case.sync(**case.rendered)


@three_vendors
def test_what_renders_otherwise_meanwhile_starts_no_second_job(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life())
    lose_the_start(world)
    outcome = begin(task)
    render_otherwise(world, task)

    found = follow(task, outcome)

    assert world.starts == 1
    assert found.arguments["owned"] is True
    kill(task, found)
    assert running(world) == []


@three_vendors
def test_what_renders_otherwise_meanwhile_is_stopped_with_the_task(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life())
    lose_the_start(world, outage=200.0)
    first = begin(task)
    render_otherwise(world, task)
    second = deferred(task.resume(first, task.wait(first)))
    assert second.method == "execute_start"

    kill(task, second)

    assert (world.starts, world.cancels) == (1, 1)
    assert running(world) == []


@three_vendors
def test_what_renders_otherwise_meanwhile_is_started_where_nothing_was(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life("success"))
    lose_the_start(world, takes_effect=False)
    outcome = begin(task)
    render_otherwise(world, task)

    assert task.go_on(outcome) is not None
    assert world.starts == 1


@three_vendors
def test_a_retry_with_other_arguments_looks_for_no_job_of_the_old_ones(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life())
    lose_the_start(world)
    begin(task)
    world.pass_time(400)
    render_otherwise(world, task)
    task.retry()

    deferred(task.execute())

    assert (world.starts, world.cancels) == (2, 0)
