"""How long to wait after an error, and for how long to repeat what has failed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FIRST = 1.0
LONGEST = 60.0
FACTOR = 2.0

_repeats_for: ContextVar[float] = ContextVar("repeats_for", default=math.inf)


@contextmanager
def repeating_for(seconds: float | None) -> Iterator[None]:
    """Repeat no request within the block after so many seconds; None for no bound.

    For a caller that has a better place to wait in than where it is.
    """
    token = _repeats_for.set(math.inf if seconds is None else seconds)
    try:
        yield
    finally:
        _repeats_for.reset(token)


def repeats_for() -> float:
    """Return the seconds after which the running block repeats no request."""
    return _repeats_for.get()


def delay(
    attempt: int,
    *,
    retry_after: float | None = None,
    first: float = FIRST,
    longest: float = LONGEST,
    rng: random.Random | None = None,
) -> float:
    """Return how many seconds to wait after the ``attempt``-th failure in a row.

    ``attempt`` counts from 1. What the vendor requested (``retry_after``) is never cut
    short. Without it the wait doubles from ``first`` up to ``longest``, of which the
    upper half is random, so that processes which failed together come back apart.
    """
    exponent = min(attempt - 1, 32)
    full = min(longest, first * FACTOR**exponent)
    jitter = (rng or random).uniform(0.5, 1.0)
    return max(full * jitter, retry_after or 0.0)
