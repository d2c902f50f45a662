from __future__ import annotations

from typing import Any

from benchmarks.drain import table


def drain(side: str, took: float, *, cancels: int = 0) -> dict[str, Any]:
    return {
        "side": side,
        "tasks": 1000,
        "took": took,
        "requests": 0,
        "cancels": cancels,
        "deferred": 1000,
    }


def test_an_airflow_has_a_row_with_medians_and_what_is_above_the_floor() -> None:
    took = [("floor", 1.0), ("ours", 2.2), ("ours", 2.6), ("floor", 3.0), ("ours", 9.0)]
    drains = [drain(*each, cancels=2) for each in took]

    text = table([{"machine": {"airflow": "3.1.8"}, "drains": drains}])

    assert text.splitlines()[2:] == [
        "| 3.1.8 | 1000 | 2.0 s (1.0 to 3.0) | 2.6 s (2.2 to 9.0) | +0.6 s | 10 |"
    ]
