"""DAGs that start when syncs and runs have finished, no matter what has started them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from async_triggers.airbyte.events import AirbyteSyncFinished
from async_triggers.dbt_cloud.events import DbtCloudRunFinished
from async_triggers.fivetran.events import FivetranSyncFinished
from async_triggers.fivetran.operators import FivetranOperator

START = datetime(2026, 1, 1, tzinfo=UTC)

sales = Asset(
    "demo_sales_synced",
    watchers=[
        AssetWatcher(
            name="sales",
            trigger=FivetranSyncFinished(
                connector_id="demo_sales", fivetran_conn_id="fivetran_conn_example"
            ),
        )
    ],
)
crm = Asset(
    "demo_crm_synced",
    watchers=[
        AssetWatcher(
            name="crm",
            trigger=AirbyteSyncFinished(
                connection_id="demo-crm", airbyte_conn_id="airbyte_conn_example"
            ),
        )
    ],
)
models = Asset(
    "demo_models_built",
    watchers=[
        AssetWatcher(
            name="models",
            trigger=DbtCloudRunFinished(
                job_id=70403103950002, dbt_cloud_conn_id="dbt_cloud_conn_example"
            ),
        )
    ],
)
orders = Asset("snowflake://demo_account/RAW/SHOP/ORDERS")


@task
def report(triggering_asset_events: Any = None) -> list[str]:
    """Return the ids of what has finished."""
    return [
        event.extra["payload"]["id"]
        for events in triggering_asset_events.values()
        for event in events
    ]


with DAG(
    dag_id="when_sales_synced",
    schedule=[sales],
    start_date=START,
    doc_md="Starts when a sync has finished that Fivetran's own schedule has started.",
):
    report()

with DAG(
    dag_id="when_crm_synced_and_models_built",
    schedule=crm & models,
    start_date=START,
    doc_md="Starts when both an Airbyte sync and a dbt Cloud run have finished.",
):
    report()

with DAG(
    dag_id="load_orders",
    schedule=None,
    start_date=START,
    doc_md="Starts a sync, whose success is news of the table that it loads.",
):
    FivetranOperator(
        task_id="sync",
        fivetran_conn_id="fivetran_conn_example",
        connector_id="demo_orders",
        outlets=[orders],
    )


@task
def count(triggering_asset_events: Any = None) -> list[str]:
    """Return the tables that were loaded."""
    return [str(asset.uri) for asset in triggering_asset_events]


with DAG(
    dag_id="when_orders_loaded",
    schedule=[orders],
    start_date=START,
    doc_md="Starts when a task has loaded a table.",
):
    count()
