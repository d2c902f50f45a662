"""Watchers beside the triggers that wait: part of the process of a run."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from async_triggers.deferral.watching import EndWatcher

_CLASSES: Mapping[str, str] = {
    "airbyte": "AirbyteSyncFinished",
    "fivetran": "FivetranSyncFinished",
    "dbt_cloud": "DbtCloudRunFinished",
}


BEFORE = 30.0
"""Seconds before the start at which another triggerer wrote the last marks."""


class Marks:
    """The store of an asset, in memory: in Airflow it is a row of the database.

    Its watcher goes on from a time, as one that a triggerer takes over.
    """

    def __init__(self, at: float) -> None:
        mark = import_module("async_triggers.engine.watch").Mark
        self._value: Any = mark(at=at, floor=at).to_json()

    async def aget(self, key: str) -> Any:
        """Return the mark."""
        return self._value

    async def aset(self, key: str, value: Any) -> None:
        """Keep the mark."""
        self._value = value


def make_watcher(vendor: str, target: Any, interval: float) -> EndWatcher:
    """Make the event trigger for the ends of what a connection or a job runs."""
    module = import_module(f"async_triggers.{vendor}.events")
    watcher: EndWatcher = getattr(module, _CLASSES[vendor])(
        target, poll_interval=interval
    )
    return watcher


async def watch(order: Mapping[str, Any], heard: Counter[str]) -> None:
    """Watch as ordered until cancelled; ``heard`` counts events by the ids of jobs."""
    greenback = import_module("greenback")

    async def watch_one(target: Any) -> None:
        # As Airflow's runner does for each of its triggers.
        await greenback.ensure_portal()
        trigger: Any = make_watcher(order["vendor"], target, order["interval"])
        trigger.asset_state_store = Marks(order["begins"] - BEFORE)
        async for event in trigger.run():
            heard[event.payload["id"]] += 1

    async with asyncio.TaskGroup() as group:
        for target in order["watched_targets"]:
            group.create_task(watch_one(target))
            await asyncio.sleep(0)
