"""Waiting for a sync that something else started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import DAG

from async_triggers.deferral.compat import (
    AirflowException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from async_triggers.deferral.errors import JobFailed, VendorRefused
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.simulator.faults import Fault
from tests.airflow_versions import in_time_zone, needs_start_from_trigger
from tests.unit.deferral.stage import (
    Deferral,
    Task,
    deferred,
    log,
    resumed,
    scheduled,
    the_event,
)
from tests.unit.fivetran.stage import HOUR, C, FivetranWorld, lines, paths, sensor

OUTAGE = Fault(kind="status", status=503, times=None, lasts=150)


def _at(world: FivetranWorld, seconds_ago: float) -> str:
    return datetime.fromtimestamp(world.now() - seconds_ago, tz=UTC).isoformat()


def test_without_a_baseline_the_next_sync_counts(world: FivetranWorld) -> None:
    task = Task(world, sensor())
    deferral = deferred(task.execute())
    world.pass_time(100)
    world.fivetran.start_sync(C, "syncing:100 succeeded")

    assert task.go_on(deferral) == world.shown()["succeeded_at"]
    assert world.elapsed() >= 200


@pytest.mark.parametrize(
    "give", [str, datetime.fromisoformat], ids=["text", "datetime"]
)
def test_a_sync_that_ended_after_the_given_time_counts_at_once(
    world: FivetranWorld, give: Any
) -> None:
    task = Task(world, sensor(completed_after_time=give(_at(world, 2 * HOUR))))

    assert task.run() == world.shown()["succeeded_at"]
    assert paths(world) == [
        f"GET /connections/{C}",
        f"GET /connections/{C}/sync-history",
    ]


def test_a_sync_before_the_given_time_does_not_count(world: FivetranWorld) -> None:
    task = Task(world, sensor(completed_after_time=_at(world, HOUR / 2)))

    deferral = deferred(task.execute())

    world.fivetran.start_sync(C, "syncing:10 succeeded")
    assert task.go_on(deferral) == world.shown()["succeeded_at"]


# Every mode in which a sensor looks, and a way to run it in each.
WAITS = "waits"
MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {},
    "on the triggerer": {"start_from_trigger": True},
}
ANY_MODE = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            mode,
            id=name,
            marks=needs_start_from_trigger if "start_from_trigger" in mode else (),
        )
        for name, mode in MODES.items()
    ],
)


def _looked(task: Task) -> Any:
    """Look in the mode of the task's sensor; return its result, ``WAITS`` without one."""
    operator = task.make()
    if getattr(operator, "start_from_trigger", False):
        trigger = scheduled(task)

        async def wait_a_minute() -> Any:
            async with asyncio.timeout(60):
                return await the_event(trigger)

        try:
            event = asyncio.run(wait_a_minute())
        except TimeoutError:
            return WAITS

        return resumed(task, event)

    if operator.deferrable or operator.reschedule:  # type: ignore[attr-defined]
        try:
            outcome = task.execute()
        except AirflowRescheduleException:
            return WAITS

        return WAITS if isinstance(outcome, Deferral) else outcome

    operator._cached_logger = cast("Any", log)
    seen = operator.poke(task.context())  # type: ignore[attr-defined]
    return seen.xcom_value if seen.is_done else WAITS


@pytest.fixture
def in_new_york() -> Iterator[None]:
    """Have Airflow's ``[core] default_timezone`` be America/New_York."""
    with in_time_zone("America/New_York"):
        yield


@pytest.mark.usefixtures("in_new_york")
@ANY_MODE
@pytest.mark.parametrize(
    "give",
    [
        lambda moment: moment.strftime("%Y-%m-%d %H:%M"),
        lambda moment: moment.strftime("%Y%m%dT%H%M"),
        lambda moment: moment.isoformat(),
        lambda moment: moment,
    ],
    ids=["text", "basic format", "ISO 8601", "datetime"],
)
def test_a_time_without_an_offset_is_in_airflows_time_zone(
    world: FivetranWorld, mode: dict[str, Any], give: Any
) -> None:
    """The sync ended an hour ago; in UTC the time would be hours before it."""
    half_an_hour_ago = datetime.fromtimestamp(world.now() - HOUR / 2, tz=UTC)
    there = half_an_hour_ago.astimezone(ZoneInfo("America/New_York"))

    task = Task(
        world, sensor(completed_after_time=give(there.replace(tzinfo=None)), **mode)
    )

    assert _looked(task) == WAITS


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize("spelling", ["Z", "+00:00"])
def test_an_offset_holds_whatever_airflows_time_zone_is(
    world: FivetranWorld, spelling: str
) -> None:
    given = _at(world, 2 * HOUR).replace("+00:00", spelling)

    assert _looked(Task(world, sensor(completed_after_time=given))) != WAITS


