"""Hundreds of starts at once on an Airbyte whose few threads each start blocks.

``python -m benchmarks.storm --way free`` has 500 tasks on sixteen worker processes start
a sync each, at a server of five threads where a start holds one for twenty seconds;
``--way pooled`` does so in an Airflow pool of three slots. Meanwhile syncs end that were
waited for before. It ends with a table, and fails if a connection was not started exactly
once, a task did not succeed, a sync was cancelled, or an end went unnoticed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables
from benchmarks.elapsed import start_saying
from benchmarks.machine import machine
from benchmarks.side_by_side import side_by_side
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import Run
    from async_triggers.simulator.airbyte import AirbyteSimulator

DAGS: Final = Path(__file__).parent / "dags" / "storm"
MEASURED: Final = Path(__file__).parents[1] / "docs" / "measured"
POOL: Final = "airbyte_starts"
LIST: Final = "GET /jobs"
START: Final = "POST /jobs"
LOOK: Final = 0.5
"""Seconds between two looks at Airflow's tables."""
TELL: Final = 30.0
"""Seconds between two lines on how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What is asked for: times in seconds, ``pool`` in slots, 0 for none."""

    starts: int
    blocks: float
    threads: int
    workers: int
    pool: int
    before: int
    lasts: float

    @property
    def least(self) -> float:
        """The time that the server needs for all starts, be it asked as fast as may be."""
        lanes = min(self.threads, self.pool or self.threads)
        return self.starts * self.blocks / lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a storm; times in seconds.

    ``starts`` tells how many connections were started how often, ``states`` how many
    tasks ended how, ``attempts`` after how many attempts. ``notices`` are the times from
    the end of each sync that was waited for before the storm to the end of its task,
    ``gaps`` those between two polls while there was something to wait for.
    """

    storm: Storm
    took: float
    whole: float
    starts: Mapping[int, int]
    states: Mapping[str, int]
    attempts: Mapping[int, int]
    cancels: int
    refused: int
    notices: Sequence[float]
    gaps: Sequence[float]
    requests: Mapping[str, int]
    statuses: Mapping[int, int]

    def faults(self) -> list[str]:
        """Tell what must not have been."""
        found = []
        if set(self.starts) != {1}:
            found.append(f"connections by how often they were started: {self.starts}")
        if set(self.states) != {"success"}:
            found.append(f"tasks by state: {self.states}")
        if self.cancels:
            found.append(f"{self.cancels} syncs were cancelled")
        if len(self.notices) != self.storm.before:
            found.append(
                f"only {len(self.notices)} of {self.storm.before} were noticed"
            )
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Raise a storm; return 0 if nothing was lost or started twice."""
    options = _parse(arguments)
    storm = Storm(
        starts=options.starts,
        blocks=options.blocks,
        threads=options.threads,
        workers=options.workers,
        pool=options.pool if options.way == "pooled" else 0,
        before=options.before,
        lasts=options.lasts,
    )
    say = start_saying()
    home = options.home or Path(tempfile.mkdtemp(prefix="async-triggers-storm-"))
    say(f"{storm}; at least {storm.least:.0f} s; logs: {home}")
    outcome = play(storm, home, say)
    options.out.mkdir(parents=True, exist_ok=True)
    raw = {"way": options.way, "machine": machine(), **asdict(outcome)}
    target = options.out / f"storm-{options.way}.json"
    target.write_text(json.dumps(raw, indent=1) + "\n")
    known = [json.loads(each.read_text()) for each in options.out.glob("storm-*.json")]
    text = table(known)
    (options.out / "storm.md").write_text(text)
    print(text)
    for fault in outcome.faults():
        print(fault)
    return 1 if outcome.faults() else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm")
    parser.add_argument(
        "--way",
        choices=("free", "pooled"),
        default="free",
        help="whether a pool caps the starts",
    )
    parser.add_argument("--starts", type=int, default=500, help="how many (500)")
    parser.add_argument(
        "--blocks", type=float, default=20, help="seconds a start blocks (20)"
    )
    parser.add_argument("--threads", type=int, default=5, help="of the server (5)")
    parser.add_argument("--workers", type=int, default=16, help="worker slots (16)")
    parser.add_argument("--pool", type=int, default=3, help="slots of the pool (3)")
    parser.add_argument(
        "--before", type=int, default=20, help="syncs waited for before (20)"
    )
    parser.add_argument(
        "--lasts", type=float, default=60, help="seconds that a started sync runs (60)"
    )
    parser.add_argument(
        "--out", type=Path, default=MEASURED, help="where to write (docs/measured)"
    )
    parser.add_argument("--home", type=Path, help="folder for Airflow and its logs")
    return parser.parse_args(arguments)


