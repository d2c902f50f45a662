"""Jobs of three vendors on an Airflow that loses its parts.

Those that stay on their worker at a certain moment do so once, until they are killed
there; what they put into the task state store tells that it has come.
"""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import DAG, Context

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.deferral.operator import JobOperator
from async_triggers.fivetran.operators import FivetranOperator

if TYPE_CHECKING:
    from async_triggers.deferral.attempt import Attempt
    from async_triggers.deferral.record import Record

EACH = 21
"""Jobs of each vendor: one more than the tests end, whose last finds some in flight."""
DBT_JOBS = 7000
AIRBYTE: dict[str, Any] = {"airbyte_conn_id": "ha_airbyte", "wait_seconds": 5}
FIVETRAN: dict[str, Any] = {"fivetran_conn_id": "ha_fivetran"}
DBT: dict[str, Any] = {"dbt_cloud_conn_id": "ha_dbt_cloud", "check_interval": 5}


class Held(JobOperator):
    """Stays on its worker at the moment that the task is named after."""

    store: Any = None

    def hold(self, moment: str) -> None:
        if self.task_id.endswith(moment) and self.store.get("held") is None:
            self.store.set("held", moment)
            signal.pause()

    def execute(self, context: Context) -> Any:
        self.store = context["task_state_store"]
        return super().execute(context)

    def _attempt_of(self, context: Context) -> Attempt:
        known, attempt = self._attempt, super()._attempt_of(context)
        if attempt is not known:
            write = attempt.notes.write

            def held(record: Record) -> None:
                if record.job_id is not None:
                    self.hold("unwritten")
                write(record)

            attempt.notes.write = held  # type: ignore[method-assign]

        return attempt

    def defer(self, **arguments: Any) -> NoReturn:
        self.hold("undeferred")
        super().defer(**arguments)

    def execute_complete(self, context: Context, *arguments: Any, **more: Any) -> Any:
        self.store = context["task_state_store"]
        self.hold("uncompleted")
        return super().execute_complete(context, *arguments, **more)


class HeldSync(Held, AirbyteTriggerSyncOperator):
    """An Airbyte sync that stays on its worker."""


class HeldFivetranSync(Held, FivetranOperator):
    """A Fivetran sync that stays on its worker."""


class HeldRun(Held, DbtCloudRunJobOperator):
    """A dbt run that stays on its worker."""


RETRIED: dict[str, Any] = {"retries": 4, "retry_delay": timedelta(0)}

with DAG("ha_many", schedule=None, default_args=RETRIED):
    AirbyteTriggerSyncOperator.partial(
        task_id="airbyte", deferrable=True, **AIRBYTE
    ).expand(connection_id=[f"many-{number}" for number in range(EACH)])
    FivetranOperator.partial(task_id="fivetran", **FIVETRAN).expand(
        connector_id=[f"many_{number}" for number in range(EACH)]
    )
    DbtCloudRunJobOperator.partial(task_id="dbt_cloud", deferrable=True, **DBT).expand(
        job_id=[DBT_JOBS + number for number in range(EACH)]
    )

# A job that fails must fail its task: one retry would start another.
with DAG("ha_failing", schedule=None, default_args={"retries": 0}):
    AirbyteTriggerSyncOperator(
        task_id="airbyte", connection_id="failing", deferrable=True, **AIRBYTE
    )
    FivetranOperator(task_id="fivetran", connector_id="failing", **FIVETRAN)
    DbtCloudRunJobOperator(
        task_id="dbt_cloud", job_id=DBT_JOBS + 100, deferrable=True, **DBT
    )

with DAG("ha_held", schedule=None, default_args=RETRIED):
    for place, moment in enumerate(("unwritten", "undeferred", "uncompleted")):
        HeldSync(
            task_id=f"airbyte_{moment}",
            connection_id=moment,
            deferrable=True,
            **AIRBYTE,
        )
        HeldFivetranSync(task_id=f"fivetran_{moment}", connector_id=moment, **FIVETRAN)
        HeldRun(
            task_id=f"dbt_cloud_{moment}",
            job_id=DBT_JOBS + 200 + place,
            deferrable=True,
            **DBT,
        )

with DAG("ha_synchronous", schedule=None, default_args=RETRIED):
    AirbyteTriggerSyncOperator(
        task_id="airbyte", connection_id="synchronous", deferrable=False, **AIRBYTE
    )
    FivetranOperator(
        task_id="fivetran", connector_id="synchronous", deferrable=False, **FIVETRAN
    )
    DbtCloudRunJobOperator(
        task_id="dbt_cloud", job_id=DBT_JOBS + 300, deferrable=False, **DBT
    )
