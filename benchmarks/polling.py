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
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from benchmarks.machine import machine
from benchmarks.peers import python_of_peers
from benchmarks.plots import draw
from benchmarks.sides import INTERVALS, TITLES, VENDORS
from benchmarks.stage import ROOT, open_stage

if TYPE_CHECKING:
    from async_triggers.simulator.client import SimulatorControl
    from benchmarks.sides import Vendor
    from benchmarks.stage import Stage

Runner: TypeAlias = Literal["floor", "ours", "peer"]
Start: TypeAlias = Literal["together", "spread"]

SIDES: tuple[Runner, ...] = ("floor", "ours", "peer")
RAW = "polling.json"
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
WHOLE = 10
"""Ratios from which on no fraction is told."""
IDLE = 3.0
"""Seconds for which the cost of doing nothing is measured."""
TAIL = 60.0
"""Seconds after the last end in which an event counts."""
_CALL = 0.012
"""Seconds that a blocking look takes beside the latency."""
_LIVES: Mapping[str, tuple[str, str]] = {
    "airbyte": ("running", "succeeded"),
    "fivetran": ("syncing", "succeeded"),
    "dbt_cloud": ("running", "success"),
}
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
    "told",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process that waits.

    ``seconds`` is how long after the start the last job ends, ``latency`` how many
    seconds each answer takes.
    """

    vendor: Vendor
    side: Runner
    n: int
    start: Start = "together"
    latency: float = 0.1
    runner: bool = False
    seconds: float
    number: int = 0
    floor: float = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return self.floor or INTERVALS[self.vendor]

    @property
    def patience(self) -> float:
        """Seconds after the last end for which events are waited for."""
        blocking = self.vendor == "airbyte" and self.side == "peer"
        return TAIL + (1.5 * self.n * (self.latency + _CALL) if blocking else 0.0)

    @property
    def expected(self) -> float:
        """Seconds that the run may be expected to take."""
        blocking = self.vendor == "airbyte" and self.side == "peer"
        busy = self.n * (self.latency + _CALL) if blocking else 0.0
        return 9.0 + self.n / 2000 + max(self.seconds, busy) + self.interval

    @property
    def kind(self) -> Run:
        """What runs have in common that differ in their number alone."""
        return replace(self, number=0)

    @property
    def name(self) -> str:
        """Name the run."""
        mode = ", in the runner" if self.runner else ""
        return (
            f"{TITLES[self.vendor]}, {self.side}, N = {self.n:,} {self.start},"
            f" {self.latency * 1000:.0f} ms{mode}"
        )


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


def measure(run: Run, stage: Stage, pythons: Mapping[str, str]) -> dict[str, Any]:
    """Do one run and return what was measured."""
    source, sink = os.pipe()
    log = stage.folder / "waiting.log"
    options = ["--runner"] if run.runner else []
    with (
        os.fdopen(source, "rb") as results,
        log.open("wb") as said,
        subprocess.Popen(  # noqa: S603 - a module of ours
            [
                pythons[run.side],
                "-m",
                "benchmarks.waiting",
                f"--side={run.side}",
                f"--vendor={run.vendor}",
                f"--results={sink}",
                f"--idle={0.2 if run.floor else IDLE}",
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
            return _conduct(run, stage, process, results)
        except ValueError as error:
            text = log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{run.name}: the process has ended: {text}") from error
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
    if run.vendor == "airbyte":
        control.arrange(connections=[{"connection_id": "c"}])
    elif run.vendor == "dbt_cloud":
        control.arrange(jobs=[{"job_id": 501, "job_type": "ci"}])

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
        jobs += _add(run.vendor, control, first, lives)

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
    }


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
    vendor: Vendor, control: SimulatorControl, first: int, lives: Sequence[str]
) -> list[str]:
    numbers = range(first + 1, first + 1 + len(lives))
    match vendor:
        case "airbyte":
            control.arrange(
                jobs=[
                    {"connection_id": "c", "job_id": number, "life": life, "age": AGE}
                    for number, life in zip(numbers, lives, strict=True)
                ]
            )
        case "dbt_cloud":
            control.arrange(
                runs=[
                    {"job_id": 501, "run_id": number, "life": life, "age": AGE}
                    for number, life in zip(numbers, lives, strict=True)
                ]
            )
        case "fivetran":
            names = [f"c{number}" for number in numbers]
            control.arrange(
                connections=[
                    {
                        "connection_id": name,
                        "lives": [life],
                        "succeeded_ago": 3600.0,
                        "failed_ago": 86400.0,
                    }
                    for name, life in zip(names, lives, strict=True)
                ],
                syncs=[{"connection_id": name} for name in names],
            )
            return names

    return [str(number) for number in numbers]


# What is told of it -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """Runs of one kind: the median of each number."""

    run: Run
    numbers: Mapping[str, float | None]


def summarize(results: Sequence[tuple[Run, Mapping[str, Any]]]) -> list[Row]:
    """Return a row for each kind of run, in the order of their first runs."""
    kinds: dict[Run, list[Mapping[str, Any]]] = {}
    for run, measured in results:
        kinds.setdefault(run.kind, []).append(measured)

    return [
        Row(run, {name: _median(each.get(name) for each in found) for name in _NUMBERS})
        for run, found in kinds.items()
    ]


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
            _ratio(row.numbers[name], ours.numbers[name]) for name, _ in _RATIOS
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
            _shown(get["cpu_net_s"], 2),
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


def _three(
    numbers: Mapping[str, float | None], name: str, factor: float, digits: int
) -> str:
    found = (numbers[f"{name}_{which}_s"] for which in ("p50", "p99", "max"))
    return " / ".join(_shown(_times(value, factor), digits) for value in found)


def tell(run: Run, measured: Mapping[str, Any]) -> str:
    """Say in a line what a run came to."""
    row = summarize([(run, measured)])[0].numbers
    engine = measured.get("engine") or {}
    rounds = f", {engine['rounds']} rounds by {engine['plan']}" if engine else ""
    asked = row["first_round_requests"]
    first = "" if asked is None else f", {_count(asked)} requests in the first round"
    wrong = f"; WRONG: {measured['wrong']}" if measured["wrong"] else ""
    return (
        f"{_count(row['requests'])} requests over {_count(row['tcp_connections'])}"
        f" connections{rounds}; CPU {_shown(row['cpu_net_s'], 2)} s,"
        f" memory +{_shown(row['rss_growth_mb'], 1)} MB, lag"
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
    rows = summarize([result for sitting in sittings for result in sitting.results])
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
    draw(
        [
            (row.run.vendor, row.run.side, row.run.n, row.numbers)
            for row in plotted(rows)
        ],
        folder / "polling.svg",
    )


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
    results: list[tuple[Run, Mapping[str, Any]]] = []
    began = time.monotonic()
    with open_stage() as stage:
        for number, run in enumerate(runs, start=1):
            measured = measure(run, stage, pythons)
            results.append((run, measured))
            passed = time.monotonic() - began
            print(
                f"[{number}/{len(runs)}, {passed / 60:.1f} min] {run.name}:\n"
                f"    {tell(run, measured)}",
                flush=True,
            )

    rows = summarize(results)
    print(f"\n{ratio_table(rows)}\n{number_table(rows)}")
    print(f"{len(runs)} runs in {(time.monotonic() - began) / 60:.1f} minutes")
    if chosen.out is not None:
        earlier = read(chosen.out) if chosen.add else []
        write([*earlier, Sitting(where, results)], chosen.out)

    ours = [measured for run, measured in results if run.side == "ours"]
    return int(any(each["wrong"] or each["told"] != each["expected"] for each in ours))


if __name__ == "__main__":
    sys.exit(main())
