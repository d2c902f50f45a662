"""From the end of a job at the vendor to the start of the DAG run that it causes.

A whole Airflow on PostgreSQL, with a DAG for each of some connections and jobs of all three
vendors. Their jobs end at random times, as if by schedules of the vendors' own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables
from benchmarks.campaign.seen import jobs_seen
from benchmarks.lag import quantile
from benchmarks.sides import TITLES, VENDORS
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator
    from benchmarks.sides import Vendor

DAGS: Final = Path(__file__).parent / "dags" / "watching"
INTERVAL: Final = 15.0
"""Seconds between two polls of a watcher, which is the default."""
PATIENCE: Final = 600.0
LIVES: Final[Mapping[str, str]] = {
    "airbyte": "running:1 succeeded",
    "fivetran": "syncing:1 succeeded",
    "dbt_cloud": "running:1 success",
}
LIMITS: Final[Mapping[str, int]] = {
    "airbyte": 36_000,
    "fivetran": 20_000,
    "dbt_cloud": 300_000,
}
"""Requests an hour: Fivetran's and dbt Cloud's documented limits, and the six hundred a
minute that this package allows an Airbyte, which documents none."""

_MARKS: Final = "SELECT COUNT(DISTINCT asset_id) FROM asset_state_store"
_RUNS: Final = """
    SELECT event.extra, EXTRACT(EPOCH FROM event.timestamp),
           EXTRACT(EPOCH FROM run.start_date)
    FROM dagrun_asset_event link
         JOIN dag_run run ON run.id = link.dag_run_id
         JOIN asset_event event ON event.id = link.event_id
    WHERE run.start_date IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """One DAG run and the end that started it; times in epoch seconds.

    ``reported`` is when Airflow took the event in.
    """

    vendor: str
    ended: float
    reported: float
    started: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long it took, of one vendor, as (median, p99) in seconds.

    ``ends`` is how many jobs ended, ``runs`` how many DAG runs they started, ``requests``
    how many requests an hour the vendor had.
    """

    vendor: str
    ends: int
    runs: int
    requests: float
    to_event: tuple[float, float]
    to_start: tuple[float, float]
    whole: tuple[float, float]


def measure(
    home: Path, *, targets: int, ends: int, every: float, seed: int = 1
) -> list[Delays]:
    """Let ``ends`` jobs of each of the targets end, one in ``every`` seconds."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        simulator = stack.enter_context(SimulatorThread(seed=seed))
        _arrange(simulator, targets)
        deployment = stack.enter_context(
            Deployment(
                home,
                dags=[DAGS],
                database=postgres.create_database("airflow"),
                env={
                    **connection_variables(simulator),
                    "WATCHING_TARGETS": str(targets),
                },
            )
        )
        deployment.api.wait_until(
            lambda: postgres.rows(_MARKS)[0][0] == targets * len(VENDORS),
            what="the watchers to poll",
            timeout=PATIENCE,
        )
        before = {each.name: each.record.total for each in simulator.vendors}
        began = time.time()
        count = _play(simulator, deployment, targets, ends, every, Random(seed))
        passed = time.time() - began
        requests = {
            each.name: (each.record.total - before[each.name]) * 3600 / passed
            for each in simulator.vendors
        }
        deployment.api.wait_until(
            lambda: len(postgres.rows(_RUNS)) >= count,
            what=f"{count} DAG runs",
            timeout=PATIENCE,
            instead=lambda: f"there are {len(postgres.rows(_RUNS))}",
        )
        started = _started(simulator, postgres.rows(_RUNS))

    return [
        delays_of(
            vendor, started, requests=requests[vendor], ends=count // len(VENDORS)
        )
        for vendor in VENDORS
    ]


def _arrange(simulator: Simulator, targets: int) -> None:
    for number in range(targets):
        lives = {vendor: [LIVES[vendor]] for vendor in VENDORS}
        simulator.airbyte.add_connection(f"c{number}", lives=lives["airbyte"])
        simulator.fivetran.add_connection(f"c{number}", lives=lives["fivetran"])
        simulator.dbt_cloud.add_job(10_000 + number, lives=lives["dbt_cloud"])


