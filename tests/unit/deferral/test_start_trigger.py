"""Starts that are made on the triggerer."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.remote_job import AirbyteJobRequest
from async_triggers.deferral import compat, start_trigger
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import (
    AirflowNotFoundException,
    AirflowSkipException,
    TaskDeferralError,
)
from async_triggers.deferral.errors import (
    JobAlreadyRunning,
    JobFailed,
    JobTimedOut,
    VendorRefused,
)
from async_triggers.deferral.record import KEY, UNSETTLED_KEY
from async_triggers.deferral.starting import Starting
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill, end_with_the_loop
from tests.unit.deferral.stage import Deferral, Task, XCom, deferred, log, the_event
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor, in_each_others_way
from tests.vendors import Entry as Case


@dataclass(frozen=True, slots=True)
class Scene:
    """One vendor's world and a task in it that leaves its start to the trigger."""

    world: VendorWorld
    case: Case
    task: Task

    def fault(self, kind: str, **how: Any) -> None:
        """Make something go wrong with the start."""
        given = {**self.case.start, "kind": kind, **how}
        self.world.vendor.faults.add(Fault(**given))

    def begin(self) -> Deferral:
        """Run the worker's segment."""
        return deferred(self.task.execute())

    def running(self) -> list[str]:
        """Return the jobs that have not ended."""
        return [view.job for view in self.world.vendor.jobs()]


