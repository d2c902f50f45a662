from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from async_triggers.demo.airflow_api import AirflowApiError, DeadlinePassedError
from async_triggers.demo.deployment import Deployment, DeploymentError

if TYPE_CHECKING:
    from collections.abc import Collection

    from async_triggers.demo.airflow_api import Run

# A worker may report a deferral's end only `[workers] min_heartbeat_interval` (5 s)
# after it, and Airflow 3.3 fails a task that runs again by then.
WELL_AFTER_THE_DEFERRAL = 10
FOREVER = {"seconds": 3600}
DAGS = Path(__file__).parent / "dags"
TEMPLATE = Path(__file__).parents[2] / ".airflow"


def test_a_task_defers_and_resumes(any_deployment: Deployment) -> None:
    api = any_deployment.api

    run = api.trigger_run("stack_waiting", {"seconds": WELL_AFTER_THE_DEFERRAL})
    waiting = api.wait_for(run, "wait", "deferred")
    while_waiting = api.running_slots()
    state = api.wait_for_run(run)

    assert waiting.trigger_id is not None
    assert while_waiting == 0
    assert state == "success"
    assert api.xcom(run, "wait") == "resumed on attempt 1"
    assert api.xcom_keys(run, "wait") == {"return_value"}
    assert api.state_store(run, "wait") == {"seconds": WELL_AFTER_THE_DEFERRAL}
    log = api.log(run, "wait")
    assert "Pausing task as DEFERRED" in log
    assert "Trigger fired event" in log


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_deferred_task_can_be_marked(
    sqlite_deployment: Deployment, state: str
) -> None:
    api = sqlite_deployment.api
    run = api.trigger_run("stack_waiting", FOREVER)
    api.wait_for(run, "wait", "deferred")

    api.set_state(run, "wait", state)

    assert api.wait_for_run(run) == state
    assert api.task_instance(run, "wait").state == state


def test_a_deferred_task_can_be_cleared(postgres_deployment: Deployment) -> None:
    api = postgres_deployment.api
    run = api.trigger_run("stack_waiting", FOREVER)
    first = api.wait_for(run, "wait", "deferred")

    api.clear(run, ["wait"])

    second = api.wait_for(run, "wait", "deferred", try_number=2)
    assert second.trigger_id != first.trigger_id
    with pytest.raises(AirflowApiError, match="409"):
        api.delete_run(run)
    api.set_run_state(run, "failed")
    api.delete_run(run)
    with pytest.raises(AirflowApiError, match="404"):
        api.run_state(run)


def test_a_killed_worker_is_noticed_and_the_task_tried_again(
    sqlite_deployment: Deployment,
) -> None:
    api = sqlite_deployment.api
    # It must be in its own code before it is killed.
    run, pid = _work(sqlite_deployment)

    sqlite_deployment.kill_task(api.task_instance(run, "work"))

    assert api.wait_for_run(run) == "success"
    again = api.task_instance(run, "work")
    assert again.try_number == 2
    assert api.xcom(run, "work") != pid


def _work(deployment: Deployment) -> tuple[Run, int]:
    """Start a task that holds its worker; return its run and its process."""
    api = deployment.api
    run = api.trigger_run("stack_working")
    working = api.wait_for(run, "work", "running")
    api.wait_until(
        lambda: "holding a worker" in api.log(run, "work"),
        what="the task to hold its worker",
        timeout=60,
    )
    pid = deployment.task_process(working)
    assert pid is not None
    return run, pid


def test_a_scheduler_that_runs_is_not_started_again(
    sqlite_deployment: Deployment,
) -> None:
    with pytest.raises(DeploymentError, match="still runs"):
        sqlite_deployment.start_scheduler()


def test_a_connection_can_be_stored_replaced_and_deleted(
    sqlite_deployment: Deployment,
) -> None:
    api = sqlite_deployment.api
    for host in ("one.example", "two.example"):
        api.add_connection("stack_stored", conn_type="generic", host=host)
        shown = api.request("GET", "/connections/stack_stored")
        assert shown["host"] == host

    api.delete_connection("stack_stored")
    api.delete_connection("stack_stored")

    with pytest.raises(AirflowApiError, match="404"):
        api.request("GET", "/connections/stack_stored")


def test_a_passed_deadline_tells_what_was_there_instead(
    sqlite_deployment: Deployment,
) -> None:
    api = sqlite_deployment.api
    run = api.trigger_run("stack_waiting", FOREVER)
    api.wait_for(run, "wait", "deferred")

    with pytest.raises(DeadlinePassedError, match=r"wait=deferred \(attempt 1\)"):
        api.wait_for_run(run, timeout=0)

    api.set_run_state(run, "failed")
    api.wait_for(run, "wait", "failed", "skipped")


def test_a_dag_that_is_not_there_is_told(sqlite_deployment: Deployment) -> None:
    # The example from YAML shows an import error where its connection is not there.
    told = r"DAG 'stack_unheard_of' to be parsed. Instead: import errors: (none|\{)"
    with pytest.raises(DeadlinePassedError, match=told):
        sqlite_deployment.api.wait_for_dag("stack_unheard_of", timeout=0)


def test_the_command_line_reaches_the_same_database(
    sqlite_deployment: Deployment,
) -> None:
    done = sqlite_deployment.airflow("config", "get-value", "core", "executor")

    assert done.stdout.strip() == "LocalExecutor"
    assert done.returncode == 0


def _survivors(sessions: Collection[int]) -> list[int]:
    """Return the processes of these sessions that still run; zombies do not."""
    found = []
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            status = process.read_text().rpartition(")")[2].split()
            if int(status[3]) in sessions and status[0] not in "ZX":
                found.append(int(process.parent.name))
    return found


def test_nothing_survives_the_stop(tmp_path: Path) -> None:
    with Deployment(
        tmp_path, dags=[DAGS], template=TEMPLATE, triggerers=2
    ) as deployment:
        sessions = [part.pid for part in deployment.components]
        # A task is a process group of its own.
        _, task = _work(deployment)
        # A frozen process hears no SIGTERM.
        deployment.kill_triggerer(1, signal.SIGSTOP)
        assert {task, *sessions} < set(_survivors(sessions))

        deployment.stop(grace=2)

        deployment.api.wait_until(
            lambda: not _survivors(sessions), what="the killed to be gone", timeout=5
        )


def test_a_start_that_fails_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    deployment = Deployment(
        tmp_path,
        template=TEMPLATE,
        config={"scheduler": {"task_instance_heartbeat_timeout": "soon"}},
    )

    with pytest.raises(DeploymentError, match=r"(?s)ended with 1\..*soon"):
        deployment.start()

    sessions = [part.pid for part in deployment.components]
    deployment.api.wait_until(
        lambda: not _survivors(sessions), what="the killed to be gone", timeout=5
    )


def test_no_setting_of_the_caller_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "1")
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE_DEFAULT", "airbyte://elsewhere")

    deployment = Deployment(
        tmp_path,
        connections={"mine": {"conn_type": "airbyte", "host": "http://127.0.0.1"}},
    )

    ours = {name: deployment.env[name] for name in deployment.env if "AIRFLOW" in name}
    assert ours == {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_MINE": '{"conn_type": "airbyte", "host": "http://127.0.0.1"}',
    }
