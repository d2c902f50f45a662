"""One run of tasks in one way, in an Airflow of its own."""

from __future__ import annotations

import compileall
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from async_triggers.demo.deployment import Deployment
from benchmarks.machine import cpu_seconds
from benchmarks.sides import connections
from benchmarks.whole.calls import calls_in, count_calls
from benchmarks.whole.segments import Segment, read_segments, summarize
from benchmarks.whole.ways import FIRST_JOB, FLOOR, arrange, begin_jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from async_triggers.demo.airflow_api import TaskInstance
    from benchmarks.stage import Stage
    from benchmarks.whole.ways import Plan

HERE = Path(__file__).resolve().parent.parent
LAST_WORKER = 8.0
"""Seconds after which the executor has reported the last worker."""
POLL = 5.0
"""Seconds between two looks at the run. The API server takes CPU for each."""
_LOG_NAME = "attempt=1.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all runs have in common.

    ``settle`` is for how many seconds Airflow is left to itself before it is measured,
    ``python`` the interpreter of the official providers.
    """

    home: Path
    python: Path | None
    parallelism: int
    settle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run has cost; times in seconds.

    ``wall`` is the length of the DAG run, ``workers`` the number of processes that the
    executor started for its tasks, ``cpu`` the processor time of all of Airflow's
    processes (without the database) during the run, ``idle`` that of a second before it.
    ``delays`` is how long after its job each task has ended, in order; the floor has no
    jobs. ``calls`` counts those to the API server by segment, ``segments`` holds the
    median worker process of each, ``lines`` is the lines that tasks have logged.
    """

    vendor: str
    way: str
    tasks: int
    wall: float
    workers: int
    cpu: float
    idle: float
    delays: Sequence[float]
    requests: int
    calls: Mapping[str, Mapping[str, int]]
    segments: Mapping[str, Segment | None]
    lines: int


def cost_from(stored: Mapping[str, Any]) -> Cost:
    """Return a cost that was stored as :func:`dataclasses.asdict` shows it."""
    segments = {
        name: None if each is None else Segment(**each)
        for name, each in stored["segments"].items()
    }
    return Cost(**{**stored, "segments": segments})


def compile_package() -> None:
    """Compile this package, as pip does with what it installs.

    The official providers are compiled. Without it each process of a task would compile
    what it imports of this one, where Python may write no bytecode.
    """
    for name in ("async_triggers", "benchmarks"):
        compileall.compile_dir(HERE.parent / name, quiet=1)


def measure(plan: Plan, stage: Stage, database: str, setting: Setting) -> Cost:
    """Run the tasks of a plan.

    Raise :class:`RuntimeError` if not all of them succeed.
    """
    control, way, tasks = stage.control(plan.vendor), plan.way, len(plan.lengths)
    home = setting.home / plan.name
    written = home / "segments"
    written.mkdir(parents=True)
    control.reset()
    arrange(plan, control)
    with ExitStack() as stack:
        deployment = stack.enter_context(
            _deployment(plan, stage, database, setting, written)
        )
        api = deployment.api
        api.wait_for_dag(plan.name)
        idle = _idle(deployment, setting.settle)
        if way.waits_only:
            begin_jobs(plan, control)

        before = cpu_seconds(deployment.components)
        asked = control.record()["total"]
        run = api.trigger_run(plan.name)
        patience = max(plan.lengths) + 20 * tasks + 60
        api.wait_for_run(run, "success", "failed", timeout=patience, every=POLL)
        cpu = cpu_seconds(deployment.components) - before
        instances = api.task_instances(run)
        wrong = [each.label for each in instances if each.state != "success"]
        if wrong or len(instances) != tasks:
            msg = f"{plan.name}: {len(wrong)} tasks failed: {wrong[:5]}, see {home}"
            raise RuntimeError(msg)

        requests = control.record()["total"] - asked
        ends = {each["target"]: each["since"] for each in control.jobs(finished=True)}
        # The executor reports a worker some seconds after its task has ended.
        deployment.interrupted.wait(LAST_WORKER)
        log = deployment.component("api-server").text()
        named = [(each.id, each.task_id) for each in instances]
        return Cost(
            vendor=plan.vendor,
            way=way.name,
            tasks=tasks,
            wall=api.run_seconds(run),
            workers=deployment.component("scheduler").text().count("Workload finished"),
            cpu=cpu,
            idle=idle,
            delays=[] if way is FLOOR else delays(plan.targets, instances, ends),
            requests=requests,
            calls=count_calls(calls_in(log), named),
            segments={
                name: summarize(processes)
                for name, processes in read_segments(written).items()
            },
            lines=sum(map(_lines, (home / "logs").rglob(_LOG_NAME))),
        )


def _idle(deployment: Deployment, seconds: float) -> float:
    before = cpu_seconds(deployment.components)
    deployment.interrupted.wait(seconds)
    used = cpu_seconds(deployment.components) - before
    return used / seconds if seconds else 0.0


def _deployment(
    plan: Plan, stage: Stage, database: str, setting: Setting, written: Path
) -> Deployment:
    way = plan.way
    folder = "floor" if way is FLOOR else "peer" if way.is_peer else "ours"
    trusted = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    urls = stage.urls[0]
    known: Mapping[str, Mapping[str, Any]] = connections(urls)
    return Deployment(
        setting.home / plan.name,
        dags=[HERE / "dags" / f"waiting_{folder}"],
        database=database,
        connections=known,
        env={
            **{name: stage.environment[name] for name in trusted},
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE / "hooks")]),
            "ASYNC_TRIGGERS_BENCHMARK_SEGMENTS": str(written),
            "ASYNC_TRIGGERS_BENCHMARK_FIVETRAN": urlsplit(urls["fivetran"]).netloc,
            "END_TO_END_DAG": plan.name,
            "END_TO_END_VENDOR": plan.vendor,
            "END_TO_END_WAY": way.name.replace("_common", ""),
            "END_TO_END_INTERVAL": str(way.interval(plan.vendor)),
            "END_TO_END_TARGETS": json.dumps(plan.targets),
            "END_TO_END_LENGTHS": json.dumps([*plan.lengths]),
            "END_TO_END_FIRST_JOB": str(FIRST_JOB),
        },
        # As the documentation advises for many tasks; the same for all ways.
        config={
            "workers": {"min_heartbeat_interval": "1"},
            "async_triggers": way.options,
        },
        parallelism=setting.parallelism,
        python=setting.python if way.is_peer else None,
    )


def delays(
    targets: Sequence[str],
    instances: Iterable[TaskInstance],
    ends: Mapping[str, float],
) -> list[float]:
    """Return how long after its job each task has ended, in seconds, in order.

    ``ends`` is by target; the number at the end of a task's id is that of its target.
    """
    return sorted(
        datetime.fromisoformat(each.end_date or "").timestamp()
        - ends[targets[int(each.task_id.rpartition("_")[2])]]
        for each in instances
    )


def _lines(log: Path) -> int:
    return sum(1 for line in log.read_text().splitlines() if line.strip())
