from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from aiohttp import web

from async_triggers.engine import accounts, backoff
from async_triggers.engine.accounts import LeasedAccount, hold, lease, shared_accounts
from async_triggers.engine.errors import (
    EngineError,
    RateLimited,
    RequestRejected,
    TransientError,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.jobs import JobState
from async_triggers.engine.limiter import urgent
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Reply,
    Request,
    Vendor,
)
from tests.clock import VirtualClockLoop, run_virtually
from tests.unit.engine.fake import FEED, FakeTransport, FakeVendor, Server, an_account

virtual = pytest.mark.asyncio(loop_factories=["virtual"])
real = pytest.mark.asyncio

ASK = Request(method="GET", path="/jobs/1", about="job 1", note={"kind": "x"})
START = replace(ASK, method="POST", lane=Lane.START)
CANCEL = replace(ASK, method="DELETE", lane=Lane.CANCEL)
VENDOR = cast("Vendor", FakeVendor(FEED))


def now() -> float:
    return asyncio.get_running_loop().time()


class Script(FakeTransport):
    """Answers as told, one answer after the other, then well."""

    def __init__(self, account: LeasedAccount, *answers: EngineError) -> None:
        super().__init__(FakeVendor(FEED), account.account, Server())
        self.limiter = account.limiter
        self.answers = list(answers)
        self.asked: list[float] = []

    async def send(self, request: Request, *, lane: Lane | None = None) -> Reply:
        self.asked.append(now())
        if self.answers:
            raise self.answers.pop(0)

        return Reply(200, {}, b"{}")


def follow(account: LeasedAccount, *answers: EngineError) -> Script:
    script = Script(account, *answers)
    account.shared.transport = script
    return script


