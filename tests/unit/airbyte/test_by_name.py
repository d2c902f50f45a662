"""Connections of Airbyte that are given by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import AirflowRescheduleException
from async_triggers.deferral.errors import JobFailed, VendorRefused
from async_triggers.deferral.record import KEY
from async_triggers.simulator import ListQuirks
from async_triggers.simulator.faults import Fault
from tests.unit.deferral.stage import (
    Deferral,
    Task,
    World,
    deferred,
    make_world,
    methods,
    resumed,
    scheduled,
    the_event,
)

ORDERS, OTHERS, IN_EUROPE = "orders-uuid", "others-uuid", "orders-eu-uuid"
EUROPE = "europe-uuid"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose Airbyte has two workspaces with a connection "orders" each."""
    world = make_world(monkeypatch)
    airbyte = world.airbyte
    airbyte.add_workspace(EUROPE, name="Europe")
    life = ["running:60 succeeded"]
    airbyte.add_connection(ORDERS, name="orders", lives=life)
    airbyte.add_connection(OTHERS, name="customers", lives=life)
    airbyte.add_connection(IN_EUROPE, name="orders", workspace_id=EUROPE, lives=life)
    return world


def sync(**arguments: Any) -> Callable[[], AirbyteTriggerSyncOperator]:
    """Return a maker of one and the same operator."""
    return lambda: AirbyteTriggerSyncOperator(task_id="sync", **arguments)


def sensor(**arguments: Any) -> Callable[[], AirbyteJobSensor]:
    """Return a maker of one and the same sensor."""
    return lambda: AirbyteJobSensor(task_id="sync", **arguments)


OPERATOR_MODES = {
    "on the worker": {"deferrable": False},
    "deferrable": {"deferrable": True},
    "on the triggerer": {"deferrable": True, "start_in_trigger": True},
    "asynchronous": {"asynchronous": True},
}
SENSOR_MODES = {
    "poke": {"deferrable": False, "poke_interval": 5},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
    "on the triggerer": {"deferrable": True, "start_from_trigger": True},
}
any_operator_mode = pytest.mark.parametrize(
    "mode", OPERATOR_MODES.values(), ids=OPERATOR_MODES
)
any_sensor_mode = pytest.mark.parametrize(
    "mode", SENSOR_MODES.values(), ids=SENSOR_MODES
)

WAYS = (
    ({"connection_name": "customers"}, OTHERS),
    ({"connection_name": "orders", "workspace_name": "Europe"}, IN_EUROPE),
    ({"connection_name": "orders", "workspace_id": EUROPE}, IN_EUROPE),
)
any_way = pytest.mark.parametrize(("names", "found"), WAYS)


def run(task: Task) -> Any:
    """Run a task in its mode, through all looks of a rescheduled sensor."""
    operator: Any = task.make()
    if isinstance(operator, AirbyteTriggerSyncOperator):
        return task.run()

    if operator.start_from_trigger:
        return resumed(task, asyncio.run(the_event(scheduled(task))))

    while True:
        try:
            if operator.deferrable or operator.reschedule:
                return task.run()

            seen = operator.poke(task.context())
            if seen.is_done:
                return seen.xcom_value

        except AirflowRescheduleException:
            pass

        task.world.pass_time(60)


def started(world: World) -> dict[str, str]:
    """Return the connections by the jobs that were started for them."""
    return {each.job: each.target for each in world.airbyte.record.started}


# The operator -------------------------------------------------------------------------


@any_operator_mode
@any_way
def test_the_operator_starts_the_connection_of_that_name(
    world: World, names: dict[str, str], found: str, mode: dict[str, Any]
) -> None:
    task = Task(world, sync(**names, **mode))

    job = run(task)

    assert started(world) == {str(job): found}
    if "asynchronous" not in mode:
        assert task.xcoms["airbyte_job"]["connection_id"] == found


def test_names_are_looked_up_when_the_task_runs_and_once(world: World) -> None:
    with DAG("parsed", schedule=None):
        sync(connection_name="customers", deferrable=True)()

    assert world.requests == []

    task = Task(world, sync(connection_name="customers", deferrable=True))
    task.run()

    # A page with the connections, and an empty one, which ends the list.
    assert methods(world.requests).count("GET /connections") == 2


def test_a_connection_given_by_id_costs_no_request_more(world: World) -> None:
    Task(world, sync(connection_id=ORDERS, deferrable=True)).run()

    assert "GET /connections" not in methods(world.requests)


def test_a_retry_attaches_by_the_same_name(world: World) -> None:
    task = Task(world, sync(connection_name="customers", deferrable=True))
    deferred(task.execute())
    task.retry()

    task.run()

    assert world.starts == 1


