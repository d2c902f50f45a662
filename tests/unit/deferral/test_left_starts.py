"""Starts that were left to triggers, of which the next attempt finds only a note."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent

from async_triggers.deferral.compat import AirflowSkipException
from async_triggers.deferral.errors import (
    JobAlreadyRunning,
    JobFailed,
    JobTimedOut,
)
from async_triggers.deferral.record import UNSETTLED_KEY
from async_triggers.simulator import Fault
from tests.airflow_versions import end_with_the_loop
from tests.unit.deferral.stage import Deferral, Task, deferred, the_event
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One vendor's world, and a task in it that leaves its start to the trigger."""

    world: VendorWorld
    case: Case
    task: Task

    def lose_the_resume(self) -> None:
        """Let the job end, and lose the worker that resumes while it parses the DAG."""
        self.task.wait(deferred(self.task.execute()))
        self.task.retry()

    def wait_for(self, seconds: float) -> Deferral:
        """Let a triggerer start the job and wait for a while, and stop it."""
        deferral = deferred(self.task.execute())

        async def wait() -> None:
            waiting = asyncio.create_task(the_event(self.task.trigger(deferral)))
            await asyncio.sleep(seconds)
            await end_with_the_loop([waiting])

        asyncio.run(wait())
        return deferral

    def succeed(self) -> None:
        """Let the trigger end the task well."""
        event = self.task.end(deferred(self.task.execute()))
        assert type(event) is TaskSuccessEvent

    @property
    def runs(self) -> list[Any]:
        """What was started, the oldest first."""
        return list(self.world.vendor.record.started)


