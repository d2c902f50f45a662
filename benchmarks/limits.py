"""Inside the vendors' limits: a day in minutes, on a clock that jumps.

The real engine, triggers and hooks against the simulated vendors, without a socket: time
passes only when everybody waits. Each scenario counts every request that reaches the
account, also those of the workers that start the jobs and of others who share the limit.

:func:`waiting` besides: what an hour of rounds costs with a thousand waiting tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import random
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count as counting
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

import structlog
from airflow.sdk import Connection

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.engine import accounts, transport
from async_triggers.engine.errors import TransientError
from async_triggers.engine.http import HttpSession
from async_triggers.engine.wire import Reply, Request
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.triggers import FivetranTrigger
from async_triggers.simulator import (
    AirbyteSimulator,
    DbtCloudSimulator,
    FivetranSimulator,
)
from async_triggers.simulator.airbyte import AirbyteSettings
from async_triggers.simulator.dbt_cloud import DbtCloudSettings
from async_triggers.simulator.exchange import SimRequest
from async_triggers.simulator.fivetran import FivetranSettings
from tests.clock import ThreadlessClockLoop

if TYPE_CHECKING:
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount, MakeStore
    from async_triggers.simulator.vendor import VendorSimulator

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured"
EPOCH = 1_795_000_000.0
HOUR = 3600.0
LATENCY = 0.1
SEED = 20_261_120
ACCOUNT = 70_403_103_916_001
JOB = 4711
TOO_MANY = 429
PART_THAT_ENDS = 0.2
"""The part of the running jobs that ends in an hour of waiting."""
OVER = -1
"""Stands for a job that ended days ago."""

_HOOKS: dict[str, tuple[type[VendorHook], dict[str, str]]] = {
    "Airbyte": (
        AirbyteHook,
        {"host": "http://localhost:8000", "password": "simulator-token"},
    ),
    "Fivetran": (
        FivetranHook,
        {
            "host": "http://localhost:8001",
            "login": "simulator-key",
            "password": "simulator-secret",
        },
    ),
    "dbt Cloud": (
        DbtCloudHook,
        {
            "host": "http://localhost:8002",
            "login": str(ACCOUNT),
            "password": "simulator-token",
        },
    ),
}


# The world ----------------------------------------------------------------------------


@dataclass(slots=True)
class Wire:
    """The one way to a vendor, which counts what goes over it.

    ``asked`` holds the time of each request, ``by`` how many there were of each kind,
    ``refused`` how many were answered with 429, ``served`` the processor time that the
    simulated vendor took for all of them.
    """

    vendor: VendorSimulator[Any]
    asked: list[float] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    received: int = 0
    served: float = 0.0
    slowest: float = 0.0
    """The longest that a poll waited for its answer."""

    async def carry(self, who: str, request: SimRequest) -> Reply:
        """Carry a request to the vendor, and its answer back."""
        loop = asyncio.get_running_loop()
        self.asked.append(loop.time())
        self.by[who] += 1
        began = time.process_time()
        answer = self.vendor.respond(request)
        self.served += time.process_time() - began
        if answer.status == TOO_MANY:
            self.refused[who] += 1

        began = loop.time()
        await asyncio.sleep(answer.delay)
        if request.method == "GET":
            self.slowest = max(self.slowest, loop.time() - began)

        self.received += len(answer.body)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status, MappingProxyType(headers), answer.body)


_wires: dict[str, Wire] = {}
"""The wires by the address that they lead to."""


def connect(vendor: str, simulator: VendorSimulator[Any], host: str = "") -> Wire:
    """Have requests to ``host``, by default the vendor's only one, reach a simulator."""
    address = urlsplit(host or _HOOKS[vendor][1]["host"]).netloc
    wire = _wires[address] = Wire(simulator)
    return wire