def play(storm: Storm, home: Path, say: Callable[[str], None]) -> Outcome:
    """Run a storm in an Airflow of its own; tell what came of it."""
    with (
        PostgresServer() as postgres,
        SimulatorThread() as simulator,
        Deployment(
            home,
            dags=[DAGS],
            database=postgres.create_database("airflow"),
            parallelism=storm.workers,
            connections={
                "airbyte_default": json.loads(
                    connection_variables(simulator)["AIRFLOW_CONN_AIRBYTE_DEFAULT"]
                )
            },
            env={
                "STORM_STARTS": str(storm.starts),
                "STORM_BEFORE": str(storm.before),
                "STORM_POOL": POOL if storm.pool else "default_pool",
            },
            # A pool of Airflow's own has 128 slots, which bound nothing here.
            config={
                "core": {"max_active_tasks_per_dag": str(storm.starts)},
                "workers": {"min_heartbeat_interval": "1"},
                # Sixteen processes that begin at once on two cores keep Airflow waiting
                # for longer than a deployment of ours allows by default. A scheduler
                # that is late by its own threshold takes its tasks for another's.
                "scheduler": {
                    "task_instance_heartbeat_timeout": "60",
                    "scheduler_health_check_threshold": "300",
                },
            },
            say=say,
        ) as deployment,
    ):
        if storm.pool:
            slots = {"name": POOL, "slots": storm.pool}
            deployment.api.request("POST", "/pools", slots)
        return _Play(storm, deployment, simulator.airbyte, postgres, say).run()


