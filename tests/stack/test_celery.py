"""A whole Airflow with the CeleryExecutor: a Redis, a PostgreSQL and two workers.

How users and accidents stop a task is tested with the life cycle; this file runs the same
scenarios, and adds workers that are lost and a broker that goes away. It needs packages
that change what Airflow does, so it is left out unless it is chosen:
``./scripts/test celery``.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from async_triggers.demo.deployment import Component, Deployment
from tests.stack.airbyte_stage import RUNNING, AirbyteStage
from tests.stack.postgres import PostgresServer
from tests.stack.redis_server import RedisServer
from tests.stack.test_airbyte_lifecycle import (
    test_a_deferred_task_that_is_cleared,
    test_a_deferred_task_that_is_marked,
    test_a_retry_after_the_job_has_failed,
    test_a_synchronous_task_that_is_cleared,
    test_a_synchronous_task_that_is_marked_failed,
    test_a_worker_that_is_killed_before_the_deferral,
    test_a_worker_that_is_killed_while_it_waits,
    test_the_execution_timeout_cancels,
    test_the_execution_timeout_cancels_on_a_worker,
    test_the_timeout_cancels,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "test_a_deferred_task_that_is_cleared",
    "test_a_deferred_task_that_is_marked",
    "test_a_retry_after_the_job_has_failed",
    "test_a_synchronous_task_that_is_cleared",
    "test_a_synchronous_task_that_is_marked_failed",
    "test_a_worker_that_is_killed_before_the_deferral",
    "test_a_worker_that_is_killed_while_it_waits",
    "test_the_execution_timeout_cancels",
    "test_the_execution_timeout_cancels_on_a_worker",
    "test_the_timeout_cancels",
]

pytestmark = [pytest.mark.celery, pytest.mark.timeout(1500)]

DAGS = Path(__file__).parent / "dags"
THREADS = 16
ELSEWHERE = "elsewhere"
"""The queue, and the worker, that no other scenario uses."""


def launch_worker(deployment: Deployment, queue: str) -> Component:
    return deployment.launch(
        f"worker-{queue}",
        *("celery", "worker", "--skip-serve-logs", "--without-mingle"),
        *("--queues", queue, "--concurrency", "4", "--celery-hostname", queue),
    )


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> Iterator[Deployment]:
    with ExitStack() as closing:
        postgres = closing.enter_context(PostgresServer())
        database = postgres.create_database("airflow")
        found = closing.enter_context(
            Deployment(
                tmp_path_factory.mktemp("celery"),
                dags=[DAGS],
                database=database,
                parallelism=12,
                config={
                    "core": {"executor": "CeleryExecutor"},
                    "celery": {
                        "broker_url": f"{redis.url}/0",
                        "result_backend": f"db+{database}",
                    },
                },
            )
        )
        for queue in ("default", ELSEWHERE):
            launch_worker(found, queue)
        yield found


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, deployment: Deployment
) -> Iterator[AirbyteStage]:
    with ExitStack() as closing:
        found = AirbyteStage(deployment, closing, "celery")
        with found.scenarios.play(
            found, request, threads=THREADS, interrupted=deployment.interrupted
        ):
            yield found


@pytest.fixture(scope="module")
def elsewhere(deployment: Deployment) -> Iterator[AirbyteStage]:
    """A stage whose worker may be stopped."""
    with ExitStack() as closing:
        yield AirbyteStage(deployment, closing, ELSEWHERE)


def lose_worker(deployment: Deployment) -> None:
    """Kill the worker of `elsewhere` with all of its tasks, as a machine is lost."""
    worker = deployment.component(f"worker-{ELSEWHERE}")
    worker.stopped_by_us = True
    worker.signal(signal.SIGKILL)
    worker.process.wait()


def test_a_worker_is_lost_between_start_and_deferral(elsewhere: AirbyteStage) -> None:
    sync = elsewhere.sync(RUNNING).begin("lifecycle_held_elsewhere")
    sync.wait_until_held()

    lose_worker(elsewhere.deployment)
    launch_worker(elsewhere.deployment, ELSEWHERE)

    sync.wait_for("deferred", attempt=2)
    sync.finish()
    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)
    assert "Attaching to job" in sync.log(attempt=2)


def test_a_deferred_task_has_no_worker_to_lose(elsewhere: AirbyteStage) -> None:
    """The event waits for a worker; the attempt is the first one all the time."""
    sync = elsewhere.sync(RUNNING).begin("lifecycle_elsewhere")
    sync.wait_until_waited_for()

    lose_worker(elsewhere.deployment)
    sync.finish()
    sync.wait_for("queued")
    launch_worker(elsewhere.deployment, ELSEWHERE)

    assert sync.end() == "success"
    assert sync.wait_for("success").try_number == 1
    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)


def test_a_warm_shutdown_lets_a_task_end(elsewhere: AirbyteStage) -> None:
    """SIGTERM, as of a process manager: the worker ends when its task has."""
    sync = elsewhere.sync(RUNNING).begin("lifecycle_synchronous_elsewhere")
    sync.wait_for("running")
    sync.wait_for_jobs("running")

    worker = elsewhere.deployment.component(f"worker-{ELSEWHERE}")
    worker.stopped_by_us = True
    worker.process.terminate()
    elsewhere.wait_until(
        lambda: "Warm shutdown" in worker.text(), "the worker to take no more tasks"
    )
    sync.finish()

    assert sync.end() == "success"
    assert sync.wait_for("success").try_number == 1
    assert (sync.starts, sync.cancels) == (1, 0)
    elsewhere.wait_until(lambda: not worker.alive, "the worker to end")
    launch_worker(elsewhere.deployment, ELSEWHERE)


def test_the_broker_is_away_when_jobs_end(
    stage: AirbyteStage, redis: RedisServer
) -> None:
    """The executor fails what it cannot hand to a worker: each task loses an attempt."""
    stage.scenarios.wait()
    syncs = [stage.sync(RUNNING).begin("lifecycle_retried_later") for _ in range(3)]
    for sync in syncs:
        sync.wait_until_waited_for()

    redis.kill()
    for sync in syncs:
        sync.finish()
        sync.wait_for("up_for_retry")
    redis.start()

    for sync in syncs:
        assert sync.end() == "success"
        assert sync.wait_for("success").try_number == 2
        assert sync.returned() == sync.jobs[0]
        assert (sync.starts, sync.cancels) == (1, 0)
