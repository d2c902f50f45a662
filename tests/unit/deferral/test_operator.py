"""What must happen to the job and the task, situation by situation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from async_triggers.deferral import compat
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import (
    AirflowException,
    AirflowNotFoundException,
    AirflowSkipException,
)
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    EventUnusable,
    JobAlreadyRunning,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    VendorRefused,
    VendorUnavailable,
)
from async_triggers.deferral.kill import IDLE
from async_triggers.engine.errors import Unreachable
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import TARGET, Task, World, deferred, methods, sync

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest

DEFERRABLE = sync(deferrable=True)
EVERY_MODE = pytest.mark.parametrize("deferrable", [False, True])
FOREVER = "pending:1 running"


def lives(world: World, *lives: str) -> None:
    """Say how the next jobs go."""
    world.airbyte.add_connection(TARGET, lives=lives)


# How a job may end -----------------------------------------------------------------


@EVERY_MODE
def test_success_returns_the_job_id_and_tells_the_statistics(
    world: World, *, deferrable: bool
) -> None:
    task = Task(world, sync(deferrable=deferrable))

    assert task.run() == 1

    assert world.starts == 1
    assert world.cancels == 0
    assert task.xcoms["airbyte_job"] == {
        "job_id": "1",
        "status": "succeeded",
        "url": (
            "http://localhost:8000/workspaces/11111111-1111-4111-8111-111111111111"
            "/connections/connection-uuid-123/timeline?openLogs=true&jobId=1"
        ),
        "attached": False,
        "job_started_at": "2026-03-25T01:30Z",
        "connection_id": "connection-uuid-123",
        "job_type": "sync",
        "rows_synced": 1000,
        "bytes_synced": 1048576,
        "duration": "PT6S",
    }


def test_without_xcom_push_nothing_is_pushed(world: World) -> None:
    task = Task(world, sync(do_xcom_push=False))

    assert task.run() == 1
    assert "airbyte_job" not in task.xcoms


def test_resuming_asks_the_vendor_nothing(world: World) -> None:
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())
    event = task.wait(deferral)
    world.requests.clear()

    assert task.resume(deferral, event) == 1
    assert methods(world.requests) == []


def test_asset_outlets_tell_the_statistics(world: World) -> None:
    asset = Asset("synced")
    task = Task(world, sync(deferrable=True, outlets=[asset]))
    task.outlet_events = OutletEventAccessors()

    task.run()

    extra = task.outlet_events[asset].extra
    assert extra["job_id"] == "1"
    assert extra["rows_synced"] == 1000


@EVERY_MODE
def test_failure_names_the_job_its_address_and_where_the_reason_is(
    world: World, *, deferrable: bool
) -> None:
    lives(world, "running:3 failed")
    task = Task(world, sync(deferrable=deferrable))

    with pytest.raises(
        JobFailed, match=r"Job 1 failed \(.*\): .*no reason.*jobId=1"
    ) as caught:
        task.run()

    assert caught.value.job is not None
    assert caught.value.job.word == "failed"
    assert task.xcoms["airbyte_job"]["status"] == "failed"


@EVERY_MODE
def test_a_job_cancelled_at_the_vendor_fails_the_task(
    world: World, *, deferrable: bool
) -> None:
    lives(world, "running:3 cancelled")

    with pytest.raises(JobCancelled, match="was cancelled"):
        Task(world, sync(deferrable=deferrable)).run()


@EVERY_MODE
def test_between_two_attempts_of_airbyte_the_task_waits_on(
    world: World, *, deferrable: bool
) -> None:
    lives(world, "pending:1 running:20 incomplete:20 running:20 succeeded")

    assert Task(world, sync(deferrable=deferrable)).run() == 1


@EVERY_MODE
def test_a_word_nobody_knows_counts_as_running(
    world: World, *, deferrable: bool
) -> None:
    lives(world, "hibernating:30 succeeded")

    assert Task(world, sync(deferrable=deferrable)).run() == 1


@pytest.mark.parametrize(
    ("life", "error"), [("succeeded", None), ("failed", JobFailed)]
)
def test_a_job_that_is_over_already_needs_no_deferral(
    world: World, life: str, error: type[Exception] | None
) -> None:
    lives(world, life)
    task = Task(world, DEFERRABLE)

    if error is None:
        assert task.execute() == 1
    else:
        with pytest.raises(error):
            task.execute()


def test_asynchronous_hands_the_id_back_at_once(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, sync(asynchronous=True, deferrable=True))

    assert task.execute() == 1
    assert world.state_of(1) == "pending"


@pytest.mark.parametrize("job_type", ["sync", "reset", "clear"])
def test_the_kind_of_job_is_asked_for(world: World, job_type: str) -> None:
    Task(world, sync(job_type=job_type)).run()

    assert world.airbyte.record.started[0].details == {"jobType": job_type}


def test_the_link_leads_to_the_job(world: World) -> None:
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())
    assert task.operator.job_url.endswith("jobId=1")

    task.resume(deferral, task.wait(deferral))
    assert task.operator.job_url.endswith("jobId=1")


@pytest.mark.parametrize(("schedule", "count"), [("manual", 0), ("cron", 1)])
def test_a_schedule_of_airbytes_own_is_warned_about_once(
    world: World, caplog: pytest.LogCaptureFixture, schedule: Any, count: int
) -> None:
    world.airbyte.add_connection(TARGET, schedule_type=schedule)
    Task(world, DEFERRABLE).run()

    assert caplog.text.count("also syncs this connection on a schedule") == count


# Deadlines -------------------------------------------------------------------------


@EVERY_MODE
def test_the_timeout_cancels_the_job_and_confirms_it(
    world: World, *, deferrable: bool
) -> None:
    lives(world, FOREVER)
    task = Task(world, sync(deferrable=deferrable, timeout=60))

    with pytest.raises(
        JobTimedOut, match="timeout of the task passed; it was cancelled"
    ):
        task.run()

    assert world.state_of(1) == "cancelled"
    assert 60 <= world.elapsed() < 80


@EVERY_MODE
def test_a_timeout_may_leave_the_job_running(world: World, *, deferrable: bool) -> None:
    lives(world, FOREVER)
    make = sync(deferrable=deferrable, timeout=60, cancel_on_timeout=False)

    with pytest.raises(JobTimedOut, match="left running"):
        Task(world, make).run()

    assert world.state_of(1) == "running"


def test_execution_timeout_holds_while_the_task_is_deferred(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, sync(deferrable=True, execution_timeout=timedelta(seconds=40)))
    task.started -= 10

    with pytest.raises(JobTimedOut, match="execution_timeout of the task passed"):
        task.run()

    assert world.state_of(1) == "cancelled"
    assert 30 <= world.elapsed() < 45


def test_the_log_tells_at_deferral_when_the_job_will_be_cancelled(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    Task(world, sync(deferrable=True, timeout=60)).execute()

    assert (
        "if it has not ended by 2026-03-25T01:31:00+00:00 it is cancelled"
        in caplog.text
    )


def test_airflows_own_timeout_is_a_backstop_behind_ours(world: World) -> None:
    lives(world, FOREVER)
    deferral = deferred(Task(world, sync(deferrable=True, timeout=60)).execute())
    assert deferral.timeout is not None
    assert deferral.timeout.total_seconds() > 60 + 60

    without = deferred(Task(world, sync(deferrable=True, timeout=None)).execute())
    assert without.timeout is None


def test_when_the_backstop_comes_first_the_job_is_cancelled(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, DEFERRABLE)
    task.execute()

    task.expire()

    assert world.state_of(1) == "cancelled"


@pytest.mark.parametrize(
    "arguments", [{"cancel_on_timeout": False}, {"if_running": "attach"}]
)
def test_the_backstop_leaves_alone_what_is_not_to_be_cancelled(
    world: World, arguments: dict[str, Any]
) -> None:
    lives(world, FOREVER)
    if "if_running" in arguments:
        world.airbyte.add_job(TARGET)

    task = Task(world, sync(deferrable=True, **arguments))
    task.execute()
    task.expire()

    assert world.state_of(1) in {"pending", "running"}


def test_the_backstop_leaves_a_job_of_other_arguments_alone(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, DEFERRABLE)
    task.execute()
    task.retry()
    task.make = sync(deferrable=True, connection_id="other")
    world.airbyte.add_connection("other")
    world.airbyte.shed(1000)
    # The new start has to wait, so that what is known is still the earlier job.
    assert deferred(task.execute()).moment is not None

    world.pass_time(2000)
    task.expire()

    assert world.state_of(1) == "running"


def test_a_cancel_that_nobody_confirmed_is_made_good_on_the_worker(
    world: World,
) -> None:
    lives(world, FOREVER)
    task = Task(world, sync(deferrable=True, timeout=60))
    deferral = deferred(task.execute())
    world.airbyte.faults.add(
        Fault(kind="status", method="DELETE", times=None, lasts=400)
    )
    event = task.wait(deferral)
    assert event["cancel"] == "unconfirmed"
    world.pass_time(400)

    with pytest.raises(JobTimedOut, match="could not be confirmed"):
        task.resume(deferral, event)

    assert world.state_of(1) == "cancelled"


# Attempts after the first ----------------------------------------------------------


@EVERY_MODE
@pytest.mark.parametrize("running", [True, False])
def test_after_a_crash_the_retry_takes_the_job_over(
    world: World, *, deferrable: bool, running: bool
) -> None:
    lives(world, "pending:1 running:30 succeeded")
    task = Task(world, DEFERRABLE)
    task.execute()
    world.pass_time(5 if running else 60)
    task.retry()
    task.make = sync(deferrable=deferrable)

    assert task.run() == 1
    assert world.starts == 1
    assert world.cancels == 0


def test_a_retry_takes_an_attached_job_over_as_attached(world: World) -> None:
    lives(world, FOREVER)
    world.airbyte.add_job(TARGET)
    task = Task(world, sync(deferrable=True, if_running="attach"))
    task.execute()
    task.retry()

    deferral = deferred(task.execute())

    assert deferral.arguments["job_id"] == 1
    assert deferral.arguments["owned"] is False
    assert world.starts == 0


def test_a_retry_after_a_failure_starts_anew(world: World) -> None:
    lives(world, "running:3 failed", "running:3 succeeded")
    task = Task(world, DEFERRABLE)
    with pytest.raises(JobFailed):
        task.run()

    task.retry()

    assert task.run() == 2
    assert world.starts == 2


def test_a_retry_with_other_arguments_leaves_the_job_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    lives(world, FOREVER)
    world.airbyte.add_connection("other")
    task = Task(world, DEFERRABLE)
    task.execute()
    task.retry()
    task.make = sync(deferrable=True, connection_id="other")

    assert task.run() == 2
    assert world.state_of(1) == "running"
    assert "it runs on, and a new job is started" in caplog.text


@EVERY_MODE
def test_a_cleared_task_cancels_its_old_job_before_it_starts_anew(
    world: World, *, deferrable: bool
) -> None:
    lives(world, FOREVER, "running:3 succeeded")
    task = Task(world, DEFERRABLE)
    task.execute()
    task.clear()
    task.make = sync(deferrable=deferrable)

    assert task.run() == 2
    assert world.state_of(1) == "cancelled"
    assert world.starts == 2
    # A job that was still running would have refused the second start.
    assert not world.airbyte.record.refused_starts


def test_a_job_that_is_slow_to_stop_is_waited_for_off_the_worker(
    world: World,
) -> None:
    lives(world, "queued:3600 running", "running:3 succeeded")
    world.airbyte.configure(queued_cancel_after=120.0)
    task = Task(world, DEFERRABLE)
    task.execute()
    task.clear()

    behind = deferred(task.execute())

    assert behind.arguments["job_id"] == 1
    assert behind.arguments["owned"] is False
    assert world.starts == 1
    assert task.go_on(behind) == 2
    assert world.starts == 2


def test_without_cancel_on_kill_a_cleared_task_waits_for_its_old_job(
    world: World,
) -> None:
    lives(world, "running:100 succeeded", "running:3 succeeded")
    task = Task(world, sync(deferrable=True, cancel_on_kill=False))
    task.execute()
    task.clear()

    assert task.run() == 2
    assert world.cancels == 0
    assert world.state_of(1) == "succeeded"


def test_a_cleared_task_does_not_cancel_a_job_it_had_attached_to(world: World) -> None:
    lives(world, FOREVER)
    world.airbyte.add_job(TARGET)
    task = Task(world, sync(deferrable=True, if_running="attach"))
    task.execute()
    task.clear()

    deferral = deferred(task.execute())

    assert deferral.arguments["owned"] is False
    assert world.cancels == 0


def test_a_sibling_cleared_and_then_a_retry_make_one_start(world: World) -> None:
    # A sibling's clear changes the run, not this task's max_tries.
    lives(world, "running:60 succeeded")
    task = Task(world, DEFERRABLE)
    task.execute()
    task.retry()

    assert task.run() == 1
    assert world.starts == 1


@pytest.mark.parametrize("life", ["succeeded", "failed"])
def test_a_task_cleared_after_the_end_starts_anew(world: World, life: str) -> None:
    lives(world, f"running:3 {life}", "running:3 succeeded")
    task = Task(world, DEFERRABLE)
    if life == "succeeded":
        task.run()
    else:
        with pytest.raises(JobFailed):
            task.run()

    task.clear()

    assert task.run() == 2


def test_a_job_that_the_vendor_forgot_is_started_anew(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, DEFERRABLE)
    task.execute()
    lives(world, "running:3 succeeded")
    world.airbyte.all_jobs.clear()
    task.retry()

    assert task.run() == 2


def test_a_record_that_cannot_be_read_is_none(world: World) -> None:
    task = Task(world, DEFERRABLE)
    task.store.values["async_triggers"] = {"v": 99}

    assert task.run() == 1


def test_without_a_state_store_the_task_works_all_the_same(world: World) -> None:
    task = Task(world, DEFERRABLE, has_store=False)

    assert task.run() == 1


@EVERY_MODE
def test_trouble_when_an_earlier_job_is_looked_at_makes_no_second_one(
    world: World, *, deferrable: bool
) -> None:
    lives(world, "running:30 succeeded")
    task = Task(world, DEFERRABLE)
    task.execute()
    task.retry()
    task.make = sync(deferrable=deferrable)
    world.airbyte.faults.add(Fault(kind="status", times=None, lasts=600))

    assert task.run() == 1
    assert world.starts == 1


# The start -------------------------------------------------------------------------


def a_lost_start(kind: Any, **fields: Any) -> Fault:
    """Return a fault that hits the next start."""
    return Fault(kind=kind, method="POST", path="*/jobs", **fields)


LOST = [
    pytest.param(a_lost_start("reset", takes_effect=True), id="reset"),
    pytest.param(a_lost_start("hang", takes_effect=True), id="hang"),
    pytest.param(a_lost_start("status", status=504, takes_effect=True), id="504"),
    pytest.param(a_lost_start("cut"), id="cut"),
    pytest.param(a_lost_start("html", takes_effect=True), id="html"),
]


@EVERY_MODE
@pytest.mark.parametrize("fault", LOST)
def test_a_start_whose_answer_is_lost_makes_one_job(
    world: World, fault: Fault, *, deferrable: bool
) -> None:
    world.airbyte.faults.add(fault)

    assert Task(world, sync(deferrable=deferrable)).run() == 1
    assert world.starts == 1


@EVERY_MODE
@pytest.mark.parametrize(
    "fault",
    [
        a_lost_start("reset"),
        a_lost_start("status", status=504),
    ],
    ids=["reset", "504"],
)
def test_a_start_that_did_not_take_effect_is_made_once_more(
    world: World, fault: Fault, *, deferrable: bool
) -> None:
    world.airbyte.faults.add(fault)

    assert Task(world, sync(deferrable=deferrable)).run() == 1
    assert world.starts == 1
    # Not before it could no longer show up.
    assert world.elapsed() >= 75


def test_a_start_that_blocks_for_a_minute_and_conflicts_makes_one_job(
    world: World,
) -> None:
    lives(world, "pending:1 running:100 succeeded")
    world.airbyte.configure(start_blocks=60.0, job_appears_after=62.0)

    assert Task(world, DEFERRABLE).run() == 1
    assert world.starts == 1


@pytest.mark.parametrize("fault", LOST)
def test_a_worker_that_dies_with_the_answer_leaves_one_job(
    world: World, fault: Fault
) -> None:
    lives(world, "running:30 succeeded")
    task = Task(world, DEFERRABLE)
    world.airbyte.faults.add(fault)

    def die(request: SimRequest) -> None:
        if request.method == "GET" and request.path.endswith("/jobs"):
            raise SystemExit

    world.on_request.append(die)
    with pytest.raises(SystemExit):
        task.execute()

    world.on_request.clear()
    task.retry()

    assert task.run() == 1
    assert world.starts == 1


def lose_a_start(world: World, *, hides: float) -> None:
    """Lose the answer of a start, and then let the list of jobs fail for some seconds."""
    world.airbyte.faults.add(a_lost_start("reset", takes_effect=True))

    def hide(asked: SimRequest) -> None:
        if asked.method == "POST" and asked.path.endswith("/jobs"):
            world.on_request.remove(hide)
            world.airbyte.faults.add(
                Fault(
                    kind="status", method="GET", path="*/jobs", times=None, lasts=hides
                )
            )

    world.on_request.append(hide)


def test_a_lost_start_is_the_first_job_since_not_the_newest(world: World) -> None:
    lives(world, "running:3 succeeded")
    task = Task(world, DEFERRABLE)
    lose_a_start(world, hides=90)
    deferral = deferred(task.execute())
    world.pass_time(100)
    foreign = world.airbyte.add_job(TARGET, "running")

    assert task.resume(deferral, task.wait(deferral)) == 1
    assert world.state_of(foreign) == "running"


def test_a_task_cleared_after_its_start_was_lost_starts_anew(world: World) -> None:
    lives(world, FOREVER, "running:3 succeeded")
    task = Task(world, DEFERRABLE)
    lose_a_start(world, hides=90)
    assert deferred(task.execute()).moment is not None
    world.pass_time(100)
    task.clear()

    assert task.run() == 2
    assert world.state_of(1) == "cancelled"


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_start_without_the_servers_time_is_found_by_what_was_there_before(
    world: World, monkeypatch: pytest.MonkeyPatch, *, takes_effect: bool
) -> None:
    old = world.airbyte.add_job(TARGET, "succeeded", age=3600)
    respond = world.airbyte.respond

    def undated(request: SimRequest) -> Any:
        reply = respond(request)
        reply.headers.pop("Date", None)
        return reply

    monkeypatch.setattr(world.airbyte, "respond", undated)
    world.airbyte.faults.add(a_lost_start("reset", takes_effect=takes_effect))

    assert Task(world, DEFERRABLE).run() == old + 1
    assert world.starts == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_429_on_the_start_is_waited_out(world: World, *, deferrable: bool) -> None:
    world.airbyte.faults.add(
        Fault(kind="status", method="POST", path="*/jobs", status=429)
    )
    task = Task(world, sync(deferrable=deferrable))
    outcome = task.execute()

    if deferrable:
        moment = deferred(outcome).moment
        assert moment is not None
        # Airbyte names no time, and wants to be left alone for minutes.
        assert moment >= world.now() + 100

    assert task.go_on(outcome) == 1
    assert world.starts == 1


def test_a_long_retry_after_never_sleeps_in_a_worker_slot(world: World) -> None:
    fault = Fault(
        kind="status", method="POST", path="*/jobs", status=429, retry_after=1800
    )
    world.airbyte.faults.add(fault)
    task = Task(world, DEFERRABLE)

    moment = deferred(task.execute()).moment

    assert moment is not None
    assert moment >= world.now() + 1799
    assert world.elapsed() < 60


@EVERY_MODE
def test_a_start_that_cannot_be_made_until_the_timeout_fails(
    world: World, *, deferrable: bool
) -> None:
    world.airbyte.shed(10_000)

    with pytest.raises(VendorUnavailable, match=r"before the timeout: .*too many"):
        Task(world, sync(deferrable=deferrable, timeout=300)).run()

    assert world.elapsed() < 400


@EVERY_MODE
def test_an_outage_before_the_start_is_waited_out(
    world: World, *, deferrable: bool
) -> None:
    world.airbyte.faults.add(Fault(kind="status", times=None, lasts=300))

    assert Task(world, sync(deferrable=deferrable)).run() == 1
    assert world.starts == 1


def test_a_vendor_that_cannot_be_reached_has_started_nothing(world: World) -> None:
    def refuse(request: SimRequest) -> None:
        if world.elapsed() < 100:
            raise Unreachable("no route to host")

    world.on_request.append(refuse)
    task = Task(world, DEFERRABLE)

    assert task.run() == 1
    assert world.starts == 1


# Somebody else's job ---------------------------------------------------------------


@EVERY_MODE
def test_by_default_a_foreign_job_is_waited_for_and_then_our_own_started(
    world: World, *, deferrable: bool
) -> None:
    foreign = world.airbyte.add_job(TARGET, "running:60 succeeded")
    task = Task(world, sync(deferrable=deferrable))

    assert task.run() == foreign + 1
    assert world.starts == 1
    assert world.cancels == 0
    assert task.xcoms["airbyte_job"]["attached"] is False


def test_the_wait_for_a_foreign_job_is_a_deferral_that_never_cancels(
    world: World,
) -> None:
    foreign = world.airbyte.add_job(TARGET, "running")
    task = Task(world, sync(deferrable=True, timeout=60))
    deferral = deferred(task.execute())

    assert deferral.method == "execute_start"
    assert deferral.arguments["owned"] is False
    with pytest.raises(JobTimedOut, match="left running"):
        task.go_on(deferral)

    assert world.state_of(foreign) == "running"
    assert world.starts == 0


def test_who_waits_for_a_foreign_job_says_so_to_a_kill_of_the_attempt_before(
    world: World,
) -> None:
    # Where nothing is remembered, a clear finds the job of the attempt before like this,
    # and that one's trigger must see that nobody waits for its job to go on.
    foreign = world.airbyte.add_job(TARGET, "running")
    task = Task(world, sync(deferrable=True), try_number=2)

    deferred(task.execute())

    token = asyncio.run(compat.owner_token(task.instance))
    assert token == (2, IDLE)
    assert token[1] != str(foreign)


def test_one_after_the_other_foreign_jobs_share_one_deadline(world: World) -> None:
    world.airbyte.add_job(TARGET, "running:40 succeeded")
    task = Task(world, sync(deferrable=True, timeout=100))
    deferral = deferred(task.execute())
    event = task.wait(deferral)
    world.airbyte.add_job(TARGET, "running:100 succeeded")

    with pytest.raises(JobTimedOut):
        task.go_on(task.resume(deferral, event))

    assert world.elapsed() < 130


@EVERY_MODE
def test_attach_waits_for_the_foreign_job_as_if_it_were_ours(
    world: World, *, deferrable: bool
) -> None:
    foreign = world.airbyte.add_job(TARGET, "running:60 succeeded")
    task = Task(world, sync(deferrable=deferrable, if_running="attach"))

    assert task.run() == foreign
    assert world.starts == 0
    assert task.xcoms["airbyte_job"]["attached"] is True
    assert task.xcoms["airbyte_job"]["job_started_at"] == "2026-03-25T01:30Z"


@EVERY_MODE
def test_an_attached_job_outlives_the_timeout(
    world: World, *, deferrable: bool
) -> None:
    foreign = world.airbyte.add_job(TARGET, "running")
    make = sync(deferrable=deferrable, if_running="attach", timeout=60)

    with pytest.raises(JobTimedOut, match="left running"):
        Task(world, make).run()

    assert world.state_of(foreign) == "running"


def test_a_reset_is_never_attached_to(world: World) -> None:
    reset = world.airbyte.add_job(TARGET, "running:60 succeeded", job_type="reset")

    assert Task(world, sync(deferrable=True, if_running="attach")).run() == reset + 1


@EVERY_MODE
@pytest.mark.parametrize(
    ("if_running", "error"),
    [("fail", JobAlreadyRunning), ("skip", AirflowSkipException)],
)
def test_a_foreign_job_may_fail_or_skip_the_task(
    world: World, if_running: str, error: type[Exception], *, deferrable: bool
) -> None:
    foreign = world.airbyte.add_job(TARGET, "running")
    task = Task(world, sync(deferrable=deferrable, if_running=if_running))

    with pytest.raises(error, match=rf"Job {foreign} has been running since 2026"):
        task.execute()

    assert task.store.values == {}


def test_a_queued_foreign_job_that_answers_the_start_is_no_job_of_ours(
    world: World,
) -> None:
    foreign = world.airbyte.add_job(TARGET, "queued:30 running:30 succeeded", age=10)
    task = Task(world, DEFERRABLE)

    behind = deferred(task.execute())

    assert behind.arguments["job_id"] == foreign
    assert behind.arguments["owned"] is False
    assert task.go_on(behind) == foreign + 1


def test_a_queued_foreign_job_that_has_just_ended_is_no_job_of_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the answer to the start, and was cancelled before it was given."""
    foreign = world.airbyte.add_job(TARGET, "queued:30 running:30 succeeded", age=10)
    respond = world.airbyte.respond

    def end(asked: SimRequest) -> Any:
        reply = respond(asked)
        if asked.method != "POST" or b'"queued"' not in reply.body:
            return reply

        world.airbyte.finish(str(foreign), "cancelled")
        return replace(reply, body=reply.body.replace(b'"queued"', b'"cancelled"'))

    monkeypatch.setattr(world.airbyte, "respond", end)
    task = Task(world, DEFERRABLE)

    assert task.run() == foreign + 1
    assert task.xcoms["airbyte_job"]["attached"] is False
    assert world.cancels == 0


