"""A task that is stopped while it waits until it can come back to its start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.remote_job import AirbyteJobRequest
from async_triggers.deferral import compat
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill, needs_on_kill
from tests.unit.deferral.stage import Deferral, Task, TaskInstance, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import (
    AIRBYTE,
    DBT_CLOUD,
    FIVETRAN,
    every_vendor,
    has_a_schedule,
    in_each_others_way,
)
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest

OUTAGE = 90.0
TOKEN = "async_triggers_owner"


class Scene:
    """One vendor's world, and a task in it whose start is not answered."""

    def __init__(
        self,
        world: VendorWorld,
        *,
        takes_effect: bool = True,
        outage: float = OUTAGE,
        **arguments: Any,
    ) -> None:
        self.world, self.case = world, world.case
        world.add_target(*[world.case.life()] * 3)
        self.task = Task(world, world.case.sync(**arguments))
        self._outage = outage
        fault = Fault(
            kind="reset",
            method="POST",
            path=world.case.start["path"],
            takes_effect=takes_effect,
        )
        world.vendor.faults.add(fault)
        world.on_request.append(self._break)

    def _break(self, asked: SimRequest) -> None:
        """Let the vendor be out of reach from the start on."""
        if asked.method == "POST" and asked.path.endswith(self.case.start_path):
            self.world.on_request.remove(self._break)
            outage = Fault(
                kind="status", method="GET", times=None, lasts=self._outage, status=502
            )
            self.world.vendor.faults.add(outage)

    def begin(self) -> Deferral:
        """Run the worker's segment, which ends with the wait for another look."""
        found = deferred(self.task.execute())
        assert found.method == "execute_start"
        return found

    def running(self) -> list[str]:
        """Return the jobs that have not ended."""
        return [view.job for view in self.world.vendor.jobs()]

    def kill(
        self,
        deferral: Deferral,
        state: object = "failed",
        *,
        after: float = 5.0,
        instance: TaskInstance | None = None,
        lives_on: float = 1500.0,
    ) -> None:
        """Do what the triggerer does when a trigger is no longer its own."""
        trigger = self.task.trigger(deferral)
        if instance is not None:
            trigger.task_instance = instance

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
            self.world.states["sync", -1] = state  # type: ignore[assignment]
            while not waiting.done():
                # Again and again: the first one is all that on_kill gets.
                waiting.cancel()
                await asyncio.wait({waiting}, timeout=1.0)

            await asyncio.sleep(lives_on)

        asyncio.run(main())


