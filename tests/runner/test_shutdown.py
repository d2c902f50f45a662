"""A triggerer that is told to end while cancels are pending: Airflow's own runner ends it.

Its supervisor sends the runner SIGINT, after ten seconds SIGTERM and after ten more
SIGKILL. The runner leaves its loop, which stops what it says to the supervisor, and
``asyncio.run`` cancels every task that is left, once, and waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time import task_runner

from async_triggers.deferral.trigger import JobTrigger
from async_triggers.engine.accounts import shared_accounts
from async_triggers.simulator import Fault
from tests.runner.harness import Triggerer
from tests.runner.test_every_vendor import begin
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator

pytestmark = pytest.mark.runner

KILLS = 10
ENDS = 10.0
"""Seconds until the supervisor would send the next signal."""


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_until_told_to_end(
    triggerer: Triggerer, script: Callable[[], Awaitable[None]]
) -> float:
    """Run Airflow's runner as its process does; return how long it took to end."""
    runner: Any = triggerer.runner
    supervisor: Any = triggerer.supervisor
    told: list[float] = []
    failures: list[BaseException] = []

    async def play() -> None:
        try:
            await script()
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            told.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    async def init_comms() -> None:
        loop = asyncio.get_running_loop()
        # The pipe to the supervisor is read by a task, which ends with the runner.
        supervisor._reader_task = loop.create_task(asyncio.Event().wait())
        loop.script = loop.create_task(play())  # type: ignore[attr-defined]

    runner.init_comms = init_comms
    runner.run()
    assert not failures
    return time.monotonic() - told[0]


async def until(what: Callable[[], object], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not what():  # noqa: ASYNC110 - of the simulator, in another thread
            await asyncio.sleep(0.05)


def all_are_waited_for(
    one: Triggerer, case: Case, vendor: Any, caplog: pytest.LogCaptureFixture
) -> bool:
    """Tell whether all triggers have had their first news."""
    if not case.lists_running:
        return len(one.runner.triggers) == KILLS and vendor.record.count("GET") > 0

    return caplog.text.count(f" is {case.running} (") == KILLS


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    triggerer = Triggerer()
    monkeypatch.setattr(
        task_runner, "SUPERVISOR_COMMS", triggerer.supervisor, raising=False
    )
    # Airflow's own logger goes past pytest.
    monkeypatch.setattr(JobTrigger, "_log", logging.getLogger("task"), raising=False)
    return triggerer


@every_vendor
@pytest.mark.parametrize("recovers", [True, False], ids=["recovers", "refuses"])
def test_each_pending_cancel_is_tried_once_more(
    simulator: Simulator,
    one: Triggerer,
    case: Case,
    caplog: pytest.LogCaptureFixture,
    *,
    recovers: bool,
) -> None:
    caplog.set_level(logging.INFO)
    vendor = case.part(simulator)
    begun = [begin(simulator, case, case.life(), owned=True) for _ in range(KILLS)]

    async def script() -> None:
        ids = [one.add(trigger) for _, trigger in begun]
        await until(lambda: all_are_waited_for(one, case, vendor, caplog))
        vendor.faults.add(
            Fault(kind="status", status=429, retry_after=3600, times=None)
        )
        one.supervisor.states["sync"] = "failed"
        one.supervisor.to_cancel.update(ids)
        await until(lambda: caplog.text.count("Trying again in 3600 s") == KILLS)
        if recovers:
            vendor.faults.clear()

    took = run_until_told_to_end(one, script)

    assert took < ENDS
    running = {view.job for view in vendor.jobs()}
    lines = [
        record.getMessage()
        for record in caplog.records
        if "before this process ends" in record.getMessage()
    ]
    assert len(lines) == KILLS
    if recovers:
        assert len(running) == 0
        assert all("cancelled before this process ends" in line for line in lines)
    else:
        assert len(running) == KILLS
        assert all("It is still running" in line for line in lines)
        if case.job_is_target:
            # The others were not told where the job is shown, and have not seen it.
            assert all(line.rpartition(": ")[2].startswith("http") for line in lines)


@every_vendor
def test_a_triggerer_that_ends_cancels_nothing_that_was_not_stopped(
    simulator: Simulator,
    one: Triggerer,
    case: Case,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vendor = case.part(simulator)
    _, trigger = begin(simulator, case, case.life(), owned=True)

    async def script() -> None:
        one.add(trigger)
        await until(lambda: vendor.record.count("GET"))

    assert run_until_told_to_end(one, script) < ENDS

    assert len(vendor.jobs()) == 1
    assert not vendor.record.cancels
    assert "before this process ends" not in caplog.text


@every_vendor
def test_a_kill_passes_a_pause_of_the_account(
    simulator: Simulator,
    one: Triggerer,
    case: Case,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A poll is refused for an hour, and users stop their tasks."""
    caplog.set_level(logging.INFO)
    vendor = case.part(simulator)
    begun = [begin(simulator, case, case.life(), owned=True) for _ in range(KILLS)]

    async def script() -> None:
        ids = [one.add(trigger) for _, trigger in begun]
        await until(lambda: all_are_waited_for(one, case, vendor, caplog))
        # What a poll does that is answered with a Retry-After.
        (shared,) = shared_accounts()
        shared.limiter.pause(3600.0)
        one.supervisor.states["sync"] = "failed"
        one.supervisor.to_cancel.update(ids)
        await until(lambda: not vendor.jobs())

    run_until_told_to_end(one, script)

    assert sum(vendor.record.cancels.values()) == KILLS
