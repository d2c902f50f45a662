"""Sensors that have never been on a worker."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.sdk import DAG, Asset
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from async_triggers.airbyte.job_query import AirbyteJobQuery
from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.deferral import compat, sensor_trigger
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.deadlines import BACKSTOP
from async_triggers.deferral.errors import JobFailed
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.simulator import Fault
from tests.airflow_versions import DagSerialization, needs_start_from_trigger
from tests.unit.deferral.stage import (
    Task,
    XCom,
    deferred,
    resumed,
    scheduled,
    the_event,
)
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_triggers.deferral.sensor_trigger import SensorTrigger

pytestmark = needs_start_from_trigger


def a_world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    """Return a world with something to wait for."""
    world = make_vendor_world(monkeypatch, case)
    world.add_target()
    return world


async def the_end(trigger: SensorTrigger) -> TriggerEvent:
    """Return the one event as Airflow gets it."""
    (event,) = [event async for event in trigger.run()]
    return event


# Waiting --------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("end", ["success", "error"])
def test_it_ends_as_a_sensor_that_began_on_a_worker(
    monkeypatch: pytest.MonkeyPatch, case: Case, end: str
) -> None:
    found: list[Any] = []
    for start_from_trigger in (False, True):
        world = a_world(monkeypatch, case)
        job = world.add_foreign(case.life(end))
        task = Task(world, case.sensor(job, start_from_trigger=start_from_trigger))
        try:
            if start_from_trigger:
                payload = asyncio.run(the_event(scheduled(task)))
                found.append(resumed(task, payload))
            else:
                found.append(task.run())
        except JobFailed as error:
            found.append(str(error))

    assert found[0] == found[1]


def test_it_need_not_wait_for_a_worker_to_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    job = world.add_foreign("succeeded")
    task = Task(world, AIRBYTE.sensor(job, start_from_trigger=True))

    asyncio.run(the_event(scheduled(task)))

    assert world.elapsed() < compat.earliest_event()


@every_vendor
@pytest.mark.parametrize(
    ("arguments", "end", "expected"),
    [
        ({}, "success", TaskSuccessEvent),
        ({}, "error", TaskFailedEvent),
        ({"soft_fail": True}, "error", TaskSkippedEvent),
        ({"timeout": 100}, "", TriggerEvent),
        ({"timeout": 100, "soft_fail": True}, "", TaskSkippedEvent),
    ],
    ids=["success", "error", "soft_fail", "timeout", "soft timeout"],
)
def test_it_may_end_without_a_worker_too(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    arguments: dict[str, Any],
    end: str,
    expected: type[TriggerEvent],
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life(end))
    given = {"start_from_trigger": True, "end_from_trigger": True, **arguments}
    if expected is TaskFailedEvent:
        given |= case.recent
    task = Task(world, case.sensor(job, **given))

    event = asyncio.run(the_end(scheduled(task)))

    assert type(event) is expected
    returned = task.xcoms.get(compat.RETURN_KEY)
    assert (returned is not None) == (end == "success" and case.sensor_returns)


@pytest.mark.parametrize(
    ("rendered", "expected"),
    [("2026-03-25T01:00:00Z", TaskFailedEvent), ("", TriggerEvent)],
    ids=["a time", "nothing"],
)
def test_a_failure_before_the_next_sync_resumes_once_the_time_is_rendered(
    monkeypatch: pytest.MonkeyPatch, rendered: str, expected: type[TriggerEvent]
) -> None:
    world = a_world(monkeypatch, FIVETRAN)
    given: dict[str, Any] = {
        "completed_after_time": "{{ after }}",
        "start_from_trigger": True,
        "end_from_trigger": True,
    }
    job = world.add_foreign(FIVETRAN.life("error"))
    task = Task(world, FIVETRAN.sensor(job, **given))

    event = asyncio.run(the_end(scheduled(task, {"after": rendered})))

    assert type(event) is expected


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({"timeout": 500}, 500),
        ({"execution_timeout": timedelta(seconds=300)}, 300),
        ({"timeout": 500, "execution_timeout": timedelta(seconds=900)}, 500),
    ],
)
def test_its_deadlines_outlive_the_triggerer(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], limit: float
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    job = world.add_foreign("running")
    task = Task(world, AIRBYTE.sensor(job, start_from_trigger=True, **given))
    trigger = scheduled(task)
    world.pass_time(200)

    payload = asyncio.run(the_event(trigger))

    assert payload["status"] == "timeout"
    assert limit <= world.elapsed() < limit + BACKSTOP.total_seconds()
    with pytest.raises(compat.AirflowSensorTimeout):
        resumed(task, payload)


def test_the_baseline_of_fivetran_outlives_the_triggerer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sync that ends while no triggerer looks is not missed."""
    world = a_world(monkeypatch, FIVETRAN)
    job = world.add_foreign(FIVETRAN.life("success"))
    task = Task(world, FIVETRAN.sensor(job, start_from_trigger=True))
    trigger = scheduled(task)

    async def abandoned() -> None:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(20)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

    asyncio.run(abandoned())
    world.pass_time(300)
    payload = asyncio.run(the_event(scheduled(task)))

    assert payload["status"] == "success"
    assert world.elapsed() < 360


