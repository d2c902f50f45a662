"""Being stopped on a worker: ``on_kill`` comes on top of whatever ``execute`` does."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time.timeout import timeout as airflow_timeout

from async_triggers.deferral import compat
from async_triggers.deferral.compat import AirflowTaskTimeout
from async_triggers.deferral.errors import JobTimedOut, TaskKilled
from async_triggers.deferral.notes import Notes
from async_triggers.simulator import Fault
from async_triggers.simulator.lives import as_life
from tests.unit.deferral.stage import TARGET, Task, World, deferred, methods, sync
from tests.unit.deferral.vendors import make_vendor_world
from tests.vendors import FIVETRAN

if TYPE_CHECKING:
    from async_triggers.deferral.record import Record
    from async_triggers.simulator.exchange import SimRequest

FOREVER = "pending:1 running"


@pytest.fixture
def _no_blocking_calls() -> None:
    """Let on_kill wait for its thread: it is a signal handler, and ends the task."""


def when_requested(
    task: Task, method: str, path: str, act: Callable[[], object]
) -> None:
    """Do something once while a request is under way."""
    world = task.world

    def listen(request: SimRequest) -> None:
        if request.method == method and request.path.endswith(path):
            world.on_request.remove(listen)
            act()

    world.on_request.append(listen)


def kill_at(task: Task, method: str, path: str) -> None:
    """Stop the task while a request is under way."""

    def kill() -> None:
        task.operator.on_kill()

    when_requested(task, method, path, kill)


def kill_after(task: Task, seconds: float) -> None:
    """Stop the task while it waits."""

    def kill() -> None:
        task.operator.on_kill()

    task.world.signals.append((seconds, kill))


def start_anew(task: Task) -> Any:
    """Run the task again as a user does after he stopped it: max_tries may stay."""
    task.world.airbyte.connections[TARGET].lives = [as_life("running:3 succeeded")]
    task.retry()
    return task.run()


def clear_and_run(task: Task) -> Any:
    """Run the task again as a user's clear does, which raises ``max_tries``."""
    task.world.airbyte.connections[TARGET].lives = [as_life("running:3 succeeded")]
    task.clear()
    return task.run()


@pytest.fixture
def task(world: World) -> Task:
    world.airbyte.add_connection(TARGET, lives=[FOREVER])
    return Task(world, sync())


def test_before_anything_there_is_nothing_to_do(world: World) -> None:
    sync()().on_kill()

    assert world.requests == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_before_the_start_nothing_is_started(task: Task, *, deferrable: bool) -> None:
    task.make = sync(deferrable=deferrable)
    kill_at(task, "GET", TARGET)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.starts == 0
    assert start_anew(task) == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_right_before_the_start_no_intent_is_left(
    task: Task, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool
) -> None:
    """The next attempt would look for more than a minute for what cannot be there."""
    task.make = sync(deferrable=deferrable)
    write = task.store.set

    def stopped(key: str, value: Any) -> None:
        write(key, value)
        task.operator.on_kill()

    with monkeypatch.context() as patch:
        patch.setattr(task.store, "set", stopped)
        with pytest.raises(TaskKilled):
            task.execute()

    assert task.world.starts == 0
    assert task.store.values == {}
    began = task.world.elapsed()
    assert start_anew(task) == 1
    assert task.world.elapsed() < began + 30


