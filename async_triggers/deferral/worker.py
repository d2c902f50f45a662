"""The event loop of a task on its worker.

Calls to the vendor run on a loop that lives for the length of one segment of the task.
Calls to Airflow come between them: it allows none from within a running loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from async_triggers.deferral.alarm import Alarm
from async_triggers.deferral.deadlines import seconds_left
from async_triggers.deferral.errors import translate
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.starting import SUPERSEDING
from async_triggers.engine.backoff import repeating_for
from async_triggers.engine.errors import EngineError

if TYPE_CHECKING:
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.notes import Notes
    from async_triggers.deferral.record import Record
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Account

T = TypeVar("T")


class OutOfTime(Exception):
    """``execution_timeout`` has passed.

    ``is_sent`` is False right before a start: what was written down for it is not there
    yet.
    """

    def __init__(self, *, is_sent: bool = True) -> None:
        super().__init__()
        self.is_sent = is_sent


class Worker:
    """The event loop and the account of one segment of a task.

    ``ends`` is when ``execution_timeout`` has passed, in epoch seconds. ``stop_if_killed``
    raises where the task was stopped meanwhile.
    """

    def __init__(
        self,
        hook: VendorHook,
        account: Account,
        ends: float | None,
        stop_if_killed: Callable[[], None],
    ) -> None:
        self.account = account
        self.alarm = Alarm()
        self.ends = ends
        self._hook = hook
        self._stop_if_killed = stop_if_killed
        self._runner: asyncio.Runner | None = None
        self._leased: LeasedAccount | None = None
        # What runs on the loop, and whether a stop of the task may cut it off.
        self._main: asyncio.Task[Any] | None = None
        self._interruptible = False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep an event loop and the account for the length of the block.

        Airflow's alarm is held back meanwhile. The code that ends the block meets it with
        an exception: the task fails, or its trigger keeps the deadline.
        """
        hook = self._hook
        with self.alarm as alarm, asyncio.Runner() as runner:
            self._runner = runner
            stack = contextlib.AsyncExitStack()
            try:
                self._leased = runner.run(
                    stack.enter_async_context(
                        hook.lease(account=self.account, linger=0)
                    )
                )
                yield
            except EngineError as error:
                alarm.is_met = True
                raise translate(error, hook.conn_id, hook.conn_type) from None
            except BaseException:
                alarm.is_met = True
                raise
            finally:
                self._leased = self._main = None
                runner.run(stack.aclose())
                self._runner = None

    @property
    def _open(self) -> tuple[asyncio.Runner, LeasedAccount]:
        runner, leased = self._runner, self._leased
        assert runner is not None  # noqa: S101 - inside at_work
        assert leased is not None  # noqa: S101 - as above
        return runner, leased

    @property
    def leased(self) -> LeasedAccount:
        """The account, inside :meth:`at_work`."""
        return self._open[1]

    @property
    def is_starting(self) -> bool:
        """True while something runs that is answered before the task stops: a start."""
        main = self._main
        return main is not None and not main.done() and not self._interruptible

    def interrupt(self) -> None:
        """End what is requested just now, from a signal handler."""
        main, runner = self._main, self._runner
        if main is not None and self._interruptible and runner is not None:
            runner.get_loop().call_soon_threadsafe(main.cancel)

    def request(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        interruptible: bool = True,
        keeps_deadline: bool = False,
    ) -> T:
        """Request something of the vendor.

        Raise TaskKilled when the task is stopped meanwhile, OutOfTime when its
        ``execution_timeout`` passes, unless the question keeps that deadline itself.
        What is not interruptible is answered first: a start.
        """
        runner, leased = self._open
        is_late = False

        async def answer() -> T:
            nonlocal is_late
            self._main = asyncio.current_task()
            self._interruptible = interruptible
            if keeps_deadline or not interruptible:
                return await question(leased)

            bound: asyncio.Timeout | None = None
            try:
                async with self.alarm.timeout(self._seconds_left()) as bound:
                    return await question(leased)
            except TimeoutError:
                is_late = bound is not None and bound.expired()
                raise

        self._stop_if_killed()
        is_over = self.alarm.has_come or self._seconds_left() == 0.0
        if is_over and not keeps_deadline:
            raise OutOfTime(is_sent=interruptible)

        try:
            found = runner.run(answer())
        except asyncio.CancelledError:
            self._stop_if_killed()
            raise
        except TimeoutError:
            if not is_late:
                raise

            self._stop_if_killed()
            raise OutOfTime from None

        self._interruptible = False
        if interruptible:
            self._stop_if_killed()

        return found

    def request_at_deadline(
        self, question: Callable[[LeasedAccount], Awaitable[T]]
    ) -> T:
        """Do what must be done although ``execution_timeout`` has passed."""
        runner, leased = self._open
        self.alarm.is_met = True

        async def answer() -> T:
            self._main = asyncio.current_task()
            self._interruptible = False
            return await question(leased)

        found = runner.run(answer())
        self._stop_if_killed()
        return found

    def _seconds_left(self) -> float | None:
        return seconds_left(self.ends, wall_clock())


class Exchange(Protocol):
    """Requests something of the vendor, see :meth:`Worker.request`."""

    def __call__(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        interruptible: bool = True,
    ) -> T:
        """Return the answer."""
        ...


class WorkerDesk:
    """The worker's :class:`~.inquiry.Desk`: it answers at once, outside of any event loop.

    ``wait`` is for how many seconds a request is repeated: what sleeps for long does not
    do so in a slot that can be left. ``stop_unwritten`` sees to a job that could not be
    written down.
    """

    def __init__(
        self,
        worker: Worker,
        exchange: Exchange,
        notes: Notes,
        wait: float | None,
        stop_unwritten: Callable[[], None],
    ) -> None:
        self.account = worker.account
        self.tally = worker.leased.tally
        self._exchange = exchange
        self._notes = notes
        self._wait = wait
        self._stop_unwritten = stop_unwritten
        self._has_read = False

    async def request(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        whole: bool = False,
    ) -> T:
        """Request something of the vendor."""

        async def in_haste(leased: LeasedAccount) -> T:
            with repeating_for(self._wait):
                return await question(leased)

        return self._exchange(in_haste, interruptible=not whole)

    async def read(self) -> Record | None:
        """Return the record, which no other process writes while the attempt runs."""
        if self._has_read:
            return self._notes.record

        self._has_read = True
        return self._notes.read()

    async def write(self, record: Record) -> None:
        """Replace the record."""
        try:
            self._notes.write(record)
        except Exception:
            if record.job_id is not None:
                self._stop_unwritten()

            raise

    async def announce(self) -> None:
        """Say in the owner token that the job of an earlier attempt is being ended."""
        self._notes.claim(SUPERSEDING)

    async def forget(self) -> None:
        """Delete the record."""
        self._notes.forget()

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Start at any time: the worker's process starts one job."""
        return contextlib.nullcontext()
