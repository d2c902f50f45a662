"""Sensors that wait for what a connection or a job runs next, for every vendor."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.bases import sensor as base

from async_triggers.airbyte.sensors import AirbyteSyncSensor
from async_triggers.dbt_cloud.sensors import DbtCloudJobSensor
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from async_triggers.deferral.errors import JobFailed, VendorRefused
from async_triggers.deferral.first_looks import FirstLooks
from async_triggers.deferral.trigger import JobTrigger
from async_triggers.engine.news import NEWS_PER_SECOND
from async_triggers.fivetran.sensors import FivetranSyncSensor
from async_triggers.simulator import Fault
from tests.airflow_versions import needs_start_from_trigger
from tests.unit.deferral.stage import (
    EPOCH,
    Task,
    deferred,
    resumed,
    scheduled,
    the_event,
)
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_target_awaited
from tests.vendors import Entry as Case

SENSORS: dict[Case, tuple[Any, str, str]] = {
    AIRBYTE: (AirbyteSyncSensor, "connection_id", "connection_ids"),
    FIVETRAN: (FivetranSyncSensor, "connector_id", "connector_ids"),
    DBT_CLOUD: (DbtCloudJobSensor, "job_id", "job_ids"),
}
MODES = ("poke", "reschedule", "deferrable")
EVERY_MODE = pytest.mark.parametrize("mode", MODES)

Make = Callable[[Case], VendorWorld]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make_it(case: Case) -> VendorWorld:
        world = make_vendor_world(monkeypatch, case)
        for each in targets(case):
            case.add_target(world.vendor, each)

        class Clock:
            sleep = staticmethod(world.pass_time)
            monotonic = staticmethod(world.elapsed)

        monkeypatch.setattr(base, "time", Clock)
        monkeypatch.setattr(
            base,
            "timezone",
            SimpleNamespace(utcnow=lambda: datetime.fromtimestamp(world.now(), tz=UTC)),
        )
        return world

    return make_it


def targets(case: Case) -> list[Any]:
    return [case.target, case.other_target(1)]


def sensor(case: Case, mode: str, *, many: bool = False, **given: Any) -> Any:
    cls, one_key, many_key = SENSORS[case]
    what = {many_key: targets(case)} if many else {one_key: case.target}
    how: dict[str, Any] = {"deferrable": mode == "deferrable"}
    if mode != "deferrable":
        how["mode"] = mode

    arguments = {"poke_interval": 15, **what, **how, **given}
    return lambda: cls(task_id="sync", **arguments)


def run(task: Task) -> Any:
    """Run a sensor to its end, over all its reschedules and deferrals."""
    task.first_reschedule = task.instance.start_date
    while True:
        try:
            return task.run()
        except AirflowRescheduleException as again:
            left = again.reschedule_date.timestamp() - task.world.now()
            task.world.pass_time(max(0.0, left))


def add(world: VendorWorld, case: Case, target: Any, end: str, lasts: float) -> None:
    case.add_job(world.vendor, target, case.life(end, lasts=lasts))


def at(seconds: float) -> str:
    return datetime.fromtimestamp(EPOCH + seconds, tz=UTC).isoformat()


@every_target_awaited
@EVERY_MODE
@pytest.mark.parametrize("after", [None, "", "now", " now "])
def test_the_next_end_is_waited_for(
    make: Make, case: Case, mode: str, after: str | None
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 5)
    world.pass_time(30.0)
    world.vendor.jobs()
    add(world, case, case.target, "success", 100)

    returned = run(Task(world, sensor(case, mode, completed_after_time=after)))

    assert returned
    assert 130 <= world.elapsed() <= 150


@every_target_awaited
@EVERY_MODE
def test_an_end_after_the_time_counts_at_once(
    make: Make, case: Case, mode: str
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 10)
    world.pass_time(600.0)

    returned = run(Task(world, sensor(case, mode, completed_after_time=at(5))))

    assert returned
    assert world.elapsed() <= 602


@every_target_awaited
@EVERY_MODE
def test_an_end_before_the_time_does_not_count(
    make: Make, case: Case, mode: str
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 10)
    world.pass_time(60.0)
    given: dict[str, Any] = {"completed_after_time": at(30), "timeout": 300}

    with pytest.raises(AirflowSensorTimeout):
        run(Task(world, sensor(case, mode, **given)))


@every_target_awaited
@EVERY_MODE
def test_of_several_all_must_succeed(make: Make, case: Case, mode: str) -> None:
    world = make(case)
    one, other = targets(case)
    add(world, case, one, "success", 40)
    add(world, case, other, "success", 200)

    returned = run(Task(world, sensor(case, mode, many=True)))

    assert len(returned) == 2
    assert len(set(returned)) == 2
    assert 200 <= world.elapsed() <= 220


@every_target_awaited
@EVERY_MODE
def test_of_several_one_failure_fails_at_once(
    make: Make, case: Case, mode: str
) -> None:
    world = make(case)
    one, other = targets(case)
    add(world, case, one, "success", 4000)
    add(world, case, other, "error", 40)

    with pytest.raises(JobFailed):
        run(Task(world, sensor(case, mode, many=True)))

    assert world.elapsed() <= 65


@every_target_awaited
@EVERY_MODE
def test_soft_fail_softens_a_failure(make: Make, case: Case, mode: str) -> None:
    world = make(case)
    add(world, case, case.target, "error", 40)

    with pytest.raises(AirflowSkipException):
        run(Task(world, sensor(case, mode, soft_fail=True)))


@every_target_awaited
@EVERY_MODE
def test_a_success_counts_before_a_later_failure(
    make: Make, case: Case, mode: str
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 10)
    world.pass_time(30.0)
    world.vendor.jobs()
    add(world, case, case.target, "error", 10)
    world.pass_time(30.0)

    assert run(Task(world, sensor(case, mode, completed_after_time=at(5))))


@every_target_awaited
@EVERY_MODE
def test_trouble_is_only_a_late_answer(make: Make, case: Case, mode: str) -> None:
    world = make(case)
    add(world, case, case.target, "success", 100)
    world.vendor.faults.add(Fault(kind="status", status=503, method="GET", times=3))

    assert run(Task(world, sensor(case, mode, completed_after_time=at(5))))


@every_target_awaited
@EVERY_MODE
def test_what_is_not_there_fails(make: Make, case: Case, mode: str) -> None:
    world = make(case)
    world.vendor.configure(accept_unknown=False)
    cls_key = SENSORS[case][1]
    unknown: dict[str, Any] = {cls_key: case.unknown}

    with pytest.raises(VendorRefused):
        run(Task(world, sensor(case, mode, **unknown)))


@every_target_awaited
def test_a_retry_waits_for_a_later_end(make: Make, case: Case) -> None:
    world = make(case)
    add(world, case, case.target, "error", 40)
    task = Task(world, sensor(case, "deferrable"))
    with pytest.raises(JobFailed):
        run(task)

    task.retry()
    add(world, case, case.target, "success", 40)

    assert run(task)


@every_target_awaited
def test_a_restarted_triggerer_finds_what_ended_meanwhile(
    make: Make, case: Case
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 100)
    task = Task(world, sensor(case, "deferrable"))
    deferral = task.execute()
    world.pass_time(7200.0)

    event = task.wait(deferral)

    assert event["status"] == "success"
    assert task.resume(deferral, event)


@every_target_awaited
def test_an_event_for_other_ends_is_ignored(make: Make, case: Case) -> None:
    world = make(case)
    add(world, case, case.target, "success", 100)
    task = Task(world, sensor(case, "deferrable"))
    deferral = task.execute()
    event = task.wait(deferral)

    again = task.resume(deferral, {**event, "job_id": "others@1"})

    assert task.resume(again, task.wait(again))


@every_target_awaited
@needs_start_from_trigger
@pytest.mark.parametrize("after", [None, "now", at(5)])
def test_it_begins_and_goes_on_without_a_worker(
    make: Make, case: Case, after: str | None
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 100)
    task = Task(
        world,
        sensor(case, "deferrable", start_from_trigger=True, completed_after_time=after),
    )

    with asyncio.Runner(loop_factory=world.new_loop) as runner:
        event = runner.run(the_event(scheduled(task)))

    assert event["status"] == "success"
    assert resumed(task, event)


@every_target_awaited
@pytest.mark.parametrize("many", [False, True])
def test_the_trigger_may_end_the_task(make: Make, case: Case, *, many: bool) -> None:
    world = make(case)
    for each in targets(case):
        add(world, case, each, "success", 100)

    task = Task(world, sensor(case, "deferrable", many=many, end_from_trigger=True))
    deferral = task.execute()
    ended: Any = task.end(deferral)

    assert type(ended).__name__ == "TaskSuccessEvent"
    returned = task.xcoms["return_value"]
    assert isinstance(returned, list) is many


@every_target_awaited
def test_exactly_one_way_is_given(case: Case) -> None:
    cls, one_key, many_key = SENSORS[case]
    with pytest.raises(ArgumentUnusable, match=f"Give {one_key} or {many_key}"):
        cls(task_id="sync")


@every_target_awaited
@pytest.mark.parametrize("value", [[], [None], {}, 5, [""]])
def test_a_list_of_ids_is_one(make: Make, case: Case, value: Any) -> None:
    world = make(case)
    cls, _, many_key = SENSORS[case]

    with pytest.raises(ArgumentUnusable):
        Task(world, lambda: cls(task_id="sync", **{many_key: value})).execute()


@every_target_awaited
def test_a_text_of_ids_is_a_list(make: Make, case: Case) -> None:
    world = make(case)
    cls, _, many_key = SENSORS[case]
    for each in targets(case):
        add(world, case, each, "success", 10)

    text = ", ".join(map(str, targets(case)))
    given = {many_key: text, "completed_after_time": at(1), "deferrable": True}
    world.pass_time(60.0)

    returned = run(Task(world, lambda: cls(task_id="sync", **given)))

    assert len(returned) == 2


# In the task's log ------------------------------------------------------------------------


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """Return what a deferred task's log says, as a function."""
    logger = logging.getLogger("task")
    monkeypatch.setattr(JobTrigger, "_log", logger)
    caplog.set_level("INFO", logger.name)

    def said(text: str) -> list[str]:
        lines = [each.getMessage() for each in caplog.records]
        return [line for line in lines if text in line]

    return said