class VirtualSession(HttpSession):
    """A session whose network is a :class:`Wire`."""

    async def exchange(self, request: Request, proof: Any) -> Reply:
        """Carry a request to the simulated vendor of the account."""
        query = f"?{urlencode(request.params)}" if request.params else ""
        asked = SimRequest.to(
            request.method,
            f"{self.url(request)}{query}",
            headers={**request.headers, **proof},
            json_body=request.json,
        )
        address = urlsplit(self.account.base_url).netloc
        return await _wires[address].carry(self.account.route.ca_bundle, asked)


@contextmanager
def virtual_world() -> Iterator[asyncio.Runner]:
    """Run on a clock of its own, with a network that is none."""
    module: Any = transport
    before, module.HttpSession = module.HttpSession, VirtualSession
    random.seed(SEED)
    try:
        with asyncio.Runner(loop_factory=ThreadlessClockLoop) as runner:
            yield runner
    finally:
        module.HttpSession = before
        _wires.clear()


def now() -> float:
    """Tell the time of the day."""
    return EPOCH + asyncio.get_running_loop().time()


async def lease(
    stack: AsyncExitStack,
    vendor: str,
    process: str,
    make_store: MakeStore | None = None,
    host: str = "",
    **extra: Any,
) -> LeasedAccount:
    """Lease the account as a process of its own does: with a limiter of its own."""
    kind, fields = _HOOKS[vendor]
    fields = {**fields, "host": host or fields["host"]}
    make = cast("Callable[[str], VendorHook]", kind)
    connection = Connection(conn_id="conn", extra=json.dumps(extra), **fields)  # type: ignore[arg-type]
    account = make("conn").read(connection)
    # What tells two processes apart that share one loop here.
    route = replace(account.route, ca_bundle=process)
    leasing = accounts.lease(
        make("conn").vendor,
        replace(account, route=route),
        linger=0,
        make_store=make_store,
    )
    return await stack.enter_async_context(leasing)


async def at_most(count: int, work: Sequence[Awaitable[None]]) -> None:
    """Do the work, so many pieces of it at a time."""
    room = asyncio.Semaphore(count)

    async def one(piece: Awaitable[None]) -> None:
        async with room:
            await piece

    await asyncio.gather(*(one(piece) for piece in work))


# What is measured ---------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Report:
    """What a scenario came to.

    ``busiest`` is the largest number of requests in any window of the vendor's limit;
    ``separate`` how many requests one poll a job would have made; ``late`` the seconds
    from a job's end to its event.
    """

    name: str
    hours: float
    jobs: int
    ended: int
    limit: int | None
    window: float
    requests: int
    by: dict[str, int]
    by_hour: list[int]
    busiest: int
    refused: dict[str, int]
    separate: int
    separate_busiest: int
    late_p50: float
    late_p99: float
    late_max: float
    slowest_poll: float
    megabytes: float
    interval: float
    started: int = 0
    served: float = 0.0
    """Processor time of the simulated vendor, in seconds."""
    took: float = 0.0

    @property
    def ours(self) -> int:
        """The requests that this package made."""
        return self.requests - self.by.get("others", 0)


def by_hour(asked: Sequence[float], hours: float) -> list[int]:
    """Count requests by the hour."""
    edges = [hour * HOUR for hour in range(math.ceil(hours) + 1)]
    places = [bisect_left(asked, edge) for edge in edges]
    return [end - begin for begin, end in pairwise(places)]


def busiest(asked: Sequence[float], window: float) -> int:
    """Return the most requests in any window."""
    most = first = 0
    for last, at in enumerate(asked):
        while asked[first] <= at - window:
            first += 1

        most = max(most, last - first + 1)

    return most


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which that part of them lies."""
    ordered = sorted(values)
    if not ordered:
        return math.nan

    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass(slots=True)
class Crowd:
    """Jobs in flight, each started anew when it has ended, and what became of them."""

    until: float
    late: list[float] = field(default_factory=list)
    waited: float = 0.0
    intervals: list[float] = field(default_factory=list)
    started: int = 0

    async def live(
        self,
        leased: LeasedAccount,
        start: Callable[[], Awaitable[JobTrigger]],
        pause: float,
    ) -> None:
        """Run one job after the other until the time is up."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(pause)
        while loop.time() < self.until:
            trigger = await _started(start)
            self.started += 1
            began = loop.time()
            outcome = await trigger.wait_on(leased)
            job = outcome.job
            if job is None or job.ended_at is None:
                raise RuntimeError(f"a job was not told of: {outcome.message}")

            self.late.append(now() - job.ended_at)
            self.waited += loop.time() - began


