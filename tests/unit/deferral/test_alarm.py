"""SIGALRM while an event loop runs: real signals, real loops."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time.timeout import timeout as airflow_timeout

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.alarm import Alarm
from async_triggers.deferral.compat import AirflowTaskTimeout
from tests.clock import VirtualClockLoop

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from tests.unit.deferral.stage import World


def ring() -> None:
    signal.raise_signal(signal.SIGALRM)


def ring_in(seconds: float, how: str) -> None:
    """Let the alarm come while the running loop waits, or while it runs a callback."""
    loop = asyncio.get_running_loop()
    if how == "callback":
        loop.call_later(seconds, ring)
        return

    async def later() -> None:
        await asyncio.sleep(seconds)
        ring()

    loop.later = loop.create_task(later())  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def handler() -> Iterator[Callable[..., Any]]:
    """Airflow's own handler, in the place of that of the tests."""
    handler = airflow_timeout(1, "Timeout").handle_timeout
    before = signal.signal(signal.SIGALRM, handler)
    yield handler
    assert signal.getsignal(signal.SIGALRM) == handler
    signal.signal(signal.SIGALRM, before)


def run(work: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(work())


every_place = pytest.mark.parametrize("how", ["callback", "task"])


@every_place
def test_it_ends_what_the_loop_does_and_is_raised_outside(how: str) -> None:
    ends: list[str] = []

    def whole() -> None:
        with Alarm() as alarm:

            async def work() -> None:
                ring_in(5.0, how)
                try:
                    async with alarm.timeout():
                        await asyncio.sleep(1000.0)
                except TimeoutError:
                    ends.append(f"at {asyncio.get_running_loop().time():.0f}")

            run(work)
            ends.append("out of the loop")

    with pytest.raises(AirflowTaskTimeout, match="Timeout"):
        whole()

    assert ends == ["at 5", "out of the loop"]


def test_it_may_be_met() -> None:
    with Alarm() as alarm:
        ring()
        assert alarm.has_come
        alarm.is_met = True


def test_it_comes_before_the_loop() -> None:
    with Alarm() as alarm:
        ring()

        async def work() -> None:
            async with alarm.timeout():
                await asyncio.sleep(1000.0)

        with pytest.raises(TimeoutError):
            run(work)

        alarm.is_met = True


@every_place
def test_what_is_disarmed_is_not_cut_off(how: str) -> None:
    with Alarm() as alarm:

        async def work() -> float:
            ring_in(5.0, how)
            async with alarm.timeout(8.0):
                await asyncio.sleep(4.0)
                alarm.disarm()
                await asyncio.sleep(100.0)

            return asyncio.get_running_loop().time()

        assert run(work) == 104.0
        assert alarm.has_come
        alarm.is_met = True


def test_a_timeout_of_its_own() -> None:
    with Alarm() as alarm:

        async def work() -> float:
            with pytest.raises(TimeoutError):
                async with alarm.timeout(8.0):
                    await asyncio.sleep(100.0)

            return asyncio.get_running_loop().time()

        assert run(work) == 8.0
        assert not alarm.has_come


def test_it_goes_before_another_error() -> None:
    """A sensor takes an error of the vendor for a late answer, and would go on."""

    def whole() -> None:
        with Alarm():
            ring()
            raise ConnectionError

    with pytest.raises(AirflowTaskTimeout):
        whole()


def test_within_another_the_outer_one_hears_it() -> None:
    with Alarm() as outer:
        with Alarm() as inner:
            ring()

        assert outer.has_come
        assert not inner.has_come
        outer.is_met = True


def test_a_handler_that_does_not_raise_ends_nothing() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    with Alarm() as alarm:

        async def work() -> float:
            ring_in(5.0, "callback")
            async with alarm.timeout():
                await asyncio.sleep(10.0)

            return asyncio.get_running_loop().time()

        assert run(work) == 10.0

    signal.signal(signal.SIGALRM, before)
    assert heard == [signal.SIGALRM]


@pytest.mark.parametrize("place", [signal.SIG_DFL, signal.SIG_IGN])
def test_without_a_handler_nothing_is_changed(
    handler: Callable[..., Any], place: Any
) -> None:
    signal.signal(signal.SIGALRM, place)
    with Alarm():
        assert signal.getsignal(signal.SIGALRM) == place

    signal.signal(signal.SIGALRM, handler)


def test_no_other_thread_hears_it(handler: Callable[..., Any]) -> None:
    seen: list[object] = []

    def work() -> None:
        with Alarm():
            seen.append(signal.getsignal(signal.SIGALRM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [handler]


@every_place
def test_a_call_through_the_hook_ends(world: World, how: str) -> None:
    hook = AirbyteHook("airbyte_default")
    ends: list[str] = []

    async def call(leased: LeasedAccount) -> None:
        ring_in(5.0, how)
        try:
            await asyncio.sleep(1000.0)
        finally:
            ends.append(f"at {world.elapsed():.0f}")

    with pytest.raises(AirflowTaskTimeout) as raised:
        hook.run(call)

    assert ends == ["at 5"]
    assert raised.value.__cause__ is None


def test_a_call_that_is_over_when_it_comes_fails_too(world: World) -> None:
    async def call(leased: LeasedAccount) -> str:
        ring()
        return "done"

    with pytest.raises(AirflowTaskTimeout):
        AirbyteHook("airbyte_default").run(call)


class TestFromARunningLoop:
    """A call through the hook blocks the loop that it is made from."""

    @pytest.fixture
    def _no_blocking_calls(self) -> None:
        """Let it."""

    def test_a_call_through_the_hook_ends(self, world: World) -> None:
        main = threading.get_ident()

        async def call(leased: LeasedAccount) -> None:
            signal.pthread_kill(main, signal.SIGALRM)
            await asyncio.sleep(1000.0)

        async def outer() -> None:
            AirbyteHook("airbyte_default").run(call)

        with pytest.raises(AirflowTaskTimeout):
            run(outer)
