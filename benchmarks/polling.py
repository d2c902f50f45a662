"""What waiting costs: this package's triggers beside the official ones.

Each run is one process with N triggers of one side that wait for N jobs of one vendor,
against the same simulator over TLS. The jobs go on, and end at fixed times that are
spread over the last three rounds. Two sides and the floor (tasks that only wait, and one
request a round) take turns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.peers import python_of_peers
from benchmarks.rows import Run, Runner, Start
from benchmarks.runs import (
    Sitting,
    number_table,
    ratio_table,
    read,
    summarize,
    tell,
    write,
)
from benchmarks.sides import INTERVALS, VENDORS
from benchmarks.stage import ROOT, open_stage

if TYPE_CHECKING:
    from async_triggers.simulator.client import SimulatorControl
    from benchmarks.sides import Vendor
    from benchmarks.stage import Stage

SIDES: tuple[Runner, ...] = ("floor", "ours", "peer")
ROUNDS = 5
"""How many intervals a run lasts at least."""
MOST_ENDS: Mapping[str, int] = {"airbyte": 300, "fivetran": 75, "dbt_cloud": 300}
"""Jobs that end in a run; where there are more, the others go on.

More would end faster than their ends may be asked for: Fivetran allows one account 20,000
requests an hour, and an end that its list shows is confirmed.
"""
AGE = 600.0
"""Seconds for which the jobs have gone on: a triggerer takes them over."""
BATCH = 500
"""Jobs that the simulator is given at once."""
IDLE = 60.0
"""Seconds for which the cost of doing nothing is measured, once for each interpreter."""
LOG = "waiting.log"
_LIVES: Mapping[str, tuple[str, str]] = {
    "airbyte": ("running", "succeeded"),
    "fivetran": ("syncing", "succeeded"),
    "dbt_cloud": ("running", "success"),
}


def plan(chosen: argparse.Namespace) -> list[Run]:
    """Return the runs that were asked for, in their order."""
    runs = []
    for number in range(chosen.rounds):
        for n, start, latency, vendor, side in _combinations(chosen):
            interval = chosen.floor or INTERVALS[vendor]
            seconds = max(chosen.seconds or 0.0, interval * ROUNDS)
            if chosen.looks:
                seconds = max(seconds, interval * chosen.looks)
            # So many take a while to be seen for the first time.
            seconds += n / 100 * (latency / 1000.0 + 0.2)

            runs.append(
                Run(
                    vendor=vendor,
                    side=side,
                    n=n,
                    start=start,
                    latency=latency / 1000.0,
                    runner=chosen.runner,
                    watched=not chosen.unwatched,
                    seconds=seconds,
                    number=number,
                    floor=chosen.floor,
                )
            )

    return runs


def _combinations(
    chosen: argparse.Namespace,
) -> Iterable[tuple[int, Start, float, Vendor, Runner]]:
    for n in chosen.n:
        for start in chosen.start:
            for latency in chosen.latency:
                for vendor in chosen.vendor:
                    for side in chosen.only:
                        # A peer of thousands has been seen often enough.
                        if side != "peer" or n <= chosen.peers_up_to:
                            yield n, start, latency, vendor, side


# A run ----------------------------------------------------------------------------------


def idle_rates(
    runs: Sequence[Run], stage: Stage, pythons: Mapping[str, str]
) -> dict[str, float]:
    """Measure for each interpreter what a second takes in which nothing is done."""
    rates: dict[str, float] = {}
    for run in runs:
        python = pythons[run.side]
        if python not in rates:
            seconds = f"--idle={0.2 if run.floor else IDLE}"
            with _waiting(run, stage, python, seconds, *_modes(run)) as (_, results):
                rates[python] = json.loads(results.readline())["idle_rate"]

    return rates


def measure(
    run: Run, stage: Stage, pythons: Mapping[str, str], rates: Mapping[str, float]
) -> dict[str, Any]:
    """Do one run and return what was measured."""
    python = pythons[run.side]
    rate = f"--idle-rate={rates[python]}"
    with _waiting(run, stage, python, rate, *_modes(run)) as (process, results):
        try:
            return _conduct(run, stage, process, results)
        except ValueError as error:
            text = (stage.folder / LOG).read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{run.name}: the process has ended: {text}") from error


def _modes(run: Run) -> list[str]:
    runner = ["--runner"] if run.runner else []
    return runner if run.watched else [*runner, "--unwatched"]


@contextmanager
def _waiting(
    run: Run, stage: Stage, python: str, *options: str
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start the process of a run; yield it and what it tells, a line each time."""
    source, sink = os.pipe()
    log = stage.folder / LOG
    with (
        os.fdopen(source, "rb") as results,
        log.open("wb") as said,
        subprocess.Popen(  # noqa: S603 - a module of ours
            [
                python,
                "-m",
                "benchmarks.waiting",
                f"--side={run.side}",
                f"--vendor={run.vendor}",
                f"--results={sink}",
                *options,
            ],
            cwd=ROOT,
            env=dict(stage.environment),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            pass_fds=[sink],
        ) as process,
    ):
        os.close(sink)
        try:
            yield process, results
        finally:
            process.kill()


