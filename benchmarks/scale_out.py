"""Two thousand jobs on one triggerer and on two, and what the loss of one costs.

``python -m benchmarks.scale_out`` starts an Airflow on PostgreSQL with one triggerer and
then another with two. In each, sensors that never see a worker wait for the jobs of one
Airbyte. A minute after the last has begun a triggerer is killed, and started again where
it was the only one; when all sensors have begun again, all jobs end within a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from async_triggers.deferral.compat import OWNER_KEY
from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables
from benchmarks.elapsed import start_saying
from benchmarks.machine import cpu_seconds, machine, runner_cpu_seconds
from benchmarks.side_by_side import side_by_side
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from async_triggers.simulator.airbyte import AirbyteSimulator

DAGS: Final = Path(__file__).parent / "dags" / "scale_out"
MEASURED: Final = Path(__file__).parents[1] / "docs" / "measured"
EACH: Final = 50
"""Sensors of a DAG."""
THRESHOLD: Final = 30
"""Seconds without a heartbeat after which a triggerer's work goes to another.

Airflow's default. With ten, two triggerers took the sensors from each other while these
began: their supervisors were late by up to 17 seconds.
"""
AT_ONCE: Final = 200
"""Triggers that a triggerer takes between two heartbeats: each brings its DAG."""
LOOK: Final = 0.25
"""Seconds between two looks at Airflow's tables."""
CALM: Final = 60.0
"""Seconds for which it is only waited, and measured what that costs."""
ENDING: Final = 60.0
"""Seconds within which all jobs end."""
PATIENCE: Final = 900.0
LIST: Final = "GET /jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What one number of triggerers has shown; times in seconds.

    ``deferred`` is the time until all sensors had a trigger, ``held`` until triggerers
    had taken all of these, ``begun`` until each of them had written down in Airflow what
    it waits for: its supervisor takes that in one at a time. ``split`` tells how many
    each triggerer had. ``requests``, ``lists``, ``cpu`` (by triggerer) and ``runners``
    (that part of it which is spent where the triggers run) are those of a minute of mere
    waiting. ``lost`` is the time from the ``kill -9`` of a triggerer until others had all
    triggers again, and ``begun_again`` until all that moved had begun; ``asked_after``
    counts the requests until then. ``median`` and ``slowest`` are the times from a job's
    end to its task's end.
    """

    triggerers: int
    jobs: int
    deferred: float
    held: float
    begun: float
    split: Sequence[int]
    requests: int
    lists: int
    cpu: Sequence[float]
    runners: Sequence[float]
    lost: float
    begun_again: float
    asked_after: int
    statuses: Mapping[int, int]
    median: float
    slowest: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if every task has succeeded."""
    options = _parse(arguments)
    say = start_saying()
    home = Path(tempfile.mkdtemp(prefix="async-triggers-scale-out-"))
    say(f"logs: {home}")
    seen = []
    with PostgresServer() as postgres:
        for count in options.triggerers:
            scale = measure(
                postgres,
                home,
                count,
                options.jobs,
                calm=options.calm,
                ending=options.ending,
                say=say,
            )
            say(str(scale))
            seen.append(scale)
    options.out.mkdir(parents=True, exist_ok=True)
    raw = {"machine": machine(), "scales": [asdict(each) for each in seen]}
    (options.out / "scale_out.json").write_text(json.dumps(raw, indent=1) + "\n")
    text = table(seen)
    (options.out / "scale_out.md").write_text(text)
    print(text)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_out")
    parser.add_argument("--jobs", type=int, default=2000, help="how many (2000)")
    parser.add_argument(
        "--triggerers",
        type=int,
        nargs="+",
        default=[1, 2],
        help="how many, one Airflow for each number (1 2)",
    )
    parser.add_argument(
        "--calm", type=float, default=CALM, help="seconds of mere waiting (60)"
    )
    parser.add_argument(
        "--ending",
        type=float,
        default=ENDING,
        help="seconds in which all jobs end (60)",
    )
    parser.add_argument(
        "--out", type=Path, default=MEASURED, help="where to write (docs/measured)"
    )
    return parser.parse_args(arguments)


