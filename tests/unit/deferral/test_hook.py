from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import BaseHook, Connection

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral import hook
from async_triggers.deferral.hook import CONNECTION_TTL, REREAD_LONGEST
from async_triggers.engine.errors import AccountMisconfigured, Unreachable
from async_triggers.engine.jobs import JobState
from tests.unit.deferral.stage import TARGET, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Account


@pytest.fixture
def _no_blocking_calls() -> None:
    """Let `run` block: it is for workers and scripts, with and without a loop."""


@pytest.fixture
def _slow_look_ups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a look-up take a second, so that others come meanwhile."""

    async def slowly(work: Callable[[], Connection]) -> Connection:
        await asyncio.sleep(1.0)
        return work()

    monkeypatch.setattr(hook, "in_thread", slowly)


# The cache of connections ------------------------------------------------------------


@pytest.mark.usefixtures("_slow_look_ups")
def test_many_look_ups_at_once_are_one(world: World) -> None:
    async def go() -> list[Account]:
        return await asyncio.gather(
            *(AirbyteHook().known_account() for _ in range(100))
        )

    accounts = asyncio.run(go())

    assert world.connection_reads == 1
    assert all(account is accounts[0] for account in accounts)


def test_a_connection_is_read_again_when_it_is_old(world: World) -> None:
    async def go() -> None:
        await AirbyteHook().known_account()
        await asyncio.sleep(CONNECTION_TTL - 1)
        await AirbyteHook().known_account()
        assert world.connection_reads == 1

        await asyncio.sleep(2)
        await AirbyteHook().known_account()
        assert world.connection_reads == 2

    asyncio.run(go())


def test_hooks_that_read_a_connection_differently_do_not_share(world: World) -> None:
    async def go() -> None:
        first = await AirbyteHook(api_version="v1").known_account()
        second = await AirbyteHook(api_version="v2").known_account()
        assert first.base_url != second.base_url

    asyncio.run(go())
    assert world.connection_reads == 2


def test_two_names_of_one_account_share_it(world: World) -> None:
    world.connect("another_name", host="http://localhost:8000/api/public/v1/")

    async def go() -> None:
        async with (
            AirbyteHook("airbyte_default").lease() as first,
            AirbyteHook("another_name").lease() as second,
        ):
            assert first is not second
            assert first.shared is second.shared

    asyncio.run(go())


def test_a_failed_look_up_is_not_kept(world: World) -> None:
    lost = world.connections.pop("airbyte_default")

    async def go() -> None:
        with pytest.raises(Unreachable, match="'airbyte_default' could not be looked"):
            await AirbyteHook().known_account()

        world.connections["airbyte_default"] = lost
        assert (await AirbyteHook().known_account()).vendor == "Airbyte"

    asyncio.run(go())


def test_what_a_failed_look_up_says_is_not_passed_on(world: World) -> None:
    world.connections["airbyte_default"] = RuntimeError("postgresql://me:psst@db")

    async def go() -> None:
        with pytest.raises(Unreachable) as caught:
            await AirbyteHook().known_account()

        assert "psst" not in str(caught.value)

    asyncio.run(go())


def test_rejected_credentials_are_read_again_whatever_is_known(world: World) -> None:
    hook = AirbyteHook()

    async def go() -> None:
        first = await hook.known_account()
        world.connect("airbyte_default", host="http://localhost:8000", password="new")
        assert await hook.known_account() is first

        again = await hook.reread_account()
        assert again.credentials != first.credentials
        assert await hook.known_account() is again

    asyncio.run(go())


def test_a_look_up_after_a_refusal_that_hangs_keeps_nobody_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        first = await AirbyteHook().known_account()

        async def hang(_: object) -> None:
            await loop.create_future()

        with monkeypatch.context() as patch:
            patch.setattr(hook, "in_thread", hang)
            with pytest.raises(Unreachable, match="was not looked up within 20 s"):
                await AirbyteHook().reread_account()

            assert loop.time() == REREAD_LONGEST
            assert await AirbyteHook().known_account() is first

        assert await AirbyteHook().reread_account() == first

    asyncio.run(go())


def test_loops_do_not_share_what_they_know(world: World) -> None:
    # dag.test() makes a loop for each trigger.
    for _ in range(3):
        asyncio.run(AirbyteHook().known_account())

    assert world.connection_reads == 3


# Patience ---------------------------------------------------------------------------


@pytest.mark.usefixtures("_slow_look_ups")
def test_patience_outlasts_trouble_for_all_who_wait_at_the_price_of_one(
    world: World,
) -> None:
    lost = world.connections.pop("airbyte_default")

    async def go() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(
            100, lambda: world.connections.update({"airbyte_default": lost})
        )
        accounts = await asyncio.gather(
            *(AirbyteHook().known_account(patience=300) for _ in range(100))
        )
        assert len(set(map(id, accounts))) == 1
        assert 100 <= loop.time() < 120

    asyncio.run(go())
    assert world.connection_reads < 15


def test_patience_ends(world: World) -> None:
    del world.connections["airbyte_default"]

    async def go() -> None:
        with pytest.raises(Unreachable):
            await AirbyteHook().known_account(patience=300)

        assert 300 <= asyncio.get_running_loop().time() < 320

    asyncio.run(go())


def test_there_is_no_patience_with_what_will_not_change(world: World) -> None:
    world.connect("airbyte_default", host="")

    async def go() -> None:
        with pytest.raises(AccountMisconfigured):
            await AirbyteHook().known_account(patience=300)

        assert asyncio.get_running_loop().time() == 0

    asyncio.run(go())


@pytest.mark.usefixtures("_slow_look_ups")
@pytest.mark.parametrize("host", [None, ""], ids=["none", "malformed"])
def test_a_failure_is_shared_and_each_has_an_error_of_his_own(
    world: World, host: str | None
) -> None:
    del world.connections["airbyte_default"]
    if host is not None:
        world.connect("airbyte_default", host=host)

    async def go() -> list[object]:
        return await asyncio.gather(
            *(AirbyteHook().known_account() for _ in range(100)),
            return_exceptions=True,
        )

    errors = asyncio.run(go())

    assert world.connection_reads == 1
    assert len({id(error) for error in errors}) == 100
    assert len({(type(error), str(error)) for error in errors}) == 1
    assert isinstance(errors[0], AccountMisconfigured if host == "" else Unreachable)


@pytest.mark.usefixtures("_slow_look_ups")
def test_another_looks_up_when_the_one_who_did_is_stopped(world: World) -> None:
    async def go() -> None:
        first, second = (
            asyncio.create_task(AirbyteHook().known_account()) for _ in range(2)
        )
        await asyncio.sleep(0.5)
        first.cancel()
        assert (await second).vendor == "Airbyte"
        assert first.cancelled()

    asyncio.run(go())


# Blocking calls ---------------------------------------------------------------------


def test_run_works_with_and_without_a_loop(world: World) -> None:
    job_id = world.airbyte.add_job(TARGET, "succeeded")
    hook = AirbyteHook()

    def ask() -> JobState:
        async def call(leased: LeasedAccount) -> JobState:
            return (await hook.get_job(leased, job_id)).job.state

        return hook.run(call)

    async def within() -> JobState:
        return ask()

    assert ask() is JobState.SUCCEEDED
    assert asyncio.run(within()) is JobState.SUCCEEDED


def test_the_look_up_is_made_before_there_is_a_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow forbids blocking look-ups on a running loop of a worker.
    def look_up(conn_id: str) -> Connection:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

        return world.get_connection(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(look_up))
    hook = AirbyteHook()

    assert hook.test_connection()[0]