async def _started(start: Callable[[], Awaitable[JobTrigger]]) -> JobTrigger:
    """Start a job; come back later where the vendor cannot take it now, as tasks do."""
    while True:
        try:
            return await start()
        except TransientError as error:
            await asyncio.sleep(max(60.0, error.retry_after or 0.0))


async def play(
    crowd: Crowd, work: Sequence[Awaitable[None]], pollers: Sequence[LeasedAccount]
) -> None:
    """Let the jobs live until the time is up, and look at the rounds meanwhile."""
    tasks = [asyncio.ensure_future(each) for each in work]
    loop = asyncio.get_running_loop()
    while loop.time() < crowd.until:
        done, _ = await asyncio.wait(tasks, timeout=min(600.0, crowd.until))
        for task in done:
            task.result()

        pace = max(leased.poller.state.pace for leased in pollers)
        if math.isfinite(pace):
            crowd.intervals.append(pace)

        print(".", end="", file=sys.stderr, flush=True)

    for task in tasks:
        task.cancel()

    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result

    print(file=sys.stderr)


def report(
    name: str,
    wire: Wire,
    crowd: Crowd,
    jobs: int,
    limit: int | None,
    window: float,
    interval: float,
) -> Report:
    """Sum a scenario up."""
    hours = crowd.until / HOUR
    others = [0] if "others" not in wire.by else [wire.by["others"]]
    # Each job singly, at the same interval, with the same starts and ends.
    rounds = crowd.until / interval
    separate = int(jobs * rounds)
    return Report(
        name=name,
        hours=hours,
        jobs=jobs,
        ended=len(crowd.late),
        limit=limit,
        window=window,
        requests=len(wire.asked),
        by=dict(wire.by),
        by_hour=by_hour(wire.asked, hours),
        busiest=busiest(wire.asked, window),
        refused=dict(wire.refused),
        separate=separate,
        separate_busiest=int(jobs * window / interval)
        + int(sum(others) * window / crowd.until),
        late_p50=quantile(crowd.late, 0.5),
        late_p99=quantile(crowd.late, 0.99),
        late_max=max(crowd.late, default=math.nan),
        slowest_poll=wire.slowest,
        megabytes=wire.received / 1e6,
        interval=max(crowd.intervals, default=interval),
        started=crowd.started,
        served=wire.served,
    )


# The scenarios ------------------------------------------------------------------------


