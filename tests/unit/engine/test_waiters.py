"""Those who wait for one job: they come and leave in any order."""

from __future__ import annotations

import asyncio
import math
from itertools import permutations

import pytest

from async_triggers.engine.waiters import Waiter, Watched


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
