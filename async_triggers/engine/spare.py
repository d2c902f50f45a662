"""Polling more often than anyone requested, from a spare part of the account's limit.

One request answers for many jobs, so a shorter interval costs little, and ends are
reported sooner. It is off unless a part of the limit is set for it. It takes nothing from
others: not while a start, a cancel or a single job waits for its turn, not while another
program spends the limit, and not for a while after the vendor has paused the account.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_triggers.engine.state import PollingState

REST = 600.0
"""Seconds after a pause of the account for which nothing is spent besides."""
LEAST_LEFT = 0.5
"""The part of the limit, and of what may be requested at once, that must be left."""


def spare_pace(state: PollingState) -> float:
    """Return after how many seconds the next round may come; infinity for no sooner."""
    budget, limiter = state.account.budget, state.transport.limiter
    wanted = budget.spare and state.waiters
    if not wanted or not _is_calm(state) or limiter.left < LEAST_LEFT:
        return math.inf

    needed = state.requests * 3600.0 / state.grid
    free = limiter.hourly_share - limiter.starts_per_hour() - needed
    hourly = min(budget.spare * limiter.hourly_limit, free)
    if hourly <= 0.0:
        return math.inf

    return max(budget.fastest, state.requests * 3600.0 / hourly)


def _is_calm(state: PollingState) -> bool:
    transport = state.transport
    return not (
        state.stretch
        or state.trouble.failures
        or transport.trust.doubt is not None
        or transport.limiter.holds_up_others
        or transport.limiter.calm_for < REST
    )
