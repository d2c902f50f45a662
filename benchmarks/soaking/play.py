"""The day itself: one runner, three accounts, thousands of jobs."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import structlog
from aiohttp import connector
from airflow.sdk.execution_time import task_runner

from async_triggers.engine import transport
from async_triggers.engine.accounts import LINGER
from async_triggers.engine.http import HttpSession
from async_triggers.engine.round import Round
from benchmarks.lag import quantile
from benchmarks.sides import TITLES, VENDORS, Ticket, make_trigger
from benchmarks.soaking.clock import EPOCH, DayLoop, Dial
from benchmarks.soaking.day import (
    INTERVALS,
    SPORADIC,
    Arrival,
    Day,
    Trouble,
    arrivals,
    is_troubled,
    standing,
    troubles,
)
from benchmarks.soaking.desk import Desk
from benchmarks.soaking.meter import Hour, Meter
from benchmarks.soaking.vendors import Keys, Vendors, open_vendors
from benchmarks.triggerer import a_runner, workload

if TYPE_CHECKING:
    from async_triggers.engine.wire import Reply, Request

LATENCY = 0.1
"""Seconds of the virtual clock that each request takes."""
NOTICED = 20.0
"""Seconds after a key's rotation at which its Airflow connection is changed."""
TOGETHER = 5.0
"""Seconds of arrivals that are arranged at once."""
LATE_AFTER = 3
"""Intervals, and ten seconds, after which an end is reported late: one to be seen, two
for a request that failed."""
IDLE = 120.0
"""Seconds for which a connection rests between two jobs."""
_CONNECTED = ("airbyte", "fivetran")
"""The vendors whose jobs run on connections, one at a time on each."""
_RUNNING = {"airbyte": "running", "fivetran": "syncing", "dbt_cloud": "running"}
_ENDED = {
    "airbyte": {"success": "succeeded", "error": "failed"},
    "fivetran": {"success": "succeeded", "error": "failed"},
    "dbt_cloud": {"success": "success", "error": "error"},
}
_NAMES = {title: name for name, title in TITLES.items()}
_DBT_JOB = 501
_SECRET = "simulator-secret"  # noqa: S105 - made up
_TOKEN = "simulator-token"  # noqa: S105 - made up
_KEYS: dict[str, dict[str, Any]] = {
    "airbyte": {"client_secret": "{}"},
    "fivetran": {"api_secret": "{}"},
    "dbt_cloud": {"tokens": ["{}"]},
}
"""The setting of each vendor that holds its key."""


@dataclass(slots=True)
class Outcome:
    """What became of the jobs, and what was there before and after the day.

    ``late`` counts ends that were reported late although the vendor was not in trouble,
    ``late_in_trouble`` those that were late in it; ``delays`` are those of ends without
    trouble, by whole seconds.
    """

    before: Hour
    after: Hour
    ended: int = 0
    stopped: int = 0
    never: int = 0
    late: int = 0
    late_in_trouble: int = 0
    to_cancel: int = 0
    cancels: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    delays: Counter[int] = field(default_factory=Counter)
    grown: dict[str, int] = field(default_factory=dict)

    def delay(self, share: float) -> float:
        """Return the delay in seconds that so many of the ends without trouble had."""
        return quantile(sorted(self.delays.elements()), share)


@dataclass(slots=True)
class _Live:
    """A job that is waited for.

    ``name`` is the vendor's id of it, at Fivetran that of the connection; ``connection``
    is the one that it runs on, empty at dbt Cloud.
    """

    arrival: Arrival
    name: str
    connection: str
    ends: float
    stopped: bool = False


