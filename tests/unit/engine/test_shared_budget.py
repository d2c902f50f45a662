from __future__ import annotations

import asyncio
import logging
import math
import random
from bisect import bisect_left
from collections import defaultdict
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import cast

import pytest

from async_triggers.engine import shared_budget
from async_triggers.engine.accounts import hold, lease, shared_accounts
from async_triggers.engine.errors import RateLimited
from async_triggers.engine.limiter import Limiter, TurnedAway, urgent
from async_triggers.engine.shared_budget import (
    LONGEST,
    NOTICE_AFTER,
    PATIENCE,
    REST,
    TIMEOUT,
    SharedBudget,
    key_of,
)
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Route,
    Vendor,
)
from tests.clock import run_virtually
from tests.unit.engine.fake import FEED, FakeVendor, an_account

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

VENDOR = cast("Vendor", FakeVendor(FEED))
SECRET = "the-secret-of-the-account"
TRIAL = Budget(requests=500, per=3600.0, share=0.6, polls=16, starts=4)
MOST, WINDOW = 30, 360
"""What a trial account has in each window: 300 requests in an hour."""


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeStore:
    """A moving window on the virtual clock, and what can go wrong with it."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.tries = 0
        self.closed = 0
        self.hangs = False
        self.failure: Exception | None = None

    async def take(self, key: str, most: int, seconds: int) -> float:
        self.tries += 1
        if self.hangs:
            await asyncio.sleep(math.inf)
        if self.failure is not None:
            raise self.failure
        await asyncio.sleep(0.001)
        taken = self.taken[key]
        if len(taken) < most or taken[-most] <= now() - seconds:
            taken.append(now())
            return 0.0
        return taken[-most] + seconds - now()

    async def close(self) -> None:
        self.closed += 1

    @property
    def all(self) -> list[float]:
        return sorted(when for taken in self.taken.values() for when in taken)


def a_process(store: FakeStore, budget: Budget = TRIAL) -> Limiter:
    account = an_account(budget=budget)
    return Limiter(budget, SharedBudget(account, store))


async def send(limiter: Limiter, lane: Lane, sent: list[float] | None = None) -> None:
    async with limiter.admit(lane):
        if sent is not None:
            sent.append(now())


async def spend(store: FakeStore, lane: Lane, count: int) -> None:
    """Let other processes spend so many requests, each one of a separate process."""
    for _ in range(count):
        await send(a_process(store), lane)


@pytest.mark.parametrize(
    "budget",
    [
        TRIAL,
        Budget(requests=5000, per=60.0, share=0.05),
        Budget(requests=7, per=60.0, share=1.0),
        Budget(requests=1, per=3600.0, share=0.1),
    ],
    ids=str,
)
def test_all_processes_together_stay_inside_the_limit(budget: Budget) -> None:
    async def main() -> None:
        dice = random.Random(7)
        store, sent = FakeStore(), list[float]()
        processes = [a_process(store, budget) for _ in range(18)]

        async def work(limiter: Limiter) -> None:
            while now() < budget.per * 2.5:
                lane = dice.choice(list(Lane))
                with suppress(RateLimited):
                    await send(limiter, lane, sent)
                await asyncio.sleep(dice.uniform(0, budget.per / 60))

        await asyncio.gather(*map(work, processes))
        allowed = max(1, int(budget.requests * budget.share))
        for first, begin in enumerate(sent):
            assert bisect_left(sent, begin + budget.per) - first <= allowed

        # And it is spent: short windows give away less than a tenth.
        assert len(sent) >= 2 * allowed * 0.9 - 1

    run_virtually(main())


@virtual
async def test_polls_leave_room_for_starts_of_other_processes() -> None:
    store = FakeStore()
    poller = a_process(store)
    polls = [asyncio.ensure_future(send(poller, Lane.POLL)) for _ in range(100)]
    polls += [
        asyncio.ensure_future(send(a_process(store), Lane.SHARED)) for _ in range(100)
    ]
    await asyncio.sleep(60.0)
    assert len(store.all) == MOST - 3

    began = now()
    await send(a_process(store), Lane.START)
    assert now() - began < 1.0
    # What comes back is not the polls' before the starts have had theirs.
    for _ in range(2):
        await send(a_process(store), Lane.CANCEL)
    assert now() - began < 1.0
    for each in polls:
        each.cancel()


@virtual
async def test_starts_leave_room_for_polls_of_other_processes() -> None:
    store = FakeStore()
    await spend(store, Lane.START, 27)
    with pytest.raises(RateLimited):
        await send(a_process(store), Lane.START)

    began = now()
    for _ in range(3):
        await send(a_process(store), Lane.SHARED)
    assert now() - began < 1.0


@pytest.mark.parametrize("is_urgent", [True, False])
@virtual
async def test_polls_that_wait_for_the_budget_hold_no_look_up(is_urgent: bool) -> None:
    store = FakeStore()
    await spend(store, Lane.LOOK, 24)
    await spend(store, Lane.POLL, 3)
    limiter = a_process(store)
    polls = [
        asyncio.ensure_future(send(limiter, Lane.POLL)) for _ in range(TRIAL.polls)
    ]
    await asyncio.sleep(60.0)
    assert limiter.statistics().under_way[Lane.POLL] == TRIAL.polls

    began = now()
    with urgent() if is_urgent else nullcontext():
        await send(limiter, Lane.LOOK)
    assert now() - began < 1.0
    await asyncio.gather(*polls)
    assert limiter.statistics().under_way[Lane.POLL] == 0


@virtual
async def test_looks_that_wait_for_the_budget_hold_no_poll_up() -> None:
    store = FakeStore()
    await spend(store, Lane.LOOK, 27)
    # The first of them comes back before the patience of a look ends.
    await asyncio.sleep(WINDOW - PATIENCE / 2)
    limiter = a_process(store)
    looks = [
        asyncio.ensure_future(send(limiter, Lane.LOOK)) for _ in range(TRIAL.polls)
    ]
    await asyncio.sleep(1.0)

    began = now()
    await send(limiter, Lane.POLL)
    assert now() - began < 1.0
    await asyncio.gather(*looks, return_exceptions=True)


@virtual
async def test_a_start_is_given_back_to_its_task_and_a_poll_waits() -> None:
    store = FakeStore()
    await spend(store, Lane.LOOK, 27)
    await spend(store, Lane.SHARED, 3)
    began = now()
    limiter = a_process(store)
    poll = asyncio.ensure_future(send(limiter, Lane.SHARED))
    with pytest.raises(RateLimited, match="all processes share is spent") as raised:
        await send(limiter, Lane.START)

    assert now() - began <= PATIENCE
    # The same task does not come back at once, and not all of them together.
    wait = raised.value.retry_after
    assert wait is not None
    assert WINDOW - PATIENCE - 1.0 <= wait < 2 * WINDOW + 20.0
    assert raised.value.is_guess
    assert not raised.value.ambiguous
    assert limiter.statistics().under_way[Lane.START] == 0

    await poll
    assert now() - began == pytest.approx(WINDOW, abs=20.0)


@virtual
async def test_those_who_wait_for_a_place_in_the_queue_wait_no_longer() -> None:
    store = FakeStore()
    await spend(store, Lane.LOOK, 27)
    limiter = a_process(store)
    looks = [asyncio.ensure_future(send(limiter, Lane.LOOK)) for _ in range(16)]
    done, _ = await asyncio.wait(looks, timeout=PATIENCE + 1.0)

    assert len(done) == 16
    assert all(isinstance(each.exception(), RateLimited) for each in done)


@virtual
async def test_an_urgent_cancel_is_counted_and_waits_for_nothing() -> None:
    store = FakeStore()
    await spend(store, Lane.LOOK, 26)
    with urgent():
        for _ in range(9):
            began = now()
            await send(a_process(store), Lane.CANCEL)
            assert now() - began < 0.01

    assert len(store.all) == MOST


@virtual
async def test_one_process_serves_its_requests_in_their_order() -> None:
    store = FakeStore()
    limiter = a_process(store)
    order = list[int]()

    async def poll(number: int) -> None:
        async with limiter.admit(Lane.POLL):
            order.append(number)

    await spend(store, Lane.LOOK, 27)
    await asyncio.gather(*(poll(number) for number in range(40)))
    assert order == sorted(order)


@pytest.mark.parametrize("hangs", [True, False])
@virtual
async def test_without_the_store_each_process_takes_its_share(
    hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, shared_budget.__name__)
    store = FakeStore()
    store.hangs = hangs
    store.failure = ConnectionError(f"redis://:{SECRET}@host is away")
    limiter = a_process(store)
    alone = Limiter(TRIAL)
    sent, as_today = list[float](), list[float]()
    await asyncio.gather(
        *(send(limiter, Lane.POLL, sent) for _ in range(60)),
        *(send(alone, Lane.POLL, as_today) for _ in range(60)),
    )

    # Those who find out wait for the store, and those who come meanwhile.
    late = [mine - theirs for mine, theirs in zip(sent, as_today, strict=True)]
    assert max(late) <= TIMEOUT + 0.01
    assert store.tries <= 1 + (sent[-1] // REST)
    (line,) = caplog.messages
    assert "tries the store every 30 s" in line
    assert ("TimeoutError" if hangs else "ConnectionError") in line
    assert SECRET not in caplog.text

    store.hangs, store.failure = False, None
    await asyncio.sleep(REST)
    await send(limiter, Lane.POLL)
    await send(limiter, Lane.POLL)
    assert len(store.all) == 2
    assert len(caplog.messages) == 2
    assert "can be used again" in caplog.messages[1]


@virtual
async def test_one_request_finds_out_whether_the_store_is_back() -> None:
    store = FakeStore()
    store.hangs = True
    limiter = a_process(store)
    await send(limiter, Lane.POLL)
    await asyncio.sleep(REST)
    tries, began = store.tries, now()
    sent = list[float]()
    await asyncio.gather(
        send(limiter, Lane.START, sent), send(limiter, Lane.POLL, sent)
    )

    assert store.tries == tries + 1
    assert [when - began < 0.01 for when in sorted(sent)] == [True, False]


@virtual
async def test_the_log_says_that_polls_wait_for_the_budget(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, shared_budget.__name__)
    store = FakeStore()
    limiter = a_process(store)
    await spend(store, Lane.LOOK, 27)
    await spend(store, Lane.POLL, 3)
    poll = asyncio.ensure_future(send(limiter, Lane.SHARED))
    await asyncio.sleep(NOTICE_AFTER)
    assert caplog.messages == []
    await asyncio.sleep(2 * LONGEST)
    (line,) = caplog.messages
    assert (
        "polls wait for the budget that all processes share (30 requests in 36" in line
    )

    # Those that pass meanwhile have what came back with the first.
    await poll
    await asyncio.gather(*(send(limiter, Lane.POLL) for _ in range(60)))
    assert len(caplog.messages) == 1

    await asyncio.sleep(WINDOW)
    await send(limiter, Lane.POLL)
    assert "polls wait no longer" in caplog.messages[1]
    for _ in range(3):
        await send(limiter, Lane.POLL)
        await asyncio.sleep(WINDOW)
    assert len(caplog.messages) == 2


@virtual
async def test_the_log_says_nothing_of_short_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FakeStore()
    limiter = a_process(store, Budget(requests=100, per=60.0, share=1.0))
    for _ in range(5):
        await asyncio.gather(*(send(limiter, Lane.POLL) for _ in range(30)))
        await asyncio.sleep(600.0)

    assert limiter.statistics().granted == 150
    assert caplog.messages == []


@virtual
async def test_a_cancelled_poll_that_waits_holds_nothing_up() -> None:
    store = FakeStore()
    limiter = a_process(store)
    await spend(store, Lane.LOOK, 27)
    await spend(store, Lane.POLL, 3)
    first = asyncio.ensure_future(send(limiter, Lane.POLL))
    second = asyncio.ensure_future(send(limiter, Lane.POLL))
    await asyncio.sleep(1.0)
    first.cancel()
    await asyncio.wait([first])
    await second

    assert first.cancelled()
    assert limiter.statistics().under_way[Lane.POLL] == 0
    assert limiter.statistics().granted == 1


@virtual
async def test_a_pause_holds_what_waited_for_the_budget() -> None:
    store = FakeStore()
    await spend(store, Lane.LOOK, 27)
    await spend(store, Lane.POLL, 3)
    limiter = a_process(store)
    sent = list[float]()
    poll = asyncio.ensure_future(send(limiter, Lane.POLL, sent))
    await asyncio.sleep(1.0)
    limiter.pause(3600.0)
    await asyncio.sleep(1800.0)
    limiter.pause(3600.0)
    await poll

    assert sent[0] >= 1801.0 + 3600.0


@pytest.mark.parametrize("lane", [Lane.POLL, Lane.LOOK])
@virtual
async def test_what_a_pause_holds_up_then_is_in_no_urgent_looks_way(lane: Lane) -> None:
    store = FakeStore()
    store.hangs = True
    limiter = a_process(store)
    waiting = [asyncio.ensure_future(send(limiter, lane)) for _ in range(TRIAL.polls)]
    await asyncio.sleep(TIMEOUT / 2)
    limiter.pause(3600.0)
    await asyncio.sleep(60.0)
    assert limiter.statistics().under_way[lane] == TRIAL.polls

    began = now()
    with urgent():
        await send(limiter, Lane.LOOK)
    assert now() - began < 1.0
    await asyncio.gather(*waiting)
    assert limiter.statistics().under_way[lane] == 0


@virtual
async def test_a_start_that_waited_for_the_budget_waits_for_no_long_pause() -> None:
    store = FakeStore()
    store.hangs = True
    limiter = a_process(store)
    start = asyncio.ensure_future(send(limiter, Lane.START))
    await asyncio.sleep(TIMEOUT / 2)
    limiter.pause(3600.0)

    with pytest.raises(TurnedAway):
        await start
    assert now() < 2 * TIMEOUT
    assert limiter.statistics().under_way[Lane.START] == 0


@virtual
async def test_nothing_is_spare_while_requests_wait_for_the_budget() -> None:
    store = FakeStore()
    limiter = a_process(store)
    await spend(store, Lane.LOOK, 27)
    assert limiter.left == 1.0
    with pytest.raises(RateLimited):
        await send(limiter, Lane.LOOK)

    assert limiter.left == 0.0
    await asyncio.sleep(WINDOW + 1.0)
    assert limiter.left == 1.0


@virtual
async def test_a_limit_that_the_vendor_says_is_smaller_counts() -> None:
    store = FakeStore()
    budget = replace(TRIAL, requests=20_000)
    limiter = a_process(store, budget)
    limiter.observe(left=499.0, allowed=500.0)
    for _ in range(27):
        await send(limiter, Lane.LOOK)
    with pytest.raises(RateLimited):
        await send(a_known(store, budget), Lane.LOOK)


def a_known(store: FakeStore, budget: Budget) -> Limiter:
    limiter = a_process(store, budget)
    limiter.observe(left=499.0, allowed=500.0)
    return limiter


def test_the_key_is_the_accounts_and_holds_no_secret() -> None:
    credentials = Credentials(kind=CredentialKind.BASIC, login="key", secret=SECRET)
    account = an_account(credentials=credentials)
    other = replace(credentials, secret="another")

    def same(one: Account, two: Account) -> bool:
        return key_of(one) == key_of(two)

    assert SECRET not in key_of(account)
    assert credentials.fingerprint not in key_of(account)
    assert same(account, replace(account, route=Route(verify=False)))
    assert not same(account, replace(account, credentials=other))
    assert not same(account, replace(account, base_url="http://other.test"))
    assert not same(account, replace(account, vendor="Other"))
    named = replace(account, account_id="7")
    assert same(named, replace(named, credentials=other))
    assert not same(named, replace(named, account_id="8"))


@virtual
async def test_the_store_is_closed_with_the_account() -> None:
    store = FakeStore()
    async with lease(VENDOR, an_account(), linger=0.0, make_store=lambda: store):
        assert store.closed == 0

    assert store.closed == 1
    assert shared_accounts() == []


@virtual
async def test_a_store_that_cannot_be_closed_holds_nothing_up() -> None:
    class Sticky(FakeStore):
        async def close(self) -> None:
            await asyncio.sleep(math.inf)

    async with lease(VENDOR, an_account(), linger=0.0, make_store=Sticky):
        pass

    assert now() <= TIMEOUT


@virtual
async def test_a_connection_that_has_changed_keeps_its_store() -> None:
    made = list[FakeStore]()

    def make() -> FakeStore:
        made.append(FakeStore())
        return made[-1]

    async def read() -> Account:
        return an_account(account_id="8")

    held = hold(VENDOR, an_account(account_id="7"), reload=read, make_store=make)
    await held.follow()
    await send(held.limiter, Lane.POLL)

    assert [len(each.all) for each in made] == [0, 1]
    held.release(0.0)
    await held.shared.wait_closed()
