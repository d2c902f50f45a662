"""The operator over real connections: what a virtual clock and a call cannot show."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseHook

from async_triggers.deferral.compat import talk
from async_triggers.deferral.errors import TaskKilled
from async_triggers.simulator import Fault, Simulator, SimulatorThread
from tests.unit.deferral.stage import TARGET, Task, World, XCom, deferred, sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def _no_blocking_calls() -> None:
    """Let on_kill wait for its thread: it is a signal handler, and ends the task."""


@pytest.fixture(scope="module")
def served() -> Iterator[Simulator]:
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def simulator(served: Simulator) -> Simulator:
    served.reset()
    served.airbyte.add_connection(TARGET, lives=["running"])
    return served


@pytest.fixture
def task(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Task:
    world = World()
    world.connect("airbyte_default", host=simulator.airbyte_url)
    monkeypatch.setattr(BaseHook, "get_connection", world.get_connection)
    monkeypatch.setattr(talk, "BaseXCom", XCom(world))
    return Task(world, sync(deferrable=True))


@pytest.mark.parametrize("kind", ["reset", "close", "truncate", "cut", "html", "empty"])
def test_a_start_whose_answer_is_lost_on_the_wire_makes_one_job(
    task: Task, simulator: Simulator, kind: Any
) -> None:
    simulator.airbyte.faults.add(
        Fault(kind=kind, method="POST", path="*/jobs", takes_effect=True)
    )

    assert deferred(task.execute()).arguments["job_id"] == 1
    assert len(simulator.airbyte.record.started) == 1


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_a_start_that_never_arrived_is_not_repeated_at_once(
    task: Task, simulator: Simulator, kind: Any
) -> None:
    simulator.airbyte.faults.add(Fault(kind=kind, method="POST", path="*/jobs"))

    assert deferred(task.execute()).moment is not None
    assert len(simulator.airbyte.record.started) == 0


def test_nothing_is_left_open_when_the_task_leaves_its_worker(
    task: Task, simulator: Simulator
) -> None:
    deferred(task.execute())

    assert simulator.airbyte.record.tcp_connections == 1
    assert simulator.airbyte.record.tokens_issued == 1


def test_a_signal_stops_the_task_and_cancels_its_job(
    task: Task, simulator: Simulator
) -> None:
    task.make = sync()
    asked = threading.Event()

    def handler(number: int, frame: object) -> None:
        task.operator.on_kill()

    def stop_it() -> None:
        # While the start is under way or while the task waits: it ends alike.
        while not simulator.airbyte.record.started:
            if asked.wait(0.05):
                return

        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    stopper = threading.Thread(target=stop_it)
    stopper.start()
    try:
        with pytest.raises(TaskKilled):
            task.execute()
    finally:
        asked.set()
        stopper.join()
        signal.signal(signal.SIGUSR1, before)

    (view,) = simulator.airbyte.jobs(finished=True)
    assert view.state == "cancelled"
    assert task.store.values["async_triggers"]["killed"] is True