class _Soak:
    def __init__(self, day: Day, vendors: Vendors, keys: Keys, say: Say) -> None:
        self.day = day
        self.vendors = vendors
        self.keys = keys
        self.say = say
        self.meter = Meter(vendors.record)
        self.live: dict[int, _Live] = {}
        self.troubles = troubles(day)
        self.outcome = Outcome(Hour(hour=0), Hour(hour=0))
        self.hours: list[Hour] = []
        self.secrets: dict[str, str] = {
            "airbyte": _SECRET,
            "fivetran": _SECRET,
            "dbt_cloud": _TOKEN,
        }
        self._number = 0
        self._resting: dict[str, deque[tuple[float, str]]] = {
            vendor: deque() for vendor in _CONNECTED
        }
        self._connections = 0
        self._begun = self._ended = 0
        self._delays: list[float] = []
        self._in_trouble: list[float] = []
        self._loop = asyncio.get_running_loop()
        self.desk = Desk(self._note, self._gone)

    async def run(self) -> None:
        self._arrange_all()
        for vendor in VENDORS:
            self._connect(vendor)

        async with a_runner(self.desk):
            await asyncio.sleep(0.5)
            self.meter.measure(self.outcome.before)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._arrive())
                group.create_task(self._be_in_trouble())
                group.create_task(self._measure())

            await self._drain()

    async def _measure(self) -> None:
        for hour in range(1, self.day.hours + 1):
            await asyncio.sleep(hour * self.day.hour - self._loop.time())
            self._take(hour)

    async def _drain(self) -> None:
        """Wait until the last job has ended and the accounts are closed."""
        ends = self._loop.time() + self.day.hour
        while self.live and self._loop.time() < ends:  # noqa: ASYNC110 - only time
            await asyncio.sleep(1.0)

        await asyncio.sleep(2 * LINGER + 100.0)
        outcome = self.outcome
        outcome.never = len(self.live)
        outcome.after.waiting = len(self.live)
        outcome.after.ended = self._ended
        self.meter.measure(outcome.after)
        outcome.cancels = sum(self.vendors.record(each)["cancels"] for each in VENDORS)

    def _take(self, number: int) -> None:
        hour = Hour(
            hour=number, begun=self._begun, ended=self._ended, waiting=len(self.live)
        )
        hour.late_p50 = quantile(sorted(self._delays), 0.5)
        hour.late_max = max(self._delays, default=math.nan)
        hour.late_in_trouble = max(self._in_trouble, default=math.nan)
        self._begun = self._ended = 0
        self._delays, self._in_trouble = [], []
        self.hours.append(self.meter.measure(hour))
        if number == 2:
            self.meter.mark()
        elif number == self.day.hours:
            self.outcome.grown = self.meter.grown()

        self.say(
            f"hour {number}: {hour.ended} ended, {hour.waiting} waiting,"
            f" {hour.resident_mb:.0f} MB, {hour.objects} objects"
        )

    # Jobs -----------------------------------------------------------------------------

    def _arrange_all(self) -> None:
        arrange = self.vendors.arrange
        arrange("dbt_cloud", jobs=[{"job_id": _DBT_JOB, "job_type": "ci"}])
        for vendor in VENDORS:
            arrange(vendor, faults=[dict(each) for each in SPORADIC])

    async def _arrive(self) -> None:
        batch: list[Arrival] = []
        # Never all at once: what is planned would count among what is held.
        for arrival in chain(standing(self.day), arrivals(self.day)):
            if batch and arrival.at > batch[0].at + TOGETHER:
                await self._begin(batch)
                batch = []

            batch.append(arrival)

        await self._begin(batch)

    async def _begin(self, batch: list[Arrival]) -> None:
        await asyncio.sleep(max(0.0, batch[-1].at - self._loop.time()))
        now = self._loop.time()
        new: dict[str, list[dict[str, Any]]] = {}
        for arrival in batch:
            vendor, connection = arrival.vendor, self._rested(arrival.vendor)
            if not connection and vendor in _CONNECTED:
                self._connections += 1
                connection = f"c{self._connections}"
                row = {"connection_id": connection}
                new.setdefault(f"{vendor} connections", []).append(row)

            name = connection if vendor == "fivetran" else str(self._number + 1)
            live = _Live(arrival, name, connection, now + arrival.lasts)
            for kind, thing in _things(live):
                new.setdefault(f"{arrival.vendor} {kind}", []).append(thing)

            self._hand_over(live, now)

        # Connections before their syncs.
        for place, things in sorted(new.items()):
            name, _, kind = place.partition(" ")
            self.vendors.arrange(name, **{kind: things})

    def _rested(self, vendor: str) -> str:
        """Return a connection on which nothing has run for a while, empty without one."""
        resting = self._resting.get(vendor)
        if not resting or resting[0][0] + IDLE > self._loop.time():
            return ""

        return resting.popleft()[1]

    def _hand_over(self, live: _Live, now: float) -> None:
        arrival, number = live.arrival, self._number
        self._number += 1
        self._begun += 1
        self.live[number] = live
        deadline = EPOCH + live.ends if arrival.ending == "timeout" else None
        ticket = Ticket(
            vendor=arrival.vendor,
            job=live.name,
            seen_at=EPOCH + now,
            ends=deadline or EPOCH + self.day.ends + 10 * self.day.hour,
            owned=True,
        )
        trigger = make_trigger("ours", ticket, interval=INTERVALS[arrival.vendor])
        task_id = f"{arrival.vendor}.{live.name}"
        self.desk.add(workload(number, trigger, task_id=task_id))
        if arrival.ending in {"timeout", "stopped"}:
            self.outcome.to_cancel += 1

        if arrival.ending == "stopped":
            self._loop.call_at(live.ends, self._stop, number)

    def _stop(self, number: int) -> None:
        self.live[number].stopped = True
        self.desk.stop(number)

    def _note(self, number: int, payload: Any) -> None:
        """Take in the event of a trigger."""
        live = self.live.get(number)
        status = payload.get("status") if isinstance(payload, dict) else payload
        if live is None or status != live.arrival.ending:
            message = payload.get("message") if isinstance(payload, dict) else ""
            ending = live.arrival.ending if live is not None else "none"
            words = f"{status} instead of {ending}: {message}"
            self.outcome.wrong[words[:200]] += 1

        if live is not None:
            self._count(live)
            self._forget(number)

    def _gone(self, number: int) -> None:
        """Take note that a trigger is there no more; one that had an event is known."""
        if number not in self.live:
            return

        live = self._forget(number)
        if live.stopped:
            self.outcome.stopped += 1
        else:
            self.outcome.wrong["no event"] += 1

    def _forget(self, number: int) -> _Live:
        live = self.live.pop(number)
        if live.connection:
            resting = self._resting[live.arrival.vendor]
            resting.append((self._loop.time(), live.connection))

        return live

    def _count(self, live: _Live) -> None:
        now, vendor = self._loop.time(), live.arrival.vendor
        outcome = self.outcome
        outcome.ended += 1
        self._ended += 1
        delay = now - live.ends
        if live.arrival.ending == "timeout":
            # It looks once more, cancels, and sees that the job has stopped.
            return

        is_late = delay > LATE_AFTER * INTERVALS[vendor] + 10.0
        if is_troubled(vendor, live.ends, now, self.troubles):
            self._in_trouble.append(delay)
            outcome.late_in_trouble += is_late
        else:
            self._delays.append(delay)
            outcome.delays[round(delay)] += 1
            outcome.late += is_late

    # Trouble --------------------------------------------------------------------------

    async def _be_in_trouble(self) -> None:
        for each in self.troubles:
            await asyncio.sleep(max(0.0, each.at - self._loop.time()))
            await self._make(each)

    async def _make(self, trouble: Trouble) -> None:
        vendor = trouble.vendor
        match trouble.kind:
            case "fault":
                assert trouble.fault is not None
                self.vendors.arrange(vendor, faults=[dict(trouble.fault)])
            case "tokens":
                self.vendors.arrange(vendor, expire_tokens=[{}])
            case "key":
                await self._rotate(vendor)
            case "certificate":
                self._show_new_certificate()
            case "authority":
                self.keys.replace_authority()
                self._show_new_certificate()

    async def _rotate(self, vendor: str) -> None:
        new = f"{_SECRET}-{random.randrange(10**9)}"
        ((name, form),) = _KEYS[vendor].items()
        value = [new] if isinstance(form, list) else new
        self.vendors.arrange(vendor, settings={name: value})
        if vendor == "airbyte":
            self.vendors.arrange(vendor, expire_tokens=[{}])

        await asyncio.sleep(NOTICED)
        self.secrets[vendor] = new
        self._connect(vendor)

    def _show_new_certificate(self) -> None:
        self.vendors.serve(self.keys.issue())
        for vendor in VENDORS:
            # Every open connection ends, and so do those that are opened meanwhile.
            self.vendors.arrange(
                vendor, faults=[{"kind": "close", "times": None, "lasts": 5.0}]
            )

    def _connect(self, vendor: str) -> None:
        """Set this process's Airflow connection."""
        url = self.vendors.urls[vendor]
        fields = {
            "airbyte": {
                "host": f"{url}/api/public/v1/",
                "login": "simulator-client",
                "schema": "v1/applications/token",
            },
            "fivetran": {"host": url, "login": "simulator-key"},
            "dbt_cloud": {"host": url, "login": "70403103916001"},
        }[vendor]
        fields |= {
            "conn_type": vendor,
            "password": self.secrets[vendor],
        }
        extra = {"ca_bundle": str(self.keys.trusted)}
        os.environ[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"] = json.dumps(
            {**fields, "extra": extra}
        )


