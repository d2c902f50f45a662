"""Who is killed: a task with the worker that has it, a scheduler that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from async_triggers.demo import deployment as deployments
from async_triggers.demo.airflow_api import DeadlinePassedError, Run, TaskInstance
from async_triggers.demo.deployment import (
    Component,
    Deployment,
    DeploymentError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="processes are found in /proc"
)

TI = TaskInstance(
    id="0199-killed",
    run=Run("dag", "manual__1"),
    task_id="task",
    map_index=-1,
    state="running",
    try_number=1,
    max_tries=0,
    start_date=None,
    end_date=None,
    operator=None,
    trigger_id=None,
    triggerer_host=None,
)
# Starts its task, tells its process id, and waits for it as long as it lives. Both are
# called as Airflow calls them.
WORKER = """
import subprocess, sys
from setproctitle import setproctitle
setproctitle(sys.argv[1])
task = subprocess.Popen(
    [sys.executable, "-c", sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
task.stdout.readline()
print(task.pid, flush=True)
task.wait()
print("ended", flush=True)
sys.stdin.read()
"""
TASK = """
from setproctitle import setproctitle
setproctitle("airflow worker -- 0199-killed")
print(flush=True)
"""
FOREVER = "import sys; sys.stdin.read()"


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    found = Deployment(tmp_path)

    def wait_until(probe: Callable[[], bool], **how: object) -> bool:
        for _ in range(3):
            if probe():
                return True
        raise DeadlinePassedError

    monkeypatch.setattr(found.api, "wait_until", wait_until)
    return found


class Worker:
    """A process that has a task, under the names that Airflow gives them."""

    def __init__(self, task: str, *, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, name, TASK + task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.task = int(self.process.stdout.readline())

    def has_ended_its_task(self) -> bool:
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "ended\n"

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(
        task: str = FOREVER, *, name: str = "airflow worker -- LocalExecutor: dag"
    ) -> Worker:
        workers.append(Worker(task, name=name))
        return workers[-1]

    yield start
    for each in workers:
        each.end()


def test_both_are_killed(deployment: Deployment, start: Callable[..., Worker]) -> None:
    worker = start()

    deployment.kill_task(TI)

    assert worker.process.wait() == -9
    assert deployment.task_process(TI) is None


def test_both_have_ended_when_they_count_as_killed(
    deployment: Deployment,
    start: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = start()
    kill = signal.pidfd_send_signal
    # On a busy machine a process goes on for a while after it was killed.
    monkeypatch.setattr(
        signal,
        "pidfd_send_signal",
        lambda *given: threading.Timer(0.3, kill, given).start(),
    )

    deployment.kill_task(TI)

    assert worker.process.poll() == -9
    assert deployment.task_process(TI) is None


def test_a_worker_whose_task_has_just_ended_lives_on(
    deployment: Deployment,
    start: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = start("")
    assert worker.has_ended_its_task()
    # As found a moment ago.
    parent = deployments._parent
    parents = [worker.process.pid] * 3
    monkeypatch.setattr(deployment, "task_process", lambda _: worker.task)
    monkeypatch.setattr(
        deployments,
        "_parent",
        # Of each two looks the first comes before the end.
        lambda pid: parents.pop() if len(parents) > 2 else parent(pid),
    )

    with pytest.raises(DeadlinePassedError):
        deployment.kill_task(TI)

    assert worker.process.poll() is None
    # Nor is it left stopped.
    worker.process.communicate(timeout=10)
    assert worker.process.returncode == 0


def test_a_task_without_a_worker_is_killed_alone(
    deployment: Deployment, start: Callable[..., Worker]
) -> None:
    worker = start(name="some other process")

    deployment.kill_task(TI)

    assert worker.has_ended_its_task()
    assert worker.process.poll() is None


class TestAProbeOfTheScheduler:
    """What lives without a sign of life is ended, so that it can be started again."""

    @pytest.fixture
    def scheduler(self, tmp_path: Path) -> Iterator[Component]:
        process = subprocess.Popen(
            [sys.executable, "-c", FOREVER],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        yield Component("scheduler", process, tmp_path / "log", ("scheduler",))
        process.kill()
        process.communicate()

    def look_after(
        self,
        tmp_path: Path,
        scheduler: Component,
        monkeypatch: pytest.MonkeyPatch,
        *told: dict[str, str],
        respawn: bool = True,
    ) -> list[str]:
        """Look every 25 seconds, each time with another health; return what was done."""
        said: list[str] = []
        found = Deployment(tmp_path, respawn=respawn, say=said.append)
        found._components["scheduler"] = scheduler
        healths, moments = iter(told), iter(range(1000, 2000, 25))
        monkeypatch.setattr(found.api, "health", lambda: next(healths))
        monkeypatch.setattr(found, "_spawn", lambda *_: scheduler)
        with monkeypatch.context() as patch:
            patch.setattr("time.monotonic", lambda: float(next(moments)))
            for _ in told:
                found._look_after()

        return said

    SILENT: ClassVar = {"metadatabase": "healthy", "scheduler": "unhealthy"}
    WELL: ClassVar = {"metadatabase": "healthy", "scheduler": "healthy"}
    AWAY: ClassVar = {"metadatabase": "unhealthy", "scheduler": "unhealthy"}

    def test_one_that_hangs_is_killed_and_started_again(
        self, tmp_path: Path, scheduler: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = self.look_after(tmp_path, scheduler, monkeypatch, *[self.SILENT] * 4)

        assert said == [
            "killing a scheduler that shows no sign of life",
            "starting scheduler again, which has ended",
        ]
        assert scheduler.process.returncode == -9

    @pytest.mark.parametrize("sign", [WELL, AWAY])
    def test_one_that_starts_or_has_no_database_is_waited_for(
        self,
        tmp_path: Path,
        scheduler: Component,
        monkeypatch: pytest.MonkeyPatch,
        sign: dict[str, str],
    ) -> None:
        silent = [self.SILENT] * 3

        said = self.look_after(tmp_path, scheduler, monkeypatch, *silent, sign, *silent)

        assert said == []
        assert scheduler.alive

    def test_without_respawn_it_is_an_error_after_three_minutes(
        self, tmp_path: Path, scheduler: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler.log.write_text("StaleDataError: 4 were matched.")
        silent = [self.SILENT] * 8

        self.look_after(tmp_path, scheduler, monkeypatch, *silent, respawn=False)
        assert scheduler.alive
        with pytest.raises(
            DeploymentError, match=r"ended with -9(.|\n)*StaleDataError"
        ):
            self.look_after(
                tmp_path, scheduler, monkeypatch, *silent, self.SILENT, respawn=False
            )
