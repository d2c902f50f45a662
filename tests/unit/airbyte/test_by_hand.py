"""The official provider's calls, made by hand: they block, on a virtual clock."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.hooks import AirbyteHook, JobStatusEnum
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.errors import (
    JobAlreadyRunning,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    VendorRefused,
)
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import TARGET, Task, World, deferred, make_world, sync

if TYPE_CHECKING:
    from async_triggers.deferral.compat import AirflowException


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def lives(world: World, *words: str) -> None:
    world.airbyte.add_connection(TARGET, lives=words)


def test_a_sync_from_start_to_end(world: World) -> None:
    lives(world, "running:60 succeeded")
    hook = AirbyteHook()

    job = hook.submit_sync_connection(TARGET)

    assert isinstance(job.job_id, int)
    assert job.job_type == "sync"
    assert job.connection_id == TARGET
    assert job.last_updated_at is None
    assert job.status in {JobStatusEnum.PENDING, JobStatusEnum.RUNNING}
    with pytest.raises(JobAlreadyRunning):
        hook.submit_sync_connection(TARGET)

    hook.wait_for_job(job.job_id)
    assert 60 <= world.elapsed() < 75
    ended = hook.get_job_details(job.job_id)
    assert ended.status == hook.get_job_status(job.job_id) == JobStatusEnum.SUCCEEDED
    assert ended.rows_synced is not None
    assert ended.last_updated_at is not None


def test_a_reset(world: World) -> None:
    assert AirbyteHook().submit_reset_connection(TARGET).job_type == "reset"


def test_a_status_is_equal_to_that_of_airbytes_own_package() -> None:
    # Made as theirs is.
    class Theirs(str, Enum):  # noqa: UP042
        SUCCEEDED = "succeeded"

    theirs: Any = Theirs.SUCCEEDED

    assert theirs == JobStatusEnum.SUCCEEDED
    assert hash(theirs) == hash(JobStatusEnum.SUCCEEDED)


def test_a_status_that_is_new_is_a_text(world: World) -> None:
    job = world.airbyte.add_job(TARGET, "thinking")

    assert AirbyteHook().get_job_status(job) == "thinking"


@pytest.mark.parametrize(
    ("life", "failure"),
    [("running:60 failed", JobFailed), ("running:60 cancelled", JobCancelled)],
)
def test_a_job_that_does_not_succeed(
    world: World, life: str, failure: type[AirflowException]
) -> None:
    job = world.airbyte.add_job(TARGET, life)

    with pytest.raises(failure, match=f"Job {job} "):
        AirbyteHook().wait_for_job(str(job), wait_seconds=5, timeout=None)


def test_a_wait_outlives_an_outage(world: World) -> None:
    job = world.airbyte.add_job(TARGET, "running:60 succeeded")
    world.airbyte.faults.add(Fault(kind="status", status=503, seconds=40))

    AirbyteHook().wait_for_job(job)

    assert world.elapsed() >= 60


def test_a_wait_that_is_over_cancels_the_job(world: World) -> None:
    job = world.airbyte.add_job(TARGET, "running:9999 succeeded")

    with pytest.raises(JobTimedOut, match=f"Job {job} was running after 30 s"):
        AirbyteHook().wait_for_job(job, timeout=30)

    assert world.state_of(job) == "cancelled"


def test_a_cancel_by_hand(world: World) -> None:
    hook = AirbyteHook()
    job = world.airbyte.add_job(TARGET, "running")

    assert hook.cancel_job(job).status == JobStatusEnum.CANCELLED
    assert hook.cancel_job(job).job_id == job
    assert world.cancels == 1


def test_errors_are_airflows(world: World) -> None:
    with pytest.raises(VendorRefused, match="job 99"):
        AirbyteHook().get_job_status(99)

    with pytest.raises(ValueError, match="job_id must be a whole number"):
        AirbyteHook().wait_for_job("None")


def test_the_fields_of_a_connection(world: World) -> None:
    world.connect("another", host="http://h", schema="t", extra='{"timeout": 7}')

    found = AirbyteHook("another").conn

    assert found == AirbyteHook().get_conn_params("another")
    assert found == {
        "host": "http://h",
        "client_id": "simulator-client",
        "client_secret": "simulator-secret",
        "token_url": "t",
        "proxies": None,
        "timeout": 7,
    }
    assert AirbyteHook().conn["token_url"] == "v1/applications/token"


def test_the_form_of_connections() -> None:
    assert AirbyteHook.get_ui_field_behaviour()["relabeling"]["host"] == "Server URL"
    assert AirbyteHook.get_ui_field_behaviour()["hidden_fields"] == ["port"]


def test_a_trigger_is_asked_whether_its_job_runs(world: World) -> None:
    job = world.airbyte.add_job(TARGET, "running:60 succeeded")
    trigger = AirbyteSyncTrigger(job, "airbyte_default", None, 5)

    assert asyncio.run(trigger.is_still_running(AirbyteHook()))
    world.pass_time(60)
    assert not asyncio.run(trigger.is_still_running(AirbyteHook()))


def test_the_same_error_from_a_running_loop(world: World) -> None:
    trigger = AirbyteSyncTrigger(99, "airbyte_default", None, 5)

    with pytest.raises(VendorRefused, match="job 99"):
        asyncio.run(trigger.is_still_running(AirbyteHook()))


# Tasks ------------------------------------------------------------------------------


def test_a_task_knows_its_job(world: World) -> None:
    lives(world, "running:60 failed")
    task = Task(world, sync(deferrable=True))
    assert task.make().job_id is None  # type: ignore[attr-defined]

    outcome = deferred(task.execute())

    job = int(outcome.arguments["job_id"])
    assert task.operator.job_id == job
    event = task.wait(outcome)
    with pytest.raises(JobFailed):
        task.resume(outcome, event)

    # On another worker, for callbacks.
    assert task.operator.job_id == job
    assert task.operator.hook.get_job_status(job) == "failed"


def test_a_task_knows_its_job_when_airflows_timeout_comes_first(world: World) -> None:
    lives(world, "running:9999 succeeded")
    task = Task(world, sync(deferrable=True))
    outcome = deferred(task.execute())

    task.expire()

    assert task.operator.job_id == int(outcome.arguments["job_id"])


def test_a_sensor_has_a_hook(world: World) -> None:
    sensor: Any = AirbyteJobSensor(task_id="s", airbyte_job_id=1, api_version="v2")

    assert isinstance(sensor.hook, AirbyteHook)
    assert sensor.hook.api_version == "v2"
