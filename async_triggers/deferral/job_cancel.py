"""Cancelling one job on the triggerer, for as long as that takes.

A user who stops a task during an outage means it as well. So a cancel is tried until it
is made, and what Airflow and the vendor say is judged again each time: the task may have
gone on meanwhile (:mod:`async_triggers.deferral.kill`). When the process ends before that,
there is one last attempt, and the log says what became of the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from async_triggers.deferral import compat
from async_triggers.deferral.kill import Patience, Verdict, judge_kill
from async_triggers.engine.errors import (
    EngineError,
    RateLimited,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.jobs import Job
from async_triggers.engine.limiter import urgent
from async_triggers.engine.observer import CANCELS
from async_triggers.engine.wording import aside, sentence, with_url

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.engine.accounts import LeasedAccount

T = TypeVar("T")

CONFIRM_CANCEL = 60.0
"""Seconds in which a job that is cancelled at a deadline should have stopped."""
KILL_LOOK = 6.0
"""Seconds in which the facts for a kill must be known."""
CHECK_TIMEOUT = 60.0
"""Seconds for the check of a job that is to be cancelled."""
LAST_ATTEMPT = 8.0
"""Seconds for the last attempt of a cancel that is pending when its process ends: Airflow's
supervisor sends a triggerer's runner SIGINT, and SIGKILL twenty seconds later."""
LAST_PAUSE = 0.5
"""Seconds between two tries within these."""


