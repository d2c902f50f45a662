"""Blocking calls that may never return."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from async_triggers.deferral.compat.talk import undisturbed

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Do blocking work in a thread, and in a copy of the caller's context.

    By asgiref, and not by ``asyncio.to_thread``: a call of Airflow's SDK in a thread that
    asgiref does not know takes the whole triggerer of Airflow 3.1 down.
    """
    call = sync_to_async(work, thread_sensitive=False, executor=_THREADS)
    return await undisturbed(call())


class _OwnThreads(Executor):
    """A thread for each call, which is not waited for once the caller has gone.

    One of a pool is waited for when the loop closes, and again when the process ends: work
    that hangs would hold a task on its worker that has ended.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begin a call."""
        future: Future[T] = Future()
        run = partial(_run, future, partial(fn, *args, **kwargs))
        threading.Thread(target=run, name="blocking call", daemon=True).start()
        return future


_THREADS: Any = _OwnThreads()
"""Any: asgiref takes every executor, and says that it takes one kind of them."""


def _run(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return

    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - the caller's, who raises it
        _settle(partial(future.set_exception, error))
    else:
        _settle(partial(future.set_result, result))


def _settle(settle: Callable[[], None]) -> None:
    # The loop that waits for it may have been closed since.
    with contextlib.suppress(RuntimeError):
        settle()