Set = Callable[..., Scene]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Return what sets a scene."""

    def set_it(case: Case, *lives: str, **arguments: Any) -> Scene:
        world = make_vendor_world(monkeypatch, case)
        world.add_target(*(lives or (case.life("success"),)))
        given = {"start_in_trigger": True, **arguments}
        return Scene(world, case, Task(world, case.sync(**given)))

    return set_it


# As on a worker -----------------------------------------------------------------------


@every_vendor
def test_the_worker_asks_the_vendor_nothing(scene: Set, case: Case) -> None:
    here = scene(case)

    deferral = here.begin()

    assert deferral.classpath.endswith(".start_trigger.StartTrigger")
    assert here.world.requests == []
    assert json.dumps(deferral.arguments)


@every_vendor
def test_it_ends_as_a_start_on_the_worker_does(scene: Set, case: Case) -> None:
    found = []
    for start_in_trigger in (False, True):
        here = scene(case, start_in_trigger=start_in_trigger)
        returned = here.task.run()
        assert here.world.starts == 1
        xcoms = dict(here.task.xcoms)
        token = xcoms.pop(compat.OWNER_KEY)
        xcoms = {key: value for key, value in xcoms.items() if "Link" not in key}
        record = here.task.store.values[KEY]
        told = token["job_id"], record["job_id"], record["owned"]
        found.append((xcoms, told, returned))
        assert UNSETTLED_KEY not in here.task.store.values

    assert found[0] == found[1]


@every_vendor
def test_the_link_is_there_while_the_job_runs(scene: Set, case: Case) -> None:
    here = scene(case, end_from_trigger=True)

    here.task.end(here.begin())

    (key,) = (each.xcom_key for each in here.task.make().operator_extra_links)
    link = here.task.xcoms[key]
    assert link.startswith("http")


@every_vendor
def test_a_job_that_fails_fails_the_task(scene: Set, case: Case) -> None:
    here = scene(case, case.life("error"))

    with pytest.raises(JobFailed):
        here.task.run()


@every_vendor
def test_the_trigger_may_end_the_task_as_well(scene: Set, case: Case) -> None:
    here = scene(case, case.life("error"), case.life("success"), end_from_trigger=True)

    assert type(here.task.end(here.begin())) is TaskFailedEvent
    here.task.retry()
    assert type(here.task.end(here.begin())) is TaskSuccessEvent

    assert here.world.starts == 2
    assert here.task.xcoms[case.statistics_key]["attached"] is False
    assert compat.RETURN_KEY in here.task.xcoms


def test_a_retry_from_failure_learns_what_has_failed(scene: Set) -> None:
    here = scene(
        DBT_CLOUD,
        DBT_CLOUD.life("error"),
        DBT_CLOUD.life("success"),
        end_from_trigger=True,
        retry_from_failure=True,
    )
    deferral = here.begin()
    event = here.task.end(deferral)
    assert type(event) is TriggerEvent
    with pytest.raises(JobFailed):
        here.task.resume(deferral, event.payload)

    here.task.retry()
    assert type(here.task.end(here.begin())) is TaskSuccessEvent

    assert "retrying_run_id" in here.world.vendor.record.started[-1].details


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        pytest.param(AIRBYTE, {"asynchronous": True}, id="airbyte"),
        pytest.param(FIVETRAN, {"wait_for_completion": False}, id="fivetran"),
        pytest.param(DBT_CLOUD, {"wait_for_termination": False}, id="dbt_cloud"),
    ],
)
def test_a_task_that_does_not_wait_hands_back_what_it_does_on_a_worker(
    scene: Set, case: Case, arguments: dict[str, Any]
) -> None:
    returned = []
    for start_in_trigger in (False, True):
        here = scene(case, case.life(), start_in_trigger=start_in_trigger, **arguments)
        returned.append(here.task.run())
        assert here.running()

    assert returned[0] == returned[1]


def test_a_baseline_is_handed_back_also_where_the_trigger_ends_the_task(
    scene: Set,
) -> None:
    """A retry may find that the sync has ended: a sensor waits for that success."""
    here = scene(FIVETRAN, FIVETRAN.life("success"), wait_for_completion=False)
    here.task.make = FIVETRAN.sync(wait_for_completion=False)
    before = here.task.execute()
    here.world.pass_time(300)
    here.task.retry()
    here.task.make = FIVETRAN.sync(
        wait_for_completion=False, start_in_trigger=True, end_from_trigger=True
    )
    event = here.task.end(deferred(here.task.execute()))

    assert isinstance(event, TaskSuccessEvent)
    assert here.task.xcoms["return_value"] == before
    assert here.world.starts == 1


@every_vendor
def test_outside_of_a_triggerer_it_starts_all_the_same(scene: Set, case: Case) -> None:
    """In dag.test() a trigger has no task instance, and nowhere to keep a claim."""
    here = scene(case, case.life("success"))
    deferral = here.begin()
    trigger = here.task.trigger(deferral)
    trigger.task_instance = None

    payload = asyncio.run(the_event(trigger))

    # And its kwargs are lost.
    deferral.kwargs.clear()
    assert here.task.resume(deferral, payload)
    assert here.world.starts == 1


# Arguments ----------------------------------------------------------------------------


@every_vendor
def test_it_needs_a_trigger(case: Case) -> None:
    with pytest.raises(
        ArgumentUnusable, match="start_in_trigger needs deferrable=True"
    ):
        case.sync(start_in_trigger=True, deferrable=False)()


def test_a_missing_connection_fails_the_task_on_the_worker(scene: Set) -> None:
    here = scene(AIRBYTE)
    here.world.connections.clear()

    with pytest.raises(AirflowNotFoundException):
        here.task.execute()


class _Own(AirbyteTriggerSyncOperator):
    """A class that no triggerer need know."""


def _own(**given: Any) -> _Own:
    return _Own(
        task_id="sync",
        connection_id=str(AIRBYTE.target),
        deferrable=True,
        start_in_trigger=True,
        **given,
    )


def test_the_operator_may_be_a_class_that_no_triggerer_knows(scene: Set) -> None:
    here = scene(AIRBYTE)
    here.task.make = _own

    deferral = here.begin()

    assert deferral.classpath.endswith("StartTrigger")
    assert here.task.go_on(deferral) == 1


def test_a_request_of_a_dag_file_is_started_on_the_worker_and_says_so(
    scene: Set, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    here = scene(AIRBYTE)
    monkeypatch.setattr(AirbyteJobRequest, "__module__", "unusual_prefix_1a2b_my_dag")

    deferral = here.begin()

    assert deferral.classpath.endswith("AirbyteSyncTrigger")
    assert (
        "start_in_trigger is ignored: the triggerer cannot import AirbyteJobRequest"
        in caplog.text
    )


def test_what_is_stored_of_the_trigger_is_pinned(scene: Set) -> None:
    # Airflow's database holds these words: they may be added to, never changed.
    here = scene(AIRBYTE, timeout=100)

    deferral = here.begin()

    assert deferral.classpath == "async_triggers.deferral.start_trigger.StartTrigger"
    assert deferral.arguments == {
        "request": {
            "v": 1,
            "class": "async_triggers.airbyte.remote_job.AirbyteJobRequest",
            "fields": {
                "conn_id": "airbyte_default",
                "address": "",
                "api_version": "v1",
                "cancel_on_kill": True,
                "cancel_on_timeout": True,
                "connection_id": "connection-uuid-123",
                "connection_name": None,
                "found_id": "",
                "if_running": "wait",
                "job_type": "sync",
                "poll_interval": 3,
                "waits": True,
                "workspace_id": None,
                "workspace_name": None,
            },
        },
        "max_tries": 2,
        "end_time": here.world.now() + 100,
        "execution_deadline": None,
        "record": None,
        "unsettled": None,
        "links": ["_link_AirbyteJobLink"],
        "announces": True,
        "ending": None,
        "version": 1,
    }


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"v": 2}, "has version 2, this package reads 1: run the same release"),
        ({"class": "another.release.Request"}, "is another.release installed there"),
        (
            {"class": "async_triggers.airbyte.api.Connection"},
            "cannot make a Connection",
        ),
        ({"fields": {"renamed": 1}}, "renamed"),
    ],
)
def test_a_request_of_another_release_fails_the_task(
    scene: Set, change: dict[str, Any], match: str
) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()
    deferral.arguments["request"].update(change)

    with pytest.raises(VendorRefused, match=match):
        here.task.go_on(deferral)


# Nothing twice --------------------------------------------------------------------------


class Died(SystemExit):
    """The triggerer is gone."""


@pytest.fixture
def burial() -> Iterator[None]:
    """Collect what died half done here: it complains in the log as it is collected."""
    yield
    gc.collect()


class Mortal:
    """Counts what a triggerer does to the outside, and has it die at one such step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, world: VendorWorld) -> None:
        self.step = 0
        self.dies_at: int | None = None
        self.after = False
        respond, put = world.vendor.respond, XCom.set

        def answer(request: Any) -> Any:
            return self._do(lambda: respond(request))

        async def aset(xcom: Any, key: str, value: Any, **place: Any) -> None:
            self._do(lambda: put(xcom, key, value, **place))

        monkeypatch.setattr(world.vendor, "respond", answer)
        monkeypatch.setattr(XCom, "aset", aset)

    def _do(self, work: Callable[[], Any]) -> Any:
        if self.dies_at is not None and self.step > self.dies_at:
            raise asyncio.CancelledError

        self.step += 1
        if self.dies_at is not None and self.step > self.dies_at:
            if self.after:
                work()
            raise Died
        return work()

    def revive(self) -> None:
        self.step, self.dies_at = 0, None


