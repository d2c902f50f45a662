"""What must happen to the sync and the task, situation by situation."""

from __future__ import annotations

import asyncio
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from async_triggers.deferral.compat import AirflowException, AirflowSkipException
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    JobAlreadyRunning,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    VendorRefused,
)
from async_triggers.engine.times import parse_time
from async_triggers.fivetran.api.models import dashboard_url
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.remote_job import OLD_SCHEDULE_KEY
from async_triggers.simulator import ListQuirks, SimRequest
from async_triggers.simulator.faults import Fault
from tests.airflow_versions import call_on_kill
from tests.unit.deferral.stage import Deferral, Task, deferred, the_event
from tests.unit.fivetran.stage import (
    HOUR,
    LIFE,
    C,
    FivetranWorld,
    lines,
    paths,
    resync,
    sensor,
    sent,
    sync,
)

EVERY_MODE = pytest.mark.parametrize("deferrable", [False, True])


# How a sync ends ----------------------------------------------------------------------


@EVERY_MODE
def test_success_returns_its_time_and_tells_the_statistics(
    world: FivetranWorld, *, deferrable: bool
) -> None:
    task = Task(world, sync(deferrable=deferrable))

    done = task.run()

    assert done == world.shown()["succeeded_at"]
    assert world.starts == 1
    told = task.xcoms["fivetran_sync"]
    assert told["sync_id"] == "sync-000001"
    assert told["status"] == "succeeded"
    assert told["connection_id"] == C
    assert told["connection_name"] == "sheets.orders"
    assert told["extract_volume_mb"] == 1.5
    assert told["job_started_at"] == told["sync_start"]
    assert told["attached"] is False
    assert told["url"].endswith(f"/dashboard/connections/{C}/status")


def test_three_requests_besides_polling_are_enough(world: FivetranWorld) -> None:
    task = Task(world, sync())
    deferral = deferred(task.execute())
    assert paths(world) == [f"GET /connections/{C}", f"POST /connections/{C}/sync"]
    assert sent(world.requests[1]) == {"force": False}
    world.requests.clear()

    event = task.wait(deferral)
    *polls, last = paths(world)
    assert set(polls) == {f"GET /connections/{C}"}
    assert last == f"GET /connections/{C}/sync-history"
    world.requests.clear()

    task.resume(deferral, event)
    assert paths(world) == []


@EVERY_MODE
def test_the_first_sync_of_a_connection_is_a_sync_like_any_other(
    world: FivetranWorld, *, deferrable: bool
) -> None:
    world.add(succeeded_ago=None, lives=["syncing:100 succeeded"])

    done = Task(world, sync(deferrable=deferrable)).run()

    assert done == world.shown()["succeeded_at"]


def test_the_first_sync_may_fail(world: FivetranWorld) -> None:
    world.add(succeeded_ago=None, lives=["syncing:100 failed"])

    with pytest.raises(JobFailed):
        Task(world, sync()).run()


def test_a_quick_sync_ends_between_two_looks(world: FivetranWorld) -> None:
    world.add(lives=["syncing:0.5 succeeded"])

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
@pytest.mark.parametrize("life", ["syncing:90 succeeded", "syncing:90 failed"])
def test_the_server_may_have_another_time(
    world: FivetranWorld, skew: float, life: str
) -> None:
    world.fivetran.configure(skew=skew)
    world.add(lives=[life])
    task = Task(world, sync())

    if "failed" in life:
        with pytest.raises(JobFailed):
            task.run()
    else:
        task.run()

    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000001"
    assert world.elapsed() < 150


@EVERY_MODE
def test_a_failure_tells_the_reason(world: FivetranWorld, *, deferrable: bool) -> None:
    world.add(lives=["syncing:60 failed"])
    task = Task(world, sync(deferrable=deferrable))

    with pytest.raises(JobFailed, match=r"connection_id failed \(.*\): The simulated"):
        task.run()

    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000001"


def test_without_a_history_the_connection_s_tasks_are_the_reason(
    world: FivetranWorld,
) -> None:
    world.fivetran.configure(sync_history=False)
    world.add(lives=["syncing:60 failed"], tasks=[("x", "Allow our address")])
    task = Task(world, sync())

    with pytest.raises(JobFailed, match="Allow our address"):
        task.run()

    assert "sync_id" not in task.xcoms["fivetran_sync"]


def test_without_a_history_a_success_is_one(world: FivetranWorld) -> None:
    world.fivetran.configure(sync_history=False)

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]


def test_the_history_of_an_old_connection_is_asked_for_a_week_at_most(
    world: FivetranWorld,
) -> None:
    world.add(succeeded_ago=90 * 24 * HOUR, lives=["syncing:60 succeeded"])
    task = Task(world, sync())

    task.run()

    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000001"


def test_the_history_is_asked_for_when_the_end_is_an_old_one(
    world: FivetranWorld,
) -> None:
    """The triggerer was down for long: the record is still within the week."""
    world.add(succeeded_ago=6.5 * 24 * HOUR, lives=["syncing:60 succeeded"])
    task = Task(world, sync())
    deferral = deferred(task.execute())
    world.pass_time(5 * 24 * HOUR)

    task.resume(deferral, task.wait(deferral))

    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000001"


