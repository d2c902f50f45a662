"""Blocking calls beside a loop: real threads, real time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from async_triggers.deferral.thread import in_thread

WORD: ContextVar[str] = ContextVar("word", default="")


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Something that does not happen while the test runs."""
    event = threading.Event()
    yield event
    event.set()


def test_its_result_and_its_error_are_the_callers() -> None:
    def work() -> str:
        assert threading.current_thread() is not threading.main_thread()
        return WORD.get()

    def fail() -> None:
        raise KeyError(WORD.get())

    async def call() -> str:
        WORD.set("mine")
        with pytest.raises(KeyError, match="mine"):
            await in_thread(fail)

        return await in_thread(work)

    assert asyncio.run(call()) == "mine"
    assert WORD.get() == ""


def test_work_that_hangs_holds_nobody(never: threading.Event) -> None:
    async def call() -> None:
        async with asyncio.timeout(0.01):
            await in_thread(never.wait)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(call())

    assert time.monotonic() - began < 5.0
    assert all(
        each.daemon for each in threading.enumerate() if each.name == "blocking call"
    )


@pytest.mark.parametrize("is_closed", [False, True], ids=["cancelled", "closed"])
def test_work_that_ends_too_late_disturbs_nobody(
    never: threading.Event, *, is_closed: bool
) -> None:
    over = threading.Event()
    # Another test's may not have ended yet.
    before = set(threading.enumerate())

    def work() -> None:
        never.wait()
        over.set()

    async def call() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.sleep(0.0)
        task.cancel()
        await asyncio.wait({task})
        if not is_closed:
            (thread,) = [
                each
                for each in set(threading.enumerate()) - before
                if each.name == "blocking call"
            ]
            never.set()
            # It has left its result by then, which the loop takes up next.
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(0.0)

    asyncio.run(call())
    never.set()
    assert over.wait(10.0)
    for each in threading.enumerate():
        if each.name == "blocking call":
            each.join(10.0)