@every_target_awaited
@pytest.mark.parametrize("many", [False, True])
def test_the_log_says_every_ten_minutes_what_is_waited_for(
    make: Make, case: Case, log: Any, *, many: bool
) -> None:
    world = make(case)
    for each in targets(case):
        add(world, case, each, "success", 3700)

    run(Task(world, sensor(case, "deferrable", many=many, timeout=20_000)))

    lines = log(": still waiting for")
    assert len(lines) == 6
    assert str(case.target) in lines[0]
    assert (str(targets(case)[1]) in lines[0]) is many
    assert lines[0].endswith("(10 min)")
    assert lines[5].endswith("(1 h)")


@every_target_awaited
@EVERY_MODE
def test_a_failure_says_how_much_and_where(make: Make, case: Case, mode: str) -> None:
    world = make(case)
    add(world, case, case.target, "error", 840)

    with pytest.raises(JobFailed, match="http") as failed:
        run(Task(world, sensor(case, mode, timeout=20_000)))

    words = str(failed.value)
    # Fivetran shows no start of a sync that has ended.
    assert "14 min" in words or case.job_is_target
    assert case.url_part in words


@every_target_awaited
def test_the_log_says_when_polling_fails_and_when_it_works_again(
    make: Make, case: Case, log: Any
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 3000)
    fault = Fault(kind="status", status=503, times=None, start_in=200, lasts=900)
    world.vendor.faults.add(fault)

    run(Task(world, sensor(case, "deferrable", timeout=20_000)))

    assert len(log("Polling failed (still waiting, retrying)")) == 2
    assert len(log("Polling works again")) == 1


