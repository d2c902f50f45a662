"""Accounts of simulated vendors, without a socket and on a clock that jumps.

Time passes only when all wait. Each request that reaches an account is counted, also those
of the workers that start the jobs and of others who share the limit.
"""

from __future__ import annotations

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
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

import structlog
from airflow.sdk import Connection

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.engine import accounts, transport
from async_triggers.engine.errors import TransientError
from async_triggers.engine.http import HttpSession
from async_triggers.engine.wire import Reply, Request
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.simulator.exchange import SimRequest
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

HOOKS: dict[str, tuple[type[VendorHook], dict[str, str]]] = {
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
"""The hook of each vendor, and the fields of its connection."""


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
    address = urlsplit(host or HOOKS[vendor][1]["host"]).netloc
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
    """Run on a separate clock, with a network that is none."""
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
    """Lease the account as a separate process does, with a separate limiter."""
    kind, fields = HOOKS[vendor]
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
    """Jobs in flight, each started again when it has ended, and what became of them."""

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
                raise RuntimeError(f"no end of a job was reported: {outcome.message}")

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


def be_quiet() -> None:
    """Say nothing of each job."""
    logging.disable(logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
