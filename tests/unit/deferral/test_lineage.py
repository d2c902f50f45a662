"""Lineage is gathered while a task ends, for a listener alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.ends import AirbyteSyncs
from async_triggers.airbyte.remote_job import AirbyteJob
from async_triggers.airbyte.sensors import AirbyteJobSensor, AirbyteSyncSensor
from async_triggers.deferral import compat
from async_triggers.deferral.errors import JobFailed
from async_triggers.deferral.lineage import GATHER
from tests.unit.deferral.stage import TARGET, Task, World, deferred, sync

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

EVERY_MODE = pytest.mark.parametrize("deferrable", [False, True])


class Known:
    """What a job's lineage is, in place of OpenLineage's."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def describe(self, ti: Any) -> Any:
        return self.job.id, ti


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lineage_of(_: AirbyteJob, leased: LeasedAccount, job: Job) -> Known:
        return Known(job)

    monkeypatch.setattr(compat, "wants_lineage", lambda _: True)
    monkeypatch.setattr(compat, "no_lineage", lambda: "nothing")
    monkeypatch.setattr(AirbyteJob, "lineage_of", lineage_of)


@EVERY_MODE
def test_a_listener_is_shown_the_job_when_it_has_ended(
    world: World, listening: None, *, deferrable: bool
) -> None:
    task = Task(world, sync(deferrable=deferrable))

    task.run()

    shown = task.operator.get_openlineage_facets_on_complete("its instance")
    assert shown == ("1", "its instance")


def test_a_job_that_the_trigger_has_started_is_shown_as_well(
    world: World, listening: None
) -> None:
    task = Task(world, sync(deferrable=True, start_in_trigger=True))

    task.run()

    assert task.operator.get_openlineage_facets_on_complete("ti") == ("1", "ti")


@EVERY_MODE
def test_a_job_that_has_failed_is_shown_as_well(
    world: World, listening: None, *, deferrable: bool
) -> None:
    world.airbyte.add_connection(TARGET, lives=["running:5 failed"])
    task = Task(world, sync(deferrable=deferrable))

    with pytest.raises(JobFailed):
        task.run()

    assert task.operator.get_openlineage_facets_on_failure("ti") == ("1", "ti")


@EVERY_MODE
def test_a_sensor_shows_the_job_that_it_has_waited_for(
    world: World, listening: None, *, deferrable: bool
) -> None:
    # One that has ended is seen by the first look.
    age = 0.0 if deferrable else 60.0
    world.airbyte.add_job(TARGET, "running:20 succeeded", age=age)
    task = Task(
        world,
        lambda: AirbyteJobSensor(
            task_id="t", airbyte_job_id=1, deferrable=deferrable, poke_interval=5
        ),
    )

    task.run()

    assert task.operator.get_openlineage_facets_on_complete("ti") == ("1", "ti")


def test_without_a_listener_nothing_is_requested_for_one(world: World) -> None:
    task = Task(world, sync(deferrable=True))
    deferral = deferred(task.execute())
    event = task.wait(deferral)
    sent = world.airbyte.record.total

    task.resume(deferral, event)

    assert world.airbyte.record.total == sent
    assert task.operator._lineage is None


def test_a_task_that_has_no_job_yet_has_no_lineage(
    world: World, listening: None
) -> None:
    task = Task(world, sync(deferrable=True))

    task.execute()

    assert task.operator.get_openlineage_facets_on_complete("ti") == "nothing"


@EVERY_MODE
@pytest.mark.parametrize("trouble", [KeyError("streams"), None])
def test_what_goes_wrong_with_lineage_costs_only_that(
    world: World,
    listening: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Exception | None,
    *,
    deferrable: bool,
) -> None:
    async def hang_or_fail(*_: object) -> None:
        if trouble is not None:
            raise trouble

        await asyncio.sleep(GATHER * 100)

    monkeypatch.setattr(AirbyteJob, "lineage_of", hang_or_fail)
    task = Task(world, sync(deferrable=deferrable))
    began = world.now()

    assert task.run() == 1
    assert world.now() - began < GATHER * 10
    assert "The lineage of" in caplog.text
    assert task.operator.get_openlineage_facets_on_complete("ti") == "nothing"


def test_a_sensor_that_has_found_its_job_shows_that(
    world: World, listening: None
) -> None:
    """The worker that resumes knows of the job by the event alone."""
    world.airbyte.add_job(TARGET, "running:20 succeeded")
    task = Task(
        world,
        lambda: AirbyteJobSensor(
            task_id="t", connection_id=TARGET, deferrable=True, poke_interval=5
        ),
    )

    task.run()

    assert task.operator.get_openlineage_facets_on_complete("ti") == ("1", "ti")


def test_a_sensor_of_the_next_syncs_shows_what_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, listening: None
) -> None:
    shown = []

    async def lineage_of(syncs: AirbyteSyncs, leased: object, job: Job) -> Known:
        shown.append(syncs)
        return Known(job)

    monkeypatch.setattr(AirbyteSyncs, "lineage_of", lineage_of)
    task = Task(
        world,
        lambda: AirbyteSyncSensor(
            task_id="t", connection_id=TARGET, deferrable=True, poke_interval=5
        ),
    )
    deferral = deferred(task.execute())
    world.airbyte.add_job(TARGET, "running:20 succeeded")

    task.go_on(deferral)

    (syncs,) = shown
    assert syncs.targets == (TARGET,)
    assert syncs.job_id == deferral.kwargs["_async_triggers_waiting"]["job_id"]


def test_a_provider_that_cannot_be_imported_costs_no_task(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> bool:
        msg = "the provider needs another Airflow"
        raise RuntimeError(msg)

    monkeypatch.setattr(compat, "wants_lineage", refuse)

    assert Task(world, sync(deferrable=True)).run() == 1
    assert "the provider needs another Airflow" in caplog.text
