"""Waiting on the triggerer for a time and nothing else.

Airflow's own ``DateTimeTrigger`` logs a line for every second of the end of its wait. In
an outage a thousand starts may wait at once, and a log line costs the triggerer's loop a
millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from airflow.triggers.base import TriggerEvent

from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.stored import StoredTrigger

LONGEST_SLEEP = 60.0
"""Seconds after which the clock is read again: it may have been set."""


class MomentTrigger(StoredTrigger):
    """Yields one event when a moment has come.

    :param moment: the moment in epoch seconds
    """

    def __init__(self, moment: float) -> None:
        super().__init__()
        self.moment = moment
        self._fired = False

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the event; its payload is the moment."""
        while (left := self.moment - wall_clock()) > 0:  # noqa: ASYNC110 - only time
            await asyncio.sleep(min(left, LONGEST_SLEEP))

        # A trigger that lingers after its event is called to kill.
        self._fired = True
        yield TriggerEvent(self.moment)
