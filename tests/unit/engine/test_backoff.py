from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.engine.backoff import delay


@pytest.mark.parametrize(
    ("attempt", "full"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)]
)
def test_doubles_up_to_the_longest(attempt: int, full: float) -> None:
    waits = [delay(attempt, rng=random.Random(seed)) for seed in range(50)]

    assert full / 2 <= min(waits) < max(waits) <= full


@given(st.integers(1, 100), st.floats(0, 86_400))
def test_never_sooner_than_the_vendor_asked(attempt: int, asked: float) -> None:
    assert delay(attempt, retry_after=asked) >= asked