def measure(
    postgres: PostgresServer,
    home: Path,
    triggerers: int,
    jobs: int,
    *,
    calm: float,
    ending: float,
    say: Callable[[str], None],
) -> Scale:
    """Wait for the jobs with some triggerers, in an Airflow of their own.

    Raise :class:`RuntimeError` if a task did not succeed.
    """
    name = f"with_{triggerers}"
    with (
        SimulatorThread() as simulator,
        Deployment(
            home / name,
            dags=[DAGS],
            database=postgres.create_database(name),
            connections={
                "airbyte_default": json.loads(
                    connection_variables(simulator)["AIRFLOW_CONN_AIRBYTE_DEFAULT"]
                )
            },
            env={"SCALE_OUT_JOBS": str(jobs)},
            config={
                "triggerer": {
                    "capacity": str(2 * jobs),
                    "max_trigger_to_select_per_loop": str(AT_ONCE),
                    "triggerer_health_check_threshold": str(THRESHOLD),
                },
                "scheduler": {"max_dagruns_to_create_per_loop": "50"},
                # What each triggerer and worker may ask, of what the server allows.
                "async_triggers": {"airbyte_share": str(round(0.6 / triggerers, 2))},
            },
            triggerers=triggerers,
            say=say,
        ) as deployment,
    ):
        airbyte = simulator.airbyte
        for number in range(jobs):
            airbyte.add_connection(f"c{number}")
            airbyte.add_job(f"c{number}", "running", job_id=number + 1)
        return _Play(postgres, name, deployment, airbyte, jobs, say).run(
            calm=calm, ending=ending
        )


