from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral import compat
from async_triggers.engine.accounts import shared_accounts
from async_triggers.simulator.faults import Fault, ListQuirks
from tests.airflow_versions import call_on_kill
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB, Clock

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud import DbtCloudSimulator

LIST = "GET /api/v2/accounts/{account}/runs/"
SINGLE = "GET /api/v2/accounts/{account}/runs/{run}/"
Event = dict[str, Any]


def trigger(run_id: int, **changes: Any) -> DbtCloudRunJobTrigger:
    arguments = {
        "conn_id": "dbt_cloud_default",
        "run_id": run_id,
        "end_time": None,
        "poll_interval": 60.0,
        "account_id": None,
        **changes,
    }
    return DbtCloudRunJobTrigger(**arguments)


async def event_of(waiting: DbtCloudRunJobTrigger) -> Event:
    async for event in waiting.run():
        return dict(event.payload)

    raise AssertionError


async def events_of(triggers: Sequence[DbtCloudRunJobTrigger]) -> list[Event]:
    return list(await asyncio.gather(*map(event_of, triggers)))


def runs(simulator: DbtCloudSimulator, lives: Sequence[str]) -> list[int]:
    """Add a run for each life, each of a job of its own."""
    return [
        simulator.add_run(simulator.add_job(JOB + 100 + number), life)
        for number, life in enumerate(lives)
    ]


def test_what_is_stored_of_a_trigger() -> None:
    parameters = list(inspect.signature(DbtCloudRunJobTrigger).parameters)
    assert parameters[:7] == [
        "conn_id",
        "run_id",
        "end_time",
        "poll_interval",
        "account_id",
        "hook_params",
        "execution_deadline",
    ]

    made = trigger(7)
    assert made.serialize() == (
        "async_triggers.dbt_cloud.triggers.DbtCloudRunJobTrigger",
        {
            "conn_id": "dbt_cloud_default",
            "run_id": 7,
            "end_time": None,
            "poll_interval": 60.0,
            "account_id": None,
            "hook_params": None,
            "execution_deadline": None,
            "owned": False,
            "cancel_on_kill": True,
            "cancel_on_timeout": True,
            "seen_at": None,
            "job_url": "",
            "ending": None,
            "summarize": False,
            "log_steps": False,
            "version": 1,
            "stored_at": made.stored_at,
        },
    )


@pytest.mark.parametrize(
    ("life", "status"),
    [
        ("running:100 success", "success"),
        ("running:100 error", "error"),
        ("running:100 cancelled", "cancelled"),
        ("queued:1 running:50 42:50 success", "success"),
    ],
)
def test_the_event_of_a_run(
    dbt_cloud: DbtCloudSimulator, clock: Clock, life: str, status: str
) -> None:
    (run,) = runs(dbt_cloud, [life])

    event = clock.run(event_of(trigger(run)))

    assert event["status"] == status
    assert event["run_id"] == run
    assert event["job_id"] == str(run)


def test_a_run_that_nobody_knows(dbt_cloud: DbtCloudSimulator, clock: Clock) -> None:
    event = clock.run(event_of(trigger(1)))

    assert event["status"] == "error"
    assert event["kind"] == "refused"
    assert "does not know run 1" in event["message"]


def test_the_account_of_a_task_wins(dbt_cloud: DbtCloudSimulator, clock: Clock) -> None:
    (run,) = runs(dbt_cloud, ["running:100 success"])
    waiting = trigger(run, conn_id="no_account", account_id=ACCOUNT)

    assert clock.run(event_of(waiting))["status"] == "success"


def test_hook_params_reach_the_hook() -> None:
    waiting = trigger(7, hook_params={"timeout_seconds": 9, "retry_limit": 2})
    hook = waiting.make_job().make_hook()

    assert (hook.timeout_seconds, hook.retry_limit) == (9, 2)


# Many at once -----------------------------------------------------------------


