"""What event triggers cost beside tasks that wait, and how soon they start DAG runs.

``python -m benchmarks.watching`` first measures a thousand triggers that wait, with and
without a thousand watchers beside them, one for the connection of each job, as the polling
benchmark does. Then a whole Airflow watches until a number of jobs have ended.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks import polling
from benchmarks.machine import machine
from benchmarks.rows import Run
from benchmarks.sides import INTERVALS, TITLES, VENDORS
from benchmarks.stage import open_stage
from benchmarks.watched_starts import (
    measure,
    on_paper,
    paper_table,
    raw,
    start_table,
)

MOST_REQUESTS: Final = 1.02
MOST_CPU: Final = 1.3
MOST_LAG: Final = 0.005
"""Seconds by which the lag of the event loop (p99) may be longer with watchers."""
PARTS: Final = ("cost", "start")

Measured: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Medians of waiting alone and with watchers beside, of one vendor."""

    vendor: str
    hear: bool
    jobs: int
    watchers: int
    requests: tuple[float, float]
    cpu: tuple[float, float]
    lag: tuple[float, float]
    ends: int
    heard: int

    @property
    def goals(self) -> dict[str, bool]:
        """Which goals are met."""
        return {
            "requests": self.requests[1] <= self.requests[0] * MOST_REQUESTS,
            "CPU": self.cpu[1] <= self.cpu[0] * MOST_CPU,
            "lag": self.lag[1] <= self.lag[0] + MOST_LAG,
        }


def plan(chosen: argparse.Namespace) -> list[Run]:
    """Return the runs: alone, with watchers that hear of no end, and of each."""
    return [
        Run(
            vendor=vendor,
            side="ours",
            n=chosen.n,
            watchers=watchers,
            hear=hear,
            watched=is_watched,
            seconds=max(
                chosen.seconds,
                (chosen.floor or INTERVALS[vendor]) * polling.ROUNDS,
            )
            + chosen.n / 100 * 0.3,
            number=number,
            floor=chosen.floor,
        )
        for number in range(chosen.rounds)
        # What watches the loop takes more CPU than those who wait.
        for is_watched in (False, True)
        for vendor in chosen.vendor
        for watchers, hear in ((0, True), (chosen.n, False), (chosen.n, True))
    ]


def compare(results: Sequence[tuple[Run, Mapping[str, Any]]]) -> list[Beside]:
    """Put the runs of each vendor side by side."""
    found = []
    kinds = dict.fromkeys((run.vendor, run.hear) for run, _ in results if run.watchers)
    for vendor, hear in kinds:
        own = [each for each in results if each[0].vendor == vendor]
        alone = [measured for run, measured in own if not run.watchers]
        beside = [seen for run, seen in own if run.watchers and run.hear is hear]
        found.append(
            Beside(
                vendor=vendor,
                hear=hear,
                jobs=own[0][0].n,
                watchers=max(run.watchers or 0 for run, _ in own),
                requests=_medians("requests", alone, beside),
                cpu=_medians("settled_cpu_share", *map(_unwatched, (alone, beside))),
                lag=_medians("after_p99_s", *map(_watched, (alone, beside))),
                ends=sum(each["to_hear"] for each in beside),
                heard=sum(each["heard"] for each in beside),
            )
        )

    return found


def _watched(group: Sequence[Measured]) -> list[Measured]:
    return [each for each in group if "after_p99_s" in each]


def _unwatched(group: Sequence[Measured]) -> list[Measured]:
    return [each for each in group if "after_p99_s" not in each]


def _medians(
    name: str, alone: Sequence[Measured], beside: Sequence[Measured]
) -> tuple[float, float]:
    one, other = (
        statistics.median(float(each[name]) for each in group)
        for group in (alone, beside)
    )
    return one, other