def _play(
    simulator: Simulator,
    deployment: Deployment,
    targets: int,
    ends: int,
    every: float,
    random: Random,
) -> int:
    """Let jobs begin at random times; return how many there were."""
    begins = sorted(
        # Far enough apart for a DAG run each.
        (turn * every + random.uniform(0.0, every / 2), vendor, number)
        for turn in range(ends)
        for vendor in VENDORS
        for number in range(targets)
    )
    began = time.monotonic()
    for at, vendor, number in begins:
        deployment.interrupted.wait(max(0.0, began + at - time.monotonic()))
        target: Any = 10_000 + number if vendor == "dbt_cloud" else f"c{number}"
        part = getattr(simulator, vendor)
        with part.lock:
            part.start_by_itself(target, part.now())

    deployment.interrupted.wait(2 * INTERVAL)
    return len(begins)


def _started(simulator: Simulator, rows: Sequence[tuple[Any, ...]]) -> list[Started]:
    ended = {
        (vendor, job.job_id): job.ended
        for vendor, targets in jobs_seen(simulator).items()
        for jobs in targets.values()
        for job in jobs
    }
    names = {title: vendor for vendor, title in TITLES.items()}
    found = []
    for extra, reported, started in rows:
        payload = extra["payload"]
        vendor = names[payload["vendor"]]
        end = ended[vendor, payload["id"]]
        assert end is not None
        found.append(
            Started(
                vendor=vendor,
                ended=end,
                reported=float(reported),
                started=float(started),
            )
        )

    return found


def delays_of(
    vendor: Vendor, started: Sequence[Started], *, requests: float, ends: int
) -> Delays:
    """Return the delays of one vendor."""
    own = [each for each in started if each.vendor == vendor]
    return Delays(
        vendor=vendor,
        ends=ends,
        runs=len(own),
        requests=requests,
        to_event=_middle_and_end([each.reported - each.ended for each in own]),
        to_start=_middle_and_end([each.started - each.reported for each in own]),
        whole=_middle_and_end([each.started - each.ended for each in own]),
    )


def _middle_and_end(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return quantile(ordered, 0.5), quantile(ordered, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPaper:
    """What one request for each connection would be, counted on paper.

    ``interval`` is the shortest in seconds that the limit allows; an end is seen after
    half of it in the median, and Airflow's own part (median, p99) comes on top.
    """

    vendor: str
    connections: int
    requests: float
    interval: float
    median: float
    p99: float


def on_paper(delays: Delays, connections: int) -> OnPaper:
    """Count what a sensor with one request for each connection would take."""
    interval = max(INTERVAL, connections * 3600 / LIMITS[delays.vendor])
    return OnPaper(
        vendor=delays.vendor,
        connections=connections,
        requests=connections * 3600 / interval,
        interval=interval,
        median=interval / 2 + delays.to_start[0],
        p99=interval * 0.99 + delays.to_start[0],
    )


def start_table(found: Sequence[Delays], *, targets: int) -> str:
    """Return what was measured, in Markdown."""
    head = (
        "| vendor | watched | ends | DAG runs | requests an hour"
        " | end to event: median, p99 | event to run | end to run |"
    )
    rows = [
        head,
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {TITLES[each.vendor]} | {targets} | {each.ends} | {each.runs}"
        f" | {each.requests:,.0f} | {_pair(each.to_event)} | {_pair(each.to_start)}"
        f" | {_pair(each.whole)} |"
        for each in found
    ]
    return "\n".join(rows) + "\n"


def paper_table(counts: Sequence[OnPaper]) -> str:
    """Return what was counted on paper, in Markdown."""
    rows = [
        "| vendor | connections | requests an hour | every | end to run: median, p99 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {TITLES[each.vendor]} | {each.connections:,} | {each.requests:,.0f}"
        f" | {each.interval:.0f} s | {_pair((each.median, each.p99))} |"
        for each in counts
    ]
    return "\n".join(rows) + "\n"


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.1f} s, {values[1]:.1f} s"


def raw(found: Sequence[Delays]) -> list[dict[str, Any]]:
    """Return what was measured, for a file."""
    return [asdict(each) for each in found]
