"""DAGs that start when something that Airflow has not started has finished."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from async_triggers.airbyte.events import AirbyteSyncFinished
from async_triggers.dbt_cloud.events import DbtCloudRunFinished
from async_triggers.fivetran.events import FivetranSyncFinished

MAKERS: dict[str, Any] = {
    "airbyte": lambda **given: AirbyteSyncFinished(
        "finished", airbyte_conn_id="finished_airbyte", poll_interval=5, **given
    ),
    "fivetran": lambda **given: FivetranSyncFinished(
        "finished", fivetran_conn_id="finished_fivetran", **given
    ),
    "dbt_cloud": lambda **given: DbtCloudRunFinished(
        3901, dbt_cloud_conn_id="finished_dbt_cloud", poll_interval=5, **given
    ),
}


@task
def report(triggering_asset_events: Any = None) -> list[str]:
    """Return the ids of what has finished."""
    return [
        event.extra["payload"]["id"]
        for events in triggering_asset_events.values()
        for event in events
    ]


for vendor, make in MAKERS.items():
    # Equal watchers of two assets, and two watchers of one.
    one = Asset(
        f"finished_{vendor}",
        watchers=[AssetWatcher(name=f"finished_{vendor}", trigger=make())],
    )
    two = Asset(
        f"finished_{vendor}_as_well",
        watchers=[
            AssetWatcher(name=f"finished_{vendor}_as_well", trigger=make()),
            AssetWatcher(
                name=f"failed_{vendor}", trigger=make(statuses=["error", "cancelled"])
            ),
        ],
    )
    for number in range(3):
        with DAG(
            dag_id=f"finished_{vendor}_{number}",
            schedule=[one],
            start_date=datetime(2026, 1, 1, tzinfo=UTC),
        ):
            report()

    with DAG(
        dag_id=f"finished_{vendor}_as_well",
        schedule=[two],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
    ):
        report()
