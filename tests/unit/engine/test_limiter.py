from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_triggers.engine.limiter import (
    SLOWEST,
    START_PATIENCE,
    Limiter,
    TurnedAway,
    is_urgent,
    urgent,
)
from async_triggers.engine.wire import Budget, Lane
from tests.clock import run_virtually
from tests.examples import examples

virtual = pytest.mark.asyncio(loop_factories=["virtual"])


def a_limiter(**budget: float) -> Limiter:
    settled = {"requests": 600, "per": 60.0, "share": 1.0, **budget}
    return Limiter(Budget(**settled))  # type: ignore[arg-type]


def now() -> float:
    return asyncio.get_running_loop().time()


class Callers:
    """Those who want to send, and when each was let in."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.admitted: list[tuple[float, Lane, int]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def call(self, lane: Lane = Lane.POLL, *, takes: float = 0.0) -> asyncio.Task[None]:
        number = len(self.tasks)

        async def ask() -> None:
            async with self.limiter.admit(lane):
                self.admitted.append((now(), lane, number))
                await asyncio.sleep(takes)

        task = asyncio.get_running_loop().create_task(ask())
        self.tasks.append(task)
        return task

    async def done(self) -> None:
        for task in self.tasks:
            with suppress(asyncio.CancelledError):
                await task


CALLS = st.lists(
    st.tuples(
        st.sampled_from(Lane),
        st.floats(0, 20),  # seconds until the next call
        st.floats(0, 10),  # seconds it takes
        st.one_of(st.none(), st.floats(0, 5)),  # seconds until it is cancelled
    ),
    max_size=40,
)


@examples(60)
@given(
    calls=CALLS,
    requests=st.integers(1, 100),
    share=st.floats(0.1, 1.0),
    feedback=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 200)), max_size=5),
)
def test_no_window_is_over_budget(
    calls: list[tuple[Lane, float, float, float | None]],
    requests: int,
    share: float,
    feedback: list[tuple[float, float]],
) -> None:
    async def main() -> None:
        limiter = a_limiter(requests=requests, share=share)
        callers = Callers(limiter)
        loop = asyncio.get_running_loop()
        for left, when in feedback:
            loop.call_later(when, limiter.observe, left, 100.0)

        for lane, gap, takes, patience in calls:
            task = callers.call(lane, takes=takes)
            if patience is not None:
                loop.call_later(patience, task.cancel)

            await asyncio.sleep(gap)

        await callers.done()
        times = [when for when, _, _ in callers.admitted]
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                grants = last - first + 1
                window = times[last] - start
                assert grants <= limiter.burst + limiter.rate * window + 1e-6

        allowed = max(1, math.floor(requests * share))
        for start in times:
            assert sum(start <= when < start + 60.0 for when in times) <= allowed

        assert set(limiter.statistics().under_way.values()) == {0}
        assert limiter.statistics().granted == len(times)

    run_virtually(main())


@examples(60)
@given(calls=CALLS)
def test_first_come_first_served_in_each_lane(
    calls: list[tuple[Lane, float, float, float | None]],
) -> None:
    async def main() -> None:
        callers = Callers(a_limiter(requests=30, polls=2))
        for lane, gap, takes, _ in calls:
            callers.call(lane, takes=takes)
            await asyncio.sleep(gap)

        await callers.done()
        for lane in Lane:
            numbers = [number for _, which, number in callers.admitted if which is lane]
            assert numbers == sorted(numbers)

        assert len(callers.admitted) == len(calls)

    run_virtually(main())


@virtual
async def test_cancel_during_the_wait_leaves_nothing_behind() -> None:
    limiter = a_limiter(polls=1)
    callers = Callers(limiter)
    callers.call(takes=10.0)
    waiting = [callers.call() for _ in range(5)]
    await asyncio.sleep(1.0)
    for task in waiting[:-1]:
        task.cancel()

    await asyncio.sleep(0)
    assert limiter.statistics().waiting == 1
    await callers.done()

    assert [number for _, _, number in callers.admitted] == [0, 5]
    assert limiter.statistics().granted == 2


@virtual
async def test_cancelled_after_the_grant_gives_room_and_token_back() -> None:
    limiter = a_limiter(requests=20, polls=1)  # two tokens, 3 s for the next
    callers = Callers(limiter)
    async with limiter.admit(Lane.POLL):
        first, second = callers.call(), callers.call()
        await asyncio.sleep(0)

    # Leaving has granted the first, which is cancelled before it can run.
    assert limiter.statistics().under_way[Lane.POLL] == 1
    first.cancel()
    await callers.done()

    assert first.cancelled()
    assert not second.cancelled()
    assert callers.admitted == [(0.0, Lane.POLL, 1)]
    assert limiter.statistics().granted == 2


@virtual
async def test_cancelled_inside_gives_the_room_back_and_keeps_the_token() -> None:
    limiter = a_limiter(requests=2, polls=1, share=1.0)
    callers = Callers(limiter)
    inside = callers.call(takes=math.inf)
    await asyncio.sleep(0.5)
    inside.cancel()
    callers.call()
    await callers.done()

    # Half a request was left of the second; the first was sent.
    assert len(callers.admitted) == 2
    assert callers.admitted[1][0] > 1.0


@virtual
async def test_lanes_take_turns() -> None:
    limiter = a_limiter(requests=60, polls=8, starts=8, cancels=8)
    callers = Callers(limiter)
    for _ in range(100):
        callers.call(Lane.START)

    await asyncio.sleep(1.0)
    poll, cancel = callers.call(Lane.POLL), callers.call(Lane.CANCEL)
    began = now()
    await asyncio.gather(poll, cancel)

    assert now() - began < 4.0 / limiter.rate
    await callers.done()


@virtual
async def test_slow_starts_keep_no_poll_waiting() -> None:
    limiter = a_limiter()
    callers = Callers(limiter)
    for _ in range(20):
        callers.call(Lane.START, takes=50.0)

    poll = callers.call(Lane.POLL)
    await poll

    assert now() == 0.0
    assert limiter.statistics().under_way[Lane.START] == 2
    await callers.done()


@virtual
async def test_pause_holds_all_lanes() -> None:
    limiter = a_limiter()
    callers = Callers(limiter)
    limiter.pause(START_PATIENCE)
    limiter.pause(10.0)
    for lane in Lane:
        callers.call(lane)

    await asyncio.sleep(0)
    assert limiter.paused_for == START_PATIENCE == 20.0
    assert "paused 20 s" in repr(limiter)
    await callers.done()

    assert [when for when, _, _ in callers.admitted] == [
        pytest.approx(START_PATIENCE, abs=0.1)
    ] * len(Lane)
    assert limiter.paused_for == 0.0


@virtual
async def test_what_is_urgent_passes_a_pause_and_takes_its_token() -> None:
    limiter = a_limiter(requests=60, cancels=1)
    callers = Callers(limiter)
    limiter.pause(100.0)
    callers.call(Lane.CANCEL)
    with urgent():
        assert is_urgent()
        for _ in range(8):  # six at once, the others one a second
            callers.call(Lane.POLL)

        callers.call(Lane.CANCEL, takes=10.0)
        callers.call(Lane.CANCEL)

    assert not is_urgent()
    await callers.done()

    polls = [when for when, lane, _ in callers.admitted if lane is Lane.POLL]
    cancels = [when for when, lane, _ in callers.admitted if lane is Lane.CANCEL]
    assert polls == sorted(polls)
    assert sum(when == 0.0 for when, _, _ in callers.admitted) == 6
    assert max(polls) < 5.0
    # One after the other, as there is room for one; who is not urgent comes last.
    assert cancels[1] - cancels[0] >= 10.0
    assert cancels[1] < 20.0
    assert cancels[2] == pytest.approx(100.0, abs=0.1)


@virtual
async def test_pause_during_the_wait_holds_those_who_wait() -> None:
    limiter = a_limiter(requests=60, polls=50)
    callers = Callers(limiter)
    for _ in range(8):  # six at once, the others one a second
        callers.call()

    await asyncio.sleep(0.5)
    limiter.pause(100.0)
    await callers.done()

    assert [when > 100.0 for when, _, _ in callers.admitted] == [False] * 6 + [True] * 2


@virtual
async def test_observe_slows_down_when_others_spend_the_limit() -> None:
    limiter = a_limiter(requests=100, share=0.6)
    full = limiter.statistics().rate

    limiter.observe(left=40.0, allowed=100.0)
    assert limiter.statistics().rate == full
    limiter.observe(left=20.0, allowed=100.0)
    assert limiter.statistics().rate == pytest.approx(full / 2)
    limiter.observe(left=0.0, allowed=100.0)
    assert limiter.statistics().rate == pytest.approx(full * SLOWEST)
    limiter.observe(left=90.0, allowed=100.0)
    assert limiter.statistics().rate == full


@virtual
async def test_observe_leaves_the_last_of_the_limit_alone() -> None:
    limiter = a_limiter(requests=100, share=0.6)
    callers = Callers(limiter)

    limiter.observe(2.0, 100.0)
    assert limiter.paused_for == 0.0
    limiter.observe(1.0, 100.0)
    # As many seconds as the window takes to give back what is left alone.
    assert limiter.paused_for == pytest.approx(1.2)
    callers.call()
    await callers.done()

    # And then one may ask, whatever is left: nobody starves.
    ((when, _, _),) = callers.admitted
    assert 1.2 <= when < 2.0


@virtual
async def test_observe_takes_over_a_limit_below_the_budget() -> None:
    """A trial account tells of a limit that nobody configured: it is kept at once."""
    limiter = a_limiter(requests=20_000, per=3600.0, share=0.6, polls=1_000)
    limiter.observe(left=499.0, allowed=500.0)
    callers = Callers(limiter)
    for _ in range(400):
        callers.call()

    await callers.done()

    assert sum(when <= 3600.0 for when, _, _ in callers.admitted) <= 300
    assert len(callers.admitted) == 400


@virtual
async def test_observe_wakes_those_who_wait_at_the_old_rate() -> None:
    limiter = a_limiter(requests=60, share=0.5, polls=50)
    limiter.observe(left=0.0, allowed=60.0)
    callers = Callers(limiter)
    for _ in range(4):
        callers.call()

    await asyncio.sleep(1.0)
    limiter.observe(left=60.0, allowed=60.0)
    await callers.done()

    assert now() < 1.0 + 2.0 / limiter.rate


@virtual
async def test_counts_the_starts_of_the_last_hour() -> None:
    limiter = a_limiter(requests=6000)
    callers = Callers(limiter)
    for _ in range(3):
        callers.call(Lane.START)

    callers.call(Lane.POLL)
    await callers.done()
    assert limiter.starts_per_hour() == 3
    await asyncio.sleep(3601.0)
    assert limiter.starts_per_hour() == 0


@virtual
async def test_statistics_and_repr_tell_the_state() -> None:
    limiter = a_limiter(requests=100, share=0.6, per=60.0, polls=1)
    callers = Callers(limiter)
    callers.call(takes=5.0)
    callers.call()
    await asyncio.sleep(1.0)

    state = limiter.statistics()
    assert (state.granted, state.waiting, state.paused_for) == (1, 1, 0.0)
    assert state.burst == 6.0
    assert state.rate == pytest.approx(0.9)
    assert repr(limiter) == (
        "<Limiter [1 granted, 1 waiting | shared 0, poll 1, look 0, start 0, cancel 0 |"
        " paused 0 s]>"
    )
    await callers.done()


@given(requests=st.integers(1, 10**6), share=st.floats(0.01, 1.0))
@example(requests=1, share=0.01)
def test_some_room_is_always_left(requests: int, share: float) -> None:
    limiter = a_limiter(requests=requests, share=share)

    assert limiter.burst >= 1.0
    assert limiter.rate > 0.0
    assert limiter.hourly_share >= 1.0
    assert limiter.paused_for == 0.0


@virtual
async def test_a_start_waits_for_the_end_of_a_short_pause() -> None:
    limiter = a_limiter()
    limiter.pause(START_PATIENCE)
    async with limiter.admit(Lane.START):
        assert now() == pytest.approx(START_PATIENCE, abs=0.1)


@virtual
async def test_a_start_that_waits_is_turned_away_once_a_pause_is_long() -> None:
    limiter = a_limiter(starts=1)
    callers = Callers(limiter)
    under_way = callers.call(Lane.START, takes=60.0)
    waiting, cancelled = callers.call(Lane.START), callers.call(Lane.START)
    await asyncio.sleep(1.0)
    cancelled.cancel()
    limiter.pause(3600.0)
    look = callers.call(Lane.LOOK)

    with pytest.raises(TurnedAway) as caught:
        await waiting
    assert now() == pytest.approx(1.0)
    assert caught.value.seconds == pytest.approx(3600.0)
    with pytest.raises(TurnedAway):
        await callers.call(Lane.START)
    await under_way
    await look
    assert [lane for _, lane, _ in callers.admitted] == [Lane.START, Lane.LOOK]
    async with limiter.admit(Lane.START):
        pass
    assert set(limiter.statistics().under_way.values()) == {0}
    assert limiter.statistics().waiting == 0


@virtual
async def test_an_urgent_start_passes_a_pause() -> None:
    limiter = a_limiter()
    limiter.pause(3600.0)
    with urgent():
        async with limiter.admit(Lane.START):
            assert now() == 0.0
