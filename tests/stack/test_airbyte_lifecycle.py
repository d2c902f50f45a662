"""What becomes of Airbyte syncs in a real Airflow; the simulator's record is witness."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import Fault
from tests.stack.airbyte_stage import PACE, RUNNING, AirbyteStage
from tests.stack.together import together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.airbyte_stage import Sync

# The first test waits until Airflow runs; each waits until its own scenario is over.
pytestmark = pytest.mark.timeout(1500)

DEFERRED = "Pausing task as DEFERRED"
THREADS = 40


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, postgres_deployment: Deployment
) -> Iterator[AirbyteStage]:
    with ExitStack() as closing:
        found = AirbyteStage(postgres_deployment, closing, "lifecycle")
        with found.scenarios.play(
            found,
            request,
            threads=THREADS,
            interrupted=postgres_deployment.interrupted,
        ):
            yield found


# How a job ends


@together()
def test_a_sync_that_succeeds(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_for("deferred")

    sync.finish()

    assert sync.end() == "success"
    (job,) = sync.jobs
    told = sync.statistics()
    assert sync.returned() == job
    assert (told["job_id"], told["status"]) == (str(job), "succeeded")
    assert (told["rows_synced"], told["bytes_synced"]) == (1000, 1_048_576)
    assert told["attached"] is False
    assert told["url"].endswith(
        f"/connections/{sync.name}/timeline?openLogs=true&jobId={job}"
    )
    link = stage.api.request("GET", f"{sync.run.path}/taskInstances/sync/links")
    assert link["extra_links"] == {"Airbyte job": told["url"]}
    assert DEFERRED in sync.log()
    assert told["url"] in sync.log()
    assert (sync.starts, sync.cancels) == (1, 0)


@together()
def test_a_sync_that_fails(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_for("deferred")

    sync.finish("failed")

    assert sync.end() == "failed"
    (job,) = sync.jobs
    assert f"JobFailed: Job {job} failed" in sync.log()
    assert sync.statistics()["status"] == "failed"
    assert (sync.starts, sync.cancels) == (1, 0)


@together()
def test_a_sync_that_is_cancelled_at_the_vendor(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_for("deferred")

    sync.finish("cancelled")

    assert sync.end() == "failed"
    assert f"JobCancelled: Job {sync.jobs[0]} was cancelled" in sync.log()
    assert (sync.starts, sync.cancels) == (1, 0)


@together()
def test_a_sync_that_is_over_before_the_deferral(stage: AirbyteStage) -> None:
    sync = stage.sync("succeeded").begin("lifecycle_deferrable")

    assert sync.end() == "success"

    assert sync.returned() == sync.jobs[0]
    assert DEFERRED not in sync.log()
    assert sync.starts == 1


# Deadlines


@together(lasts=30)
def test_the_timeout_cancels(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_timeout")

    assert sync.end() == "failed"

    # Airflow may show the last lines of a log some moments after the end.
    sync.wait_for_log("JobTimedOut")
    assert "when the timeout of the task passed; it was cancelled" in sync.log()
    assert sync.states == ["cancelled"]
    assert (sync.starts, sync.cancels) == (1, 1)


@together(lasts=30)
def test_the_execution_timeout_cancels(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_execution_timeout")

    assert sync.end() == "failed"

    log = sync.log()
    assert "when the execution_timeout of the task passed; it was cancelled" in log
    assert sync.states == ["cancelled"]
    assert (sync.starts, sync.cancels) == (1, 1)


@together(lasts=30)
def test_the_execution_timeout_cancels_on_a_worker(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_synchronous_limit")

    assert sync.end() == "failed"

    log = sync.log()
    assert "when the execution_timeout of the task passed; it was cancelled" in log
    assert "JobTimedOut" in log
    assert sync.states == ["cancelled"]
    assert (sync.starts, sync.cancels) == (1, 1)


# What operators see


@together()
def test_the_page_shows_a_mapped_task_to_those_who_are_logged_in(
    stage: AirbyteStage,
) -> None:
    """Its query is the page's alone: tried on each database and each Airflow."""
    sync = stage.sync(RUNNING).begin("lifecycle_one_mapped")

    row = stage.wait_until(
        lambda: row_with_living_triggerer(stage, sync),
        "a row of the page whose triggerer lives",
        every=PACE,
    )

    (job,) = sync.jobs
    assert (row["vendor"], row["job"]) == ("Airbyte", str(job))
    assert row["connection"] == sync.account.conn_id
    assert row["url"].endswith(f"jobId={job}")
    assert row["task"] == "sync [0]"
    assert row["task_path"].endswith("/tasks/sync/mapped/0")
    assert 0 < row["deadline"] - row["since"] <= 3700
    with httpx.Client(
        base_url=stage.deployment.url, trust_env=False, timeout=60
    ) as anonymous:
        # Where all are admins, some releases of Airflow log everyone in.
        expected = anonymous.get("/api/v2/dags").status_code
        assert expected in {200, 401}
        for path in ("jobs", "ui"):
            assert anonymous.get(f"/async-triggers/{path}").status_code == expected


