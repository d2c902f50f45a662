"""Those who wait for one job: they come and leave in any order."""

from __future__ import annotations

import asyncio
import math
from itertools import permutations

import pytest

from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.listener import UNCHANGED, Notice
from async_triggers.engine.waiters import Waiter, Watched
from tests.unit.engine.fake import FEED, a_world


@pytest.fixture
def waiters() -> list[Waiter]:
    loop = asyncio.new_event_loop()
    made = [
        Waiter(loop.create_future(), 5.0, None, None, None, math.inf) for _ in range(4)
    ]
    loop.close()
    return made


def test_nobody_waits_at_first() -> None:
    assert list(Watched()) == []


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_they_leave_in_any_order(waiters: list[Waiter], order: tuple[int, ...]) -> None:
    watched = Watched()
    for waiter in waiters:
        watched.add(waiter)

    left = waiters[::-1]
    for number in order:
        assert list(watched) == left
        watched.remove(waiters[number])
        left.remove(waiters[number])

    assert list(watched) == []
    assert watched.newest is None


def test_one_that_left_may_come_again(waiters: list[Waiter]) -> None:
    watched = Watched()
    one, two, three, _ = waiters
    watched.add(one)
    watched.add(two)
    watched.remove(one)
    watched.add(three)
    watched.add(one)

    assert list(watched) == [one, three, two]


def test_all_may_leave_as_they_are_seen(waiters: list[Waiter]) -> None:
    watched = Watched()
    for waiter in waiters:
        watched.add(waiter)

    for waiter in watched:
        watched.remove(waiter)

    assert list(watched) == []


@pytest.mark.asyncio(loop_factories=["virtual"])
@pytest.mark.parametrize("ends", [False, True])
async def test_all_news_of_one_moment_are_heard_in_their_order(*, ends: bool) -> None:
    """Also before the end of the wait that comes in the same moment."""
    async with a_world(FEED) as world:
        heard: list[str] = []
        world.server.start("a", lasts=math.inf)
        wait = world.join(
            "a",
            news=lambda job: heard.append(job.word),
            notices=lambda notice: heard.append(notice.text),
            again=lambda: heard.append("as it was"),
        )
        await asyncio.sleep(40.0)
        (waiter,) = world.poller.state.waiters.of("a")
        heard.clear()

        waiter.give(Notice("one"))
        waiter.give(Job(id="a", state=JobState.RUNNING, word="two"))
        waiter.give(UNCHANGED)
        if ends:
            job = Job(id="a", state=JobState.SUCCEEDED, word="over")
            waiter.future.set_result(job)

        await asyncio.sleep(0.1)
        assert heard == ["one", "two", "as it was"]
        assert wait.done() is ends

        if not ends:
            waiter.give(Notice("more"))
            await asyncio.sleep(0.1)
            assert heard == ["one", "two", "as it was", "more"]