@ANY_MODE
@pytest.mark.parametrize("empty", [None, "", " ", "now", " now"])
def test_an_empty_time_waits_for_the_next_sync(
    world: FivetranWorld, mode: dict[str, Any], empty: str | None
) -> None:
    assert _looked(Task(world, sensor(completed_after_time=empty, **mode))) == WAITS


def test_a_template_that_renders_to_none_waits_for_the_next_sync(
    world: FivetranWorld,
) -> None:
    def make() -> FivetranSensor:
        made = sensor(completed_after_time="{{ to be rendered }}")()
        made.completed_after_time = None
        return made

    assert _looked(Task(world, make)) == WAITS


@pytest.mark.parametrize(
    "value",
    [
        "None",
        "none",
        "Now",
        "yesterday",
        "P1D",
        "2026-01-01/2026-01-02",
        "2026-01-01/P1D",
        "now/2026-01-01",
        5,
        True,
        {},
    ],
)
def test_what_is_no_time_is_refused(world: FivetranWorld, value: Any) -> None:
    with pytest.raises(AirflowException, match="completed_after_time must be"):
        Task(world, sensor(completed_after_time=value)).run()

    assert world.requests == []


@ANY_MODE
def test_a_success_counts_although_a_later_sync_has_failed(
    world: FivetranWorld, mode: dict[str, Any]
) -> None:
    world.add(succeeded_ago=HOUR, failed_ago=HOUR / 2)

    task = Task(world, sensor(completed_after_time=_at(world, 2 * HOUR), **mode))
    assert _looked(task) == world.shown()["succeeded_at"]


@ANY_MODE
def test_a_failure_after_the_time_and_no_success_fails(
    world: FivetranWorld, mode: dict[str, Any]
) -> None:
    world.add(succeeded_ago=HOUR, failed_ago=HOUR / 2)
    task = Task(world, sensor(completed_after_time=_at(world, HOUR * 0.75), **mode))

    with pytest.raises(JobFailed):
        _looked(task)


def test_of_several_syncs_after_the_given_time_the_last_counts(
    world: FivetranWorld,
) -> None:
    before = _at(world, 5)
    for end in ("failed", "succeeded"):
        world.fivetran.start_sync(C, f"syncing:60 {end}")
        world.pass_time(100)

    task = Task(world, sensor(completed_after_time=before))

    assert task.run() == world.shown()["succeeded_at"]


