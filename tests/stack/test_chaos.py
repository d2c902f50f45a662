"""A minute of the campaign that `python -m benchmarks.chaos` runs for as long as asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import chaos
from benchmarks.campaign.plan import BLOWS, VENDORS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_starts_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told.json"

    ended = chaos.main(
        [
            *("--seed", "1", "--minutes", "1", "--jobs-per-minute", "18"),
            *("--json", str(told), "--home", str(tmp_path / "airflow")),
        ]
    )

    said = capsys.readouterr().out
    assert ended == 0, said
    seen = json.loads(told.read_text())
    assert seen["findings"] == []
    assert seen["triggers_left"] == 0
    assert len(seen["told"]) == 18
    # It was no calm minute.
    assert sum(seen["hits"].get(blow, 0) for blow in BLOWS) >= len(BLOWS) - 1
    assert all(seen["faults"][vendor] for vendor in VENDORS)
