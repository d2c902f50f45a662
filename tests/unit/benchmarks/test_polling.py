"""What several sittings of the polling benchmark come to, together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.polling import Run, Sitting, plotted, read, summarize, write

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
    assert (tmp_path / "polling.svg").stat().st_size > 0


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
