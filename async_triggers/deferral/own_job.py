"""What a task on its worker has started, or may have: what a stop of it cancels.

Users and accidents stop a task alike, in a signal handler and with five seconds until the
process is killed; and a deadline passes. Each leaves it to :class:`OwnJob` to cancel the
job, and to log what came of it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from async_triggers.deferral import compat
from async_triggers.deferral.cancelling import cancel_and_confirm
from async_triggers.deferral.record import Intent
from async_triggers.deferral.start_later import PAUSE, find_own, lost
from async_triggers.deferral.trigger import trigger_for
from async_triggers.engine.errors import EngineError, TransientError
from async_triggers.engine.limiter import urgent
from async_triggers.engine.observer import CANCELS
from async_triggers.engine.wording import aside, begun, with_url

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.deferral.events import Outcome
    from async_triggers.deferral.remote_job import JobRequest, RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen
    from async_triggers.engine.wire import Account

KILL_JOIN = 4.0
"""Seconds that on_kill may take: Airflow sends SIGKILL five seconds after SIGTERM."""
KILL_TRY = 3.5
"""Seconds of these for the vendor: what came of it must be logged within the rest."""
KILL_PAUSE = 0.5
"""Seconds between two tries within these."""
FIND_PATIENCE = 60.0
"""Seconds more than a start takes to show up in which it is looked for at a deadline."""
CANCEL_LATE = 60.0
"""Seconds for one more cancel of a job that a deadline has not been seen to stop."""


class OwnJob:
    """A job of a task's own, by its id, or by the intent of a start without an answer."""

    def __init__(
        self, request: JobRequest, wanted: str | Intent, url: str, log: Logger
    ) -> None:
        self.wanted = wanted
        self._request = request
        self._url = url
        self._log = log

    @property
    def is_lost(self) -> bool:
        """True where only the intent is known: a job may be running."""
        return isinstance(self.wanted, Intent)

    @property
    def name(self) -> str:
        """What to call it at the beginning of a sentence."""
        vendor = self._request.vendor
        if isinstance(self.wanted, Intent):
            return lost(vendor)

        return begun(vendor.name_of(self.wanted))

    def _job(self, job_id: str, url: str = "") -> RemoteJob:
        return self._request.job(job_id, owned=True, url=url or self._url)

    # At a kill ----------------------------------------------------------------------

    def stop(self, account: Account, began: float) -> None:
        """Cancel while there is time for it, in a thread and on another loop.

        ``began`` is the monotonic time of the kill.
        """
        hook = self._request.make_hook()
        failure: Exception | None = None

        async def settle() -> str:
            nonlocal failure
            left = KILL_TRY - (time.monotonic() - began)
            async with (
                asyncio.timeout(left),
                hook.lease(account=account, linger=0) as leased,
            ):
                with urgent():
                    while True:
                        try:
                            return await self._stop_once(leased)
                        except TransientError as error:
                            failure = error
                            await asyncio.sleep(KILL_PAUSE)

        try:
            done = asyncio.run(settle())
        except EngineError as error:
            failure = error
        except TimeoutError:
            pass
        else:
            self._log.info("%s %s", self.name, done)
            return

        vendor = self._request.vendor.name
        why = aside(str(failure or f"{vendor} did not answer in time"))
        fate = "It may still be running" if self.is_lost else "It is still running"
        self._log.warning(
            "%s could not be cancelled before its worker ends %s. %s",
            self.name,
            why,
            with_url(fate, self._url),
        )

    async def _stop_once(self, leased: LeasedAccount) -> str:
        """Check the job, or look for it, and cancel it; return what was done."""
        wanted = self.wanted
        if not isinstance(wanted, Intent):
            job = self._job(wanted)
            seen = await job.recheck(leased)
        else:
            request = await self._request.resuming(wanted).resolved(leased)
            found = await request.find_started(leased, wanted)
            if found is None or not await request.is_own_start(leased, found, wanted):
                return "was not found, or may belong to others: it is not cancelled"

            seen = found
            job = self._job(seen.job.id, seen.job.url)

        self._url = seen.job.url or self._url
        if seen.job.state.is_terminal:
            return "had ended already"

        await job.cancel(leased)
        leased.tally.count(CANCELS, "stopped")
        return "was cancelled, because the task was stopped"

    # At a deadline --------------------------------------------------------------------

    async def time_out(
        self, leased: LeasedAccount, ends: float | None
    ) -> Outcome | None:
        """Stop the job as a trigger does; None for a lost one that is not found."""
        seen_at: float | None = None
        if isinstance(self.wanted, Intent):
            seen = await self._find(leased, self.wanted)
            if seen is None:
                return None

            job, seen_at = self._job(seen.job.id, seen.job.url), seen.at
        else:
            job = self._job(self.wanted)

        trigger = trigger_for(
            self._request, job, execution_deadline=ends, seen_at=seen_at
        )
        return await trigger.time_out(leased)

    async def _find(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        patience = self._request.start_grace + PAUSE + FIND_PATIENCE
        try:
            async with asyncio.timeout(patience):
                return await find_own(self._request, leased, intent)
        except (EngineError, TimeoutError) as error:
            self._log.warning("%s could not be looked for: %s", self.name, error)
            return None

    def cancel_late(self) -> bool:
        """Cancel, outside of any event loop, what was not seen to stop before.

        Return whether it has stopped now.
        """
        assert isinstance(self.wanted, str)  # noqa: S101 - a lost one was never seen
        late = self._job(self.wanted)

        async def cancel(leased: LeasedAccount) -> Seen:
            with urgent():
                async with asyncio.timeout(CANCEL_LATE):
                    return await cancel_and_confirm(late, leased, "timeout")

        try:
            job = late.make_hook().run(cancel).job
        except (compat.AirflowException, TimeoutError) as error:
            vendor = self._request.vendor.name
            reason = str(error) or f"{vendor} did not answer within {CANCEL_LATE:.0f} s"
            self._log.warning(
                "%s could not be cancelled %s. %s",
                late.title,
                aside(reason),
                with_url("It is still running", self._url),
            )
            return False

        if job.state.is_terminal:
            self._log.info("%s has stopped: it is %s", late.title, job.word)
            return True

        self._log.warning(
            "%s was cancelled and has not stopped yet. %s",
            late.title,
            with_url("It is still running", job.url or self._url),
        )
        return False