Set = Callable[..., Scene]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Return what sets a scene."""

    def set_it(case: Case, **how: Any) -> Scene:
        return Scene(make_vendor_world(monkeypatch, case), **how)

    return set_it


def test_what_is_stored_of_the_trigger_is_pinned(scene: Set) -> None:
    here = scene(AIRBYTE)

    deferral = here.begin()

    assert deferral.classpath == "async_triggers.deferral.start_later.StartLaterTrigger"
    assert sorted(deferral.arguments) == [
        "max_tries",
        "moment",
        "record",
        "request",
        "version",
    ]
    assert deferral.arguments["request"]["class"] == (
        "async_triggers.airbyte.remote_job.AirbyteJobRequest"
    )
    again = here.task.trigger(deferral)
    assert again.serialize() == (deferral.classpath, deferral.arguments)


@every_vendor
def test_left_in_peace_the_task_finds_its_job(scene: Set, case: Case) -> None:
    here = scene(case)
    outcome: Any = here.begin()

    while outcome.method == "execute_start":
        outcome = here.task.resume(outcome, here.task.wait(outcome))

    assert here.world.starts == 1
    assert len(here.running()) == 1
    assert here.world.cancels == 0


@every_vendor
@pytest.mark.parametrize("state", ["failed", "success", "skipped", None])
def test_a_stopped_task_stops_the_job(
    scene: Set, case: Case, state: str | None
) -> None:
    here = scene(case)

    here.kill(here.begin(), state)

    assert here.world.starts == 1
    assert here.world.cancels == 1
    assert here.running() == []


@every_vendor
def test_a_start_that_took_no_effect_leaves_nothing_to_stop(
    scene: Set, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    here = scene(case, takes_effect=False)

    here.kill(here.begin())

    assert (here.world.starts, here.world.cancels) == (0, 0)
    assert "Settling the kill goes on" in caplog.text


@every_vendor
@pytest.mark.parametrize(
    ("state", "token"),
    [
        pytest.param("deferred", "own", id="taken over"),
        pytest.param("deferred", None, id="no token"),
        pytest.param("up_for_retry", "own", id="retry to come"),
        pytest.param("scheduled", "own", id="taken over and resumed"),
        pytest.param("running", "own", id="taken over, and on a worker"),
        pytest.param("running", None, id="cleared, and the new attempt has begun"),
        pytest.param(RuntimeError("?"), "own", id="not known"),
    ],
)
def test_what_is_no_stop_leaves_the_job_alone(
    scene: Set, case: Case, state: object, token: str | None
) -> None:
    here = scene(case)
    deferral = here.begin()
    assert here.task.xcoms[TOKEN]["try"] == 1
    if token is None:
        del here.task.xcoms[TOKEN]

    here.kill(deferral, state)

    assert here.world.cancels == 0
    assert len(here.running()) == 1


@every_vendor
def test_a_retry_that_looks_for_the_job_as_well_keeps_it(
    scene: Set, case: Case
) -> None:
    here = scene(case, outage=200.0)
    old, before = here.begin(), here.task.instance
    here.task.retry()
    new = here.begin()
    assert here.task.xcoms[TOKEN]["try"] == 2

    here.kill(old, "deferred", instance=before)

    assert here.world.cancels == 0
    outcome: Any = here.task.resume(new, here.task.wait(new))
    assert outcome.method == "execute_complete"
    assert here.world.starts == 1


@every_vendor
def test_a_cleared_task_replaces_the_job_and_the_old_trigger_does_no_harm(
    scene: Set, case: Case
) -> None:
    here = scene(case, outage=20.0)
    old, before = here.begin(), here.task.instance
    here.world.pass_time(30)
    here.task.clear()
    new: Any = here.task.execute()
    while new.method == "execute_start":
        new = here.task.resume(new, here.task.wait(new))

    here.kill(old, "deferred", instance=before)

    assert here.world.starts == 2
    assert here.world.cancels == 1
    assert len(here.running()) == 1


def test_a_cleared_task_whose_new_attempt_is_stopped_stops_the_old_job(
    scene: Set,
) -> None:
    here = scene(AIRBYTE, outage=200.0)
    here.begin()
    here.task.clear()

    here.kill(here.begin())

    assert here.world.starts == 1
    assert here.running() == []


@every_vendor
def test_a_task_that_may_not_cancel_only_waits(scene: Set, case: Case) -> None:
    here = scene(case, cancel_on_kill=False)

    assert here.begin().classpath.endswith(".MomentTrigger")
    assert TOKEN not in here.task.xcoms


def test_a_request_of_a_dag_file_only_waits(
    scene: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(AIRBYTE)
    monkeypatch.setattr(AirbyteJobRequest, "__module__", "unusual_prefix_1a2b_my_dag")

    assert here.begin().classpath.endswith(".MomentTrigger")


# Jobs of others -------------------------------------------------------------------------


@every_vendor
def test_a_job_that_somebody_else_starts_much_later_is_left_alone(
    scene: Set, case: Case
) -> None:
    here = scene(case, takes_effect=False, outage=400.0)
    deferral = here.begin()
    here.world.signals.append(
        (here.world.elapsed() + 350.0, lambda: here.world.add_foreign(case.life()))
    )

    here.kill(deferral)

    assert here.world.cancels == 0
    assert len(here.running()) == 1


@has_a_schedule
def test_a_job_that_the_vendors_schedule_may_have_started_is_left_alone(
    scene: Set, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    here = scene(case, **case.unscheduled)
    case.schedule(here.world.vendor, case.target)

    here.kill(here.begin())

    assert here.world.cancels == 0
    assert len(here.running()) == 1
    assert "so may another user" in caplog.text


def test_a_run_without_a_mark_is_left_alone(
    scene: Set, caplog: pytest.LogCaptureFixture
) -> None:
    """Other runs of the DAG start runs of dbt Cloud with the same cause."""
    here = scene(DBT_CLOUD, mark_cause=False)

    here.kill(here.begin())

    assert here.world.cancels == 0
    assert len(here.running()) == 1
    assert "so may another user" in caplog.text


@in_each_others_way
def test_the_job_that_came_after_ours_is_left_alone(scene: Set, case: Case) -> None:
    here = scene(case)
    deferral = here.begin()

    def another() -> None:
        (job,) = here.running()
        here.world.vendor.finish(job, case.ends["success"])
        here.world.add_foreign(case.life())

    here.world.signals.append((here.world.elapsed() + 40.0, another))

    here.kill(deferral)

    assert here.world.cancels == 0
    assert len(here.running()) == 1


def test_without_the_servers_time_no_job_of_airbyte_is_told_from_others(
    scene: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(AIRBYTE)
    respond = here.world.vendor.respond

    def undated(request: SimRequest) -> Any:
        reply = respond(request)
        reply.headers.pop("Date", None)
        return reply

    monkeypatch.setattr(here.world.vendor, "respond", undated)

    here.kill(here.begin())

    assert here.world.cancels == 0
    assert len(here.running()) == 1


def date_wrongly(world: VendorWorld, skew: float, *, first: int, count: int) -> None:
    """Let a proxy date some answers by a clock of its own."""
    ask: Callable[[SimRequest], SimReply] = world.vendor.respond
    seen = 0

    def respond(asked: SimRequest) -> SimReply:
        nonlocal seen
        seen += 1
        reply = ask(asked)
        if not first <= seen < first + count or "Date" not in reply.headers:
            return reply

        moment = parsedate_to_datetime(reply.headers["Date"]).timestamp() + skew
        headers = {**reply.headers, "Date": formatdate(moment, usegmt=True)}
        return replace(reply, headers=headers)

    world.vendor.respond = respond


SKEWED = pytest.mark.parametrize("skew", [-3600.0, -400.0, 400.0, 3600.0])
SPANS = pytest.mark.parametrize(
    ("first", "count"),
    [(1, 10_000), (1, 1), (1, 3), (2, 1), (4, 10_000)],
    ids=["all", "the first", "until the start", "the second", "after the start"],
)


@SKEWED
@SPANS
@every_vendor
def test_whatever_the_time_of_an_answer_is_our_own_job_is_stopped(
    scene: Set, case: Case, skew: float, first: int, count: int
) -> None:
    here = scene(case)
    date_wrongly(here.world, skew, first=first, count=count)

    here.kill(here.begin())

    assert here.running() == []


@SKEWED
@SPANS
@every_vendor
def test_whatever_the_time_of_an_answer_is_a_later_job_of_others_is_left_alone(
    scene: Set, case: Case, skew: float, first: int, count: int
) -> None:
    here = scene(case, takes_effect=False, outage=800.0)
    date_wrongly(here.world, skew, first=first, count=count)
    deferral = here.begin()
    here.world.signals.append(
        (here.world.elapsed() + 750.0, lambda: here.world.add_foreign(case.life()))
    )

    here.kill(deferral)

    assert here.world.cancels == 0
    assert len(here.running()) == 1


def test_long_after_its_start_a_sync_of_fivetran_is_known_by_the_history(
    scene: Set,
) -> None:
    here = scene(FIVETRAN, outage=500.0)

    here.kill(here.begin())

    assert here.world.cancels == 1
    assert here.running() == []


def test_long_after_its_start_and_without_the_history_a_sync_is_left_alone(
    scene: Set,
) -> None:
    here = scene(FIVETRAN, outage=500.0)
    here.world.vendor.configure(sync_history=False)

    here.kill(here.begin())

    assert here.world.cancels == 0
    assert len(here.running()) == 1


# Trouble --------------------------------------------------------------------------------


@every_vendor
def test_an_outage_that_does_not_end_is_told(
    scene: Set, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    here = scene(case, outage=7200.0)

    here.kill(here.begin(), lives_on=3600)

    assert here.world.cancels == 0
    assert caplog.text.count("could not be looked for") == 1


def test_a_connection_that_is_lost_is_told(
    scene: Set, caplog: pytest.LogCaptureFixture
) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()
    del here.world.connections["airbyte_default"]

    here.kill(deferral)

    assert "that was not answered could not be cancelled" in caplog.text


def test_a_request_that_cannot_be_read_is_reported(
    scene: Set, caplog: pytest.LogCaptureFixture
) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()
    deferral.arguments["request"]["fields"]["gone"] = 1

    here.kill(deferral)

    assert "What was started could not be cancelled" in caplog.text


@needs_on_kill
def test_a_wait_for_nothing_but_time_does_nothing_when_it_is_killed() -> None:
    asyncio.run(MomentTrigger(1.0).on_kill())


# On the way to a worker -----------------------------------------------------------------


Change = tuple[float, Callable[[], None]]
"""Something that happens so many seconds after the event."""


def fire(
    here: Scene, deferral: Deferral, *changes: Change, lives_on: float = 5000.0
) -> None:
    """Let the trigger fire, and then what happens to its task."""
    trigger = here.task.trigger(deferral)
    here.world.states["sync", -1] = "deferred"

    async def main() -> None:
        assert len([event async for event in trigger.run()]) == 1
        passed = 0.0
        for after, change in changes:
            await asyncio.sleep(after - passed)
            passed = after
            change()

        await asyncio.sleep(lives_on - passed)

    asyncio.run(main())


def becomes(here: Scene, state: object) -> Callable[[], None]:
    """Return what changes the state of the task."""

    def change() -> None:
        here.world.states["sync", -1] = state  # type: ignore[assignment]

    return change


@every_vendor
@pytest.mark.parametrize("before", ["deferred", "scheduled", "queued", "running"])
@pytest.mark.parametrize("state", ["failed", "success", None])
def test_a_task_that_is_stopped_before_its_worker_has_it_stops_the_job(
    scene: Set, case: Case, before: str, state: str | None
) -> None:
    here = scene(case)

    fire(
        here,
        here.begin(),
        (1.0, becomes(here, before)),
        (100.0, becomes(here, state)),
    )

    assert here.world.starts == 1
    assert here.world.cancels == 1
    assert here.running() == []


def test_a_kill_after_the_event_is_settled_once(scene: Set) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()
    trigger = here.task.trigger(deferral)

    async def main() -> None:
        assert len([event async for event in trigger.run()]) == 1
        here.world.states["sync", -1] = "failed"
        await trigger.on_kill()
        await asyncio.sleep(600)

    asyncio.run(main())

    assert here.world.cancels == 1


@every_vendor
def test_a_task_that_its_worker_has_is_watched_no_more(scene: Set, case: Case) -> None:
    here = scene(case, outage=400.0)
    first = here.begin()
    assert here.task.xcoms[TOKEN]["moment"] == first.moment
    second: Any = here.task.resume(first, here.task.wait(first))
    # It looks for the job still, and waits for another moment.
    assert second.classpath == first.classpath
    assert here.task.xcoms[TOKEN]["moment"] == second.moment != first.moment

    fire(here, first, (10.0, becomes(here, "failed")))

    assert here.world.cancels == 0
    outcome = second
    while outcome.method == "execute_start":
        outcome = here.task.resume(outcome, here.task.wait(outcome))

    assert "moment" not in here.task.xcoms[TOKEN]


@pytest.mark.parametrize(
    "state",
    [
        pytest.param("failed", id="a new attempt has begun"),
        pytest.param("up_for_retry", id="the worker died"),
        pytest.param("queued", id="queued for hours"),
        pytest.param("no_status", id="cleared, or put back by a scheduler"),
    ],
)
def test_a_task_that_goes_on_keeps_its_job(scene: Set, state: str) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()

    def change() -> None:
        becomes(here, state)()
        if state == "failed":
            here.task.xcoms.clear()

    fire(here, deferral, (20.0, change))

    assert here.world.cancels == 0
    assert len(here.running()) == 1


def test_a_task_is_watched_while_airflow_cannot_be_asked(scene: Set) -> None:
    here = scene(AIRBYTE)

    fire(
        here,
        here.begin(),
        (1.0, becomes(here, RuntimeError("the database is down"))),
        (300.0, becomes(here, "failed")),
    )

    assert here.world.cancels == 1


def test_a_task_is_not_watched_for_ever(
    scene: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()
    asked: list[float] = []
    task_state = compat.task_state

    async def counting(ti: Any) -> str | None:
        asked.append(here.world.elapsed())
        return await task_state(ti)

    monkeypatch.setattr(compat, "task_state", counting)

    fire(here, deferral, (5000.0, becomes(here, "failed")), lives_on=9000.0)

    assert 3500 < asked[-1] - asked[0] < 3700
    assert len(asked) < 300
    assert here.world.cancels == 0


# A job of an earlier attempt ------------------------------------------------------------


def come_back_in_an_outage(here: Scene) -> Deferral:
    """Return the wait of an attempt that cannot look at the job of the one before."""
    outage = Fault(kind="status", method="GET", times=None, lasts=OUTAGE, status=502)
    here.world.vendor.faults.add(outage)
    found = deferred(here.task.execute())
    assert found.method == "execute_start"
    return found


def retried(here: Scene) -> Deferral:
    """Return the wait of a retry that cannot look at the job of the first attempt."""
    here.task.execute()
    assert len(here.running()) == 1
    here.task.retry()
    return come_back_in_an_outage(here)


@pytest.fixture
def started(scene: Set) -> Set:
    """Return what sets a scene whose start is answered."""

    def set_it(case: Case, **how: Any) -> Scene:
        here = scene(case, **how)
        here.world.vendor.faults.clear()
        here.world.on_request.clear()
        return here

    return set_it


@every_vendor
def test_a_stopped_retry_stops_the_job_that_it_could_not_look_at(
    started: Set, case: Case
) -> None:
    here = started(case)

    here.kill(retried(here))

    assert here.world.starts == 1
    assert here.world.cancels == 1
    assert here.running() == []


@every_vendor
@pytest.mark.parametrize("state", ["deferred", "scheduled", "running", "up_for_retry"])
def test_a_retry_that_goes_on_keeps_the_job_that_it_could_not_look_at(
    started: Set, case: Case, state: str
) -> None:
    here = started(case)
    deferral = retried(here)

    here.kill(deferral, state)

    assert here.world.cancels == 0
    outcome: Any = here.task.resume(deferral, here.task.wait(deferral))
    assert outcome.method == "execute_complete"
    assert here.world.starts == 1


@in_each_others_way
def test_a_retry_that_attached_to_a_job_of_others_leaves_it_alone(
    started: Set, case: Case
) -> None:
    here = started(case, if_running="attach")
    here.world.add_foreign(case.life())

    deferral = retried(here)

    assert deferral.classpath.endswith(".MomentTrigger")
    here.kill(deferral)
    assert (here.world.starts, here.world.cancels) == (0, 0)


@every_vendor
def test_a_cleared_task_that_is_stopped_stops_the_job_that_it_could_not_end(
    started: Set, case: Case
) -> None:
    here = started(case)
    here.task.execute()
    here.task.clear()

    here.kill(come_back_in_an_outage(here))

    assert here.world.starts == 1
    assert here.world.cancels == 1
    assert here.running() == []
