"""What waiting tasks cost a whole Airflow, from their start to their end.

``python -m benchmarks.end_to_end`` runs 200 tasks of each vendor through an Airflow on
PostgreSQL in several ways, one after another, each in a deployment of its own: with the
official provider's deferrable operator, with ours, with ours that ends from its trigger,
and with a sensor that never sees a worker. Beside them runs the floor: tasks that only
defer until their job would have ended, and return. All jobs last as long on every side,
drawn evenly so that no interval meets their ends by luck.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.peers import python_of_peers
from benchmarks.sides import VENDORS
from benchmarks.stage import ROOT, open_stage
from benchmarks.whole.play import Setting, compile_package, cost_from, measure
from benchmarks.whole.tables import cost_table, medians_of, ratio_table
from benchmarks.whole.ways import WAYS, lengths_of, plans_of
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.whole.play import Cost

MEASURED = ROOT / "docs" / "measured"
RAW = "end_to_end.json"
SETTLE = 60.0
"""Seconds for which Airflow is left to itself before it is measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if all tasks of all ways have succeeded."""
    options = _parse(arguments)
    try:
        rounds = _measured(options) if options.add else []
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    peers = any(way.is_peer and way.name in options.ways for way in WAYS)
    python = python_of_peers() if peers else None
    compile_package()
    home = Path(tempfile.mkdtemp(prefix="async-triggers-end-to-end-"))
    print(f"logs: {home}", flush=True)
    lengths = lengths_of(
        options.tasks,
        shortest=options.shortest,
        longest=options.longest,
        seed=options.seed,
    )
    plans = plans_of(options.vendors, options.ways, lengths)
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        stage = stack.enter_context(open_stage())
        for number in range(len(rounds), len(rounds) + options.rounds):
            rounds.append([])
            setting = Setting(
                home=home / str(number),
                python=python,
                parallelism=options.parallelism,
                settle=options.settle,
            )
            for plan in plans:
                database = postgres.create_database(f"{plan.name}_{number}")
                cost = measure(plan, stage, database, setting)
                print(tell(number, cost), flush=True)
                rounds[-1].append(cost)
                # After each: what was measured for hours outlives an interruption.
                _write(options, rounds)

    print(page(rounds))
    return 0


def _write(options: argparse.Namespace, rounds: Sequence[Sequence[Cost]]) -> None:
    if options.out is None:
        return

    options.out.mkdir(parents=True, exist_ok=True)
    raw = {
        **machine(),
        **_conditions(options),
        "rounds": [[*map(asdict, costs)] for costs in rounds],
    }
    (options.out / RAW).write_text(json.dumps(raw, indent=1) + "\n")
    (options.out / "end_to_end.md").write_text(page(rounds))


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Return what rounds must have in common to be in one table, besides the tasks."""
    names = ("shortest", "longest", "seed", "parallelism")
    here = machine()
    return {
        **{name: here[name] for name in ("airflow", "cores", "python")},
        **{name: getattr(options, name) for name in names},
    }


def _measured(options: argparse.Namespace) -> list[list[Cost]]:
    """Return the rounds that ``--out`` holds.

    Raise :class:`ValueError` where their jobs were not those of these options, or their
    Airflow, Python or number of cores not those of this machine.
    """
    path = options.out / RAW
    if not path.exists():
        return []

    raw = json.loads(path.read_text())
    with suppress(KeyError, TypeError):
        rounds = [[cost_from(each) for each in costs] for costs in raw["rounds"]]
        tasks = {each.tasks for costs in rounds for each in costs}
        here = _conditions(options)
        if tasks == {options.tasks} and here == {name: raw[name] for name in here}:
            return rounds

    raise ValueError(
        f"--add: {path} holds rounds of other jobs, or of another Airflow, Python or number"
        " of cores. Give the --tasks, --shortest, --longest, --seed and --parallelism with"
        " which it was measured, or another --out."
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end")
    parser.add_argument("--tasks", type=int, default=200, help="how many (200)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (3)")
    parser.add_argument(
        "--vendors", nargs="+", choices=VENDORS, default=VENDORS, help="whose (all)"
    )
    names = [way.name for way in WAYS]
    parser.add_argument(
        "--ways", nargs="+", choices=names, default=names, help="which (all)"
    )
    parser.add_argument(
        "--ours",
        action="store_const",
        dest="ways",
        const=[way.name for way in WAYS if not way.is_peer],
        help="leave the official providers out",
    )
    parser.add_argument(
        "--shortest", type=float, default=45, help="seconds of the shortest job (45)"
    )
    parser.add_argument(
        "--longest", type=float, default=105, help="seconds of the longest job (105)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the lengths (1)")
    parser.add_argument("--parallelism", type=int, default=4, help="worker slots (4)")
    parser.add_argument(
        "--settle",
        type=float,
        default=SETTLE,
        help="seconds for which Airflow is idle before (60)",
    )
    parser.add_argument(
        "--add", action="store_true", help="keep the rounds that --out holds"
    )
    parser.add_argument("--out", type=Path, default=MEASURED, help="where to write")
    return parser.parse_args(arguments)


def tell(number: int, cost: Cost) -> str:
    """Return one line about one run."""
    late = (
        f", slowest {cost.delays[-1]:.1f} s after the job's end" if cost.delays else ""
    )
    return (
        f"round {number + 1}, {cost.vendor}, {cost.way}: {cost.wall:.0f} s,"
        f" {cost.workers} workers, {cost.cpu:.0f} s of CPU{late}"
    )


def page(rounds: Sequence[Sequence[Cost]]) -> str:
    """Return the ratios and then the costs, as tables in Markdown."""
    found = medians_of(rounds)
    return f"{ratio_table(found)}\n{cost_table(found)}"


if __name__ == "__main__":
    sys.exit(main())
