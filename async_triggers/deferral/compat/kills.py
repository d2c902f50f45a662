"""How a trigger learns that it was killed.

Airflow 3.3 calls ``on_kill`` of a trigger. Earlier versions cancel ``run()`` and say
nothing: for a user's action, for a deferral that has timed out, for a takeover by another
triggerer and at the end of the triggerer alike, and again every second until ``run()``
has returned. What it was is found out here, and ``on_kill`` is called where it was a
user's action. The verdict over the job stays that of :mod:`async_triggers.deferral.kill`.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger

from async_triggers.deferral.compat import talk
from async_triggers.deferral.kill import Verdict

CALLS_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow itself calls ``on_kill`` of a trigger."""
ANSWER = 2.0
"""Seconds in which Airflow must answer what has become of a task."""
FIRST_ANSWER = 8.0
"""The same while the triggerer's supervisor has answered nothing yet: the first question
takes it five seconds, on a busy machine longer."""
AT_ONCE = 4
"""Triggers that question Airflow at once: it answers one question after the other."""
SILENCE = 5.0
"""Seconds in which no other trigger waits for an answer after Airflow has given none."""
LOOP_WATCH = "watch the end of the loop"
"""The name of the task that is cancelled only with its loop."""


@dataclass(slots=True)
class _Loop:
    """What the triggers of one event loop share."""

    watch: asyncio.Task[None]
    """Cancelled by the loop alone when it ends, together with all triggers."""
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    silent_until: float = 0.0
    judging: set[asyncio.Task[bool]] = field(default_factory=set)


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()


def expect_kills() -> None:
    """Prepare for the cancellation of the running trigger."""
    loop = asyncio.get_running_loop()
    if CALLS_ON_KILL or loop in _loops:
        return

    watch = loop.create_task(
        _until_the_end(loop), name=LOOP_WATCH, context=contextvars.Context()
    )
    _loops[loop] = _Loop(watch)


async def _until_the_end(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


async def bridge_kill(trigger: Any) -> None:
    """Call ``on_kill`` of a trigger whose ``run()`` was cancelled, if that was a kill.

    Call it where the CancelledError arrives, and raise that afterwards. Further
    cancellations are swallowed meanwhile.
    """
    loop = asyncio.get_running_loop()
    shared = _loops.get(loop)
    if CALLS_ON_KILL or trigger.task_instance is None or shared is None:
        return

    if shared.watch.done() or shared.watch.cancelling() or has_timed_out(trigger):
        return

    judging = loop.create_task(_is_kill(trigger, shared))
    shared.judging.add(judging)
    judging.add_done_callback(shared.judging.discard)
    while not judging.done():
        try:
            await asyncio.wait({judging})
        except asyncio.CancelledError:
            # The loop's own end cancels the question as well.
            if judging.cancelled() or shared.watch.cancelling():
                return

    if not judging.cancelled() and judging.result():
        await trigger.on_kill()


def has_timed_out(trigger: Any) -> bool:
    """Return whether Airflow's own timeout of the deferral has passed."""
    # Set by the runner, and by no class before Airflow 3.3.
    ends: datetime | None = getattr(trigger, "timeout_after", None)
    if ends is None:
        return False

    return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)) < datetime.now(UTC)


async def _is_kill(trigger: Any, shared: _Loop) -> bool:
    """Return whether the task is no longer deferred for this trigger.

    True also where Airflow answers that it does not know: ``on_kill`` finds that out by
    itself, and has more patience.
    """
    ti, loop = trigger.task_instance, asyncio.get_running_loop()
    async with shared.turns:
        if loop.time() < shared.silent_until:
            _leave(trigger)
            return False

        try:
            async with asyncio.timeout(ANSWER if talk.has_answered() else FIRST_ANSWER):
                if await talk.task_state(ti) != "deferred":
                    return True

                token = await talk.owner_token(ti)
        except TimeoutError:
            shared.silent_until = loop.time() + SILENCE
            _leave(trigger)
            return False
        except Exception as error:  # noqa: BLE001 - Airflow may raise anything
            trigger.log.debug("The task's state could not be determined: %s", error)
            return True

        if token is not None and token[0] == ti.try_number:
            trigger.log.info("What it waits for is %s", Verdict.TAKEN_OVER.value)
            return False

        return True


def _leave(trigger: Any) -> None:
    trigger.log.warning(
        "The trigger was stopped, and Airflow does not say why: what it waits for is left"
        " running"
    )
