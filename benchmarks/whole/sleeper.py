"""The trigger of the floor."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Sleeper(BaseTrigger):
    """Fires at a moment, in epoch seconds."""

    def __init__(self, moment: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is not typed
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the classpath and the arguments."""
        return f"{__name__}.Sleeper", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        await asyncio.sleep(max(0.0, self.moment - time.time()))
        yield TriggerEvent({"status": "success"})
