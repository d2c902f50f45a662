"""Airbyte syncs whose runs say which connections they are about.

A run's ``conf`` holds ``airflow``, the Airflow connection, and ``airbyte``, the
connection in Airbyte; a second one, ``other``, where there are two.
"""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import DAG, Context

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor

AIRFLOW = "{{ dag_run.conf['airflow'] }}"
AIRBYTE = "{{ dag_run.conf['airbyte'] }}"
OTHER = "{{ dag_run.conf['other'] }}"
MANY = 100
RETRIED: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}


class HeldSync(AirbyteTriggerSyncOperator):
    """Stays on its worker when the first attempt is about to defer, until killed."""

    attempt: int
    ti: Any

    def execute(self, context: Context) -> Any:
        self.attempt = context["ti"].try_number
        self.ti = context["ti"]
        return super().execute(context)

    def defer(self, **arguments: Any) -> NoReturn:
        if self.attempt == 1:
            self.ti.xcom_push("held", "until killed")
            signal.pause()
        super().defer(**arguments)


def sync(
    operator: type[AirbyteTriggerSyncOperator] = AirbyteTriggerSyncOperator,
    **arguments: Any,
) -> AirbyteTriggerSyncOperator:
    """Return a deferrable sync, with other arguments where given."""
    chosen: dict[str, Any] = {
        "task_id": "sync",
        "connection_id": AIRBYTE,
        "airbyte_conn_id": AIRFLOW,
        "deferrable": True,
        "wait_seconds": 5,
    }
    return operator(**(chosen | arguments))


with DAG("lifecycle_deferrable", schedule=None, max_active_runs=MANY):
    sync()

# Paused by the one test that runs it.
with DAG("lifecycle_on_its_way", schedule=None, max_active_runs=MANY):
    sync()

with DAG("lifecycle_retried", schedule=None, max_active_runs=MANY):
    sync(**RETRIED)

with DAG("lifecycle_retried_later", schedule=None, max_active_runs=MANY):
    sync(retries=1, retry_delay=timedelta(seconds=20))

with DAG("lifecycle_pair", schedule=None, max_active_runs=MANY):
    sync()
    sync(task_id="other", connection_id=OTHER)

with DAG("lifecycle_one_mapped", schedule=None, max_active_runs=MANY):
    AirbyteTriggerSyncOperator.partial(
        task_id="sync", airbyte_conn_id=AIRFLOW, deferrable=True, wait_seconds=5
    ).expand(connection_id=[AIRBYTE])

with DAG("lifecycle_timeout", schedule=None, max_active_runs=MANY):
    sync(timeout=25)

with DAG("lifecycle_execution_timeout", schedule=None, max_active_runs=MANY):
    sync(execution_timeout=timedelta(seconds=25))

with DAG("lifecycle_held", schedule=None, max_active_runs=MANY):
    sync(HeldSync, **RETRIED)
    sync(task_id="other", connection_id=OTHER)

with DAG("lifecycle_synchronous", schedule=None, max_active_runs=MANY):
    sync(deferrable=False, **RETRIED)

# For the workers of the CeleryExecutor that are lost: no other task runs on them.
with DAG("lifecycle_elsewhere", schedule=None, max_active_runs=MANY):
    sync(queue="elsewhere", **RETRIED)

with DAG("lifecycle_held_elsewhere", schedule=None, max_active_runs=MANY):
    sync(HeldSync, queue="elsewhere", **RETRIED)

with DAG("lifecycle_synchronous_elsewhere", schedule=None, max_active_runs=MANY):
    sync(deferrable=False, queue="elsewhere", **RETRIED)

with DAG("lifecycle_synchronous_limit", schedule=None, max_active_runs=MANY):
    sync(deferrable=False, execution_timeout=timedelta(seconds=20))

for choice in ("attach", "fail", "skip"):
    with DAG(f"lifecycle_if_running_{choice}", schedule=None, max_active_runs=MANY):
        sync(if_running=choice)

with DAG("lifecycle_sensors", schedule=None, max_active_runs=MANY):
    started = sync(task_id="start", deferrable=False, asynchronous=True)
    rescheduled = AirbyteJobSensor(
        task_id="rescheduled",
        airbyte_job_id=started.output,
        airbyte_conn_id=AIRFLOW,
        mode="reschedule",
        # Airflow fails a task that comes back before its scheduler has taken note that
        # it had gone, which takes seconds on a busy machine.
        poke_interval=25,
    )
    deferred = AirbyteJobSensor(
        task_id="deferred",
        airbyte_job_id="{{ ti.xcom_pull(task_ids='start') }}",
        airbyte_conn_id=AIRFLOW,
        deferrable=True,
        poke_interval=5,
    )
    started >> deferred

with DAG("lifecycle_soft_fail", schedule=None, max_active_runs=MANY):
    AirbyteJobSensor(
        task_id="sensor",
        airbyte_job_id="{{ dag_run.conf['job'] }}",
        airbyte_conn_id=AIRFLOW,
        deferrable=True,
        soft_fail=True,
        poke_interval=5,
    )

with DAG("lifecycle_mapped", schedule=None, max_active_runs=MANY):
    AirbyteTriggerSyncOperator.partial(
        task_id="sync",
        airbyte_conn_id=AIRFLOW,
        deferrable=True,
        wait_seconds=5,
        pool="lifecycle_mapped",
    ).expand(connection_id=[f"mapped-{number}" for number in range(30)])

# For `dag.test()` alone.
with DAG("lifecycle_tested", schedule=None, max_active_runs=MANY) as tested:
    sync(connection_id="tested", airbyte_conn_id="lifecycle_tested")
