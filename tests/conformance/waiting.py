"""Several triggers of one vendor on one event loop, as a triggerer runs them."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.fivetran.triggers import FivetranTrigger

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


def trigger(vendor: str, name: str) -> BaseTrigger:
    deadline = time.time() + 120
    if vendor == "airbyte":
        return AirbyteSyncTrigger(int(name), "airbyte_default", deadline, 1)
    if vendor == "fivetran":
        # A time before the sync, as a new connection has it: none.
        long_ago = "2026-01-01T00:00:00Z"
        return FivetranTrigger(
            "waiting", name, "fivetran_default", long_ago, poke_interval=15
        )
    return DbtCloudRunJobTrigger("dbt_cloud_default", int(name), deadline, 1, None)


async def event(waiting: BaseTrigger) -> str:
    async for found in waiting.run():
        return str(found.payload["status"])
    return "nothing"


async def main(vendor: str, names: list[str]) -> None:
    waits = (event(trigger(vendor, name)) for name in names)
    async with asyncio.timeout(150):
        ends = await asyncio.gather(*waits)
    assert set(ends) == {"success"}, ends


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
