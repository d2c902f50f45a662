"""Many triggers of one side in one process, and what they cost: the worker of a run.

The process says when it is ready and how much it uses while it does nothing, is told
what to wait for, waits, and tells what it saw. Beside the two sides there is the floor:
tasks that only wait, and one request a round that answers for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.lag import LoopWatch, corrected, quantile
from benchmarks.sides import Ticket, connect, make_trigger, trigger_class, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.triggers.base import BaseTrigger

    from benchmarks.sides import Side

SAMPLE = 0.05
"""Seconds between two looks at memory and at who has been armed."""
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(slots=True)
class Told:
    """What the triggers told: when which ended in success, and what went wrong."""

    at: dict[int, float] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)

    def note(self, number: int, payload: Any) -> None:
        """Take note of an event."""
        if isinstance(payload, dict) and payload.get("status") == "success":
            self.at[number] = time.time()
        else:
            self.wrong[str(payload)[:200]] += 1


@dataclass(slots=True)
class Armed:
    """Who is under way: has joined the poller, or has looked for the first time."""

    wanted: int
    count: Callable[[], int]
    began: float = 0.0
    at: float | None = None
    first_round_requests: int | None = None

    def look(self) -> bool:
        """Note the time if all are; True the first time that they are."""
        if self.at is not None or self.count() < self.wanted:
            return False

        self.at = time.perf_counter()
        return True


class Meter:
    """Measures the process for as long as it is told to.

    ``arming`` is how many ticks and warnings there were until all were armed.
    ``longest_collection`` is the longest pause in seconds that Python's garbage collector
    made: a full one walks over all objects there are, Airflow's too. Where it does not
    watch the loop, it measures CPU alone.
    """

    def __init__(self, *, watched: bool) -> None:
        self._watched = watched
        self.watch = LoopWatch()
        self.peak = self.resident()
        self._tasks: list[asyncio.Task[None]] = []
        self._cpu = self._wall = 0.0
        self.armed: Armed | None = None
        self.arming: tuple[int, int] | None = None
        self.longest_collection = 0.0
        self._collecting = 0.0

    @staticmethod
    def resident() -> float:
        """Return the memory in use in MB."""
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except OSError:
            # Without /proc there is only the peak, in kB or on macOS in bytes.
            unit = 1e6 if sys.platform == "darwin" else 1e3
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

        return pages * _PAGE / 1e6

    def start(self) -> None:
        """Begin."""
        gc.callbacks.append(self._note_collection)
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        if self._watched:
            self._tasks = [
                asyncio.create_task(work)
                for work in (self.watch.run(), self.watch.watch(), self._sample())
            ]

    def _note_collection(self, phase: str, _: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting = now
        else:
            took = now - self._collecting
            self.longest_collection = max(self.longest_collection, took)

    async def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, self.resident())
            if self.armed is not None and self.armed.look():
                self.arming = (len(self.watch.late), self.watch.warnings)

            await asyncio.sleep(SAMPLE)

    def used(self) -> tuple[float, float]:
        """Return the (CPU, wall) seconds since the beginning."""
        return time.process_time() - self._cpu, time.perf_counter() - self._wall

    async def stop(self) -> tuple[float, float]:
        """End, and return the (CPU, wall) seconds since the beginning."""
        used, passed = self.used()
        await asyncio.sleep(SAMPLE)
        for task in self._tasks:
            task.cancel()

        await asyncio.gather(*self._tasks, return_exceptions=True)
        gc.callbacks.remove(self._note_collection)
        return used, passed


@dataclass(slots=True)
class Settling:
    """What had been used when all had been under way for ``after`` seconds.

    Where the machine is busy, thousands of triggers take a while to begin.
    """

    armed: Armed
    meter: Meter
    after: float
    _settles: float = math.inf
    _used: tuple[float, float] | None = None

    def look(self) -> None:
        """See how far it is; ten times a second."""
        now = time.perf_counter()
        if self._settles == math.inf and self.armed.count() >= self.armed.wanted:
            self._settles = now + self.after

        if self._used is None and now >= self._settles:
            self._used = self.meter.used()

    def share(self, used: float, passed: float) -> float:
        """Return the part of a core in use since then, of all (CPU, wall) seconds."""
        before = self._used or (0.0, 0.0)
        return (used - before[0]) / (passed - before[1])


async def idle_rate(seconds: float, *, watched: bool) -> float:
    """Return the CPU seconds a second that measuring alone takes."""
    meter = Meter(watched=watched)
    meter.start()
    # As a run waits for its end.
    for _ in range(round(seconds * 10)):
        await asyncio.sleep(0.1)

    used, passed = await meter.stop()
    return used / passed


# Who waits ----------------------------------------------------------------------------

Make = Callable[[int], "BaseTrigger"]
"""Makes the trigger of a number."""


async def wait_alone(make: Make, count: int, *, spread: float, told: Told) -> None:
    """Run the triggers as bare tasks, started over ``spread`` seconds."""
    greenback = import_module("greenback")

    async def wait(number: int) -> None:
        # As Airflow's runner does for each of its triggers.
        await greenback.ensure_portal()
        trigger = make(number)
        try:
            async for event in trigger.run():
                told.note(number, event.payload)
                return
        except Exception as error:  # noqa: BLE001 - told as it is
            told.note(number, f"{type(error).__name__}: {error}")

    async with asyncio.TaskGroup() as group:
        async for number in _in_time(count, spread):
            group.create_task(wait(number))


async def wait_in_runner(
    workloads: Sequence[Any], *, spread: float, told: Told
) -> None:
    """Run the triggers in Airflow's own runner."""
    triggerer = import_module("benchmarks.triggerer")
    async with triggerer.a_runner(triggerer.Supervisor(told.note)) as add:
        async for number in _in_time(len(workloads), spread):
            add(workloads[number])

        await asyncio.Event().wait()