@every_vendor
def test_an_outage_at_the_beginning_is_waited_out(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success", lasts=600))
    world.vendor.faults.add(Fault(kind="status", times=None, lasts=120))
    task = Task(world, case.sensor(job, start_from_trigger=True))

    assert asyncio.run(the_event(scheduled(task)))["status"] == "success"


def test_an_outage_until_the_end_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world(monkeypatch, FIVETRAN)
    job = world.add_foreign("syncing")
    world.vendor.faults.add(Fault(kind="status", times=None))
    task = Task(world, FIVETRAN.sensor(job, start_from_trigger=True, timeout=100))

    payload = asyncio.run(the_event(scheduled(task)))

    assert payload["status"] == "timeout"
    with pytest.raises(compat.AirflowSensorTimeout):
        resumed(task, payload)


def test_a_database_that_is_down_for_a_while_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = a_world(monkeypatch, FIVETRAN)
    job = world.add_foreign(FIVETRAN.life("success", lasts=600))
    task = Task(world, FIVETRAN.sensor(job, start_from_trigger=True))
    trigger = scheduled(task)
    put = XCom.aset

    async def aset(xcom: Any, *given: Any, **place: Any) -> None:
        if world.elapsed() < 60:
            raise RuntimeError("no database")
        await put(xcom, *given, **place)

    monkeypatch.setattr(XCom, "aset", aset)

    assert asyncio.run(the_event(trigger))["status"] == "success"


@every_vendor
def test_airflow_is_asked_for_no_more_than_must_be_known(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """A triggerer answers one question at a time, and thousands of sensors ask."""
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success"))
    task = Task(world, case.sensor(job, start_from_trigger=True))
    trigger = scheduled(task)
    get, asked = XCom.aget_one, []

    async def aget_one(xcom: Any, *, key: str, **place: Any) -> Any:
        asked.append(key)
        return await get(xcom, key=key, **place)

    monkeypatch.setattr(XCom, "aget_one", aget_one)

    assert asyncio.run(the_event(trigger))["status"] == "success"
    assert asked == ([compat.OWNER_KEY] if case.job_is_target else [])


# What is rendered ------------------------------------------------------------------------


def test_templates_are_rendered_on_the_triggerer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    job = world.add_foreign("running:60 succeeded")
    template = "{{ params.job }}"
    task = Task(world, AIRBYTE.sensor(template, start_from_trigger=True))

    trigger = scheduled(task, {"params": {"job": job}})

    assert asyncio.run(the_event(trigger))["job_id"] == job


class _Pulled:
    """A task instance whose other XComs no triggerer is given."""

    def __init__(self, job: int) -> None:
        self.job = job

    def xcom_pull(self, task_ids: str, *, map_indexes: int | None = None) -> int:
        assert map_indexes == -1, "nobody would answer"
        return self.job


@pytest.mark.parametrize("name", ["ti", "task_instance"])
def test_the_xcom_of_a_task_may_be_pulled(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    job = world.add_foreign("running:60 succeeded")
    template = f"{{{{ {name}.xcom_pull('start') if {name}.job }}}}"
    task = Task(world, AIRBYTE.sensor(template, start_from_trigger=True))

    trigger = scheduled(task, {name: _Pulled(job)})

    assert asyncio.run(the_event(trigger))["job_id"] == job


def test_a_question_that_nobody_answers_fails_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    task = Task(world, AIRBYTE.sensor("{{ x }}", start_from_trigger=True))

    async def hang(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(sensor_trigger, "in_thread", hang)
    payload = asyncio.run(the_event(scheduled(task)))

    with pytest.raises(ArgumentUnusable, match="could not be rendered"):
        resumed(task, payload)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ nobodys.macro() }}", "airbyte_job_id cannot be rendered"),
        ("{{ params.job", "airbyte_job_id cannot be rendered"),
        ("{{ params.missing }}", "airbyte_job_id is an empty text at run time"),
    ],
)
def test_what_cannot_be_rendered_fails_the_task(
    monkeypatch: pytest.MonkeyPatch, template: str, told: str
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    task = Task(world, AIRBYTE.sensor(template, start_from_trigger=True))

    payload = asyncio.run(the_event(scheduled(task, {"params": {}})))

    with pytest.raises(ArgumentUnusable, match=told):
        resumed(task, payload)


def test_the_output_of_another_task_becomes_a_template() -> None:
    with DAG("a_dag", schedule=None):
        first = AirbyteTriggerSyncOperator(task_id="first", connection_id="c")
        sensor = AirbyteJobSensor(
            task_id="wait",
            airbyte_job_id=first.output,
            deferrable=True,
            start_from_trigger=True,
        )

    arguments = sensor.describe_start().trigger_kwargs
    assert arguments is not None
    text = arguments["query"]["fields"]["airbyte_job_id"]
    assert "xcom_pull(task_ids='first'" in text
    assert sensor.upstream_task_ids == {"first"}


def test_the_output_of_another_task_that_is_mapped_over_is_refused() -> None:
    with DAG("a_dag", schedule=None):
        first = AirbyteTriggerSyncOperator(task_id="first", connection_id="c")
        with pytest.raises(
            ArgumentUnusable, match="airbyte_job_id cannot be MapXComArg"
        ):
            AirbyteJobSensor(
                task_id="wait",
                airbyte_job_id=first.output.map(str),
                deferrable=True,
                start_from_trigger=True,
            )


# Which sensors may ------------------------------------------------------------------------


@every_vendor
def test_it_needs_a_trigger(case: Case) -> None:
    with pytest.raises(ArgumentUnusable, match="start_from_trigger needs deferrable"):
        case.sensor(1, start_from_trigger=True, deferrable=False)()


@every_vendor
def test_without_it_the_scheduler_knows_of_nothing(case: Case) -> None:
    sensor: Any = case.sensor("1")()

    assert sensor.start_from_trigger is False
    assert sensor.start_trigger_args is None
    assert case.sensor_class.start_trigger_args is None


@every_vendor
def test_a_mapped_sensor_begins_on_a_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    caplog.set_level("INFO")
    name = case.job_key
    with DAG(
        "a_dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)
    ) as dag:
        case.sensor_class.partial(
            task_id="sync", deferrable=True, start_from_trigger=True
        ).expand(**{name: ["1", "2"]})
    known = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("sync")

    assert known.start_trigger_args is None

    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success"))
    task = Task(world, case.sensor(job, start_from_trigger=True))
    assert deferred(task.execute()).method == "execute_complete"
    assert "Airflow begins mapped tasks on workers" in caplog.text


class _Own(AirbyteJobSensor):
    """A class of a user."""


def _own(job: int) -> _Own:
    return _Own(
        task_id="sync", airbyte_job_id=job, deferrable=True, start_from_trigger=True
    )


@pytest.mark.parametrize("cls", [_Own, AirbyteJobQuery])
def test_a_class_of_a_dag_file_begins_on_a_worker_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cls: type
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(cls, "__module__", "unusual_prefix_1a2b_my_dag")
    world = a_world(monkeypatch, AIRBYTE)
    task = Task(world, lambda: _own(world.add_foreign("running:60 succeeded")))

    assert _own(1).start_from_trigger is False
    assert deferred(task.execute()).method == "execute_complete"
    told = f"start_from_trigger is ignored: the triggerer cannot import {cls.__name__}"
    assert told in caplog.text


def test_a_class_that_a_function_makes_begins_on_a_worker() -> None:
    class Local(AirbyteJobSensor):
        pass

    sensor = Local(
        task_id="sync", airbyte_job_id=1, deferrable=True, start_from_trigger=True
    )

    assert sensor.start_from_trigger is False


def test_a_class_of_an_installed_package_begins_on_the_triggerer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = a_world(monkeypatch, AIRBYTE)
    job = world.add_foreign("running:60 succeeded")
    task = Task(world, lambda: _own(job))

    event = asyncio.run(the_end(scheduled(task)))

    assert event.payload["status"] == "success"


def _hooked(**given: Any) -> Callable[[], AirbyteJobSensor]:
    return lambda: AirbyteJobSensor(
        task_id="sync",
        airbyte_job_id=1,
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
        **given,
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"outlets": [Asset("orders")]}, "sends the events of outlets"),
        ({"pre_execute": print}, "calls pre_execute"),
        ({"on_execute_callback": print}, "calls on_execute_callback"),
    ],
)
def test_what_needs_a_worker_is_resumed_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    given: dict[str, Any],
    reason: str,
) -> None:
    caplog.set_level("INFO")
    world = a_world(monkeypatch, AIRBYTE)
    world.add_foreign("running:60 succeeded")
    task = Task(world, _hooked(**given))

    event = asyncio.run(the_end(scheduled(task)))

    assert type(event) is TriggerEvent
    assert f"end_from_trigger is ignored: only a worker {reason}" in caplog.text


