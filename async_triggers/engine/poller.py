"""One loop, many waiters: the grid on which the rounds of an account stand.

Every waiter of an account awaits its own future; one loop polls for all of them.

*Joining and leaving are synchronous.* Membership and the loop's life change in one step
without an ``await``, so no task can see the one without the other, and cancelling a
waiter touches no other.

*Rounds belong to the account.* They stand on one grid, the shortest interval that anyone
requested; a longer interval takes every n-th round. However spread their joining, a
thousand waiters cost no more than a thousand that start together.

*Trouble is only a late answer.* No transient error ends a wait: the next round is the
retry. A permanent error reaches the waiters in its scope, each with an exception of its
own, once it is believed (:mod:`async_triggers.engine.doubt`).

*One bad job, row or source fails alone.* An exception that nothing here expects ends the
wait for the job that caused it, or the use of the source; the round goes on.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from async_triggers.engine import backoff
from async_triggers.engine.errors import PermanentError, RequestRejected
from async_triggers.engine.listener import Notice, Unchanged
from async_triggers.engine.news import Chronicle
from async_triggers.engine.observer import ROUND, ROUND_LATE
from async_triggers.engine.requests import RoundGivenUp
from async_triggers.engine.round import Round
from async_triggers.engine.spare import spare_pace
from async_triggers.engine.state import new_state
from async_triggers.engine.waiters import Waiter
from async_triggers.engine.watchers import Subscription

if TYPE_CHECKING:
    from async_triggers.engine.doubt import Doubt
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.listener import Listener
    from async_triggers.engine.transport import Transport
    from async_triggers.engine.watch import Mark, Watch

log = logging.getLogger(__name__)

GATHER = 5.0
"""The first round comes at most this many seconds after the first waiter."""
READ_FIRST = 15.0
READ_EVERY = 60.0
"""Seconds at most between two reads of the connections of an account that is in doubt."""


@dataclass(frozen=True, slots=True)
class PollerStatistics:
    """A snapshot of a poller. ``interval`` is in seconds.

    ``doubtful`` counts the jobs that the vendor refuses to show and that are waited for
    all the same; ``broken_rounds`` the rounds that an unforeseen error has ended;
    ``trouble`` says why polling fails now, empty where it works.
    """

    waiters: int
    watchers: int
    jobs: int
    rounds: int
    failed_rounds: int
    broken_rounds: int
    doubtful: int
    trouble: str
    interval: float
    plan: str


class Poller:
    """Polls one account for all who wait for its jobs.

    :meth:`wait` is for waiters; :meth:`run` is the loop, driven by the account, which
    ``stir`` wakes when the first one waits.
    """

    def __init__(self, transport: Transport, *, stir: Callable[[], None]) -> None:
        self.state = new_state(transport, on_trouble=self._expect_notices)
        self.round = Round(self.state)
        transport.trust.on_doubt = self._hurry
        self._stir = stir
        self._changed = asyncio.Event()
        self._next_round = math.inf
        self._number = 0
        # Around the round under way, or the part of one.
        self._bound: asyncio.Timeout | None = None

    def __repr__(self) -> str:
        """State the state."""
        state, watched = self.state, self.state.waiters.watched
        grid = "no grid" if state.is_idle else f"every {state.grid:g} s"
        watching = f", {len(state.watchers)} watchers" if state.watchers else ""
        trouble = f" | trouble: {state.trouble.message}" if state.trouble.error else ""
        if state.doubts:
            trouble += f" | {len(state.doubts)} jobs in doubt"

        return (
            f"<Poller [{'idle' if state.is_idle else 'polling'} |"
            f" {state.waiters.count} waiters, {len(watched)} jobs{watching} |"
            f" {grid}, {self._number} rounds | {state.planner.current}{trouble}]>"
        )

    def statistics(self) -> PollerStatistics:
        """Return a snapshot."""
        state = self.state
        return PollerStatistics(
            waiters=state.waiters.count,
            watchers=len(state.watchers),
            jobs=len(state.waiters.watched),
            rounds=self._number,
            failed_rounds=state.trouble.failed_rounds,
            broken_rounds=state.trouble.broken_rounds,
            doubtful=len(state.doubts),
            trouble=state.trouble.message,
            interval=0.0 if state.is_idle else state.grid,
            plan=state.planner.current,
        )

    @property
    def idle(self) -> bool:
        """True when there is no one who waits or watches."""
        return self.state.is_idle

    @property
    def server_now(self) -> float | None:
        """The server's time now, in epoch seconds, None before its first answer."""
        return self.state.coverage.server_now

    # Waiting ------------------------------------------------------------------

    async def wait(
        self,
        subject: str,
        *,
        interval: float,
        mark: str | None = None,
        seen_at: float | None = None,
        known: bool = False,
        vouched: bool = False,
        owner: object = None,
        listener: Listener | None = None,
        patience: float | None = None,
    ) -> Job:
        """Wait until a job has ended, and return it.

        ``interval`` is how often in seconds the job should be polled. ``seen_at`` is
        the server's time (epoch seconds) when it was last seen, before which nothing
        needs to be learnt. ``known`` says that the vendor has shown the job before, as
        ``seen_at`` does: then a refusal is doubted. ``vouched`` says that the account has
        worked before, even if nothing is known of the job. ``mark`` is handed to the
        vendor with each row. ``owner`` is what :meth:`dismiss` knows the waiter by.
        ``listener`` hears of changes, of those that are none of state every ten minutes,
        as of no change; it may end the wait for a job that goes on. ``patience`` is in
        seconds, None for ever.

        Raise :class:`~async_triggers.engine.errors.PermanentError` when the vendor's
        refusal concerns this job or the whole account,
        :class:`~async_triggers.engine.errors.ConnectionChanged` when the waiter was
        dismissed, :class:`TimeoutError` when the patience is over.
        """
        if self.state.waiters.is_disbanded:
            raise asyncio.CancelledError

        _check_wait(subject, interval, seen_at)
        loop = asyncio.get_running_loop()
        waiter = Waiter(
            future=loop.create_future(),
            interval=max(interval, self.state.vendor.grid_floor),
            mark=mark,
            listener=listener,
            owner=owner,
            ends=math.inf if patience is None else loop.time() + patience,
            heard_at=loop.time(),
        )
        known = known or seen_at is not None
        if known or vouched:
            self.state.transport.trust.vouch()

        self._join(subject, waiter, seen_at, known=known)
        try:
            while True:
                job = await waiter.future
                if job is not None:
                    return job

                for news in waiter.take_unheard():
                    _hand_over(news, listener)
        finally:
            self._leave(subject, waiter)

    def dismiss(self, owner: object) -> None:
        """End the waits of an owner: its connection leads to another account now."""
        self.state.waiters.dismiss(owner)
        self.state.watchers.dismiss(owner)

    def disband(self) -> None:
        """End all waiting by cancellation, for good: the loop is shutting down."""
        self.state.waiters.disband()
        self.state.watchers.disband()

    def break_off(self) -> None:
        """End the round under way unless there are waiters; it may be held up for hours."""
        if self.idle:
            self._end_round()

    def _end_round(self) -> None:
        bound = self._bound
        if bound is not None and not bound.expired():
            bound.reschedule(asyncio.get_running_loop().time())

    # Watching -----------------------------------------------------------------------

    def subscribe(
        self,
        watch: Watch,
        *,
        interval: float,
        mark: Mark | None = None,
        vouched: bool = False,
        owner: object = None,
    ) -> Subscription:
        """Hear of the ends of jobs, no matter who has started them, until it is closed.

        ``mark`` is up to where this has been heard before; without one it begins with the
        server's time now. ``interval``, ``vouched`` and ``owner`` are as for :meth:`wait`.
        """
        if self.state.waiters.is_disbanded:
            raise asyncio.CancelledError

        _check_wait(":".join(watch.place), interval, None)
        state = self.state
        if vouched:
            state.transport.trust.vouch()

        subscription = Subscription(
            watch,
            interval=max(interval, state.vendor.grid_floor),
            mark=mark,
            owner=owner,
            keeps=state.watchers.keeps,
            leave=self._unsubscribe,
        )
        if mark is None and state.coverage.server_now is not None:
            subscription.begin(state.coverage.server_now)

        state.watchers.join(subscription)
        self._quicken(subscription.interval)
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        self.state.watchers.leave(subscription)
        self._rest()

    # No await in these: membership, the grid and the loop's alarm change together.

    def _join(
        self, subject: str, waiter: Waiter, seen_at: float | None, *, known: bool
    ) -> None:
        state = self.state
        now = asyncio.get_running_loop().time()
        if state.waiters.join(subject, waiter, now, known=known):
            state.sweep.seen(subject, now)

        state.reminders.begin()
        state.coverage.join(subject, seen_at)
        self._quicken(waiter.interval)

    def _quicken(self, interval: float) -> None:
        """Make the grid as narrow as a new interval."""
        state = self.state
        if interval < state.grid:
            now = asyncio.get_running_loop().time()
            state.grid = interval
            self._next_round = min(self._next_round, now + min(state.grid, GATHER))
            self._changed.set()
            self._stir()

    def _leave(self, subject: str, waiter: Waiter) -> None:
        state = self.state
        state.notices.forget(waiter)
        if state.waiters.leave(subject, waiter):
            state.forget(subject)

        self._rest()

    def _rest(self) -> None:
        """Hold no more rounds when the last has left."""
        state = self.state
        if not state.waiters:
            state.notices.hush()
            state.reminders.hush()

        if state.is_idle:
            state.grid = self._next_round = math.inf
            self._changed.set()

    # The loop -----------------------------------------------------------------

    async def run(self) -> None:
        """Hold rounds for as long as anyone waits or watches."""
        loop = asyncio.get_running_loop()
        while not self.state.is_idle:
            if loop.time() >= self._next_round:
                await self._hold_round()
                continue

            next_check = self.state.doubts.next_check
            if loop.time() >= next_check:
                await self._hold(self.round.check_doubtful())
                continue

            self._changed.clear()
            try:
                async with asyncio.timeout_at(min(self._next_round, next_check)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _hold_round(self) -> None:
        """Hold the round that is due, and set the next one."""
        loop, tally = asyncio.get_running_loop(), self.state.transport.tally
        # Where it stands on the grid, not when the loop got to it.
        planned, began = self._next_round, loop.time()
        tally.time(ROUND_LATE, began - planned)
        self._number += 1
        self.state.trouble.is_in_round = False
        await self._hold(self.round.hold(self._number, planned))
        tally.time(ROUND, loop.time() - began)
        self._schedule(planned)

    def _schedule(self, planned: float) -> None:
        """Set the next round on the grid, later while there is trouble."""
        state = self.state
        if state.is_idle:
            return

        # The shortest interval may have left.
        state.grid = min(
            state.waiters.shortest_interval(), state.watchers.shortest_interval()
        )
        state.quick = spare_pace(state)
        pace = state.pace
        if state.trouble.failures:
            pace = max(pace, backoff.delay(state.trouble.failures))

        now = asyncio.get_running_loop().time()
        transport = state.transport
        doubt = transport.trust.doubt
        if doubt is not None:
            # Until it ends, one request at a time is let through, and not before then.
            # A connection that has changed meanwhile is followed without one.
            read = now + (READ_FIRST if now < doubt.since + READ_EVERY else READ_EVERY)
            check = now + transport.seconds_to_check
            self._next_round = max(min(check, read), now + 1.0)
            return

        steps = max(1, math.ceil((now - planned) / pace))
        self._next_round = planned + steps * pace

    def _hurry(self, doubt: Doubt) -> None:
        """Hold the next round when a doubt that has just begun is to be checked."""
        if not self.state.is_idle and doubt.next_check < self._next_round:
            self._next_round = doubt.next_check
            self._changed.set()

        if self.state.transport.limiter.paused_for:
            # It would read no connection while a pause holds it up.
            self._end_round()

    async def _hold(self, work: Awaitable[None]) -> None:
        """Hold a round, or a part of one; nothing that goes wrong in it may end polling."""
        state, loop = self.state, asyncio.get_running_loop()
        bound = asyncio.timeout(None)
        try:
            async with bound:
                self._bound = bound
                await work
        except RoundGivenUp:
            state.trouble.note_given_up()
            state.doubts.missed([*state.waiters.watched], loop.time())
        except PermanentError as error:
            self._fail_all(error)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            if not bound.expired():
                state.trouble.note_break(error)
        finally:
            self._bound = None

        # None of those who wait has ever been answered, or this would be an outage.
        wrong = self.state.transport.trust.wrong_field(loop.time())
        if wrong is not None:
            self._fail_all(wrong)

        self._notify()

    def _fail_all(self, error: PermanentError) -> None:
        self.state.waiters.fail_all(error)
        self.state.watchers.fail_all(error)

    # What those who wait hear of trouble ----------------------------------------------

    def _expect_notices(self) -> None:
        """See to it that those who wait hear of trouble that has begun."""
        self.state.notices.soon(self._notify)

    def _notify(self) -> None:
        """Let those who wait know of trouble: when it begins, now and then, at its end.

        No more at once than the account's news allow; the rest follows each second.
        """
        state = self.state
        state.notices.hush()
        is_over = (
            state.trouble.error is None
            and not state.doubts
            and not state.notices.are_out
        )
        if is_over or not state.waiters:
            return

        general = state.trouble.notice(asyncio.get_running_loop().time())
        if not state.notices.give(self._notice_of, general):
            state.notices.soon(self._notify, 1.0)
        elif state.trouble.error is not None:
            # A round may wait for an hour until it may request anything.
            state.notices.soon(self._notify)

    def chronicle(self, listener: Listener) -> Chronicle:
        """Return what lets one who watches hear how that goes on."""
        return Chronicle(listener, self.state.news, self.state.trouble)

    def _notice_of(self, subject: str) -> Notice | None:
        refusal = self.state.doubts.refusal_of(subject)
        if refusal is None:
            return None

        return Notice(
            "Polling failed (still waiting; it has worked before, so it is checked again):"
            f" {refusal.message}"
        )


def _hand_over(news: Job | Notice | Unchanged, listener: Listener | None) -> None:
    if listener is None:
        return

    try:
        if isinstance(news, Notice):
            listener.hear_notice(news)
        elif isinstance(news, Unchanged):
            listener.hear_again()
        else:
            listener.hear(news)
    except Exception:
        of = "polling" if isinstance(news, Notice | Unchanged) else news.id
        log.exception("The news of %s could not be given", of)


def _check_wait(subject: object, interval: object, seen_at: object) -> None:
    """Refuse what would break a round for all others, before it joins one."""
    if not isinstance(subject, str) or not subject.strip():
        msg = f"{subject!r} is no id to wait for"
    elif not _is_number(interval) or interval < 0:  # type: ignore[operator]
        msg = f"{interval!r} is not an interval in seconds to poll {subject} at"
    elif seen_at is not None and not _is_number(seen_at):
        msg = (
            f"{seen_at!r} is not a time in epoch seconds at which {subject} was polled"
        )
    else:
        return

    raise RequestRejected(msg)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False

    try:
        return math.isfinite(value)
    except OverflowError:
        return False
