"""What must hold on every version of Airflow, in one Airflow on PostgreSQL.

How users and accidents stop a task is tested with the life cycle, as is the page of what
waits; this file runs the same scenarios, and adds triggerers that are drained and killed.
On SQLite, which locks no rows, a clear can end the scheduler of Airflow 3.1.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from async_triggers.deferral.compat.store import PREFIX
from tests.airflow_versions import needs_variables
from tests.stack.airbyte_stage import RUNNING, AirbyteStage
from tests.stack.test_airbyte_lifecycle import (
    test_a_deferred_task_that_is_cleared,
    test_a_deferred_task_that_is_marked,
    test_a_retry_after_the_job_has_failed,
    test_a_worker_that_is_killed_before_the_deferral,
    test_the_execution_timeout_cancels,
    test_the_page_shows_a_mapped_task_to_those_who_are_logged_in,
    test_the_timeout_cancels,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.deployment import Deployment

__all__ = [
    "test_a_deferred_task_that_is_cleared",
    "test_a_deferred_task_that_is_marked",
    "test_a_retry_after_the_job_has_failed",
    "test_a_worker_that_is_killed_before_the_deferral",
    "test_the_execution_timeout_cancels",
    "test_the_page_shows_a_mapped_task_to_those_who_are_logged_in",
    "test_the_timeout_cancels",
]

pytestmark = pytest.mark.timeout(1500)

THREADS = 12


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, postgres_deployment: Deployment
) -> Iterator[AirbyteStage]:
    with ExitStack() as closing:
        found = AirbyteStage(postgres_deployment, closing, "versions")
        with found.scenarios.play(
            found,
            request,
            threads=THREADS,
            interrupted=postgres_deployment.interrupted,
        ):
            yield found


@pytest.fixture(scope="module")
def alone(postgres_deployment: Deployment) -> Iterator[AirbyteStage]:
    """A stage whose triggerers may be stopped: nothing else waits on them."""
    with ExitStack() as closing:
        yield AirbyteStage(postgres_deployment, closing, "alone")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name
)
def test_of_two_triggerers_one_is_taken_away(
    alone: AirbyteStage, number: signal.Signals
) -> None:
    """Nothing is cancelled or started twice, and the other one takes over."""
    deployment = alone.deployment
    syncs = [alone.sync(RUNNING).begin("lifecycle_deferrable") for _ in range(3)]
    for sync in syncs:
        sync.wait_until_waited_for()

    current = len(deployment.triggerers) - 1
    deployment.start_triggerer()
    deployment.kill_triggerer(current, number)
    for sync in syncs:
        sync.wait_until_waited_for(times=2)

    for sync in syncs:
        sync.finish()
        assert sync.end() == "success"
        assert sync.returned() == sync.jobs[0]
        assert (sync.starts, sync.cancels) == (1, 0)


@needs_variables
def test_a_task_that_has_succeeded_leaves_no_variable(alone: AirbyteStage) -> None:
    before = variables(alone)
    sync = alone.sync(RUNNING).begin("lifecycle_deferrable")
    sync.wait_until_waited_for()
    own = variables(alone) - before
    assert len(own) == 1

    sync.finish()

    assert sync.end() == "success"
    assert not own & variables(alone)


def variables(stage: AirbyteStage) -> set[str]:
    found = stage.api.request("GET", "/variables", query={"limit": 1000})
    return {
        each["key"] for each in found["variables"] if each["key"].startswith(PREFIX)
    }