def row_with_living_triggerer(stage: AirbyteStage, sync: Sync) -> dict[str, Any] | None:
    """Return the page's row of a run, as an admin gets it."""
    url = stage.deployment.url
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        token = client.get("/auth/token").json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        answer = client.get("/async-triggers/jobs").json()

    return next(
        (
            row
            for row in answer["rows"]
            # On a busy machine the triggerer's heartbeat may be late.
            if row["run"] == sync.run.run_id and row["is_alive"]
        ),
        None,
    )


# What users do


@pytest.mark.parametrize("state", ["failed", "success"])
@together()
def test_a_deferred_task_that_is_marked(stage: AirbyteStage, state: str) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_until_waited_for()

    sync.mark(state)

    sync.wait_for_jobs("cancelled")
    assert sync.end() == state
    assert sync.wait_for().state == state
    assert (sync.starts, sync.cancels) == (1, 1)


@together()
def test_a_run_that_is_failed(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_until_waited_for()

    stage.api.set_run_state(sync.run, "failed")

    sync.wait_for_jobs("cancelled")
    assert (sync.starts, sync.cancels) == (1, 1)


@together(lasts=30)
def test_a_deferred_task_that_is_cleared(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_until_waited_for()

    stage.api.clear(sync.run, ["sync"])

    sync.wait_for("deferred", attempt=2)
    sync.wait_for_jobs("cancelled", "running")
    sync.finish()
    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[1]
    assert sync.airbyte.record.cancels[str(sync.jobs[1])] == 0
    assert sync.starts == 2


@together()
def test_a_task_that_is_cleared_after_its_success(stage: AirbyteStage) -> None:
    sync = stage.sync("succeeded").begin("lifecycle_deferrable")
    assert sync.end() == "success"

    stage.api.clear(sync.run, ["sync"])

    assert sync.wait_for("success", attempt=2).state == "success"
    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[1]
    assert (sync.starts, sync.cancels) == (2, 0)


@together()
def test_a_clear_that_leaves_the_run_alone(stage: AirbyteStage) -> None:
    other = stage.sync(RUNNING)
    sync = stage.sync("succeeded").begin("lifecycle_pair", other=other.name)
    other.run = sync.run
    other.wait_for("deferred", task="other")
    sync.wait_for("success")

    stage.api.clear(sync.run, ["sync"], reset_dag_runs=False)

    sync.wait_for("success", attempt=2)
    other.finish()
    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[1]
    assert (sync.starts, other.starts) == (2, 1)
    assert (sync.cancels, other.cancels) == (0, 0)


@together()
def test_a_synchronous_task_that_is_marked_failed(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_synchronous")
    sync.wait_for("running")
    sync.wait_for_jobs("running")

    sync.mark("failed")

    sync.wait_for_jobs("cancelled")
    assert sync.end() == "failed"
    assert (sync.starts, sync.cancels) == (1, 1)


@together()
def test_a_synchronous_task_that_is_cleared(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING, "succeeded").begin("lifecycle_synchronous")
    sync.wait_for("running")
    sync.wait_for_jobs("running")

    stage.api.clear(sync.run, ["sync"])

    sync.wait_for("success", attempt=2)
    assert sync.states == ["cancelled", "succeeded"]
    assert sync.end() == "success"
    assert (sync.starts, sync.cancels) == (2, 1)


# Workers that are lost, and retries


@together(lasts=60)
def test_a_worker_that_is_killed_before_the_deferral(stage: AirbyteStage) -> None:
    """A sibling that is cleared meanwhile makes no difference."""
    other = stage.sync("succeeded")
    sync = stage.sync(RUNNING).begin("lifecycle_held", other=other.name)
    held = sync.wait_until_held()
    sync.wait_for("success", task="other")
    stage.api.clear(sync.run, ["other"])
    sync.wait_for("success", task="other", attempt=2)

    stage.deployment.kill_task(held)

    sync.wait_for("deferred", attempt=2)
    sync.finish()
    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)
    assert other.starts == 2
    assert "Attaching to job" in sync.log(attempt=2)


@together(lasts=60)
def test_a_worker_that_is_killed_while_it_waits(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_synchronous")
    waiting = sync.wait_for("running")
    sync.wait_for_jobs("running")

    stage.deployment.kill_task(waiting)

    sync.wait_for("running", attempt=2)
    sync.finish()
    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)


@together()
def test_a_retry_after_the_job_has_failed(stage: AirbyteStage) -> None:
    sync = stage.sync("failed", "succeeded").begin("lifecycle_retried")

    assert sync.end() == "success"

    assert sync.returned() == sync.jobs[1]
    assert (sync.starts, sync.cancels) == (2, 0)


# Somebody else's job


@together()
def test_a_foreign_job_is_waited_for(stage: AirbyteStage) -> None:
    sync = stage.sync("succeeded")
    foreign = sync.airbyte.add_job(sync.name, RUNNING)
    sync.begin("lifecycle_deferrable").wait_for("deferred")

    sync.finish()

    assert sync.end() == "success"
    assert sync.jobs[0] == foreign
    assert sync.returned() == sync.jobs[1]
    assert sync.statistics()["attached"] is False
    assert (sync.starts, sync.cancels) == (1, 0)


@together()
def test_a_foreign_job_is_attached_to(stage: AirbyteStage) -> None:
    sync = stage.sync()
    foreign = sync.airbyte.add_job(sync.name, RUNNING, age=60)
    sync.begin("lifecycle_if_running_attach").wait_for("deferred")

    sync.finish()

    assert sync.end() == "success"
    assert sync.returned() == foreign
    assert sync.statistics()["attached"] is True
    assert sync.statistics()["job_started_at"]
    assert (sync.starts, sync.cancels) == (0, 0)


@together()
def test_a_foreign_job_outlives_a_task_that_has_attached(stage: AirbyteStage) -> None:
    sync = stage.sync()
    sync.airbyte.add_job(sync.name, RUNNING)
    sync.begin("lifecycle_if_running_attach").wait_until_waited_for()

    sync.mark("failed")

    assert sync.end() == "failed"
    assert (sync.states, sync.cancels) == (["running"], 0)


@pytest.mark.parametrize(("choice", "state"), [("fail", "failed"), ("skip", "skipped")])
@together()
def test_a_foreign_job_ends_the_task(
    stage: AirbyteStage, choice: str, state: str
) -> None:
    sync = stage.sync()
    foreign = sync.airbyte.add_job(sync.name, RUNNING)

    sync.begin(f"lifecycle_if_running_{choice}")

    assert sync.wait_for().state == state
    if choice == "fail":
        assert f"JobAlreadyRunning: Job {foreign} has been running since" in sync.log()
    assert (sync.starts, sync.states) == (0, ["running"])


# A vendor in trouble


@together()
def test_a_start_whose_answer_is_lost(stage: AirbyteStage) -> None:
    account = stage.open_account("lifecycle_lost")
    account.airbyte.faults.add(
        Fault(kind="reset", method="POST", path="*/jobs", takes_effect=True)
    )
    sync = stage.sync(RUNNING, account=account).begin("lifecycle_deferrable")
    sync.wait_for("deferred")

    sync.finish()

    assert sync.end() == "success"
    assert account.airbyte.record.faults == {"reset": 1}
    assert sync.returned() == sync.jobs[0]
    assert account.airbyte.record.requests["POST /jobs"] == 1
    assert (sync.starts, sync.cancels) == (1, 0)


@together(lasts=90)
def test_a_lost_start_whose_task_is_marked_on_its_way_to_a_worker(
    stage: AirbyteStage,
) -> None:
    account = stage.open_account("lifecycle_on_its_way")
    account.airbyte.faults.add(
        Fault(kind="reset", method="POST", path="*/jobs", takes_effect=True),
        # The first look is the one before the start.
        Fault(kind="status", method="GET", path="*/jobs", times=5, skip=1),
    )
    sync = stage.sync(RUNNING, account=account).begin("lifecycle_on_its_way")
    sync.wait_until_waited_for()

    # Nothing is queued of a DAG that is paused.
    stage.api.request("PATCH", "/dags/lifecycle_on_its_way", {"is_paused": True})
    sync.wait_for("scheduled")
    assert sync.states == [RUNNING]
    sync.mark("failed")

    sync.wait_for_jobs("cancelled")
    assert (sync.starts, sync.cancels) == (1, 1)


@together(lasts=40)
def test_a_start_that_must_wait_holds_no_worker(stage: AirbyteStage) -> None:
    account = stage.open_account("lifecycle_busy")
    account.airbyte.faults.add(
        Fault(kind="status", status=429, retry_after=25, method="POST", path="*/jobs")
    )
    sync = stage.sync("succeeded", account=account).begin("lifecycle_deferrable")

    sync.wait_for("deferred")
    assert sync.starts == 0

    assert sync.end() == "success"
    assert sync.starts == 1


@together()
def test_a_token_that_expires_in_mid_poll(stage: AirbyteStage) -> None:
    account = stage.open_account("lifecycle_expiring")
    record = account.airbyte.record
    sync = stage.sync(RUNNING, account=account).begin("lifecycle_deferrable")
    sync.wait_for("deferred")
    # The worker has a token of its own; the other is the triggerer's.
    stage.wait_until(lambda: record.tokens_issued == 2, "the triggerer to have a token")

    account.airbyte.expire_tokens()
    stage.wait_until(lambda: record.tokens_issued == 3, "another token")
    sync.finish()

    assert sync.end() == "success"
    assert record.unauthorized == 1
    assert (sync.starts, sync.cancels) == (1, 0)
    assert "WARN" not in sync.log().upper()


@together()
def test_credentials_that_are_rotated_while_it_waits(stage: AirbyteStage) -> None:
    account = stage.open_account("lifecycle_rotated")
    record = account.airbyte.record
    sync = stage.sync(RUNNING, account=account).begin("lifecycle_deferrable")
    sync.wait_for("deferred")
    stage.wait_until(lambda: record.tokens_issued == 2, "the triggerer to have a token")

    account.store(password="the-new-secret")
    account.airbyte.configure(client_secret="the-new-secret")
    account.airbyte.expire_tokens()
    stage.wait_until(lambda: record.tokens_issued == 3, "a token for the new secret")
    sync.finish()

    assert sync.end() == "success"
    assert (sync.starts, sync.cancels) == (1, 0)


# What is wrong from the beginning


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param(
            {"password": "not-the-secret"},
            "Client ID (login) and Client Secret (password)",
            id="credentials",
        ),
        pytest.param(
            {"login": "", "extra": json.dumps({"auth": "kerberos"})},
            "Authentication (extra.auth) must be one of",
            id="malformed",
        ),
        pytest.param({"host": ""}, "host", id="no-host"),
    ],
)
@together()
def test_a_connection_that_cannot_be_used(
    stage: AirbyteStage, fields: dict[str, object], told: str
) -> None:
    conn_id = f"lifecycle_unusable_{next(stage.numbers)}"
    account = stage.second_way_to(stage.account, conn_id, **fields)
    sync = stage.sync(RUNNING, account=account).begin("lifecycle_deferrable")

    assert sync.end() == "failed"

    log = sync.log()
    assert f"(connection '{conn_id}')" in log
    assert "ConnectionUnusable" in log
    assert told in log
    assert DEFERRED not in log
    assert "not-the-secret" not in log
    assert account.airbyte.settings.client_secret not in log
    assert sync.starts == 0


