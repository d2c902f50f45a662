"""The situations that a job can meet, for every vendor.

What stands in the tests of one vendor for all three is not repeated here: kills, clears
and deadlines are in ``tests/unit/kill``, starts and ends on the triggerer beside this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.deferral.errors import (
    ConnectionUnusable,
    EventUnusable,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    VendorUnavailable,
)
from async_triggers.deferral.record import KEY
from async_triggers.engine import reporter
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill
from tests.unit.deferral.stage import (
    Deferral,
    Task,
    deferred,
    the_event,
    waits_for,
)
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest
    from tests.unit.deferral.vendors import Set, VendorWorld


def conn_id(case: Case) -> str:
    """Return the name of the Airflow connection."""
    return f"{case.name}_default"


def running(world: VendorWorld) -> list[str]:
    """Return the jobs that have not ended."""
    return [view.job for view in world.vendor.jobs()]


def reconnect(world: VendorWorld, **fields: Any) -> None:
    """Change the Airflow connection."""
    world.connect(
        conn_id(world.case),
        **{
            "conn_type": world.case.name,
            "host": "http://localhost:8000",
            **world.case.connection,
            **fields,
        },
    )


def die_at_start(world: VendorWorld) -> None:
    """Let the worker die with the answer of its start."""
    ask = world.vendor.respond

    def respond(asked: SimRequest) -> Any:
        reply = ask(asked)
        if asked.method == "POST" and asked.path.endswith(world.case.start_path):
            world.vendor.respond = ask
            raise SystemExit

        return reply

    world.vendor.respond = respond


# What it costs ------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("end", ["success", "error"])
def test_a_task_takes_few_requests_beside_polling(
    scene: Set, case: Case, end: str
) -> None:
    world, task = scene(case, case.life(end))

    deferral = deferred(task.execute())
    asked = [f"{each.method} {each.path}" for each in world.requests]
    world.requests.clear()
    task.wait(deferral)
    polled = [f"{each.method} {each.path}" for each in world.requests]

    # A token serves all triggers of an account.
    asked += [
        each for each in polled if not case.polls.match(each) and "token" not in each
    ]
    # One more where a token is issued first.
    most = 3 if case.static == case.connection else 4
    assert 2 <= len(asked) <= most, asked
    assert any(case.polls.match(each) for each in polled)


# The end ------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("deferrable", [True, False])
def test_resuming_asks_the_vendor_nothing(
    scene: Set, case: Case, *, deferrable: bool
) -> None:
    world, task = scene(case, case.life("success"), deferrable=deferrable)
    outcome = task.execute()
    if deferrable:
        event = task.wait(deferred(outcome))
        world.requests.clear()
        outcome = task.resume(outcome, event)
        assert world.requests == []

    assert outcome is not None
    assert task.xcoms[case.statistics_key]["attached"] is False


@every_vendor
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failure_is_typed_and_names_the_job(
    scene: Set, case: Case, *, deferrable: bool
) -> None:
    world, task = scene(case, case.life("error"), deferrable=deferrable)

    with pytest.raises(JobFailed) as caught:
        task.run()

    job = caught.value.job
    assert job is not None
    assert job.url in str(caught.value)
    assert job.title in str(caught.value)
    assert world.cancels == 0


@every_vendor
def test_a_job_cancelled_at_the_vendor_fails_the_task(scene: Set, case: Case) -> None:
    word = case.ends.get("cancelled", "canceled")
    _, task = scene(case, f"{case.running}:60 {word}")

    with pytest.raises(JobCancelled):
        task.run()


@every_vendor
def test_a_job_that_is_over_completes_on_the_worker(scene: Set, case: Case) -> None:
    """It ended while the worker of the first attempt was dead."""
    world, task = scene(case, case.life("success"))
    task.execute()
    world.pass_time(100)
    task.retry()

    assert not isinstance(task.execute(), Deferral)
    assert world.starts == 1


@every_vendor
def test_an_event_of_another_job_defers_again(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life("success"), timeout=600)
    deferral = deferred(task.execute())
    event = {**task.wait(deferral), "job_id": "77"}

    again = deferred(task.resume(deferral, event))

    assert again.arguments["owned"] is True
    assert again.arguments["end_time"] == deferral.arguments["end_time"]
    assert waits_for(again) == waits_for(deferral)
    assert task.go_on(again) is not None
    assert (world.starts, world.cancels) == (1, 0)


@every_vendor
@pytest.mark.parametrize(
    "change", [{"v": 2}, {"status": "splendid"}, {"job": "1"}, {"job": None}]
)
def test_an_event_that_cannot_be_trusted_fails_the_task(
    scene: Set, case: Case, change: dict[str, Any]
) -> None:
    _, task = scene(case, case.life("success"))
    deferral = deferred(task.execute())
    event = {**task.wait(deferral), **change}

    with pytest.raises(EventUnusable):
        task.resume(deferral, event)


@every_vendor
def test_a_trigger_that_lingers_after_its_event_leaves_all_untouched(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life("success"))
    trigger = task.trigger(deferred(task.execute()))
    world.states["sync", -1] = "failed"

    async def go() -> None:
        await the_event(trigger)
        world.add_foreign(case.life())
        world.requests.clear()
        await trigger.on_kill()
        await asyncio.sleep(60)

    asyncio.run(go())

    assert world.requests == []
    assert len(running(world)) == 1


# Attempts -----------------------------------------------------------------------------


@every_vendor
def test_a_worker_that_dies_with_the_answer_of_its_start_leaves_one_job(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life("success", lasts=300))
    die_at_start(world)
    with pytest.raises(SystemExit):
        task.execute()

    assert task.store.values[KEY]["job_id"] is None
    task.retry()

    assert task.run() is not None
    assert (world.starts, world.cancels) == (1, 0)


@every_vendor
def test_a_worker_that_dies_before_the_deferral_leaves_one_job(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life("success", lasts=300))
    task.execute()
    assert task.store.values[KEY]["job_id"] is not None
    task.retry()

    assert task.run() is not None
    assert (world.starts, world.cancels) == (1, 0)


@every_vendor
def test_a_retry_with_other_arguments_leaves_the_job_alone(
    scene: Set, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    world, task = scene(case, case.life())
    task.execute()
    task.retry()
    other = case.other_target(1)
    case.add_target(world.vendor, other, case.life("success"))
    task.make = case.sync(**{case.target_key: other})

    assert task.run() is not None
    assert (world.starts, world.cancels) == (2, 0)
    assert len(running(world)) == 1
    noun = task.operator.vendor.noun
    assert f"it runs on, and a new {noun} is started" in caplog.text


@every_vendor
def test_a_retry_after_a_failure_starts_anew(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life("error"), case.life("success"))
    with pytest.raises(JobFailed):
        task.run()

    task.retry()

    assert task.run() is not None
    assert world.starts == 2


@every_vendor
@pytest.mark.parametrize("end", ["success", "error"])
def test_a_task_cleared_after_the_end_starts_anew(
    scene: Set, case: Case, end: str
) -> None:
    world, task = scene(case, case.life(end), case.life("success"))
    if end == "success":
        task.run()
    else:
        with pytest.raises(JobFailed):
            task.run()

    task.clear()

    assert task.run() is not None
    assert (world.starts, world.cancels) == (2, 0)


# Jobs of others -----------------------------------------------------------------------


def _attached(world: VendorWorld, task: Task) -> Deferral:
    """Let the task wait for a job of somebody else."""
    world.add_foreign(world.case.life())
    deferral = deferred(task.execute())
    assert deferral.arguments["owned"] is False
    assert world.starts == 0
    return deferral


@every_vendor
def test_an_attached_job_outlives_a_kill(scene: Set, case: Case) -> None:
    world, task = scene(case, **case.attaches)
    trigger = task.trigger(_attached(world, task))
    world.states["sync", -1] = "failed"

    async def go() -> None:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(30)
        waiting.cancel()
        await asyncio.wait({waiting})
        await call_on_kill(trigger)
        await asyncio.sleep(120)

    asyncio.run(go())

    assert world.cancels == 0
    assert len(running(world)) == 1


@every_vendor
def test_an_attached_job_outlives_a_timeout(scene: Set, case: Case) -> None:
    world, task = scene(case, timeout=120, **case.attaches)

    with pytest.raises(JobTimedOut, match="left running"):
        task.go_on(_attached(world, task))

    assert world.cancels == 0
    assert len(running(world)) == 1


@every_vendor
def test_an_attached_job_outlives_a_clear(scene: Set, case: Case) -> None:
    world, task = scene(case, **case.attaches)
    _attached(world, task)
    task.clear()

    task.execute()

    assert world.cancels == 0
    assert len(running(world)) == 1


@every_vendor
def test_a_sensors_job_outlives_kill_and_timeout(
    scene: Set, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, task = scene(case)
    job = world.add_foreign(case.life())
    task.make = case.sensor(job, timeout=120)
    deferral = deferred(task.execute())
    trigger = task.trigger(deferral)
    world.states["sync", -1] = "failed"

    async def go() -> None:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(30)
        waiting.cancel()
        await asyncio.wait({waiting})
        await call_on_kill(trigger)
        await asyncio.sleep(120)

    asyncio.run(go())
    assert task.wait(deferral)["status"] == "timeout"

    assert world.cancels == 0
    assert len(running(world)) == 1


# Deadlines ----------------------------------------------------------------------------


@every_vendor
def test_execution_timeout_holds_while_the_task_is_deferred(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life(), execution_timeout=timedelta(seconds=100))
    task.started -= 10

    with pytest.raises(JobTimedOut, match="execution_timeout of the task passed"):
        task.run()

    assert running(world) == []
    assert world.cancels == 1
    assert 90 <= world.elapsed() < 120


@every_vendor
def test_a_start_that_cannot_be_made_until_the_deadline_fails(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, timeout=600)
    world.vendor.faults.add(Fault(kind="status", status=503, method="POST", times=None))

    with pytest.raises(VendorUnavailable):
        task.run()

    assert world.starts == 0
    assert world.elapsed() <= 600


every_mode = pytest.mark.parametrize(
    "mode",
    [
        pytest.param({"deferrable": False}, id="on the worker"),
        pytest.param({"deferrable": True}, id="deferred"),
        pytest.param({"deferrable": True, "start_in_trigger": True}, id="in trigger"),
    ],
)


@every_vendor
@every_mode
def test_a_start_with_a_short_timeout_is_tried_again_all_the_same(
    scene: Set, case: Case, mode: Mapping[str, bool]
) -> None:
    world, task = scene(case, timeout=60, **mode)
    world.vendor.faults.add(Fault(kind="status", status=503, lasts=15, times=None))

    task.run()

    assert world.starts == 1


@every_vendor
@every_mode
def test_an_attempt_is_not_over_long_before_its_timeout(
    scene: Set, case: Case, mode: Mapping[str, bool]
) -> None:
    """Else retries are used up within an outage of some seconds."""
    world, task = scene(case, timeout=25, **mode)
    path = f"*{case.start_path}"
    world.vendor.faults.add(
        Fault(kind="status", status=429, method="POST", path=path, times=None)
    )

    with pytest.raises((VendorUnavailable, JobTimedOut)):
        task.run()

    assert 12 <= world.elapsed() <= 26


@every_vendor
def test_a_start_that_must_wait_leaves_its_worker(scene: Set, case: Case) -> None:
    world, task = scene(case, case.life("success"))
    path = f"*{case.start_path}"
    world.vendor.faults.add(
        Fault(kind="status", status=429, retry_after=1800, method="POST", path=path)
    )

    deferral = deferred(task.execute())

    assert world.elapsed() < 30
    assert deferral.moment is not None
    assert deferral.moment - world.now() > 1700
    assert task.go_on(deferral) is not None
    assert world.starts == 1


# Connections --------------------------------------------------------------------------


@every_vendor
def test_credentials_rotated_while_it_waits_are_read_again(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life("success", lasts=300))
    deferral = deferred(task.execute())

    def rotate() -> None:
        world.vendor.configure(**case.new_secret)
        reconnect(world, password="new")
        case.expire_tokens(world.vendor)

    world.signals.append((world.elapsed() + 60.0, rotate))

    assert task.go_on(deferral) is not None
    assert world.starts == 1


@every_vendor
def test_a_connection_that_cannot_be_looked_up_for_minutes_is_waited_for(
    scene: Set, case: Case
) -> None:
    world, task = scene(case, case.life("success", lasts=600))
    deferral = deferred(task.execute())
    lost = world.connections.pop(conn_id(case))
    world.signals.append(
        (
            world.elapsed() + 240.0,
            lambda: world.connections.__setitem__(conn_id(case), lost),
        )
    )

    assert task.go_on(deferral) is not None
    assert (world.starts, world.cancels) == (1, 0)


@every_vendor
def test_wrong_credentials_fail_at_once_and_are_not_repeated(
    scene: Set, case: Case
) -> None:
    world, task = scene(case)
    reconnect(world, password="psst-psst")

    with pytest.raises(ConnectionUnusable) as caught:
        task.execute()

    assert conn_id(case) in str(caught.value)
    assert "Check the connection's " in str(caught.value)
    assert "psst" not in str(caught.value)
    assert world.elapsed() < 5


@every_vendor
def test_a_malformed_connection_names_the_field(scene: Set, case: Case) -> None:
    world, task = scene(case)
    reconnect(world, extra='["psst"]')

    with pytest.raises(ConnectionUnusable, match="extra is not a JSON object"):
        task.execute()

    assert world.requests == []


@every_vendor
def test_a_missing_connection_fails_at_once(scene: Set, case: Case) -> None:
    world, task = scene(case)
    del world.connections[conn_id(case)]

    with pytest.raises(Exception, match=conn_id(case)):
        task.execute()

    assert world.requests == []


# Trouble ------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("kind", ["reset", "hang", "html", "cut", "empty", "status"])
def test_an_hour_of_trouble_is_only_a_late_answer(
    scene: Set, case: Case, kind: Any
) -> None:
    world, task = scene(case, case.life("success", lasts=600))
    deferral = deferred(task.execute())
    world.vendor.faults.add(Fault(kind=kind, times=None, start_in=30, lasts=3600))

    assert task.go_on(deferral) is not None
    assert (world.starts, world.cancels) == (1, 0)
    assert 3600 < world.elapsed() < 3600 + 600


@every_vendor
def test_a_word_that_nobody_knows_counts_as_running(
    scene: Set, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, task = scene(case, case.life("success", lasts=120))
    deferral = deferred(task.execute())
    respond = world.vendor.respond
    seen: list[bool] = []

    def strange(asked: SimRequest) -> Any:
        reply = respond(asked)
        old, new = case.strange
        body = reply.body.replace(b": ", b":").replace(old, new)
        seen.append(new in body)
        return replace(reply, body=body)

    monkeypatch.setattr(world.vendor, "respond", strange)

    assert task.go_on(deferral) is not None
    assert (world.starts, world.cancels) == (1, 0)
    assert any(seen)


# No limit -------------------------------------------------------------------------------

MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": False},
    "deferrable": {},
    "start_in_trigger": {"start_in_trigger": True},
}


@every_vendor
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_limit_a_job_may_last_for_weeks(
    case: Case,
    mode: str,
    limit: float | None,
    scene: Set,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Gauges every ten seconds would be most of the work of these weeks.
    monkeypatch.setattr(reporter, "REPORT_EVERY", 3600.0)
    life = case.life("success", lasts=20 * 24 * 3600)
    world, task = scene(
        case, life, timeout=limit, **{case.interval_key: 3600.0, **MODES[mode]}
    )

    task.run()

    assert world.elapsed() > 20 * 24 * 3600
    assert (world.starts, world.cancels) == (1, 0)


@every_vendor
def test_without_a_limit_execution_timeout_still_ends_a_task(
    case: Case, scene: Set
) -> None:
    _, task = scene(
        case, case.life(), timeout=0, execution_timeout=timedelta(minutes=5)
    )

    with pytest.raises(JobTimedOut):
        task.run()


@every_vendor
@pytest.mark.parametrize("mode", MODES)
def test_an_interval_of_zero_polls_as_often_as_is_allowed(
    case: Case, mode: str, scene: Set
) -> None:
    world, task = scene(
        case, case.life("success"), **{case.interval_key: 0, **MODES[mode]}
    )

    task.run()

    assert len(world.requests) < 40