def _steps(monkeypatch: pytest.MonkeyPatch, here: Scene) -> int:
    """Return how many steps a triggerer takes until a job is waited for."""
    mortal = Mortal(monkeypatch, here.world)
    here.task.end(here.begin())
    return min(mortal.step, 14)


@pytest.mark.usefixtures("burial")
@every_vendor
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_triggerer_that_dies_at_any_step_starts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, scene: Set, case: Case, after: bool
) -> None:
    steps = _steps(monkeypatch, scene(case))
    assert steps > 5
    for step in range(steps):
        here = scene(case)
        mortal = Mortal(monkeypatch, here.world)
        deferral = here.begin()
        mortal.dies_at, mortal.after = step, after
        with pytest.raises(Died):
            here.task.end(deferral)

        mortal.revive()
        returned = here.task.go_on(deferral)

        assert here.world.starts == 1, step
        assert returned is not None


@pytest.mark.usefixtures("burial")
@every_vendor
def test_a_crash_of_the_trigger_is_carried_over_to_the_retry(
    monkeypatch: pytest.MonkeyPatch, scene: Set, case: Case
) -> None:
    """Whatever is known then: the intent alone, or the job."""
    steps = _steps(monkeypatch, scene(case))
    for step in range(steps):
        here = scene(case)
        mortal = Mortal(monkeypatch, here.world)
        deferral = here.begin()
        mortal.dies_at, mortal.after = step, True
        with pytest.raises(Died):
            here.task.end(deferral)

        mortal.revive()
        operator: Any = here.task.make()
        operator._cached_logger = log
        with pytest.raises(TaskDeferralError):
            operator.resume_execution(
                "__fail__", {"error": "Trigger failure"}, here.task.context()
            )
        here.task.retry()
        here.task.run()

        assert here.world.starts == 1, step


