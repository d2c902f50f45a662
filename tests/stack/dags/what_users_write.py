"""Tasks as people write them: classes of their own, mapped arguments, mail, soft ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, task

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor

if TYPE_CHECKING:
    from airflow.sdk import Context

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CONNECTIONS = {
    "airbyte_conn_id": "users_airbyte",
    "fivetran_conn_id": "users_fivetran",
    "dbt_cloud_conn_id": "users_dbt_cloud",
}


def keep(context: Context, event: Any) -> None:
    """Let the test see what came."""
    context["ti"].xcom_push(key="came", value=event["status"])


class OwnSync(AirbyteTriggerSyncOperator):
    def execute_complete(self, context: Context, event: Any) -> Any:  # type: ignore[override] # as people write it
        keep(context, event)
        return super().execute_complete(context, event)


class OwnFivetran(FivetranOperator):
    def execute_complete(self, context: Context, event: Any = None) -> Any:
        keep(context, event)
        return super().execute_complete(context, event)


class OwnRun(DbtCloudRunJobOperator):
    def execute_complete(self, context: Context, **more: Any) -> Any:  # type: ignore[override] # as people write it
        keep(context, more.pop("event"))
        return sorted(more)


class OwnSyncSensor(AirbyteJobSensor):
    def execute_complete(self, context: Context, event: Any) -> Any:  # type: ignore[override] # as people write it
        keep(context, event)
        return super().execute_complete(context, event)


class OwnFivetranSensor(FivetranSensor):
    def execute_complete(self, context: Context, event: Any) -> Any:  # type: ignore[override] # as people write it
        keep(context, event)
        return super().execute_complete(context, event)


class OwnRunSensor(DbtCloudJobRunSensor):
    def execute_complete(self, context: Context, event: Any = None) -> Any:
        keep(context, event)
        return super().execute_complete(context, event)


with DAG("users_override", schedule=None, start_date=BEGAN, default_args=CONNECTIONS):
    OwnSync(task_id="airbyte", connection_id="orders", deferrable=True)
    OwnFivetran(task_id="fivetran", connector_id="orders")
    OwnRun(task_id="dbt", job_id=3001, check_interval=5, deferrable=True)
    OwnSyncSensor(task_id="wait_airbyte", airbyte_job_id=1, deferrable=True)
    OwnFivetranSensor(
        task_id="wait_fivetran",
        connector_id="foreign",
        completed_after_time="2026-01-01T00:00:00Z",
        always_wait_when_syncing=True,
    )
    OwnRunSensor(
        task_id="wait_dbt", run_id="{{ dag_run.conf['run'] }}", deferrable=True
    )

with DAG("users_map", schedule=None, start_date=BEGAN, default_args=CONNECTIONS):

    @task
    def command(i: int) -> str:
        """Return one command of dbt's."""
        return f"dbt run --select model_{i}"

    commands: Any = command.expand(i=[1, 2])
    DbtCloudRunJobOperator(
        task_id="on_triggerer",
        job_id=3002,
        steps_override=commands,
        check_interval=5,
        deferrable=True,
        start_in_trigger=True,
    )
    DbtCloudRunJobOperator(
        task_id="nested",
        job_id=3003,
        additional_run_config={"steps_override": commands},
        check_interval=5,
        deferrable=True,
    )
    DbtCloudRunJobOperator(
        task_id="on_worker",
        job_id=3004,
        steps_override=commands.map(str.upper),
        check_interval=5,
    )

with DAG("users_mail", schedule=None, start_date=BEGAN, default_args=CONNECTIONS):
    AirbyteTriggerSyncOperator(
        task_id="airbyte",
        connection_id="failing",
        deferrable=True,
        end_from_trigger=True,
        email="me@example.test",
        email_on_failure=True,
    )
    AirbyteTriggerSyncOperator(
        task_id="no_mail",
        connection_id="failing-too",
        deferrable=True,
        end_from_trigger=True,
    )

with DAG("users_soften", schedule=None, start_date=BEGAN, default_args=CONNECTIONS):
    for setting in ("soft_fail", "never_fail"):
        softly: dict[str, Any] = {setting: True}
        AirbyteJobSensor(
            task_id=f"rejected_{setting}",
            airbyte_job_id=1,
            airbyte_conn_id="users_rejected",
            deferrable=True,
            **softly,
        )
        AirbyteJobSensor(
            task_id=f"failed_{setting}",
            airbyte_job_id=2,
            deferrable=True,
            end_from_trigger=True,
            **softly,
        )
        AirbyteJobSensor(
            task_id=f"late_{setting}",
            airbyte_job_id=3,
            deferrable=True,
            timeout=20,
            **softly,
        )