class _Play:
    def __init__(
        self,
        storm: Storm,
        deployment: Deployment,
        airbyte: AirbyteSimulator,
        postgres: PostgresServer,
        say: Callable[[str], None],
    ) -> None:
        self.storm = storm
        self.deployment = deployment
        self.airbyte = airbyte
        self.postgres = postgres
        self.say = say
        self.ended: dict[int, float] = {}
        self.noticed: dict[int, float] = {}
        self.polls: list[float] = []
        self.told = 0.0

    def run(self) -> Outcome:
        storm, airbyte, api = self.storm, self.airbyte, self.deployment.api
        for number in range(storm.starts):
            life = f"running:{storm.lasts:g} succeeded"
            airbyte.add_connection(f"storm-{number}", lives=[life])
        for number in range(storm.before):
            airbyte.add_connection(f"before-{number}", lives=["running"])
        before = api.trigger_run("before")
        self._wait(
            lambda: self._states(before)["deferred"] == storm.before,
            "what is waited for before the storm",
            timeout=60 + 5 * storm.before,
        )
        airbyte.configure(start_blocks=storm.blocks, threads=storm.threads)
        run = api.trigger_run("storm")
        began = time.monotonic()
        first = airbyte.now()
        self.say("the storm begins")

        def all_started() -> bool:
            self._look(before, began)
            return len(self._begun()) == storm.starts

        self._wait(all_started, "all to be started", timeout=3 * storm.least + 600)
        took = time.monotonic() - began
        self.say(f"all started after {took:.0f} s")
        airbyte.configure(start_blocks=0.0)

        def all_ended() -> bool:
            self._look(before, began)
            return self._state(run) in {"success", "failed"} and (
                self._state(before) in {"success", "failed"}
            )

        self._wait(all_ended, "all tasks to end", timeout=600 + 3 * storm.starts)
        return self._outcome(run, took, time.monotonic() - began, first)

    def _begun(self) -> Counter[str]:
        record = self.airbyte.record.starts
        return Counter(
            {name: n for name, n in record.items() if name.startswith("storm-")}
        )

    def _look(self, before: Run, began: float) -> None:
        """End what is due of the syncs waited for; see which ends have been noticed."""
        now = time.monotonic()
        every = self.storm.least / (self.storm.before + 1)
        due = min(self.storm.before, int((now - began) / every))
        for number in range(len(self.ended), due):
            for job in self.airbyte.jobs():
                if job.target == f"before-{number}":
                    self.airbyte.finish(job.job, "succeeded")
            self.ended[number] = now
        open_ones = self.ended.keys() - self.noticed.keys()
        if open_ones:
            rows = self.postgres.rows(
                "SELECT map_index FROM task_instance WHERE dag_id = 'before'"
                " AND run_id = %s AND state = 'success'",
                before.run_id,
            )
            for number in open_ones & {row[0] for row in rows}:
                self.noticed[number] = now
                late = now - self.ended[number]
                self.say(f"the end of before-{number} was noticed after {late:.1f} s")
        if now - self.told >= TELL:
            self.told = now
            states = self.postgres.rows(
                "SELECT state, count(*) FROM task_instance WHERE dag_id = 'storm'"
                " GROUP BY 1 ORDER BY 1"
            )
            polls = self.airbyte.record.requests[LIST]
            self.say(f"{len(self._begun())} started, {polls} polls, tasks {states}")

    def _outcome(self, run: Run, took: float, whole: float, first: float) -> Outcome:
        record = self.airbyte.record
        begun = self._begun()
        counted = Counter(
            begun[f"storm-{number}"] for number in range(self.storm.starts)
        )
        asked = [
            each.at
            for each in record.exchanges
            if each.endpoint == LIST
            and each.status == 200
            and first <= each.at <= first + took
        ]
        attempts = self.postgres.rows(
            "SELECT try_number, count(*) FROM task_instance WHERE dag_id = 'storm'"
            " GROUP BY 1 ORDER BY 1"
        )
        return Outcome(
            storm=self.storm,
            took=round(took, 1),
            whole=round(whole, 1),
            starts=dict(counted),
            states={str(key): count for key, count in self._states(run).items()},
            attempts={int(tries): int(count) for tries, count in attempts},
            cancels=sum(record.cancels.values()),
            refused=sum(record.refused_starts.values()),
            notices=[
                round(at - self.ended[number], 1)
                for number, at in sorted(self.noticed.items())
            ],
            gaps=[round(gap, 1) for gap in _gaps([first, *asked, first + took])],
            requests=dict(record.requests),
            statuses=dict(record.statuses),
        )

    def _wait(self, probe: Callable[[], bool], what: str, *, timeout: float) -> None:
        self.deployment.api.wait_until(
            lambda: probe() or None, what=what, timeout=timeout, every=LOOK
        )

    def _states(self, run: Run) -> Counter[str | None]:
        rows = self.postgres.rows(
            "SELECT state, count(*) FROM task_instance"
            " WHERE dag_id = %s AND run_id = %s GROUP BY 1",
            run.dag_id,
            run.run_id,
        )
        return Counter(dict(rows))

    def _state(self, run: Run) -> str:
        rows = self.postgres.rows(
            "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s",
            run.dag_id,
            run.run_id,
        )
        return str(rows[0][0])


def _gaps(times: Sequence[float]) -> Iterable[float]:
    return (later - earlier for earlier, later in pairwise(times))


def table(known: Sequence[Mapping[str, Any]]) -> str:
    """Return the outcomes, as they are kept, as a table in Markdown."""
    ways = sorted(known, key=lambda each: str(each["way"]))
    titles = {"free": "without a pool", "pooled": "in a pool of {} slots"}
    rows: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("starts", lambda each: str(each["storm"]["starts"])),
        ("connections started once", lambda each: _of(each["starts"], "1")),
        ("tasks that succeeded", lambda each: _of(each["states"], "success")),
        ("tasks that needed one attempt", lambda each: _of(each["attempts"], "1")),
        ("syncs cancelled", lambda each: str(each["cancels"])),
        (
            "all started after, at the server's best",
            lambda each: f"{each['took']:.0f} s, {_least(each):.0f} s",
        ),
        (
            "from a sync's end to its waiting task's end: median, longest",
            lambda each: _spread(each["notices"]),
        ),
        (
            "between two polls: median, longest",
            lambda each: _spread(each["gaps"]),
        ),
        ("requests", lambda each: str(sum(each["requests"].values()))),
    ]
    head = [titles[each["way"]].format(each["storm"]["pool"]) for each in ways]
    return side_by_side(ways, heads=head, rows=rows)


def _least(each: Mapping[str, Any]) -> float:
    return Storm(**each["storm"]).least


def _of(counts: Mapping[Any, int], wanted: str) -> str:
    named = {str(key): count for key, count in counts.items()}
    return f"{named.get(wanted, 0)} of {sum(named.values())}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.1f} s, {ordered[-1]:.1f} s"


if __name__ == "__main__":
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    sys.exit(main())
