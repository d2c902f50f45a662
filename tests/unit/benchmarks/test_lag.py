from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lag import corrected, quantile


def test_a_loop_that_stood_still_was_late_for_every_tick_that_was_due() -> None:
    assert corrected([0.0, 0.05], tick=0.01) == pytest.approx(
        [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    )


def test_small_delays_are_counted_once() -> None:
    assert corrected([0.001, 0.009, 0.01], tick=0.01) == [0.001, 0.009, 0.01]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_quantiles_are_values_that_were_seen(share: float, expected: float) -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50))
def test_correcting_keeps_the_longest_and_never_helps(late: list[float]) -> None:
    shown = corrected(late)

    assert shown[-1] == max(late)
    assert len(shown) >= len(late)
    assert shown == sorted(shown)