@every_vendor
def test_airflows_own_timeout_cancels_the_job_that_was_claimed(
    scene: Set, case: Case
) -> None:
    here = scene(case, case.life())
    _abandon(here, 30)

    here.task.expire()

    assert here.world.cancels == 1


def _abandon(here: Scene, seconds: float) -> Deferral:
    """Let a triggerer wait for a while, and stop it."""
    deferral = here.begin()

    async def wait() -> None:
        waiting = asyncio.create_task(the_event(here.task.trigger(deferral)))
        await asyncio.sleep(seconds)
        await end_with_the_loop([waiting])

    asyncio.run(wait())
    return deferral


@every_vendor
@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_start_whose_answer_is_lost_is_looked_for(
    scene: Set, case: Case, takes_effect: bool
) -> None:
    here = scene(case)
    here.fault("reset", takes_effect=takes_effect)

    here.task.run()

    assert here.world.starts == 1


@every_vendor
def test_an_outage_is_waited_out_without_a_worker(scene: Set, case: Case) -> None:
    here = scene(case)
    here.world.vendor.faults.add(Fault(kind="status", times=40))
    deferral = here.begin()

    event = here.task.wait(deferral)

    assert event["status"] == "success"
    assert here.world.starts == 1


def test_two_triggerers_at_once_start_one_job(scene: Set) -> None:
    here = scene(AIRBYTE)
    deferral = here.begin()

    async def both() -> list[Any]:
        triggers = [here.task.trigger(deferral) for _ in range(2)]
        return await asyncio.gather(*map(the_event, triggers))

    first, second = asyncio.run(both())

    assert here.world.starts == 1
    assert first["job_id"] == second["job_id"] == 1


def test_a_triggerer_that_was_frozen_leaves_the_start_to_the_one_that_took_over(
    monkeypatch: pytest.MonkeyPatch, scene: Set
) -> None:
    """Frozen between the intent and the start, which it would have made next."""
    here = scene(AIRBYTE, AIRBYTE.life("success", lasts=300))
    deferral = here.begin()
    thawed = asyncio.Event()
    expect = start_trigger._TriggerDesk._expect

    async def frozen(desk: Any, name: str | None) -> None:
        if desk._trigger is old and name == desk._name:
            await thawed.wait()
        await expect(desk, name)

    monkeypatch.setattr(start_trigger._TriggerDesk, "_expect", frozen)
    # They stand for two triggerers, which share no places for starts.
    monkeypatch.setattr(start_trigger._TriggerDesk, "turn", lambda _: nullcontext())
    old, new = here.task.trigger(deferral), here.task.trigger(deferral)

    async def both() -> None:
        one = asyncio.create_task(the_event(old))
        await asyncio.sleep(1)
        other = asyncio.create_task(the_event(new))
        # A start that may yet show up is waited for.
        await asyncio.sleep(120)
        assert here.world.starts == 1
        assert not other.done()
        thawed.set()
        await asyncio.gather(one, other)

    asyncio.run(both())

    assert here.world.starts == 1


def _take_over(
    monkeypatch: pytest.MonkeyPatch, here: Scene, deferral: Deferral, frozen: Frozen
) -> None:
    """Let a second triggerer take over from one that is frozen, which then wakes up."""
    # They stand for two triggerers, which share no places for starts.
    monkeypatch.setattr(start_trigger._TriggerDesk, "turn", lambda _: nullcontext())
    old, new = here.task.trigger(deferral), here.task.trigger(deferral)
    frozen.trigger = old

    async def both() -> None:
        one = asyncio.create_task(the_event(old))
        await asyncio.sleep(20)
        assert frozen.is_there
        other = asyncio.create_task(the_event(new))
        await asyncio.sleep(200)
        frozen.thawed.set()
        await asyncio.sleep(5)
        # Both are drained, before either has claimed anything more.
        await end_with_the_loop([one, other])

    asyncio.run(both())


