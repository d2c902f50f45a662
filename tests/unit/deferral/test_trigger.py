from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Self

import pytest

from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral import compat
from async_triggers.deferral.trigger import JobTrigger
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill, end_with_the_loop
from tests.unit.deferral.stage import TARGET, Task, World, log, sync, the_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.simulator.exchange import SimRequest

ARGUMENTS = {
    "job_id": 1,
    "conn_id": "airbyte_default",
    "end_time": 1774405800.0,
    "poll_interval": 3,
    "execution_deadline": None,
    "api_version": "v1",
    "owned": True,
    "cancel_on_kill": True,
    "cancel_on_timeout": True,
    "seen_at": 1774402200.0,
    "job_url": "http://localhost:8000/x",
    "ending": None,
}


def a_trigger(world: World, life: str = "running", **arguments: Any) -> Any:
    """Return the trigger of a job that runs already."""
    job_id = world.airbyte.add_job(TARGET, life)
    given = {
        **ARGUMENTS,
        "job_id": job_id,
        "end_time": None,
        "seen_at": world.now(),
        **arguments,
    }
    trigger: Any = AirbyteSyncTrigger(**given)
    trigger._log = log
    trigger.task_instance = Task(world, sync()).instance
    return trigger


def event_of(trigger: AirbyteSyncTrigger) -> Any:
    """Run a trigger on a triggerer of its own."""
    return asyncio.run(the_event(trigger))


# What is stored ---------------------------------------------------------------------


def test_what_is_stored_of_a_trigger_is_pinned() -> None:
    # Airflow's database holds these words: they may be added to, never changed.
    trigger = AirbyteSyncTrigger(**ARGUMENTS)  # type: ignore[arg-type]

    assert trigger.serialize() == (
        "async_triggers.airbyte.triggers.AirbyteSyncTrigger",
        {
            "job_id": 1,
            "conn_id": "airbyte_default",
            "end_time": 1774405800.0,
            "poll_interval": 3,
            "execution_deadline": None,
            "api_version": "v1",
            "address": "",
            "owned": True,
            "cancel_on_kill": True,
            "cancel_on_timeout": True,
            "seen_at": 1774402200.0,
            "job_url": "http://localhost:8000/x",
            "ending": None,
            "version": 1,
        },
    )


def test_a_trigger_survives_the_database() -> None:
    trigger = AirbyteSyncTrigger(**ARGUMENTS)  # type: ignore[arg-type]
    _, arguments = trigger.serialize()

    again = AirbyteSyncTrigger(**json.loads(json.dumps(arguments)))

    assert again.serialize() == trigger.serialize()


def test_the_official_providers_arguments_are_enough() -> None:
    trigger = AirbyteSyncTrigger(1, "airbyte_default", 1774405800.0, 60.0)

    assert trigger.owned is False
    assert trigger.execution_deadline is None


@pytest.mark.parametrize("value", [None, "", [], {}, -1, "x" * 1000])
def test_a_constructor_raises_nothing_whatever_it_is_given(value: Any) -> None:
    # An exception there ends the whole triggerer.
    AirbyteSyncTrigger(**dict.fromkeys(ARGUMENTS, value))


class _Whole(JobTrigger):
    """All that a vendor must add but its constructor."""

    def make_job(self) -> RemoteJob:
        raise NotImplementedError

    @classmethod
    def of(cls, job: RemoteJob, **how: Any) -> Self:
        raise NotImplementedError


def test_a_subclass_that_cannot_be_stored_is_rejected_at_import() -> None:
    with pytest.raises(TypeError, match=r"takes \*arguments: name every argument"):

        class Starred(_Whole):
            def __init__(self, *arguments: object) -> None: ...

    with pytest.raises(TypeError, match=r"takes \*rest: name every argument"):

        class Doubly(_Whole):
            def __init__(self, **rest: object) -> None: ...


# Events -----------------------------------------------------------------------------


def test_one_event_tells_all_about_the_end(world: World) -> None:
    payload = event_of(a_trigger(world, "running:30 succeeded"))

    assert payload == {
        "v": 1,
        "status": "success",
        "message": (
            "Job 1 succeeded (1,000 rows, 1.0 MB, 30 s): http://localhost:8000/x"
        ),
        "job_id": 1,
        "kind": "ended",
        "error": None,
        "cancel": "none",
        "job": {
            "id": "1",
            "state": "succeeded",
            "word": "succeeded",
            "label": "",
            "message": "",
            "url": "http://localhost:8000/x",
            "started_at": "2026-03-25T01:30Z",
            "ended_at": 1774402230.0,
            "statistics": {
                "connection_id": TARGET,
                "job_type": "sync",
                "rows_synced": 1000,
                "bytes_synced": 1048576,
                "duration": "PT30S",
            },
        },
    }


