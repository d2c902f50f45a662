"""What an hour of rounds costs with a thousand waiting tasks."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.fivetran.triggers import FivetranTrigger
from async_triggers.simulator import (
    AirbyteSimulator,
    DbtCloudSimulator,
    FivetranSimulator,
)
from async_triggers.simulator.airbyte import AirbyteSettings
from async_triggers.simulator.dbt_cloud import DbtCloudSettings
from async_triggers.simulator.fivetran import FivetranSettings
from benchmarks.virtual_accounts import (
    ACCOUNT,
    EPOCH,
    HOUR,
    JOB,
    LATENCY,
    OVER,
    PART_THAT_ENDS,
    SEED,
    connect,
    lease,
    virtual_world,
)

if TYPE_CHECKING:
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.simulator.vendor import VendorSimulator


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