class Frozen:
    """Stops what one trigger does at some step, until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.trigger: Any = None
        self.is_there = False
        self.thawed = asyncio.Event()
        go_on = getattr(Starting, name)

        async def step(starting: Any, *given: Any) -> Any:
            if starting.desk._trigger is self.trigger and not self.is_there:
                self.is_there = True
                await self.thawed.wait()

            return await go_on(starting, *given)

        monkeypatch.setattr(Starting, name, step)


@every_vendor
def test_a_start_that_was_refused_while_another_took_over_erases_no_claim(
    monkeypatch: pytest.MonkeyPatch, scene: Set, case: Case
) -> None:
    """Frozen with its request under way, which the vendor did not take."""
    here = scene(case, case.life("success", lasts=900), case.life("success"))
    frozen = Frozen(monkeypatch, "_take_back")
    here.fault("status", status=429, retry_after=60, times=1)
    deferral = here.begin()

    _take_over(monkeypatch, here, deferral, frozen)
    here.task.go_on(deferral)

    assert here.world.starts == 1


@every_vendor
def test_a_cleared_job_that_another_has_ended_meanwhile_erases_no_claim(
    monkeypatch: pytest.MonkeyPatch, scene: Set, case: Case
) -> None:
    """Frozen right before it says that it ends the job of the cleared attempt."""
    here = scene(
        case, case.life(), case.life("success", lasts=900), case.life("success")
    )
    here.task.make = case.sync()
    deferred(here.task.execute())
    here.task.clear()
    here.task.make = case.sync(start_in_trigger=True)
    frozen = Frozen(monkeypatch, "_take_up")
    deferral = here.begin()

    _take_over(monkeypatch, here, deferral, frozen)
    here.task.go_on(deferral)

    assert here.world.starts == 2


@every_vendor
def test_a_database_that_is_down_for_a_while_delays_the_start(
    monkeypatch: pytest.MonkeyPatch, scene: Set, case: Case
) -> None:
    here = scene(case)
    deferral = here.begin()
    down_until = here.world.now() + 60
    put, get = XCom.aset, XCom.aget_one

    async def aset(xcom: Any, *given: Any, **place: Any) -> None:
        if here.world.now() < down_until:
            raise RuntimeError("no database")
        await put(xcom, *given, **place)

    async def aget_one(xcom: Any, **place: Any) -> Any:
        if here.world.now() < down_until:
            raise RuntimeError("no database")
        return await get(xcom, **place)

    monkeypatch.setattr(XCom, "aset", aset)
    monkeypatch.setattr(XCom, "aget_one", aget_one)

    assert here.task.wait(deferral)["status"] == "success"
    assert here.world.vendor.record.started[0].at >= down_until
    assert here.world.starts == 1


def test_starts_take_turns_and_look_right_before(scene: Set) -> None:
    """However long the starts before it took, an intent is as old as its own look."""
    here = scene(AIRBYTE)
    here.world.vendor.configure(start_blocks=20)
    given: dict[str, Any] = {"deferrable": True, "start_in_trigger": True}
    tasks = []
    for number in range(8):
        here.world.vendor.add_connection(f"c{number}", lives=["running:60 succeeded"])
        make: Any = lambda number=number: AirbyteTriggerSyncOperator(  # noqa: E731
            task_id="sync", connection_id=f"c{number}", **given
        )
        tasks.append(Task(here.world, make))

    deferrals = [deferred(task.execute()) for task in tasks]
    triggers = [task.trigger(each) for task, each in zip(tasks, deferrals, strict=True)]
    for number, trigger in enumerate(triggers):
        trigger.task_instance.map_index = number

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*map(the_event, triggers))

    events = asyncio.run(all_of_them())

    records = [event["start"]["record"] for event in events]
    ages = [
        start.at - record["intent"]["at"]
        for start, record in zip(
            sorted(here.world.vendor.record.started, key=lambda start: start.job),
            sorted(records, key=lambda record: int(record["job_id"])),
            strict=True,
        )
    ]
    assert max(ages) < 25
    assert len({record["job_id"] for record in records}) == 8


# Deadlines ------------------------------------------------------------------------------


@every_vendor
def test_at_the_deadline_the_job_is_cancelled(scene: Set, case: Case) -> None:
    here = scene(case, case.life(), timeout=100)

    with pytest.raises(JobTimedOut):
        here.task.run()

    assert (here.world.starts, here.world.cancels) == (1, 1)
    assert here.running() == []


@every_vendor
def test_a_start_under_way_at_the_deadline_is_cancelled(scene: Set, case: Case) -> None:
    here = scene(case, case.life(), timeout=15)
    here.fault("delay", seconds=25, takes_effect=True)

    with pytest.raises(JobTimedOut):
        here.task.run()

    assert here.world.starts == 1
    assert here.running() == []


@in_each_others_way
def test_a_deadline_before_the_start_leaves_the_other_job_alone(
    scene: Set, case: Case
) -> None:
    here = scene(case, timeout=60)
    here.world.add_foreign(case.life())

    with pytest.raises(
        JobTimedOut, match="could not be started before the task timed out"
    ):
        here.task.run()

    assert (here.world.starts, here.world.cancels) == (0, 0)
    assert here.running()


@every_vendor
def test_the_job_of_an_earlier_attempt_is_cancelled_at_the_deadline(
    scene: Set, case: Case
) -> None:
    """Even when the vendor does not answer until then."""
    here = scene(case, case.life(), timeout=200)
    _abandon(here, 30)
    operator: Any = here.task.make()
    with pytest.raises(TaskDeferralError):
        operator.resume_execution("__fail__", {"error": "x"}, here.task.context())
    here.task.retry()
    fault: dict[str, Any] = {"method": "GET", "times": None, "lasts": 195}
    here.world.vendor.faults.add(Fault(kind="status", **fault))

    with pytest.raises(JobTimedOut):
        here.task.run()

    assert here.world.starts == 1
    assert here.running() == []


# Other jobs -----------------------------------------------------------------------------


@in_each_others_way
@pytest.mark.parametrize(
    ("if_running", "expected"),
    [("fail", JobAlreadyRunning), ("skip", AirflowSkipException)],
)
def test_what_if_running_says_holds(
    scene: Set, case: Case, if_running: str, expected: type[Exception]
) -> None:
    here = scene(case, if_running=if_running)
    here.world.add_foreign(case.life())

    with pytest.raises(expected):
        here.task.run()

    assert here.world.starts == 0


@in_each_others_way
def test_a_foreign_job_is_waited_for_without_a_worker(scene: Set, case: Case) -> None:
    here = scene(case)
    here.world.add_foreign(case.life("success"))

    event = here.task.wait(here.begin())

    assert event["status"] == "success"
    assert here.world.starts == 1


@in_each_others_way
def test_a_foreign_job_may_be_attached_to(scene: Set, case: Case) -> None:
    here = scene(case, if_running="attach", end_from_trigger=True)
    here.world.add_foreign(case.life("success"))

    assert type(here.task.end(here.begin())) is TaskSuccessEvent
    assert here.task.xcoms[case.statistics_key]["attached"] is True
    assert here.world.starts == 0


# Kills ----------------------------------------------------------------------------------


async def _killed(trigger: Any, after: float) -> None:
    """Cancel a trigger after a while, as the triggerer does when a user acted."""

    async def run() -> None:
        try:
            async for _ in trigger.run():
                pass
        except asyncio.CancelledError:
            await call_on_kill(trigger)
            raise

    task = asyncio.create_task(run())
    await asyncio.sleep(after)
    while not task.done():
        # Again and again, until it ends: the first one is all that on_kill gets.
        task.cancel("user action")
        await asyncio.sleep(1)
    # What goes on by itself.
    await asyncio.sleep(120)


@every_vendor
@pytest.mark.parametrize(
    ("delay", "after"), [(20.0, 10.0), (0.0, 30.0)], ids=["during", "after"]
)
@pytest.mark.parametrize("state", ["failed", "success", None])
def test_a_kill_cancels_what_was_started(
    scene: Set, case: Case, delay: float, after: float, state: str | None
) -> None:
    here = scene(case, case.life())
    here.fault("delay", seconds=delay, takes_effect=True)
    trigger = here.task.trigger(here.begin())
    here.world.states["sync", -1] = state

    asyncio.run(_killed(trigger, after))

    assert here.world.starts == 1
    assert here.running() == []


@every_vendor
def test_a_kill_looks_for_a_start_that_was_not_answered(scene: Set, case: Case) -> None:
    here = scene(case, case.life())
    here.fault("hang", takes_effect=True)
    trigger = here.task.trigger(here.begin())
    here.world.states["sync", -1] = "failed"

    asyncio.run(_killed(trigger, 10.0))
    here.world.pass_time(60)

    assert here.running() == []


@in_each_others_way
def test_a_kill_before_the_start_cancels_nothing(scene: Set, case: Case) -> None:
    here = scene(case)
    here.world.add_foreign(case.life())
    trigger = here.task.trigger(here.begin())
    here.world.states["sync", -1] = "failed"

    asyncio.run(_killed(trigger, 20.0))

    assert (here.world.starts, here.world.cancels) == (0, 0)


@every_vendor
@pytest.mark.parametrize("state", ["failed", "scheduled"])
def test_a_kill_right_after_a_restart_cancels_what_was_claimed(
    scene: Set, case: Case, state: str
) -> None:
    """The triggerer does not even know the Airflow connection yet."""
    here = scene(case, case.life())
    deferral = _abandon(here, 30)
    here.world.states["sync", -1] = state
    conn_id = f"{case.name}_default"
    lost = here.world.connections.pop(conn_id)

    async def kill() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(20, here.world.connections.__setitem__, conn_id, lost)
        await _killed(here.task.trigger(deferral), 1.0)

    asyncio.run(kill())

    assert here.running() == []


@every_vendor
def test_a_kill_right_after_a_restart_looks_for_a_lost_start(
    scene: Set, case: Case
) -> None:
    here = scene(case, case.life())
    here.fault("hang", takes_effect=True)
    deferral = _abandon(here, 10)
    here.world.states["sync", -1] = "failed"
    here.world.connections[f"{case.name}_default"], lost = (
        RuntimeError("no database"),
        here.world.connections[f"{case.name}_default"],
    )

    async def kill() -> None:
        loop = asyncio.get_running_loop()
        put = here.world.connections.__setitem__
        loop.call_later(20, put, f"{case.name}_default", lost)
        await _killed(here.task.trigger(deferral), 1.0)

    asyncio.run(kill())

    assert here.world.starts == 1
    assert here.running() == []


@every_vendor
def test_a_kill_of_an_idle_trigger_asks_the_vendor_nothing(
    scene: Set, case: Case
) -> None:
    here = scene(case)
    trigger = here.task.trigger(here.begin())
    here.world.connections.clear()
    here.world.states["sync", -1] = "failed"

    asyncio.run(_killed(trigger, 1.0))

    assert here.world.requests == []


@every_vendor
@pytest.mark.parametrize("after", [10.0, 40.0], ids=["during", "after"])
def test_a_takeover_is_no_kill(scene: Set, case: Case, after: float) -> None:
    here = scene(case, case.life("success", lasts=300))
    here.fault("delay", seconds=20, takes_effect=True)
    deferral = here.begin()
    here.world.states["sync", -1] = "deferred"

    asyncio.run(_killed(here.task.trigger(deferral), after))

    assert here.running()
    here.task.go_on(deferral)
    assert (here.world.starts, here.world.cancels) == (1, 0)


@every_vendor
def test_a_kill_may_be_told_to_leave_the_job_alone(scene: Set, case: Case) -> None:
    here = scene(case, case.life(), cancel_on_kill=False)
    here.fault("delay", seconds=20, takes_effect=True)
    trigger = here.task.trigger(here.begin())
    here.world.states["sync", -1] = "failed"

    asyncio.run(_killed(trigger, 10.0))

    assert here.running()


# Clears ---------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("if_running", ["wait", "attach", "fail", "skip"])
def test_a_clear_while_the_triggerer_lives(
    scene: Set, case: Case, if_running: str
) -> None:
    """The new attempt begins first; the old trigger cancels its job two seconds later."""
    given = {"if_running": if_running} if case.has_other_jobs else {}
    here = scene(case, case.life(), case.life("success"), **given)
    task = here.task
    old = task.trigger(here.begin())
    first_xcoms = dict(task.xcoms)
    # The worker's segment of the new attempt, which runs outside of any loop.
    task.clear()
    deferral = here.begin()
    new_xcoms = dict(task.xcoms)

    async def wait() -> Any:
        task.xcoms.clear()
        task.xcoms.update(first_xcoms)
        killed = asyncio.create_task(_killed(old, 32.0))
        await asyncio.sleep(30)
        task.xcoms.clear()
        task.xcoms.update(new_xcoms)
        here.world.states["sync", -1] = "deferred"
        payload = await the_event(task.trigger(deferral))
        await killed
        return payload

    payload = asyncio.run(wait())

    assert payload["status"] == "success"
    assert here.world.starts == 2
    assert here.world.cancels == 1


@in_each_others_way
@pytest.mark.parametrize("if_running", ["wait", "attach", "fail", "skip"])
def test_a_clear_while_no_triggerer_lives(
    scene: Set, case: Case, if_running: str
) -> None:
    """The job cannot be told from another's: it is waited for, and no more."""
    here = scene(
        case,
        case.life("success", lasts=600),
        case.life("success"),
        if_running=if_running,
    )
    _abandon(here, 30)

    here.task.clear()
    here.task.run()

    assert here.world.starts == 2
    assert here.world.cancels == 0