def fivetran(
    *,
    count: int,
    hours: float,
    interval: float,
    trial: bool = False,
    lasts: tuple[int, int] = (3600, 8 * 3600),
    spread: float = HOUR,
    triggerers: int = 1,
    make_store: MakeStore | None = None,
    share: float | None = None,
) -> Report:
    """Syncs of one to eight hours, one after the other, in one account.

    The first ones start within ``spread`` seconds. With ``make_store`` the triggerers and
    all workers share one budget; ``share`` is the part of the limit that is theirs.
    """
    limit = 500 if trial else 20_000
    settings = FivetranSettings(hourly_limit=limit, latency=LATENCY)
    with virtual_world() as runner:
        loop = runner.get_loop()
        vendor = FivetranSimulator(settings, clock=lambda: EPOCH + loop.time())
        wire = connect("Fivetran", vendor)
        crowd = Crowd(until=hours * HOUR)
        dice = random.Random(SEED)
        names = [f"connection_{number}" for number in range(count)]
        for name in names:
            lives = [
                f"scheduled:5 syncing:{dice.randint(*lasts)} succeeded"
                for _ in range(math.ceil(hours * HOUR / lasts[0]) + 1)
            ]
            vendor.add_connection(name, lives=lives, succeeded_ago=3600)

        async def main() -> None:
            async with AsyncExitStack() as stack:
                extra = _share(share) | ({"trial": True} if trial else {})
                pollers = [
                    await lease(
                        stack, "Fivetran", f"triggerer {number}", make_store, **extra
                    )
                    for number in range(1, triggerers + 1)
                ]

                async def start(name: str) -> JobTrigger:
                    hook = FivetranHook("conn")
                    async with AsyncExitStack() as worker:
                        ours = await lease(
                            worker, "Fivetran", f"worker {name}", make_store, **extra
                        )
                        shown, at = await hook.get_fivetran_connection(ours, name)
                        await hook.start_sync(ours, name)

                    return FivetranTrigger(
                        "sync",
                        name,
                        "conn",
                        poke_interval=interval,
                        baseline=shown.run(at=at).mark,
                        seen_at=at,
                    )

                await play(
                    crowd,
                    [
                        crowd.live(
                            pollers[number % triggerers],
                            lambda name=name: start(name),  # type: ignore[misc]
                            dice.uniform(0, min(spread, crowd.until / 2)),
                        )
                        for number, name in enumerate(names)
                    ],
                    pollers,
                )

        runner.run(main())
        _merge_workers(wire)
        title = "Fivetran, trial" if trial else "Fivetran"
        return report(title, wire, crowd, count, limit, HOUR, interval)


def _share(share: float | None) -> dict[str, Any]:
    return {} if share is None else {"share": share}


def dbt_cloud(
    *,
    count: int,
    hours: float,
    interval: float,
    lasts: tuple[int, int] = (300, 3000),
    spread: float = 600.0,
    others: bool = True,
    triggerers: int = 1,
    make_store: MakeStore | None = None,
    share: float | None = None,
) -> Report:
    """Runs of five to fifty minutes, while others take half of the account's limit.

    The options are those of :func:`fivetran`; without ``others`` the account is ours.
    """
    limit = 5000
    settings = DbtCloudSettings(account_id=ACCOUNT, minute_limit=limit, latency=LATENCY)
    with virtual_world() as runner:
        loop = runner.get_loop()
        vendor = DbtCloudSimulator(settings, clock=lambda: EPOCH + loop.time())
        wire = connect("dbt Cloud", vendor)
        crowd = Crowd(until=hours * HOUR)
        dice = random.Random(SEED)
        lives = [f"running:{dice.randint(*lasts)} success" for _ in range(997)]
        # The last one would be that of all runs that start later.
        times = max(20, 5 * math.ceil(hours))
        vendor.add_job(JOB, lives=lives * times, job_type="ci")
        numbers = counting()

        async def disturb() -> None:
            asked = SimRequest.to(
                "GET",
                f"/api/v2/accounts/{ACCOUNT}/",
                headers={"Authorization": "Bearer simulator-token"},
            )
            while True:
                await asyncio.sleep(60.0 / (limit / 2))
                wire.asked.append(loop.time())
                wire.by["others"] += 1
                if vendor.respond(asked).status == TOO_MANY:
                    wire.refused["others"] += 1

        async def main() -> None:
            async with AsyncExitStack() as stack:
                extra = _share(share)
                pollers = [
                    await lease(
                        stack, "dbt Cloud", f"triggerer {number}", make_store, **extra
                    )
                    for number in range(1, triggerers + 1)
                ]

                async def start() -> JobTrigger:
                    hook = DbtCloudHook("conn")
                    async with AsyncExitStack() as worker:
                        process = f"worker {next(numbers)}"
                        ours = await lease(
                            worker, "dbt Cloud", process, make_store, **extra
                        )
                        await hook.get_job_definition(ours, JOB)
                        seen = await hook.start_run(ours, JOB, "a test")

                    return DbtCloudRunJobTrigger(
                        "conn",
                        int(seen.job.id),
                        None,
                        interval,
                        ACCOUNT,
                        seen_at=seen.at,
                    )

                disturbing = asyncio.ensure_future(disturb()) if others else None
                await play(
                    crowd,
                    [
                        crowd.live(
                            pollers[number % triggerers],
                            start,
                            dice.uniform(0, min(spread, crowd.until / 2)),
                        )
                        for number in range(count)
                    ],
                    pollers,
                )
                if disturbing is not None:
                    disturbing.cancel()

        runner.run(main())
        _merge_workers(wire)
        return report("dbt Cloud", wire, crowd, count, limit, 60.0, interval)


