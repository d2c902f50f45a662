"""Tasks that their triggers end."""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from airflow.listeners import listener as core_listener
from airflow.sdk import DAG, Asset, BaseOperator
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.deferral import compat
from async_triggers.deferral.ending import Ending, Then, failure_of, why_on_worker
from async_triggers.deferral.operator import JobOperator
from async_triggers.deferral.sensor import JobSensor
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.simulator import Fault
from tests.airflow_versions import DagBag
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import make_vendor_world
from tests.vendors import AIRBYTE, FIVETRAN, VENDORS, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Context


def test_an_ending_survives_the_database() -> None:
    ending = Ending(
        statistics_key="airbyte_job",
        returns=False,
        push=False,
        attached=True,
        failure=Then.SKIP,
        timeout=Then.RESUME,
        refusal=Then.SKIP,
    )

    assert Ending.from_json(ending.to_json()) == ending


# As on a worker -----------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("push", [True, False], ids=["pushing", "not pushing"])
def test_a_success_leaves_the_same_behind_as_on_a_worker(
    monkeypatch: pytest.MonkeyPatch, case: Case, push: bool
) -> None:
    """The same XComs, and the same return value."""
    found = []
    for end_from_trigger in (False, True):
        world = make_vendor_world(monkeypatch, case)
        world.add_target(case.life("success"))
        given = {"end_from_trigger": end_from_trigger, "do_xcom_push": push}
        task = Task(world, case.sync(**given))
        deferral = deferred(task.execute())
        if end_from_trigger:
            event = task.end(deferral)
            assert type(event) is TaskSuccessEvent
            # Airflow makes text of what such an event brings along, of numbers too.
            assert not event.xcoms
        else:
            returned = task.resume(deferral, task.wait(deferral))
            if push:
                task.xcoms[compat.RETURN_KEY] = returned

        found.append(dict(task.xcoms))

    assert found[0] == found[1]
    assert (case.statistics_key in found[1]) == push
    assert (compat.RETURN_KEY in found[1]) == push


@pytest.mark.parametrize(
    ("case", "end"),
    [
        pytest.param(case, end, id=f"{case.name}-{end}")
        for case in VENDORS
        for end in case.ends
        if end != "success"
    ],
)
def test_a_job_that_did_not_succeed_fails_the_task(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: Case,
    end: str,
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life(end))
    task = Task(world, case.sync(end_from_trigger=True))

    event = task.end(deferred(task.execute()))

    assert type(event) is TaskFailedEvent
    assert task.xcoms[case.statistics_key]["attached"] is False
    assert compat.RETURN_KEY not in task.xcoms
    assert "The task fails: " in caplog.text


@every_vendor
def test_the_retry_of_a_task_that_its_trigger_failed_starts_a_new_job(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("error"), case.life("success"))
    task = Task(world, case.sync(end_from_trigger=True))
    task.end(deferred(task.execute()))

    task.retry()

    assert type(task.end(deferred(task.execute()))) is TaskSuccessEvent
    assert world.starts == 2


@every_vendor
def test_a_confirmed_cancel_at_the_deadline_fails_the_task(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life())
    task = Task(world, case.sync(end_from_trigger=True, timeout=100))

    assert type(task.end(deferred(task.execute()))) is TaskFailedEvent
    assert world.cancels == 1


def test_a_cancel_that_could_not_be_confirmed_is_left_to_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True, timeout=100))
    deferral = deferred(task.execute())
    world.vendor.faults.add(Fault(kind="status", times=None, method="DELETE"))

    event = task.end(deferral)

    assert type(event) is TriggerEvent
    assert event.payload["cancel"] == "unconfirmed"


def test_a_refusal_fails_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True))
    deferral = deferred(task.execute())
    world.vendor.reset()

    assert type(task.end(deferral)) is TaskFailedEvent
    assert set(task.xcoms) == {compat.OWNER_KEY}


def test_an_attached_job_is_told_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running")
    world.add_foreign("running:60 succeeded")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True, if_running="attach"))

    task.end(deferred(task.execute()))

    assert task.xcoms["airbyte_job"]["attached"] is True


# Sensors ------------------------------------------------------------------------------