@pytest.mark.parametrize("if_running", ["wait", "attach", "fail", "skip"])
def test_a_sync_that_may_not_be_cancelled_is_attached_to_after_a_clear(
    scene: Set, if_running: str
) -> None:
    here = scene(
        FIVETRAN,
        FIVETRAN.life("success", lasts=600),
        FIVETRAN.life("success"),
        if_running=if_running,
        cancel_on_kill=False,
    )
    _abandon(here, 30)

    here.task.clear()
    here.task.run()

    assert here.world.starts == 1
    assert here.task.xcoms["fivetran_sync"]["attached"] is True
    assert here.task.store.values[KEY]["owned"] is False
    # Cleared once more, after the end.
    here.task.clear()
    here.task.run()
    assert here.world.starts == 2


def test_a_cleared_task_that_is_cleared_again_attaches_again(scene: Set) -> None:
    here = scene(FIVETRAN, FIVETRAN.life("success", lasts=600), cancel_on_kill=False)
    _abandon(here, 30)
    here.task.clear()
    _abandon(here, 30)
    here.task.clear()
    here.task.run()

    assert here.world.starts == 1


def test_a_sync_that_was_attached_to_after_a_clear_outlives_the_deadline(
    scene: Set,
) -> None:
    here = scene(FIVETRAN, FIVETRAN.life(), cancel_on_kill=False, timeout=300)
    _abandon(here, 30)

    here.task.clear()
    with pytest.raises(JobTimedOut):
        here.task.run()

    assert (here.world.starts, here.world.cancels) == (1, 0)


