"""How long a triggerer takes to end after a SIGTERM while a thousand tasks wait on it.

``python -m benchmarks.drain`` starts an Airflow on PostgreSQL, defers the tasks on
Airflow's own `DateTimeTrigger`, which is the floor, or on triggers that wait for Airbyte
jobs, and ends the triggerer once it runs them all, in turn. No job may be cancelled by
that.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables
from benchmarks.elapsed import start_saying
from benchmarks.machine import machine
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

ROOT: Final = Path(__file__).parents[1]
DAGS: Final = Path(__file__).parent / "dags" / "drain"
MEASURED: Final = ROOT / "docs" / "measured"
SIDES: Final = ("floor", "ours")
CALM: Final = 30.0
"""Seconds before the signal, in which jobs are polled several times."""
PATIENCE: Final = 300.0


@dataclass(frozen=True)
class Drain:
    """One triggerer's end.

    ``took`` is the time from SIGTERM to the end of the process in seconds, ``cancels`` how
    many requests to cancel a job the vendor has seen, and ``deferred`` how many tasks still
    wait afterwards.
    """

    side: str
    tasks: int
    took: float
    requests: int
    cancels: int
    deferred: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if no job was cancelled and every task still waits."""
    options = _parse(arguments)
    say = start_saying()
    home = Path(tempfile.mkdtemp(prefix="async-triggers-drain-"))
    say(f"logs: {home}")
    seen = []
    with PostgresServer() as postgres:
        for number in range(options.rounds):
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                name = f"{side}_{number}"
                seen.append(
                    measure(postgres, home / name, name, side, options.tasks, say=say)
                )
                say(str(seen[-1]))
    options.out.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {
        "machine": machine(),
        "drains": [asdict(each) for each in seen],
    }
    version = raw["machine"]["airflow"]
    (options.out / f"drain-{version}.json").write_text(json.dumps(raw, indent=1) + "\n")
    text = table(
        json.loads(path.read_text())
        for path in sorted(options.out.glob("drain-*.json"))
    )
    (options.out / "drain.md").write_text(text)
    print(text)
    return int(any(each.cancels or each.deferred != each.tasks for each in seen))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain")
    parser.add_argument("--tasks", type=int, default=1000, help="how many (1000)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each side is measured (3)"
    )
    parser.add_argument(
        "--out", type=Path, default=MEASURED, help="where to write (docs/measured)"
    )
    return parser.parse_args(arguments)


def measure(
    postgres: PostgresServer,
    home: Path,
    name: str,
    side: str,
    tasks: int,
    *,
    say: Callable[[str], None],
) -> Drain:
    """End one triggerer that runs the triggers of so many tasks."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (
        SimulatorThread() as simulator,
        Deployment(
            home,
            dags=[DAGS],
            database=postgres.create_database(name),
            connections={
                "airbyte_default": json.loads(
                    connection_variables(simulator)["AIRFLOW_CONN_AIRBYTE_DEFAULT"]
                )
            },
            env={"DRAIN_TASKS": str(tasks), "PYTHONPATH": path},
            config={
                "triggerer": {
                    "capacity": str(2 * tasks),
                    "max_trigger_to_select_per_loop": str(tasks),
                },
            },
            say=say,
        ) as deployment,
    ):
        airbyte = simulator.airbyte
        for number in range(1, tasks + 1):
            airbyte.add_connection(f"c{number}")
            airbyte.add_job(f"c{number}", "running", job_id=number)
        # A paused DAG's run stays queued, and nothing touches its tasks.
        deployment.api.wait_for_dag("drain")
        deployment.api.request(
            "POST", "/dags/drain/dagRuns", {"dag_run_id": "once", "logical_date": None}
        )
        done = deployment.python("-m", "benchmarks.deferred", "drain", side)
        if done.returncode:
            raise RuntimeError(done.stderr)
        # A trigger that begins writes to a log of its task.
        deployment.api.wait_until(
            lambda: len(list(home.glob("logs/dag_id=drain/**/*.trigger.*"))) >= tasks,
            what=f"{tasks} triggers to begin",
            timeout=PATIENCE,
            every=1.0,
        )
        deployment.interrupted.wait(CALM)

        requests = airbyte.record.total
        (triggerer,) = deployment.triggerers
        began = time.monotonic()
        deployment.kill_triggerer(0, signal.SIGTERM)
        triggerer.process.wait(PATIENCE)
        took = time.monotonic() - began
        ((deferred,),) = postgres.rows(
            "SELECT count(*) FROM task_instance WHERE state = 'deferred'", database=name
        )
        return Drain(
            side=side,
            tasks=tasks,
            took=round(took, 2),
            requests=requests,
            cancels=sum(airbyte.record.cancels.values()),
            deferred=int(deferred),
        )


def table(runs: Iterable[Mapping[str, Any]]) -> str:
    """Return the measurements of each Airflow as a table in Markdown."""
    lines = [
        "| Airflow | waiting tasks | floor | ours | above the floor | jobs cancelled |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        drains = [Drain(**each) for each in run["drains"]]
        took = {
            side: [each.took for each in drains if each.side == side] for side in SIDES
        }
        floor, ours = (statistics.median(took[side]) for side in SIDES)
        lines.append(
            f"| {run['machine']['airflow']} | {drains[0].tasks} |"
            f" {_seconds(took['floor'])} | {_seconds(took['ours'])} |"
            f" {ours - floor:+.1f} s | {sum(each.cancels for each in drains)} |"
        )
    return "\n".join(lines) + "\n"


def _seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    sys.exit(main())