@every_target_awaited
def test_a_short_outage_is_not_in_the_log(make: Make, case: Case, log: Any) -> None:
    world = make(case)
    add(world, case, case.target, "success", 1000)
    fault = Fault(kind="status", status=503, times=None, start_in=200, lasts=30)
    world.vendor.faults.add(fault)

    run(Task(world, sensor(case, "deferrable", timeout=20_000)))

    assert not log("Polling")


@every_target_awaited
def test_sensors_of_one_account_share_its_lines(
    make: Make, case: Case, log: Any
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 700)
    tasks = [Task(world, sensor(case, "deferrable", timeout=20_000)) for _ in range(25)]
    triggers = [task.trigger(deferred(task.execute())) for task in tasks]
    moments: list[float] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if ": still waiting for" in record.getMessage():
                moments.append(world.elapsed())

    handler = Note()
    logger = logging.getLogger("task")
    logger.addHandler(handler)

    async def all_of_them() -> None:
        await asyncio.gather(*(the_event(each) for each in triggers))

    asyncio.run(all_of_them())
    logger.removeHandler(handler)

    assert len(moments) == 25
    assert max(Counter(map(int, moments)).values()) <= NEWS_PER_SECOND


# A refusal of what has worked before ------------------------------------------------------


def waiting(
    world: VendorWorld, case: Case, when: str, *, start_from_trigger: bool
) -> Any:
    """Return the trigger of a sensor that is about to meet a refusal."""
    add(world, case, case.target, "success", 3000)
    given: dict[str, Any] = {
        "start_from_trigger": start_from_trigger,
        "timeout": 20_000,
    }
    task = Task(world, sensor(case, "deferrable", **given))
    deferral = None if start_from_trigger else deferred(task.execute())

    def a_trigger() -> Any:
        return scheduled(task) if deferral is None else task.trigger(deferral)

    first = a_trigger()
    if when != "on the next triggerer":
        return first

    async def abandoned() -> None:
        run = asyncio.ensure_future(the_event(first))
        await asyncio.sleep(300)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

    asyncio.run(abandoned())
    second = a_trigger()
    second.timeout_after = getattr(first, "timeout_after", None)
    return second


