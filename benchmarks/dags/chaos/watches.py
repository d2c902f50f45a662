"""A DAG that starts when something ends that Airflow has not started."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from async_triggers.airbyte.events import AirbyteSyncFinished
from async_triggers.dbt_cloud.events import DbtCloudRunFinished
from async_triggers.fivetran.events import FivetranSyncFinished

OFTEN: dict[str, Any] = {
    "poll_interval": 5,
    "statuses": ["success", "error", "cancelled"],
}
TRIGGERS = {
    "airbyte": AirbyteSyncFinished("watched", **OFTEN),
    "fivetran": FivetranSyncFinished("watched", **OFTEN),
    "dbt_cloud": DbtCloudRunFinished(99_000, **OFTEN),
}

airbyte, fivetran, dbt_cloud = (
    Asset(
        f"watched_{vendor}",
        watchers=[AssetWatcher(name=f"watched_{vendor}", trigger=trigger)],
    )
    for vendor, trigger in TRIGGERS.items()
)

with DAG("watches", schedule=(airbyte | fivetran | dbt_cloud)):
    EmptyOperator(task_id="nothing")