def test_a_queued_job_of_our_own_is_ours(world: World) -> None:
    lives(world, "queued:30 running:30 succeeded")

    assert Task(world, DEFERRABLE).run() == 1
    assert world.starts == 1


def test_a_conflict_whose_job_has_gone_is_tried_again(world: World) -> None:
    foreign = world.airbyte.add_job(TARGET, "running")

    def end(request: SimRequest) -> None:
        if request.method == "GET" and request.path.endswith("/jobs"):
            world.airbyte.finish(str(foreign), "succeeded")

    world.on_request.append(end)

    assert Task(world, DEFERRABLE).run() == foreign + 1


@pytest.mark.parametrize("status", ["inactive", "deprecated", "locked"])
def test_a_connection_that_is_not_active_fails_and_says_so(
    world: World, status: Any
) -> None:
    world.airbyte.add_connection(TARGET, status=status)
    task = Task(world, DEFERRABLE)

    with pytest.raises(VendorRefused, match=rf"is {status}: enable it in Airbyte"):
        task.execute()

    assert world.starts == 0
    assert task.store.values == {}


def test_a_connection_that_becomes_inactive_at_the_start_is_noticed(
    world: World,
) -> None:
    def switch_off(request: SimRequest) -> None:
        if request.method == "POST" and request.path.endswith("/jobs"):
            world.airbyte.set_connection_status(TARGET, "inactive")

    world.on_request.append(switch_off)

    with pytest.raises(VendorRefused, match="inactive"):
        Task(world, DEFERRABLE).run()