def test_a_history_that_hangs_keeps_nobody_waiting(world: FivetranWorld) -> None:
    world.fivetran.faults.add(Fault(kind="hang", path="*/sync-history", times=None))

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]
    assert world.elapsed() < 180


@pytest.mark.parametrize("has_history", [True, False])
def test_of_two_syncs_between_two_looks_the_first_is_ours(
    world: FivetranWorld, *, has_history: bool
) -> None:
    world.fivetran.configure(sync_history=has_history)
    world.add(lives=["syncing:10 succeeded"])
    task = Task(world, sync())
    deferral = deferred(task.execute())
    world.pass_time(20)
    world.fivetran.start_sync(C, "syncing:10 failed")
    world.pass_time(30)

    event = task.wait(deferral)

    if has_history:
        assert task.resume(deferral, event) == world.shown()["succeeded_at"]
        assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000001"
    else:
        with pytest.raises(JobFailed):
            task.resume(deferral, event)


@EVERY_MODE
def test_a_sync_cancelled_at_the_vendor_leaves_no_time_and_is_noticed(
    world: FivetranWorld, *, deferrable: bool
) -> None:
    world.add(lives=["syncing:60 canceled"])
    task = Task(world, sync(deferrable=deferrable))

    with pytest.raises(JobCancelled, match="The simulated sync has canceled"):
        task.run()

    assert world.starts == 1
    assert world.elapsed() < 600
    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000001"


@EVERY_MODE
@pytest.mark.parametrize("again", ["retry", "clear"])
def test_after_a_sync_cancelled_at_the_vendor_a_new_one_is_started(
    world: FivetranWorld, again: str, *, deferrable: bool
) -> None:
    world.add(lives=["syncing:60 canceled", "syncing:30 succeeded"])
    task = Task(world, sync(deferrable=deferrable))
    with pytest.raises(JobCancelled):
        task.run()

    getattr(task, again)()

    assert task.run() == world.shown()["succeeded_at"]
    assert world.starts == 2


def test_without_a_history_a_retry_attaches_to_what_may_yet_come(
    world: FivetranWorld,
) -> None:
    world.fivetran.configure(sync_history=False)
    world.add(lives=["syncing:60 canceled"])
    task = Task(world, sync(timeout=HOUR))
    with pytest.raises(JobTimedOut):
        task.run()

    task.retry()

    with pytest.raises(JobTimedOut):
        task.run()
    assert world.starts == 1


@pytest.mark.parametrize(
    ("schedule", "ends"), [("manual", True), ("auto", False)], ids=["manual", "auto"]
)
def test_an_incomplete_sync_ends_where_nothing_would_go_on(
    world: FivetranWorld, schedule: str, *, ends: bool
) -> None:
    world.add(lives=["syncing:60 incomplete"], schedule_type=schedule)
    task = Task(world, sync(schedule_type=None, timeout=HOUR))

    with pytest.raises(JobFailed if ends else JobTimedOut):
        task.run()


def test_without_a_history_only_the_deadline_ends_a_cancelled_sync(
    world: FivetranWorld,
) -> None:
    world.fivetran.configure(sync_history=False)
    world.add(lives=["syncing:60 canceled"])

    with pytest.raises(JobTimedOut):
        Task(world, sync(timeout=HOUR)).run()

    assert world.times_asked("GET", "/sync-history") == 1


def test_a_sync_cancelled_before_ours_is_not_taken_for_ours(
    world: FivetranWorld,
) -> None:
    world.add(
        succeeded_ago=None,
        lives=["syncing:10 canceled", "scheduled:900 syncing:60 succeeded"],
    )
    world.fivetran.start_sync(C)
    world.pass_time(HOUR)

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]


# What only looks like an answer -------------------------------------------------------


@EVERY_MODE
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("html", id="a web page in place of the start"),
        pytest.param("cut", id="half the answer of a start that was made"),
        pytest.param("empty", id="none of it"),
    ],
)
def test_a_start_is_believed_only_when_fivetran_itself_says_so(
    world: FivetranWorld, kind: Any, *, deferrable: bool
) -> None:
    world.fivetran.faults.add(Fault(kind=kind, method="POST", path="*/sync"))
    world.add(lives=["syncing:60 succeeded"])

    done = Task(world, sync(deferrable=deferrable)).run()

    assert done == world.shown()["succeeded_at"]
    assert world.starts == 1


def test_a_web_page_has_not_unpaused_a_connection(world: FivetranWorld) -> None:
    world.fivetran.faults.add(Fault(kind="html", method="PATCH"))
    world.add(paused=True, lives=["syncing:60 succeeded"])

    Task(world, sync()).run()

    assert world.facts == {"patches": 1}
    assert world.shown()["paused"] is False


# What is made ready -------------------------------------------------------------------