def test_what_comes_downstream_later_counts() -> None:
    """The DAG is complete only when it is stored."""
    with DAG("a_dag", schedule=None):
        sensor = FivetranSensor(
            task_id="wait",
            connector_id="c",
            start_from_trigger=True,
            end_from_trigger=True,
        )
        FivetranSensor.partial(task_id="mapped").expand(connector_id=sensor.output)

    arguments = sensor.describe_start().trigger_kwargs
    assert arguments is not None
    assert arguments["ending"] is None
    assert "mapped" in arguments["why_resumed"]


def test_what_is_stored_of_the_trigger_is_pinned() -> None:
    # Airflow's database holds these words: they may be added to, never changed.
    described = _hooked(timeout=100)().describe_start()

    assert (
        described.trigger_cls == "async_triggers.deferral.sensor_trigger.SensorTrigger"
    )
    assert described.next_method == "execute_complete"
    assert described.timeout == timedelta(seconds=220)
    assert described.trigger_kwargs == {
        "query": {
            "v": 1,
            "class": "async_triggers.airbyte.job_query.AirbyteJobQuery",
            "fields": {
                "airbyte_conn_id": "airbyte_default",
                "airbyte_job_id": 1,
                "api_version": "v1",
                "connection_id": None,
                "connection_name": None,
                "deferrable": True,
                "poke_interval": 60.0,
                "workspace_id": None,
                "workspace_name": None,
            },
        },
        "lasts": 100.0,
        "execution_timeout": None,
        "ending": {
            "attached": False,
            "failure": "fail",
            "push": True,
            "refusal": "fail",
            "returns": False,
            "statistics_key": "",
            "timeout": "resume",
        },
        "why_resumed": "",
        "version": 1,
    }


