"""Stopping a task that waits until it can come back to its start.

It may have a job all the same. A start that was not answered may have made one, whose id is
not known: it is looked for by the intent that was written down before. An earlier attempt
may have one, which could not be checked yet. Where the task is stopped meanwhile, the
job is cancelled under the rules of any kill (:mod:`async_triggers.deferral.kill`), unless
it may as well be another user's.

A stop that comes after the wait and before the task is on a worker again has no owner:
Airflow reports it to no trigger, and there is no worker. So the trigger leaves an
errand behind that watches the task until its worker has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from async_triggers.deferral import compat
from async_triggers.deferral.job_cancel import JobCancel
from async_triggers.deferral.kill import GOES_ON, Patience
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.one_event import run_alone, see_through
from async_triggers.deferral.record import Intent, Record, read_record
from async_triggers.deferral.remote_job import JobRequest
from async_triggers.engine.errors import EngineError
from async_triggers.engine.limiter import urgent
from async_triggers.engine.wording import begun, sentence

if TYPE_CHECKING:
    from airflow.sdk.types import Logger
    from airflow.triggers.base import TriggerEvent

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen
    from async_triggers.engine.wire import Vendor

PAUSE = 5.0
"""Seconds between two looks for the job of a start that was not answered."""
NOTHING = "Nothing was started"
WATCH = 3600.0
"""Seconds for which a task is watched that is not on its worker yet."""
WATCH_PAUSE = 15.0
"""Seconds at most between two checks of such a task."""


class StartLaterTrigger(MomentTrigger):
    """Yields one event when it is time to come back to a start.

    A user who stops the task meanwhile means its job as well: that of an earlier attempt,
    or the one that a start without an answer may have made.

    :param moment: the moment in epoch seconds
    :param request: what is to be started, see
        :meth:`async_triggers.deferral.stored.StoredValue.to_json`
    :param max_tries: Airflow's ``max_tries`` of the attempt
    :param record: what was written down of the job, or before its start
    """

    def __init__(
        self,
        moment: float,
        request: Mapping[str, Any],
        max_tries: int,
        record: Mapping[str, Any],
    ) -> None:
        super().__init__(moment)
        self.request = request
        self.max_tries = max_tries
        self.record = record

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the event, and watch the task until it is on its worker."""
        compat.expect_kills()
        try:
            async for event in super().run():
                if self.task_instance is not None:
                    run_alone(self._watch(), "watch a task on its way to a worker")

                yield event
        except asyncio.CancelledError:
            await compat.bridge_kill(self)
            raise

    async def on_kill(self) -> None:
        """Look for the job, and cancel it if the user's intention says so.

        Airflow interrupts this after a second; what it has begun goes on by itself.
        """
        if self._fired or self.task_instance is None:
            return

        message = await see_through(
            run_alone(self._settle(), "settle the kill of a start to come")
        )
        if message is not None:
            self.log.info("%s", message)

    async def _watch(self) -> str:
        """Settle the kill of a task that is stopped before its worker has it."""
        ti = self.task_instance
        loop = asyncio.get_running_loop()
        ends = loop.time() + WATCH
        looks = 0
        while loop.time() < ends:
            looks += 1
            await asyncio.sleep(min(WATCH_PAUSE, 2.0 * looks))
            try:
                # In this order: a task that has ended on its worker was there before.
                state = await compat.task_state(ti)
                if not await compat.is_waited_for(ti, self.moment):
                    return "The task is on a worker"
            except Exception as error:  # noqa: BLE001 - Airflow's, of any kind
                self.log.debug("The task's state could not be determined: %s", error)
                continue

            # A retry finds the job by itself, and is not waited for.
            if state == "up_for_retry":
                return "The task is retried"

            if state is None or state not in GOES_ON:
                message = await self._settle()
                self.log.info("%s", message)
                return message

        return "The task has not reached a worker yet"

    async def _settle(self) -> str:
        ti, record = self.task_instance, read_record(self.record)
        request: JobRequest | None = None
        try:
            request = JobRequest.from_json(self.request).of_attempt(ti, self.max_tries)
            if record is None or not request.cancel_on_kill:
                return NOTHING

            return await settle_record(
                request, record, ti, self.log, is_found_again=True
            )
        except Exception as error:  # noqa: BLE001 - releases of Airflow differ
            words = f"{_named(request, record)} could not be cancelled: {error}"
            self.log.warning("%s It may still be running", sentence(words))
            return words