# Connections, credentials, ids -----------------------------------------------------


@EVERY_MODE
def test_tokens_that_expire_are_renewed_and_nobody_notices(
    world: World, *, deferrable: bool
) -> None:
    lives(world, "running:200 succeeded")
    world.airbyte.configure(token_lifetime=20.0, reported_lifetime=900.0)

    assert Task(world, sync(deferrable=deferrable)).run() == 1
    assert world.airbyte.record.tokens_issued > 5
    # One refusal for each token that expired, none for two in a row.
    assert world.airbyte.record.unauthorized <= world.airbyte.record.tokens_issued


def test_credentials_rotated_in_the_connection_are_read_again(world: World) -> None:
    lives(world, "running:100 succeeded")
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())

    def rotate(request: SimRequest) -> None:
        world.on_request.clear()
        world.airbyte.configure(client_secret="new")
        world.airbyte.expire_tokens()
        world.connect("airbyte_default", host="http://localhost:8000", password="new")

    async def wait() -> Any:
        asyncio.get_running_loop().call_later(20, world.on_request.append, rotate)
        return [event.payload async for event in task.trigger(deferral).run()]

    (payload,) = asyncio.run(wait())

    assert task.resume(deferral, payload) == 1


def test_credentials_rotated_while_a_worker_waits_are_read_again(world: World) -> None:
    lives(world, "running:100 succeeded")

    def rotate() -> None:
        world.airbyte.configure(client_secret="new")
        world.airbyte.expire_tokens()
        world.connect("airbyte_default", host="http://localhost:8000", password="new")

    world.signals.append((20.0, rotate))

    assert Task(world, sync()).run() == 1
    assert world.connection_reads == 2