@pytest.mark.parametrize(
    ("life", "status"),
    [
        ("running:30 succeeded", "success"),
        ("running:30 failed", "error"),
        ("running:30 cancelled", "cancelled"),
    ],
)
def test_the_statuses_are_those_of_the_official_provider(
    world: World, life: str, status: str
) -> None:
    payload = event_of(a_trigger(world, life))

    assert payload["status"] == status
    assert payload["job_id"] == 1


def test_an_event_comes_no_sooner_than_airflow_can_take_it(world: World) -> None:
    event_of(a_trigger(world, "succeeded"))

    assert world.elapsed() >= compat.earliest_event()


def test_the_log_tells_changes_of_state_and_sparse_progress(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "task")
    event_of(a_trigger(world, "pending:30 running:1800 succeeded"))

    lines = [record for record in caplog.records if record.name == "task"]
    running = [line for line in lines if "is running" in line.getMessage()]
    assert "Job 1 is pending" in lines[0].getMessage()
    assert 1 <= len(running) <= 5
    assert re.search(r"\(\d+ rows, [\d.]+ \wB, \d+ min\)", running[-1].getMessage())
    assert "Job 1 succeeded" in lines[-1].getMessage()


def test_a_job_unknown_to_airbyte_is_refused(world: World) -> None:
    payload = event_of(a_trigger(world, job_id=99))

    assert payload["status"] == "error"
    assert payload["kind"] == "refused"
    assert payload["error"] == "JobNotFound"
    assert "airbyte_default" in payload["message"]


# Deadlines --------------------------------------------------------------------------


def test_at_the_deadline_an_owned_job_is_cancelled_and_that_confirmed(
    world: World,
) -> None:
    payload = event_of(a_trigger(world, end_time=world.now() + 60))

    assert payload["status"] == "timeout"
    assert payload["cancel"] == "confirmed"
    assert payload["job"]["word"] == "cancelled"
    assert "http://localhost:8000/x" in payload["message"]
    assert world.cancels == 1
    assert 60 <= world.elapsed() < 80


@pytest.mark.parametrize("arguments", [{"owned": False}, {"cancel_on_timeout": False}])
def test_at_the_deadline_what_may_not_be_cancelled_is_left_running(
    world: World, arguments: dict[str, Any]
) -> None:
    payload = event_of(a_trigger(world, end_time=world.now() + 60, **arguments))

    assert payload["status"] == "timeout"
    assert payload["cancel"] == "none"
    assert "left running: http://localhost:8000/x" in payload["message"]
    assert world.cancels == 0


def test_the_earlier_of_two_deadlines_counts(world: World) -> None:
    now = world.now()
    trigger = a_trigger(world, end_time=now + 500, execution_deadline=now + 50)

    assert "execution_timeout" in event_of(trigger)["message"]
    assert 50 <= world.elapsed() < 70


@pytest.mark.parametrize(
    ("life", "status"), [("running", "timeout"), ("succeeded", "success")]
)
def test_a_deadline_past_when_the_trigger_starts_still_looks_once(
    world: World, life: str, status: str
) -> None:
    # The triggerer was down for an hour.
    payload = event_of(a_trigger(world, life, end_time=world.now() - 3600))

    assert payload["status"] == status


def test_a_job_that_succeeds_at_the_deadline_has_succeeded(world: World) -> None:
    # Too late for the last round before the deadline, in time for the last look.
    trigger = a_trigger(
        world, "running:58 succeeded", end_time=world.now() + 60, poll_interval=25
    )

    assert event_of(trigger)["status"] == "success"
    assert world.cancels == 0


def test_a_job_that_succeeds_while_it_is_being_cancelled_has_succeeded(
    world: World,
) -> None:
    world.airbyte.configure(cancel_blocks=20.0)
    trigger = a_trigger(world, "running:65 succeeded", end_time=world.now() + 60)

    payload = event_of(trigger)

    assert payload["status"] == "success"
    assert world.cancels == 0


def test_a_cancel_that_fails_is_told_as_unconfirmed(world: World) -> None:
    fault = Fault(kind="status", method="DELETE", status=503, times=None)
    world.airbyte.faults.add(fault)

    payload = event_of(a_trigger(world, end_time=world.now() + 60))

    assert payload["cancel"] == "unconfirmed"
    assert world.elapsed() < 60 + 120