def test_a_deadline_right_before_the_start_leaves_no_intent(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.make = sync(execution_timeout=timedelta(seconds=60))
    write = task.store.set

    def late(key: str, value: Any) -> None:
        write(key, value)
        task.world.pass_time(100)

    with monkeypatch.context() as patch:
        patch.setattr(task.store, "set", late)
        with pytest.raises(JobTimedOut, match="could not be started before"):
            task.execute()

    assert task.world.starts == 0
    assert task.store.values == {}


@pytest.mark.parametrize("deferrable", [True, False])
def test_while_the_start_is_under_way_the_job_is_cancelled_when_it_is_there(
    task: Task, *, deferrable: bool
) -> None:
    task.make = sync(deferrable=deferrable)
    kill_at(task, "POST", "/jobs")

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.starts == 1
    assert task.world.state_of(1) == "cancelled"
    assert start_anew(task) == 2


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("signalled", [True, False], ids=["signalled", "not yet"])
def test_cleared_while_the_start_is_under_way_the_job_is_cancelled_when_it_is_there(
    task: Task, *, deferrable: bool, signalled: bool
) -> None:
    """Airflow does not take its id any more; the signal may come after the answer."""
    task.make = sync(deferrable=deferrable)
    when_requested(task, "POST", "/jobs", task.clear_on_worker)
    if signalled:
        kill_at(task, "POST", "/jobs")

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.starts == 1
    assert task.world.state_of(1) == "cancelled"
    assert clear_and_run(task) == 2
    assert task.world.starts == 2


def test_a_signal_that_comes_while_the_job_is_cancelled_makes_no_second_cancel(
    task: Task,
) -> None:
    has_come = threading.Event()

    def handler(number: int, frame: object) -> None:
        has_come.set()
        task.operator.on_kill()

    def send() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert has_come.wait(3.0)

    when_requested(task, "POST", "/jobs", task.clear_on_worker)
    when_requested(task, "GET", "/jobs/1", send)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TaskKilled):
            task.execute()
    finally:
        signal.signal(signal.SIGUSR1, before)

    # Two checks, as before any cancel.
    requests = methods(task.world.requests)
    assert requests[-3:] == ["GET /jobs/1", "GET /jobs/1", "DELETE /jobs/1"]
    assert requests.count("GET /jobs/1") == 2
    assert task.world.state_of(1) == "cancelled"


