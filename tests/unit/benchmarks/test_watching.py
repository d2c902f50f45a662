from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.polling import targets_of, watched_by
from benchmarks.rows import Run
from benchmarks.sides import VENDORS, Vendor
from benchmarks.watched_starts import (
    Started,
    delays_of,
    on_paper,
    paper_table,
    start_table,
)
from benchmarks.watching import Beside, compare, cost_table, main


def run(watchers: int | None, *, watched: bool = True, number: int = 0) -> Run:
    return Run(
        vendor="airbyte",
        side="ours",
        n=1000,
        seconds=60,
        watchers=watchers,
        watched=watched,
        number=number,
    )


def measured(
    requests: int, cpu: float, lag: float | None, heard: int
) -> dict[str, Any]:
    watch = {} if lag is None else {"after_p99_s": lag}
    return {
        "requests": requests,
        "settled_cpu_share": cpu,
        "to_hear": heard,
        "heard": heard,
        **watch,
    }


RESULTS = [
    (run(0), measured(20, 9.0, 0.010, 0)),
    (run(1000), measured(20, 9.0, 0.014, 300)),
    (run(0, watched=False), measured(20, 0.5, None, 0)),
    (run(1000, watched=False), measured(20, 0.6, None, 300)),
]


def test_waiting_alone_and_beside_watchers_stand_side_by_side() -> None:
    (found,) = compare(RESULTS)

    assert (found.jobs, found.watchers) == (1000, 1000)
    assert found.requests == (20.0, 20.0)
    # What watches the loop takes CPU as well.
    assert found.cpu == (0.5, 0.6)
    assert found.lag == (0.010, 0.014)
    assert found.ends == found.heard == 600
    assert all(found.goals.values())


@pytest.mark.parametrize(
    ("name", "number"),
    [("requests", 21), ("settled_cpu_share", 0.66), ("after_p99_s", 0.0151)],
)
def test_what_misses_its_goal_stands_in_bold(name: str, number: float) -> None:
    spoilt = [
        (each, {**seen, name: number} if each.watchers and name in seen else seen)
        for each, seen in RESULTS
    ]

    text = cost_table(compare(spoilt))

    assert text.count("**") == 2
    assert "**" not in cost_table(compare(RESULTS))
    assert "| Airbyte | each end | " in text


def test_each_job_is_of_a_connection_of_its_own_where_connections_are_watched() -> None:
    assert set(targets_of(run(None))) == {"c"}
    assert len(set(targets_of(run(0)))) == 1000


def test_watchers_hear_of_each_end_or_of_none() -> None:
    targets, ends = ["a", "b", "c"], [5.0, None, 7.0]

    every = watched_by(run(3), targets, ends)
    none = watched_by(replace(run(3), hear=False), targets, ends)

    assert every == {"watched_targets": ["a", "b", "c"], "events": 2}
    assert none == {"watched_targets": ["b", "b", "b"], "events": 0}
    assert watched_by(run(0), targets, ends)["watched_targets"] == []


def test_watchers_without_ends_have_a_row_of_their_own() -> None:
    quiet = [
        (replace(each, hear=False), seen) for each, seen in RESULTS if each.watchers
    ]

    found = compare([*RESULTS, *quiet])

    assert [each.hear for each in found] == [True, False]


def started(vendor: Vendor, *waits: tuple[float, float]) -> list[Started]:
    return [
        Started(vendor=vendor, ended=100.0, reported=100.0 + event, started=101.0 + run)
        for event, run in waits
    ]


def test_delays_are_counted_from_the_end_at_the_vendor() -> None:
    runs = [*started("airbyte", (2, 4), (8, 9), (14, 15)), *started("fivetran", (1, 1))]

    found = delays_of("airbyte", runs, requests=240.0, ends=3)

    assert found.runs == found.ends == 3
    assert found.to_event == (8.0, 14.0)
    assert found.to_start == (2.0, 3.0)
    assert found.whole == (10.0, 16.0)
    assert "| Airbyte | 20 | 3 | 3 | 240 | 8.0 s, 14.0 s |" in start_table(
        [found], targets=20
    )


@pytest.mark.parametrize(
    ("vendor", "interval"), [("airbyte", 100), ("fivetran", 180), ("dbt_cloud", 15)]
)
def test_one_request_a_connection_is_as_slow_as_the_limit(
    vendor: Vendor, interval: float
) -> None:
    found = delays_of(vendor, started(vendor, (2, 3)), requests=240.0, ends=1)

    counted = on_paper(found, 1000)

    assert counted.interval == pytest.approx(interval)
    assert counted.requests == pytest.approx(1000 * 3600 / interval)
    assert counted.median == pytest.approx(interval / 2 + 2)
    assert math.isclose(counted.p99, interval * 0.99 + 2)
    assert f"| {interval} s |" in paper_table([counted])
    # A few connections are no matter.
    assert on_paper(found, 20).interval == 15


def test_every_vendor_has_its_goals() -> None:
    rows = [
        Beside(
            vendor=vendor,
            hear=True,
            jobs=1,
            watchers=1,
            requests=(1, 1),
            cpu=(1, 1),
            lag=(0, 0),
            ends=1,
            heard=1,
        )
        for vendor in VENDORS
    ]

    assert len(cost_table(rows).splitlines()) == 2 + len(VENDORS)


def test_a_part_that_nobody_knows_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--part", "end"])

    assert "end" in capsys.readouterr().err
