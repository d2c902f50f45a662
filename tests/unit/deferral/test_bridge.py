"""Kills where Airflow calls no ``on_kill``: ``run()`` is cancelled, and that is all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    GetXCom,
    TaskStatesResult,
    XComResult,
)
from airflow.triggers.base import TriggerEvent

from async_triggers.deferral.compat import (
    OWNER_KEY,
    bridge_kill,
    expect_kills,
    kills,
    talk,
)
from tests.clock import VirtualClockLoop

QUESTION = 0.02
"""Seconds that the supervisor takes for an answer."""


class Supervisor:
    """Answers one question after the other, and ends where an answer is not read.

    That is what the triggerer of Airflow 3.1 does: its channel is one stream, read by
    whoever has asked last.
    """

    def __init__(self) -> None:
        self.state: str | None = "failed"
        self.token: Any = None
        self.is_silent = False
        self.is_down = False
        self.asked = 0
        self._lock = asyncio.Lock()

    async def asend(self, message: Any) -> Any:
        self.asked += 1
        async with self._lock:
            try:
                if self.is_silent:
                    await asyncio.get_running_loop().create_future()

                await asyncio.sleep(QUESTION)
            except asyncio.CancelledError:
                pytest.fail("a question was cancelled: its answer breaks the channel")

        if self.is_down:
            return ErrorResponse()

        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={"r": {"t": self.state}})

        assert isinstance(message, GetXCom)
        assert message.key == OWNER_KEY
        return XComResult(key=OWNER_KEY, value=self.token)


class Trigger:
    """Waits for ever; says when it is killed."""

    log = logging.getLogger("trigger")

    def __init__(self, attempt: int = 1, timeout_after: datetime | None = None) -> None:
        self.task_instance = SimpleNamespace(
            dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=attempt
        )
        self.timeout_after = timeout_after
        self.kills = 0

    async def run(self) -> AsyncIterator[TriggerEvent]:
        expect_kills()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await bridge_kill(self)
            raise

        yield TriggerEvent("never")

    async def on_kill(self) -> None:
        self.kills += 1


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(kills, "CALLS_ON_KILL", False)
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


async def waiting(trigger: Trigger) -> asyncio.Task[None]:
    """Run a trigger as Airflow's runner does."""

    async def consume() -> None:
        async for _ in trigger.run():
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    return task


