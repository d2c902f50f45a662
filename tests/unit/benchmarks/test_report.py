from __future__ import annotations

from typing import Any

from benchmarks.campaign.events import EVENT_SINS
from benchmarks.campaign.report import markdown
from benchmarks.campaign.verdict import SINS


def campaign(seed: int, **changes: Any) -> dict[str, Any]:
    row = {
        "name": "all",
        "jobs": 30,
        "starts": 34,
        "sins": dict.fromkeys(SINS, 0),
        "median": 9.4,
        "slowest": 186.2,
    }
    return {
        "seed": seed,
        "seconds": 90,
        "machine": {"airflow": "3.3.2"},
        "table": [{"name": "airbyte"}, row],
        "hits": {"kill -9 a triggerer": 2, "user: clear": 1, "airbyte: dead": 1},
        "faults": {"airbyte": {"reset": 3}, "fivetran": {}},
        "requests": 300,
        "triggers_left": 0,
        "events": [
            {
                "name": "all",
                "ends": 41,
                "events": 43,
                "sins": dict.fromkeys(EVENT_SINS, 0),
                "repeats": 2,
                "hidden": 3,
            }
        ],
        **changes,
    }


def test_every_seed_has_its_row_and_its_column() -> None:
    older = campaign(9, hits={"user: mark failed": 4}, machine={"airflow": "3.1.8"})
    text = markdown([campaign(10), older])

    rows = text.splitlines()
    assert rows.index("| 9 | 3.1.8 | 1.5 | 30 | 34 | 0 | 0 | 0 | 0 | 0 |") < rows.index(
        "| 10 | 3.3.2 | 1.5 | 30 | 34 | 0 | 0 | 0 | 0 | 0 |"
    )
    assert "| 10 | 0 | 300 | 3 | 9 s | 186 s |" in rows
    assert "| kill -9 a triggerer | 0 | 2 |" in rows
    assert "| user: mark failed | 4 | 0 |" in rows
    assert "airbyte: dead" not in text


def test_campaigns_with_watchers_have_a_row_of_their_events() -> None:
    before = campaign(8)
    del before["events"]

    rows = markdown([before, campaign(9)]).splitlines()

    head = rows.index(
        "| seed | ends watched | events missed | events twice | events wrong |"
        " repeated after a blow | ends that clocks hid |"
    )
    assert rows[head + 2 : head + 4] == ["| 9 | 41 | 0 | 0 | 0 | 2 | 3 |", ""]