def airbyte(
    *,
    count: int,
    hours: float,
    interval: float,
    lasts: tuple[int, int] = (600, 3000),
    spread: float = 1800.0,
    triggerers: int = 2,
    make_store: MakeStore | None = None,
    share: float | None = None,
) -> Report:
    """Syncs of ten to fifty minutes on a server with five threads, two triggerers.

    The options are those of :func:`fivetran`.
    """
    settings = AirbyteSettings(
        threads=5, service_time=LATENCY, start_blocks=3.0, auth=("bearer",)
    )
    with virtual_world() as runner:
        loop = runner.get_loop()
        vendor = AirbyteSimulator(settings, clock=lambda: EPOCH + loop.time())
        wire = connect("Airbyte", vendor)
        crowd = Crowd(until=hours * HOUR)
        dice = random.Random(SEED)
        names = [f"connection-{number}" for number in range(count)]
        for name in names:
            lives = [
                f"pending:2 running:{dice.randint(*lasts)} succeeded"
                for _ in range(math.ceil(hours * HOUR / lasts[0]) + 1)
            ]
            vendor.add_connection(name, lives=lives)

        async def main() -> None:
            async with AsyncExitStack() as stack:
                extra = _share(share)
                pollers = [
                    await lease(
                        stack, "Airbyte", f"triggerer {number}", make_store, **extra
                    )
                    for number in range(1, triggerers + 1)
                ]
                workers = asyncio.Semaphore(4)

                async def start(name: str) -> JobTrigger:
                    hook = AirbyteHook("conn")
                    async with workers, AsyncExitStack() as worker:
                        ours = await lease(
                            worker, "Airbyte", f"worker {name}", make_store, **extra
                        )
                        await hook.get_airbyte_connection(ours, name)
                        seen = await hook.start_job(ours, name)

                    return AirbyteSyncTrigger(
                        int(seen.job.id), "conn", None, interval, seen_at=seen.at
                    )

                await play(
                    crowd,
                    [
                        crowd.live(
                            pollers[number % triggerers],
                            lambda name=name: start(name),  # type: ignore[misc]
                            dice.uniform(0, min(spread, crowd.until / 2)),
                        )
                        for number, name in enumerate(names)
                    ],
                    pollers,
                )

        runner.run(main())
        _merge_workers(wire)
        return report("Airbyte", wire, crowd, count, None, 60.0, interval)


def _merge_workers(wire: Wire) -> None:
    workers = [name for name in wire.by if name.startswith("worker ")]
    wire.by["workers"] = sum(wire.by.pop(name) for name in workers)


# What waiting costs -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What an hour of rounds cost with so many waiting tasks in one account."""

    name: str
    tasks: int
    items: int
    rounds: int
    ended: int
    requests: int
    megabytes: float
    plan: str
    goal: int
    """Three a round (Fivetran: two) and one an ended job."""

    @property
    def times_fewer(self) -> float:
        """How many times more one request a job and round would have been."""
        return self.tasks * self.rounds / self.requests


