"""Alarms of the main thread, held back while an event loop runs in it.

Airflow ends a task at its ``execution_timeout`` with SIGALRM: a handler raises
``AirflowTaskTimeout`` wherever the main thread is at that moment. In the middle of an event
loop that is often a callback, and the loop logs what a callback raises and goes on. The
task then outlives its timeout.

So the code that runs a loop holds the alarm back. A handler of ours lets the other one
raise, keeps the exception, and ends what the loop was doing by the loop's own means. The
exception is raised when the loop has ended, unless the deadline has been met otherwise by
then.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable
from types import FrameType, TracebackType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any]


class Alarm:
    """Holds SIGALRM back for the length of a ``with`` block.

    Does nothing outside of the main thread, where no alarm is heard; nothing where none
    could come; and nothing within another block of the kind, which then hears the alarm.
    """

    def __init__(self) -> None:
        self.is_met = False
        """Set by who has ended the task at its deadline: there is nothing to raise."""
        self._error: BaseException | None = None
        self._handler: _Handler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bound: asyncio.Timeout | None = None

    @property
    def has_come(self) -> bool:
        """True once the alarm has come."""
        return self._error is not None

    def __enter__(self) -> Self:
        """Take the handler's place."""
        number = _number()
        if number is None:
            return self

        handler = signal.getsignal(number)
        if callable(handler) and not _is_ours(handler):
            self._handler = handler
            signal.signal(number, self._hear)

        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the handler its place back, and raise what it has raised meanwhile."""
        number = _number()
        if self._handler is not None and number is not None:
            signal.signal(number, self._handler)

        if self._error is not None and not self.is_met:
            raise self._error.with_traceback(None) from None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        assert self._handler is not None  # noqa: S101 - else this is not installed
        try:
            self._handler(number, frame)
        except BaseException as error:  # noqa: BLE001 - Airflow's is none of Exception
            self._error = error
        else:
            return

        if self._loop is not None:
            # The loop may have been closed since.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        if self._bound is not None and self._loop is not None:
            # It may be over, or on its way out.
            with contextlib.suppress(RuntimeError):
                self._bound.reschedule(self._loop.time())

    @contextlib.asynccontextmanager
    async def timeout(
        self,
        seconds: float | None = None,
    ) -> AsyncIterator[asyncio.Timeout]:
        """Raise TimeoutError in the block after some seconds, or when the alarm comes."""
        async with asyncio.timeout(seconds) as bound:
            self._loop, self._bound = asyncio.get_running_loop(), bound
            if self.has_come:
                self._ring()

            try:
                yield bound
            finally:
                self._bound = None

    def disarm(self) -> None:
        """Let the innermost :meth:`timeout` go on without an end: it is being met."""
        bound, self._bound = self._bound, None
        if bound is not None:
            with contextlib.suppress(RuntimeError):
                bound.reschedule(None)


def _number() -> signal.Signals | None:
    """Return the signal of an alarm, None where none can be heard."""
    if threading.current_thread() is not threading.main_thread():
        return None

    return getattr(signal, "SIGALRM", None)


def _is_ours(handler: _Handler) -> bool:
    return isinstance(getattr(handler, "__self__", None), Alarm)