class JobCancel:
    """The cancel of one job.

    ``job`` is the job as it is to be requested, also after it was cancelled; ``ti`` is the
    task instance, None where there is none; ``shown`` is the job as it was last seen.
    """

    def __init__(
        self, job: RemoteJob, log: Logger, ti: Any, *, shown: Job | None = None
    ) -> None:
        self.job = job
        self._log = log
        self._ti = ti
        self._shown = shown
        # What was judged last, and what stood in the way of the cancel.
        self._verdict = Verdict.UNKNOWN
        self._failure: EngineError | None = None
        self._why = "stopped"
        """Why it is cancelled, for the metrics."""

    # A task was stopped -------------------------------------------------------------

    async def lease_and_settle(self) -> str:
        """Settle a kill that came before the account was known."""
        hook = self.job.make_hook()
        try:
            account = await hook.known_account(patience=None)
        except EngineError as error:
            return self._give_up(error)
        except asyncio.CancelledError:
            self._log.warning(
                "%s was not cancelled before this process ends%s",
                self.job.title,
                self._goes_on(". "),
            )
            raise

        async with hook.lease(account=account) as leased:
            return await self.settle_kill(leased)

    async def settle_kill(
        self,
        leased: LeasedAccount,
        *,
        sought: str | None = None,
        is_found_again: bool = False,
    ) -> str:
        """Learn what happened to the task and act on it; return what was done.

        For the other arguments see :func:`.kill.judge_kill`.
        """
        judge = partial(
            self._judge,
            leased,
            sought=sought,
            is_found_again=is_found_again,
            is_kill=True,
        )
        try:
            verdict = await self._as_judged(leased, judge)
        except EngineError as error:
            return self._give_up(error)

        return f"{self.job.title}: {verdict.value}"

    async def _judge(
        self,
        leased: LeasedAccount,
        *,
        sought: str | None = None,
        is_found_again: bool = False,
        is_kill: bool = False,
    ) -> tuple[Verdict, Job | Exception]:
        """Learn what happened to the task, and what follows for its job, as it is now.

        At a kill what Airflow says holds as soon as it is known: the vendor may take a
        minute, and the process may end meanwhile.
        """
        ti = self._ti
        assert ti is not None  # noqa: S101 - the callers looked
        checking = asyncio.ensure_future(self._check(leased))
        try:
            state, token = await asyncio.gather(
                _in_time(compat.task_state(ti), KILL_LOOK),
                _in_time(compat.owner_token(ti), KILL_LOOK),
            )
            judge = partial(
                judge_kill,
                state=state,
                token=token,
                job_id=self.job.job_id,
                attempt=ti.try_number,
                sought=sought,
                is_found_again=is_found_again,
                stops_whatever_runs=self.job.stops_whatever_runs,
            )
            if is_kill:
                self._verdict = judge(job=TimeoutError())

            job = await checking
        finally:
            checking.cancel()

        return judge(job=job), job

    # A deadline has passed ----------------------------------------------------------

    async def at_deadline(
        self, leased: LeasedAccount, shown: Job | None, has_fired: Callable[[], bool]
    ) -> None:
        """Cancel after a deadline, even if the vendor cannot be reached for hours.

        ``shown`` is the job as it was checked right before. Once the task has gone on with
        the event, a retry of it may wait for the job again.
        """
        known = [] if shown is None else [shown]
        self._verdict, self._why = Verdict.CANCEL, "timeout"

        async def judge() -> tuple[Verdict, Job | Exception]:
            if not has_fired():
                job = known.pop() if known else await self._check(leased)
                # The deadline alone is reason enough.
                is_over = isinstance(job, Job) and job.state.is_terminal
                return Verdict.ENDED if is_over else Verdict.CANCEL, job

            verdict, job = await self._judge(leased)
            # So it also looks while Airflow has not taken the event in.
            is_early = verdict is Verdict.TAKEN_OVER
            return Verdict.UNKNOWN if is_early else verdict, job

        try:
            await self._as_judged(leased, judge)
        except EngineError as error:
            if has_fired():
                # The task has its event, and waits for this no more.
                self._give_up(error)

            raise

    # The cancel ---------------------------------------------------------------------

    async def confirm_at_deadline(
        self,
        leased: LeasedAccount,
        shown: Job | None,
        has_fired: Callable[[], bool],
        look: Callable[[LeasedAccount], Awaitable[Job | None]],
    ) -> Job | None:
        """Cancel, and return the job once it has ended; None when it would not end.

        ``shown`` is the job as it was checked right before, and ``look`` checks it again.
        """
        work = leased.run_errand(
            self.at_deadline(leased, shown, has_fired), f"cancel {self.job.job_id}"
        )
        loop = asyncio.get_running_loop()
        ends = loop.time() + CONFIRM_CANCEL
        is_confirmed = False
        while loop.time() < ends:
            await asyncio.wait({work}, timeout=2.0)
            if work.done() and work.exception() is not None:
                work.result()

            # What was cancelled in a pause of the account is seen to stop in it, once.
            with nullcontext() if is_confirmed or not work.done() else urgent():
                job = await look(leased)

            is_confirmed = work.done()
            if job is not None and job.state.is_terminal:
                # On a worker nothing goes on without us: let the cancel clean up.
                await asyncio.wait({work}, timeout=max(0.0, ends - loop.time()))
                return job

            if work.done():
                await asyncio.sleep(1.0)

        if self._ti is None:
            # A worker does not stay for it.
            work.cancel()
            await asyncio.wait({work}, timeout=LAST_ATTEMPT + 1.0)

        return None

    async def _as_judged(
        self,
        leased: LeasedAccount,
        judge: Callable[[], Awaitable[tuple[Verdict, Job | Exception]]],
    ) -> Verdict:
        """Cancel the job if that is the verdict, which is returned.

        The first attempt passes a pause of the account, later ones wait as long as the
        vendor says. Raise what the vendor has said last where it could not be cancelled.
        """
        loop = asyncio.get_running_loop()
        patience = Patience(loop.time(), doubt=leased.account.belief.doubt)
        try:
            while True:
                with nullcontext() if patience.tries else urgent():
                    is_settled = await self._try(leased, judge)

                verdict, failure = self._verdict, self._failure
                wait = None if is_settled else patience.wait_after(failure, loop.time())
                if wait is None:
                    if failure is not None:
                        raise failure

                    if verdict.is_doubtful:
                        self._log.warning(
                            "%s: %s%s",
                            self.job.title,
                            verdict.value,
                            self._goes_on(". "),
                        )

                    return verdict

                if patience.tries == 1:
                    words = (
                        verdict.value
                        if failure is None
                        else f"could not be cancelled: {failure.message}"
                    )
                    self._log.warning(
                        "%s: %s Trying again in %.0f s",
                        self.job.title,
                        sentence(words),
                        wait,
                    )

                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            await self._at_last(leased)
            raise

    async def _try(
        self,
        leased: LeasedAccount,
        judge: Callable[[], Awaitable[tuple[Verdict, Job | Exception]]],
    ) -> bool:
        """Check the task and the job, and cancel it; return False to try again.

        Never without a check that has shown this very job under way: some vendors' cancel
        acts on any job that runs.
        """
        verdict, job = await judge()
        self._verdict, self._failure = verdict, None
        if isinstance(job, Job):
            self._shown = job

        if verdict is not Verdict.CANCEL:
            return verdict is not Verdict.UNKNOWN

        if isinstance(job, Exception):
            self._failure = _as_failure(job, leased)
            return False

        try:
            # No await between the check and the cancel.
            self.job = await self._cancel(leased)
        except Exception as error:  # noqa: BLE001 - none of them proves a cancel
            self._failure = _as_failure(error, leased)
            return False

        return True

    async def _at_last(self, leased: LeasedAccount) -> None:
        """Make the last attempt of a pending cancel, and log what became of the job.

        Airflow cannot be queried any more then; what it said last holds.
        """
        reason = "it is not known whether a user has stopped its task"
        is_settled = False
        try:
            if self._verdict is Verdict.CANCEL:
                reason = "there was no time for it"
                async with asyncio.timeout(LAST_ATTEMPT):
                    with urgent():
                        while not is_settled:
                            try:
                                # Which checks first that it is this job that runs.
                                self.job = await self._cancel(leased)
                                is_settled = True
                            except Exception as error:  # noqa: BLE001 - as above
                                reason = _as_failure(error, leased).message
                                await asyncio.sleep(LAST_PAUSE)
        except TimeoutError:
            pass
        finally:
            if is_settled:
                self._log.info(
                    "%s: cancelled before this process ends, unless it had ended",
                    self.job.title,
                )
            else:
                self._log.warning(
                    "%s was not cancelled before this process ends %s%s",
                    self.job.title,
                    aside(reason),
                    self._goes_on(". "),
                )

    async def _cancel(self, leased: LeasedAccount) -> RemoteJob:
        job = await self.job.cancel(leased)
        leased.tally.count(CANCELS, self._why)
        return job

    async def _check(self, leased: LeasedAccount) -> Job | Exception:
        """Return the job as the vendor shows it, or why it does not."""
        seen = await _in_time(self.job.recheck(leased), CHECK_TIMEOUT)
        return seen if isinstance(seen, Exception) else seen.job

    # In words -----------------------------------------------------------------------

    def _give_up(self, error: EngineError) -> str:
        """Log that a cancel is tried no more, and that the job goes on, and where."""
        failed = sentence(f"{self.job.title} could not be cancelled: {error.message}")
        words = self._goes_on(f"{failed} ")
        self._log.warning("%s", words)
        return words

    def _goes_on(self, before: str) -> str:
        url = self.job.url or ("" if self._shown is None else self._shown.url)
        return with_url(f"{before}It is still running", url)


def _as_failure(error: Exception, leased: LeasedAccount) -> EngineError:
    """Return an error as one of the engine's, for which a try is worth repeating."""
    if isinstance(error, EngineError):
        return error

    paused = leased.limiter.paused_for
    if isinstance(error, TimeoutError) and paused:
        # It has waited for the end of a pause that another answer has demanded.
        return RateLimited("the account is paused", retry_after=paused)

    if isinstance(error, TimeoutError):
        return Unreachable("the vendor did not answer in time", ambiguous=True)

    return VendorBroken(f"{type(error).__name__}: {error}")


async def _in_time(question: Awaitable[T], seconds: float) -> T | Exception:
    """Return the answer, or the exception that there was instead of one."""
    try:
        async with asyncio.timeout(seconds):
            return await question
    except Exception as error:  # noqa: BLE001 - any failure means "not known"
        return error
