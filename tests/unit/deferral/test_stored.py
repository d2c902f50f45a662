"""Rows in Airflow's database, from this release and from others."""

from __future__ import annotations

from typing import Any

import pytest

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral.compat import TaskDeferralError
from async_triggers.deferral.errors import TriggerUnusable
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.sensor_trigger import SensorTrigger
from async_triggers.deferral.start_later import StartLaterTrigger
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.deferral.stored import VERSION, TriggerUnreadable
from async_triggers.fivetran.triggers import FivetranTrigger

TRIGGERS: list[Any] = [
    AirbyteSyncTrigger(1, "airbyte_default", None, 5.0),
    FivetranTrigger("wait", "orders", "fivetran_default"),
    DbtCloudRunJobTrigger("dbt_cloud_default", 1, None, 5.0, None),
    StartTrigger({}, 2, None),
    StartLaterTrigger(0.0, {}, 2, {}),
    SensorTrigger({}, 60.0),
    MomentTrigger(0.0),
]
every_trigger = pytest.mark.parametrize(
    "trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__
)


def made(trigger: Any, **change: Any) -> Any:
    """Return what a triggerer makes of a trigger's row, which was changed."""
    _, arguments = trigger.serialize()
    return type(trigger)(**{**arguments, **change})


@every_trigger
def test_a_row_carries_the_version_and_can_be_read(trigger: Any) -> None:
    _, arguments = trigger.serialize()

    assert arguments["version"] == VERSION == 1
    assert made(trigger).serialize() == trigger.serialize()


@every_trigger
def test_a_row_without_a_version_can_be_read(trigger: Any) -> None:
    assert made(trigger, version=None).serialize() == trigger.serialize()


def test_a_row_without_what_has_a_default_can_be_read() -> None:
    row: dict[str, Any] = {
        "job_id": 1,
        "conn_id": "airbyte_default",
        "end_time": None,
        "poll_interval": 5.0,
        "version": VERSION,
    }

    row["stored_at"] = 5.0
    _, whole = TRIGGERS[0].serialize()
    assert AirbyteSyncTrigger(**row).serialize()[1] == {**whole, "stored_at": 5.0}


@every_trigger
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"version": 2, "lane": "fast"},
            "have version 2, this triggerer reads version 1: upgrade the triggerer;",
        ),
        ({"version": 2}, "have version 2, this triggerer reads version 1"),
        (
            {"version": 0},
            "have version 0, this triggerer reads version 1: run the same",
        ),
        ({"version": "1"}, "have version '1', this triggerer reads version 1"),
        (
            {"lane": "fast"},
            "have version 1, which .* unexpected keyword argument 'lane'",
        ),
    ],
    ids=["newer", "newer with the same names", "older", "a text", "a new name"],
)
def test_a_row_that_cannot_be_read_is_a_type_error(
    trigger: Any, change: dict[str, Any], message: str
) -> None:
    # With any other class the triggerer would end.
    with pytest.raises(TypeError, match=message) as caught:
        made(trigger, **change)

    assert type(caught.value) is TriggerUnreadable
    assert type(trigger).__name__ in str(caught.value)
    assert "then clear the task. What it waits for was left running" in str(
        caught.value
    )


def test_code_that_makes_a_trigger_hears_of_a_wrong_name_as_ever() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'lane'") as caught:
        AirbyteSyncTrigger(1, "c", None, 5.0, lane="fast")  # type: ignore[call-arg]

    assert type(caught.value) is TypeError


class _Own(AirbyteSyncTrigger):
    """A trigger of a user, with a constructor of its own."""

    def __init__(self, job_id: int, team: str) -> None:
        super().__init__(job_id, "airbyte_default", None, 5.0)
        self.team = team


def test_a_trigger_of_a_user_is_read_as_well() -> None:
    own = _Own(7, "sales")

    assert own.serialize()[1] == {
        "job_id": 7,
        "team": "sales",
        "version": 1,
        "stored_at": own.stored_at,
    }
    assert made(own).serialize() == own.serialize()
    with pytest.raises(TriggerUnreadable, match="of _Own have version 2"):
        made(own, version=2)


TASKS: list[Any] = [
    AirbyteTriggerSyncOperator(task_id="sync", connection_id="c", deferrable=True),
    AirbyteJobSensor(task_id="wait", airbyte_job_id=1, deferrable=True),
]
every_task = pytest.mark.parametrize(
    "task", TASKS, ids=lambda task: type(task).__name__
)


@every_task
def test_a_task_fails_with_the_words_of_the_triggerer(task: Any) -> None:
    lines = [
        "Traceback (most recent call last):\n",
        "async_triggers.deferral.stored.TriggerUnreadable: The version is 2\n",
    ]
    failed = {"error": "Trigger failure", "traceback": lines}

    with pytest.raises(TriggerUnusable, match=r"^The version is 2$"):
        task.resume_execution("__fail__", failed, {})


@every_task
@pytest.mark.parametrize("lines", [None, [], ["ValueError: no\n"]])
def test_any_other_failure_of_a_trigger_is_airflows(
    task: Any, lines: list[str] | None
) -> None:
    failed = {"error": "Trigger failure", "traceback": lines}

    with pytest.raises(TaskDeferralError):
        task.resume_execution("__fail__", failed, {})