class _Play:
    def __init__(
        self,
        postgres: PostgresServer,
        database: str,
        deployment: Deployment,
        airbyte: AirbyteSimulator,
        jobs: int,
        say: Callable[[str], None],
    ) -> None:
        self.postgres = postgres
        self.database = database
        self.deployment = deployment
        self.airbyte = airbyte
        self.jobs = jobs
        self.say = say

    def run(self, *, calm: float, ending: float) -> Scale:
        deployment, airbyte = self.deployment, self.airbyte
        count = len(deployment.triggerers)
        dag_ids = [f"scale_out_{place}" for place in range(-(-self.jobs // EACH))]
        for dag_id in dag_ids:
            deployment.api.wait_for_dag(dag_id)
        began = time.monotonic()
        for dag_id in dag_ids:
            deployment.api.trigger_run(dag_id)
        deferred = self._until(lambda: self._deferred() == self.jobs, "deferred", began)
        held = self._until(lambda: sum(self._split()) == self.jobs, "held", began)
        split = self._split()
        begun = self._until(lambda: self._begun() == self.jobs, "begun", began)

        # What joined last is a round old by then.
        deployment.interrupted.wait(10.0)
        record = airbyte.record
        before = record.total, record.requests[LIST]
        spent = self._cpu()
        deployment.interrupted.wait(calm)
        cpu, runners = (
            [late - early for late, early in zip(later, earlier, strict=True)]
            for later, earlier in zip(self._cpu(), spent, strict=True)
        )
        requests, lists = record.total - before[0], record.requests[LIST] - before[1]
        self.say(f"{requests} requests in {calm:.0f} s; CPU {cpu}; split {split}")

        killed = time.monotonic()
        asked, wrote = record.total, self._last_beginning()
        homes = self._homes()
        deployment.kill_triggerer(0)
        if count == 1:
            deployment.restart_triggerer(0)
        lost = self._until(lambda: self._taken_over(killed), "held again", killed)
        moved = len(self._homes() - homes)
        self.say(f"{moved} triggers have moved")
        begun_again = self._until(
            lambda: self._begun(wrote) >= moved, "begun again", killed
        )
        asked_after = record.total - asked
        deployment.interrupted.wait(10.0)

        ended = self._end_all(ending)
        self._until(lambda: self._ended() == self.jobs, "ended", killed)
        delays = self._delays(ended)
        return Scale(
            triggerers=count,
            jobs=self.jobs,
            deferred=round(deferred, 1),
            held=round(held, 1),
            begun=round(begun, 1),
            split=split,
            requests=requests,
            lists=lists,
            cpu=[round(each, 2) for each in cpu],
            runners=[round(each, 2) for each in runners],
            lost=round(lost, 1),
            begun_again=round(begun_again, 1),
            asked_after=asked_after,
            statuses=dict(record.statuses),
            median=round(delays[len(delays) // 2], 1),
            slowest=round(delays[-1], 1),
        )

    def _cpu(self) -> tuple[list[float], list[float]]:
        """Return the processor time of each triggerer, and of its runner alone."""
        parts = self.deployment.triggerers
        return [cpu_seconds([part]) for part in parts], [
            *map(runner_cpu_seconds, parts)
        ]

    def _until(self, probe: Callable[[], bool], what: str, since: float) -> float:
        self.deployment.api.wait_until(
            lambda: probe() or None,
            what=f"all sensors to be {what}",
            timeout=PATIENCE,
            every=LOOK,
        )
        took = time.monotonic() - since
        self.say(f"all {what} after {took:.1f} s")
        return took

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.postgres.rows(statement, *values, database=self.database)

    def _deferred(self) -> int:
        ((count,),) = self._rows(
            "SELECT count(*) FROM task_instance WHERE trigger_id IS NOT NULL"
        )
        return int(count)

    def _homes(self) -> set[tuple[Any, ...]]:
        """Return which triggerer has which trigger."""
        return set(self._rows("SELECT id, triggerer_id FROM trigger"))

    def _begun(self, after: object = None) -> int:
        """Count the sensors that have written down what they wait for, as of late."""
        ((count,),) = self._rows(
            "SELECT count(*) FROM xcom WHERE key = %s"
            " AND (%s::timestamptz IS NULL OR timestamp > %s)",
            OWNER_KEY,
            after,
            after,
        )
        return int(count)

    def _last_beginning(self) -> object:
        """Return the time by Airflow's clock at which the last sensor has begun."""
        ((moment,),) = self._rows(
            "SELECT max(timestamp) FROM xcom WHERE key = %s", OWNER_KEY
        )
        return moment

    def _split(self) -> list[int]:
        rows = self._rows(
            "SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL"
            " GROUP BY triggerer_id ORDER BY triggerer_id"
        )
        return [int(count) for (count,) in rows]

    def _taken_over(self, killed: float) -> bool:
        """Tell whether all triggers are held by triggerers that show signs of life."""
        # Before that the dead one may still seem to live.
        if time.monotonic() < killed + THRESHOLD:
            return False

        ((count,),) = self._rows(
            "SELECT count(*) FROM trigger JOIN job ON job.id = trigger.triggerer_id"
            " WHERE job.latest_heartbeat > now() - make_interval(secs => %s)",
            THRESHOLD,
        )
        return bool(count == self.jobs)

    def _end_all(self, within: float) -> dict[int, float]:
        """End all jobs, evenly within some seconds; return when each ended."""
        began = time.time()
        ended: dict[int, float] = {}
        for number in range(self.jobs):
            due = began + number * within / self.jobs
            self.deployment.interrupted.wait(max(0.0, due - time.time()))
            self.airbyte.finish(str(number + 1), "succeeded")
            ended[number] = time.time()
        return ended

    def _ended(self) -> int:
        wrong = self._rows(
            "SELECT task_id, state FROM task_instance"
            " WHERE state IN ('failed', 'skipped', 'up_for_retry') LIMIT 5"
        )
        if wrong:
            raise RuntimeError(f"tasks did not succeed: {wrong}")

        ((count,),) = self._rows(
            "SELECT count(*) FROM task_instance WHERE state = 'success'"
        )
        return int(count)

    def _delays(self, ended: Mapping[int, float]) -> list[float]:
        rows = self._rows(
            "SELECT task_id, EXTRACT(EPOCH FROM end_date) FROM task_instance"
        )
        return sorted(
            float(at) - ended[int(task_id.rpartition("_")[2])] for task_id, at in rows
        )


def table(scales: Sequence[Scale]) -> str:
    """Return the measurements as a table in Markdown."""
    rows: list[tuple[str, Callable[[Scale], str]]] = [
        ("jobs waited for", lambda each: str(each.jobs)),
        ("triggers of each triggerer", lambda each: _joined(each.split, "d")),
        (
            "all sensors deferred, taken by triggerers, begun, after",
            lambda each: (
                f"{each.deferred:.0f} s, {each.held:.0f} s, {each.begun:.0f} s"
            ),
        ),
        ("requests in a minute of waiting", lambda each: str(each.requests)),
        (
            "CPU of each triggerer in that minute",
            lambda each: _joined(each.cpu, ".1f") + " s",
        ),
        (
            "… of it where the triggers run",
            lambda each: _joined(each.runners, ".1f") + " s",
        ),
        (
            "a triggerer is killed: its triggers taken again, begun, after",
            lambda each: f"{each.lost:.0f} s, {each.begun_again:.0f} s",
        ),
        ("requests until then", lambda each: str(each.asked_after)),
        (
            "all jobs end within a minute; from a job's end to its task's: median, longest",
            lambda each: f"{each.median:.1f} s, {each.slowest:.1f} s",
        ),
        ("429s", lambda each: str(each.statuses.get(429, 0))),
    ]
    titles = {1: "one triggerer"}
    heads = [
        titles.get(each.triggerers, f"{each.triggerers} triggerers") for each in scales
    ]
    return side_by_side(scales, heads=heads, rows=rows)


def _joined(values: Sequence[float], form: str) -> str:
    return ", ".join(format(value, form) for value in values)


if __name__ == "__main__":
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    sys.exit(main())
