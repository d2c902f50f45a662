"""A day of jobs in one triggerer: whether anything grows, drifts or is lost.

Airflow's own runner holds the triggers of thousands of jobs, of all three vendors at
once, on a clock that jumps while nothing is to be done. Sockets and TLS are real, and the
vendors are a separate process, so that what is measured is the runner's alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.soaking.day import Day, troubles
from benchmarks.soaking.play import LATENCY, soak
from benchmarks.soaking.report import hours_table, totals_table
from benchmarks.soaking.verdict import findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.soaking.meter import Hour
    from benchmarks.soaking.play import Outcome

MEASURED = Path(__file__).resolve().parent.parent / "docs" / "measured"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the day; the exit code is 1 where something grew, drifted or was lost."""
    chosen = _parse(arguments)
    day = Day(
        hours=chosen.hours,
        hour=chosen.hour,
        jobs=round(chosen.jobs * chosen.hours / 24),
        standing=chosen.standing,
    )
    began, spent = time.monotonic(), time.process_time()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    hours, outcome = soak(day, say)
    found = findings(hours, outcome)
    took = {
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(time.process_time() - spent, 1),
    }
    print(f"\n{totals_table(hours, outcome)}\n{hours_table(hours, outcome)}\n{took}")
    if chosen.out is not None:
        write(day, hours, outcome, chosen.out, took=took, found=found)

    for each in found:
        print(f"wrong: {each}", file=sys.stderr)

    return int(bool(found))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--hours", type=int, default=24, help="how many (24)")
    parser.add_argument(
        "--hour",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="a shorter hour: to try the machinery out, not to measure",
    )
    parser.add_argument(
        "--jobs", type=int, default=20_000, help="how many in 24 hours (20000)"
    )
    parser.add_argument(
        "--standing",
        type=int,
        default=100,
        help="jobs of each vendor that last for the whole day (100)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where to write soak.md and .json ({MEASURED.name}/ of docs/ to publish)",
    )
    return parser.parse_args(arguments)


def write(
    day: Day,
    hours: Sequence[Hour],
    outcome: Outcome,
    folder: Path,
    *,
    took: dict[str, float],
    found: Sequence[str],
) -> None:
    """Write tables and raw numbers to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = f"{totals_table(hours, outcome)}\n{hours_table(hours, outcome)}"
    (folder / "soak.md").write_text(tables)
    raw: dict[str, Any] = {
        "machine": machine(),
        "day": asdict(day),
        "latency_s": LATENCY,
        "took": took,
        "findings": [*found],
        "trouble": [
            {"at_s": each.at, "vendor": each.vendor, "what": each.title}
            for each in troubles(day)
            if each.kind != "tokens"
        ],
        "hours": [each.as_dict() for each in (outcome.before, *hours, outcome.after)],
        "outcome": {
            key: value
            for key, value in asdict(outcome).items()
            if key not in {"before", "after", "delays"}
        },
        "delays_s": dict(sorted(outcome.delays.items())),
    }
    (folder / "soak.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
