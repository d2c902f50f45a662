"""How long to wait after an error: pure arithmetic."""

from __future__ import annotations

import random

FIRST = 1.0
LONGEST = 60.0
FACTOR = 2.0


def delay(
    attempt: int,
    *,
    retry_after: float | None = None,
    first: float = FIRST,
    longest: float = LONGEST,
    rng: random.Random | None = None,
) -> float:
    """Return how many seconds to wait after the ``attempt``-th failure in a row.

    ``attempt`` counts from 1. What the vendor asked for (``retry_after``) is never cut
    short. Without it the wait doubles from ``first`` up to ``longest``, of which the
    upper half is random, so that processes which failed together come back apart.
    """
    exponent = min(attempt - 1, 32)
    full = min(longest, first * FACTOR**exponent)
    jitter = (rng or random).uniform(0.5, 1.0)
    return max(full * jitter, retry_after or 0.0)
