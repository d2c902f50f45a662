"""A fleet of triggerers on one account, with and without a budget that they share.

What is more than a machine holds is put together from two parts, both on the clock that
jumps. ``day``: one account, whose jobs are spread over twenty triggerers and started by a
separate worker each, with the scenarios of :mod:`benchmarks.scenarios`. ``hold``: one
triggerer, which holds a hundred tasks in each of fifty accounts, in a process by itself.
Accounts share nothing, so fifty of them are fifty times the one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from limits.aio.storage import MemoryStorage

from async_triggers.deferral import budget_store
from benchmarks.machine import machine
from benchmarks.scenarios import airbyte, dbt_cloud, fivetran
from benchmarks.shared_budget import virtual_time
from benchmarks.virtual_accounts import (
    EPOCH,
    HOUR,
    MEASURED,
    SEED,
    Report,
    be_quiet,
    connect,
    lease,
    virtual_world,
)
from benchmarks.waiting_hour import arranged

if TYPE_CHECKING:
    from async_triggers.deferral.trigger import JobTrigger

ARMS = {
    "own": "0.6 for each process",
    "divided": "0.6 divided by the triggerers",
    "shared": "shared",
}
"""How the account's limit is divided among processes."""
SHARE = 0.6
INTERVAL = 60.0
LASTS = (600, 3 * 3600)
TRIAL = "Fivetran, trial"
FIRST_PORT = 9000
JOINED = 60.0
"""Seconds after which all triggers have joined, and been polled."""