def _conduct(
    run: Run, stage: Stage, process: subprocess.Popen[bytes], results: Any
) -> dict[str, Any]:
    ready = json.loads(results.readline())
    control = stage.control(run.vendor)
    order = _arrange(run, control)
    path = stage.folder / "order.json"
    path.write_text(json.dumps({**order, "urls": stage.urls[0]}))
    before = control.record()
    assert process.stdin is not None
    process.stdin.write(f"{path}\n".encode())
    process.stdin.flush()
    measured: dict[str, Any] = json.loads(results.readline())
    record = control.record()
    control.reset()
    return {
        **measured,
        "requests": record["total"] - before["total"],
        "tcp_connections": record["tcp_connections"],
        "body_bytes": record["body_bytes"] - before["body_bytes"],
        "endpoints": record["requests"],
        "statuses": record["statuses"],
        "idle_rate": ready["idle_rate"],
        "versions": ready["versions"],
    }


def _arrange(run: Run, control: SimulatorControl) -> dict[str, Any]:
    """Let the jobs run, and return what the waiting process must know of them."""
    running, done = _LIVES[run.vendor]
    # Room for arranging them, and for the process to read of them.
    begins = time.time() + 1.5 + run.n / 2500
    control.reset()
    settings: dict[str, Any] = {"latency": run.latency}
    # The peers' polls would run into the vendors' limits: those are not the matter.
    if run.vendor == "fivetran":
        settings["hourly_limit"] = 10**9
    elif run.vendor == "dbt_cloud":
        settings["minute_limit"] = 10**9
    else:
        settings["bearer_tokens"] = ["simulator-token"]

    control.arrange(settings=settings)
    targets = targets_of(run)
    made = [*dict.fromkeys(targets)]
    for first in range(0, len(made), BATCH):
        some = made[first : first + BATCH]
        if run.vendor == "airbyte":
            control.arrange(connections=[{"connection_id": each} for each in some])
        elif run.vendor == "dbt_cloud":
            control.arrange(jobs=[{"job_id": each, "job_type": "ci"} for each in some])

    ends = end_times(run, begins)
    # A sync of Fivetran shows no time of its start.
    age = 0.0 if run.vendor == "fivetran" else AGE
    jobs: list[str] = []
    for first in range(0, run.n, BATCH):
        now = time.time()
        lives = [
            running if end is None else f"{running}:{end - now + age:.3f} {done}"
            for end in ends[first : first + BATCH]
        ]
        jobs += _add(run.vendor, control, targets[first : first + BATCH], first, lives)

    late = time.time() - begins
    if late > 0:
        raise RuntimeError(f"{run.name}: arranging it took {late:.1f} s too long")

    last = max(end for end in ends if end is not None)
    return {
        "jobs": jobs,
        "ends": ends,
        "seen_at": begins - AGE,
        "begins": begins,
        "ends_by": last + run.interval + 1.0,
        "until": last + run.patience,
        "interval": run.interval,
        "spread": run.interval if run.start == "spread" else 0.0,
        "floor": run.floor,
        **watched_by(run, targets, ends),
    }


def watched_by(
    run: Run, targets: Sequence[Any], ends: Sequence[float | None]
) -> dict[str, Any]:
    """Return what the watchers of a run watch, and how many ends they are to report."""
    ending = {
        target
        for target, end in zip(targets, ends, strict=True)
        if end is not None and run.hear
    }
    shown = [
        target
        for target, end in zip(targets, ends, strict=True)
        if run.hear or end is None
    ]
    watched = [shown[number % len(shown)] for number in range(run.watchers or 0)]
    return {
        "watched_targets": watched,
        "events": sum(target in ending for target in watched),
    }


def targets_of(run: Run) -> list[Any]:
    """Return the connection or the job at the vendor of each job that is waited for."""
    shared: Mapping[str, Any] = {"airbyte": "c", "dbt_cloud": 501}
    if run.vendor in shared and run.watchers is None:
        return [shared[run.vendor]] * run.n

    first = 10_001
    if run.vendor == "dbt_cloud":
        return [*range(first, first + run.n)]

    return [f"c{number}" for number in range(1, run.n + 1)]


