"""The store of the shared budget: how it is set, and what `limits` makes of it."""

from __future__ import annotations

import asyncio
import ssl
import sys
from configparser import ConfigParser
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from limits.aio.storage import MemoryStorage

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral import budget_store
from async_triggers.deferral.budget_store import ClocksDiffer, LimitsStore, store_maker
from async_triggers.deferral.compat import conf
from async_triggers.deferral.errors import ConnectionUnusable
from async_triggers.engine.accounts import shared_accounts
from async_triggers.engine.errors import AccountMisconfigured, Unreachable
from async_triggers.provider_info import get_provider_info
from tests.clock import ThreadlessClockLoop
from tests.unit.deferral.stage import World, make_world
from tests.unit.test_layout import run_alone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.engine.accounts import LeasedAccount

SETTING = "AIRFLOW__ASYNC_TRIGGERS__BUDGET_URL"
SECRET = "the-password-of-the-store"
URL = f"redis://:{SECRET}@127.0.0.1:9/5"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Read the setting again in each test, and once more after it."""
    store_maker.cache_clear()
    yield
    store_maker.cache_clear()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def know_the_providers() -> None:
    """Have Airflow read what providers say of settings, as its commands do first of all.

    Airflow 3.2 and later do so when a setting is read.
    """
    if ("async_triggers", "budget_url") not in conf.sensitive_config_values:
        from airflow.providers_manager import ProvidersManager

        ProvidersManager().initialize_providers_configuration()


# The setting --------------------------------------------------------------------------


def test_it_is_off_unless_it_is_set() -> None:
    assert store_maker() is None


LOAD_EVERYTHING = """
import sys
import async_triggers.airbyte.operators, async_triggers.airbyte.triggers
import async_triggers.deferral.operator, async_triggers.engine.accounts
from async_triggers.deferral.budget_store import store_maker
assert store_maker() is None
print(*sys.modules)
"""


def test_nothing_of_it_is_loaded_unless_it_is_set() -> None:
    loaded = set(run_alone(LOAD_EVERYTHING))

    assert "async_triggers.engine.shared_budget" in loaded
    assert loaded & {"limits", "redis", "coredis"} == set()


def test_airflow_knows_that_it_is_a_secret() -> None:
    option = get_provider_info()["config"]["async_triggers"]["options"]["budget_url"]

    assert option["sensitive"] is True
    assert option["default"] == ""


@pytest.mark.parametrize("form", ["", "_CMD"])
def test_it_may_be_the_output_of_a_command(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_the_providers()
    monkeypatch.setenv(SETTING + form, f"echo {URL}" if form else URL)

    make = store_maker()
    assert make is not None
    assert SECRET not in repr(make)
    assert SECRET not in repr(make())


@pytest.mark.parametrize("module", ["limits.aio.storage", "redis.asyncio"])
def test_what_is_not_installed_is_named(
    module: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, URL)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConnectionUnusable) as raised:
        AirbyteHook().account()

    words = str(raised.value)
    assert "[async_triggers] budget_url" in words
    assert "pip install 'airflow-provider-async-triggers[redis]'" in words
    assert SECRET not in words


def test_a_trigger_fails_as_clearly_as_a_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, URL)
    monkeypatch.setitem(sys.modules, "limits.aio.storage", None)

    with pytest.raises(AccountMisconfigured, match="budget_url"):
        asyncio.run(AirbyteHook().known_account())


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://u:{SECRET}@host",
        f"{SECRET}",
        f"redis://:{SECRET}@host:port/x",
        f"redis://:{SECRET}@host/five",
        f"redis://:{SECRET}@host/5/6",
        f"{URL}?no_such_option=1",
        f"rediss://:{SECRET}@host/5?ssl_cert_reqs=no_such_word",
    ],
)
def test_a_wrong_url_is_named_and_not_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, url)

    with pytest.raises(
        AccountMisconfigured, match="budget_url is not the URL"
    ) as raised:
        store_maker()

    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None


def test_a_command_that_fails_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know_the_providers()
    monkeypatch.setenv(f"{SETTING}_CMD", f"ls /nowhere/{SECRET}")

    with pytest.raises(Unreachable, match="could not be read") as raised:
        store_maker()

    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_trigger_outlasts_a_secrets_backend_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception | str] = [OSError("away"), OSError("away"), ""]

    def get(_: str, option: str, **__: object) -> str:
        answer = answers.pop(0) if option == "budget_url" else ""
        if isinstance(answer, Exception):
            raise answer

        return answer

    monkeypatch.setattr(budget_store, "conf", SimpleNamespace(get=get))

    with asyncio.Runner(loop_factory=world.new_loop) as runner:
        account = runner.run(AirbyteHook().known_account(patience=60.0))

    assert account.vendor == "Airbyte"
    assert answers == []


def test_a_lone_percent_sign_of_the_configuration_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = ConfigParser()
    read.read_string(f"[async_triggers]\nbudget_url = redis://:{SECRET}%40@host/5\n")
    monkeypatch.setattr(budget_store, "conf", read)

    with pytest.raises(AccountMisconfigured, match='write "%%" for each "%"') as raised:
        store_maker()

    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_secret_that_no_backend_has_does_not_switch_the_budget_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{SETTING}_SECRET", "budget/redis")

    with pytest.raises(Unreachable, match="budget_url_secret is set, and Airflow's"):
        store_maker()


def test_a_url_counts_before_a_secret_that_no_backend_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SETTING, URL)
    monkeypatch.setenv(f"{SETTING}_SECRET", "budget/redis")

    assert store_maker() is not None


def test_certificates_are_read_once_and_before_the_loop_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = list[ssl.SSLContext]()

    def create() -> ssl.SSLContext:
        read.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return read[-1]

    monkeypatch.setattr(ssl, "create_default_context", create)
    monkeypatch.setenv(SETTING, "rediss://127.0.0.1:9/5")

    make = store_maker()
    assert make is not None
    assert len(read) == 1
    for _ in range(2):
        pool: Any = cast("LimitsStore", make())._pool
        assert pool.make_connection().ssl_context.get() is read[0]
    assert read[0].verify_mode is ssl.CERT_REQUIRED
    assert read[0].check_hostname


def test_a_file_of_certificates_that_is_missing_fails_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SETTING, "rediss://127.0.0.1:9/5?ssl_ca_certs=/nowhere.pem")

    assert store_maker() is not None


def test_workers_and_triggers_share_the_budget(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[LimitsStore]()

    def make() -> LimitsStore:
        made.append(LimitsStore(MemoryStorage()))
        return made[-1]

    monkeypatch.setattr("async_triggers.deferral.hook.store_maker", lambda: make)

    async def work(leased: LeasedAccount) -> int:
        return len(shared_accounts())

    async def wait() -> None:
        leased = AirbyteHook().hold(await AirbyteHook().known_account())
        leased.release(0.0)
        await leased.shared.wait_closed()

    assert AirbyteHook().run(work) == 1
    assert len(made) == 1
    asyncio.run(wait())
    assert len(made) == 2


# What `limits` does -------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    """Let `limits` go by a virtual clock."""
    with asyncio.Runner(loop_factory=ThreadlessClockLoop) as runner:
        loop = runner.get_loop()
        monkeypatch.setattr("limits.aio.storage.memory.time", a_clock(loop))
        monkeypatch.setattr(budget_store, "time", a_clock(loop))
        yield runner


def a_clock(loop: asyncio.AbstractEventLoop, ahead: float = 0.0) -> Any:
    """Return what a host has in the place of `time`."""
    return SimpleNamespace(time=lambda: 1_795_000_000.0 + loop.time() + ahead)


def test_no_window_holds_more_and_the_wait_is_known(clock: asyncio.Runner) -> None:
    async def main() -> None:
        loop, store = asyncio.get_running_loop(), LimitsStore(MemoryStorage())
        taken = list[float]()
        while len(taken) < 100:
            wait = await store.take("key", 10, 60)
            if wait:
                await asyncio.sleep(wait + 0.001)
            else:
                taken.append(loop.time())
                await asyncio.sleep(0.5)

        for first, begin in enumerate(taken):
            assert sum(when < begin + 60.0 for when in taken[first:]) <= 10

        # Each wait was as long as it had to be.
        assert taken[-1] < 10 * 61.0

    clock.run(main())


def test_a_smaller_part_of_the_same_window_is_full_sooner(
    clock: asyncio.Runner,
) -> None:
    async def main() -> None:
        store = LimitsStore(MemoryStorage())
        polls = [await store.take("key", 24, 360) for _ in range(30)]
        assert [wait == 0.0 for wait in polls].index(False) == 24
        starts = [await store.take("key", 27, 360) for _ in range(6)]
        assert [wait == 0.0 for wait in starts].index(False) == 3
        assert max(*polls, *starts) == pytest.approx(360.0)

    clock.run(main())


@pytest.mark.parametrize("ahead", [30.0, 86_400.0])
def test_a_host_whose_clock_is_behind_does_not_wait_for_that_of_another(
    ahead: float, clock: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop, store = asyncio.get_running_loop(), LimitsStore(MemoryStorage())
        with monkeypatch.context() as there:
            there.setattr("limits.aio.storage.memory.time", a_clock(loop, ahead))
            assert [await store.take("key", 3, 360) for _ in range(3)] == [0.0] * 3
        with pytest.raises(ClocksDiffer):
            await store.take("key", 3, 360)

    clock.run(main())


def test_clocks_may_differ_by_a_second(
    clock: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop, store = asyncio.get_running_loop(), LimitsStore(MemoryStorage())
        for ahead in (1.0, 0.0):
            with monkeypatch.context() as there:
                there.setattr("limits.aio.storage.memory.time", a_clock(loop, ahead))
                there.setattr(budget_store, "time", a_clock(loop, ahead))
                for _ in range(4):
                    wait = await store.take("key", 3, 360)
        assert wait == pytest.approx(361.0)

    clock.run(main())
