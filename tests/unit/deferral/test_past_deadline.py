"""What a task that waits on its worker does once it is over: it leaves its slot soon."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.compat import AirflowException
from async_triggers.deferral.errors import JobTimedOut
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FERRY, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

HOUR = 3600.0
DEADLINE = 200.0
DEADLINES: dict[str, dict[str, Any]] = {
    "timeout": {"timeout": DEADLINE},
    "execution_timeout": {
        "timeout": 90_000,
        "execution_timeout": timedelta(seconds=DEADLINE),
    },
}
CONFIRMED_WITHIN = 20.0
"""Seconds in which a job that can be cancelled is seen to stop."""
LATEST = 180.0
"""Seconds past the deadline of a vendor that answers nothing."""

every_deadline = pytest.mark.parametrize("deadline", DEADLINES)
slow_to_stop = pytest.mark.parametrize(
    "case", [AIRBYTE, DBT_CLOUD, FERRY], ids=["airbyte", "dbt_cloud", "ferry"]
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    return make_vendor_world(monkeypatch, case)


def waiting(world: VendorWorld, **how: Any) -> Task:
    world.add_target(world.case.life())
    return Task(world, world.case.sync(**{"timeout": 90_000, **how}, deferrable=False))


def pause(seconds: int) -> Fault:
    return Fault(kind="status", status=429, retry_after=seconds, start_in=100, times=1)


@every_vendor
@every_deadline
@pytest.mark.parametrize("seconds", [400, 3600])
def test_a_pause_of_the_account_keeps_no_task_in_its_slot(
    world: VendorWorld, case: Case, deadline: str, seconds: int
) -> None:
    task = waiting(world, **DEADLINES[deadline])
    world.vendor.faults.add(pause(seconds))

    with pytest.raises(JobTimedOut):
        task.execute()

    assert DEADLINE <= world.elapsed() <= DEADLINE + CONFIRMED_WITHIN
    assert not world.vendor.jobs()


@pytest.mark.parametrize("case", [AIRBYTE, FIVETRAN], ids=["airbyte", "fivetran"])
def test_nor_one_that_waits_behind_another_job(world: VendorWorld, case: Case) -> None:
    task = waiting(world, if_running="wait", **DEADLINES["execution_timeout"])
    world.add_foreign(case.life())
    world.vendor.faults.add(pause(3600))

    with pytest.raises(JobTimedOut):
        task.execute()

    assert DEADLINE <= world.elapsed() <= DEADLINE + CONFIRMED_WITHIN


@pytest.mark.parametrize("case", [AIRBYTE], ids=["airbyte"])
def test_nor_a_hook_that_waits(world: VendorWorld, case: Case) -> None:
    world.add_target()
    job = world.add_foreign(case.life())
    world.vendor.faults.add(pause(3600))

    with pytest.raises(AirflowException):
        AirbyteHook("airbyte_default").wait_for_job(int(job), 10, DEADLINE)

    assert DEADLINE <= world.elapsed() <= DEADLINE + CONFIRMED_WITHIN


@every_vendor
@every_deadline
def test_a_vendor_that_answers_nothing_keeps_it_for_three_minutes(
    world: VendorWorld, case: Case, deadline: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = waiting(world, **DEADLINES[deadline])
    world.vendor.faults.add(Fault(kind="hang", times=None, start_in=100, lasts=HOUR))

    with pytest.raises(JobTimedOut, match="could not be confirmed"):
        task.execute()

    assert world.elapsed() <= DEADLINE + LATEST
    assert world.elapsed() > DEADLINE + 60.0
    assert "did not answer within 60 s). It is still running" in caplog.text


def end_and_start_again(world: VendorWorld, task: Task) -> None:
    """Let a retry end the job that still runs, and start its own."""
    assert world.vendor.jobs()
    task.retry()
    world.pass_time(60)

    task.run()

    assert world.starts == 2
    assert not world.vendor.jobs()


@slow_to_stop
@every_deadline
@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on a worker"])
def test_a_retry_ends_a_job_that_is_slow_to_stop_and_starts_its_own(
    world: VendorWorld, case: Case, deadline: str, *, deferrable: bool
) -> None:
    world.add_target(case.life(), case.life("success"))
    given = {"timeout": 90_000, **DEADLINES[deadline]}
    task = Task(world, case.sync(**given, deferrable=deferrable))
    world.vendor.configure(**dict.fromkeys(case.slow_cancel, 400.0))
    with pytest.raises(JobTimedOut, match="could not be confirmed"):
        task.run()

    task.make = case.sync(timeout=90_000, deferrable=deferrable)
    end_and_start_again(world, task)


@slow_to_stop
def test_so_it_does_where_airflows_own_timeout_comes_first(
    world: VendorWorld, case: Case
) -> None:
    world.add_target(case.life(), case.life("success"))
    task = Task(world, case.sync(timeout=90_000))
    deferred(task.execute())
    world.pass_time(60)
    world.vendor.configure(**dict.fromkeys(case.slow_cancel, 400.0))
    task.expire()

    end_and_start_again(world, task)


@every_vendor
def test_what_was_seen_to_stop_late_is_the_job_of_a_retry(
    world: VendorWorld, case: Case
) -> None:
    """It has ended: nothing is cancelled for the retry."""
    world.add_target(case.life(), case.life("success"))
    task = Task(world, case.sync(timeout=90_000))
    deferred(task.execute())
    world.pass_time(60)
    task.expire()
    cancels = world.cancels

    task.retry()
    task.run()

    assert (world.starts, world.cancels) == (2, cancels)
    assert task.store.values["async_triggers"]["killed"] is False