def test_an_outage_at_the_deadline_is_a_timeout_all_the_same(world: World) -> None:
    world.airbyte.faults.add(Fault(kind="hang", times=None))

    payload = event_of(a_trigger(world, end_time=world.now() + 60))

    assert payload["status"] == "timeout"
    assert payload["cancel"] == "unconfirmed"
    # Before Airflow's own timeout would hide what happened.
    assert world.elapsed() < 60 + 120


@pytest.mark.parametrize(
    ("state", "token", "cancelled"),
    [
        pytest.param("failed", (1, "1"), True, id="failed"),
        pytest.param("running", (1, "1"), True, id="about to fail"),
        pytest.param("up_for_retry", (1, "1"), False, id="the retry will attach"),
        pytest.param("deferred", (2, "1"), False, id="the retry has attached"),
    ],
)
def test_a_cancel_that_an_outage_prevents_is_made_after_it(
    world: World, state: str, token: tuple[int, str], *, cancelled: bool
) -> None:
    trigger = a_trigger(world, end_time=world.now() + 60)
    attempt, job_id = token

    async def go() -> None:
        world.airbyte.faults.add(
            Fault(kind="hang", times=None, start_in=30, lasts=400),
        )
        payload = await the_event(trigger)
        assert payload["cancel"] == "unconfirmed"
        world.states["sync", -1] = state
        world.xcoms["sync", -1]["async_triggers_owner"] = {
            "try": attempt,
            "job_id": job_id,
        }
        await asyncio.sleep(600)

    asyncio.run(go())

    assert world.state_of(1) == ("cancelled" if cancelled else "running")


def test_a_cancel_refused_by_an_older_server_because_the_job_has_ended(
    world: World,
) -> None:
    world.airbyte.configure(cancel_idle="conflict")
    trigger = a_trigger(world, end_time=world.now() + 60)

    def end(request: SimRequest) -> None:
        if request.method == "DELETE":
            world.airbyte.finish("1", "succeeded")

    world.on_request.append(end)

    assert event_of(trigger)["status"] == "success"


# The connection ---------------------------------------------------------------------


def test_a_connection_that_cannot_be_looked_up_for_minutes_is_waited_for(
    world: World,
) -> None:
    lost = world.connections.pop("airbyte_default")

    async def go() -> Any:
        loop = asyncio.get_running_loop()
        loop.call_later(270, world.connections.__setitem__, "airbyte_default", lost)
        return await the_event(a_trigger(world, "running:30 succeeded"))

    assert asyncio.run(go())["status"] == "success"


def test_a_connection_that_stays_lost_is_given_up_after_five_minutes(
    world: World,
) -> None:
    del world.connections["airbyte_default"]

    payload = event_of(a_trigger(world))

    assert payload["status"] == "error"
    assert payload["error"] == "Unreachable"
    assert "airbyte_default" in payload["message"]
    assert world.elapsed() >= 300


def test_a_deadline_holds_while_the_connection_cannot_be_looked_up(
    world: World,
) -> None:
    del world.connections["airbyte_default"]

    payload = event_of(a_trigger(world, end_time=world.now() + 60))

    assert payload["status"] == "timeout"
    assert payload["cancel"] == "unconfirmed"
    assert world.elapsed() < 60 + 30


def test_a_connection_that_became_malformed_is_refused(world: World) -> None:
    world.connect("airbyte_default", host="")

    payload = event_of(a_trigger(world))

    assert payload["error"] == "AccountMisconfigured"
    assert "Server URL (host) is empty" in payload["message"]
    assert "airbyte_default" in payload["message"]


def test_a_thousand_triggers_read_the_connection_once(world: World) -> None:
    async def go() -> list[Any]:
        triggers = [a_trigger(world, "running:30 succeeded") for _ in range(1000)]
        return await asyncio.gather(*map(the_event, triggers))

    payloads = asyncio.run(go())

    assert {payload["status"] for payload in payloads} == {"success"}
    assert world.connection_reads == 1
    assert world.airbyte.record.tokens_issued == 1
    assert world.airbyte.record.total < 150


