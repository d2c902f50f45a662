from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG

from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import AirflowSensorTimeout, AirflowSkipException
from async_triggers.deferral.errors import JobCancelled, JobFailed, VendorRefused
from async_triggers.simulator.faults import Fault
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB, Runs

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud import DbtCloudSimulator


def sensor(run_id: Any, **changes: Any) -> DbtCloudJobRunSensor:
    arguments = {"task_id": "a_task", "run_id": run_id, "deferrable": True, **changes}
    return DbtCloudJobRunSensor(**arguments)


def test_a_run_is_waited_for_on_the_triggerer(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run = dbt_cloud.add_run(JOB, "running:100 success")
    task = run_of(lambda: sensor(str(run), account_id=str(ACCOUNT)))

    task.work()

    assert task.deferred is not None
    waiting = task.deferred.trigger
    assert isinstance(waiting, DbtCloudRunJobTrigger)
    assert waiting.run_id == run
    assert waiting.account_id == ACCOUNT
    assert not waiting.owned
    assert task.resume() == run


def test_a_run_that_is_over_needs_no_wait(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run = dbt_cloud.add_run(JOB, "success")

    assert run_of(lambda: sensor(run)).work() == run


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_run_is_explained(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, *, deferrable: bool
) -> None:
    run = dbt_cloud.add_run(JOB, "running:60 error", age=100)

    with pytest.raises(JobFailed, match=r"step 3.*model\.shop\.orders"):
        run_of(lambda: sensor(run, deferrable=deferrable)).work()


def test_a_run_that_fails_while_it_is_waited_for_is_explained(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run = dbt_cloud.add_run(JOB, "running:100 error")

    with pytest.raises(JobFailed, match=r"step 3.*model\.shop\.orders"):
        run_of(lambda: sensor(run)).finish()


def test_a_cancelled_run_is_no_success(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run = dbt_cloud.add_run(JOB, "running:100 cancelled")

    with pytest.raises(JobCancelled):
        run_of(lambda: sensor(run)).finish()


def test_soft_fail_skips(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    run = dbt_cloud.add_run(JOB, "running:100 error")

    with pytest.raises(AirflowSkipException):
        run_of(lambda: sensor(run, soft_fail=True)).finish()


def test_a_timeout_leaves_the_run(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    run = dbt_cloud.add_run(JOB, "running")

    with pytest.raises(AirflowSensorTimeout):
        run_of(lambda: sensor(run, timeout=120)).finish()

    assert not dbt_cloud.record.cancels


def test_poking(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    run = dbt_cloud.add_run(JOB, "running")
    task = run_of(lambda: sensor(run, deferrable=False))

    assert not task.work("poke").is_done
    dbt_cloud.faults.add(Fault(kind="status", status=503, times=None, lasts=300))
    assert not task.work("poke").is_done
    dbt_cloud.faults.clear()
    dbt_cloud.finish(str(run), "success")
    found = task.work("poke")
    assert found.is_done
    assert found.xcom_value == run


def test_a_run_that_nobody_knows(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    with pytest.raises(VendorRefused, match="does not know run 1"):
        run_of(lambda: sensor(1)).work()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"run_id": None}, "run_id is empty"),
        ({"run_id": "x"}, "check that it is upstream"),
        ({"account_id": "x"}, "account_id must be a whole number"),
        ({"hook_params": {"retry_limit": "x"}}, "retry_limit"),
    ],
)
def test_arguments_that_cannot_be_used(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, changes: dict[str, Any], told: str
) -> None:
    arguments: dict[str, Any] = {"run_id": 1, **changes}

    with pytest.raises(ArgumentUnusable, match=told):
        run_of(lambda: sensor(**arguments)).work()

    assert dbt_cloud.record.total == 0


def test_hook_params_without_effect_are_told(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    run = dbt_cloud.add_run(JOB, "success")

    run_of(lambda: sensor(run, hook_params={"retry_args": {}})).work()

    assert "hook_params retry_args have no effect" in logged()


def test_how_often_a_sensor_looks() -> None:
    assert sensor(1).poke_interval == 5.0
    assert sensor(1, poke_interval=30).poke_interval == 30.0
    assert sensor(1, deferrable=False).poke_interval == 60.0
    with DAG(
        "a_dag",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"poke_interval": 20},
    ):
        assert sensor(1).poke_interval == 20.0