def _foreign_before(here: Scene) -> None:
    here.world.add_foreign("syncing:300 succeeded")
    here.world.pass_time(20)


def _without_history(here: Scene) -> None:
    here.world.vendor.configure(sync_history=False)


@pytest.mark.parametrize("prepare", [_foreign_before, _without_history])
def test_a_sync_that_may_not_be_ours_is_waited_for_after_a_clear(
    scene: Set, prepare: Callable[[Scene], None]
) -> None:
    here = scene(
        FIVETRAN,
        FIVETRAN.life("success", lasts=300),
        FIVETRAN.life("success"),
        cancel_on_kill=False,
    )
    prepare(here)
    _abandon(here, 30)
    started = here.world.starts

    here.task.clear()
    here.task.run()

    assert here.world.starts == started + 1
    assert here.world.cancels == 0
    assert here.task.xcoms["fivetran_sync"]["attached"] is False


def test_a_run_of_dbt_cloud_is_known_by_its_mark_after_a_clear(scene: Set) -> None:
    here = scene(DBT_CLOUD, DBT_CLOUD.life(), DBT_CLOUD.life("success"))
    foreign = here.world.add_foreign("running:900 success")
    _abandon(here, 30)

    here.task.clear()
    here.task.run()

    assert here.world.starts == 2
    assert here.world.vendor.record.cancels.keys() == {str(foreign + 1)}


@every_vendor
def test_a_clear_after_the_end_starts_anew(scene: Set, case: Case) -> None:
    here = scene(
        case, case.life("success"), case.life("success"), end_from_trigger=True
    )
    here.task.end(here.begin())

    here.task.clear()

    assert type(here.task.end(here.begin())) is TaskSuccessEvent
    assert here.world.starts == 2


def test_the_event_of_an_earlier_attempt_is_not_believed(
    scene: Set, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite gives the ids of deleted triggers to new ones."""
    here = scene(AIRBYTE, "running:60 succeeded", "running:60 succeeded")
    event = here.task.wait(here.begin())
    here.task.clear()
    deferral = here.begin()

    again = deferred(here.task.resume(deferral, event))

    assert "Ignoring an event of attempt 1: this is attempt 2" in caplog.text
    assert here.task.go_on(again) == 2
    assert here.world.starts == 2
