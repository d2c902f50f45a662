"""Stopping, clearing and running out of time: what becomes of the job, for every vendor.

The remote job is cancelled when the user's intention says so, and never otherwise: not
when a triggerer was replaced, not when a retry waits for the same job, not when another
job runs by now.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time.timeout import timeout as airflow_timeout

from async_triggers.deferral.errors import JobTimedOut, TaskKilled
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill
from tests.unit.deferral import stage
from tests.unit.deferral.stage import (
    Deferral,
    Task,
    TaskInstance,
    World,
    deferred,
    make_world,
    waits_for,
)
from tests.unit.deferral.vendors import VendorWorld
from tests.vendors import AIRBYTE, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest

TOKEN = "async_triggers_owner"


class KillWorld(VendorWorld):
    """A world with one vendor, whose job runs until something ends it."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.add_target(case.life())

    @property
    def running(self) -> list[str]:
        """The jobs that run."""
        return [view.job for view in self.vendor.jobs()]

    def run_another(self) -> None:
        """Let somebody else start a job of the same thing."""
        self.add_foreign(self.case.life())

    def finish_all(self) -> None:
        """Let the running jobs succeed."""
        for job in self.running:
            self.vendor.finish(job, self.case.ends["success"])


@pytest.fixture
def world(case: Case, monkeypatch: pytest.MonkeyPatch) -> KillWorld:
    monkeypatch.setattr(stage, "World", lambda: KillWorld(case))
    world = make_world(monkeypatch)
    assert isinstance(world, KillWorld)
    return world


@pytest.fixture
def task(world: KillWorld) -> Task:
    return a_task(world)


def a_task(world: KillWorld, **given: Any) -> Task:
    return Task(world, world.case.sync(**given))


def kill(
    task: Task,
    deferral: Deferral,
    *,
    state: str | None = "failed",
    after: float = 40.0,
    meanwhile: Callable[[], None] = lambda: None,
    lives_on: float = 300.0,
    interrupted: bool = True,
    instance: TaskInstance | None = None,
) -> None:
    """Do to a waiting trigger what the triggerer does when it is no longer its own.

    ``instance`` is the attempt that it belongs to, where that is not the present one.
    """
    trigger = task.trigger(deferral)
    trigger.task_instance = instance or task.instance

    async def run() -> None:
        try:
            async for _ in trigger.run():
                pass
        except asyncio.CancelledError:
            await call_on_kill(trigger)
            raise

    async def main() -> None:
        waiting = asyncio.create_task(run())
        await asyncio.sleep(after)
        meanwhile()
        task.world.states["sync", -1] = state
        while not waiting.done():
            waiting.cancel()
            # Airflow says it again every second, which cuts on_kill short.
            pause = 1.0 if interrupted else None
            await asyncio.wait({waiting}, timeout=pause)

        await asyncio.sleep(lives_on)

    asyncio.run(main())


# A user stops the deferred task ---------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("interrupted", [True, False], ids=["cut short", "in peace"])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", None])
def test_a_stopped_task_stops_its_job(
    case: Case, world: KillWorld, task: Task, state: str | None, *, interrupted: bool
) -> None:
    deferral = deferred(task.execute())
    world.airbyte.configure(**case.slow_cancel, latency=0.5)

    kill(task, deferral, state=state, interrupted=interrupted)

    assert world.running == []
    assert world.cancels == 1
    assert world.starts == 1