@together()
def test_a_connection_that_airflow_does_not_have(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin(
        "lifecycle_deferrable", airflow="lifecycle_nowhere"
    )

    assert sync.end() == "failed"

    assert "lifecycle_nowhere" in sync.log()
    assert DEFERRED not in sync.log()
    assert sync.starts == 0


@together()
def test_a_connection_that_airbyte_does_not_have(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_deferrable", airbyte="nowhere")

    assert sync.end() == "failed"

    log = sync.log()
    assert "Check connection_id (connection 'lifecycle_airbyte')" in log
    assert DEFERRED not in log


# Sensors


@together(lasts=30)
def test_sensors_of_a_job_that_was_started_elsewhere(stage: AirbyteStage) -> None:
    sync = stage.sync(RUNNING).begin("lifecycle_sensors")
    sync.wait_for("up_for_reschedule", task="rescheduled")
    sync.wait_for("deferred", task="deferred")

    sync.finish()

    assert sync.end() == "success"
    assert sync.returned("start") == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)


@together()
def test_a_deferred_sensor_that_is_marked_leaves_the_job(stage: AirbyteStage) -> None:
    sync = stage.sync()
    job = sync.airbyte.add_job(sync.name, RUNNING)
    sync.begin("lifecycle_soft_fail", job=job)
    sync.wait_until_waited_for(task="sensor")

    sync.mark("failed", "sensor")

    assert sync.end() == "failed"
    assert (sync.states, sync.cancels) == (["running"], 0)


@together()
def test_a_deferred_sensor_that_may_not_fail(stage: AirbyteStage) -> None:
    sync = stage.sync()
    job = sync.airbyte.add_job(sync.name, RUNNING)
    sync.begin("lifecycle_soft_fail", job=job)
    sync.wait_for("deferred", task="sensor")

    sync.finish("failed")

    assert sync.wait_for(task="sensor").state == "skipped"


# Many, and none at all


@together(lasts=90)
def test_thirty_mapped_syncs_share_their_requests(stage: AirbyteStage) -> None:
    stage.add_pool("lifecycle_mapped", 30)
    account = stage.open_account("lifecycle_mapped")
    airbyte, record = account.airbyte, account.airbyte.record
    for number in range(30):
        airbyte.add_connection(f"mapped-{number}", lives=[RUNNING])
    run = stage.begin("lifecycle_mapped", {"airflow": account.conn_id})

    def pool() -> dict[str, int]:
        shown = stage.api.request("GET", "/pools/lifecycle_mapped")
        return {name: shown[f"{name}_slots"] for name in ("deferred", "running")}

    stage.wait_until(lambda: len(airbyte.jobs()) == 30, "thirty jobs")
    stage.wait_until(
        lambda: pool() == {"deferred": 30, "running": 0},
        "thirty tasks to wait without a worker",
        every=PACE,
        instead=lambda: str(pool()),
    )

    looked = record.count("GET", "/jobs")
    stage.wait_until(lambda: record.count("GET", "/jobs") >= looked + 4, "four looks")
    rounds = list(record.exchanges)[-4:]
    for job in airbyte.jobs():
        airbyte.finish(job.job, "succeeded")

    assert stage.api.wait_for_run(run) == "success"
    assert all(each.endpoint == "GET /jobs" for each in rounds)
    assert sum(record.starts.values()) == 30
    assert max(record.starts.values()) == 1
    assert not record.cancels


@together()
def test_a_dag_is_tested_with_a_connection_from_the_database(
    stage: AirbyteStage,
) -> None:
    """In a database of its own: a triggerer may run the triggers of a test run as well."""
    account = stage.open_account("lifecycle_tested")
    airbyte = account.airbyte
    airbyte.add_connection("tested", lives=["pending:1 running:6 succeeded"])
    file = Path(__file__).parent / "dags" / "airbyte_lifecycle.py"
    apart = Deployment(
        stage.deployment.home / "apart",
        dags=stage.deployment.dags,
        env={"PYTHONPATH": stage.deployment.env["PYTHONPATH"]},
    )
    apart.prepare()
    fields = json.dumps(account.fields)
    apart.airflow("connections", "add", account.conn_id, "--conn-json", fields)

    done = apart.python(
        "-c",
        "import runpy, sys\n"
        "run = runpy.run_path(sys.argv[1])['tested'].test()\n"
        "print('state:', run.state)\n",
        str(file),
    )

    assert "state: success" in done.stdout, done.stdout + done.stderr
    assert airbyte.record.starts == {"tested": 1}
    assert not airbyte.record.cancels
