"""What runs of the polling benchmark are, and what is told of them: numbers and tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.goals import LATENCY, goal_table
from benchmarks.plots import CPU_ERROR, UNWATCHED_CPU_ERROR, comparable, draw
from benchmarks.rows import Row, Run
from benchmarks.sides import TITLES

RAW = "polling.json"
WHOLE = 10
"""Ratios from which on no fraction is told."""
_NUMBERS = (
    "cpu_net_s",
    "rss_growth_mb",
    "lag_p50_s",
    "lag_p99_s",
    "lag_max_s",
    "after_p50_s",
    "after_p99_s",
    "after_max_s",
    "warnings",
    "after_warnings",
    "longest_collection_s",
    "requests",
    "tcp_connections",
    "body_bytes",
    "detect_p50_s",
    "detect_p99_s",
    "detect_max_s",
    "armed_s",
    "first_round_requests",
    "wall_s",
    "cpu_wall_s",
    "cpu_error",
    "told",
)


def summarize(results: Sequence[tuple[Run, Mapping[str, Any]]]) -> list[Row]:
    """Return a row for each kind of run, in the order of their first runs.

    Its CPU is that of runs of the kind that were not watched, where there are any.
    """
    kinds: dict[Run, list[Mapping[str, Any]]] = {}
    for run, measured in results:
        kinds.setdefault(run.kind, []).append(measured)

    rows = {run: _medians(run, found) for run, found in kinds.items()}
    return [
        Row(run, numbers | _cpu_of(rows.get(replace(run, watched=False), numbers)))
        for run, numbers in rows.items()
        if run.watched
    ]


def _medians(run: Run, found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    numbers = {name: _median(each.get(name) for each in found) for name in _NUMBERS}
    error = CPU_ERROR if run.watched else UNWATCHED_CPU_ERROR
    return {**numbers, "cpu_wall_s": numbers["wall_s"], "cpu_error": error}


def _cpu_of(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: numbers[name] for name in ("cpu_net_s", "cpu_wall_s", "cpu_error")}


def _median(values: Iterable[Any]) -> float | None:
    known = [
        float(value) for value in values if value is not None and not math.isnan(value)
    ]
    return statistics.median(known) if known else None


_RATIOS = (
    ("requests", "requests"),
    ("tcp_connections", "TCP connections"),
    ("cpu_net_s", "CPU"),
    ("rss_growth_mb", "memory"),
    ("lag_p99_s", "loop lag p99"),
    ("after_p99_s", "lag p99 once armed"),
    ("detect_p99_s", "detection p99"),
)


def ratio_table(rows: Sequence[Row]) -> str:
    """Write how many times as much the official trigger takes as ours."""
    found = {row.run: row for row in rows}
    head = " | ".join(title for _, title in _RATIOS)
    lines = [f"| official / ours | {head} |", "| --- |" + " --- |" * len(_RATIOS)]
    for row in rows:
        ours = found.get(replace(row.run, side="ours"))
        if row.run.side != "peer" or ours is None:
            continue

        shown = " | ".join(
            _ratio(comparable(row.numbers, name), comparable(ours.numbers, name))
            for name, _ in _RATIOS
        )
        lines.append(f"| {_kind(row.run)} | {shown} |")

    return "\n".join([*lines, ""])


def _ratio(peer: float | None, ours: float | None) -> str:
    if peer is None or ours is None:
        return "n/a"

    if ours <= 0:
        return "n/a"

    digits = 0 if peer >= WHOLE * ours else 1
    return f"{peer / ours:,.{digits}f} x"


def _kind(run: Run) -> str:
    mode = ", runner" if run.runner else ""
    return f"{TITLES[run.vendor]}, {run.n:,} {run.start}, {run.latency * 1000:.0f} ms{mode}"


def number_table(rows: Sequence[Row]) -> str:
    """Write all numbers."""
    titles = (
        "waiting",
        "side",
        "requests",
        "MB received",
        "TCP",
        "CPU net s",
        "RSS growth MB",
        "lag p50 / p99 / max ms",
        "the same once all are armed",
        "warnings, once armed",
        "longest garbage collection ms",
        "detection p50 / p99 / max s",
        "armed s",
        "told",
        "measured for s",
    )
    lines = [
        f"| {' | '.join(titles)} |",
        "|" + " --- |" * len(titles),
    ]
    for row in rows:
        get = row.numbers
        cells = (
            _kind(row.run),
            {"floor": "floor", "ours": "ours", "peer": "official"}[row.run.side],
            _count(get["requests"]),
            _shown(_times(get["body_bytes"], 1e-6), 1),
            _count(get["tcp_connections"]),
            _cpu(get),
            _shown(get["rss_growth_mb"], 1),
            _three(get, "lag", 1000, 0),
            _three(get, "after", 1000, 0),
            f"{_count(get['warnings'])}, {_count(get['after_warnings'])}",
            _shown(_times(get["longest_collection_s"], 1000), 0),
            _three(get, "detect", 1, 1),
            _shown(get["armed_s"], 2),
            _count(get["told"]),
            _count(get["wall_s"]),
        )
        lines.append(f"| {' | '.join(cells)} |")

    return "\n".join([*lines, ""])


def _shown(value: float | None, digits: int) -> str:
    return "never" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _count(value: float | None) -> str:
    return _shown(value, 0)


def _cpu(numbers: Mapping[str, float | None]) -> str:
    used, seconds = numbers["cpu_net_s"], numbers["cpu_wall_s"]
    error = numbers["cpu_error"]
    if used is None or not seconds or error is None or used >= error * seconds:
        return _shown(used, 2)

    return f"< {error * seconds:.1f}"


def _three(
    numbers: Mapping[str, float | None], name: str, factor: float, digits: int
) -> str:
    found = (numbers[f"{name}_{which}_s"] for which in ("p50", "p99", "max"))
    return " / ".join(_shown(_times(value, factor), digits) for value in found)


def tell(run: Run, measured: Mapping[str, Any]) -> str:
    """Say in a line what a run came to."""
    row = _medians(run, [measured])
    engine = measured.get("engine") or {}
    rounds = f", {engine['rounds']} rounds by {engine['plan']}" if engine else ""
    asked = row["first_round_requests"]
    first = "" if asked is None else f", {_count(asked)} requests in the first round"
    wrong = f"; WRONG: {measured['wrong']}" if measured["wrong"] else ""
    cpu = (
        f"{_count(row['requests'])} requests over {_count(row['tcp_connections'])}"
        f" connections{rounds}; CPU {_shown(row['cpu_net_s'], 2)} s in"
        f" {_count(row['wall_s'])} s"
    )
    if not run.watched:
        return f"{cpu}, told {measured['told']} of {measured['expected']}{wrong}"

    return (
        f"{cpu}, memory +{_shown(row['rss_growth_mb'], 1)} MB, lag"
        f" {_three(row, 'lag', 1000, 0)} ms (once armed {_three(row, 'after', 1000, 0)}),"
        f" {_count(row['warnings'])} warnings ({_count(row['after_warnings'])}), told"
        f" {measured['told']} of {measured['expected']} in {_three(row, 'detect', 1, 2)}"
        f" s, armed in {_shown(row['armed_s'], 2)} s{first}{wrong}"
    )


@dataclass(frozen=True, slots=True)
class Sitting:
    """What was measured in one go, and on which machine."""

    where: Mapping[str, Any]
    results: Sequence[tuple[Run, Mapping[str, Any]]]


def write(sittings: Sequence[Sitting], folder: Path) -> None:
    """Write tables, plots and the raw numbers to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    results = [result for sitting in sittings for result in sitting.results]
    # Whatever the sitting: what differs in the side alone stands together.
    rows = sorted(summarize(results), key=_place)
    raw = {
        "medians": [{**asdict(row.run), **row.numbers} for row in rows],
        "sittings": [
            {
                "machine": dict(sitting.where),
                "runs": [
                    {"run": asdict(run), "measured": measured}
                    for run, measured in sitting.results
                ],
            }
            for sitting in sittings
        ],
    }
    (folder / RAW).write_text(f"{json.dumps(raw, indent=1)}\n")
    first = sittings[0].where
    loads = ", ".join(f"{sitting.where['load'][0]:.1f}" for sitting in sittings)
    head = (
        f"Measured on {first['cores']} processors, whose load before was {loads},"
        f" with Python {first['python']} and Airflow {first['airflow']},"
        f" {first['at'][:10]}."
    )
    (folder / "polling.md").write_text(
        f"{head}\n\n{ratio_table(rows)}\n{number_table(rows)}"
    )
    (folder / "polling-goals.md").write_text(goal_table(rows))
    draw(
        [
            (row.run.vendor, row.run.side, row.run.n, row.numbers)
            for row in plotted(rows)
        ],
        folder / "polling.svg",
    )


def _place(row: Row) -> tuple[object, ...]:
    """Return where a row stands: what is compared most comes first."""
    run = row.run
    unusual = (run.runner, run.start == "spread", run.latency != LATENCY)
    return (*unusual, run.latency, run.n, TITLES[run.vendor], run.seconds, run.side)


def read(folder: Path) -> list[Sitting]:
    """Return what was written to ``folder`` before."""
    raw = json.loads((folder / RAW).read_text())
    return [
        Sitting(
            sitting["machine"],
            [(Run(**each["run"]), each["measured"]) for each in sitting["runs"]],
        )
        for sitting in raw["sittings"]
    ]


def plotted(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that differ in side, vendor and number alone: the first kind.

    Of those that differ in how long they were measured as well, the longest.
    """
    if not rows:
        return []

    first = rows[0].run
    found: dict[tuple[str, str, int], Row] = {}
    for row in sorted(rows, key=lambda row: row.run.seconds):
        run = row.run
        if (run.start, run.latency, run.runner) == (
            first.start,
            first.latency,
            first.runner,
        ):
            found[run.vendor, run.side, run.n] = row

    return list(found.values())