def test_a_paused_connection_is_unpaused_and_that_is_logged(
    world: FivetranWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.add(paused=True, lives=["syncing:60 succeeded"])

    Task(world, sync()).run()

    assert "is paused: un-pausing it" in lines(caplog)
    assert world.facts == {"patches": 1}, "no setup tests"
    assert world.shown()["paused"] is False


def test_a_connection_that_is_paused_meanwhile_fails_the_task(
    world: FivetranWorld,
) -> None:
    task = Task(world, sync())
    deferral = deferred(task.execute())
    world.pass_time(20)
    world.fivetran.change(C, paused=True, sync_state="paused")
    world.fivetran.connections[C].plan.clear()

    with pytest.raises(JobFailed, match="was paused while"):
        task.resume(deferral, task.wait(deferral))


ANY_MODE = pytest.mark.parametrize(
    "mode",
    [{"deferrable": False}, {}, {"start_in_trigger": True}],
    ids=["on the worker", "deferrable", "on the triggerer"],
)


@ANY_MODE
@pytest.mark.parametrize("setup_state", ["broken", "incomplete"])
def test_a_connection_that_fails_its_setup_tests_is_not_started(
    world: FivetranWorld, setup_state: str, mode: dict[str, Any]
) -> None:
    world.add(
        setup_state=setup_state,
        tasks=[("reconnect", "Reconnect")],
        setup_tests=[
            [{"title": "Log in", "status": "FAILED", "message": "Wrong password"}]
        ],
    )

    with pytest.raises(VendorRefused) as caught:
        Task(world, sync(**mode)).run()

    assert (
        f"is {setup_state} (Reconnect), and its setup tests fail (Log in: Wrong password):"
        " nothing was started, complete its setup" in str(caught.value)
    )
    assert str(caught.value).endswith(f": {dashboard_url(C)}")
    assert paths(world) == [f"GET /connections/{C}", f"POST /connections/{C}/test"]
    assert world.starts == 0


@ANY_MODE
@pytest.mark.parametrize("setup_state", ["broken", "incomplete"])
def test_a_connection_that_passes_its_setup_tests_is_started(
    world: FivetranWorld, setup_state: str, mode: dict[str, Any]
) -> None:
    world.add(setup_state=setup_state, setup_tests=["PASSED"], lives=[LIFE])
    task = Task(world, sync(**mode))

    assert task.run() == world.shown()["succeeded_at"]
    assert world.facts["setup_tests"] == 1
    assert world.starts == 1


def test_a_resync_has_the_setup_tests_run_too(world: FivetranWorld) -> None:
    world.add(setup_state="broken", setup_tests=["PASSED"], lives=[LIFE])

    Task(world, resync()).run()

    assert world.facts["setup_tests"] == 1


def test_a_connection_that_is_set_up_is_not_tested(world: FivetranWorld) -> None:
    Task(world, sync()).run()

    assert "setup_tests" not in world.facts


def test_the_setup_tests_run_once_however_often_the_start_is_tried(
    world: FivetranWorld,
) -> None:
    """On the triggerer, which stays with the task, also while Fivetran takes no start."""
    world.add(setup_state="broken", setup_tests=["PASSED"], lives=[LIFE])
    world.fivetran.faults.add(
        Fault(kind="status", status=503, method="POST", path="*/sync", times=3)
    )

    Task(world, sync(start_in_trigger=True)).run()

    assert world.facts["setup_tests"] == 1
    assert world.starts == 1


def test_a_lost_answer_of_the_setup_tests_is_not_sent_for_again_at_once(
    world: FivetranWorld,
) -> None:
    world.add(setup_state="broken", setup_tests=["PASSED"], lives=[LIFE])
    world.fivetran.faults.add(
        Fault(kind="reset", method="POST", path="*/test", takes_effect=True)
    )

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]
    # They did run, and the next look shows what they have done.
    assert world.facts["setup_tests"] == 1