@EVERY_MODE
def test_wrong_credentials_fail_at_once_and_name_the_next_step(
    world: World, *, deferrable: bool
) -> None:
    world.connect("airbyte_default", host="http://localhost:8000", password="psst")

    with pytest.raises(ConnectionUnusable) as caught:
        Task(world, sync(deferrable=deferrable)).execute()

    assert "airbyte_default" in str(caught.value)
    assert "Check the connection's Client ID (login) and Client Secret" in str(
        caught.value
    )
    assert "psst" not in str(caught.value)
    assert world.elapsed() < 5


def test_credentials_rejected_while_deferred_fail_the_same_way(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())
    world.airbyte.configure(client_secret="another")
    world.airbyte.expire_tokens()

    with pytest.raises(ConnectionUnusable) as caught:
        task.go_on(deferral)

    assert "airbyte_default" in str(caught.value)
    assert "Check the connection's Client ID (login) and Client Secret" in str(
        caught.value
    )


def test_a_missing_connection_fails_at_once(world: World) -> None:
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        Task(world, sync(airbyte_conn_id="nowhere")).execute()


def test_a_malformed_connection_fails_at_once(world: World) -> None:
    world.connect("airbyte_default", host="")

    with pytest.raises(ConnectionUnusable, match=r"\(host\) is empty.*airbyte_default"):
        Task(world, DEFERRABLE).execute()