def waiting(
    vendor: str,
    *,
    tasks: int,
    items: int,
    foreign: int = 0,
    running: float = 0.1,
    scattered: bool = False,
    hours: float = 1.0,
) -> Waiting:
    """Let tasks wait for an hour of 60 s rounds while one in five of their jobs ends.

    The account has ``items`` jobs or connections, theirs among them. Of those of others
    the part ``running`` is running, one in five of which ends as well; at dbt Cloud
    ``foreign`` runs end in a minute besides. Fivetran's connections are in groups of a
    thousand, and the tasks in the first ones or ``scattered`` over all.
    """
    with virtual_world() as runner:
        loop = runner.get_loop()
        dice = random.Random(SEED)
        simulator, makers = arranged(
            vendor,
            lambda: EPOCH + loop.time(),
            [
                OVER
                if number >= tasks and not scattered and dice.random() >= running
                else dice.randint(60, 3540)
                if dice.random() < PART_THAT_ENDS * hours
                else None
                for number in range(items)
            ],
            foreign=foreign,
        )
        if scattered:
            makers = makers[:: items // tasks]

        wire = connect(vendor, simulator)

        async def main() -> Waiting:
            async with AsyncExitStack() as stack:
                leased = await lease(stack, vendor, "triggerer")
                ended = 0

                async def wait(trigger: JobTrigger) -> None:
                    nonlocal ended
                    await trigger.wait_on(leased)
                    ended += 1

                waits = [asyncio.ensure_future(wait(make())) for make in makers[:tasks]]
                for _ in range(6):
                    await asyncio.sleep(hours * HOUR / 6)
                    print(".", end="", file=sys.stderr, flush=True)

                found = Waiting(
                    name=f"{vendor}{', scattered over all groups' if scattered else ''}"
                    f"{', all of which run' if running == 1.0 else ''}"
                    f"{f', {foreign:,} foreign ends a minute' if foreign else ''}",
                    tasks=tasks,
                    items=items,
                    rounds=round(hours * 60),
                    ended=ended,
                    requests=len(wire.asked),
                    megabytes=wire.received / 1e6,
                    plan=leased.poller.statistics().plan,
                    goal=round(hours * 60) * (2 if vendor == "Fivetran" else 3) + ended,
                )
                for each in waits:
                    each.cancel()

                await asyncio.wait(waits)
                return found

        return runner.run(main())


def _life(word: str, end: int | None, last: str) -> str:
    """Return the life of a job that ends after so many seconds, never, or long ago."""
    if end is None:
        return word

    return f"{word}:{60 if end == OVER else end} {last}"


def _age(end: int | None) -> float:
    return 2 * 24 * HOUR if end == OVER else 0.0


def arranged(
    vendor: str,
    clock: Callable[[], float],
    ends: Sequence[int | None],
    *,
    foreign: int,
) -> tuple[VendorSimulator[Any], list[Callable[[], JobTrigger]]]:
    """Return a vendor with running jobs, and what makes the triggers that wait for them."""
    seen = EPOCH
    found: list[Callable[[], JobTrigger]] = []
    match vendor:
        case "Airbyte":
            airbyte = AirbyteSimulator(AirbyteSettings(latency=LATENCY), clock=clock)
            for number, end in enumerate(ends):
                connection = airbyte.add_connection(f"connection-{number}")
                job = airbyte.add_job(
                    connection, _life("running", end, "succeeded"), age=_age(end)
                )
                found.append(
                    lambda job=job: AirbyteSyncTrigger(  # type: ignore[misc]
                        int(job), "conn", None, 60.0, seen_at=seen
                    )
                )

            return airbyte, found
        case "Fivetran":
            syncs = FivetranSimulator(FivetranSettings(latency=LATENCY), clock=clock)
            for number, end in enumerate(ends):
                group = f"group_{number // 1000}"
                if number % 1000 == 0:
                    syncs.add_group(group, name=group)

                name = syncs.add_connection(f"connection_{number}", group_id=group)
                if end != OVER:
                    syncs.start_sync(name, _life("syncing", end, "succeeded"))

                found.append(
                    lambda name=name: FivetranTrigger(  # type: ignore[misc]
                        "sync",
                        name,
                        "conn",
                        poke_interval=60.0,
                        baseline=f"~~~{EPOCH - 1:.0f}",
                        seen_at=seen,
                    )
                )

            return syncs, found
        case _:
            runs = DbtCloudSimulator(
                DbtCloudSettings(
                    account_id=ACCOUNT, latency=LATENCY, foreign_runs_per_minute=foreign
                ),
                clock=clock,
            )
            runs.add_job(JOB, job_type="ci")
            for end in ends:
                run = runs.add_run(JOB, _life("running", end, "success"), age=_age(end))
                found.append(
                    lambda run=run: DbtCloudRunJobTrigger(  # type: ignore[misc]
                        "conn", int(run), None, 60.0, ACCOUNT, seen_at=seen
                    )
                )

            return runs, found


# What is shown ------------------------------------------------------------------------


def limits_table(reports: Sequence[Report]) -> str:
    """Return the table of the scenarios, in Markdown."""
    lines = [
        (
            "| account | jobs in flight | hours | ended | our requests, busiest hour |"
            " share of the limit, busiest window | one poll a job would take | 429 |"
            " longest interval | end to event, p50 / p99 / max |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in reports:
        share = "no limit"
        separate = f"{each.separate_busiest:,} a minute"
        if each.limit is not None:
            share = f"{each.busiest / each.limit:.0%} of {each.limit:,}"
            separate = f"{each.separate_busiest / each.limit:.1f} times the limit"
            if "others" in each.by:
                theirs = each.by["others"] / each.requests
                share += f", {theirs:.0%} of it by others"

        hours = [hour for hour in each.by_hour if hour]
        ours = max(hours) * each.ours / each.requests
        lines.append(
            f"| {each.name} | {each.jobs:,} | {each.hours:g} | {each.ended:,} |"
            f" {ours:,.0f} | {share} | {separate} | {sum(each.refused.values())} |"
            f" {each.interval:.0f} s |"
            f" {each.late_p50:.0f} / {each.late_p99:.0f} / {each.late_max:.0f} s |"
        )

    return "\n".join(lines)


def waiting_table(found: Sequence[Waiting]) -> str:
    """Return the table of what waiting costs, in Markdown."""
    lines = [
        (
            "| account | tasks | items in the account | polled by | requests in an hour |"
            " goal | MB a round | fewer than one a job |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in found:
        goal = f"{each.goal:,}"
        if each.requests > each.goal:
            goal = f"**missed**, {goal}"

        lines.append(
            f"| {each.name} | {each.tasks:,} | {each.items:,} | {each.plan} |"
            f" {each.requests:,} ({each.ended} jobs ended) | {goal} |"
            f" {each.megabytes / each.rounds:.2f} | {each.times_fewer:.0f} times |"
        )

    return "\n".join(lines)


def draw(reports: Sequence[Report], path: Path) -> None:
    """Draw the requests by the hour under the limit of each account."""
    # Only the whole run draws, and the tests need no plots.
    from matplotlib.figure import Figure  # noqa: PLC0415

    from benchmarks.plots import in_full, style  # noqa: PLC0415

    style()
    figure = Figure(figsize=(10, 2.6 * len(reports)), layout="constrained")
    for place, each in enumerate(reports, start=1):
        axes = figure.add_subplot(len(reports), 1, place)
        hours = range(len(each.by_hour))
        if "others" in each.by:
            axes.bar(hours, each.by_hour, color="#bbbbbb", label="others besides")

        ours = [hour * each.ours / each.requests for hour in each.by_hour]
        axes.bar(hours, ours, color="#0073ff", label="this package")
        separate = each.separate / each.hours
        axes.axhline(separate, color="#ff694b", linestyle="--", label="one poll a job")
        if each.limit is not None:
            limit = each.limit * HOUR / each.window
            axes.axhline(limit, color="black")
            axes.annotate(
                "the vendor's limit",
                (1.0, limit),
                xycoords=("axes fraction", "data"),
                xytext=(4, -3),
                textcoords="offset points",
            )

        axes.set_yscale("log")
        axes.set_ylim(bottom=100)
        in_full(axes.yaxis)
        axes.set_xticks(range(0, len(ours), max(1, len(ours) // 12)))
        axes.set_title(f"{each.name}, {each.jobs:,} jobs in flight")
        axes.set_ylabel("requests")
        axes.set_xlabel("hour")

    shown = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=len(shown))
    figure.savefig(path, metadata={"Date": None})


SCENARIOS: dict[str, Callable[[float], Report]] = {
    "fivetran": lambda size: fivetran(
        count=int(5000 * size), hours=max(1.0, 24 * size), interval=60.0
    ),
    "trial": lambda size: fivetran(
        count=int(200 * size),
        hours=max(2.0, 12 * size),
        interval=15.0,
        trial=True,
        # As often as later on: 200 starts within an hour are 400 requests.
        spread=5 * HOUR,
    ),
    "dbt_cloud": lambda size: dbt_cloud(
        count=int(5000 * size), hours=max(0.5, 2 * size), interval=30.0
    ),
    "airbyte": lambda size: airbyte(
        count=int(1000 * size), hours=max(0.5, 3 * size), interval=5.0
    ),
}


def all_waiting(size: float) -> list[Waiting]:
    """Measure what waiting costs at every vendor."""
    tasks = int(1000 * size)
    hours = 1.0 if size >= 1.0 else 0.25
    many = {"tasks": tasks, "items": tasks * 10, "hours": hours}
    few = {**many, "items": tasks}
    found = [
        waiting(vendor, **each)  # type: ignore[arg-type]
        for vendor in _HOOKS
        for each in (few, many)
    ]
    found.append(waiting("Fivetran", **many, scattered=True))  # type: ignore[arg-type]
    found += [
        waiting(vendor, **many, running=1.0)  # type: ignore[arg-type]
        for vendor in ("Airbyte", "dbt Cloud")
    ]
    found += [
        waiting("dbt Cloud", **each, foreign=int(5000 * size))  # type: ignore[arg-type]
        for each in (few, many)
    ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a limit was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limits",
        description="Whether the vendors' limits are kept, on a clock that jumps.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*SCENARIOS, "waiting"],
        help="just this one, may be given again",
    )
    parser.add_argument(
        "--size", type=float, default=1.0, help="part of the jobs and hours (1)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where to write limits.md, .json and .svg ({MEASURED.relative_to(ROOT)})",
    )
    chosen = parser.parse_args(arguments)
    be_quiet()
    wanted = chosen.only or [*SCENARIOS, "waiting"]
    reports = []
    for name, scenario in SCENARIOS.items():
        if name in wanted:
            print(f"{name}: ", end="", file=sys.stderr, flush=True)
            began = time.monotonic()
            found = scenario(chosen.size)
            found.took = time.monotonic() - began
            reports.append(found)
            print(f"  {found.took:.0f} s", file=sys.stderr)

    costs = all_waiting(chosen.size) if "waiting" in wanted else []
    print(f"\n{limits_table(reports)}\n\n{waiting_table(costs)}")
    whole = chosen.only is None and chosen.size == 1.0
    if chosen.out is not None or whole:
        write(reports, costs, chosen.out or MEASURED)

    return int(any(each.refused for each in reports))


def be_quiet() -> None:
    """Say nothing of each job."""
    logging.disable(logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )


def write(reports: Sequence[Report], costs: Sequence[Waiting], folder: Path) -> None:
    """Write tables, raw numbers and the plot to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "limits.md").write_text(f"{limits_table(reports)}\n")
    (folder / "waiting.md").write_text(f"{waiting_table(costs)}\n")
    raw = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": SEED,
        "latency_s": LATENCY,
        "limits": [asdict(each) for each in reports],
        "waiting": [asdict(each) for each in costs],
    }
    (folder / "limits.json").write_text(f"{json.dumps(raw, indent=1)}\n")
    if reports:
        draw(reports, folder / "limits.svg")


if __name__ == "__main__":
    sys.exit(main())