DOUBTS = pytest.mark.parametrize(
    ("when", "start_from_trigger"),
    [
        ("after the worker's look", False),
        ("under way", False),
        pytest.param("under way", True, marks=needs_start_from_trigger),
        ("on the next triggerer", False),
        pytest.param("on the next triggerer", True, marks=needs_start_from_trigger),
    ],
)


@every_target_awaited
@DOUBTS
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_a_minute_is_doubted(
    make: Make, case: Case, when: str, status: int, *, start_from_trigger: bool
) -> None:
    world = make(case)
    trigger = waiting(world, case, when, start_from_trigger=start_from_trigger)
    start_in = 200.0 if when == "under way" else 0.0
    world.vendor.faults.add(
        Fault(kind="status", status=status, times=None, start_in=start_in, lasts=60)
    )

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "success", event["message"]


@every_target_awaited
@DOUBTS
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_for_good_ends_the_wait(
    make: Make, case: Case, when: str, status: int, *, start_from_trigger: bool
) -> None:
    world = make(case)
    trigger = waiting(world, case, when, start_from_trigger=start_from_trigger)
    start_in = 200.0 if when == "under way" else 0.0
    began = world.elapsed() + start_in
    world.vendor.faults.add(
        Fault(kind="status", status=status, times=None, start_in=start_in)
    )

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "error"
    assert 300 <= world.elapsed() - began < 600


@every_target_awaited
def test_while_the_poller_reports_nothing_is_requested_beside_it(
    monkeypatch: pytest.MonkeyPatch, make: Make, case: Case
) -> None:
    world = make(case)
    add(world, case, case.target, "success", 3000)
    task = Task(world, sensor(case, "deferrable"))
    trigger: Any = task.trigger(deferred(task.execute()))
    look, looks = FirstLooks.look, []

    async def noted(*given: Any) -> Any:
        looks.append(world.elapsed())
        return await look(*given)

    monkeypatch.setattr(FirstLooks, "look", noted)

    assert asyncio.run(the_event(trigger))["status"] == "success"
    assert len(looks) == 1