@pytest.mark.parametrize(
    "at_first",
    [
        pytest.param(ConnectionError("the database is away"), id="Airflow is away"),
        pytest.param("deferred", id="Airflow has not taken the event in"),
    ],
)
@pytest.mark.parametrize(
    ("then", "cancelled"),
    [
        pytest.param("failed", True, id="failed"),
        pytest.param("up_for_retry", False, id="the retry will attach"),
    ],
)
def test_a_late_cancel_looks_again_while_the_task_has_not_gone_on(
    world: World, at_first: Any, then: str, *, cancelled: bool
) -> None:
    trigger = a_trigger(world, end_time=world.now() + 60)
    world.xcoms["sync", -1]["async_triggers_owner"] = {"try": 1, "job_id": "1"}

    async def go() -> None:
        world.airbyte.faults.add(
            Fault(kind="hang", times=None, start_in=30, lasts=200),
        )
        world.states["sync", -1] = at_first
        assert (await the_event(trigger))["cancel"] == "unconfirmed"
        await asyncio.sleep(330)
        assert world.state_of(1) == "running"
        world.states["sync", -1] = then
        await asyncio.sleep(120)

    asyncio.run(go())

    assert world.state_of(1) == ("cancelled" if cancelled else "running")


def test_a_late_cancel_that_fails_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.airbyte.faults.add(Fault(kind="hang", times=None, start_in=30))
    world.states["sync", -1] = "failed"

    async def go() -> None:
        await the_event(a_trigger(world, end_time=world.now() + 60))
        caplog.clear()
        await asyncio.sleep(3600)

    asyncio.run(go())

    assert caplog.text.count("Job 1 could not be cancelled") == 1


def test_a_late_cancel_of_a_task_that_cannot_be_known_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.airbyte.faults.add(Fault(kind="hang", times=None, start_in=30, lasts=200))
    world.states["sync", -1] = ConnectionError("the database is away")

    async def go() -> None:
        await the_event(a_trigger(world, end_time=world.now() + 60))
        await asyncio.sleep(3600)

    asyncio.run(go())

    assert world.state_of(1) == "running"
    assert caplog.text.count("could not be read") == 1


# Being killed -----------------------------------------------------------------------


