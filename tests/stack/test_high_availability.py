"""What becomes of jobs of three vendors when the parts of Airflow are taken away.

Sixty jobs are in flight. Each test takes a part of Airflow away, ends some of the jobs
meanwhile, and looks: the simulator's record tells what was started and cancelled,
Airflow's database what has become of the tasks.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from tests.stack.dags.high_availability import DBT_JOBS
from tests.stack.fleet import BADLY, VENDORS, Fleet, targets
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import Run

# The first test waits until the jobs are under way.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.postgres]

DAGS = Path(__file__).parent / "dags"
MOMENTS = ("unwritten", "undeferred", "uncompleted")
FAILING = targets(("failing", DBT_JOBS + 100))
HELD = targets(*((moment, DBT_JOBS + 200 + n) for n, moment in enumerate(MOMENTS)))
SYNCHRONOUS = targets(("synchronous", DBT_JOBS + 300))
# Workers that outlive their scheduler keep its connections open, in the midst of whatever
# transaction it was killed in, and with it the locks on runs that nobody schedules then.
SERVER = {"idle_in_transaction_session_timeout": "15s"}
CONFIG = {
    "workers": {"min_heartbeat_interval": "1"},
    # The defaults are 5 and 30 seconds: faults are over sooner.
    "triggerer": {"job_heartbeat_sec": "2", "triggerer_health_check_threshold": "10"},
    "scheduler": {"job_heartbeat_sec": "2", "orphaned_tasks_check_interval": "5"},
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as closing:
        postgres = closing.enter_context(PostgresServer(**SERVER))
        simulator = closing.enter_context(SimulatorThread())
        deployment = closing.enter_context(
            Deployment(
                tmp_path_factory.mktemp("fleet"),
                dags=[DAGS],
                database=postgres.create_database("airflow"),
                triggerers=2,
                parallelism=16,
                config=CONFIG,
                respawn=True,
            )
        )
        found = Fleet(deployment, postgres, simulator)
        for each in HELD:
            # They end while their tasks wait; one moment comes only after that.
            found.add(each, "running:20 succeeded")
        for each in FAILING + SYNCHRONOUS:
            found.add(each)
        found.begin()
        yield found
        found.expect_end_of_all()


@pytest.fixture(scope="module")
def failing(fleet: Fleet) -> Run:
    """Jobs that will fail, in flight."""
    run = fleet.deployment.api.trigger_run("ha_failing")
    fleet.wait_until(
        lambda: fleet.counts(run)["deferred"] == len(VENDORS), "ha_failing to wait"
    )
    return run


@pytest.fixture(scope="module")
def held(fleet: Fleet) -> Iterator[Future[Run]]:
    """A run whose tasks are killed on their workers, each at a moment of its own."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(fleet.kill_held, len(HELD))


@pytest.mark.usefixtures("held")
def test_a_triggerer_is_killed(fleet: Fleet) -> None:
    lost = fleet.holder()

    fleet.deployment.kill_triggerer(lost)
    some = fleet.finish_some(3)

    fleet.expect_success(some)
    fleet.wait_until_all_waited_for(by=1 - lost)
    fleet.deployment.restart_triggerer(lost)
    fleet.check()


@pytest.mark.usefixtures("held")
def test_a_triggerer_is_frozen_and_wakes_up(fleet: Fleet, failing: Run) -> None:
    frozen = fleet.holder()

    fleet.deployment.kill_triggerer(frozen, signal.SIGSTOP)
    some = fleet.finish_some(3)
    for each in FAILING:
        fleet.finish(each, BADLY)
    fleet.expect_success(some)
    assert fleet.wait_for_end(failing) == "failed"
    fleet.wait_until_all_waited_for(by=1 - frozen)
    fleet.deployment.kill_triggerer(frozen, signal.SIGCONT)

    # It is told to cancel its triggers, as if users had killed them.
    fleet.wait_until(
        lambda: fleet.holdings()[frozen] == 0, "the one that woke up to let go"
    )
    assert fleet.logs_of_triggers(
        "not cancelled: another triggerer is now waiting for it"
    )
    assert fleet.counts(failing) == {"failed": len(VENDORS)}
    fleet.check(*FAILING)


@pytest.mark.usefixtures("held")
def test_the_triggerers_are_restarted_in_turn(fleet: Fleet) -> None:
    for index in range(2):
        fleet.deployment.kill_triggerer(index, signal.SIGTERM)
        some = fleet.finish_some(2)

        fleet.deployment.restart_triggerer(index)

        fleet.expect_success(some)
        fleet.wait_until_all_waited_for()
    fleet.check()


@pytest.mark.usefixtures("held")
def test_the_scheduler_is_killed(fleet: Fleet) -> None:
    """First alone, so that tasks outlive it, then together with its workers."""
    run = fleet.deployment.api.trigger_run("ha_synchronous")
    fleet.wait_until(lambda: not fleet.starts(SYNCHRONOUS), "all to be started")

    fleet.deployment.restart_scheduler(workers=False)
    some = fleet.finish_some(2)
    # Airflow has them run once more, and tells those that survived to stop.
    fleet.wait_until(
        lambda: all(task.try_number > 1 for task in fleet.tasks(run)),
        "the tasks that run to be counted as orphans",
    )
    fleet.wait_until(
        lambda: fleet.counts(run)["running"] == len(VENDORS), "them to run again"
    )
    fleet.deployment.restart_scheduler()
    some += fleet.finish_some(2)
    for each in SYNCHRONOUS:
        fleet.finish(each)

    fleet.expect_success(some)
    assert fleet.wait_for_end(run) == "success"
    fleet.check(*SYNCHRONOUS)


@pytest.mark.usefixtures("held")
def test_the_database_is_restarted(fleet: Fleet) -> None:
    """Twice: the second time hits triggerers that have just begun."""
    fleet.postgres.restart(down=2, mode="immediate")
    some = fleet.finish_some(3)
    fleet.restart_triggerers()
    # The first look-up of a connection takes a triggerer seconds from here.
    fleet.wait_until(lambda: sum(fleet.holdings()) > 0, "a trigger to begin")
    fleet.postgres.restart(down=2)
    some += fleet.finish_some(3)

    fleet.expect_success(some)
    fleet.wait_until_all_waited_for()
    fleet.check()


def test_workers_are_killed(fleet: Fleet, held: Future[Run]) -> None:
    """Between a start and its record, before the deferral, in `execute_complete`."""
    run = held.result()

    assert fleet.wait_for_end(run) == "success"

    assert {task.state for task in fleet.tasks(run)} == {"success"}
    assert all(task.try_number > 1 for task in fleet.tasks(run))
    fleet.check(*HELD)
