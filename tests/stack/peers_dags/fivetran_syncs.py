"""Fivetran as users of fivetran-async write it: by id, by name, resyncs and sensors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import (
    BranchPythonOperator,
    PythonOperator,
)
from airflow.sdk import DAG
from fivetran_provider_async.operators import FivetranOperator, FivetranResyncOperator
from fivetran_provider_async.sensors import FivetranSensor

default_args = {
    "owner": "Airflow",
    "depends_on_past": False,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "email": ["data@example.com"],
    "email_on_failure": False,
    "provide_context": True,
}


def choose(ds: str | None = None, **context: Any) -> str:
    """Return the branch to take."""
    return "train" if context["params"].get("train") else "predict"


with DAG(
    "peers_fivetran_ads",
    default_args=default_args,
    description="",
    schedule=None,
    catchup=False,
):
    branch = BranchPythonOperator(task_id="branch", python_callable=choose)
    branch >> [EmptyOperator(task_id=each) for each in ("train", "predict")]
    sync = FivetranOperator(
        task_id="ads-sync",
        fivetran_conn_id="fivetran_default",
        connector_id="{{ var.value.ads_connector_id }}",
    )
    # The operator has waited already: this is the end of one more sync.
    wait = FivetranSensor(
        task_id="ads-sensor",
        fivetran_conn_id="fivetran_default",
        connector_id="{{ var.value.ads_connector_id }}",
        poke_interval=5,
    )
    sync >> wait >> branch

with DAG(
    "peers_fivetran_sync",
    default_args=default_args,
    schedule=None,
    catchup=False,
):
    for end in ("succeeds", "fails"):
        sync = FivetranOperator(
            task_id=f"sync_{end}", connector_id=f"{{{{ var.value.{end}_id }}}}"
        )
        sync >> EmptyOperator(task_id=f"report_{end}")

dag = DAG(
    dag_id="peers_fivetran_xcom",
    default_args=default_args,
    schedule=None,
    catchup=False,
)

with dag:
    for end in ("succeeds", "fails"):
        start = FivetranOperator(
            task_id=f"start_{end}",
            fivetran_conn_id="fivetran_default",
            connector_id=f"{{{{ var.value.started_{end}_id }}}}",
            wait_for_completion=False,
        )
        between = PythonOperator(task_id=f"between_{end}", python_callable=lambda: None)
        wait = FivetranSensor(
            task_id=f"wait_{end}",
            fivetran_conn_id="fivetran_default",
            connector_id=f"{{{{ var.value.started_{end}_id }}}}",
            poke_interval=5,
            completed_after_time=(
                f"{{{{ task_instance.xcom_pull('start_{end}', key='return_value') }}}}"
            ),
        )
        start >> between >> wait

with DAG(
    "peers_fivetran_resync",
    default_args=default_args,
    schedule=None,
    catchup=False,
):
    FivetranResyncOperator(
        task_id="resync_all",
        fivetran_conn_id="fivetran_default",
        connector_id="{{ var.value.resync_id }}",
    )
    FivetranResyncOperator(
        task_id="resync_scoped",
        fivetran_conn_id="fivetran_default",
        connector_id="{{ var.value.scoped_id }}",
        scope={"shop": ["orders", "customers"]},
    )

with DAG(
    "peers_fivetran_by_name",
    default_args=default_args,
    schedule=None,
    catchup=False,
):
    FivetranOperator(
        task_id="sync",
        fivetran_conn_id="fivetran_default",
        connector_name="{{ var.value.connector_name }}",
        destination_name="{{ var.value.destination_name }}",
    )
