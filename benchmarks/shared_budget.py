"""A crowd of starts in a small account, with and without a budget that processes share.

Fivetran's scenario of :mod:`benchmarks.scenarios` in a trial account: two hundred syncs
that all start within an hour, each from a separate worker, and again when they have ended.
The store is that of `limits` in memory, on the clock that jumps; what a request to a real
Redis takes is measured with ``--redis``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from limits.aio.storage import MemoryStorage, memory

from async_triggers.deferral import budget_store
from benchmarks.machine import machine
from benchmarks.scenarios import fivetran
from benchmarks.virtual_accounts import (
    EPOCH,
    HOUR,
    MEASURED,
    SEED,
    Report,
    be_quiet,
    quantile,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrips:
    """What taking a request from a Redis took, in milliseconds, each after the other."""

    count: int
    first: float
    p50: float
    p99: float


@contextmanager
def virtual_time() -> Iterator[None]:
    """Let `limits` go by the loop's clock."""
    clock: Any = SimpleNamespace(time=lambda: EPOCH + asyncio.get_running_loop().time())
    modules: tuple[Any, ...] = (memory, budget_store)
    before = [module.time for module in modules]
    for module in modules:
        module.time = clock

    try:
        yield
    finally:
        for module, real in zip(modules, before, strict=True):
            module.time = real


def crowd(
    *,
    triggerers: int,
    is_shared: bool,
    count: int = 200,
    hours: float = 6.0,
    spread: float = HOUR,
) -> Report:
    """Start so many syncs within ``spread`` seconds, and again when they have ended."""
    store = budget_store.LimitsStore(MemoryStorage())
    with virtual_time():
        return fivetran(
            count=count,
            hours=hours,
            interval=15.0,
            trial=True,
            spread=spread,
            triggerers=triggerers,
            make_store=(lambda: store) if is_shared else None,
        )


async def round_trips(url: str, count: int = 2000) -> RoundTrips:
    """Take requests from a Redis, one after the other."""
    from limits.aio.storage import RedisStorage  # noqa: PLC0415 - only with --redis
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - as above

    pool = ConnectionPool.from_url(url)
    storage = RedisStorage(
        "async+redis://",
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]
    )
    store = budget_store.LimitsStore(storage, pool)
    took = []
    for _ in range(count + 1):
        began = time.perf_counter()
        await store.take("async_triggers:benchmark", 300, 6)
        took.append((time.perf_counter() - began) * 1000.0)

    await store.close()
    return RoundTrips(
        count=count,
        first=took[0],
        p50=quantile(took[1:], 0.5),
        p99=quantile(took[1:], 0.99),
    )


def table(reports: Sequence[tuple[int, bool, Report]]) -> str:
    """Return the table of the crowds, in Markdown."""
    lines = [
        (
            "| triggerers | budget | answers of 429 | busiest hour, of 500 requests |"
            " syncs ended | end to event, p50 / p99 / max |"
        ),
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {triggerers} | {'shared' if is_shared else 'of each process'} |"
        f" {sum(each.refused.values())} | {each.busiest} | {each.ended} |"
        f" {each.late_p50:.0f} / {each.late_p99:.0f} / {each.late_max:.0f} s |"
        for triggerers, is_shared, each in reports
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a shared budget was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared_budget",
        description="A crowd of starts, with and without a shared budget.",
    )
    parser.add_argument("--redis", help="URL of a Redis whose round trips to measure")
    parser.add_argument(
        "--out",
        type=Path,
        default=MEASURED,
        help=f"where to write the results ({MEASURED.name})",
    )
    chosen = parser.parse_args(arguments)
    be_quiet()
    trips = asyncio.run(round_trips(chosen.redis)) if chosen.redis else None
    reports = [
        (triggerers, is_shared, crowd(triggerers=triggerers, is_shared=is_shared))
        for triggerers in (1, 2)
        for is_shared in (False, True)
    ]
    print(f"\n{table(reports)}\n\n{trips}")
    write(reports, trips, chosen.out)
    return int(any(each.refused for _, is_shared, each in reports if is_shared))


def write(
    reports: Sequence[tuple[int, bool, Report]],
    trips: RoundTrips | None,
    folder: Path,
) -> None:
    """Write the table and the raw numbers to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shared_budget.md").write_text(f"{table(reports)}\n")
    raw = {
        "machine": machine(),
        "seed": SEED,
        "round_trips_ms": None if trips is None else asdict(trips),
        "crowds": [
            {"triggerers": triggerers, "is_shared": is_shared, **asdict(each)}
            for triggerers, is_shared, each in reports
        ],
    }
    (folder / "shared_budget.json").write_text(f"{json.dumps(raw, indent=1)}\n")


if __name__ == "__main__":
    sys.exit(main())