def test_setup_tests_that_may_not_be_run_leave_the_connection_as_it_is(
    world: FivetranWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.add(setup_state="broken", tasks=[("reconnect", "Reconnect")])
    world.fivetran.faults.add(
        Fault(
            kind="status",
            status=403,
            body='{"code": "Forbidden", "message": "No permission"}',
            method="POST",
            path="*/test",
        )
    )

    with pytest.raises(VendorRefused, match=r"is broken \(Reconnect\): nothing"):
        Task(world, sync()).run()

    assert "The setup tests could not be run" in lines(caplog)
    assert "No permission" in lines(caplog)


def test_a_connection_that_breaks_meanwhile_fails_the_task(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:60 broken"])
    task = Task(world, sync())

    with pytest.raises(JobFailed, match=r"connection is broken: Reconnect|simulated"):
        task.run()


def test_an_unknown_connection_is_named_with_the_field(world: FivetranWorld) -> None:
    with pytest.raises(VendorRefused, match="Check connector_id"):
        Task(world, sync(connector_id="nobody")).run()


def test_another_schedule_type_is_changed_with_a_warning(
    world: FivetranWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.add(schedule_type="auto", lives=["syncing:60 succeeded"])
    task = Task(world, sync())

    task.run()

    assert world.shown()["schedule_type"] == "manual"
    assert world.facts == {"patches": 1}, "no setup tests"
    assert task.xcoms[OLD_SCHEDULE_KEY] == "auto"
    assert "changed from auto to manual" in caplog.text


@pytest.mark.parametrize(
    ("has", "wants"), [("auto", None), ("auto", "auto"), ("manual", "manual")]
)
def test_a_schedule_type_that_may_stay_is_left(
    world: FivetranWorld, has: str, wants: str | None
) -> None:
    world.add(schedule_type=has, lives=["syncing:60 succeeded"])
    task = Task(world, sync(schedule_type=wants))

    task.run()

    assert world.facts == {}
    assert world.shown()["schedule_type"] == has
    assert OLD_SCHEDULE_KEY not in task.xcoms


def test_the_old_schedule_type_is_told_by_a_retry_too(world: FivetranWorld) -> None:
    world.add(schedule_type="auto", lives=["syncing:60 succeeded"])
    task = Task(world, sync())
    task.execute()
    task.retry()

    task.run()

    assert task.xcoms[OLD_SCHEDULE_KEY] == "auto"
    assert world.starts == 1


def test_a_change_whose_answer_is_lost_is_made_again_and_starts_nothing(
    world: FivetranWorld,
) -> None:
    world.add(schedule_type="auto", lives=["syncing:60 succeeded"])
    world.fivetran.faults.add(
        Fault(kind="reset", method="PATCH", takes_effect=True, times=1)
    )
    task = Task(world, sync())

    task.run()

    assert task.xcoms[OLD_SCHEDULE_KEY] == "auto"
    assert world.starts == 1


def test_changes_that_cannot_be_made_put_the_start_off(world: FivetranWorld) -> None:
    world.add(paused=True, lives=["syncing:60 succeeded"])
    world.fivetran.faults.add(
        Fault(kind="status", status=503, method="PATCH", times=None, lasts=200)
    )
    task = Task(world, sync())

    assert deferred(task.execute()).method == "execute_start"
    assert world.starts == 0
    assert task.store.values == {}, "nothing was started, so nothing is looked for"

    task.retry()
    world.pass_time(300)
    task.run()
    assert world.starts == 1


# When a sync is under way -------------------------------------------------------------


@EVERY_MODE
def test_wait_starts_our_own_after_theirs(
    world: FivetranWorld, *, deferrable: bool
) -> None:
    world.add(lives=["syncing:60 succeeded"])
    world.fivetran.start_sync(C, "syncing:100 succeeded")

    task = Task(world, sync(deferrable=deferrable))
    task.run()

    assert world.starts == 1
    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000002"
    assert sum(world.fivetran.record.cancels.values()) == 0


@pytest.mark.parametrize("end", ["failed", "canceled", "rescheduled", "incomplete"])
def test_however_theirs_ends_ours_is_started(world: FivetranWorld, end: str) -> None:
    world.add(lives=["syncing:60 succeeded"])
    world.fivetran.start_sync(C, f"syncing:100 {end}")

    Task(world, sync()).run()

    assert world.starts == 1
    assert world.elapsed() < 300


def test_attach_waits_for_theirs(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing:100 succeeded")
    task = Task(world, sync(if_running="attach", cancel_on_timeout=True))

    assert task.run() == world.shown()["succeeded_at"]

    assert world.starts == 0
    assert task.xcoms["fivetran_sync"]["attached"] is True
    assert task.xcoms["fivetran_sync"]["job_started_at"] is not None


def test_attached_syncs_are_not_stopped(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing")
    task = Task(world, sync(if_running="attach", cancel_on_timeout=True, timeout=60))

    with pytest.raises(JobTimedOut):
        task.run()

    assert world.cancels == 0


def test_fail_and_skip_do_so_at_once(world: FivetranWorld) -> None:
    world.fivetran.start_sync(C, "syncing")

    with pytest.raises(JobAlreadyRunning, match="Earlier sync of connection_id"):
        Task(world, sync(if_running="fail")).run()

    with pytest.raises(AirflowSkipException):
        Task(world, sync(if_running="skip")).run()

    assert world.starts == 0


def test_rescheduled_is_not_running(world: FivetranWorld) -> None:
    world.add(lives=["syncing:10 rescheduled:500 syncing:60 succeeded"])
    world.fivetran.start_sync(C)
    world.pass_time(20)
    assert world.shown()["status"]["sync_state"] == "rescheduled"

    Task(world, sync(if_running="fail")).run()

    assert world.starts == 1


def _sync_begins_first(world: FivetranWorld, life: str) -> None:
    """Let somebody else's sync begin right before our start arrives."""

    def begin(request: SimRequest) -> None:
        if request.method == "POST":
            world.on_request.clear()
            world.fivetran.start_sync(C, life)

    world.on_request.append(begin)


def test_a_start_that_is_refused_because_one_runs_is_made_afterwards(
    world: FivetranWorld,
) -> None:
    world.fivetran.configure(already_syncing="conflict")
    _sync_begins_first(world, "syncing:100 succeeded")
    task = Task(world, sync())

    task.run()

    assert world.starts == 1
    assert task.xcoms["fivetran_sync"]["sync_id"] == "sync-000002"


def test_a_start_that_does_nothing_waits_for_the_sync_that_runs(
    world: FivetranWorld,
) -> None:
    world.fivetran.configure(already_syncing="ok")
    _sync_begins_first(world, "syncing:100 succeeded")

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]
    assert world.starts == 0


# Starts that go wrong -----------------------------------------------------------------


@EVERY_MODE
@pytest.mark.parametrize("kind", ["reset", "status", "html"])
def test_a_start_whose_answer_is_lost_is_not_repeated(
    world: FivetranWorld, kind: Any, *, deferrable: bool
) -> None:
    # An answer that is no JSON is not read at all: the status alone counts.
    world.fivetran.faults.add(
        Fault(kind=kind, status=504, method="POST", takes_effect=True)
    )

    Task(world, sync(deferrable=deferrable)).run()

    assert world.starts == 1


def test_a_quick_sync_of_a_lost_start_is_found_by_its_time(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:1 succeeded"])
    world.fivetran.faults.add(Fault(kind="hang", method="POST", takes_effect=True))

    assert Task(world, sync()).run() == world.shown()["succeeded_at"]
    assert world.starts == 1


def test_a_start_that_never_arrived_is_made_again(world: FivetranWorld) -> None:
    world.fivetran.faults.add(Fault(kind="reset", method="POST"))

    Task(world, sync()).run()

    assert world.starts == 1
    assert world.times_asked("POST", "/sync") == 2


def test_an_hour_s_pause_at_the_start_is_spent_off_the_worker(
    world: FivetranWorld,
) -> None:
    world.fivetran.faults.add(
        Fault(kind="status", status=429, retry_after=3600, times=None, lasts=3590)
    )
    task = Task(world, sync())

    deferral = deferred(task.execute())

    assert deferral.method == "execute_start"
    assert deferral.moment is not None
    assert deferral.moment - world.now() == pytest.approx(3600, abs=1)
    task.go_on(deferral)
    assert world.starts == 1


def test_an_hour_s_pause_while_waiting_is_survived(world: FivetranWorld) -> None:
    task = Task(world, sync())
    deferral = deferred(task.execute())
    world.fivetran.faults.add(
        Fault(kind="status", status=429, retry_after=3600, times=None, lasts=3000)
    )

    assert task.go_on(deferral) == world.shown()["succeeded_at"]

    assert world.elapsed() > HOUR
    assert world.fivetran.record.statuses[429] == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=500, times=None, lasts=1800),
        Fault(kind="html", times=None, lasts=1800),
        Fault(kind="cut", times=None, lasts=1800),
        Fault(kind="reset", times=None, lasts=1800),
    ],
    ids=lambda fault: str(fault.kind),
)
def test_trouble_while_waiting_is_only_a_late_answer(
    world: FivetranWorld, fault: Fault
) -> None:
    task = Task(world, sync())
    deferral = deferred(task.execute())
    world.fivetran.faults.add(fault)

    assert task.go_on(deferral) == world.shown()["succeeded_at"]
    assert world.starts == 1


# Attempts -----------------------------------------------------------------------------


def test_the_baseline_is_stored_and_not_read_again(world: FivetranWorld) -> None:
    """The sync ends while no triggerer runs: another one knows it by the baseline."""
    task = Task(world, sync())
    deferral = deferred(task.execute())
    before = deferral.arguments["baseline"]
    assert before.startswith(f"{world.shown()['succeeded_at']}~~~")
    world.pass_time(10)
    task.trigger(deferral)
    world.pass_time(2 * HOUR)

    assert task.go_on(deferral) == world.shown()["succeeded_at"]
    assert not world.shown()["succeeded_at"].startswith(before.split("~")[0])


def test_a_retry_attaches_to_the_sync_that_runs(world: FivetranWorld) -> None:
    task = Task(world, sync())
    deferred(task.execute())
    task.retry()

    task.run()

    assert world.starts == 1
    assert task.xcoms["fivetran_sync"]["attached"] is False


def test_a_retry_after_a_failure_starts_anew(world: FivetranWorld) -> None:
    world.add(lives=["syncing:30 failed", "syncing:30 succeeded"])
    task = Task(world, sync())
    with pytest.raises(JobFailed):
        task.run()

    task.retry()
    task.run()

    assert world.starts == 2


def test_a_cleared_task_attaches_where_pausing_is_not_wanted(
    world: FivetranWorld,
) -> None:
    task = Task(world, sync())
    task.execute()
    task.clear()

    task.run()

    assert world.starts == 1
    assert world.cancels == 0
    assert world.facts == {}


def test_a_cleared_task_stops_its_sync_where_pausing_is_wanted(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:3000 succeeded", "syncing:60 succeeded"])
    task = Task(world, sync(cancel_on_kill=True))
    task.execute()
    world.pass_time(30)
    task.clear()

    task.run()

    assert world.cancels == 1
    assert world.starts == 2
    assert world.shown()["paused"] is False


# Deadlines and kills ------------------------------------------------------------------


@EVERY_MODE
def test_by_default_a_timeout_leaves_the_sync_running(
    world: FivetranWorld, *, deferrable: bool
) -> None:
    world.add(lives=["syncing"])

    with pytest.raises(JobTimedOut, match="left running"):
        Task(world, sync(timeout=100, deferrable=deferrable)).run()

    assert world.facts == {}


@EVERY_MODE
@pytest.mark.parametrize("unpause", [False, True])
@pytest.mark.parametrize("answers_500", [False, True])
def test_a_timeout_pauses_where_that_is_wanted(
    world: FivetranWorld, *, deferrable: bool, unpause: bool, answers_500: bool
) -> None:
    world.fivetran.configure(pause_answers_500=answers_500)
    world.add(lives=["syncing"])
    task = Task(
        world,
        sync(
            timeout=100,
            deferrable=deferrable,
            cancel_on_timeout=True,
            unpause_after_cancel=unpause,
        ),
    )
    with pytest.raises(JobTimedOut, match="it was cancelled"):
        task.run()

    assert world.cancels == 1
    assert world.shown()["paused"] is not unpause


def _kill_while_deferred(task: Task, world: FivetranWorld, state: str) -> None:
    deferral = deferred(task.execute())

    async def kill() -> None:
        trigger = task.trigger(deferral)
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(30)
        world.states["sync", -1] = state
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await call_on_kill(trigger)
        await asyncio.sleep(200)

    asyncio.run(kill())


@pytest.mark.parametrize("wanted", [False, True])
def test_killing_the_deferred_task_pauses_only_where_that_is_wanted(
    world: FivetranWorld, *, wanted: bool
) -> None:
    world.add(lives=["syncing"])
    task = Task(world, sync(cancel_on_kill=wanted, unpause_after_cancel=True))

    _kill_while_deferred(task, world, "failed")

    assert world.cancels == int(wanted)
    assert world.facts == ({"patches": 2} if wanted else {})
    assert world.shown()["paused"] is False


def test_a_takeover_by_another_triggerer_pauses_nothing(world: FivetranWorld) -> None:
    world.add(lives=["syncing"])

    _kill_while_deferred(Task(world, sync(cancel_on_kill=True)), world, "deferred")

    assert world.facts == {}


# Handing the baseline on --------------------------------------------------------------


def test_without_waiting_the_baseline_is_returned(world: FivetranWorld) -> None:
    before = world.shown()["succeeded_at"]

    assert Task(world, sync(wait_for_completion=False)).run() == before
    assert world.starts == 1


def test_the_later_of_the_two_times_is_the_baseline(world: FivetranWorld) -> None:
    world.add(succeeded_ago=500, failed_ago=100)
    before = world.shown()["failed_at"]

    assert Task(world, sync(wait_for_completion=False)).run() == before


def test_the_baseline_of_a_connection_that_never_synced_is_the_time_of_the_start(
    world: FivetranWorld,
) -> None:
    world.add(succeeded_ago=None)

    baseline = Task(world, sync(wait_for_completion=False)).run()

    assert isinstance(baseline, str)
    assert parse_time(baseline) == pytest.approx(world.now(), abs=2)


def test_a_retry_hands_on_the_same_baseline(world: FivetranWorld) -> None:
    """Also when the sync has ended meanwhile: the sensor is to find it."""
    task = Task(world, sync(wait_for_completion=False))
    before = task.run()
    world.pass_time(HOUR)
    task.retry()

    assert task.run() == before
    assert world.starts == 1


@pytest.mark.parametrize("never", [False, True])
def test_the_pair_of_operator_and_sensor(world: FivetranWorld, *, never: bool) -> None:
    world.add(succeeded_ago=None if never else HOUR, lives=["syncing:100 succeeded"])
    baseline = Task(world, sync(wait_for_completion=False)).run()
    # As a template renders it.
    waiting = Task(world, sensor(completed_after_time=str(baseline)))

    assert waiting.run() == world.shown()["succeeded_at"]
    assert world.elapsed() > 100


# Re-syncs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "body"),
    [(None, {}), ({"sales": ["orders"]}, {"scope": {"sales": ["orders"]}})],
)
def test_a_resync_asks_for_its_scope(
    world: FivetranWorld, scope: dict[str, list[str]] | None, body: dict[str, Any]
) -> None:
    task = Task(world, resync(scope=scope))

    assert task.run() == world.shown()["succeeded_at"]

    (start,) = [each for each in world.requests if each.method == "POST"]
    assert start.path.endswith("/resync")
    assert sent(start) == body


def test_a_resync_is_over_when_the_connection_is_not_historical(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:2000 succeeded"])
    task = Task(world, resync())
    deferral = deferred(task.execute())
    world.pass_time(60)
    # A success that is not the re-sync's.
    now = world.fivetran.now()
    world.fivetran.change(C, succeeded_at=now)

    task.resume(deferral, task.wait(deferral))

    assert world.elapsed() >= 2000


def test_a_retry_attaches_to_the_historical_sync(world: FivetranWorld) -> None:
    world.add(lives=["scheduled:300 syncing:600 succeeded"])
    task = Task(world, resync())
    task.execute()
    task.retry()

    task.run()

    assert world.starts == 1


def test_a_retry_attaches_to_the_historical_sync_that_goes_on_after_a_failure(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:60 failed"])
    task = Task(world, resync())
    with pytest.raises(JobFailed):
        task.run()

    assert world.shown()["status"]["is_historical_sync"] is True
    world.fivetran.start_sync(C, "syncing:60 succeeded")
    task.retry()
    task.run()

    assert world.starts == 1


def test_a_resync_whose_answer_is_lost_is_known_by_the_historical_state(
    world: FivetranWorld,
) -> None:
    world.add(lives=["scheduled:300 syncing:60 succeeded"])
    world.fivetran.faults.add(Fault(kind="reset", method="POST", takes_effect=True))

    Task(world, resync()).run()

    assert world.starts == 1


def test_a_resync_waits_for_the_sync_that_runs(world: FivetranWorld) -> None:
    world.add(lives=["syncing:60 succeeded"])
    world.fivetran.start_sync(C, "syncing:100 succeeded")

    Task(world, resync(if_running="attach")).run()

    assert world.starts == 1


# Syncs that Fivetran puts off ---------------------------------------------------------


@EVERY_MODE
@pytest.mark.parametrize(
    ("wait", "restarted_at"), [(0, 560), (200, 260)], ids=["its time", "ours"]
)
def test_a_sync_put_off_is_started_again(
    world: FivetranWorld, wait: int, restarted_at: float, *, deferrable: bool
) -> None:
    world.add(lives=["syncing:60 rescheduled:500 syncing:60 succeeded"])
    task = Task(world, sync(reschedule_wait_time=wait, deferrable=deferrable))

    assert task.run() == world.shown()["succeeded_at"]

    starts = [each for each in world.requests if each.method == "POST"]
    assert [sent(each) for each in starts] == [{"force": False}] * 2
    second = world.fivetran.record.started[1]
    assert restarted_at <= second.at - world.fivetran.record.started[0].at
    assert second.at - world.fivetran.record.started[0].at < restarted_at + 60


def test_with_its_own_schedule_it_is_only_waited_for(world: FivetranWorld) -> None:
    world.add(
        schedule_type="auto", lives=["syncing:60 rescheduled:500 syncing:60 succeeded"]
    )

    Task(world, sync(schedule_type=None)).run()

    assert world.starts == 1


def test_a_sync_that_is_put_off_twice_is_started_twice_again(
    world: FivetranWorld,
) -> None:
    world.add(
        lives=[
            "syncing:60 rescheduled:300 syncing:60 rescheduled:300 syncing:9 succeeded"
        ]
    )

    Task(world, sync()).run()

    assert world.starts == 3


def test_waiting_for_the_restart_blocks_nobody_and_survives_trouble(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:60 rescheduled:3000 syncing:60 succeeded"])
    world.add("other", lives=["syncing:100 succeeded"])
    put_off, other = Task(world, sync()), Task(world, sync(connector_id="other"))
    waits = [deferred(each.execute()) for each in (put_off, other)]
    world.fivetran.faults.add(
        Fault(kind="status", status=500, times=None, start_in=2900, lasts=600)
    )

    async def both() -> tuple[tuple[float, Any], ...]:
        async def one(task: Task, deferral: Deferral) -> tuple[float, Any]:
            event = await the_event(task.trigger(deferral))
            return world.elapsed(), event

        return await asyncio.gather(one(put_off, waits[0]), one(other, waits[1]))

    (late, first), (soon, second) = asyncio.run(both())

    assert first["status"] == second["status"] == "success"
    assert soon < 150
    assert 3500 < late < 4500


def test_a_sync_that_somebody_else_starts_again_is_not_started_by_us(
    world: FivetranWorld,
) -> None:
    world.add(lives=["syncing:60 rescheduled:3000 syncing:60 succeeded"])
    task = Task(world, sync())
    deferral = deferred(task.execute())
    world.on_request.append(
        lambda _: (
            world.fivetran.start_sync(C)
            if world.shown()["status"]["sync_state"] == "rescheduled"
            and world.elapsed() > 300
            else None
        )
    )

    task.go_on(deferral)

    assert world.starts == 1
    assert world.elapsed() < 500


# Many at once -------------------------------------------------------------------------


def test_lists_that_lag_by_minutes_tell_no_lies(world: FivetranWorld) -> None:
    """Thirty syncs, of which some fail, in lists that are five minutes late."""
    world.fivetran.quirks = ListQuirks(lag=300)
    names = [f"c{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        end = "failed" if number % 5 == 0 else "succeeded"
        world.add(name, lives=[f"scheduled:10 syncing:{40 + number * 20} {end}"])

    tasks = {name: Task(world, sync(connector_id=name)) for name in names}
    waits = {name: deferred(task.execute()) for name, task in tasks.items()}
    world.requests.clear()

    async def wait_all() -> list[Any]:
        return await asyncio.gather(
            *(the_event(tasks[name].trigger(waits[name])) for name in names)
        )

    told = asyncio.run(wait_all())

    for number, event in enumerate(told):
        assert event["status"] == ("error" if number % 5 == 0 else "success")

    assert world.times_asked("GET", "/v1/connections") > 10, "by lists"
    rounds = world.elapsed() / 15
    assert len(world.requests) < 6 * rounds


def test_a_trial_account_is_not_asked_more_than_it_allows(world: FivetranWorld) -> None:
    world.connect(
        "fivetran_default",
        conn_type="fivetran",
        login="simulator-key",
        password="simulator-secret",
        extra='{"trial": true}',
    )
    world.fivetran.configure(hourly_limit=500)
    names = [f"c{number:02}" for number in range(8)]
    for name in names:
        world.add(name, lives=["syncing:7000 succeeded"])

    tasks = [Task(world, sync(connector_id=name)) for name in names]
    waits = [deferred(task.execute()) for task in tasks]

    async def wait_all() -> list[Any]:
        triggers = (task.trigger(wait) for task, wait in zip(tasks, waits, strict=True))
        return await asyncio.gather(*(the_event(each) for each in triggers))

    assert {event["status"] for event in asyncio.run(wait_all())} == {"success"}
    assert 429 not in world.fivetran.record.statuses


# Names and arguments ------------------------------------------------------------------


def test_names_are_looked_up_when_the_task_runs(world: FivetranWorld) -> None:
    named = {
        "connector_id": None,
        "connector_name": "sheets.orders",
        "destination_name": "simulated_warehouse",
    }
    with DAG("parsed", schedule=None):
        sync(**named)()
        resync(**named, task_id="again")()

    assert world.requests == []
    assert world.connection_reads == 0
    task = Task(world, sync(**named))

    assert task.run() == world.shown()["succeeded_at"]
    assert task.xcoms["fivetran_sync"]["connection_id"] == C


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"destination_name": "x"},
            "no destination named 'x'.*Nearest: 'simulated_warehouse'",
        ),
        ({"connector_name": "x"}, "no connection named 'x'.*Nearest: 'sheets.orders'"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(
    world: FivetranWorld, names: dict[str, str], message: str
) -> None:
    given = {
        "connector_name": "sheets.orders",
        "destination_name": "simulated_warehouse",
        **names,
    }
    with pytest.raises(VendorRefused, match=message):
        Task(world, sync(connector_id=None, **given)).run()


def test_rejected_credentials_are_not_repeated_in_the_message(
    world: FivetranWorld,
) -> None:
    world.connect("fivetran_default", login="planted-key", password="planted-secret")

    with pytest.raises(ConnectionUnusable) as caught:
        Task(world, sync()).run()

    assert "fivetran_default" in str(caught.value)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"poll_frequency": -1}, "poll_frequency must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"reschedule_wait_time": -1}, "reschedule_wait_time must be"),
        ({"schedule_type": "weekly"}, "schedule_type must be one of"),
        ({"if_running": "force"}, "if_running must be one of"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sync(**arguments)()


@pytest.mark.parametrize(
    "arguments",
    [
        {"connector_id": None},
        {"connector_id": ""},
        {"connector_id": None, "connector_name": "only"},
        {"connector_id": "a@b"},
    ],
)
def test_a_connection_must_be_named_one_way(
    world: FivetranWorld, arguments: dict[str, Any]
) -> None:
    with pytest.raises(AirflowException, match="connector_id"):
        Task(world, sync(**arguments)).run()

    assert world.requests == []


def test_old_names_of_arguments_are_accepted_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="timeout_seconds is deprecated") as told:
        operator = FivetranOperator(task_id="sync", connector_id=C, timeout_seconds=60)

    assert operator.timeout == 60
    assert told[0].filename == __file__, "where the DAG is to be changed"
    with pytest.warns(FutureWarning, match="reschedule_time is deprecated"):
        operator = FivetranOperator(task_id="sync", connector_id=C, reschedule_time=60)

    assert operator.reschedule_wait_time == 60


def test_the_peers_defaults_are_ours() -> None:
    operator = sync()()

    assert operator.fivetran_conn_id == "fivetran_default"
    assert operator.fivetran_retry_limit == 3
    assert operator.fivetran_retry_delay == 1
    assert operator.poll_frequency == 15
    assert operator.schedule_type == "manual"
    assert operator.reschedule_wait_time == 0
    assert operator.deferrable is True
    assert operator.wait_for_completion is True
    assert operator.timeout is None
    assert operator.cancel_on_kill is False
    assert operator.cancel_on_timeout is False
    assert operator.unpause_after_cancel is False
    assert tuple(operator.template_fields) == (
        "connector_id",
        "connector_name",
        "destination_name",
    )


@pytest.mark.parametrize("skew", [3600.0, -3600.0, 90.0, 20.0])
@pytest.mark.parametrize(
    "mode", [{}, {"start_in_trigger": True}, {"deferrable": False}]
)
def test_a_cancelled_sync_is_found_though_the_look_before_it_bore_a_wrong_time(
    world: FivetranWorld, skew: float, mode: dict[str, bool]
) -> None:
    world.add(lives=["syncing:15 canceled"])
    respond = world.fivetran.respond
    wrong = True

    def dated(asked: SimRequest) -> Any:
        nonlocal wrong
        reply = respond(asked)
        if wrong and asked.method == "GET":
            moment = parsedate_to_datetime(reply.headers["Date"]).timestamp() + skew
            reply.headers["Date"] = formatdate(moment, usegmt=True)

        wrong = wrong and asked.method == "GET"
        return reply

    world.fivetran.respond = dated  # type: ignore[assignment]

    with pytest.raises(JobCancelled):
        Task(world, sync(timeout=4 * HOUR, **mode)).run()