def test_one_request_answers_for_a_hundred(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    found = runs(dbt_cloud, ["running:290 success"] * 100)

    events = clock.run(events_of([trigger(run) for run in found]))

    assert {event["status"] for event in events} == {"success"}
    assert dbt_cloud.record.requests[LIST] <= 7
    assert dbt_cloud.record.requests[SINGLE] == 0


def test_three_waiters_among_five_thousand_foreign_runs_a_minute(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    dbt_cloud.configure(foreign_runs_per_minute=5000.0, minute_limit=50)
    found = runs(dbt_cloud, ["running:590 success"] * 3)

    events = clock.run(events_of([trigger(run) for run in found]))

    assert {event["status"] for event in events} == {"success"}
    # Ten minutes of rounds, one request each.
    assert dbt_cloud.record.total <= 12


def test_many_waiters_in_a_quiet_account_read_the_feed(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    found = runs(dbt_cloud, ["running:1190 success"] * 450)

    async def wait() -> tuple[list[Event], str]:
        waiting = asyncio.ensure_future(
            events_of([trigger(run, seen_at=clock()) for run in found])
        )
        await asyncio.sleep(1000)
        (leased,) = shared_accounts()
        plan = leased.poller.statistics().plan
        return await waiting, plan

    events, plan = clock.run(wait())

    assert {event["status"] for event in events} == {"success"}
    assert plan == "finished runs"


@pytest.mark.parametrize("encoding", ["brackets", "repeated"])
@pytest.mark.parametrize("wrong", ["ignore", "refuse"])
@pytest.mark.parametrize("echo", [True, False])
def test_either_way_of_writing_arrays_will_do(
    dbt_cloud: DbtCloudSimulator, clock: Clock, encoding: str, wrong: str, *, echo: bool
) -> None:
    dbt_cloud.configure(
        array_encoding=encoding, wrong_encoding=wrong, echo_filters=echo
    )
    for number in range(150):
        dbt_cloud.add_run(JOB, "success", age=5000 - number)

    found = runs(dbt_cloud, ["running:590 success"] * 20)

    events = clock.run(events_of([trigger(run) for run in found]))

    assert {event["status"] for event in events} == {"success"}
    # A few more than one a round, far from twenty.
    assert dbt_cloud.record.total <= 30


def test_a_host_that_ignores_all_filters_is_asked_run_by_run(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    dbt_cloud.quirks = ListQuirks(
        ignore_filters=("pk__in", "finished_at__range", "status__in")
    )
    for number in range(150):
        dbt_cloud.add_run(JOB, "success", age=5000 - number)

    found = runs(dbt_cloud, ["running:290 success", "running:290 error"])

    events = clock.run(events_of([trigger(run) for run in found]))

    assert [event["status"] for event in events] == ["success", "error"]


def test_runs_cancelled_before_they_began_are_found_without_the_feed(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    found = runs(dbt_cloud, ["queued"] * 300)

    async def wait() -> list[Event]:
        waiting = asyncio.ensure_future(
            events_of([trigger(run, seen_at=clock()) for run in found])
        )
        await asyncio.sleep(900)
        for run in found:
            dbt_cloud.finish(str(run), "cancelled")

        async with asyncio.timeout(400):
            return await waiting

    events = clock.run(wait())

    assert {event["status"] for event in events} == {"cancelled"}


def test_a_limit_that_names_no_time_pauses_the_account_for_five_minutes(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    (run,) = runs(dbt_cloud, ["running:100 success"])
    dbt_cloud.faults.add(Fault(kind="status", status=429))

    async def wait() -> tuple[Event, float]:
        event = await event_of(trigger(run))
        return event, asyncio.get_running_loop().time()

    event, passed = clock.run(wait())

    assert event["status"] == "success"
    assert 300 <= passed <= 430
    assert dbt_cloud.record.total <= 4


def test_ten_minutes_of_trouble_are_only_a_late_answer(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    (run,) = runs(dbt_cloud, ["running:30 success"])
    dbt_cloud.faults.add(Fault(kind="reset", times=None, lasts=600))

    assert clock.run(event_of(trigger(run)))["status"] == "success"


# Ends of other kinds -----------------------------------------------------------


def test_by_itself_a_trigger_cancels_nothing(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    (run,) = runs(dbt_cloud, ["running"])

    event = clock.run(event_of(trigger(run, end_time=clock() + 120)))

    assert event["status"] == "timeout"
    assert not dbt_cloud.record.cancels


def test_a_run_of_our_own_is_cancelled_when_its_time_is_up(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    dbt_cloud.configure(cancel_takes=20)
    (run,) = runs(dbt_cloud, ["running"])
    waiting = trigger(run, execution_deadline=clock() + 120, owned=True)

    event = clock.run(event_of(waiting))

    assert event["status"] == "timeout"
    assert event["cancel"] == "confirmed"
    assert "execution_timeout" in event["message"]
    assert dbt_cloud.record.cancels == {str(run): 1}


def test_a_deadline_while_a_failure_is_looked_into_changes_nothing(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    (run,) = runs(dbt_cloud, ["running:59 error"])
    dbt_cloud.faults.add(
        Fault(kind="delay", seconds=60, path="*/artifacts/*", times=None)
    )
    waiting = trigger(run, end_time=clock() + 68, owned=True)

    event = clock.run(event_of(waiting))

    assert event["status"] == "error"
    assert "step 3" in event["message"]
    assert not dbt_cloud.record.cancels


def test_lists_that_lag_make_events_late_and_nothing_else(
    dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    dbt_cloud.quirks = ListQuirks(lag=120, skip=0.3, repeat=0.3)
    found = runs(dbt_cloud, ["running:200 success", "running:400 error"] * 10)

    events = clock.run(events_of([trigger(run) for run in found]))

    assert [event["status"] for event in events] == ["success", "error"] * 10


def test_a_user_who_stops_the_task_stops_the_run(
    dbt_cloud: DbtCloudSimulator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = runs(dbt_cloud, ["running"])

    async def failed(_: Any) -> str:
        return "failed"

    async def token(_: Any) -> tuple[int, str]:
        return 1, str(run)

    monkeypatch.setattr(compat, "task_state", failed)
    monkeypatch.setattr(compat, "owner_token", token)

    async def kill() -> None:
        waiting = trigger(run, owned=True)
        instance: Any = SimpleNamespace(task_id="run", try_number=1)
        waiting.task_instance = instance
        task = asyncio.ensure_future(event_of(waiting))
        await asyncio.sleep(120)
        task.cancel()
        await asyncio.wait({task})
        await call_on_kill(waiting)

    clock.run(kill())

    assert dbt_cloud.record.cancels == {str(run): 1}


def test_a_hook_is_made_without_any_request(dbt_cloud: DbtCloudSimulator) -> None:
    assert isinstance(trigger(7).make_job().make_hook(), DbtCloudHook)
    assert dbt_cloud.record.total == 0
