"""``execution_timeout`` on a worker: Airflow's own task runner, in a process of its own.

Its alarm is a real one. A test lets it come when the vendor has seen something, and waits
for as long as that takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator import Fault
from tests.runner.hanging_secrets import ANSWERS, HANGS, HangingSecrets
from tests.vendors import AIRBYTE, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_triggers.simulator import Simulator

pytestmark = [pytest.mark.runner, pytest.mark.timeout(150)]

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT, ROOT / "tests" / "outside_vendor")
LATE = "had not ended when the execution_timeout of the task passed"


class Worker:
    """A worker that runs one task, whose alarm comes when the test says so."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self._file = folder / "ring"
        self._simulator = simulator

    def ring(self) -> None:
        """Let the alarm come."""
        self._file.touch()

    def run(
        self,
        name: str,
        *,
        when: Callable[[], object] | None = None,
        execution_timeout: float = 600.0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Run a task to its end; ``when`` tells that the alarm is to come."""
        wanted = {
            "class": name,
            "arguments": arguments,
            "execution_timeout": execution_timeout,
            "rings_after": None if when is None else str(self._file),
        }
        over = threading.Event()

        def watch() -> None:
            assert when is not None
            while not when():
                if over.wait(0.02):
                    return

            self.ring()

        watching = threading.Thread(target=watch if when else over.wait)
        watching.start()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.runner.a_worker", json.dumps(wanted)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGES))},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            over.set()
            watching.join()

        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert told["state"] == "failed", done.stdout + done.stderr
        # Long before what is given to the task, whose alarm was brought forward.
        assert told["took"] < 100
        return told


@pytest.fixture
def worker(tmp_path: Path, simulator: Simulator) -> Worker:
    return Worker(tmp_path, simulator)


def prepare(simulator: Simulator, case: Case) -> Any:
    """Add what the vendor's operator starts, and return the vendor."""
    part = case.part(simulator)
    case.add_target(part, case.target, case.life())
    return part


def run(worker: Worker, case: Case, **given: Any) -> dict[str, Any]:
    arguments = {
        case.target_key: case.target,
        case.interval_key: 0.3,
        "deferrable": False,
        **case.permits,
        **given,
    }
    return worker.run(case.operator_class.__name__, **arguments)


@every_vendor
def test_while_polling(worker: Worker, simulator: Simulator, case: Case) -> None:
    part = prepare(simulator, case)

    before = 0

    def is_polled() -> bool:
        nonlocal before
        if not part.record.started:
            before = part.record.count("GET")
            return False

        return bool(part.record.count("GET") > before + 4)

    told = run(worker, case, when=is_polled)

    assert told["error"] == "JobTimedOut"
    assert f"{LATE}; it was cancelled" in told["message"]
    assert part.jobs() == []
    assert len(part.record.started) == 1
    assert sum(part.record.cancels.values()) == 1


@every_vendor
def test_at_its_own_time(worker: Worker, simulator: Simulator, case: Case) -> None:
    """Airflow's timer and our clock, at the same moment."""
    part = prepare(simulator, case)

    told = run(worker, case, execution_timeout=4.0)

    assert told["error"] == "JobTimedOut"
    assert part.jobs() == []
    assert part.record.started == [] or LATE in told["message"]


@every_vendor
def test_before_the_start(worker: Worker, simulator: Simulator, case: Case) -> None:
    """It sleeps before the next try when the alarm comes."""
    part = prepare(simulator, case)
    part.faults.add(Fault(kind="status", status=503, times=None))

    told = run(worker, case, when=lambda: part.record.total >= 1)

    assert told["error"] == "JobTimedOut"
    assert "could not be started before the execution_timeout" in told["message"]
    assert part.record.started == []


@every_vendor
def test_during_a_look(worker: Worker, simulator: Simulator, case: Case) -> None:
    part = prepare(simulator, case)
    part.faults.add(Fault(kind="hang", times=None))

    told = run(worker, case, when=lambda: part.record.total >= 1)

    assert told["error"] == "JobTimedOut"
    assert part.record.started == []


@every_vendor
def test_during_the_start(worker: Worker, simulator: Simulator, case: Case) -> None:
    part = prepare(simulator, case)
    part.faults.add(Fault(kind="delay", seconds=3.0, **case.start))

    told = run(worker, case, when=lambda: part.record.started)

    assert told["error"] == "JobTimedOut"
    assert f"{LATE}; it was cancelled" in told["message"]
    assert part.jobs() == []
    assert len(part.record.started) == 1


@every_vendor
def test_behind_another_job(worker: Worker, simulator: Simulator, case: Case) -> None:
    if not case.has_other_jobs:
        pytest.skip("runs of a job do not stand in each other's way")

    part = prepare(simulator, case)
    case.add_job(part, case.target, case.life())

    told = run(worker, case, when=lambda: part.record.count("GET") > 5)

    assert told["error"] == "JobTimedOut"
    assert f"{LATE}; it is left running" in told["message"]
    assert len(part.jobs()) == 1
    assert part.record.started == []


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A secrets backend that does not answer: the file that is there once it hangs."""
    path = tmp_path / "hangs"
    backend = f"{HangingSecrets.__module__}.{HangingSecrets.__qualname__}"
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND", backend)
    monkeypatch.setenv(HANGS, str(path))
    monkeypatch.setenv(ANSWERS, "0")
    return path


@pytest.mark.parametrize("deferrable", [False, True])
@every_vendor
def test_in_a_look_up_of_the_connection(
    worker: Worker, simulator: Simulator, hangs: Path, case: Case, *, deferrable: bool
) -> None:
    part = prepare(simulator, case)

    told = run(worker, case, when=hangs.exists, deferrable=deferrable)

    assert told["error"] == "AirflowTaskTimeout"
    assert part.record.total == 0


def test_in_a_look_up_after_a_refusal(
    worker: Worker,
    simulator: Simulator,
    hangs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It hangs in a thread, for which nobody waits."""
    monkeypatch.setenv(ANSWERS, "1")
    part = prepare(simulator, AIRBYTE)
    refused = Fault(kind="status", status=401, times=None)

    def is_looked_up() -> bool:
        if hangs.exists():
            part.faults.clear()
            return True

        if part.record.started and not part.faults.as_list():
            part.faults.add(refused)

        return False

    told = run(worker, AIRBYTE, when=is_looked_up)

    assert told["error"] == "JobTimedOut"
    assert part.jobs() == []


@pytest.mark.parametrize("limit", [0.05, 0.4])
def test_less_than_a_second(worker: Worker, simulator: Simulator, limit: float) -> None:
    part = prepare(simulator, AIRBYTE)

    told = run(worker, AIRBYTE, execution_timeout=limit)

    assert told["error"] in {"JobTimedOut", "AirflowTaskTimeout"}
    assert part.jobs() == []


@pytest.mark.parametrize("hangs", [True, False], ids=["in a poke", "between pokes"])
def test_a_sensor_that_pokes(
    worker: Worker, simulator: Simulator, *, hangs: bool
) -> None:
    prepare(simulator, AIRBYTE)
    job = simulator.airbyte.add_job(AIRBYTE.target, "running")
    if hangs:
        simulator.airbyte.faults.add(Fault(kind="hang", method="GET", times=None))

    told = worker.run(
        "AirbyteJobSensor",
        when=lambda: simulator.airbyte.record.count("GET"),
        airbyte_job_id=job,
        poke_interval=1,
        mode="poke",
    )

    assert told["error"] == "AirflowTaskTimeout"
    assert len(simulator.airbyte.jobs()) == 1
