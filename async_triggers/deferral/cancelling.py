"""Cancelling a job on the way to another start, and seeing it stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from async_triggers.engine.errors import TransientError
from async_triggers.engine.observer import CANCELS

if TYPE_CHECKING:
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen

CONFIRM_CANCEL = 30.0
"""Seconds in which a cancelled job is seen to stop before it is waited for instead."""


async def cancel_and_confirm(job: RemoteJob, leased: LeasedAccount, why: str) -> Seen:
    """Cancel a job that has not ended; return it once it has, or after half a minute.

    ``why`` is the reason in the metrics: ``cleared`` or ``timeout``.
    Raise a transient error while the vendor does not show the job.
    """
    seen = await job.recheck(leased)
    if seen.job.state.is_terminal:
        return seen

    job = await job.cancel(leased)
    leased.tally.count(CANCELS, why)
    loop = asyncio.get_running_loop()
    ends = loop.time() + CONFIRM_CANCEL
    pause = 0.5
    while True:
        try:
            seen = await job.look(leased)
        except TransientError:
            # Whether it has stopped is seen later.
            if loop.time() >= ends:
                raise
        else:
            if seen.job.state.is_terminal or loop.time() >= ends:
                return seen

        await asyncio.sleep(pause)
        pause = min(5.0, pause * 2)
