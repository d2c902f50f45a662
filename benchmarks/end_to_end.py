"""What a waiting task costs a whole Airflow, from its start to its end.

``python -m benchmarks.end_to_end`` runs 200 Airbyte tasks through an Airflow on
PostgreSQL in four ways, one after another, each in a deployment of its own: with the
official provider's deferrable operator, with ours, with ours that ends from its trigger,
and with a sensor that never sees a worker.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from benchmarks.machine import cpu_seconds, machine
from benchmarks.peers import python_of_peers
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_triggers.demo.airflow_api import TaskInstance
    from async_triggers.simulator.airbyte import AirbyteSimulator

HERE = Path(__file__).parent
MEASURED = HERE.parent / "docs" / "measured"
LAST_WORKER = 8.0
"""Seconds after which the last worker has been told of."""
SETTLE = 60.0
"""Seconds for which Airflow is left to itself before it is measured."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of waiting: the DAG, and whether its jobs run before its tasks begin."""

    name: str
    title: str
    is_peer: bool = False
    waits_only: bool = False


WAYS = (
    Way("peer", "official provider, deferrable", is_peer=True),
    Way("ours", "this package, deferrable"),
    Way("ours_ended", "… with `end_from_trigger`"),
    Way(
        "ours_sensors",
        "… a sensor with `start_from_trigger` and `end_from_trigger`",
        waits_only=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one way has cost; times in seconds.

    ``wall`` is the length of the DAG run, ``workers`` the number of processes that the
    executor started for its tasks, ``cpu`` the processor time of all of Airflow's
    processes (without the database) during the run and ``idle`` that of a second before
    it, ``slowest`` the longest time from a job's end at the vendor to its task's end, and
    ``median`` the median of that.
    """

    way: str
    tasks: int
    wall: float
    workers: int
    cpu: float
    idle: float
    slowest: float
    median: float
    requests: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if all tasks of all ways have succeeded."""
    options = _parse(arguments)
    ways = [way for way in WAYS if way.name in options.ways]
    python = python_of_peers() if any(way.is_peer for way in ways) else None
    home = Path(tempfile.mkdtemp(prefix="async-triggers-end-to-end-"))
    print(f"logs: {home}", flush=True)
    costs = []
    with PostgresServer() as postgres:
        for way in ways:
            cost = measure(
                way,
                home / way.name,
                postgres.create_database(way.name),
                python=python if way.is_peer else None,
                tasks=options.tasks,
                lasts=options.lasts,
                parallelism=options.parallelism,
                settle=options.settle,
            )
            print(tell(cost), flush=True)
            costs.append(cost)

    text = table(costs)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        raw = {**machine(), "lasts": options.lasts, "costs": [*map(asdict, costs)]}
        (options.out / "end_to_end.json").write_text(json.dumps(raw, indent=1) + "\n")
        (options.out / "end_to_end.md").write_text(text)

    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end")
    parser.add_argument("--tasks", type=int, default=200, help="how many (200)")
    parser.add_argument(
        "--lasts", type=float, default=60, help="seconds that a job runs (60)"
    )
    parser.add_argument("--parallelism", type=int, default=4, help="worker slots (4)")
    parser.add_argument(
        "--settle",
        type=float,
        default=SETTLE,
        help="seconds for which Airflow is left alone before (60)",
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=[way.name for way in WAYS],
        default=[way.name for way in WAYS],
        help="which (all)",
    )
    parser.add_argument(
        "--ours",
        action="store_const",
        dest="ways",
        const=[way.name for way in WAYS if not way.is_peer],
        help="leave the official provider out",
    )
    parser.add_argument(
        "--out", type=Path, default=MEASURED, help="where to write (docs/measured)"
    )
    return parser.parse_args(arguments)


def measure(
    way: Way,
    home: Path,
    database: str,
    *,
    python: Path | None,
    tasks: int,
    lasts: float,
    parallelism: int,
    settle: float,
) -> Cost:
    """Run the tasks in one way, in an Airflow of its own.

    Raise :class:`RuntimeError` if not all of them succeed.
    """
    with (
        SimulatorThread() as simulator,
        Deployment(
            home,
            dags=[HERE / "dags" / ("waiting_peer" if way.is_peer else "waiting_ours")],
            database=database,
            connections={"airbyte_default": _connection(simulator.airbyte_url)},
            env={"END_TO_END_TASKS": str(tasks), "END_TO_END_WAY": way.name},
            # As the documentation advises for many tasks; the same for both sides.
            config={"workers": {"min_heartbeat_interval": "1"}},
            parallelism=parallelism,
            python=python,
        ) as deployment,
    ):
        api, airbyte = deployment.api, simulator.airbyte
        for number in range(tasks):
            airbyte.add_connection(f"c{number}", lives=[f"running:{lasts} succeeded"])

        api.wait_for_dag(way.name)
        before = cpu_seconds(deployment.components)
        deployment.interrupted.wait(settle)
        idle = (cpu_seconds(deployment.components) - before) / settle if settle else 0.0
        if way.waits_only:
            for number in range(tasks):
                airbyte.add_job(f"c{number}", job_id=number + 1)

        before = cpu_seconds(deployment.components)
        run = api.trigger_run(way.name)
        began = time.monotonic()
        api.wait_for_run(run, "success", "failed", timeout=lasts + 20 * tasks)
        wall = time.monotonic() - began
        cpu = cpu_seconds(deployment.components) - before
        instances = api.task_instances(run)
        wrong = [each.label for each in instances if each.state != "success"]
        if wrong or len(instances) != tasks:
            raise RuntimeError(f"{way.title}: {len(wrong)} tasks failed: {wrong[:5]}")

        late = sorted(delays(instances, airbyte))
        # The executor tells of a worker some seconds after its task has ended.
        deployment.interrupted.wait(LAST_WORKER)
        log = deployment.component("scheduler").text()
        return Cost(
            way=way.name,
            tasks=tasks,
            wall=wall,
            workers=log.count("Workload finished"),
            cpu=cpu,
            idle=idle,
            slowest=late[-1],
            median=late[len(late) // 2],
            requests=airbyte.record.total,
        )


def _connection(url: str) -> dict[str, str]:
    return {
        "conn_type": "airbyte",
        "host": f"{url}/api/public/v1",
        "login": "simulator-client",
        "password": "simulator-secret",
        "schema": "v1/applications/token",
    }


def delays(instances: Sequence[TaskInstance], airbyte: AirbyteSimulator) -> list[float]:
    """Return how long after its job each task has ended, in seconds."""
    ends = {job.target: job.since for job in airbyte.jobs(finished=True)}
    return [
        datetime.fromisoformat(each.end_date or "").timestamp()
        - ends[f"c{each.task_id.rpartition('_')[2]}"]
        for each in instances
    ]


def tell(cost: Cost) -> str:
    """Return one line about one way."""
    return (
        f"{cost.way}: {cost.wall:.0f} s, {cost.workers} workers, {cost.cpu:.0f} s of CPU,"
        f" slowest {cost.slowest:.1f} s after the job's end"
    )


def table(costs: Sequence[Cost]) -> str:
    """Return the costs as a table in Markdown."""
    titles = {way.name: way.title for way in WAYS}
    rows = [
        "| way | wall time | worker processes | CPU | from job's end: median, longest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {titles[cost.way]} | {cost.wall:.0f} s | {cost.workers} | {cost.cpu:.0f} s"
        f" | {cost.median:.1f} s, {cost.slowest:.1f} s |"
        for cost in costs
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
