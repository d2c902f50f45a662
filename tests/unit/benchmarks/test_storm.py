from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from benchmarks.storm import Outcome, Storm, table

STORM = Storm(
    starts=4, blocks=20.0, threads=5, workers=16, pool=0, before=2, lasts=60.0
)
WELL = Outcome(
    storm=STORM,
    took=20.4,
    whole=90.0,
    starts={1: 4},
    states={"success": 4},
    attempts={1: 4},
    cancels=0,
    refused=0,
    notices=[9.9, 3.1],
    gaps=[5.0, 5.0, 22.2],
    requests={"GET /jobs": 9, "POST /jobs": 4},
    statuses={200: 13},
)


@pytest.mark.parametrize(
    ("pool", "least"), [(0, 16.0), (3, pytest.approx(80 / 3)), (9, 16.0)]
)
def test_the_server_and_the_pool_bound_the_starts(pool: int, least: float) -> None:
    assert replace(STORM, pool=pool).least == least


def test_nothing_is_wrong_where_all_went_well() -> None:
    assert WELL.faults() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"starts": {1: 3, 2: 1}},
        {"starts": {0: 1, 1: 3}},
        {"states": {"success": 3, "failed": 1}},
        {"cancels": 1},
        {"notices": [9.9]},
    ],
)
def test_what_must_not_be_is_told(wrong: dict[str, Any]) -> None:
    assert len(replace(WELL, **wrong).faults()) == 1


def test_the_ways_stand_side_by_side() -> None:
    pooled = replace(WELL, storm=replace(STORM, pool=3), attempts={1: 3, 2: 1})
    kept = [
        json.loads(json.dumps({"way": way, **asdict(each)}))
        for way, each in (("pooled", pooled), ("free", WELL))
    ]

    rows = [line.split(" | ") for line in table(kept).splitlines()]

    assert rows[0] == ["|", "without a pool", "in a pool of 3 slots |"]
    shown = {row[0]: row[1:] for row in rows}
    assert shown["| connections started once"] == ["4 of 4", "4 of 4 |"]
    assert shown["| tasks that needed one attempt"] == ["4 of 4", "3 of 4 |"]
    assert shown["| between two polls: median, longest"][0] == "5.0 s, 22.2 s"