def test_an_unknown_airbyte_connection_fails_at_once(world: World) -> None:
    with pytest.raises(VendorRefused, match=r"nobody.*Check connection_id"):
        Task(world, sync(connection_id="nobody")).execute()

    assert world.starts == 0


def test_a_job_that_vanishes_while_deferred_fails_the_task(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())
    world.airbyte.all_jobs.clear()

    with pytest.raises(VendorRefused, match="does not know job 1"):
        task.go_on(deferral)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"connection_id": ""}, "connection_id"),
        ({"connection_id": "a/b"}, "connection_id"),
        ({"connection_id": ".."}, "connection_id"),
        ({"connection_id": None}, "connection_id"),
        ({"airbyte_conn_id": " "}, "airbyte_conn_id"),
    ],
)
def test_rendered_arguments_are_checked(
    world: World, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(AirflowException, match=field):
        Task(world, sync(**arguments)).execute()

    assert world.requests == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"wait_seconds": -1}, "wait_seconds"),
        ({"timeout": -1}, "timeout"),
        ({"job_type": "refresh"}, "job_type"),
        ({"if_running": "hope"}, "if_running"),
    ],
)
def test_arguments_are_checked_when_the_dag_is_parsed(
    arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(ArgumentUnusable, match=field):
        sync(**arguments)()


# Events ----------------------------------------------------------------------------


def test_an_event_of_another_job_defers_again(world: World) -> None:
    lives(world, "running:30 succeeded")
    task = Task(world, sync(deferrable=True, timeout=100))
    deferral = deferred(task.execute())
    event = {**task.wait(deferral), "job_id": 77}

    again = deferred(task.resume(deferral, event))

    assert again.arguments["job_id"] == 1
    assert again.arguments["owned"] is True
    assert again.arguments["end_time"] == deferral.arguments["end_time"]
    assert task.go_on(again) == 1
    assert world.starts == 1


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"status": "splendid"},
        {"job": "1"},
        {"job": None},
        {"kind": None},
    ],
)
def test_an_event_that_cannot_be_trusted_fails_the_task(
    world: World, change: dict[str, Any]
) -> None:
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())
    event = {**task.wait(deferral), **change}

    with pytest.raises(EventUnusable):
        task.resume(deferral, event)