Say = Callable[[str], None]


def _things(live: _Live) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a vendor is given for a job: its kind, and its fields."""
    arrival = live.arrival
    running, ended = _RUNNING[arrival.vendor], _ENDED[arrival.vendor]
    life = running
    if arrival.ending in ended:
        life = f"{running}:{arrival.lasts:.3f} {ended[arrival.ending]}"

    match arrival.vendor:
        case "airbyte":
            yield (
                "jobs",
                {
                    "connection_id": live.connection,
                    "job_id": int(live.name),
                    "life": life,
                },
            )
        case "dbt_cloud":
            run = {"job_id": _DBT_JOB, "run_id": int(live.name), "life": life}
            yield "runs", run
        case "fivetran":
            yield "syncs", {"connection_id": live.name, "life": life}


@contextmanager
def _world(meter_of: Callable[[], Meter]) -> Iterator[None]:
    """Have all that reads a clock or the network of this process use the day's."""
    loop_time = asyncio.get_running_loop().time

    def note_level(_: Any, level: str, __: Any) -> Any:
        meter_of().logged[level] += 1
        raise structlog.DropEvent

    class Count(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meter_of().logged[record.levelname.lower()] += 1

    class CountingSession(HttpSession):
        async def exchange(self, request: Request, proof: Any) -> Reply:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, DayLoop)
            await asyncio.sleep(LATENCY)
            meter_of().windows[_NAMES[self.account.vendor]].note(loop.time())
            with loop.exchange():
                return await super().exchange(request, proof)

    hold = Round.hold

    async def watched(self: Round, number: int, planned: float) -> None:
        meter_of().watch_round(self, planned)
        await hold(self, number, planned)

    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ))
        stack.enter_context(patch.object(time, "time", lambda: EPOCH + loop_time()))
        stack.enter_context(patch.object(connector, "monotonic", loop_time))
        stack.enter_context(patch.object(transport, "HttpSession", CountingSession))
        stack.enter_context(patch.object(Round, "hold", watched))
        stack.enter_context(
            patch.object(task_runner, "SUPERVISOR_COMMS", None, create=True)
        )
        _count_logs(stack, note_level, Count(logging.WARNING))
        yield


def _count_logs(stack: ExitStack, note: Any, handler: logging.Handler) -> None:
    """Count warnings and errors instead of writing them."""
    before = structlog.get_config()
    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )
    stack.callback(lambda: structlog.configure(**before))
    ours = logging.getLogger("async_triggers")
    ours.addHandler(handler)
    stack.callback(ours.removeHandler, handler)
    stack.enter_context(patch.object(ours, "propagate", new=False))


def soak(day: Day, say: Say = lambda _: None) -> tuple[list[Hour], Outcome]:
    """Play a day; return its hours and what became of its jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dial, keys = Dial(folder / "dial"), Keys(folder)
        random.seed(day.seed)
        with (
            open_vendors(folder / "dial", keys.issue()) as vendors,
            asyncio.Runner(loop_factory=lambda: DayLoop(dial)) as runner,
        ):
            return runner.run(_play(day, vendors, keys, say))


async def _play(
    day: Day, vendors: Vendors, keys: Keys, say: Say
) -> tuple[list[Hour], Outcome]:
    playing = _Soak(day, vendors, keys, say)
    with _world(lambda: playing.meter):
        await playing.run()

    return playing.hours, playing.outcome
