"""What all triggers of the package have in common: one event, and then they are gone.

Constructors only assign attributes: Airflow 3.3 takes the whole triggerer down when one
raises. Everything that ``run`` needs is in the serialized arguments, because it may run
again on another machine at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from airflow.triggers.base import TaskFailedEvent, TriggerEvent

from async_triggers.deferral import compat, events
from async_triggers.deferral.ending import Ending, end_task
from async_triggers.deferral.stored import StoredTrigger

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.engine.jobs import Job

T = TypeVar("T")

KILL_WAIT = 8.0
"""Seconds that ``on_kill`` waits for its errand, which goes on without it."""


class OneEventTrigger(StoredTrigger):
    """Waits for an outcome, and yields one event that resumes the task or ends it."""

    ending: Mapping[str, Any] | None = None
    """How the trigger ends its task, see :class:`.ending.Ending`; None to resume it."""

    _fired: bool = False

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event: how the wait ended."""
        loop = asyncio.get_running_loop()
        # The deferral itself was at most a little earlier than this.
        earliest = loop.time() + self.earliest_event()
        compat.expect_kills()
        try:
            # Where a kill is bridged, Airflow should answer at once when it comes.
            needs_token = self.ending is not None or not compat.CALLS_ON_KILL
            if needs_token and self.task_instance is not None:
                _warm_up(self.task_instance)

            outcome = await self._outcome()
            self.log.info("%s", outcome.message)
            await asyncio.sleep(max(0.0, earliest - loop.time()))
            # A trigger that lingers after its event is called to kill; see on_kill.
            self._fired = True
            event = await self._event(outcome)
        except asyncio.CancelledError:
            await compat.bridge_kill(self)
            raise

        yield event

    def earliest_event(self) -> float:
        """Return how many seconds after its start the trigger may fire."""
        return compat.earliest_event()

    @abstractmethod
    async def _outcome(self) -> Outcome:
        """Wait, and return how the wait ended."""

    async def _event(self, outcome: Outcome) -> TriggerEvent:
        """Return the event that ends the task, if it may end here, else resumes it."""
        ti = self.task_instance
        ending = self._how_to_end()
        # Nothing but a triggerer takes an end from an event, and dag.test() is none.
        if ending is not None and ti is not None:
            job = outcome.job
            try:
                event = await end_task(
                    ending,
                    outcome,
                    ti=ti,
                    result=None if job is None else self.result(job),
                )
            except Exception:
                # The worker has the database to itself, and another try at it.
                self.log.warning(
                    "The trigger could not end the task: resuming it on a worker",
                    exc_info=True,
                )
            else:
                if event is not None:
                    if isinstance(event, TaskFailedEvent):
                        self.log.error("The task fails: %s", outcome.message)

                    return event

        return TriggerEvent(self.payload(outcome))

    def _how_to_end(self) -> Ending | None:
        if self.ending is None:
            return None

        try:
            return Ending.from_json(self.ending)
        except (KeyError, TypeError, ValueError) as error:
            self.log.warning("%s cannot be read as an ending: %s", self.ending, error)
            return None

    def result(self, job: Job) -> Any:
        """Return what a task returns that this trigger ends; by default nothing."""
        return None

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload."""
        return events.to_payload(outcome)


_warm: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""The loops on which an XCom has been requested from Airflow before."""


def _warm_up(ti: Any) -> None:
    """Request an XCom from Airflow while the job still runs, once in a triggerer.

    For its first answer a triggerer's supervisor builds a part of Airflow's API, for five
    seconds and longer on a busy machine; the end of a task need not wait for that.
    """
    loop = asyncio.get_running_loop()
    if loop in _warm:
        return

    async def read() -> str:
        with contextlib.suppress(Exception):
            await compat.owner_token(ti)

        return ""

    _warm.add(loop)
    run_alone(read(), "query Airflow for the first time")


_errands: set[asyncio.Task[str]] = set()
"""Strong references to what was begun for triggers that had no account yet."""


def run_alone(work: Coroutine[Any, Any, str], name: str) -> asyncio.Task[str]:
    """Begin an errand that goes on by itself, where no account is there to hold it."""
    errand = asyncio.get_running_loop().create_task(work, name=name)
    _errands.add(errand)
    errand.add_done_callback(_errands.discard)
    return errand


async def see_through(errand: asyncio.Task[str]) -> str | None:
    """Wait a while for what ``on_kill`` has begun; return what it said if it is done.

    Airflow repeats its cancellation every second until the trigger ends, and the errand
    goes on when nothing waits for it any more.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + KILL_WAIT
    while not errand.done() and loop.time() < ends:
        try:
            await asyncio.wait({errand}, timeout=ends - loop.time())
        except asyncio.CancelledError:
            if errand.cancelled():
                raise

    if not errand.done():
        return "Settling the kill goes on"

    if errand.cancelled() or errand.exception() is not None:
        return None

    return errand.result()


async def insist(exchange: Callable[[], Awaitable[T]], log: Any) -> T:
    """Do an exchange with Airflow, and again until its database answers."""
    attempt = 0
    while True:
        try:
            return await exchange()
        except Exception as error:  # noqa: BLE001 - the supervisor's, of any kind
            attempt += 1
            if attempt == 1:
                log.warning(
                    "An XCom could not be read from Airflow, trying again: %s", error
                )

            await asyncio.sleep(min(15.0, 2.0**attempt))
