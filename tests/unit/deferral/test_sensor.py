from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.bases import sensor as base

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.deferral import compat
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import (
    AirflowException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    EventUnusable,
    JobCancelled,
    JobFailed,
    VendorRefused,
)
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import TARGET, Task, World, deferred, make_world, methods

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ("poke", "reschedule", "deferrable")
EVERY_MODE = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything around a task; a sensor that sleeps lets the world's time pass."""
    world = make_world(monkeypatch)

    class Clock:
        sleep = staticmethod(world.pass_time)
        monotonic = staticmethod(world.elapsed)

    def utcnow() -> Any:
        return Task(world, a_sensor("poke")).instance.start_date

    monkeypatch.setattr(base, "time", Clock)
    monkeypatch.setattr(base, "timezone", SimpleNamespace(utcnow=utcnow))
    return world


def a_sensor(mode: str, **arguments: Any) -> Callable[[], AirbyteJobSensor]:
    """Return a maker of a sensor that waits in this mode."""

    def make() -> AirbyteJobSensor:
        given: dict[str, Any] = {"airbyte_job_id": 1, "poke_interval": 10, **arguments}
        if mode == "deferrable":
            return AirbyteJobSensor(task_id="sync", deferrable=True, **given)

        return AirbyteJobSensor(task_id="sync", mode=mode, deferrable=False, **given)

    return make


def run(task: Task) -> Any:
    """Run a sensor to its end, over all its reschedules and deferrals."""
    task.first_reschedule = task.instance.start_date
    while True:
        try:
            return task.run()
        except AirflowRescheduleException as again:
            left = again.reschedule_date.timestamp() - task.world.now()
            task.world.pass_time(max(0.0, left))


@EVERY_MODE
def test_a_job_that_succeeds_ends_the_wait(world: World, mode: str) -> None:
    world.airbyte.add_job(TARGET, "pending:5 running:100 succeeded")

    assert run(Task(world, a_sensor(mode))) is None
    assert 105 <= world.elapsed() < 130


@EVERY_MODE
@pytest.mark.parametrize(
    ("life", "error"), [("failed", JobFailed), ("cancelled", JobCancelled)]
)
def test_a_job_that_does_not_succeed_fails_the_sensor(
    world: World, mode: str, life: str, error: type[Exception]
) -> None:
    world.airbyte.add_job(TARGET, f"running:30 {life}")

    with pytest.raises(error, match="Job 1"):
        run(Task(world, a_sensor(mode)))