@every_vendor
def test_a_sensor_ends_as_on_a_worker(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    found = []
    for end_from_trigger in (False, True):
        world = make_vendor_world(monkeypatch, case)
        world.add_target()
        job = world.add_foreign(case.life("success"))
        task = Task(world, case.sensor(job, end_from_trigger=end_from_trigger))
        deferral = deferred(task.execute())
        if end_from_trigger:
            assert type(task.end(deferral)) is TaskSuccessEvent
            found.append(task.xcoms.get(compat.RETURN_KEY))
        else:
            found.append(task.resume(deferral, task.wait(deferral)))

    assert found[0] == found[1]
    assert (found[1] is not None) == case.sensor_returns


@every_vendor
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"soft_fail": True}, TaskSkippedEvent),
        ({"never_fail": True}, TaskSkippedEvent),
        ({}, TaskFailedEvent),
    ],
    ids=["soft_fail", "never_fail", "neither"],
)
def test_what_a_failed_job_makes_of_a_sensor(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    arguments: dict[str, Any],
    expected: type[TriggerEvent],
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target()
    job = world.add_foreign(case.life("error"))
    given = {"end_from_trigger": True, **case.recent, **arguments}
    task = Task(world, case.sensor(job, **given))

    assert type(task.end(deferred(task.execute()))) is expected


@every_vendor
@pytest.mark.parametrize(
    ("soft_fail", "expected"), [(True, TaskSkippedEvent), (False, TriggerEvent)]
)
def test_what_a_timeout_makes_of_a_sensor(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    soft_fail: bool,
    expected: type[TriggerEvent],
) -> None:
    """A sensor's timeout is not retried, which a trigger has no word for."""
    world = make_vendor_world(monkeypatch, case)
    world.add_target()
    job = world.add_foreign(case.life())
    given = {"end_from_trigger": True, "timeout": 100, "soft_fail": soft_fail}
    task = Task(world, case.sensor(job, **given))

    assert type(task.end(deferred(task.execute()))) is expected


def test_a_sync_that_failed_moves_the_next_try_of_a_fivetran_sensor_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = FIVETRAN
    world = make_vendor_world(monkeypatch, case)
    world.add_target()
    job = world.add_foreign(case.life("error"))
    task = Task(world, case.sensor(job, end_from_trigger=True))

    assert type(task.end(deferred(task.execute()))) is TriggerEvent


# When it must not ----------------------------------------------------------------------


def _airbyte(**arguments: Any) -> AirbyteTriggerSyncOperator:
    given = {"task_id": "sync", "connection_id": "c", "deferrable": True}
    return AirbyteTriggerSyncOperator(**{**given, **arguments})


class _Overridden(AirbyteTriggerSyncOperator):
    def post_execute(self, context: Any, result: Any = None) -> None: ...


class _Resumed(AirbyteTriggerSyncOperator):
    def execute_complete(self, context: Context, event: Any = None) -> Any: ...


class _Renamed(AirbyteTriggerSyncOperator):
    """A subclass that changes nothing which a worker would do at the end."""


def why(task: Any) -> str | None:
    return why_on_worker(
        task, JobSensor if isinstance(task, JobSensor) else JobOperator
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: _airbyte(outlets=[Asset("orders")]), "the events of outlets"),
        (lambda: _airbyte(on_success_callback=print), "on_success_callback"),
        (lambda: _airbyte(on_skipped_callback=[print]), "on_skipped_callback"),
        (lambda: _airbyte(post_execute=print), "post_execute"),
        (lambda: _Overridden(task_id="t", connection_id="c"), "post_execute"),
        (lambda: _Resumed(task_id="t", connection_id="c"), "execute_complete"),
        (lambda: _airbyte(multiple_outputs=True), "multiple_outputs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_a_worker(make: Callable[[], BaseOperator], reason: str) -> None:
    told = why(make())

    assert told is not None
    assert reason in told


@pytest.fixture
def listener() -> Iterator[None]:
    """Have a plugin listen, in the core and in the SDK, as Airflow loads it there."""
    plugin: Any = type("Listens", (), {})()
    listening = [core_listener]
    if find_spec("airflow.sdk.listener") is not None:
        listening.append(import_module("airflow.sdk.listener"))

    managers = [each.get_listener_manager() for each in listening]
    for manager in managers:
        manager.pm.register(plugin)

    yield

    for manager in managers:
        manager.pm.unregister(plugin)


@pytest.mark.parametrize("is_sensor", [False, True])
@pytest.mark.usefixtures("listener")
def test_a_dag_is_not_refused_where_a_plugin_listens(is_sensor: bool) -> None:
    with DAG("listened", schedule=None) as dag:
        if is_sensor:
            AirbyteJobSensor(task_id="t", airbyte_job_id=1, end_from_trigger=True)
        else:
            _airbyte(task_id="t", end_from_trigger=True)

    bag = DagBag(dag_folder=None, collect_dags=False)
    bag.bag_dag(dag)

    assert "listened" in bag.dags
    assert why(dag.get_task("t")) == "only a worker calls the listeners of plugins"


def test_without_one_the_wish_holds() -> None:
    assert _airbyte(end_from_trigger=True).end_from_trigger is True
    assert _airbyte().end_from_trigger is False
    assert AirbyteTriggerSyncOperator.end_from_trigger is False


def test_what_needs_none() -> None:
    callbacks = {"on_failure_callback": print, "on_retry_callback": print}

    assert why(_airbyte(**callbacks)) is None
    assert why(_Renamed(task_id="t", connection_id="c")) is None
    assert why(FivetranSensor(task_id="t", connector_id="c")) is None


def test_a_state_store_that_is_cleared_needs_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")

    told = why(_airbyte())

    assert told is not None
    assert "task state store" in told


MAILS: list[dict[str, Any]] = [
    {"email": "me@example.test"},
    {"email": ["me@example.test"], "email_on_retry": False},
    {"email": ["me@example.test"], "email_on_failure": False},
]
NO_MAILS: list[dict[str, Any]] = [
    {"email_on_failure": True, "email_on_retry": True},
    {"email": [], "email_on_failure": True},
    {"email": "me@x.test", "email_on_failure": False, "email_on_retry": False},
]


@pytest.mark.filterwarnings("ignore:.*email:DeprecationWarning")
@every_vendor
@pytest.mark.parametrize("kind", ["operator", "sensor"])
@pytest.mark.parametrize("end", ["success", "error"])
@pytest.mark.parametrize(
    ("arguments", "needs_worker"),
    [*((each, True) for each in MAILS), *((each, False) for each in NO_MAILS)],
)
def test_a_failure_that_sends_mail_needs_a_worker(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    kind: str,
    end: str,
    arguments: dict[str, Any],
    *,
    needs_worker: bool,
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life(end))
    given = {"end_from_trigger": True, **arguments}
    if kind == "operator":
        task = Task(world, case.sync(**given))
    else:
        job = world.add_foreign(case.life(end))
        task = Task(world, case.sensor(job, **case.recent, **given))

    event = task.end(deferred(task.execute()))

    if end == "success":
        assert type(event) is TaskSuccessEvent
    else:
        assert type(event) is (TriggerEvent if needs_worker else TaskFailedEvent)


@pytest.mark.filterwarnings("ignore:.*email:DeprecationWarning")
@every_vendor
def test_so_does_one_of_a_start_on_the_triggerer(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("error"))
    given = {"end_from_trigger": True, "start_in_trigger": True, **MAILS[0]}
    task = Task(world, case.sync(**given))

    assert type(task.end(deferred(task.execute()))) is TriggerEvent


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_failure_that_stops_its_dag_needs_a_worker(*, fail_fast: bool) -> None:
    with DAG("a_dag", schedule=None, fail_fast=fail_fast):
        task = _airbyte(end_from_trigger=True, trigger_rule="all_success")

    assert failure_of(task) is (Then.RESUME if fail_fast else Then.FAIL)


def test_a_mapped_task_downstream_needs_a_worker() -> None:
    with DAG("dag", schedule=None):
        first = _airbyte()
        AirbyteTriggerSyncOperator.partial(task_id="mapped").expand(
            connection_id=first.output
        )
        other = _airbyte(task_id="other")
        plain = _airbyte(task_id="plain")
        other >> plain

    told = why(first)
    assert told is not None
    assert "mapped" in told
    assert why(other) is None


def test_a_custom_xcom_backend_needs_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom", type("Mine", (), {}))

    told = why(_airbyte())

    assert told is not None
    assert "XCom backend" in told


@every_vendor
def test_a_task_that_must_not_end_there_is_resumed_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    caplog.set_level(logging.INFO)
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("success"))
    given = {"end_from_trigger": True, "on_success_callback": print}
    task = Task(world, case.sync(**given))

    assert task.run() is not None
    assert "end_from_trigger is ignored: only a worker calls" in caplog.text


@every_vendor
def test_a_retry_policy_has_failures_resumed(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """It decides on the exception, which only a worker raises."""
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("error"))

    def make() -> BaseOperator:
        operator = case.sync(end_from_trigger=True)()
        operator.retry_policy = object()  # type: ignore[assignment]
        return operator

    task = Task(world, make)

    assert type(task.end(deferred(task.execute()))) is TriggerEvent


def test_an_attempt_that_is_no_longer_the_tasks_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running:60 succeeded")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True))
    deferral = deferred(task.execute())
    trigger = task.trigger(deferral)
    task.clear()

    monkeypatch.setattr(Task, "trigger", lambda *_: trigger)

    assert type(task.end(deferral)) is TriggerEvent
    assert task.xcoms == {}


def test_a_database_that_is_down_leaves_the_end_to_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running:60 succeeded")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True))
    deferral = deferred(task.execute())

    async def fail(*_: object) -> None:
        raise RuntimeError("no database")

    monkeypatch.setattr(compat, "push_from_trigger", fail)

    event = task.end(deferral)

    assert type(event) is TriggerEvent
    assert event.payload["status"] == "success"
    assert "could not end the task" in caplog.text


def test_the_first_question_does_not_wait_for_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A triggerer takes seconds for its first answer."""
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running:60 succeeded")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True))
    deferral = deferred(task.execute())
    asked: list[float] = []

    async def owner_token(ti: Any) -> tuple[int, str]:
        asked.append(world.elapsed())
        await asyncio.sleep(30 if len(asked) == 1 else 0)
        return 1, "1"

    monkeypatch.setattr(compat, "owner_token", owner_token)

    assert type(task.end(deferral)) is TaskSuccessEvent
    assert asked[0] == 0
    assert world.elapsed() < 70


def test_nothing_but_a_triggerer_takes_an_end_from_a_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In dag.test() a trigger has no task instance, and its events only resume."""
    world = make_vendor_world(monkeypatch, AIRBYTE)
    world.add_target("running:60 succeeded")
    task = Task(world, AIRBYTE.sync(end_from_trigger=True))
    deferral = deferred(task.execute())
    trigger = task.trigger(deferral)
    trigger.task_instance = None
    monkeypatch.setattr(Task, "trigger", lambda *_: trigger)

    assert type(task.end(deferral)) is TriggerEvent
