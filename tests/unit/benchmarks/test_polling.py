"""What several sittings of the polling benchmark come to, together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.goals import goal_table
from benchmarks.rows import Run
from benchmarks.runs import (
    Sitting,
    number_table,
    plotted,
    ratio_table,
    read,
    summarize,
    tell,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

WHERE = {
    "at": "2026-01-01T00:00:00+00:00",
    "cores": 2,
    "load": [0.5, 0.4, 0.3],
    "python": "3.11",
    "airflow": "3.3.2",
}


def run(
    side: Any = "ours", *, n: int = 1000, seconds: float = 30.0, **more: Any
) -> Run:
    return Run(vendor="airbyte", side=side, n=n, seconds=seconds, **more)


def measured(requests: int) -> dict[str, Any]:
    numbers = dict.fromkeys(("cpu_net_s", "wall_s", "tcp_connections"), 10.0)
    return {**numbers, "requests": requests, "told": 3}


def test_a_sitting_is_added_to_those_before(tmp_path: Path) -> None:
    first = Sitting(WHERE, [(run("peer"), measured(900)), (run(), measured(9))])
    second = Sitting(
        {**WHERE, "load": [1.5, 0, 0]}, [(run(n=50), measured(5)), (run(), measured(7))]
    )

    write([first], tmp_path)
    write([*read(tmp_path), second], tmp_path)

    assert read(tmp_path) == [first, second]
    said = (tmp_path / "polling.md").read_text()
    assert "whose load before was 0.5, 1.5," in said
    # The median of the two of one kind.
    assert "| Airbyte, 1,000 together, 100 ms | 112 x |" in said
    assert "| Airbyte, 50 together, 100 ms | ours | 5 |" in said
    sizes = re.findall(
        r"font-size: ([0-9.]+)px", (tmp_path / "polling.svg").read_text()
    )
    assert sizes
    assert min(map(float, sizes)) >= 9


def test_of_one_kind_the_longest_is_plotted() -> None:
    rows = summarize(
        [
            (run(seconds=120.0), measured(1)),
            (run(), measured(2)),
            (run(n=50), measured(3)),
            (run(latency=0.5), measured(4)),
            (run(start="spread"), measured(5)),
            (run(runner=True), measured(6)),
        ]
    )

    shown = {row.run.n: row.numbers["requests"] for row in plotted(rows)}

    assert shown == {1000: 1, 50: 3}


def test_cpu_that_cannot_be_told_from_nothing_is_told_as_that() -> None:
    few = {**measured(9), "wall_s": 80.0, "cpu_net_s": -0.3}
    rows = summarize([(run("peer"), measured(90)), (run(), few)])

    assert "| 9 | never | 10 | < 0.4 |" in number_table(rows)
    assert "| 80 x | 8.0 x | n/a |" in ratio_table(rows)


def test_cpu_is_that_of_runs_which_nothing_watched(tmp_path: Path) -> None:
    watched = {**measured(9), "wall_s": 80.0, "cpu_net_s": 3.0, "lag_p99_s": 0.002}
    quiet = {"wall_s": 81.0, "cpu_net_s": 0.1, "told": 3}

    write([Sitting(WHERE, [(run("peer"), measured(90)), (run(), watched)])], tmp_path)
    write([*read(tmp_path), Sitting(WHERE, [(run(watched=False), quiet)])], tmp_path)

    said = (tmp_path / "polling.md").read_text()
    # Once, with the loop's lag beside it: a tenth of a second in 81 is enough to be told.
    assert said.count("| ours |") == 1
    assert "| 0.10 |" in said
    assert (run(watched=False), quiet) in read(tmp_path)[1].results


def test_a_run_that_nothing_watched_tells_its_cpu_alone() -> None:
    quiet = {"wall_s": 81.0, "cpu_net_s": 0.25, "told": 3, "expected": 3, "wrong": {}}

    said = tell(run(watched=False), {**quiet, "requests": 9, "tcp_connections": 1})

    assert said == "9 requests over 1 connections; CPU 0.25 s in 81 s, told 3 of 3"


def test_cpu_that_is_too_little_to_be_measured_is_less_than_a_bound() -> None:
    shown = goals(
        (run("peer"), {"cpu_net_s": 10.0, "wall_s": 100.0}),
        (run(), {"cpu_net_s": -0.1, "wall_s": 100.0}),
    )

    assert shown["CPU a second in % of the official trigger's, N = 1,000"] == "< 5.0"


def goals(*results: tuple[Run, dict[str, Any]]) -> dict[str, str]:
    """Return what the table shows for Airbyte, by goal."""
    lines = goal_table(summarize(results)).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert all(cell[3:] == ["not measured"] * 2 for cell in cells)
    return {title: airbyte for title, _, airbyte, *_ in cells}


def test_what_misses_a_goal_stands_out() -> None:
    shown = goals(
        (run("peer", seconds=120.0), {"cpu_net_s": 60.0, "wall_s": 130.0}),
        (run(seconds=120.0), {"cpu_net_s": 2.0, "wall_s": 130.0}),
        # The shorter run is looked at where the others are short as well.
        (run(seconds=30.0), {"cpu_net_s": 0.4, "wall_s": 40.0}),
        (
            run("floor", n=10_000),
            {"rss_growth_mb": 100.0, "warnings": 2, "armed_s": 0.5},
        ),
        (
            run(n=10_000),
            {
                "rss_growth_mb": 161.0,
                "warnings": 2,
                "lag_p99_s": 0.021,
                "detect_p99_s": 5.2,
                "tcp_connections": 5,
                "cpu_net_s": 3.5,
                "wall_s": 40.0,
            },
        ),
        (run("floor", n=10_000, runner=True), {"armed_s": 9.0, "warnings": 6}),
        (run(n=10_000, runner=True), {"armed_s": 14.5, "warnings": 6}),
        (run("floor", n=50_000), {"warnings": 5}),
        (run(n=50_000), {"warnings": 8}),
    )

    assert shown == {
        "CPU a second in % of the official trigger's, N = 1,000": "3.3",
        "memory above the floor's, MB, N = 1,000": "not measured",
        "memory above the floor's, MB, N = 10,000": "**61.0**",
        "loop lag p99, ms, N = 1,000": "not measured",
        "loop lag p99, ms, N = 10,000": "**21.0**",
        "warnings of a blocked loop, N = 1,000": "not measured",
        "warnings of a blocked loop, N = 10,000": "**2**",
        "those above the floor's, N = 10,000": "0",
        "those above the floor's, N = 10,000, in the TriggerRunner": "0",
        "those above the floor's, N = 50,000": "**3**",
        "detection p99 beyond the interval, s, N = 1,000": "not measured",
        "detection p99 beyond the interval, s, N = 10,000": "0.2",
        "TCP connections, N = 10,000": "5",
        "10,000 join at once: all armed after, s": "not measured",
        "10,000 in the TriggerRunner: armed after, above the floor's, s": "**5.5**",
        "10,000 join at once: requests of the first round": "not measured",
        "CPU a second, N = 10,000 over N = 1,000": "**8.8**",
    }