class TestLease:
    @virtual
    async def test_the_same_account_is_shared(self) -> None:
        async with (
            lease(VENDOR, an_account()) as one,
            lease(VENDOR, an_account()) as two,
        ):
            assert one is two
            assert shared_accounts() == [one.shared]

    @pytest.mark.parametrize(
        "changes",
        [
            {"base_url": "http://other.test"},
            {"account_id": "7"},
            {"vendor": "Other"},
            {"credentials": Credentials(kind=CredentialKind.BEARER, secret="x")},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    @virtual
    async def test_other_accounts_are_not(self, changes: dict[str, Any]) -> None:
        async with (
            lease(VENDOR, an_account()) as one,
            lease(VENDOR, an_account(**changes)) as two,
        ):
            assert one is not two
            assert len(shared_accounts()) == 2

    def test_what_tells_accounts_apart_is_worked_out_once(self) -> None:
        account = an_account()

        assert account.identity is account.identity
        assert replace(account, account_id="7").identity != account.identity

    @virtual
    async def test_is_held_until_it_is_released(self) -> None:
        held = hold(VENDOR, an_account())
        async with lease(VENDOR, an_account()) as leased:
            assert leased is held

        await asyncio.sleep(1000.0)
        assert shared_accounts() == [held.shared]
        held.release(5.0)
        await asyncio.sleep(6.0)
        assert shared_accounts() == []

    def test_other_loops_have_their_own(self) -> None:
        async def get() -> LeasedAccount:
            async with lease(VENDOR, an_account()) as leased:
                return leased

        assert run_virtually(get()) is not run_virtually(get())

    def test_a_loop_that_is_gone_leaves_nothing_behind(self) -> None:
        before = len(accounts._accounts)

        async def wait() -> None:
            async with lease(VENDOR, an_account()) as leased:
                await leased.poller.wait("job 1", interval=5.0)

        async def main() -> None:
            task = asyncio.get_running_loop().create_task(wait())
            await asyncio.sleep(1.0)
            assert not task.done()

        run_virtually(main())
        gc.collect()
        assert len(accounts._accounts) <= before

    @virtual
    async def test_is_kept_for_a_while_and_then_closed(self) -> None:
        async with lease(VENDOR, an_account(), linger=30.0) as first:
            pass

        await asyncio.sleep(20.0)
        async with lease(VENDOR, an_account(), linger=30.0) as second:
            assert second.shared is first.shared
            await asyncio.sleep(100.0)

        await asyncio.sleep(29.0)
        assert shared_accounts() == [first.shared]
        await asyncio.sleep(2.0)
        assert shared_accounts() == []
        async with lease(VENDOR, an_account()) as third:
            assert third is not first

    @virtual
    async def test_is_closed_at_once_without_linger(self) -> None:
        async with lease(VENDOR, an_account(), linger=0.0):
            pass

        assert shared_accounts() == []
        assert now() == 0.0

    @virtual
    async def test_leaving_without_linger_waits_for_nobody_else(self) -> None:
        loop = asyncio.get_running_loop()

        async def hold() -> None:
            async with lease(VENDOR, an_account(), linger=0.0):
                await asyncio.sleep(100.0)

        async with lease(VENDOR, an_account(), linger=0.0):
            other = loop.create_task(hold())

        assert now() == 0.0
        await other

    @virtual
    async def test_cancel_during_the_close_ends_the_wait(self) -> None:
        loop = asyncio.get_running_loop()

        async def use() -> None:
            async with lease(VENDOR, an_account(), linger=0.0):
                loop.call_soon(task.cancel)

        task = loop.create_task(use())
        await asyncio.wait([task])
        await asyncio.sleep(0.1)

        assert task.cancelled()
        assert shared_accounts() == []

    @virtual
    async def test_repr_tells_the_state(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            assert repr(leased) == (
                "<LeasedAccount Fake at fake.test [1 holds, 0 errands]>"
            )
            assert repr(leased.shared).startswith(
                f"<SharedAccount Fake at fake.test [{leased!r}] <Poller ["
            )


class TestCall:
    @pytest.mark.parametrize("request_", [ASK, CANCEL], ids=["read", "cancel"])
    @virtual
    async def test_asks_again_after_trouble(self, request_: Request) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(
                leased,
                VendorBroken("5", ambiguous=True),
                Unreachable("6"),
                Unreachable("7"),
            )
            reply = await leased.call(request_)

            assert reply.status == 200
            waits = [
                b - a for a, b in zip(script.asked, script.asked[1:], strict=False)
            ]
            assert [0.5, 1.0, 2.0] <= waits <= [1.0, 2.0, 4.0]

    @virtual
    async def test_gives_up_after_so_many_attempts(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased, *[Unreachable(str(n)) for n in range(9)])
            with pytest.raises(Unreachable, match="2"):
                await leased.call(ASK, attempts=3)

            assert len(script.asked) == 3

    @pytest.mark.parametrize(("seconds", "attempts"), [(0.0, 1), (3.0, 3), (None, 4)])
    @virtual
    async def test_a_caller_that_can_wait_elsewhere_bounds_the_time(
        self, seconds: float | None, attempts: int
    ) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased, *[Unreachable(str(n)) for n in range(9)])
            with pytest.raises(Unreachable), backoff.repeating_for(seconds):
                await leased.call(ASK)

            assert len(script.asked) == attempts
            assert now() <= (8.0 if seconds is None else seconds)

    @virtual
    async def test_a_start_that_may_have_worked_is_not_repeated(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased, Unreachable("lost", ambiguous=True))
            with pytest.raises(Unreachable):
                await leased.call(START)

            assert len(script.asked) == 1

    @virtual
    async def test_a_start_that_never_left_is_repeated(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased, Unreachable("refused"))
            await leased.call(START)

            assert len(script.asked) == 2

    @virtual
    async def test_a_refusal_is_not_repeated(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased, RequestRejected("no"))
            with pytest.raises(RequestRejected):
                await leased.call(ASK)

            assert len(script.asked) == 1

    @pytest.mark.parametrize(("asked", "attempts"), [(15.0, 2), (25.0, 1)])
    @virtual
    async def test_waits_as_long_as_the_vendor_asks_within_patience(
        self, asked: float, attempts: int
    ) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased, RateLimited("slow down", retry_after=asked))
            try:
                await leased.call(START, patience=20.0)
            except TransientError as error:
                assert error.retry_after == asked  # noqa: PT017 - in one of two cases

            assert len(script.asked) == attempts
            assert now() == (asked if attempts == 2 else 0.0)

    @virtual
    async def test_a_pause_that_others_met_is_not_waited_for_in_silence(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            script = follow(leased)
            leased.limiter.pause(3600.0)
            with pytest.raises(RateLimited) as caught:
                await leased.call(START)

            assert caught.value.retry_after == 3600.0
            assert script.asked == []


class TestErrand:
    @virtual
    async def test_an_errand_survives_its_caller_and_holds_the_account(self) -> None:
        loop = asyncio.get_running_loop()
        done: list[float] = []

        async def work() -> None:
            await asyncio.sleep(100.0)
            done.append(now())

        async def call() -> None:
            async with lease(VENDOR, an_account(), linger=1.0) as leased:
                await asyncio.shield(leased.run_errand(work(), "errand"))

        caller = loop.create_task(call())
        await asyncio.sleep(1.0)
        caller.cancel()
        await asyncio.sleep(50.0)
        (leased,) = shared_accounts()
        assert "[0 leases" not in repr(leased)
        assert "1 errands" in repr(leased)
        await asyncio.sleep(51.0)

        assert done == [100.0]
        assert caller.cancelled()
        assert shared_accounts() == []

    @virtual
    @pytest.mark.parametrize("is_urgent", [True, False])
    async def test_a_pause_is_passed_by_what_is_urgent_alone(
        self, *, is_urgent: bool
    ) -> None:
        async with lease(VENDOR, an_account(), linger=0.0) as leased:
            leased.shared.transport = Script(leased)
            leased.limiter.pause(3600.0)
            if is_urgent:
                with urgent():
                    await leased.call(CANCEL)
            else:
                with pytest.raises(RateLimited):
                    await leased.call(CANCEL)

            assert now() == 0.0

    @virtual
    async def test_an_error_that_nobody_looks_at_makes_no_noise(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            msg = "the vendor is away"
            raise Unreachable(msg)

        # What other tests left would be heard below.
        gc.collect()
        caplog.clear()

        async with lease(VENDOR, an_account(), linger=0.0) as leased:
            leased.run_errand(work(), "errand")
            await asyncio.sleep(1.0)

        gc.collect()
        assert caplog.text == ""


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response([])


async def serve() -> tuple[web.ServerRunner, str]:
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


class TestShutdown:
    @pytest.mark.parametrize("linger", [0.0, 30.0])
    def test_waiters_end_by_cancellation_when_the_loop_ends(
        self, linger: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ends: list[str] = []

        async def wait(vendor: Vendor, account: Account) -> None:
            try:
                async with lease(vendor, account, linger=linger) as leased:
                    await leased.poller.wait("job 1", interval=0.01, seen_at=1.0)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            except BaseException as error:
                ends.append(repr(error))
                raise

        async def main() -> None:
            runner, url = await serve()
            vendor = FakeVendor()
            vendor.grid_floor = 0.01
            account = an_account(base_url=url)
            loop = asyncio.get_running_loop()
            for _ in range(20):
                loop.create_task(wait(cast("Vendor", vendor), account))  # noqa: RUF006

            def has_begun() -> bool:
                return any(
                    each.poller.statistics().rounds for each in shared_accounts()
                )

            while not has_begun():  # noqa: ASYNC110 - of no task of ours
                await asyncio.sleep(0)

            await runner.cleanup()

        with asyncio.Runner() as runner:
            runner.run(main())

        gc.collect()
        assert ends == ["cancelled"] * 20
        assert "never retrieved" not in caplog.text
        assert "Unclosed" not in caplog.text

    @pytest.mark.parametrize("takes", [3.0, 3600.0])
    def test_the_connections_stay_open_for_a_last_request(self, takes: float) -> None:
        """Though not for long: Airflow kills what does not end."""
        events: list[tuple[str, float]] = []

        async def main() -> None:
            leased = hold(VENDOR, an_account())
            close = leased.transport.close

            async def closing() -> None:
                events.append(("closed", now()))
                await close()

            async def work() -> None:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    await asyncio.sleep(takes)
                    events.append(("done", now()))
                    raise

            leased.transport.close = closing  # type: ignore[method-assign]
            leased.run_errand(work(), "errand")
            leased.release()
            await asyncio.sleep(1.0)

        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(main())

        if takes < accounts.LAST_LEASES:
            assert events == [("done", 4.0), ("closed", 4.0)]
        else:
            assert events == [("closed", 11.0), ("done", 3601.0)]

    @pytest.mark.parametrize("first", ["keeper", "waiter"])
    @virtual
    async def test_in_any_order(self, first: str) -> None:
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            async with lease(VENDOR, an_account()) as leased:
                await leased.poller.wait("job 1", interval=5.0)

        waiter = loop.create_task(wait())
        await asyncio.sleep(0.5)
        (shared,) = shared_accounts()
        keeper = shared._keeper
        assert keeper is not None
        order = [keeper, waiter] if first == "keeper" else [waiter, keeper]
        for task in order:
            task.cancel()
            await asyncio.sleep(0)

        await asyncio.wait([keeper, waiter])
        assert keeper.cancelled()
        assert waiter.cancelled()
        assert shared_accounts() == []

    def test_who_asks_after_the_end_is_cancelled_too(self) -> None:
        async def wait(again: Callable[[], Awaitable[object]]) -> None:
            try:
                await again()
            except asyncio.CancelledError:
                await again()

        async def main() -> None:
            async with lease(VENDOR, an_account()) as leased:
                loop = asyncio.get_running_loop()
                loop.create_task(  # noqa: RUF006
                    wait(lambda: leased.poller.wait("job 1", interval=5.0))
                )
                await asyncio.sleep(1.0)
                keeper = leased.shared._keeper
                assert keeper is not None
                keeper.cancel()
                await asyncio.wait([keeper])

        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(main())


@virtual
async def test_the_keeper_polls_for_those_who_wait() -> None:
    async with lease(VENDOR, an_account(), linger=0.0) as leased:
        server = Server()
        fake = FakeTransport(cast("FakeVendor", VENDOR), leased.account, server)
        leased.poller.state.transport = fake
        server.start("job 1", lasts=50.0)
        for _ in range(2):
            job = await leased.poller.wait("job 1", interval=20.0, seen_at=server.now())
            assert job.state is JobState.SUCCEEDED
            await asyncio.sleep(10.0)


class TestARoundThatNobodyWaitsFor:
    """The vendor may have it wait for hours; nothing else may wait for it."""

    def prepare(self, leased: LeasedAccount, *, latency: float = 0.0) -> Server:
        server = Server(latency=latency)
        server.start("job 1", lasts=30.0)
        leased.poller.state.transport = FakeTransport(
            cast("FakeVendor", VENDOR), leased.account, server
        )
        return server

    @pytest.mark.parametrize("linger", [0.0, 30.0])
    @virtual
    async def test_a_pause_does_not_keep_an_account_open(self, linger: float) -> None:
        async with lease(VENDOR, an_account(), linger=linger) as leased:
            self.prepare(leased)
            leased.poller.state.transport.limiter.pause(3600.0)
            with pytest.raises(TimeoutError):
                await leased.wait("job 1", interval=20.0, patience=10.0)

        assert now() == 10.0 + (linger == 0.0)
        await asyncio.sleep(linger + 2.0)
        assert shared_accounts() == []

    @virtual
    async def test_what_the_vendor_says_is_left_does_not_either(self) -> None:
        account = an_account(budget=Budget(requests=1000, per=86_400.0))
        async with lease(VENDOR, account, linger=0.0) as leased:
            self.prepare(leased)
            leased.poller.state.transport.limiter.observe(0.0, 1000.0)
            with pytest.raises(TimeoutError):
                await leased.wait("job 1", interval=20.0, patience=10.0)

        assert now() == 11.0
        assert shared_accounts() == []

    @virtual
    async def test_a_request_without_an_answer_does_not_either(self) -> None:
        async with lease(VENDOR, an_account(), linger=0.0) as leased:
            self.prepare(leased, latency=600.0)
            with pytest.raises(TimeoutError):
                await leased.wait("job 1", interval=20.0, patience=10.0)

        assert now() == 11.0

    @virtual
    async def test_it_goes_on_for_who_comes_right_after(self) -> None:
        async with lease(VENDOR, an_account()) as leased:
            server = self.prepare(leased, latency=8.0)
            with pytest.raises(TimeoutError):
                await leased.wait("job 1", interval=20.0, patience=10.0)

        await asyncio.sleep(0.5)
        async with lease(VENDOR, an_account()) as leased:
            waiting = asyncio.ensure_future(leased.wait("job 1", interval=20.0))
            await asyncio.sleep(5.0)
            assert len(server.requests) == 1
            assert (await waiting).state is JobState.SUCCEEDED

    @virtual
    async def test_who_comes_later_has_rounds_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with lease(VENDOR, an_account()) as leased:
            server = self.prepare(leased, latency=600.0)
            with pytest.raises(TimeoutError):
                await leased.wait("job 1", interval=20.0, patience=10.0)

        await asyncio.sleep(5.0)
        server.latency = 0.0
        async with lease(VENDOR, an_account(), linger=0.0) as leased:
            job = await leased.wait("job 1", interval=20.0)
            assert job.state is JobState.SUCCEEDED

        assert now() < 60.0
        assert caplog.text == ""