# Another triggerer ----------------------------------------------------------------------


def taken_over(task: Task, *, after: float) -> SensorTrigger:
    """Return a sensor's trigger on a second triggerer, the first one having ended."""
    first: Any = scheduled(task)

    async def until_the_end() -> None:
        waiting = asyncio.ensure_future(the_event(first))
        await asyncio.sleep(after)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(until_the_end())
    second: Any = scheduled(task)
    # Airflow stores it once, when it defers the task.
    second.timeout_after = first.timeout_after
    return cast("SensorTrigger", second)


@every_vendor
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_a_minute_is_doubted_where_another_triggerer_goes_on(
    monkeypatch: pytest.MonkeyPatch, case: Case, status: int
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success", lasts=3000))
    task = Task(world, case.sensor(job, start_from_trigger=True, timeout=20_000))
    trigger = taken_over(task, after=300)
    world.vendor.faults.add(Fault(kind="status", status=status, times=None, lasts=60))

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "success", event["message"]


@every_vendor
def test_a_refusal_for_good_still_ends_a_sensor_there(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success", lasts=3000))
    task = Task(world, case.sensor(job, start_from_trigger=True, timeout=20_000))
    trigger = taken_over(task, after=300)
    world.vendor.faults.add(Fault(kind="status", status=401, times=None))
    began = world.now()

    event = asyncio.run(the_event(trigger))

    assert event["status"] == "error"
    assert 300 <= world.now() - began < 600


@every_vendor
def test_a_fresh_sensor_believes_a_refusal_at_once(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success", lasts=3000))
    task = Task(world, case.sensor(job, start_from_trigger=True, timeout=20_000))
    world.vendor.faults.add(Fault(kind="status", status=401, times=None))
    began = world.now()

    event = asyncio.run(the_event(scheduled(task)))

    assert event["status"] == "error"
    assert world.now() - began < 30


@every_vendor
def test_a_task_that_has_worked_in_an_earlier_run_doubts_it(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = a_world(monkeypatch, case)
    job = world.add_foreign(case.life("success", lasts=3000))
    given = {"start_from_trigger": True, "end_from_trigger": True, "timeout": 20_000}
    asyncio.run(the_end(scheduled(Task(world, case.sensor(job, **given)))))
    job = world.add_foreign(case.life("success", lasts=3000))
    task = Task(world, case.sensor(job, **given))
    world.earlier_xcoms["sync", -1] = dict(world.xcoms["sync", -1])
    world.vendor.faults.add(Fault(kind="status", status=401, times=None, lasts=60))

    assert isinstance(asyncio.run(the_end(scheduled(task))), TaskSuccessEvent)
