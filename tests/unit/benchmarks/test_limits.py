"""A small day within small limits: that the benchmark works, not what it measures."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

import pytest

from benchmarks import limits
from benchmarks.scenarios import airbyte, dbt_cloud, fivetran
from benchmarks.virtual_accounts import busiest, by_hour, quantile
from benchmarks.waiting_hour import waiting

if TYPE_CHECKING:
    from pathlib import Path


def test_a_trial_account_stays_inside_and_every_end_is_told(tmp_path: Path) -> None:
    found = fivetran(count=20, hours=1.5, interval=15.0, trial=True, lasts=(600, 1200))

    assert found.refused == {}
    assert found.busiest <= 500
    # Each sync is started and settled, and starts again.
    assert found.ended > 40
    assert found.late_max < 600
    assert found.requests == sum(found.by.values()) == sum(found.by_hour)
    assert found.by["workers"] >= 2 * found.ended
    assert found.separate_busiest > 500

    limits.write([found], [], tmp_path)
    told = json.loads((tmp_path / "limits.json").read_text())
    assert told["limits"][0]["ended"] == found.ended
    assert "Fivetran, trial" in (tmp_path / "limits.md").read_text()
    sizes = re.findall(r"font-size: ([0-9.]+)px", (tmp_path / "limits.svg").read_text())
    assert sizes
    assert min(map(float, sizes)) >= 9


@pytest.mark.parametrize("vendor", ["Airbyte", "Fivetran", "dbt Cloud"])
def test_a_quarter_of_an_hour_of_waiting_is_counted(vendor: str) -> None:
    found = waiting(vendor, tasks=30, items=60, hours=0.25)

    assert found.rounds == 15
    assert found.ended <= 30
    # The first look is at each job singly, or by list.
    assert 15 <= found.requests < 30 * 15
    assert vendor in limits.waiting_table([found])


def test_the_other_two_accounts_work() -> None:
    dbt = dbt_cloud(count=20, hours=0.25, interval=30.0)
    other = airbyte(count=10, hours=0.5, interval=15.0)

    assert dbt.by["others"] > 30_000
    assert dbt.refused == other.refused == {}
    assert set(other.by) == {"triggerer 1", "triggerer 2", "workers"}


def test_requests_are_counted_by_hours_and_windows() -> None:
    asked = [0.0, 10.0, 3599.0, 3600.0, 3605.0, 7300.0]

    assert by_hour(asked, 3.0) == [3, 2, 1]
    assert busiest(asked, 60.0) == 3
    assert busiest(asked, 3600.0) == 4
    assert busiest([], 60.0) == 0


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert math.isnan(quantile([], 0.5))