async def _in_time(count: int, spread: float) -> AsyncIterator[int]:
    """Count, so that it takes ``spread`` seconds, and let others run as well.

    So does the runner when it is handed thousands of triggers at once.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + spread * number / count - loop.time()))
        yield number


# Who is armed -------------------------------------------------------------------------

_LOOKS = {
    "airbyte": "airflow.providers.airbyte.hooks.airbyte:AirbyteHook.get_job_status",
    "dbt_cloud": "airflow.providers.dbt.cloud.hooks.dbt:DbtCloudHook.get_job_status",
    "fivetran": (
        "fivetran_provider_async.hooks:FivetranHookAsync.get_sync_status_async"
    ),
}


def count_looks(vendor: str) -> Callable[[], int]:
    """Count the jobs about which the peer's hook has had an answer."""
    module, _, path = _LOOKS[vendor].partition(":")
    owner_name, _, name = path.partition(".")
    owner = getattr(import_module(module), owner_name)
    look = getattr(owner, name)
    seen: set[object] = set()

    if vendor == "airbyte":

        def blocking(hook: Any, job: object, *args: Any, **kwargs: Any) -> Any:
            found = look(hook, job, *args, **kwargs)
            seen.add(job)
            return found

        setattr(owner, name, blocking)
    else:

        async def awaited(hook: Any, job: object, *args: Any, **kwargs: Any) -> Any:
            found = await look(hook, job, *args, **kwargs)
            seen.add(job)
            return found

        setattr(owner, name, awaited)

    return lambda: len(seen)


def our_accounts() -> list[Any]:
    """Return the accounts that our triggers lease."""
    accounts: list[Any] = import_module(
        "async_triggers.engine.accounts"
    ).shared_accounts()
    return accounts


def our_waiters() -> int:
    """Count those who wait for our pollers, and those who watch."""
    found = [each.poller.statistics() for each in our_accounts()]
    return sum(each.waiters + each.watchers for each in found)


def our_numbers() -> dict[str, Any]:
    """Return what our engine counts itself."""
    accounts = our_accounts()
    if not accounts:
        return {}

    (leased,) = accounts
    poller, transport = leased.poller.statistics(), leased.transport.statistics()
    return {
        "rounds": poller.rounds,
        "failed_rounds": poller.failed_rounds,
        "plan": poller.plan,
        "transport_requests": transport.requests,
        "received_bytes": transport.received_bytes,
        "connections": transport.connections,
    }


async def _note_first_round(armed: Armed) -> None:
    while True:
        for leased in our_accounts():
            if leased.poller.statistics().rounds > 1:
                return

            # What has been asked before the second round begins.
            if leased.poller.statistics().rounds == 1:
                armed.first_round_requests = leased.transport.statistics().requests

        await asyncio.sleep(SAMPLE)


# A run --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Party:
    """Who waits: what makes their triggers, who counts the armed, who works beside."""

    make: Make
    count: Callable[[], int]
    beside: Callable[[Armed], Coroutine[Any, Any, None]] | None


def _party(order: Mapping[str, Any], tickets: Sequence[Ticket]) -> Party:
    side, vendor = order["side"], order["vendor"]
    if side == "floor":
        floor = import_module("benchmarks.floor")
        return Party(
            floor.OnlyWaits, floor.waiters, lambda _: floor.ask_and_tell(order)
        )

    def make(number: int) -> BaseTrigger:
        return make_trigger(side, tickets[number], interval=order["interval"])

    if side == "peer":
        return Party(make, count_looks(vendor), None)

    return Party(make, our_waiters, _note_first_round)