async def killed(
    world: World,
    trigger: Any,
    *,
    after: float = 20.0,
    interrupt: bool = True,
    then: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Cancel a trigger as the triggerer does when a user acted."""

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
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        if not interrupt:
            await asyncio.wait({task})

    if then is not None:
        await then()

    # The triggerer lives on.
    await asyncio.sleep(60)


@pytest.mark.parametrize("state", ["failed", "success", None, "skipped", "queued"])
@pytest.mark.parametrize("interrupt", [True, False])
def test_a_users_kill_cancels_although_airflow_interrupts_it(
    world: World, state: str | None, *, interrupt: bool
) -> None:
    world.airbyte.configure(cancel_blocks=10.0)
    world.airbyte.configure(latency=0.5)
    trigger = a_trigger(world)
    world.states["sync", -1] = state
    Task(world, sync()).xcoms["async_triggers_owner"] = {"try": 1, "job_id": "1"}

    asyncio.run(killed(world, trigger, interrupt=interrupt))

    assert world.state_of(1) == "cancelled"
    assert world.cancels == 1


@pytest.mark.parametrize(
    ("state", "token", "cancels"),
    [
        pytest.param("deferred", {"try": 1, "job_id": "1"}, 0, id="taken over"),
        pytest.param("deferred", None, 0, id="no token"),
        pytest.param("deferred", {"try": 2, "job_id": "1"}, 0, id="newer, same job"),
        pytest.param("deferred", {"try": 2, "job_id": "9"}, 1, id="newer, other job"),
        pytest.param("running", {"try": 2, "job_id": "9"}, 1, id="newer, running"),
        pytest.param("running", None, 1, id="cleared, new attempt has begun"),
        pytest.param("up_for_retry", {"try": 1, "job_id": "1"}, 0, id="retry to come"),
        pytest.param(RuntimeError("?"), {"try": 1, "job_id": "1"}, 0, id="unknown"),
    ],
)
def test_a_kill_is_judged_by_what_happened_to_the_task(
    world: World, state: Any, token: Any, cancels: int
) -> None:
    trigger = a_trigger(world)
    world.states["sync", -1] = state
    if token is not None:
        world.xcoms["sync", -1]["async_triggers_owner"] = token

    asyncio.run(killed(world, trigger))

    assert world.cancels == cancels


@pytest.mark.parametrize("arguments", [{"owned": False}, {"cancel_on_kill": False}])
def test_a_kill_leaves_alone_what_may_not_be_cancelled(
    world: World, arguments: dict[str, Any]
) -> None:
    trigger = a_trigger(world, **arguments)
    world.states["sync", -1] = "failed"

    asyncio.run(killed(world, trigger))

    assert world.cancels == 0


def test_a_trigger_without_a_task_never_cancels(world: World) -> None:
    trigger = a_trigger(world)
    trigger.task_instance = None

    asyncio.run(killed(world, trigger))

    assert world.cancels == 0


def test_a_trigger_that_has_fired_never_cancels(world: World) -> None:
    trigger = a_trigger(world, "running:10 succeeded")
    world.states["sync", -1] = "failed"

    async def go() -> None:
        await the_event(trigger)
        world.airbyte.add_job(TARGET, "running")
        world.requests.clear()
        await trigger.on_kill()

    asyncio.run(go())

    assert world.requests == []


def test_a_kill_before_the_connection_is_known_leaves_the_job_alone(
    world: World,
) -> None:
    del world.connections["airbyte_default"]
    world.states["sync", -1] = "failed"

    asyncio.run(killed(world, a_trigger(world), after=1.0))

    assert world.cancels == 0


def test_a_kill_never_cancels_the_run_that_came_after(world: World) -> None:
    # Airbyte's DELETE hits whatever the connection is running.
    trigger = a_trigger(world)
    world.states["sync", -1] = "failed"

    async def go() -> None:
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(20)
        world.airbyte.finish("1", "succeeded")
        later = world.airbyte.add_job(TARGET, "running")
        waiting.cancel()
        await asyncio.wait({waiting})
        await call_on_kill(trigger)
        assert world.state_of(later) == "running"

    asyncio.run(go())

    assert world.cancels == 0


@pytest.mark.parametrize("path", ["*", "*/jobs/1"])
def test_a_kill_in_an_outage_cancels_when_it_is_over(
    world: World, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    trigger = a_trigger(world)
    world.states["sync", -1] = "failed"

    async def outage() -> None:
        world.airbyte.faults.add(Fault(kind="reset", path=path, times=None, lasts=400))

    async def go() -> None:
        await outage()
        await killed(world, trigger, after=8.0)
        assert world.state_of(1) == "running"
        await asyncio.sleep(460)

    asyncio.run(go())

    assert world.state_of(1) == "cancelled"
    assert world.cancels == 1
    assert caplog.text.count("could not be cancelled") == 1


def test_a_kill_while_airflow_cannot_be_asked_is_settled_later(world: World) -> None:
    trigger = a_trigger(world)
    world.states["sync", -1] = ConnectionError("the database is away")

    async def back() -> None:
        await asyncio.sleep(120)
        assert world.cancels == 0
        world.states["sync", -1] = "failed"

    asyncio.run(killed(world, trigger, then=back))

    assert world.state_of(1) == "cancelled"


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param({"kind": "status", "status": 403, "times": None}, id="for good"),
        pytest.param({"kind": "status", "status": 500, "times": None}, id="for hours"),
    ],
)
def test_a_kill_that_fails_is_told(
    world: World, caplog: pytest.LogCaptureFixture, refusal: dict[str, Any]
) -> None:
    world.airbyte.faults.add(Fault(method="DELETE", **refusal))
    trigger = a_trigger(world)
    world.states["sync", -1] = "failed"

    async def go() -> None:
        await killed(world, trigger)
        await asyncio.sleep(3600)

    asyncio.run(go())

    assert "Job 1: could not be cancelled" in caplog.text
    assert world.state_of(1) == "running"
    assert len(world.requests) < 400


def test_claim_pushes_the_token_that_on_kill_reads(world: World) -> None:
    task = Task(world, sync())
    context: Any = task.context()

    AirbyteSyncTrigger.claim(context, 1)

    assert asyncio.run(compat.owner_token(task.instance)) == (1, "1")


@pytest.mark.parametrize(
    "token", [None, "1", 7, {}, {"try": "1", "job_id": "1"}, {"try": 1, "job_id": 1}]
)
def test_a_token_that_is_none_is_no_token(world: World, token: object) -> None:
    task = Task(world, sync())
    task.xcoms["async_triggers_owner"] = token

    assert asyncio.run(compat.owner_token(task.instance)) is None


def test_a_triggerer_that_stops_leaves_the_job_alone(world: World) -> None:
    world.states["sync", -1] = "deferred"

    async def go() -> None:
        waiting = asyncio.create_task(the_event(a_trigger(world)))
        await asyncio.sleep(20)
        await end_with_the_loop([waiting])

    asyncio.run(go())

    assert world.state_of(1) == "running"
