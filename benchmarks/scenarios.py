"""A crowd of jobs in one account of each vendor, under its limit."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import AsyncExitStack
from functools import partial
from itertools import count as counting
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
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
from benchmarks.virtual_accounts import (
    ACCOUNT,
    EPOCH,
    HOUR,
    JOB,
    LATENCY,
    SEED,
    TOO_MANY,
    Crowd,
    Report,
    Wire,
    connect,
    lease,
    play,
    report,
    virtual_world,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount, MakeStore


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

                await _play(
                    crowd,
                    [partial(start, name) for name in names],
                    pollers,
                    dice,
                    spread,
                )

        runner.run(main())
        _merge_workers(wire)
        title = "Fivetran, trial" if trial else "Fivetran"
        return report(title, wire, crowd, count, limit, HOUR, interval)


async def _play(
    crowd: Crowd,
    starts: Sequence[Callable[[], Awaitable[JobTrigger]]],
    pollers: Sequence[LeasedAccount],
    dice: random.Random,
    spread: float,
) -> None:
    """Let jobs live, in turn on each poller; the first starts are spread over a time."""
    lives = [
        crowd.live(
            pollers[number % len(pollers)],
            start,
            dice.uniform(0, min(spread, crowd.until / 2)),
        )
        for number, start in enumerate(starts)
    ]
    await play(crowd, lives, pollers)


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
                await _play(crowd, [start] * count, pollers, dice, spread)
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

                await _play(
                    crowd,
                    [partial(start, name) for name in names],
                    pollers,
                    dice,
                    spread,
                )

        runner.run(main())
        _merge_workers(wire)
        return report("Airbyte", wire, crowd, count, None, 60.0, interval)


def _merge_workers(wire: Wire) -> None:
    workers = [name for name in wire.by if name.startswith("worker ")]
    wire.by["workers"] = sum(wire.by.pop(name) for name in workers)