@every_vendor
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 500, "takes_effect": True},
        {"kind": "status", "status": 429, "retry_after": 5},
        {"kind": "reset"},
        {"kind": "reset", "takes_effect": True},
        {"kind": "hang", "takes_effect": True},
        {"kind": "html"},
        {"kind": "cut"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_a_cancel_that_goes_wrong_at_first_stops_the_job(
    case: Case, world: KillWorld, task: Task, fault: dict[str, Any]
) -> None:
    deferral = deferred(task.execute())
    method, path = case.cancel
    world.airbyte.faults.add(Fault(method=method, path=path, **fault))

    kill(task, deferral)

    assert world.running == []
    assert world.cancels == 1


@every_vendor
def test_a_job_that_ends_by_itself_meanwhile_stays_as_it_ended(
    case: Case, world: KillWorld, task: Task
) -> None:
    deferral = deferred(task.execute())

    kill(task, deferral, meanwhile=world.finish_all)

    assert world.cancels == 0


@every_vendor
def test_the_job_that_came_after_is_left_alone(
    case: Case, world: KillWorld, task: Task
) -> None:
    deferral = deferred(task.execute())

    def another() -> None:
        world.finish_all()
        world.run_another()

    kill(task, deferral, meanwhile=another)

    assert len(world.running) == 1
    assert world.cancels == 0


@every_vendor
def test_a_job_that_ends_and_is_followed_between_look_and_cancel(
    case: Case, world: KillWorld, task: Task
) -> None:
    """The cancel comes right after the look: what comes between them is one request."""
    deferral = deferred(task.execute())

    kill(task, deferral)

    stops = [
        index
        for index, each in enumerate(world.requests)
        if each.method == case.cancel[0] and "token" not in each.path
    ]
    looks = [world.requests[index - 1].method for index in stops[:1]]
    if not case.cancels_target:
        # Its cancel names the run: no other can be hit.
        paths = {index: world.requests[index].path for index in stops}
        stops = [index for index in stops if fnmatch(paths[index], case.cancel[1])]
        looks = ["GET"]

    assert stops
    assert looks == ["GET"]


# It only looks like a stop ---------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize(
    ("state", "token", "told"),
    [
        pytest.param(
            "deferred", 1, "another triggerer is now waiting", id="taken over"
        ),
        pytest.param("deferred", None, "without an owner token", id="no token"),
        pytest.param("deferred", 2, "a newer attempt", id="retry has re-attached"),
        pytest.param("running", 2, "a newer attempt", id="retry re-attaches"),
        pytest.param("up_for_retry", 1, "the retry", id="retry to come"),
        pytest.param(RuntimeError("?"), 1, "could not be read", id="not known"),
    ],
)
def test_what_is_no_stop_leaves_the_job_alone(
    case: Case,
    world: KillWorld,
    task: Task,
    caplog: pytest.LogCaptureFixture,
    state: Any,
    token: int | None,
    told: str,
) -> None:
    deferral = deferred(task.execute())
    job = task.xcoms.pop(TOKEN)["job_id"]
    if token is not None:
        task.xcoms[TOKEN] = {"try": token, "job_id": job}

    kill(task, deferral, state=state)

    assert len(world.running) == 1
    assert world.cancels == 0
    assert told in caplog.text


@every_vendor
def test_a_retry_that_has_re_attached_keeps_its_job(
    case: Case, world: KillWorld, task: Task
) -> None:
    """The real thing: the retry begins, re-attaches, and then the old trigger goes."""
    old = deferred(task.execute())
    before = task.instance
    task.retry()
    new = deferred(task.execute())

    kill(task, old, state="deferred", instance=before)

    assert world.starts == 1
    assert world.cancels == 0
    assert len(world.running) == 1
    assert waits_for(new) == waits_for(old)


# A clear ---------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
def test_a_cleared_task_cancels_and_confirms_before_it_starts_anew(
    case: Case, world: KillWorld, task: Task, *, slow: bool
) -> None:
    """The new attempt begins before the old trigger has been told to go."""
    old = deferred(task.execute())
    before = task.instance
    if slow:
        world.airbyte.configure(**case.slow_cancel)

    task.clear()
    began: list[list[str]] = []
    start = case.start_path
    world.on_request.append(
        lambda asked: (
            began.append(list(world.running))
            if asked.method == "POST" and asked.path.endswith(start)
            else None
        )
    )
    new = task.execute()
    while isinstance(new, Deferral) and new.method == "execute_start":
        new = task.resume(new, task.wait(new))

    new = deferred(new)
    kill(task, old, state="deferred", instance=before)

    # When the start was sent, the old job had stopped.
    assert began[-1] == []
    assert world.starts == 2
    assert world.cancels == 1
    assert len(world.running) == 1
    if not case.job_is_target:
        assert new.arguments != old.arguments


@every_vendor
def test_a_cleared_task_that_may_not_cancel_starts_no_second_job_beside_the_first(
    case: Case, world: KillWorld
) -> None:
    task = a_task(world, cancel_on_kill=False)
    deferred(task.execute())
    task.clear()

    new = deferred(task.execute())

    assert world.cancels == 0
    assert world.starts == 1
    # Fivetran cannot stop a sync otherwise: it is attached to. Else it is waited for.
    wanted = "execute_complete" if case.job_is_target else "execute_start"
    assert new.method == wanted


@every_vendor
@pytest.mark.parametrize("token", [None, 2])
def test_the_old_trigger_of_a_cleared_task_cancels_its_own_job(
    case: Case, world: KillWorld, task: Task, token: int | None
) -> None:
    deferral = deferred(task.execute())
    task.xcoms.clear()
    if token is not None:
        task.xcoms[TOKEN] = {"try": token, "job_id": "another"}

    kill(task, deferral, state="running")

    # Pausing a connection of Fivetran would stop the newer attempt's sync as well.
    left_to_it = case.job_is_target and token is not None
    assert world.cancels == (0 if left_to_it else 1)
    assert len(world.running) == (1 if left_to_it else 0)


@every_vendor
def test_a_new_attempt_says_that_the_old_job_is_its_own_to_end(
    case: Case, world: KillWorld, task: Task
) -> None:
    """Before it cancels: the old trigger may be told to go at any time from then on."""
    deferred(task.execute())
    task.clear()
    tokens: list[Any] = []
    method = case.cancel[0]
    world.on_request.append(
        lambda asked: (
            tokens.append(dict(task.xcoms.get(TOKEN, {})))
            if asked.method == method and "token" not in asked.path
            else None
        )
    )

    task.execute()

    assert tokens
    assert all(token["try"] == 2 for token in tokens)


