"""Two minutes of the campaign that `python -m benchmarks.chaos` runs as long as asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import chaos
from benchmarks.campaign.events import EVENT_SINS
from benchmarks.campaign.plan import BLOWS, VENDORS

if TYPE_CHECKING:
    from pathlib import Path


# Every blow, many kinds of jobs, proxies that answer in between and wrong clocks, and none
# of what takes minutes to settle: a 429 without a time, or a sync of Fivetran's that is
# cancelled there.
SEED = 389


@pytest.mark.postgres
@pytest.mark.timeout(1500)
def test_nothing_is_lost_and_nothing_starts_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "airflow"

    ended = chaos.main(
        [
            *("--seed", str(SEED), "--minutes", "2", "--jobs-per-minute", "9"),
            *("--out", str(tmp_path / "out"), "--home", str(home)),
        ]
    )

    said = capsys.readouterr().out
    assert ended == 0, said
    seen = json.loads((home / "campaign.json").read_text())
    assert seen["findings"] == []
    assert seen["triggers_left"] == 0
    assert len(seen["told"]) == 18
    row = f"| {SEED} | {seen['machine']['airflow']} | 2 | 18 |"
    assert row in (tmp_path / "out" / "chaos.md").read_text()
    everything = seen["events"][-1]
    assert everything["sins"] == dict.fromkeys(EVENT_SINS, 0)
    assert everything["ends"] >= len(VENDORS) * 3
    # It was no calm minute.
    assert sum(seen["hits"].get(blow, 0) for blow in BLOWS) >= len(BLOWS) - 1
    for vendor in VENDORS:
        assert seen["faults"][vendor]["proxy"] >= 1