@pytest.mark.parametrize("event", [None, "success", 7, {}])
def test_what_is_no_event_fails_the_task(world: World, event: object) -> None:
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())

    with pytest.raises(EventUnusable):
        task.resume(deferral, event)


def test_the_owner_token_is_pushed_before_the_deferral(world: World) -> None:
    lives(world, FOREVER)
    task = Task(world, DEFERRABLE)
    task.execute()

    token = dict(task.xcoms["async_triggers_owner"])
    assert len(token.pop("address")) == 16
    assert token == {"try": 1, "job_id": "1"}


def test_a_token_that_cannot_be_pushed_is_warned_about(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no database")

    monkeypatch.setattr("async_triggers.deferral.compat.talk.BaseXCom.set", fail)

    assert Task(world, DEFERRABLE).run() == 1
    assert "owner token could not be pushed" in caplog.text


# Trouble while waiting --------------------------------------------------------------


TROUBLE = {
    "500": Fault(kind="status", status=500, times=None, lasts=600),
    "503": Fault(kind="status", status=503, times=None, lasts=600),
    "429": Fault(kind="status", status=429, times=None, lasts=600),
    "429 with a time": Fault(
        kind="status", status=429, retry_after=30, times=None, lasts=600
    ),
    "reset": Fault(kind="reset", times=None, lasts=600),
    "hang": Fault(kind="hang", times=None, lasts=600),
    "html": Fault(kind="html", times=None, lasts=600),
    "cut": Fault(kind="cut", times=None, lasts=600),
    "empty": Fault(kind="empty", times=None, lasts=600),
    "truncate": Fault(kind="truncate", times=None, lasts=600),
    "half of all": Fault(kind="status", status=502, rate=0.5, times=None, lasts=600),
}


@EVERY_MODE
@pytest.mark.parametrize("name", TROUBLE)
def test_ten_minutes_of_trouble_are_only_a_late_answer(
    world: World, name: str, *, deferrable: bool
) -> None:
    lives(world, "running:300 succeeded")
    task = Task(world, sync(deferrable=deferrable))
    fault = TROUBLE[name]

    def begin(request: SimRequest) -> None:
        if world.starts:
            world.on_request.clear()
            world.airbyte.faults.add(fault)

    world.on_request.append(begin)

    assert task.run() == 1
    assert world.starts == 1
    assert world.cancels == 0
    if name != "half of all":
        assert 600 <= world.elapsed() < 800


def test_trouble_is_told_once_and_so_is_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    lives(world, "running:700 succeeded")
    task = Task(world, DEFERRABLE)
    deferral = deferred(task.execute())
    world.airbyte.faults.add(Fault(kind="status", status=503, times=None, lasts=600))
    task.wait(deferral)

    assert caplog.text.count("polling failed (1 task still waiting, retrying)") == 1
    assert caplog.text.count("polling works again") == 1
    # In the task's own log as well.
    assert caplog.text.count("Job 1: Polling failed (still waiting, retrying)") == 1
    assert caplog.text.count("Job 1: Polling works again") == 1