def test_a_job_whose_id_could_not_be_written_down_is_found_by_the_retry(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow was away, and no user wanted the job stopped."""
    task.world.states["sync", -1] = "running"
    write = task.store.set

    def away(key: str, value: Any) -> None:
        if value["job_id"] is not None:
            msg = "Airflow is away"
            raise RuntimeError(msg)

        write(key, value)

    with monkeypatch.context() as patch:
        patch.setattr(task.store, "set", away)
        with pytest.raises(RuntimeError, match="Airflow is away"):
            task.execute()

    task.world.airbyte.finish("1", "succeeded")
    task.retry()
    assert task.run() == 1
    assert (task.world.starts, task.world.cancels) == (1, 0)


def test_a_stop_that_cannot_be_written_down_ends_the_task_as_any_other(
    task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kill() -> None:
        monkeypatch.setattr(task.store, "set", away)
        task.operator.on_kill()

    def away(key: str, value: Any) -> None:
        msg = "Airflow is away"
        raise RuntimeError(msg)

    task.world.signals.append((100.0, kill))

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "cancelled"
    assert "could not be noted" in caplog.text


def test_while_a_start_is_lost_the_next_attempt_finds_and_replaces_the_job(
    task: Task,
) -> None:
    task.world.airbyte.faults.add(
        Fault(kind="reset", method="POST", path="*/jobs", takes_effect=True)
    )
    kill_at(task, "POST", "/jobs")

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.store.values["async_triggers"]["killed"] is True
    assert start_anew(task) == 2
    assert task.world.state_of(1) == "cancelled"


def test_while_it_waits_the_job_is_cancelled(task: Task) -> None:
    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "cancelled"
    assert task.world.elapsed() < 110
    # The job is looked at before it is cancelled.
    cancel = methods(task.world.requests).index("DELETE /jobs/1")
    assert methods(task.world.requests)[cancel - 1] == "GET /jobs/1"
    assert start_anew(task) == 2


def test_after_the_start_and_before_the_deferral_the_task_does_not_defer(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.make = sync(deferrable=True)
    push = compat.push_owner_token

    def stopped(*told: Any, **more: Any) -> None:
        push(*told, **more)
        task.operator.on_kill()

    monkeypatch.setattr(compat, "push_owner_token", stopped)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "cancelled"


def test_while_it_waits_for_a_foreign_job_that_is_left_alone(task: Task) -> None:
    foreign = task.world.airbyte.add_job(TARGET, "running")
    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(foreign) == "running"
    assert task.world.starts == 0


@pytest.mark.parametrize(
    "arguments", [{"if_running": "attach"}, {"cancel_on_kill": False}]
)
def test_what_may_not_be_cancelled_is_left_alone(
    task: Task, arguments: dict[str, Any]
) -> None:
    task.make = sync(**arguments)
    if "if_running" in arguments:
        task.world.airbyte.add_job(TARGET, "running")

    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "running"


def test_a_vendor_that_does_not_answer_holds_the_kill_up_for_four_seconds(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    world = task.world
    began: list[float] = []

    def kill() -> None:
        world.airbyte.faults.add(Fault(kind="hang", method="DELETE", times=None))
        began.append(world.elapsed())
        task.operator.on_kill()
        began.append(world.elapsed())

    world.signals.append((100.0, kill))

    with pytest.raises(TaskKilled):
        task.execute()

    assert began[1] - began[0] <= 4.1
    assert "Job 1 could not be cancelled" in caplog.text


@pytest.fixture
def airflow_alarm() -> Iterator[None]:
    """Airflow's own handler of the signal, in the place of that of the tests."""
    before = signal.signal(signal.SIGALRM, airflow_timeout(1, "Timeout").handle_timeout)
    yield
    signal.signal(signal.SIGALRM, before)


def execute_as_airflow_does(task: Task) -> Any:
    """Call on_kill where Airflow does so: for its own exception alone."""
    try:
        return task.execute()
    except AirflowTaskTimeout:
        task.operator.on_kill()
        raise


@pytest.mark.usefixtures("airflow_alarm")
@pytest.mark.parametrize("cancels", [True, False])
def test_a_task_that_waits_for_nothing_times_out_as_airflow_says(
    task: Task, *, cancels: bool
) -> None:
    """Its start is answered first, and then there is a job to cancel."""
    task.make = sync(asynchronous=True, cancel_on_timeout=cancels)
    task.world.states["sync", -1] = "running"

    def ring(request: SimRequest) -> None:
        if request.method == "POST" and request.path.endswith("/jobs"):
            signal.raise_signal(signal.SIGALRM)

    task.world.on_request.append(ring)

    with pytest.raises(AirflowTaskTimeout):
        execute_as_airflow_does(task)

    assert task.world.state_of(1) == ("cancelled" if cancels else "pending")


@pytest.mark.usefixtures("airflow_alarm")
def test_an_alarm_outside_of_the_loop_ends_the_task_as_well(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the connection is looked up, and while the state store is written."""
    write = task.store.set

    def ringing(key: str, value: Any) -> None:
        write(key, value)
        if value["job_id"] is not None:
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(task.store, "set", ringing)

    with pytest.raises(JobTimedOut, match="it was cancelled"):
        execute_as_airflow_does(task)

    assert task.world.state_of(1) == "cancelled"


@pytest.mark.usefixtures("airflow_alarm")
def test_a_deferral_keeps_the_deadline_for_the_worker(task: Task) -> None:
    """An alarm right before it is nothing that the trigger does not know."""
    task.make = sync(deferrable=True, execution_timeout=timedelta(seconds=20))
    task.world.airbyte.configure(latency=3.0)

    def ring(request: SimRequest) -> None:
        if request.method == "POST" and request.path.endswith("/jobs"):
            task.world.signals.append((task.world.elapsed() + 2.0, alarm))

    def alarm() -> None:
        signal.raise_signal(signal.SIGALRM)

    task.world.on_request.append(ring)

    with pytest.raises(JobTimedOut, match="execution_timeout of the task passed"):
        task.go_on(execute_as_airflow_does(task))

    assert task.world.state_of(1) == "cancelled"


def test_a_kill_asks_airflow_for_nothing_but_the_state(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a call to Airflow in a signal handler")

    def kill() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(task.store, "get", forbidden)
            patch.setattr(task.store, "set", forbidden)
            patch.setattr("airflow.sdk.BaseHook.get_connection", forbidden)
            task.operator.on_kill()

    task.world.signals.append((100.0, kill))

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "cancelled"
    assert task.store.values["async_triggers"]["killed"] is True


@pytest.mark.parametrize(
    "state",
    ["running", "no_status", "scheduled", "queued", "deferred", "up_for_retry"],
)
def test_when_airflow_lost_sight_of_the_task_the_next_attempt_attaches(
    task: Task, state: str
) -> None:
    """A scheduler that was away, or a late heartbeat: nobody wanted the job stopped."""
    task.world.states["sync", -1] = state
    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.cancels == 0
    assert task.store.values["async_triggers"]["killed"] is False
    task.world.airbyte.finish("1", "succeeded")
    task.retry()
    assert task.run() == 1
    assert task.world.starts == 1


@pytest.mark.parametrize("state", ["restarting", "failed", "success", None])
def test_when_a_user_stopped_the_task_the_job_is_cancelled(
    task: Task, state: str | None
) -> None:
    """None: the run was deleted. ``restarting``: cleared, where a Variable is the store."""
    task.world.states["sync", -1] = state
    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "cancelled"
    assert task.store.values["async_triggers"]["killed"] is True


def test_cleared_while_it_waits_the_job_is_cancelled_and_another_started(
    task: Task,
) -> None:
    """The record says nothing of the clear: Airflow takes no more from the worker."""

    def clear() -> None:
        task.clear_on_worker()
        task.operator.on_kill()

    task.world.signals.append((100.0, clear))

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "cancelled"
    assert task.store.values["async_triggers"]["killed"] is False
    assert clear_and_run(task) == 2


def test_a_clear_right_before_the_start_is_the_end_of_the_task(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow does not let the intent be taken back then."""
    write = Notes.write

    def write_and_clear(notes: Notes, record: Record) -> None:
        write(notes, record)
        task.clear_on_worker()
        task.operator.on_kill()

    monkeypatch.setattr(Notes, "write", write_and_clear)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.starts == 0


def test_when_a_parse_removed_the_task_its_job_runs_on(task: Task) -> None:
    task.world.states["sync", -1] = "removed"
    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.state_of(1) == "running"
    assert task.world.cancels == 0


def test_when_the_state_cannot_be_learnt_the_job_is_left_alone(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    task.world.states["sync", -1] = RuntimeError("API_SERVER_ERROR")
    kill_after(task, 100.0)

    with pytest.raises(TaskKilled):
        task.execute()

    assert task.world.cancels == 0
    assert "state of its task could not be read" in caplog.text


def test_lost_sight_of_during_the_start_the_next_attempt_attaches(task: Task) -> None:
    task.world.states["sync", -1] = "queued"
    kill_at(task, "POST", "/jobs")

    with pytest.raises(TaskKilled):
        task.execute()

    task.world.airbyte.finish("1", "succeeded")
    task.retry()
    assert task.run() == 1
    assert (task.world.starts, task.world.cancels) == (1, 0)


def test_resumed_with_an_event_a_kill_has_nothing_to_cancel(task: Task) -> None:
    task.world.airbyte.add_connection(TARGET, lives=["running:3 succeeded"])
    task.make = sync(deferrable=True)
    deferral = deferred(task.execute())
    event = task.wait(deferral)
    task.resume(deferral, event)
    task.world.requests.clear()

    task.operator.on_kill()

    assert task.world.requests == []


@pytest.mark.parametrize(
    "ends", ["killed on its worker", "killed while deferred", "resumed too late"]
)
def test_a_sync_that_was_cancelled_at_fivetran_is_not_paused_as_well(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Its connection looks as if it were still to come: the history shows its end."""
    case = FIVETRAN
    world = make_vendor_world(monkeypatch, case)
    world.add_target("syncing:60 canceled")
    on_worker = ends == "killed on its worker"
    task = Task(world, case.sync(deferrable=not on_worker))
    if on_worker:
        # Before the wait requests the history by itself.
        kill_after(task, 185.0)
        with pytest.raises(TaskKilled):
            task.execute()
    else:
        trigger = task.trigger(deferred(task.execute()))
        world.pass_time(500)
        if ends == "killed while deferred":
            asyncio.run(trigger.on_kill())
        else:
            task.expire()

    assert world.cancels == 0
    assert not any(each.method == "PATCH" for each in world.requests)