def _clear_in_an_outage(world: KillWorld, task: Task) -> None:
    """Let the new attempt wait for the vendor: it knows of no job."""
    old = deferred(task.execute())
    before = task.instance
    world.vendor.faults.add(Fault(kind="status", times=None, lasts=30))
    task.clear()
    assert deferred(task.execute()).method == "execute_start"
    world.pass_time(30)

    kill(task, old, state="deferred", instance=before)


@every_vendor
def test_a_task_without_a_memory_that_is_cleared_in_an_outage_stops_its_job(
    case: Case, world: KillWorld, task: Task
) -> None:
    task.has_store = False

    _clear_in_an_outage(world, task)

    assert (world.starts, world.cancels) == (1, 1)
    assert world.running == []


@pytest.mark.parametrize("case", [AIRBYTE], ids=["airbyte"])
def test_so_does_one_that_is_not_durable(case: Case, world: KillWorld) -> None:
    _clear_in_an_outage(world, a_task(world, durable=False))

    assert (world.starts, world.cancels) == (1, 1)
    assert world.running == []


# A pause of the account ------------------------------------------------------------------


HOUR = 3600
KILLS = 100


async def stop_all(
    world: World,
    triggers: list[Any],
    *,
    after: float,
    state: str | Exception = "failed",
) -> None:
    """Let triggers wait for a while, and do what the triggerer does to stopped tasks."""

    async def run(trigger: Any) -> None:
        try:
            async for _ in trigger.run():
                pass
        except asyncio.CancelledError:
            await call_on_kill(trigger)
            raise

    waiting = {asyncio.create_task(run(each)) for each in triggers}
    await asyncio.sleep(after)
    world.states["sync", -1] = state
    while waiting:
        for each in waiting:
            each.cancel()

        # Airflow says it again every second, which cuts on_kill short.
        _, waiting = await asyncio.wait(waiting, timeout=1.0)


def many_tasks(world: KillWorld, task: Task) -> list[Any]:
    """Start as many jobs as tasks, each with a trigger of its own."""
    case, triggers = world.case, []
    for number in range(KILLS):
        world.xcoms["sync", -1].clear()
        target = case.other_target(number)
        case.add_target(world.vendor, target, case.life())
        one = a_task(world, **{case.target_key: target})
        trigger = one.trigger(deferred(one.execute()))
        triggers.append(trigger)

    return triggers