async def run(order: Mapping[str, Any]) -> dict[str, Any]:
    """Wait as ordered, and return what was measured."""
    tickets = [
        Ticket(vendor=order["vendor"], job=job, seen_at=order["seen_at"])
        for job in order["jobs"]
    ]
    party, told = _party(order, tickets), Told()
    expected = {number for number, end in enumerate(order["ends"]) if end}
    spread, count = order["spread"], len(tickets)
    if order["runner"]:
        # In earnest another process makes the workloads.
        workload = import_module("benchmarks.triggerer").workload
        workloads = [workload(number, party.make(number)) for number in range(count)]
        waiting = wait_in_runner(workloads, spread=spread, told=told)
    else:
        waiting = wait_alone(party.make, count, spread=spread, told=told)

    meter = Meter(watched=order["watched"])
    armed = meter.armed = Armed(count + len(order["watched_targets"]), party.count)
    gc.collect()
    before = meter.resident()
    await asyncio.sleep(max(0.0, order["begins"] - time.time()))
    meter.start()
    armed.began = time.perf_counter()
    works = [asyncio.create_task(waiting)]
    heard: Counter[str] = Counter()
    if order["watched_targets"]:
        watch = import_module("benchmarks.watchers").watch
        works.append(asyncio.create_task(watch(order, heard)))

    if party.beside is not None:
        works.append(asyncio.create_task(party.beside(armed)))

    settling = Settling(armed, meter, after=order["interval"])
    while time.time() < order["until"] and not works[0].done():
        settling.look()
        over = time.time() >= order["ends_by"]
        if (
            over
            and heard.total() >= order["events"]
            and len(told.at) + sum(told.wrong.values()) >= len(expected)
        ):
            break

        await asyncio.sleep(0.1)

    numbers = our_numbers() if order["side"] == "ours" else {}
    used, passed = await meter.stop()
    for work in works:
        if work.done():
            work.result()

        work.cancel()

    await asyncio.gather(*works, return_exceptions=True)
    return _measured(
        order,
        told=told,
        meter=meter,
        armed=armed,
        before=before,
        used=used,
        passed=passed,
        expected=expected,
    ) | {
        "engine": numbers,
        "settled_cpu_share": settling.share(used, passed) - order["idle_rate"],
        "heard": heard.total(),
        "to_hear": order["events"],
    }


def _measured(
    order: Mapping[str, Any],
    *,
    told: Told,
    meter: Meter,
    armed: Armed,
    before: float,
    used: float,
    passed: float,
    expected: set[int],
) -> dict[str, Any]:
    late = sorted(told.at[i] - order["ends"][i] for i in expected & told.at.keys())
    always = {
        "told": len(late),
        "expected": len(expected),
        "wrong": dict(told.wrong),
        "cpu_s": used,
        "wall_s": passed,
        "cpu_net_s": used - order["idle_rate"] * passed,
    }
    if not order["watched"]:
        return always

    lag = corrected(meter.watch.late)
    ticks, warnings = meter.arming or (len(meter.watch.late), meter.watch.warnings)
    # A tick that was due while the last ones were armed is noted a little later.
    after = corrected(meter.watch.late[ticks + 10 :])

    return {
        **always,
        "lag_p50_s": quantile(lag, 0.5),
        "lag_p99_s": quantile(lag, 0.99),
        "lag_max_s": meter.watch.longest,
        "after_p50_s": quantile(after, 0.5),
        "after_p99_s": quantile(after, 0.99),
        "after_max_s": after[-1] if after else math.nan,
        "warnings": meter.watch.warnings,
        "after_warnings": meter.watch.warnings - warnings,
        "longest_collection_s": meter.longest_collection,
        "rss_before_mb": before,
        "rss_growth_mb": meter.peak - before,
        "detect_p50_s": quantile(late, 0.5),
        "detect_p99_s": quantile(late, 0.99),
        "detect_max_s": late[-1] if late else None,
        "armed_s": None if armed.at is None else armed.at - armed.began,
        "first_round_requests": armed.first_round_requests,
    }


def main() -> None:
    """Get ready, wait as ordered on standard input, tell the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting")
    parser.add_argument("--side", choices=("ours", "peer", "floor"), required=True)
    parser.add_argument("--vendor", required=True)
    parser.add_argument("--runner", action="store_true")
    parser.add_argument("--unwatched", action="store_true")
    # What doing nothing takes: to be measured for so many seconds, or known already.
    parser.add_argument("--idle", type=float, default=0.0)
    parser.add_argument("--idle-rate", type=float)
    parser.add_argument("--results", type=int, required=True)
    chosen = parser.parse_args()

    def tell(what: Mapping[str, Any]) -> None:
        os.write(chosen.results, f"{json.dumps(what)}\n".encode())

    if chosen.side != "floor":
        trigger_class(chosen.side, chosen.vendor)

    if chosen.runner:
        import_module("benchmarks.triggerer")

    import_module("aiohttp")
    rate = chosen.idle_rate
    if rate is None:
        rate = asyncio.run(idle_rate(chosen.idle, watched=not chosen.unwatched))

    side: Side = "peer" if chosen.side == "peer" else "ours"
    tell({"idle_rate": rate, "versions": versions(side)})
    order = {
        **json.loads(Path(sys.stdin.readline().strip()).read_bytes()),
        "side": chosen.side,
        "vendor": chosen.vendor,
        "runner": chosen.runner,
        "watched": not chosen.unwatched,
        "idle_rate": rate,
    }
    if order["floor"] and side == "ours":
        import_module("benchmarks.cells").hurry(order["floor"])

    connect(side, order["urls"])
    tell(asyncio.run(run(order)))
    # Thousands of triggers that are let go take a while, and nobody is interested.
    os._exit(0)


if __name__ == "__main__":
    main()