async def cancelled(*tasks: asyncio.Task[None]) -> float:
    """Cancel until all have ended, once a second; return how long that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()

        _, pending = await asyncio.wait(pending, timeout=1.0)

    assert all(task.cancelled() for task in tasks)
    return loop.time() - began


def on_virtual_clock(scenario: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(scenario())


def token(attempt: int) -> dict[str, Any]:
    return {"try": attempt, "job_id": "1"}


@pytest.mark.parametrize(
    ("state", "owner", "kills_expected"),
    [
        ("failed", token(1), 1),
        ("success", token(1), 1),
        (None, None, 1),
        ("running", token(1), 1),
        # Cleared, and the next attempt is deferred already.
        ("deferred", token(2), 1),
        # Without a token on_kill says what it cannot know.
        ("deferred", None, 1),
        # Taken over by another triggerer, or this one drains.
        ("deferred", token(1), 0),
    ],
)
def test_the_state_and_the_token_say_whether_a_cancellation_is_a_kill(
    supervisor: Supervisor, state: str | None, owner: Any, kills_expected: int
) -> None:
    supervisor.state, supervisor.token = state, owner
    trigger = Trigger()

    async def scenario() -> None:
        await cancelled(await waiting(trigger))

    on_virtual_clock(scenario)

    assert trigger.kills == kills_expected


@pytest.mark.parametrize("is_aware", [True, False])
def test_a_deferral_that_timed_out_is_no_kill(
    supervisor: Supervisor, *, is_aware: bool
) -> None:
    passed = datetime.now(UTC) - timedelta(seconds=1)
    trigger = Trigger(timeout_after=passed if is_aware else passed.replace(tzinfo=None))

    async def scenario() -> None:
        await cancelled(await waiting(trigger))

    on_virtual_clock(scenario)

    assert trigger.kills == 0
    assert supervisor.asked == 0


def test_a_trigger_that_airflow_gives_no_timeout_is_killed_too(
    supervisor: Supervisor,
) -> None:
    trigger = Trigger()
    del trigger.timeout_after

    async def scenario() -> None:
        await cancelled(await waiting(trigger))

    on_virtual_clock(scenario)

    assert trigger.kills == 1


def test_a_timeout_to_come_does_not_hide_a_kill(supervisor: Supervisor) -> None:
    trigger = Trigger(timeout_after=datetime.now(UTC) + timedelta(hours=1))

    async def scenario() -> None:
        await cancelled(await waiting(trigger))

    on_virtual_clock(scenario)

    assert trigger.kills == 1


def test_no_answer_leaves_the_job_running(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = Trigger()

    async def scenario() -> float:
        task = await waiting(trigger)
        # It has answered something before, as it has for each trigger's connection.
        await talk.owner_token(trigger.task_instance)
        supervisor.is_silent = True
        return await cancelled(task)

    assert on_virtual_clock(scenario) == pytest.approx(kills.ANSWER, abs=0.1)
    assert trigger.kills == 0
    assert "left running" in caplog.text


def test_the_first_answer_of_a_triggerer_may_take_longer(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = Trigger()
    monkeypatch.setattr("tests.unit.deferral.test_bridge.QUESTION", 3.0)

    async def scenario() -> float:
        return await cancelled(await waiting(trigger))

    assert on_virtual_clock(scenario) < kills.FIRST_ANSWER
    assert trigger.kills == 1


def test_what_airflow_does_not_know_is_left_to_on_kill(supervisor: Supervisor) -> None:
    supervisor.is_down = True
    trigger = Trigger()

    async def scenario() -> None:
        await cancelled(await waiting(trigger))

    on_virtual_clock(scenario)

    assert trigger.kills == 1


def test_a_thousand_triggers_drained_ask_nothing(supervisor: Supervisor) -> None:
    triggers = [Trigger() for _ in range(1000)]
    tasks: list[asyncio.Task[None]] = []

    async def scenario() -> None:
        tasks.extend([await waiting(trigger) for trigger in triggers])

    loop = VirtualClockLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())
        began = loop.time()

    # The runner has cancelled all that was left, as Airflow's does at its end.
    assert all(task.cancelled() for task in tasks)
    assert loop.time() - began < 0.1
    assert supervisor.asked == 0
    assert not any(trigger.kills for trigger in triggers)


def test_a_thousand_triggers_without_an_answer_wait_for_one(
    supervisor: Supervisor,
) -> None:
    triggers = [Trigger() for _ in range(1000)]
    supervisor.is_silent = True

    async def scenario() -> float:
        return await cancelled(*[await waiting(trigger) for trigger in triggers])

    assert on_virtual_clock(scenario) < kills.FIRST_ANSWER + 1.0
    assert supervisor.asked <= kills.AT_ONCE
    assert not any(trigger.kills for trigger in triggers)


def test_a_thousand_kills_are_each_heard(supervisor: Supervisor) -> None:
    triggers = [Trigger() for _ in range(1000)]

    async def scenario() -> float:
        return await cancelled(*[await waiting(trigger) for trigger in triggers])

    assert on_virtual_clock(scenario) < 1000 * QUESTION + 2.0
    assert all(trigger.kills == 1 for trigger in triggers)


def test_a_question_that_nobody_waits_for_is_read_to_its_end(
    supervisor: Supervisor,
) -> None:
    trigger = Trigger()

    async def scenario() -> str | None:
        asking = asyncio.create_task(talk.task_state(trigger.task_instance))
        await asyncio.sleep(QUESTION / 2)
        asking.cancel()
        return await talk.task_state(trigger.task_instance)

    assert on_virtual_clock(scenario) == "failed"
    assert supervisor.asked == 2
