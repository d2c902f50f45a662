"""Jobs of all vendors over connections with marked secrets, and every way to end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor

# Waits as a worker makes them, and as the triggerer does that makes the start as well.
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "begun_": {"start_in_trigger": True, "end_from_trigger": True},
}
# How long the tasks of each end may take.
TIMEOUTS = {"late": 9}
# Credentials that the vendor does not accept, and repeats in its refusal.
WRONG_ACCOUNT = 4710
# What each vendor's tasks do.
ENDS = {
    "airbyte": ("succeeds", "fails", "killed", "late", "wrong"),
    "fivetran": ("succeeds", "killed"),
    "dbt": ("fails", "late", "wrong"),
}
JOBS = {"fails": 4711, "wrong": 4711, "late": 4712}

with DAG(
    dag_id="planted_secrets", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)
):
    for way, switches in WAYS.items():
        for end in ENDS["airbyte"]:
            AirbyteTriggerSyncOperator(
                task_id=f"{way}airbyte_{end}",
                connection_id=f"{way}{end}",
                airbyte_conn_id="planted_wrong"
                if end == "wrong"
                else "planted_airbyte",
                deferrable=True,
                timeout=TIMEOUTS.get(end, 600),
                **switches,
            )

        for end in ENDS["fivetran"]:
            FivetranOperator(
                task_id=f"{way}fivetran_{end}",
                connector_id=f"{way}{end}",
                fivetran_conn_id="planted_fivetran",
                cancel_on_kill=True,
                **switches,
            )

        for end in ENDS["dbt"]:
            is_wrong = end == "wrong"
            DbtCloudRunJobOperator(
                task_id=f"{way}dbt_{end}",
                job_id=JOBS[end],
                account_id=WRONG_ACCOUNT if is_wrong else None,
                dbt_cloud_conn_id="planted_wrong_dbt" if is_wrong else "planted_dbt",
                check_interval=5,
                deferrable=True,
                timeout=TIMEOUTS.get(end, 600),
                **switches,
            )

    # A start that is not answered, by a vendor that is out of reach then.
    FivetranOperator(
        task_id="lost_fivetran_killed",
        connector_id="lost",
        fivetran_conn_id="planted_fivetran",
        cancel_on_kill=True,
    )

    # Waits that no worker begins.
    unseen: dict[str, Any] = {
        "deferrable": True,
        "start_from_trigger": True,
        "end_from_trigger": True,
        "poke_interval": 5,
    }
    for number, end in enumerate(("fails", "killed", "wrong")):
        AirbyteJobSensor(
            task_id=f"sensed_airbyte_{end}",
            airbyte_job_id=9001 + number,
            airbyte_conn_id="planted_wrong" if end == "wrong" else "planted_airbyte",
            **unseen,
        )

    FivetranSensor(
        task_id="sensed_fivetran_succeeds",
        connector_id="seen",
        fivetran_conn_id="planted_fivetran",
        completed_after_time="2020-01-01T00:00:00Z",
        **unseen,
    )
    for end in ("late", "wrong"):
        is_wrong = end == "wrong"
        DbtCloudJobRunSensor(
            task_id=f"sensed_dbt_{end}",
            run_id=9101,
            account_id=WRONG_ACCOUNT if is_wrong else None,
            dbt_cloud_conn_id="planted_wrong_dbt" if is_wrong else "planted_dbt",
            timeout=TIMEOUTS.get(end, 600),
            **unseen,
        )