@dataclass(slots=True, kw_only=True)
class Day:
    """One account with so many triggerers; ``arm`` is a key of :data:`ARMS`."""

    account: str
    arm: str
    triggerers: int
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a triggerer's process took that held ``tasks`` triggers in each account.

    Processor time is without that of the simulated vendors, in seconds: for all triggers
    to begin, and for an hour after that. ``megabytes`` is what the process has grown by.
    """

    vendor: str
    accounts: int
    tasks: int
    items: int
    hours: float
    ended: int
    requests: int
    megabytes: float
    joining: float
    hourly: float
    vendors_hourly: float


def day(account: str, arm: str, *, jobs: int, triggerers: int, hours: float) -> Day:
    """Let the jobs of one account live, each started again when it has ended."""
    store = budget_store.LimitsStore(MemoryStorage())
    play: dict[str, Callable[..., Report]] = {
        "Fivetran": fivetran,
        TRIAL: lambda **more: fivetran(trial=True, **more),
        "dbt Cloud": lambda **more: dbt_cloud(others=False, **more),
        "Airbyte": airbyte,
    }
    began = time.process_time()
    with virtual_time():
        found = play[account](
            count=jobs,
            hours=hours,
            interval=INTERVAL,
            lasts=LASTS,
            spread=HOUR,
            triggerers=triggerers,
            make_store=(lambda: store) if arm == "shared" else None,
            share=SHARE / triggerers if arm == "divided" else None,
        )

    found.took = time.process_time() - began
    return Day(account=account, arm=arm, triggerers=triggerers, report=found)


def hold(vendor: str, *, accounts: int, tasks: int, items: int, hours: float) -> Held:
    """Hold triggers in accounts that have ``items`` running jobs each; see :class:`Held`.

    One in so many ends as if each lasted 95 minutes, the mean of :data:`LASTS`.
    """
    dice = random.Random(SEED)
    with virtual_world() as runner:
        loop = runner.get_loop()
        worlds = []
        for number in range(accounts):
            simulator, makers = arranged(
                vendor,
                lambda: EPOCH + loop.time(),
                [dice.randint(60, sum(LASTS) // 2) for _ in range(items)],
                foreign=0,
            )
            host = f"http://localhost:{FIRST_PORT + number}"
            wire = connect(vendor, simulator, host)
            worlds.append((host, wire, makers[:: items // tasks][:tasks]))

        # What the vendors hold is no load of a triggerer's collector.
        gc.collect()
        gc.freeze()

        def used() -> tuple[float, float]:
            served = sum(wire.served for _, wire, _ in worlds)
            return time.process_time() - served, served

        async def main() -> Held:
            before, (began, _) = _resident(), used()
            ended = 0
            async with AsyncExitStack() as stack:

                async def wait(leased: Any, trigger: JobTrigger) -> None:
                    nonlocal ended
                    await trigger.wait_on(leased)
                    ended += 1

                waits: list[asyncio.Future[None]] = []
                for host, _, makers in worlds:
                    leased = await lease(stack, vendor, "triggerer", host=host)
                    waits += [
                        asyncio.ensure_future(wait(leased, make())) for make in makers
                    ]

                await asyncio.sleep(JOINED)
                joined, served = used()
                highest = _resident()
                while loop.time() < hours * HOUR + JOINED:
                    await asyncio.sleep(30.0)
                    highest = max(highest, _resident())

                own, theirs = used()
                found = Held(
                    vendor=vendor,
                    accounts=accounts,
                    tasks=tasks,
                    items=items,
                    hours=hours,
                    ended=ended,
                    requests=sum(len(wire.asked) for _, wire, _ in worlds),
                    megabytes=(highest - before) / 1e6,
                    joining=joined - began,
                    hourly=(own - joined) / hours,
                    vendors_hourly=(theirs - served) / hours,
                )
                for each in waits:
                    each.cancel()

                await asyncio.wait(waits)
                return found

        try:
            return runner.run(main())
        finally:
            gc.unfreeze()


def _resident() -> int:
    """Return the memory of this process that is resident, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def hold_apart(vendor: str, **numbers: float) -> Held:
    """Hold triggers in a process by itself, so that nothing else has used its memory."""
    code = (
        "import json, sys; from dataclasses import asdict; from benchmarks import fleet;"
        " fleet.be_quiet(); numbers = json.loads(sys.argv[2]);"
        " print(json.dumps(asdict(fleet.hold(sys.argv[1], **numbers))))"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, vendor, json.dumps(numbers)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Held(**json.loads(done.stdout.splitlines()[-1]))


# What is shown ------------------------------------------------------------------------


def day_table(days: Sequence[Day]) -> str:
    """Return the table of the accounts, in Markdown."""
    lines = [
        (
            "| account | jobs | triggerers | budget | hours |"
            " requests, first hour / later ones | busiest window | 429 |"
            " longest interval | jobs started, ended |"
            " end to event, p50 / p99 / max |"
        ),
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in days:
        found = each.report
        later = found.by_hour[1:] or found.by_hour
        window = "an hour" if found.window == HOUR else "a minute"
        busiest = f"{found.busiest:,} {window}"
        if found.limit is not None:
            busiest = f"{found.busiest / found.limit:.0%} of {found.limit:,} {window}"

        lines.append(
            f"| {each.account} | {found.jobs:,} | {each.triggerers} |"
            f" {ARMS[each.arm]} | {found.hours:g} |"
            f" {found.by_hour[0]:,} / {median(later):,.0f} | {busiest} |"
            f" {sum(found.refused.values()):,} | {found.interval:.0f} s |"
            f" {found.started:,}, {found.ended:,} |"
            f" {found.late_p50:.0f} / {found.late_p99:.0f} / {found.late_max:.0f} s |"
        )

    return "\n".join(lines)


def hold_table(helds: Sequence[Held]) -> str:
    """Return the table of what a triggerer takes, in Markdown."""
    lines = [
        (
            "| vendor of all accounts | triggers | accounts | requests an hour | memory |"
            " CPU for all to begin | CPU an hour | part of a core |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.vendor} | {each.accounts * each.tasks:,} | {each.accounts} |"
        f" {each.requests / (each.hours + JOINED / HOUR):,.0f} |"
        f" {each.megabytes:.0f} MB | {each.joining:.1f} s | {each.hourly:.0f} s |"
        f" {each.hourly / HOUR:.1%} |"
        for each in helds
    ]
    return "\n".join(lines)


def write(days: Sequence[Day], helds: Sequence[Held], folder: Path) -> None:
    """Write the tables and the raw numbers to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.md").write_text(f"{day_table(days)}\n")
    (folder / "fleet-triggerer.md").write_text(f"{hold_table(helds)}\n")
    raw = {
        "machine": machine(),
        "seed": SEED,
        "interval_s": INTERVAL,
        "lasts_s": LASTS,
        "days": [asdict(each) for each in days],
        "triggerers": [asdict(each) for each in helds],
    }
    (folder / "fleet.json").write_text(f"{json.dumps(raw, indent=1)}\n")


def measured(folder: Path) -> tuple[list[Day], list[Held]]:
    """Return what ``folder`` holds already."""
    path = folder / "fleet.json"
    if not path.exists():
        return [], []

    raw = json.loads(path.read_text())
    days = [Day(**{**each, "report": Report(**each["report"])}) for each in raw["days"]]
    return days, [Held(**each) for each in raw["triggerers"]]


# The command --------------------------------------------------------------------------

ACCOUNTS = ("Fivetran", "dbt Cloud", "Airbyte", TRIAL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a shared budget was not kept."""
    chosen = _parser().parse_args(arguments)
    be_quiet()
    days, helds = measured(chosen.out) if chosen.add else ([], [])
    for account, triggerers, arm in _days(chosen):
        print(f"{account}, {triggerers}, {arm}: ", end="", file=sys.stderr, flush=True)
        found = day(
            account,
            arm,
            jobs=chosen.trial_jobs if account == TRIAL else chosen.jobs,
            triggerers=triggerers,
            hours=chosen.hours,
        )
        others = [each for each in days if _place(each) != _place(found)]
        days = sorted([*others, found], key=_place)
        # An interruption costs one run.
        write(days, helds, chosen.out)

    for vendor in chosen.account if "hold" in chosen.part else ():
        if vendor != TRIAL:
            held = hold_apart(
                vendor,
                accounts=chosen.accounts,
                tasks=chosen.jobs // chosen.triggerers[0],
                items=chosen.jobs,
                hours=chosen.hold_hours,
            )
            known = [each for each in helds if each.vendor != vendor]
            helds = sorted([*known, held], key=lambda one: one.vendor)
            write(days, helds, chosen.out)

    print(f"\n{day_table(days)}\n\n{hold_table(helds)}")
    return int(any(each.report.refused for each in days if each.arm == "shared"))


def _days(chosen: argparse.Namespace) -> list[tuple[str, int, str]]:
    """Return the account, the triggerers and the arm of each day to play."""
    if "day" not in chosen.part:
        return []

    return [*product(chosen.account, chosen.triggerers, chosen.arm)]


def _place(one: Day) -> tuple[int, int, int]:
    """Return the place of an account in the table, which no other has."""
    return ACCOUNTS.index(one.account), -one.triggerers, [*ARMS].index(one.arm)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet",
        description="An account that twenty triggerers poll, and one of these triggerers.",
    )
    option = parser.add_argument
    parts = ("day", "hold")
    option("--part", nargs="+", choices=parts, default=parts)
    option("--account", nargs="+", choices=ACCOUNTS, default=ACCOUNTS)
    option("--arm", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    option("--jobs", type=int, default=2000, help="in flight in an account (2000)")
    option("--trial-jobs", type=int, default=100, help="in a trial's (100)")
    option("--triggerers", nargs="+", type=int, default=[20], help="of an account (20)")
    option("--accounts", type=int, default=50, help="of a triggerer (50)")
    option("--hours", type=float, default=24.0, help="of the day (24)")
    option("--hold-hours", type=float, default=1.0, help="of holding (1)")
    option("--add", action="store_true", help="keep what --out holds of other runs")
    option(
        "--out",
        type=Path,
        default=MEASURED,
        help=f"where to write the results ({MEASURED.name})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