def test_a_lost_start_is_looked_for_at_the_connection_it_was_sent_to(
    world: World,
) -> None:
    """Also where the name has gone to another connection meanwhile."""
    lost = Fault(kind="reset", method="POST", path="*/jobs", takes_effect=True)
    world.airbyte.faults.add(lost)
    dark = Fault(
        kind="status", status=503, times=None, path="*/jobs", method="GET", skip=1
    )
    world.airbyte.faults.add(dark)
    task = Task(world, sync(connection_name="customers", deferrable=True))
    deferred(task.execute())
    assert task.store.get(KEY)["intent"]["marker"] == OTHERS

    world.airbyte.faults.clear()
    world.airbyte.connections[OTHERS].name = "clients"
    world.airbyte.add_connection("new-uuid", name="customers")
    task.retry()
    task.run()

    assert [*started(world).values()] == [OTHERS]


NOT_ONE = (
    (
        {"connection_name": "order"},
        (
            "Airbyte has no connection named 'order': check the name, letter by letter."
            " Nearest: 'orders'"
        ),
    ),
    (
        {"connection_name": "Customers"},
        (
            "no connection named 'Customers': check the name, letter by letter. Nearest:"
            " 'customers'"
        ),
    ),
    (
        {"connection_name": "customers", "workspace_name": "Europe"},
        (
            "no connection named 'customers': check the name, letter by letter. Nearest:"
            " 'orders'"
        ),
    ),
    (
        {"connection_name": "orders"},
        (
            f"Airbyte has 2 connections named 'orders' ({ORDERS}, {IN_EUROPE}): give"
            " workspace_name, workspace_id or connection_id"
        ),
    ),
    (
        {"connection_name": "orders", "workspace_name": "Europ"},
        (
            "Airbyte has no workspace named 'Europ': check the name, letter by letter."
            " Nearest: 'Europe'"
        ),
    ),
    (
        {"connection_name": "orders", "workspace_id": "asia-uuid"},
        (
            "Airbyte shows no workspace 'asia-uuid' to these credentials: check"
            " workspace_id"
        ),
    ),
)
not_one = pytest.mark.parametrize(("names", "message"), NOT_ONE)


@any_operator_mode
@not_one
def test_a_name_that_is_not_one_connections_fails_before_a_start(
    world: World, names: dict[str, str], message: str, mode: dict[str, Any]
) -> None:
    with pytest.raises(VendorRefused) as caught:
        run(Task(world, sync(**names, **mode)))

    assert message in str(caught.value)
    assert world.starts == 0


def test_a_server_that_ignores_the_workspace_is_not_believed(world: World) -> None:
    world.airbyte.quirks = ListQuirks(ignore_filters=("workspaceIds",))

    job = Task(world, sync(connection_name="orders", workspace_id=EUROPE)).run()

    assert started(world) == {str(job): IN_EUROPE}


def test_many_connections_are_read_page_by_page_within_their_workspace(
    world: World,
) -> None:
    for at in range(250):
        world.airbyte.add_connection(f"id-{at}", name=f"c {at}", workspace_id=EUROPE)

    names = {"connection_name": "c 249", "workspace_name": "Europe"}
    job = Task(world, sync(**names)).run()

    assert started(world) == {str(job): "id-249"}


@pytest.mark.parametrize("make", [sync, sensor])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"connection_id": "a", "connection_name": "b"}, "not both"),
        (
            {"connection_name": "b", "workspace_name": "c", "workspace_id": "d"},
            "workspace_name or workspace_id, not both",
        ),
        ({"connection_id": "a", "workspace_id": "d"}, "is for connection_name"),
        ({"connection_name": "", "connection_id": ""}, "(Give|must be)"),
        ({"connection_name": " "}, "Give "),
    ],
)
def test_a_connection_is_given_in_one_way(
    world: World, make: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentUnusable, match=message):
        Task(world, make(**arguments)).run()

    assert world.requests == []


@pytest.mark.parametrize("make", [sync, sensor])
def test_without_any_the_dag_cannot_be_imported(make: Any) -> None:
    with pytest.raises(ArgumentUnusable, match="connection_id or connection_name"):
        make()()


@pytest.mark.parametrize("cls", [AirbyteTriggerSyncOperator, AirbyteJobSensor])
def test_the_names_are_templates(cls: Any) -> None:
    names = {"connection_id", "connection_name", "workspace_name", "workspace_id"}

    assert names <= set(cls.template_fields)


# The sensor ---------------------------------------------------------------------------