Set = Callable[..., Scene]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Return what sets a scene."""

    def set_it(case: Case, *lives: str, **arguments: Any) -> Scene:
        world = make_vendor_world(monkeypatch, case)
        world.add_target(*lives)
        given = {"start_in_trigger": True, **arguments}
        return Scene(world, case, Task(world, case.sync(**given)))

    return set_it


# A worker that is lost before it has written the outcome down -------------------------


def dbt(end: str = "", *, lasts: float = 60) -> str:
    return DBT_CLOUD.life(end, lasts=lasts)


@pytest.mark.parametrize("times", [1, 2])
def test_the_retry_takes_the_result_of_a_run_that_bears_the_tasks_mark(
    scene: Set, times: int
) -> None:
    here = scene(DBT_CLOUD, dbt("success"), dbt("success"))
    for _ in range(times):
        here.lose_the_resume()

    returned = here.task.run()

    assert here.world.starts == 1
    assert returned == int(here.runs[0].job)
    assert here.task.xcoms["dbt_cloud_run"]["attached"] is False
    assert UNSETTLED_KEY not in here.task.store.values


def test_a_retry_attaches_to_a_marked_run_that_goes_on(scene: Set) -> None:
    here = scene(DBT_CLOUD, dbt("success", lasts=600), dbt("success"))
    here.wait_for(30)

    here.task.retry()
    here.task.run()

    assert here.world.starts == 1


@pytest.mark.parametrize("is_cleared", [False, True])
def test_an_attempt_that_came_to_nothing_keeps_the_note(
    scene: Set, *, is_cleared: bool
) -> None:
    here = scene(DBT_CLOUD, dbt("success", lasts=9000), dbt("success"), timeout=600)
    here.wait_for(30)
    first = here.runs[0].job
    (here.task.clear if is_cleared else here.task.retry)()
    deferral = deferred(here.task.execute())
    outage = Fault(kind="status", method="GET", times=None, lasts=2000, status=502)
    here.world.vendor.faults.add(outage)
    with pytest.raises(JobTimedOut):
        here.task.go_on(deferral)

    here.world.pass_time(2500)
    here.task.retry()
    here.task.make = DBT_CLOUD.sync(start_in_trigger=True)
    here.task.run()

    # After a clear the run is ended and another one started; a retry takes it up.
    assert here.runs[0].job == first
    assert here.world.starts == 1 + int(is_cleared)
    assert here.world.cancels == int(is_cleared)


@every_vendor
def test_a_try_fails_with_its_own_job_also_after_the_triggerer_was_away(
    scene: Set, case: Case
) -> None:
    here = scene(case, case.life("error", lasts=120), case.life("success"))
    deferral = here.wait_for(30)
    here.world.pass_time(300)

    with pytest.raises(JobFailed):
        here.task.go_on(deferral)

    assert here.world.starts == 1


@pytest.mark.parametrize("retry_from_failure", [False, True])
def test_a_retry_starts_again_after_a_marked_run_that_failed(
    scene: Set, *, retry_from_failure: bool
) -> None:
    here = scene(
        DBT_CLOUD,
        dbt("error"),
        dbt("success"),
        dbt("success"),
        retry_from_failure=retry_from_failure,
    )
    here.lose_the_resume()

    # While the start has to wait, the failed run is dealt with once.
    here.world.vendor.faults.add(
        Fault(kind="status", status=429, times=2, **DBT_CLOUD.start)
    )
    here.task.run()

    assert here.world.starts == 2
    again = "retrying_run_id" in here.runs[1].details
    assert again is retry_from_failure


@pytest.mark.parametrize("retry_from_failure", [False, True])
def test_the_newest_run_counts_where_an_earlier_one_is_written_down(
    scene: Set, *, retry_from_failure: bool
) -> None:
    """Also where it is the retry of that one, which bears no mark."""
    here = scene(
        DBT_CLOUD,
        dbt("error"),
        dbt("success"),
        dbt("success"),
        retry_from_failure=retry_from_failure,
    )
    with pytest.raises(JobFailed):
        here.task.run()

    here.task.retry()
    here.lose_the_resume()
    returned = here.task.run()

    assert here.world.starts == 2
    assert returned == int(here.runs[1].job)


def test_a_retry_with_other_arguments_takes_no_result(scene: Set) -> None:
    here = scene(DBT_CLOUD, dbt("success"), dbt("success"))
    here.lose_the_resume()

    here.task.make = DBT_CLOUD.sync(start_in_trigger=True, **DBT_CLOUD.changed)
    here.task.run()

    assert here.world.starts == 2


def test_nor_does_a_task_that_was_cleared(scene: Set) -> None:
    here = scene(DBT_CLOUD, dbt("success"), dbt("success"))
    here.lose_the_resume()
    here.task.clear()

    here.task.run()

    assert here.world.starts == 2


def test_a_retry_after_a_clear_takes_the_result_of_its_own_start(scene: Set) -> None:
    here = scene(DBT_CLOUD, dbt(), dbt("success"), dbt("success"))
    here.wait_for(30)
    here.task.clear()
    here.lose_the_resume()

    here.task.run()

    assert here.world.starts == 2
    assert here.world.cancels == 1


def test_a_run_without_a_mark_is_started_again(scene: Set) -> None:
    here = scene(DBT_CLOUD, dbt("success"), dbt("success"), mark_cause=False)
    here.lose_the_resume()

    here.task.run()

    assert here.world.starts == 2


# A note that outlives a success -------------------------------------------------------

shared = pytest.mark.parametrize(
    "case", [AIRBYTE, FIVETRAN], ids=lambda case: case.name
)


def cleared_a_day_later(here: Scene) -> int:
    """Clear a task that has succeeded, while a job of another user runs."""
    here.succeed()
    here.world.pass_time(DAY)
    here.world.add_foreign(here.case.life("success", lasts=600))
    here.world.pass_time(60)
    here.task.clear()
    return here.world.starts


@shared
@pytest.mark.parametrize(
    ("if_running", "expected"),
    [("fail", JobAlreadyRunning), ("skip", AirflowSkipException)],
)
def test_a_job_of_others_is_met_as_if_running_says_after_a_success_was_cleared(
    scene: Set, case: Case, if_running: str, expected: type[Exception]
) -> None:
    life = case.life("success")
    here = scene(case, life, life, if_running=if_running, end_from_trigger=True)
    started = cleared_a_day_later(here)

    with pytest.raises(expected):
        here.task.run()

    assert here.world.starts == started


@shared
def test_nor_is_it_waited_for_where_it_may_be_attached_to(
    scene: Set, case: Case
) -> None:
    life = case.life("success")
    here = scene(case, life, life, if_running="attach", end_from_trigger=True)
    started = cleared_a_day_later(here)

    here.succeed()

    assert here.world.starts == started
    assert here.task.xcoms[case.statistics_key]["attached"] is True


@shared
@pytest.mark.parametrize("cancel_on_kill", [False, True])
def test_a_success_that_was_cleared_is_followed_by_a_job_of_the_tasks_own(
    scene: Set, case: Case, *, cancel_on_kill: bool
) -> None:
    life = case.life("success")
    here = scene(case, life, life, cancel_on_kill=cancel_on_kill, end_from_trigger=True)
    started = cleared_a_day_later(here)

    here.succeed()

    assert here.world.starts == started + 1
    assert here.world.cancels == 0
    assert here.task.xcoms[case.statistics_key]["attached"] is False


def test_the_sync_of_the_newest_clear_is_attached_to_all_the_same(scene: Set) -> None:
    here = scene(
        FIVETRAN,
        FIVETRAN.life("success"),
        FIVETRAN.life("success", lasts=600),
        FIVETRAN.life("success"),
        cancel_on_kill=False,
        end_from_trigger=True,
    )
    here.succeed()
    here.world.pass_time(DAY)
    here.task.clear()
    here.wait_for(30)
    here.task.clear()

    here.succeed()

    assert here.world.starts == 2
    assert here.task.xcoms["fivetran_sync"]["attached"] is True


def test_so_is_one_that_had_to_wait_for_a_sync_of_others(scene: Set) -> None:
    """The first sync since the start was left to the trigger is not always its own."""
    here = scene(
        FIVETRAN,
        FIVETRAN.life("success", lasts=900),
        FIVETRAN.life("success"),
        cancel_on_kill=False,
    )
    deferral = deferred(here.task.execute())
    here.world.pass_time(5)
    here.world.add_foreign("syncing:120 succeeded")
    started = here.world.starts

    async def wait() -> None:
        waiting = asyncio.create_task(the_event(here.task.trigger(deferral)))
        await asyncio.sleep(400)
        await end_with_the_loop([waiting])

    asyncio.run(wait())
    assert here.world.starts == started + 1

    here.task.clear()
    here.task.run()

    assert here.world.starts == started + 1
    assert here.task.xcoms["fivetran_sync"]["attached"] is True
