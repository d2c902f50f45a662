"""A small crowd in a trial account: that the benchmark works, and the limit holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import shared_budget

if TYPE_CHECKING:
    from pathlib import Path


def test_a_crowd_keeps_the_limit_with_a_shared_budget(tmp_path: Path) -> None:
    found = shared_budget.crowd(
        triggerers=2, is_shared=True, count=60, hours=1.5, spread=600.0
    )

    assert found.refused == {}
    # Two looks and starts for each, and polls: more than a window has at once.
    assert 60 * 2 <= found.busiest <= 300
    assert found.by["workers"] >= 60 * 2
    assert set(found.by) == {"triggerer 1", "triggerer 2", "workers"}

    shared_budget.write([(2, True, found)], None, tmp_path)
    raw = json.loads((tmp_path / "shared_budget.json").read_text())
    assert raw["crowds"][0]["busiest"] == found.busiest
    assert "| 2 | shared | 0 |" in (tmp_path / "shared_budget.md").read_text()