@any_sensor_mode
@any_way
def test_the_sensor_waits_for_the_sync_that_runs(
    world: World, names: dict[str, str], found: str, mode: dict[str, Any]
) -> None:
    world.airbyte.add_job(found, "running:100 succeeded")

    run(Task(world, sensor(**names, **mode)))

    assert world.elapsed() >= 100


@any_sensor_mode
def test_a_sync_that_has_ended_counts_at_once(
    world: World, mode: dict[str, Any]
) -> None:
    world.airbyte.add_job(OTHERS, "running:100 failed", age=500)
    world.airbyte.add_job(OTHERS, "running:100 succeeded", age=300)
    # No sync, and begun since.
    world.airbyte.add_job(OTHERS, "running:900 failed", age=100, job_type="reset")

    run(Task(world, sensor(connection_id=OTHERS, **mode)))

    assert world.elapsed() < 30


@any_sensor_mode
def test_a_failed_sync_fails_the_sensor_with_its_address(
    world: World, mode: dict[str, Any]
) -> None:
    job = world.airbyte.add_job(OTHERS, "running:100 failed")

    with pytest.raises(JobFailed, match=rf"workspaces/.*{OTHERS}.*jobId={job}\b"):
        run(Task(world, sensor(connection_name="customers", **mode)))


@any_sensor_mode
@not_one
def test_a_name_that_is_not_one_connections_fails_the_sensor(
    world: World, names: dict[str, str], message: str, mode: dict[str, Any]
) -> None:
    with pytest.raises(VendorRefused) as caught:
        run(Task(world, sensor(**names, **mode)))

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "message"),
    [(ORDERS, "has had no sync"), ("nowhere", "Check connection_id")],
)
def test_a_connection_without_a_sync_fails_the_sensor(
    world: World, connection: str, message: str
) -> None:
    world.airbyte.settings.accept_unknown = False

    with pytest.raises(VendorRefused, match=message):
        Task(world, sensor(connection_id=connection)).run()


def test_a_rescheduled_sensor_keeps_to_the_sync_it_found(world: World) -> None:
    first = world.airbyte.add_job(OTHERS, "running:50 failed")
    task = Task(world, sensor(connection_name="customers", mode="reschedule"))
    with pytest.raises(AirflowRescheduleException):
        task.execute()

    world.pass_time(100)
    world.airbyte.add_job(OTHERS, "running:50 succeeded")

    with pytest.raises(JobFailed, match=f"Job {first} failed"):
        task.execute()

    # The retry takes the newest.
    task.retry()
    assert run(task) is None


def test_a_first_look_that_is_not_answered_is_tried_again_off_the_worker(
    world: World,
) -> None:
    world.airbyte.add_job(OTHERS, "running:300 succeeded")
    outage = Fault(kind="status", status=503, times=None, lasts=150)
    world.airbyte.faults.add(outage)
    task = Task(world, sensor(connection_name="customers", deferrable=True))

    deferral = deferred(task.execute())

    assert deferral.method == "execute_look"
    assert task.go_on(deferral) is None


def test_a_job_and_a_connection_are_not_both_given(world: World) -> None:
    task = Task(world, sensor(airbyte_job_id=1, connection_name="customers"))

    with pytest.raises(ArgumentUnusable, match="airbyte_job_id or a connection"):
        task.run()


def test_an_event_of_another_job_makes_the_sensor_wait_on(world: World) -> None:
    job = world.airbyte.add_job(OTHERS, "running:100 succeeded")
    task = Task(world, sensor(connection_name="customers", deferrable=True))
    deferral = deferred(task.execute())
    event = task.wait(deferral)

    again = task.resume(deferral, {**event, "job_id": 4711})

    assert isinstance(again, Deferral)
    assert again.arguments["job_id"] == job
    assert task.go_on(again) is None


@pytest.mark.parametrize("make", [sync, sensor])
def test_what_default_args_give_beside_a_name_is_judged_when_the_task_runs(
    world: World, make: Any
) -> None:
    shared = {"connection_id": ORDERS}
    task = Task(world, make(connection_name="customers", default_args=shared))

    with pytest.raises(ArgumentUnusable, match="not both"):
        task.run()


@pytest.mark.parametrize("make", [sync, sensor])
@pytest.mark.parametrize("rendered", ["", "None", None])
def test_a_name_that_renders_to_nothing_is_named(
    world: World, make: Any, rendered: str | None
) -> None:
    def rendering() -> Any:
        made = make(connection_name="{{ to be rendered }}")()
        made.connection_name = rendered
        return made

    with pytest.raises(ArgumentUnusable, match="connection_name is"):
        Task(world, rendering).run()