def lost(vendor: Vendor) -> str:
    """Name, at the beginning of a sentence, what a lost start may have made."""
    return f"The {vendor.noun} of a start that was not answered"


def _named(request: JobRequest | None, record: Record | None) -> str:
    if request is None:
        return "What was started"

    if record is None or record.job_id is None:
        return lost(request.vendor)

    return begun(request.vendor.name_of(record.job_id))


def _log_unsettled(log: Logger, request: JobRequest, record: Record) -> None:
    """Log what is left behind when the process ends before a job could be checked."""
    log.warning(
        "%s was not cancelled before this process ends. It may still be running",
        _named(request, record),
    )


async def settle_record(
    request: JobRequest,
    record: Record,
    ti: Any,
    log: Logger,
    *,
    is_found_again: bool = False,
) -> str:
    """Settle the kill of what a record shows; return what was done.

    Raise EngineError where the connection cannot be looked up. For ``is_found_again`` see
    :func:`.kill.judge_kill`.
    """
    request = replace(request, address=record.address)
    hook = request.make_hook()
    try:
        account = await hook.known_account(patience=None)
    except asyncio.CancelledError:
        _log_unsettled(log, request, record)
        raise

    async with hook.lease(account=account) as leased:
        if record.job_id is None:
            return await settle_lost(
                request, leased, record, ti, log, is_found_again=is_found_again
            )

        job = request.job(record.job_id, owned=True, url=record.url)
        cancel = JobCancel(job, log, ti)
        return await cancel.settle_kill(leased, is_found_again=is_found_again)


async def settle_lost(
    request: JobRequest,
    leased: LeasedAccount,
    record: Record,
    ti: Any,
    log: Logger,
    *,
    is_found_again: bool = False,
) -> str:
    """Settle the kill of a start that was not answered; return what was done.

    ``is_found_again`` says that the record is in the state store, where the task looks
    whenever it is on a worker.
    """
    try:
        seen = await _search(request, leased, record.intent)
    except EngineError as error:
        words = f"{lost(request.vendor)} could not be looked for: {error}"
        log.warning("%s It may be running", sentence(words))
        return words
    except asyncio.CancelledError:
        _log_unsettled(log, request, record)
        raise

    if seen is None:
        return NOTHING

    job = seen.job
    if not job.state.is_terminal and not await _is_own(
        request, leased, seen, record.intent
    ):
        words = (
            f"{job.title}: not cancelled: the start that was not answered may have made it,"
            " but so may another user"
        )
        log.warning("%s", words)
        return words

    cancel = JobCancel(request.job(job.id, owned=True, url=job.url), log, ti)
    return await cancel.settle_kill(
        leased, sought=record.intent.name, is_found_again=is_found_again
    )


async def _search(
    request: JobRequest, leased: LeasedAccount, intent: Intent
) -> Seen | None:
    """Look for the job by its intent; None when it must have shown up and has not."""
    loop = asyncio.get_running_loop()
    request = request.resuming(intent)
    shows = loop.time() + request.start_grace + PAUSE
    patience = Patience(loop.time(), doubt=leased.account.belief.doubt)
    while True:
        pause = PAUSE
        try:
            with nullcontext() if patience.tries else urgent():
                request = await request.resolved(leased)
                seen = await request.find_started(leased, intent)
        except EngineError as error:
            wait = patience.wait_after(error, loop.time())
            if wait is None:
                raise

            pause = max(PAUSE, wait)
        else:
            if seen is not None or loop.time() >= shows:
                return seen

        await asyncio.sleep(pause)


async def _is_own(
    request: JobRequest, leased: LeasedAccount, seen: Seen, intent: Intent
) -> bool:
    """Return whether a job was made by a start of ours; False where that stays unknown."""
    request = request.resuming(intent)
    loop = asyncio.get_running_loop()
    patience = Patience(loop.time(), doubt=leased.account.belief.doubt)
    while True:
        try:
            with nullcontext() if patience.tries else urgent():
                request = await request.resolved(leased)
                return await request.is_own_start(leased, seen, intent)
        except EngineError as error:
            pause = patience.wait_after(error, loop.time())
            if pause is None:
                return False

            await asyncio.sleep(pause)


async def find_own(
    request: JobRequest, leased: LeasedAccount, intent: Intent
) -> Seen | None:
    """Look for the job of a start that was not answered; None where it is not ours.

    Raise EngineError where it cannot be looked for.
    """
    seen = await _search(request, leased, intent)
    if seen is None or seen.job.state.is_terminal:
        return seen

    return seen if await _is_own(request, leased, seen, intent) else None