@every_vendor
@pytest.mark.parametrize("refuses", ["polls", "everything"])
def test_no_cancel_is_lost_while_the_account_is_paused(
    case: Case,
    world: KillWorld,
    task: Task,
    refuses: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A poll is refused for an hour, and a hundred users stop their tasks."""
    triggers = many_tasks(world, task)
    assert len(world.running) == KILLS
    running: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def refuse() -> None:
            world.airbyte.faults.add(
                Fault(
                    kind="status",
                    method="*",
                    status=429,
                    retry_after=HOUR,
                    times=1 if refuses == "polls" else None,
                    lasts=None if refuses == "polls" else HOUR,
                )
            )

        loop.call_later(60.0, refuse)
        # Fivetran's rounds are a quarter of a minute apart and longer.
        await stop_all(world, triggers, after=180.0)
        running.append(len(world.running))
        await asyncio.sleep(60.0)
        running.append(len(world.running))
        await asyncio.sleep(2 * HOUR)
        running.append(len(world.running))

    asyncio.run(main())

    assert running[-1] == 0
    assert world.cancels == KILLS
    assert "still running" not in caplog.text
    if refuses == "polls":
        assert running[1] == 0
    else:
        assert running[1] == KILLS


@every_vendor
def test_a_refused_attempt_waits_for_as_long_as_the_vendor_says(
    case: Case, world: KillWorld, task: Task
) -> None:
    """Hours of it, of which none counts against the patience with an outage."""
    deferral = deferred(task.execute())
    asked: list[float] = []

    def listen(request: SimRequest) -> None:
        asked.append(world.elapsed())

    def refuse() -> None:
        world.airbyte.faults.add(
            Fault(
                kind="status", status=429, retry_after=HOUR, times=None, lasts=5 * HOUR
            )
        )
        world.on_request.append(listen)

    kill(task, deferral, meanwhile=refuse, lives_on=8 * HOUR)

    assert world.running == []
    assert world.cancels == 1
    # At once, and then no sooner than was asked for.
    late = [moment for moment in asked if moment > asked[0] + 120.0]
    assert late
    assert late[0] - asked[0] >= HOUR - 1
    assert len(asked) < 60


@every_vendor
@pytest.mark.parametrize("pause", [2 * HOUR, 20 * HOUR])
@pytest.mark.parametrize("first", ["hang", "503"])
def test_a_cancel_outlives_a_pause_that_another_request_was_asked_for(
    case: Case,
    world: KillWorld,
    task: Task,
    first: str,
    pause: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its first attempt passes the pause and fails, the second one is held back by it."""
    deferral = deferred(task.execute())
    asked = Fault(kind="status", method="*", status=429, retry_after=pause)
    world.airbyte.faults.add(asked)

    def away() -> None:
        world.airbyte.faults.add(
            Fault(kind="hang", method="*", times=None, lasts=60.0)
            if first == "hang"
            else Fault(kind="status", method="*", status=503, times=None, lasts=60.0)
        )

    kill(task, deferral, after=120.0, meanwhile=away, lives_on=pause + HOUR)

    assert world.running == []
    assert world.cancels == 1
    if first == "hang":
        # What is held back for so long is not tried again in a second.
        said = re.findall(
            r"the account is paused\. Trying again in (\d+) s", caplog.text
        )
        assert [pause - 240 <= int(each) <= pause for each in said] == [True]


@every_vendor
def test_a_cancel_that_is_given_up_says_that_the_job_goes_on_and_where(
    case: Case, world: KillWorld, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    deferral = deferred(task.execute())

    def away() -> None:
        world.airbyte.faults.add(
            Fault(kind="status", method="*", status=503, times=None)
        )

    kill(task, deferral, meanwhile=away, lives_on=2 * HOUR)

    assert len(world.running) == 1
    (line,) = {
        record.getMessage()
        for record in caplog.records
        if "It is still running: http" in record.getMessage()
    }
    assert "could not be cancelled" in line


@every_vendor
@pytest.mark.parametrize("at", ["check", "cancel"])
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404, "kind": "html"},
        {"status": 404, "body": "404 page not found"},
        {"status": 403, "body": "{}"},
        {"status": 401, "kind": "status"},
        {"status": 404, "kind": "status"},
        {"status": 400, "kind": "status"},
    ],
    ids=lambda answer: "-".join(map(str, answer.values())),
)
def test_one_doubtful_answer_is_not_the_end_of_a_cancel(
    case: Case, world: KillWorld, task: Task, at: str, answer: dict[str, Any]
) -> None:
    """A gateway's page, or the vendor's own refusal of what it has just allowed."""
    deferral = deferred(task.execute())
    method, path = case.cancel if at == "cancel" else ("GET", "*")

    def refuse() -> None:
        world.airbyte.faults.add(
            Fault(**{"kind": "status", **answer}, method=method, path=path, times=4)
        )

    kill(task, deferral, meanwhile=refuse, lives_on=900.0)

    assert world.running == []
    assert world.cancels == 1


@every_vendor
def test_a_delayed_cancel_leaves_the_job_that_came_after(
    case: Case, world: KillWorld, task: Task
) -> None:
    deferral = deferred(task.execute())

    def refuse() -> None:
        world.airbyte.faults.add(
            Fault(
                kind="status",
                method="*",
                status=429,
                retry_after=600,
                times=None,
                lasts=500.0,
            )
        )

    def another() -> None:
        world.finish_all()
        world.run_another()

    world.signals.append((400.0, another))
    kill(task, deferral, meanwhile=refuse, lives_on=HOUR)

    assert len(world.running) == 1
    assert world.cancels == 0


# The end of the triggerer ----------------------------------------------------------------


def stop_the_triggerer(
    task: Task,
    deferral: Deferral,
    *,
    meanwhile: Callable[[], None],
    then: Callable[[], None] = lambda: None,
    after: float = 5.0,
) -> float:
    """Let a kill be pending when the process is told to end; return how long that takes."""
    trigger = task.trigger(deferral)
    ends: list[float] = []

    async def main() -> None:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        loop.call_later(40.0, meanwhile)
        await stop_all(task.world, [trigger], after=40.0)
        await asyncio.sleep(after)
        then()
        ends.append(loop.time())

    asyncio.run(main())
    return task.world.elapsed() - ends[0]