def end_times(run: Run, begins: float) -> list[float | None]:
    """Return when each job ends, None for those that go on.

    Those that end are spread evenly over the jobs, and their ends over the last three
    intervals of the run.
    """
    ending = min(run.n, MOST_ENDS[run.vendor])
    window = 3 * run.interval
    ends: list[float | None] = [None] * run.n
    for k in range(ending):
        # In a shuffled order, and the same in every run.
        place = (k * 7919) % ending if math.gcd(7919, ending) == 1 else k
        at = begins + run.seconds - window + window * (place + 1) / ending
        ends[k * run.n // ending] = at

    return ends


def _add(
    vendor: Vendor,
    control: SimulatorControl,
    targets: Sequence[Any],
    first: int,
    lives: Sequence[str],
) -> list[str]:
    numbers = range(first + 1, first + 1 + len(lives))
    match vendor:
        case "airbyte":
            control.arrange(
                jobs=[
                    {
                        "connection_id": target,
                        "job_id": number,
                        "life": life,
                        "age": AGE,
                    }
                    for target, number, life in zip(
                        targets, numbers, lives, strict=True
                    )
                ]
            )
        case "dbt_cloud":
            control.arrange(
                runs=[
                    {"job_id": target, "run_id": number, "life": life, "age": AGE}
                    for target, number, life in zip(
                        targets, numbers, lives, strict=True
                    )
                ]
            )
        case "fivetran":
            control.arrange(
                connections=[
                    {
                        "connection_id": name,
                        "lives": [life],
                        "succeeded_ago": 3600.0,
                        "failed_ago": 86400.0,
                    }
                    for name, life in zip(targets, lives, strict=True)
                ],
                syncs=[{"connection_id": name} for name in targets],
            )
            return [*targets]

    return [str(number) for number in numbers]


def options() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.polling",
        description=(
            "What waiting costs: our triggers beside the official ones. Without options a"
            " quick plan of about a quarter of an hour; --full takes hours."
        ),
    )
    parser.add_argument("--n", type=int, nargs="+", help="how many triggers wait")
    parser.add_argument("--rounds", type=int, help="how often each run is repeated")
    parser.add_argument("--only", nargs="+", choices=SIDES, help="which sides")
    parser.add_argument("--vendor", nargs="+", choices=VENDORS, default=list(VENDORS))
    parser.add_argument(
        "--start", nargs="+", choices=("together", "spread"), help="how they start"
    )
    parser.add_argument(
        "--latency", type=float, nargs="+", help="milliseconds that an answer takes"
    )
    parser.add_argument(
        "--peers-up-to",
        type=int,
        default=1000,
        metavar="N",
        help="no more of the official triggers than that (%(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, help="let the last job end no sooner than that"
    )
    parser.add_argument(
        "--looks",
        type=int,
        help=f"let the last job end after so many intervals (at least {ROUNDS})",
    )
    parser.add_argument(
        "--runner", action="store_true", help="inside Airflow's own TriggerRunner"
    )
    parser.add_argument(
        "--unwatched",
        action="store_true",
        help="measure the CPU alone, with nothing that watches the event loop",
    )
    parser.add_argument("--full", action="store_true", help="everything, three times")
    parser.add_argument("--list", action="store_true", help="only show the plan")
    parser.add_argument("--out", type=Path, help="where to write tables and plots")
    parser.add_argument(
        "--add", action="store_true", help="add to what was written there before"
    )
    parser.add_argument(
        "--floor",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="a shorter interval: to try the machinery out, not to measure",
    )
    return parser


def fill_in(chosen: argparse.Namespace) -> argparse.Namespace:
    """Fill in what was not chosen."""
    full = chosen.full
    quick = {
        "n": [50, 200, 1000, 10_000, 50_000] if full else [200, 1000, 10_000],
        "rounds": 3 if full else 1,
        "only": list(SIDES),
        "start": ["together", "spread"] if full else ["together"],
        "latency": [5.0, 100.0, 500.0] if full else [100.0],
    }
    for name, value in quick.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)

    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where our triggers missed an end."""
    chosen = fill_in(options().parse_args(arguments))
    runs = plan(chosen)
    whole = sum(run.expected for run in runs)
    print(f"{len(runs)} runs, about {whole / 60:.0f} minutes", flush=True)
    if chosen.list:
        for run in runs:
            print(f"  {run.name} ({run.expected:.0f} s)")

        return 0

    pythons = {"ours": sys.executable, "floor": sys.executable}
    if any(run.side == "peer" for run in runs):
        try:
            pythons["peer"] = str(python_of_peers())
        except RuntimeError as error:
            print(f"python -m benchmarks.polling: {error}", file=sys.stderr)
            return 2

    where = machine()
    earlier = read(chosen.out) if chosen.add else []
    results: list[tuple[Run, Mapping[str, Any]]] = []
    began = time.monotonic()
    with open_stage() as stage:
        rates = idle_rates(runs, stage, pythons)
        for number, run in enumerate(runs, start=1):
            measured = measure(run, stage, pythons, rates)
            results.append((run, measured))
            passed = time.monotonic() - began
            print(
                f"[{number}/{len(runs)}, {passed / 60:.1f} min] {run.name}:\n"
                f"    {tell(run, measured)}",
                flush=True,
            )
            # After each: what was measured for hours outlives an interruption.
            if chosen.out is not None:
                write([*earlier, Sitting(where, results)], chosen.out)

    rows = summarize(results)
    print(f"\n{ratio_table(rows)}\n{number_table(rows)}")
    print(f"{len(runs)} runs in {(time.monotonic() - began) / 60:.1f} minutes")

    ours = [measured for run, measured in results if run.side == "ours"]
    return int(any(each["wrong"] or each["told"] != each["expected"] for each in ours))


if __name__ == "__main__":
    sys.exit(main())