@EVERY_MODE
@pytest.mark.parametrize("setting", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("life", ["running:30 failed", "failed"])
def test_a_sensor_that_may_not_fail_skips(
    world: World, mode: str, setting: str, life: str
) -> None:
    world.airbyte.add_job(TARGET, life)

    with pytest.raises(AirflowSkipException):
        run(Task(world, a_sensor(mode, **{setting: True})))


@EVERY_MODE
def test_the_timeout_ends_the_wait_and_leaves_the_job_running(
    world: World, mode: str
) -> None:
    world.airbyte.add_job(TARGET, "running")

    with pytest.raises(AirflowSensorTimeout):
        run(Task(world, a_sensor(mode, timeout=60)))

    assert 60 <= world.elapsed() < 90
    assert world.state_of(1) == "running"
    assert world.cancels == 0


@EVERY_MODE
@pytest.mark.parametrize("setting", ["soft_fail", "never_fail"])
def test_a_timeout_skips_where_the_sensor_may_not_fail(
    world: World, mode: str, setting: str
) -> None:
    world.airbyte.add_job(TARGET, "running")
    with pytest.raises(AirflowSkipException):
        run(Task(world, a_sensor(mode, timeout=60, **{setting: True})))


def test_execution_timeout_holds_while_the_sensor_is_deferred(world: World) -> None:
    world.airbyte.add_job(TARGET, "running")
    limit = timedelta(seconds=40)

    with pytest.raises(AirflowSensorTimeout, match="execution_timeout"):
        run(Task(world, a_sensor("deferrable", execution_timeout=limit)))

    assert 40 <= world.elapsed() < 60


@EVERY_MODE
def test_ten_minutes_of_trouble_are_only_a_late_answer(world: World, mode: str) -> None:
    world.airbyte.add_job(TARGET, "running:100 succeeded")
    fault = Fault(kind="status", times=None, lasts=600)
    world.airbyte.faults.add(fault)

    assert run(Task(world, a_sensor(mode, timeout=5000))) is None
    assert world.elapsed() >= 600


@EVERY_MODE
def test_an_unknown_job_fails_at_once(world: World, mode: str) -> None:
    with pytest.raises(VendorRefused, match="job 1"):
        run(Task(world, a_sensor(mode)))

    assert world.elapsed() < 10


@EVERY_MODE
def test_wrong_credentials_fail_at_once(world: World, mode: str) -> None:
    world.connect("airbyte_default", host="http://localhost:8000", password="psst")

    with pytest.raises(ConnectionUnusable, match="airbyte_default"):
        run(Task(world, a_sensor(mode)))


def test_a_job_that_is_over_already_needs_no_deferral(world: World) -> None:
    world.airbyte.add_job(TARGET, "succeeded")

    assert Task(world, a_sensor("deferrable")).execute() is None


def test_resuming_asks_the_vendor_nothing(world: World) -> None:
    world.airbyte.add_job(TARGET, "running:30 succeeded")
    task = Task(world, a_sensor("deferrable"))
    deferral = deferred(task.execute())
    event = task.wait(deferral)
    world.requests.clear()

    task.resume(deferral, event)

    assert methods(world.requests) == []


def test_the_trigger_keeps_the_interval_and_never_owns_the_job(world: World) -> None:
    world.airbyte.add_job(TARGET, "running")
    task = Task(world, a_sensor("deferrable", poke_interval=17, timeout=100))

    arguments = deferred(task.execute()).arguments

    assert arguments["poll_interval"] == 17
    assert arguments["end_time"] == world.now() + 100
    assert arguments["owned"] is False


def test_an_event_of_another_job_defers_again(world: World) -> None:
    world.airbyte.add_job(TARGET, "running:30 succeeded")
    task = Task(world, a_sensor("deferrable"))
    deferral = deferred(task.execute())
    event = {**task.wait(deferral), "job_id": 77}

    again = deferred(task.resume(deferral, event))

    assert again.arguments["job_id"] == 1
    assert again.arguments["end_time"] == deferral.arguments["end_time"]
    assert task.go_on(again) is None


@pytest.mark.parametrize("event", [None, {}, {"v": 2}, "success"])
def test_what_is_no_event_fails_the_sensor(world: World, event: object) -> None:
    world.airbyte.add_job(TARGET, "running")
    task = Task(world, a_sensor("deferrable"))
    deferral = deferred(task.execute())

    with pytest.raises(EventUnusable):
        task.resume(deferral, event)


def test_the_id_may_be_the_text_that_a_template_makes(world: World) -> None:
    world.airbyte.add_job(TARGET, "succeeded")
    sensor = a_sensor("deferrable", airbyte_job_id="{{ params.job }}")()
    assert sensor.airbyte_job_id == "{{ params.job }}"

    sensor.render_template_fields({"params": {"job": 1}})
    assert sensor.airbyte_job_id == "1"

    assert Task(world, lambda: sensor).execute() is None


def test_the_id_may_be_another_tasks_output() -> None:
    with DAG("dag", schedule=None):
        start = AirbyteTriggerSyncOperator(
            task_id="start", connection_id=TARGET, asynchronous=True
        )
        wait = AirbyteJobSensor(task_id="wait", airbyte_job_id=start.output)

    assert wait.upstream_task_ids == {"start"}


@EVERY_MODE
def test_an_id_that_is_no_number_is_named(world: World, mode: str) -> None:
    with pytest.raises(ArgumentUnusable, match=r"airbyte_job_id.*upstream"):
        run(Task(world, a_sensor(mode, airbyte_job_id="x")))


def test_when_airflows_own_timeout_comes_first_the_sensor_times_out(
    world: World,
) -> None:
    world.airbyte.add_job(TARGET, "running")
    task = Task(world, a_sensor("deferrable"))
    task.execute()
    sensor = a_sensor("deferrable")()

    with pytest.raises(AirflowSensorTimeout):
        sensor.resume_execution(
            "__fail__",
            {"error": "Trigger timeout"},
            task.context(),  # type: ignore[arg-type]
        )


def test_every_error_is_airflows() -> None:
    for error in (JobFailed, JobCancelled, VendorRefused, EventUnusable):
        assert issubclass(error, AirflowException)


def test_where_airflow_starts_no_task_from_its_trigger_the_sensor_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compat, "STARTS_FROM_TRIGGER", False)
    job = world.airbyte.add_job(TARGET, "running:20 succeeded")
    task = Task(
        world,
        lambda: AirbyteJobSensor(
            task_id="sync", airbyte_job_id=job, deferrable=True, start_from_trigger=True
        ),
    )

    with caplog.at_level("INFO"):
        task.run()

    assert task.operator.start_from_trigger is False
    assert "is ignored: this Airflow starts every task on a worker" in caplog.text
