"""Inside the vendors' limits: a day in minutes, on a clock that jumps.

The real engine, triggers and hooks against the simulated vendors
(:mod:`benchmarks.virtual_accounts`), in a scenario for each account
(:mod:`benchmarks.scenarios`), and what an hour of waiting costs
(:mod:`benchmarks.waiting_hour`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.scenarios import airbyte, dbt_cloud, fivetran
from benchmarks.virtual_accounts import (
    HOOKS,
    HOUR,
    LATENCY,
    MEASURED,
    ROOT,
    SEED,
    Report,
    be_quiet,
)
from benchmarks.waiting_hour import Waiting, waiting


def limits_table(reports: Sequence[Report]) -> str:
    """Return the table of the scenarios, in Markdown."""
    lines = [
        (
            "| account | jobs in flight | hours | ended | our requests, busiest hour |"
            " share of the limit, busiest window | one poll a job would take | 429 |"
            " longest interval | end to event, p50 / p99 / max |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in reports:
        share = "no limit"
        separate = f"{each.separate_busiest:,} a minute"
        if each.limit is not None:
            share = f"{each.busiest / each.limit:.0%} of {each.limit:,}"
            separate = f"{each.separate_busiest / each.limit:.1f} times the limit"
            if "others" in each.by:
                theirs = each.by["others"] / each.requests
                share += f", {theirs:.0%} of it by others"

        hours = [hour for hour in each.by_hour if hour]
        ours = max(hours) * each.ours / each.requests
        lines.append(
            f"| {each.name} | {each.jobs:,} | {each.hours:g} | {each.ended:,} |"
            f" {ours:,.0f} | {share} | {separate} | {sum(each.refused.values())} |"
            f" {each.interval:.0f} s |"
            f" {each.late_p50:.0f} / {each.late_p99:.0f} / {each.late_max:.0f} s |"
        )

    return "\n".join(lines)


def waiting_table(found: Sequence[Waiting]) -> str:
    """Return the table of what waiting costs, in Markdown."""
    lines = [
        (
            "| account | tasks | items in the account | polled by | requests in an hour |"
            " goal | MB a round | fewer than one a job |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in found:
        goal = f"{each.goal:,}"
        if each.requests > each.goal:
            goal = f"**missed**, {goal}"

        lines.append(
            f"| {each.name} | {each.tasks:,} | {each.items:,} | {each.plan} |"
            f" {each.requests:,} ({each.ended} jobs ended) | {goal} |"
            f" {each.megabytes / each.rounds:.2f} | {each.times_fewer:.0f} times |"
        )

    return "\n".join(lines)


def draw(reports: Sequence[Report], path: Path) -> None:
    """Draw the requests by the hour under the limit of each account."""
    # Only the whole run draws, and the tests need no plots.
    from matplotlib.figure import Figure  # noqa: PLC0415

    from benchmarks.plots import in_full, style  # noqa: PLC0415

    style()
    figure = Figure(figsize=(10, 2.6 * len(reports)), layout="constrained")
    for place, each in enumerate(reports, start=1):
        axes = figure.add_subplot(len(reports), 1, place)
        hours = range(len(each.by_hour))
        if "others" in each.by:
            axes.bar(hours, each.by_hour, color="#bbbbbb", label="others besides")

        ours = [hour * each.ours / each.requests for hour in each.by_hour]
        axes.bar(hours, ours, color="#0073ff", label="this package")
        separate = each.separate / each.hours
        axes.axhline(separate, color="#ff694b", linestyle="--", label="one poll a job")
        if each.limit is not None:
            limit = each.limit * HOUR / each.window
            axes.axhline(limit, color="black")
            axes.annotate(
                "the vendor's limit",
                (1.0, limit),
                xycoords=("axes fraction", "data"),
                xytext=(4, -3),
                textcoords="offset points",
            )

        axes.set_yscale("log")
        axes.set_ylim(bottom=100)
        in_full(axes.yaxis)
        axes.set_xticks(range(0, len(ours), max(1, len(ours) // 12)))
        axes.set_title(f"{each.name}, {each.jobs:,} jobs in flight")
        axes.set_ylabel("requests")
        axes.set_xlabel("hour")

    shown = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=len(shown))
    figure.savefig(path, metadata={"Date": None})


SCENARIOS: dict[str, Callable[[float], Report]] = {
    "fivetran": lambda size: fivetran(
        count=int(5000 * size), hours=max(1.0, 24 * size), interval=60.0
    ),
    "trial": lambda size: fivetran(
        count=int(200 * size),
        hours=max(2.0, 12 * size),
        interval=15.0,
        trial=True,
        # As often as later on: 200 starts within an hour are 400 requests.
        spread=5 * HOUR,
    ),
    "dbt_cloud": lambda size: dbt_cloud(
        count=int(5000 * size), hours=max(0.5, 2 * size), interval=30.0
    ),
    "airbyte": lambda size: airbyte(
        count=int(1000 * size), hours=max(0.5, 3 * size), interval=5.0
    ),
}


def all_waiting(size: float) -> list[Waiting]:
    """Measure what waiting costs at every vendor."""
    tasks = int(1000 * size)
    hours = 1.0 if size >= 1.0 else 0.25
    many = {"tasks": tasks, "items": tasks * 10, "hours": hours}
    few = {**many, "items": tasks}
    found = [
        waiting(vendor, **each)  # type: ignore[arg-type]
        for vendor in HOOKS
        for each in (few, many)
    ]
    found.append(waiting("Fivetran", **many, scattered=True))  # type: ignore[arg-type]
    found += [
        waiting(vendor, **many, running=1.0)  # type: ignore[arg-type]
        for vendor in ("Airbyte", "dbt Cloud")
    ]
    found += [
        waiting("dbt Cloud", **each, foreign=int(5000 * size))  # type: ignore[arg-type]
        for each in (few, many)
    ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a limit was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limits",
        description="Whether the vendors' limits are kept, on a clock that jumps.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*SCENARIOS, "waiting"],
        help="just this one, may be given again",
    )
    parser.add_argument(
        "--size", type=float, default=1.0, help="part of the jobs and hours (1)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where to write limits.md, .json and .svg ({MEASURED.relative_to(ROOT)})",
    )
    chosen = parser.parse_args(arguments)
    be_quiet()
    wanted = chosen.only or [*SCENARIOS, "waiting"]
    reports = []
    for name, scenario in SCENARIOS.items():
        if name in wanted:
            print(f"{name}: ", end="", file=sys.stderr, flush=True)
            began = time.monotonic()
            found = scenario(chosen.size)
            found.took = time.monotonic() - began
            reports.append(found)
            print(f"  {found.took:.0f} s", file=sys.stderr)

    costs = all_waiting(chosen.size) if "waiting" in wanted else []
    print(f"\n{limits_table(reports)}\n\n{waiting_table(costs)}")
    whole = chosen.only is None and chosen.size == 1.0
    if chosen.out is not None or whole:
        write(reports, costs, chosen.out or MEASURED)

    return int(any(each.refused for each in reports))


def write(reports: Sequence[Report], costs: Sequence[Waiting], folder: Path) -> None:
    """Write tables, raw numbers and the plot to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "limits.md").write_text(f"{limits_table(reports)}\n")
    (folder / "waiting.md").write_text(f"{waiting_table(costs)}\n")
    raw = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": SEED,
        "latency_s": LATENCY,
        "limits": [asdict(each) for each in reports],
        "waiting": [asdict(each) for each in costs],
    }
    (folder / "limits.json").write_text(f"{json.dumps(raw, indent=1)}\n")
    if reports:
        draw(reports, folder / "limits.svg")


if __name__ == "__main__":
    sys.exit(main())
