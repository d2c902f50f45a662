"""DAGs that each start when one connection's sync or one job's run has ended."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from async_triggers.airbyte.events import AirbyteSyncFinished
from async_triggers.dbt_cloud.events import DbtCloudRunFinished
from async_triggers.fivetran.events import FivetranSyncFinished

TRIGGERS: dict[str, Any] = {
    "airbyte": lambda number: AirbyteSyncFinished(f"c{number}"),
    "fivetran": lambda number: FivetranSyncFinished(f"c{number}"),
    "dbt_cloud": lambda number: DbtCloudRunFinished(10_000 + number),
}

for vendor, make in TRIGGERS.items():
    for number in range(int(os.environ["WATCHING_TARGETS"])):
        name = f"{vendor}_{number}"
        asset = Asset(name, watchers=[AssetWatcher(name=name, trigger=make(number))])
        with DAG(name, schedule=[asset], is_paused_upon_creation=False):
            EmptyOperator(task_id="nothing")