def test_a_failed_sync_fails_the_sensor(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing:100 failed")

    with pytest.raises(JobFailed, match="simulated sync has failed"):
        Task(world, sensor()).run()


def test_soft_fail_skips(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing:100 failed")

    with pytest.raises(AirflowSkipException):
        Task(world, sensor(soft_fail=True)).run()


def test_a_retry_waits_for_a_later_sync_than_the_one_that_failed(
    world: FivetranWorld,
) -> None:
    world.fivetran.start_sync(C, "syncing:100 failed")
    task = Task(world, sensor())
    with pytest.raises(JobFailed):
        task.run()

    # Fivetran tries again before Airflow does.
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    world.pass_time(300)
    task.retry()

    assert task.run() == world.shown()["succeeded_at"]


def test_so_does_one_that_finds_the_failure_at_its_first_look(
    world: FivetranWorld,
) -> None:
    task = Task(world, sensor())
    deferred(task.execute())
    world.fivetran.start_sync(C, "syncing:10 failed")
    world.pass_time(300)
    task.retry()
    with pytest.raises(JobFailed):
        task.run()

    task.retry()

    assert isinstance(task.execute(), Deferral)


def test_a_retry_keeps_the_baseline_where_nothing_has_ended(
    world: FivetranWorld,
) -> None:
    task = Task(world, sensor())
    deferred(task.execute())
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    world.pass_time(300)
    task.retry()

    assert task.run() == world.shown()["succeeded_at"]
    assert world.elapsed() < 310


def test_a_cleared_sensor_waits_for_the_next_sync(world: FivetranWorld) -> None:
    task = Task(world, sensor())
    deferred(task.execute())
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    world.pass_time(300)
    task.clear()

    assert isinstance(task.execute(), Deferral)


def test_a_cancelled_sync_is_not_the_one_that_is_waited_for(
    world: FivetranWorld,
) -> None:
    world.fivetran.start_sync(C, "syncing:100 canceled")
    task = Task(world, sensor(timeout=2 * HOUR))
    deferral = deferred(task.execute())
    world.pass_time(HOUR)
    world.fivetran.start_sync(C, "syncing:10 succeeded")

    assert task.go_on(deferral) == world.shown()["succeeded_at"]


@pytest.mark.parametrize("strict", [False, True])
def test_an_earlier_failure_counts_where_it_is_propagated(
    world: FivetranWorld, *, strict: bool
) -> None:
    world.add(succeeded_ago=HOUR, failed_ago=HOUR / 2)
    task = Task(
        world,
        sensor(completed_after_time=_at(world, 60), propagate_failures_forward=strict),
    )

    if strict:
        with pytest.raises(JobFailed):
            task.execute()
    else:
        assert isinstance(task.execute(), Deferral)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("patient", [False, True])
def test_a_patient_sensor_waits_while_anything_syncs(
    world: FivetranWorld, *, patient: bool, deferrable: bool
) -> None:
    world.fivetran.start_sync(C, "syncing:200 succeeded")
    task = Task(
        world,
        sensor(
            completed_after_time=_at(world, 2 * HOUR),
            always_wait_when_syncing=patient,
            deferrable=deferrable,
            poke_interval=0.01,
        ),
    )
    if deferrable or not patient:
        task.run()
        assert (world.elapsed() >= 200) is patient
    else:
        operator = task.make()
        assert not operator.poke(task.context()).is_done  # type: ignore[attr-defined]


@ANY_MODE
def test_a_paused_connection_is_waited_for_with_a_warning(
    world: FivetranWorld,
    mode: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.add(paused=True)

    assert _looked(Task(world, sensor(**mode))) == WAITS

    # A trigger within a trigger has Airflow's own log.
    warnings = lines(caplog, logging.WARNING) + capsys.readouterr().out
    assert warnings.count(
        f"Sync of {C} is waited for, but its connection is paused"
    ) == (0 if mode == MODES["deferrable"] else 1)


def test_a_deferred_sensor_warns_on_the_triggerer_and_goes_on_once_un_paused(
    world: FivetranWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.add(paused=True)
    task = Task(world, sensor(timeout=2 * HOUR))
    deferral = deferred(task.execute())

    def un_pause() -> None:
        world.fivetran.change(C, paused=False, sync_state="scheduled")
        world.fivetran.start_sync(C, "syncing:60 succeeded")

    world.signals.append((world.elapsed() + HOUR, un_pause))

    assert task.go_on(deferral) == world.shown()["succeeded_at"]

    assert "its connection is paused" in lines(caplog, logging.WARNING)


@ANY_MODE
def test_a_paused_connection_fails_the_sensor_that_wants_it(
    world: FivetranWorld, mode: dict[str, Any]
) -> None:
    world.add(paused=True)

    with pytest.raises(JobFailed, match="was paused"):
        _looked(Task(world, sensor(fail_if_paused=True, **mode)))


def test_a_sensor_has_a_deadline_while_deferred(world: FivetranWorld) -> None:
    with pytest.raises(AirflowSensorTimeout):
        Task(world, sensor(timeout=300)).run()

    assert 300 <= world.elapsed() < 330
    assert world.starts == 0


@pytest.mark.parametrize("wait", [None, 100])
def test_a_sync_put_off_is_started_again(
    world: FivetranWorld, wait: float | None
) -> None:
    world.add(lives=["syncing:60 rescheduled:900 syncing:60 succeeded"])
    world.fivetran.start_sync(C)
    task = Task(world, sensor(reschedule_wait_time=wait))

    assert task.run() == world.shown()["succeeded_at"]

    assert world.starts == 1
    assert (world.elapsed() < 400) is (wait is not None)


@pytest.mark.parametrize("passed", [30.0, 3600.0])
def test_a_sync_put_off_until_a_time_that_has_passed_is_started_at_once(
    world: FivetranWorld, passed: float
) -> None:
    world.fivetran.configure(reschedule_after=-passed)
    world.add(lives=["syncing:60 rescheduled", "syncing:60 succeeded"])
    world.fivetran.start_sync(C)

    result = Task(world, sensor()).run()

    assert result == world.shown()["succeeded_at"]
    assert world.starts == 1
    assert world.elapsed() < 300


# Modes --------------------------------------------------------------------------------


def test_a_rescheduled_sensor_keeps_its_baseline(world: FivetranWorld) -> None:
    task = Task(world, sensor(deferrable=False, mode="reschedule"))
    with pytest.raises(AirflowRescheduleException):
        task.execute()

    # Ends between two looks, each of which is a process of its own.
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    world.pass_time(60)

    assert task.execute() == world.shown()["succeeded_at"]


def test_without_a_store_a_rescheduled_sensor_still_works(world: FivetranWorld) -> None:
    task = Task(
        world,
        sensor(
            deferrable=False,
            mode="reschedule",
            completed_after_time=_at(world, 2 * HOUR),
        ),
        has_store=False,
    )

    assert task.execute() == world.shown()["succeeded_at"]


def test_an_outage_is_only_a_late_answer_to_a_rescheduled_sensor(
    world: FivetranWorld,
) -> None:
    world.fivetran.faults.add(OUTAGE)
    task = Task(
        world, sensor(deferrable=False, mode="reschedule", fivetran_retry_limit=1)
    )

    with pytest.raises(AirflowRescheduleException):
        task.execute()


# When the first look fails ------------------------------------------------------------


def test_a_first_look_that_is_not_answered_is_tried_again_off_the_worker(
    world: FivetranWorld,
) -> None:
    world.fivetran.faults.add(OUTAGE)
    task = Task(world, sensor())

    deferral = deferred(task.execute())
    assert deferral.method == "execute_look"

    world.pass_time(160)
    world.fivetran.faults.clear()
    waiting = deferred(task.resume(deferral, None))
    assert waiting.method == "execute_complete"
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    assert task.go_on(waiting) == world.shown()["succeeded_at"]


def test_a_first_look_that_is_never_answered_ends_with_the_timeout(
    world: FivetranWorld,
) -> None:
    world.fivetran.faults.add(Fault(kind="status", status=503, times=None))

    with pytest.raises(
        AirflowSensorTimeout, match="No poll succeeded before the timeout"
    ):
        Task(world, sensor(timeout=200)).run()


def test_a_first_look_with_a_short_timeout_is_tried_again_all_the_same(
    world: FivetranWorld,
) -> None:
    world.fivetran.faults.add(Fault(kind="status", status=503, times=None, lasts=15))
    task = Task(world, sensor(timeout=50))

    deferral = deferred(task.execute())
    waiting = deferred(task.resume(deferral, task.wait(deferral)))

    assert waiting.method == "execute_complete"
    assert world.elapsed() < 50


def test_with_a_baseline_no_first_look_is_needed(world: FivetranWorld) -> None:
    before = _at(world, HOUR / 2)
    world.fivetran.faults.add(OUTAGE)
    task = Task(world, sensor(completed_after_time=before))

    deferral = deferred(task.execute())

    assert deferral.method == "execute_complete"
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    assert task.go_on(deferral) == world.shown()["succeeded_at"]


# Names and arguments ------------------------------------------------------------------

NAMED = {
    "connector_id": None,
    "connector_name": "sheets.orders",
    "destination_name": "simulated_warehouse",
}


def test_names_are_looked_up_once_and_when_the_task_runs(world: FivetranWorld) -> None:
    with DAG("parsed", schedule=None):
        sensor(**NAMED)()

    assert world.connection_reads == 0
    assert world.requests == []
    task = Task(world, sensor(**NAMED, deferrable=False, mode="reschedule"))
    for _ in range(3):
        with pytest.raises(AirflowRescheduleException):
            task.execute()

    assert world.times_asked("GET", "/groups") == 1


def test_a_name_that_is_not_there_fails_at_once(world: FivetranWorld) -> None:
    with pytest.raises(VendorRefused, match="no connection named 'x'"):
        Task(world, sensor(**{**NAMED, "connector_name": "x"})).run()


def test_old_names_of_arguments_are_accepted_with_a_warning(
    world: FivetranWorld,
) -> None:
    time = _at(world, 2 * HOUR)
    with pytest.warns(FutureWarning, match="xcom is deprecated") as told:
        old = FivetranSensor(task_id="sync", connector_id=C, xcom=time)

    assert told[0].filename == __file__
    assert old.completed_after_time == time
    with pytest.warns(FutureWarning, match="reschedule_time is deprecated"):
        old = FivetranSensor(task_id="sync", connector_id=C, reschedule_time=60)

    assert old.reschedule_wait_time == 60


def test_the_peers_defaults_are_ours() -> None:
    made = sensor()()

    assert made.poke_interval == 60
    assert made.fivetran_conn_id == "fivetran_default"
    assert made.fivetran_retry_limit == 3
    assert made.fivetran_retry_delay == 1
    assert made.completed_after_time is None
    assert made.reschedule_wait_time is None
    assert made.always_wait_when_syncing is False
    assert made.propagate_failures_forward is False
    assert made.deferrable is True
    assert tuple(made.template_fields) == ("connector_id", "completed_after_time")


def test_trouble_is_logged_without_secrets(
    world: FivetranWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.fivetran.faults.add(OUTAGE)

    Task(world, sensor()).execute()

    assert "503" in lines(caplog)
    assert "simulator-secret" not in lines(caplog)
