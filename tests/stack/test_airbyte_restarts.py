"""A triggerer that is killed while Airbyte syncs are waited for."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.stack.airbyte_stage import RUNNING, AirbyteStage, Sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Waiting:
    """Syncs whose triggerer was killed, and for which another waits now."""

    stays: Sync
    ended_meanwhile: Sync
    without_connection: Sync
    sensor: Sync

    @property
    def all(self) -> tuple[Sync, ...]:
        return (self.stays, self.ended_meanwhile, self.without_connection, self.sensor)


@pytest.fixture(scope="module")
def waiting(postgres_deployment: Deployment) -> Iterator[Waiting]:
    with ExitStack() as closing:
        stage = AirbyteStage(postgres_deployment, closing, "restarts")
        unseen = stage.open_account("restarts_unseen")
        syncs = Waiting(
            stage.sync(RUNNING).begin("lifecycle_deferrable"),
            stage.sync(RUNNING).begin("lifecycle_deferrable"),
            stage.sync(RUNNING, account=unseen).begin("lifecycle_deferrable"),
            stage.sync(RUNNING),
        )
        job = syncs.sensor.airbyte.add_job(syncs.sensor.name)
        syncs.sensor.begin("lifecycle_soft_fail", job=job)
        for each in syncs.all[:3]:
            each.wait_until_waited_for()
        syncs.sensor.wait_until_waited_for(task="sensor")
        current = len(postgres_deployment.triggerers) - 1

        postgres_deployment.kill_triggerer(current)
        syncs.ended_meanwhile.finish()
        stage.api.delete_connection(unseen.conn_id)
        postgres_deployment.start_triggerer()
        syncs.without_connection.wait_for_log("could not be looked up")
        unseen.store()
        syncs.stays.wait_until_waited_for(times=2)
        yield syncs


def test_a_job_that_runs_on_is_waited_for(waiting: Waiting) -> None:
    sync = waiting.stays

    sync.finish()

    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)
    assert sync.log().count("Trigger fired event") == 1


def test_a_job_that_ended_while_nobody_looked(waiting: Waiting) -> None:
    sync = waiting.ended_meanwhile

    assert sync.end() == "success"

    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)
    assert sync.log().count("Trigger fired event") == 1


def test_a_connection_that_cannot_be_looked_up_for_a_while(waiting: Waiting) -> None:
    sync = waiting.without_connection

    sync.finish()

    assert sync.end() == "success"
    assert sync.returned() == sync.jobs[0]
    assert (sync.starts, sync.cancels) == (1, 0)


def test_a_sensor_goes_on(waiting: Waiting) -> None:
    sync = waiting.sensor

    sync.finish()

    assert sync.end() == "success"
    assert (sync.starts, sync.cancels) == (0, 0)
