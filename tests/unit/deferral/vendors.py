"""Every vendor on the stage of one task: how its jobs are begun, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.simulator import (
    AirbyteSimulator,
    DbtCloudSimulator,
    FivetranSimulator,
)
from tests.unit.deferral import stage
from tests.unit.deferral.stage import World, make_world

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

TARGET = {"airbyte": "connection-uuid-123", "fivetran": "orders", "dbt_cloud": 3001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One vendor.

    ``simulator`` is its part of the simulator, ``ends`` the vendor's words for how a job
    ends, ``operator`` and ``sensor`` the arguments that the task's classes need.
    """

    name: str
    simulator: Callable[..., Any]
    connection: dict[str, str]
    operator_class: type[BaseOperator]
    sensor_class: type[BaseOperator]
    running: str
    ends: dict[str, str]
    statistics_key: str
    cancels: dict[str, bool]

    def life(self, end: str = "", *, lasts: float = 60) -> str:
        """Return the life of a job that ends after some seconds, or never."""
        return f"{self.running}:{lasts:g} {self.ends[end]}" if end else self.running

    def sync(self, **arguments: Any) -> Callable[[], BaseOperator]:
        """Return a maker of one and the same operator."""
        given: dict[str, Any] = {
            "airbyte": {"connection_id": TARGET["airbyte"]},
            "fivetran": {"connector_id": TARGET["fivetran"]},
            "dbt_cloud": {"job_id": TARGET["dbt_cloud"]},
        }[self.name]
        given = {
            "task_id": "sync",
            "deferrable": True,
            **given,
            **self.cancels,
            **arguments,
        }
        return lambda: self.operator_class(**given)

    def sensor(self, job: object, **arguments: Any) -> Callable[[], BaseOperator]:
        """Return a maker of one and the same sensor."""
        given: dict[str, Any] = {
            "airbyte": {"airbyte_job_id": job},
            "fivetran": {"connector_id": job},
            "dbt_cloud": {"run_id": job},
        }[self.name]
        given = {"task_id": "sync", "deferrable": True, **given, **arguments}
        return lambda: self.sensor_class(**given)


CASES = (
    Case(
        name="airbyte",
        simulator=AirbyteSimulator,
        connection={"login": "simulator-client", "password": "simulator-secret"},
        operator_class=AirbyteTriggerSyncOperator,
        sensor_class=AirbyteJobSensor,
        running="running",
        ends={"success": "succeeded", "error": "failed", "cancelled": "cancelled"},
        statistics_key="airbyte_job",
        cancels={},
    ),
    Case(
        name="fivetran",
        simulator=FivetranSimulator,
        connection={"login": "simulator-key", "password": "simulator-secret"},
        operator_class=FivetranOperator,
        sensor_class=FivetranSensor,
        running="syncing",
        ends={"success": "succeeded", "error": "failed"},
        statistics_key="fivetran_sync",
        cancels={"cancel_on_kill": True, "cancel_on_timeout": True},
    ),
    Case(
        name="dbt_cloud",
        simulator=DbtCloudSimulator,
        connection={"login": "70403103916001", "password": "simulator-token"},
        operator_class=DbtCloudRunJobOperator,
        sensor_class=DbtCloudJobRunSensor,
        running="running",
        ends={"success": "success", "error": "error", "cancelled": "cancelled"},
        statistics_key="dbt_cloud_run",
        cancels={},
    ),
)
every_vendor = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class VendorWorld(World):
    """A world with any vendor in it; ``airbyte`` is its part of the simulator."""

    case: Case

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.vendor: Any = case.simulator(clock=self.now)
        # What the wire leads to.
        self.airbyte = self.vendor
        self.connect(
            f"{case.name}_default",
            conn_type=case.name,
            host="http://localhost:8000",
            **case.connection,
        )

    def add_target(self, *lives: str) -> None:
        """Add what the operator starts jobs of; each job takes the next life."""
        target: Any = TARGET[self.case.name]
        if self.case.name == "airbyte":
            self.vendor.add_connection(target, lives=list(lives))
        elif self.case.name == "fivetran":
            self.vendor.add_connection(target, lives=list(lives), succeeded_ago=3600)
        else:
            self.vendor.add_job(target, lives=list(lives))

    def add_foreign(self, life: str) -> Any:
        """Begin a job of somebody else; return what a sensor calls it."""
        target: Any = TARGET[self.case.name]
        if self.case.name == "airbyte":
            return self.vendor.add_job(target, life)

        if self.case.name == "fivetran":
            self.vendor.start_sync(target, life)
            return target

        return self.vendor.add_run(target, life)


def make_vendor_world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    """Make a world and put it into the place of the real one."""
    monkeypatch.setattr(stage, "World", lambda: VendorWorld(case))
    world = make_world(monkeypatch)
    assert isinstance(world, VendorWorld)
    return world
