"""Blocking calls that may never return."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Do blocking work in a thread, and in a copy of the caller's context.

    Nobody waits for the thread once the caller has gone. One of the loop's own pool is
    waited for when the loop closes, and again when the process ends: work that hangs would
    hold a task on its worker that has ended.
    """
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    context = contextvars.copy_context()
    run = partial(context.run, _run, work, future)
    threading.Thread(target=run, name="blocking call", daemon=True).start()
    return await future


def _run(work: Callable[[], T], future: asyncio.Future[T]) -> None:
    try:
        settle = partial(future.set_result, work())
    except Exception as error:  # noqa: BLE001 - the caller's, who raises it
        settle = partial(future.set_exception, error)

    # The loop may have been closed since.
    with contextlib.suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(_settle, future, settle)


def _settle(future: asyncio.Future[T], settle: Callable[[], None]) -> None:
    if not future.done():
        settle()