@every_vendor
def test_a_pending_cancel_is_tried_once_more_when_the_triggerer_ends(
    case: Case, world: KillWorld, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    """It passes the pause that it had waited for."""
    deferral = deferred(task.execute())

    def refuse() -> None:
        world.airbyte.faults.add(
            Fault(kind="status", method="*", status=429, retry_after=HOUR, times=None)
        )

    took = stop_the_triggerer(
        task, deferral, meanwhile=refuse, then=world.airbyte.faults.clear
    )

    assert world.running == []
    assert world.cancels == 1
    assert "cancelled before this process ends, unless it had ended" in caplog.text
    assert took < 10.0


@every_vendor
@pytest.mark.parametrize("after", [0.5, 1.5, 30.0])
@pytest.mark.parametrize("kind", ["status", "hang", "reset"])
def test_a_cancel_whose_first_check_is_under_way_is_made_when_the_triggerer_ends(
    case: Case, world: KillWorld, task: Task, kind: Any, after: float
) -> None:
    """Airflow has said long before the vendor that a user has stopped the task."""
    deferral = deferred(task.execute())

    def refuse() -> None:
        world.airbyte.faults.add(Fault(kind=kind, status=503, method="*", times=None))

    stop_the_triggerer(
        task,
        deferral,
        meanwhile=refuse,
        then=world.airbyte.faults.clear,
        after=after,
    )

    assert world.running == []
    assert world.cancels == 1


@every_vendor
@pytest.mark.parametrize("kind", ["status", "hang", "reset"])
def test_a_cancel_that_is_lost_with_the_triggerer_is_logged(
    case: Case,
    world: KillWorld,
    task: Task,
    kind: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deferral = deferred(task.execute())
    job = waits_for(deferral)

    def refuse() -> None:
        world.airbyte.faults.add(Fault(kind=kind, status=503, method="*", times=None))

    took = stop_the_triggerer(task, deferral, meanwhile=refuse)

    assert len(world.running) == 1
    assert took <= 12.0
    (line,) = [
        record.getMessage()
        for record in caplog.records
        if "before this process ends" in record.getMessage()
    ]
    assert line.rpartition(": ")[2].startswith("http")
    assert "It is still running" in line
    assert job in line or case.job_is_target


@every_vendor
def test_what_nobody_is_known_to_have_stopped_is_not_cancelled_at_the_end(
    case: Case, world: KillWorld, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow could not be asked: it may as well be a takeover."""
    deferral = deferred(task.execute())
    trigger = task.trigger(deferral)

    async def main() -> None:
        await stop_all(world, [trigger], after=40.0, state=RuntimeError("?"))
        await asyncio.sleep(5.0)

    asyncio.run(main())

    assert len(world.running) == 1
    assert world.cancels == 0
    assert "It is still running: http" in caplog.text


# A deadline ------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("how", ["quick", "slow", "503", "reset", "hang"])
def test_at_the_deadline_the_job_is_cancelled_and_that_confirmed(
    case: Case, world: KillWorld, how: str
) -> None:
    task = a_task(world, timeout=120)
    deferral = deferred(task.execute())
    method, path = case.cancel
    if how == "slow":
        world.airbyte.configure(**case.slow_cancel)
    elif how != "quick":
        fault: dict[str, Any] = {"kind": how}
        if how == "503":
            fault = {"kind": "status", "status": 503}

        world.airbyte.faults.add(Fault(method=method, path=path, **fault))

    payload = task.wait(deferral)
    with pytest.raises(JobTimedOut):
        task.resume(deferral, payload)

    assert payload["cancel"] == "confirmed" or how == "hang"
    assert world.running == []
    assert world.cancels == 1


@every_vendor
def test_a_job_that_succeeds_at_its_deadline_has_succeeded(
    case: Case, world: KillWorld
) -> None:
    task = a_task(world, timeout=120)
    deferral = deferred(task.execute())
    world.signals.append((119.9, world.finish_all))

    payload = task.wait(deferral)

    assert payload["status"] == "success"
    assert world.cancels == 0


@every_vendor
def test_what_may_not_be_cancelled_outlives_the_deadline(
    case: Case, world: KillWorld
) -> None:
    task = a_task(world, timeout=120, cancel_on_timeout=False)
    deferral = deferred(task.execute())

    payload = task.wait(deferral)
    with pytest.raises(JobTimedOut):
        task.resume(deferral, payload)

    assert len(world.running) == 1
    assert world.cancels == 0


@every_vendor
def test_a_triggerer_that_stops_leaves_the_job_running(
    case: Case, world: KillWorld, task: Task
) -> None:
    deferral = deferred(task.execute())

    async def main() -> None:
        trigger = task.trigger(deferral)
        waiting = asyncio.create_task(anext(aiter(trigger.run())))
        await asyncio.sleep(40)
        world.states["sync", -1] = "deferred"
        waiting.cancel()
        await asyncio.wait({waiting})
        await trigger.cleanup()

    asyncio.run(main())

    assert len(world.running) == 1
    assert world.cancels == 0


# On a worker -----------------------------------------------------------------------------


def stop_after(task: Task, seconds: float) -> None:
    """Tell the task to stop while it is on a worker."""

    def stop() -> None:
        task.operator.on_kill()

    task.world.signals.append((seconds, stop))


class TestOnAWorker:
    """The same on a worker, where ``on_kill`` comes on top of whatever ``execute`` does."""

    @pytest.fixture
    def _no_blocking_calls(self) -> None:
        """Let on_kill wait for its thread: it is a signal handler, and ends the task."""

    @every_vendor
    @pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
    def test_a_task_that_waits_stops_its_job(
        self, case: Case, world: KillWorld, *, slow: bool
    ) -> None:
        task = a_task(world, deferrable=False)
        if slow:
            world.airbyte.configure(**case.slow_cancel)

        stop_after(task, 60.0)

        with pytest.raises(TaskKilled):
            task.execute()

        world.pass_time(60.0)
        assert world.running == []
        assert world.cancels == 1
        assert task.store.values["async_triggers"]["killed"] is True

    @every_vendor
    def test_a_task_that_is_stopped_in_a_pause_ends(
        self, case: Case, world: KillWorld
    ) -> None:
        task = a_task(world, deferrable=False)
        world.airbyte.faults.add(
            Fault(kind="status", status=429, retry_after=3600, start_in=100, times=1)
        )
        stop_after(task, 300.0)

        with pytest.raises(TaskKilled):
            task.execute()

        assert world.elapsed() < 310.0
        assert world.running == []

    @every_vendor
    @pytest.mark.parametrize("deferrable", [True, False])
    @pytest.mark.parametrize("stopped", ["marked", "cleared", "cleared, no signal yet"])
    def test_a_task_that_starts_stops_its_job_when_it_is_there(
        self, case: Case, world: KillWorld, stopped: str, *, deferrable: bool
    ) -> None:
        task = a_task(world, deferrable=deferrable)
        start = case.start_path

        def listen(asked: SimRequest) -> None:
            if asked.method == "POST" and asked.path.endswith(start):
                world.on_request.remove(listen)
                if stopped != "marked":
                    task.clear_on_worker()

                if stopped != "cleared, no signal yet":
                    task.operator.on_kill()

        world.on_request.append(listen)

        with pytest.raises(TaskKilled):
            task.execute()

        assert world.starts == 1
        assert world.running == []

    @every_vendor
    @pytest.mark.parametrize("state", ["failed", "running"])
    def test_a_task_that_looks_for_a_lost_start_stops_its_job(
        self, case: Case, world: KillWorld, state: str
    ) -> None:
        task = a_task(world, deferrable=False)
        world.states["sync", -1] = state
        path = f"*{case.start_path}"
        world.airbyte.faults.add(
            Fault(kind="reset", method="POST", path=path, takes_effect=True)
        )
        away = Fault(kind="status", method="GET", status=502, times=None, lasts=30)

        def listen(asked: SimRequest) -> None:
            if asked.method == "POST" and asked.path.endswith(case.start_path):
                world.on_request.remove(listen)
                world.airbyte.faults.add(away)

        world.on_request.append(listen)
        stop_after(task, 45.0)

        with pytest.raises(TaskKilled):
            task.execute()

        assert world.starts == 1
        assert world.cancels == (1 if state == "failed" else 0)
        assert len(world.running) == (0 if state == "failed" else 1)

    @every_vendor
    @pytest.mark.parametrize("state", ["failed", "running"])
    def test_a_retry_that_could_not_look_at_its_job_yet_stops_it(
        self, case: Case, world: KillWorld, state: str
    ) -> None:
        task = a_task(world, deferrable=True)
        deferred(task.execute())
        task.retry()
        world.states["sync", -1] = state
        away = Fault(kind="status", method="GET", status=502, times=None, lasts=30)
        world.airbyte.faults.add(away)
        task.make = a_task(world, deferrable=False).make
        stop_after(task, 45.0)

        with pytest.raises(TaskKilled):
            task.execute()

        assert world.starts == 1
        assert world.cancels == (1 if state == "failed" else 0)
        assert len(world.running) == (0 if state == "failed" else 1)

    @every_vendor
    def test_a_start_that_was_lost_and_took_no_effect_stops_nobody_elses_job(
        self, case: Case, world: KillWorld
    ) -> None:
        """Two minutes later the schedule of the vendor, or somebody, starts a job."""
        task = a_task(
            world,
            deferrable=False,
            **case.unscheduled,
        )
        case.schedule(world.vendor, case.target)
        world.airbyte.faults.add(Fault(kind="reset", **case.start))
        world.signals.append((15.0, world.run_another))
        away: dict[str, Any] = {"kind": "status", "method": "GET", "times": None}

        def listen(asked: SimRequest) -> None:
            if asked.method == "POST" and asked.path.endswith(case.start_path):
                world.on_request.remove(listen)
                world.airbyte.faults.add(Fault(status=502, lasts=30, **away))

        world.on_request.append(listen)
        stop_after(task, 45.0)

        with pytest.raises(TaskKilled):
            task.execute()

        assert world.cancels == 0
        assert len(world.running) == 1

    @every_vendor
    def test_a_task_that_airflow_lost_sight_of_leaves_its_job_to_the_next_attempt(
        self, case: Case, world: KillWorld
    ) -> None:
        task = a_task(world, deferrable=False)
        world.states["sync", -1] = "running"
        stop_after(task, 60.0)

        with pytest.raises(TaskKilled):
            task.execute()

        assert world.cancels == 0
        (job,) = world.running
        again = a_task(world)
        again.store = task.store
        again.retry()
        assert deferred(again.execute()).method == "execute_complete"
        assert world.starts == 1
        assert world.running == [job]


# execution_timeout on a worker -----------------------------------------------------------


@pytest.fixture
def airflow_alarm() -> Iterator[None]:
    """Airflow's own handler of the signal, in the place of that of the tests."""
    handler = airflow_timeout(1, "Timeout").handle_timeout
    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.signal(signal.SIGALRM, before)


def ring() -> None:
    signal.raise_signal(signal.SIGALRM)


def at_the_limit(world: KillWorld, how: str, seconds: float = 100.0) -> timedelta:
    """Let execution_timeout pass, as our clock or Airflow's alarm says, and return it."""
    if how == "clock":
        return timedelta(seconds=seconds)

    def in_a_callback() -> None:
        asyncio.get_running_loop().call_soon_threadsafe(ring)

    world.signals.append((seconds, ring if how == "select" else in_a_callback))
    # The alarm alone knows, as where Airflow's clock and ours disagree.
    return timedelta(days=1)


every_way = pytest.mark.parametrize("how", ["clock", "select", "callback"])
LATE = "had not ended when the execution_timeout of the task passed"


@pytest.mark.usefixtures("airflow_alarm")
class TestExecutionTimeout:
    """A task on its worker ends at its ``execution_timeout``, and so does its job.

    Airflow raises in a signal handler, wherever the event loop is.
    """

    @pytest.fixture
    def _no_blocking_calls(self) -> None:
        """Let a signal handler log, as Airflow's does."""

    @every_vendor
    @every_way
    @pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
    def test_while_polling(
        self, case: Case, world: KillWorld, how: str, *, slow: bool
    ) -> None:
        limit = at_the_limit(world, how)
        task = a_task(world, deferrable=False, execution_timeout=limit)
        if slow:
            world.airbyte.configure(**case.slow_cancel)

        with pytest.raises(JobTimedOut, match=f"{LATE}; it was cancelled"):
            task.execute()

        assert world.running == []
        assert world.cancels == 1
        assert 99 < world.elapsed() < 130

    @every_vendor
    def test_its_message_is_that_of_a_deferred_task(
        self, case: Case, world: KillWorld
    ) -> None:
        said: list[str] = []
        for deferrable in (False, True):
            task = a_task(
                world,
                deferrable=deferrable,
                execution_timeout=timedelta(seconds=100),
            )
            with pytest.raises(JobTimedOut) as raised:
                task.run()

            said.append(re.sub(r"\d+|\S+Z", "…", str(raised.value)))
            world.pass_time(3600.0)
            case.unpause(world.vendor, case.target)

        assert said[0] == said[1]

    @every_vendor
    @every_way
    def test_before_the_start(self, case: Case, world: KillWorld, how: str) -> None:
        """A look that hangs, and the sleep before the next one."""
        limit = at_the_limit(world, how)
        task = a_task(world, deferrable=False, execution_timeout=limit)
        away = Fault(kind="status", method="*", status=503, times=None)
        world.airbyte.faults.add(away)

        with pytest.raises(JobTimedOut, match=r"could not be started before the exec"):
            task.execute()

        assert world.starts == 0
        assert 99 < world.elapsed() < 102

    @every_vendor
    @pytest.mark.parametrize("how", ["select", "callback"])
    def test_during_a_look(self, case: Case, world: KillWorld, how: str) -> None:
        task = a_task(
            world,
            deferrable=False,
            execution_timeout=at_the_limit(world, how, 3.0),
        )
        world.airbyte.faults.add(Fault(kind="hang", method="GET", times=None))

        with pytest.raises(JobTimedOut, match=r"could not be started before the exec"):
            task.execute()

        assert world.starts == 0
        assert 2.9 < world.elapsed() < 4

    @every_vendor
    @every_way
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_behind_another_job(
        self, case: Case, world: KillWorld, how: str, *, deferrable: bool
    ) -> None:
        if deferrable and how != "clock":
            pytest.skip("no alarm is heard on the triggerer")

        if not case.has_other_jobs:
            pytest.skip("runs of a job do not stand in each other's way")

        limit = at_the_limit(world, how)
        task = a_task(world, deferrable=deferrable, execution_timeout=limit)
        world.run_another()

        with pytest.raises(JobTimedOut, match=f"{LATE}; it is left running"):
            task.run()

        assert len(world.running) == 1
        assert (world.starts, world.cancels) == (0, 0)
        assert 99 < world.elapsed() < 120

    @every_vendor
    @pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
    def test_during_the_start(
        self, case: Case, world: KillWorld, *, slow: bool
    ) -> None:
        """The answer of the start is waited for: it says what to cancel."""
        task = a_task(world, deferrable=False, execution_timeout=timedelta(days=1))
        if slow:
            world.airbyte.configure(latency=5.0)

        at_the_start(world, ring)

        with pytest.raises(JobTimedOut, match=f"{LATE}; it was cancelled"):
            task.execute()

        assert world.starts == 1
        assert world.running == []
        assert world.elapsed() < 60

    @every_vendor
    def test_while_a_start_is_lost(self, case: Case, world: KillWorld) -> None:
        """Its job is looked for, and is cancelled."""
        task = a_task(world, deferrable=False, execution_timeout=timedelta(days=1))
        path = f"*{case.start_path}"
        world.airbyte.faults.add(
            Fault(kind="reset", method="POST", path=path, takes_effect=True)
        )
        away = Fault(kind="status", method="GET", status=502, times=None, lasts=30)
        at_the_start(world, lambda: world.airbyte.faults.add(away))
        world.signals.append((20.0, ring))

        with pytest.raises(JobTimedOut, match=f"{LATE}; it was cancelled"):
            task.execute()

        assert world.starts == 1
        assert world.running == []

    @every_vendor
    def test_while_a_start_is_lost_that_took_no_effect(
        self, case: Case, world: KillWorld
    ) -> None:
        task = a_task(world, deferrable=False, execution_timeout=timedelta(days=1))
        path = f"*{case.start_path}"
        world.airbyte.faults.add(Fault(kind="reset", method="POST", path=path))
        world.signals.append((20.0, ring))

        with pytest.raises(JobTimedOut, match="a start was not answered"):
            task.execute()

        assert (world.starts, world.cancels) == (0, 0)
        assert world.elapsed() < 200

    @every_vendor
    @every_way
    def test_a_retry_that_could_not_look_at_its_job_yet(
        self, case: Case, world: KillWorld, how: str
    ) -> None:
        task = a_task(world, deferrable=True)
        deferred(task.execute())
        task.retry()
        began = world.elapsed()
        away = Fault(kind="status", method="GET", status=502, times=None, lasts=98)
        world.airbyte.faults.add(away)
        limit = at_the_limit(world, how, began + 100.0)
        task.make = a_task(world, deferrable=False, execution_timeout=limit).make

        with pytest.raises(JobTimedOut, match=f"{LATE}; it was cancelled"):
            task.execute()

        assert world.starts == 1
        assert world.running == []

    @every_vendor
    @every_way
    def test_a_job_that_ends_by_itself_right_then(
        self, case: Case, world: KillWorld, how: str
    ) -> None:
        limit = at_the_limit(world, how)
        task = a_task(world, deferrable=False, execution_timeout=limit)
        world.signals.append((99.9, world.finish_all))

        task.execute()

        assert world.cancels == 0

    @every_vendor
    def test_an_alarm_while_the_cancel_is_confirmed(
        self, case: Case, world: KillWorld
    ) -> None:
        """Airflow's clock started later than ours."""
        task = a_task(world, deferrable=False, execution_timeout=timedelta(seconds=100))
        world.airbyte.configure(**case.slow_cancel)
        world.signals.append((104.0, ring))

        with pytest.raises(JobTimedOut, match=f"{LATE}; it was cancelled"):
            task.execute()

        assert world.running == []
        assert world.cancels == 1

    @every_vendor
    @every_way
    def test_what_may_not_be_cancelled_runs_on(
        self, case: Case, world: KillWorld, how: str
    ) -> None:
        task = a_task(
            world,
            deferrable=False,
            cancel_on_timeout=False,
            execution_timeout=at_the_limit(world, how),
        )

        with pytest.raises(JobTimedOut, match=f"{LATE}; it is left running"):
            task.execute()

        assert len(world.running) == 1
        assert world.cancels == 0

    @every_vendor
    def test_a_moment_that_is_too_short_starts_nothing(
        self, case: Case, world: KillWorld
    ) -> None:
        task = a_task(world, deferrable=False, execution_timeout=timedelta(seconds=0.3))
        world.airbyte.configure(latency=0.2)

        with pytest.raises(JobTimedOut):
            task.execute()

        assert world.running == []
        assert world.starts == world.cancels

    @every_vendor
    @pytest.mark.parametrize("state", ["failed", "running"])
    def test_a_stop_while_the_cancel_is_confirmed(
        self, case: Case, world: KillWorld, state: str
    ) -> None:
        task = a_task(world, deferrable=False, execution_timeout=timedelta(seconds=100))
        world.states["sync", -1] = state
        world.airbyte.configure(**case.slow_cancel)
        stop_after(task, 104.0)

        with pytest.raises(TaskKilled):
            task.execute()

        world.pass_time(60.0)
        assert world.running == []


def at_the_start(world: KillWorld, act: Callable[[], object]) -> None:
    """Do something while the request is under way that starts a job."""
    start = world.case.start_path

    def listen(asked: SimRequest) -> None:
        if asked.method == "POST" and asked.path.endswith(start):
            world.on_request.remove(listen)
            act()

    world.on_request.append(listen)