def cost_table(found: Sequence[Beside]) -> str:
    """Return the costs in Markdown; what misses its goal stands in bold."""
    rows = [
        "| vendor | watchers hear of | requests | CPU | loop lag p99 | ends, events |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for each in found:
        cells = {
            "requests": f"{each.requests[0]:.0f} → {each.requests[1]:.0f}"
            f" ({_more(each.requests)})",
            "CPU": f"{each.cpu[0] * 100:.2f} % → {each.cpu[1] * 100:.2f} %"
            f" ({each.cpu[1] / each.cpu[0]:.2f} times)",
            "lag": f"{each.lag[0] * 1000:.1f} ms → {each.lag[1] * 1000:.1f} ms",
        }
        shown = [
            cells[name] if is_met else f"**{cells[name]}**"
            for name, is_met in each.goals.items()
        ]
        rows.append(
            f"| {TITLES[each.vendor]} | {'each end' if each.hear else 'no end'}"
            f" | {' | '.join(shown)} | {each.ends}, {each.heard} |"
        )

    return "\n".join(rows) + "\n"


def _more(values: tuple[float, float]) -> str:
    return f"{(values[1] / values[0] - 1) * 100:+.1f} %"


def _cost(chosen: argparse.Namespace) -> list[Beside]:
    runs = plan(chosen)
    pythons = {"ours": sys.executable}
    results: list[tuple[Run, Mapping[str, Any]]] = []
    with open_stage() as stage:
        # CPU is that of the runs in which nothing watches the loop.
        quiet = [run for run in runs if not run.watched]
        rates = polling.idle_rates(quiet, stage, pythons)
        for run in runs:
            measured = polling.measure(run, stage, pythons, rates)
            results.append((run, measured))
            print(
                f"{run.name}: {measured['requests']} requests,"
                f" {measured['settled_cpu_share'] * 100:.2f} % of a core,"
                f" lag {measured.get('after_p99_s', math.nan) * 1000:.1f} ms,"
                f" {measured['told']} of {measured['expected']} ends,"
                f" {measured['heard']} events",
                flush=True,
            )

    return compare(results)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--n", type=int, default=1000, help="jobs, and watchers (1000)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind (2)")
    parser.add_argument("--vendor", nargs="+", choices=VENDORS, default=list(VENDORS))
    parser.add_argument(
        "--seconds", type=float, default=60, help="until the last job ends (60)"
    )
    parser.add_argument(
        "--floor",
        type=float,
        default=0.0,
        help="a shorter interval: to try it, not to measure",
    )
    parser.add_argument(
        "--targets", type=int, default=20, help="connections of each vendor (20)"
    )
    parser.add_argument("--ends", type=int, default=5, help="ends of each (5)")
    parser.add_argument(
        "--every", type=float, default=60, help="seconds in which each has one (60)"
    )
    parser.add_argument("--out", type=Path, help="a folder for watching.md and .json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if each end was one event, and one DAG run."""
    chosen = _parse(arguments)
    seen: dict[str, Any] = {"machine": machine()}
    tables = {}
    is_whole = True
    if "cost" in chosen.part:
        costs = _cost(chosen)
        is_whole = all(each.heard == each.ends for each in costs)
        seen["cost"] = [asdict(each) | {"goals": each.goals} for each in costs]
        tables["watching-cost.md"] = cost_table(costs)

    if "start" in chosen.part:
        home = Path(tempfile.mkdtemp(prefix="async-triggers-watching-"))
        print(f"logs: {home}", flush=True)
        delays = measure(
            home, targets=chosen.targets, ends=chosen.ends, every=chosen.every
        )
        is_whole = is_whole and all(each.runs == each.ends for each in delays)
        seen["start"] = raw(delays)
        tables["watching-start.md"] = start_table(delays, targets=chosen.targets)
        counts = [on_paper(each, chosen.n) for each in delays]
        tables["watching-paper.md"] = paper_table(counts)

    for text in tables.values():
        print(text)

    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        for name, text in tables.items():
            (chosen.out / name).write_text(text)

        for part in chosen.part:
            path = chosen.out / f"watching-{part}.json"
            kept = {"machine": seen["machine"], part: seen[part]}
            path.write_text(json.dumps(kept, indent=1) + "\n")

    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
