"""What one task does at its start and when it resumes: calls, processes, imports.

``python -m benchmarks.task_cost`` runs a few tasks of each vendor through an Airflow on
PostgreSQL, with the official operators and with ours, and counts the calls to Airflow's
API server in its log, and what the processes on the worker have used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.peers import python_of_peers
from benchmarks.sides import TITLES, VENDORS
from benchmarks.stage import ROOT, open_stage
from benchmarks.whole.play import Setting, compile_package, measure
from benchmarks.whole.tables import call_table, process_table
from benchmarks.whole.ways import lengths_of, plans_of
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.whole.play import Cost

MEASURED = ROOT / "docs" / "measured"
WAYS = ("peer", "ours", "ours_fresh", "ours_ended")
MODULES: Mapping[tuple[str, str], str] = {
    ("airbyte", "peer"): "airflow.providers.airbyte.operators.airbyte",
    ("fivetran", "peer"): "fivetran_provider_async.operators",
    ("dbt_cloud", "peer"): "airflow.providers.dbt.cloud.operators.dbt",
    ("airbyte", "ours"): "async_triggers.airbyte.operators",
    ("fivetran", "ours"): "async_triggers.fivetran.operators",
    ("dbt_cloud", "ours"): "async_triggers.dbt_cloud.operators",
}
"""What a DAG file imports."""
_IMPORT = """
import importlib, json, sys, time
import airflow.sdk
before, began = len(sys.modules), time.process_time()
from airflow.sdk import DAG, BaseOperator
importlib.import_module(sys.argv[1])
print(json.dumps([time.process_time() - began, len(sys.modules) - before]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count; return 0 if all tasks have succeeded."""
    options = _parse(arguments)
    python = python_of_peers()
    compile_package()
    home = Path(tempfile.mkdtemp(prefix="async-triggers-task-cost-"))
    print(f"logs: {home}", flush=True)
    lengths = lengths_of(options.tasks, shortest=12.0, longest=20.0, seed=1)
    setting = Setting(home=home, python=python, parallelism=2, settle=5.0)
    costs: list[Cost] = []
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        stage = stack.enter_context(open_stage())
        for plan in plans_of(options.vendors, options.ways, lengths):
            database = postgres.create_database(plan.name)
            costs.append(measure(plan, stage, database, setting))
            print(f"{plan.name}: done", flush=True)

    imports = [import_cost(vendor, python) for vendor in options.vendors]
    text = page(costs, imports)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        raw = {**machine(), "imports": imports, "costs": [*map(asdict, costs)]}
        (options.out / "task-cost.json").write_text(json.dumps(raw, indent=1) + "\n")
        (options.out / "task-cost.md").write_text(text)

    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.task_cost")
    parser.add_argument("--tasks", type=int, default=3, help="how many of each way (3)")
    parser.add_argument(
        "--vendors", nargs="+", choices=VENDORS, default=VENDORS, help="whose (all)"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="which (all)"
    )
    parser.add_argument(
        "--out", type=Path, help="where to write, such as docs/measured"
    )
    return parser.parse_args(arguments)


def import_cost(vendor: str, peers: Path) -> dict[str, Any]:
    """Measure what a DAG file pays that imports one operator, beyond Airflow itself."""
    found: dict[str, Any] = {"vendor": vendor}
    for side, python in (("peer", str(peers)), ("ours", sys.executable)):
        command = [python, "-c", _IMPORT, MODULES[vendor, side]]
        times = [
            json.loads(
                subprocess.run(  # noqa: S603 - a fixed command
                    command, cwd=ROOT, check=True, capture_output=True, text=True
                ).stdout
            )
            for _ in range(5)
        ]
        found[side] = [statistics.median(each) for each in zip(*times, strict=True)]

    return found


def import_table(imports: Sequence[Mapping[str, Any]]) -> str:
    """Return what the imports of a DAG file take as a table in Markdown."""
    rows = [
        "| one import | official: CPU, modules | this package: CPU, modules | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for each in imports:
        peer, ours = each["peer"], each["ours"]
        rows.append(
            f"| {TITLES[each['vendor']]} | {peer[0] * 1000:.0f} ms, {peer[1]:.0f}"
            f" | {ours[0] * 1000:.0f} ms, {ours[1]:.0f} | {ours[0] / peer[0]:.2f} |"
        )

    return "\n".join(rows) + "\n"


def page(costs: Sequence[Cost], imports: Sequence[Mapping[str, Any]]) -> str:
    """Return all tables, a pair for each vendor."""
    parts = []
    for vendor in dict.fromkeys(cost.vendor for cost in costs):
        some = [cost for cost in costs if cost.vendor == vendor]
        parts += [call_table(some), process_table(some)]

    return "\n".join([*parts, import_table(imports)])


if __name__ == "__main__":
    sys.exit(main())
