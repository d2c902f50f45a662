"""Who waits for which job: joining, leaving, patience. Nothing in here awaits.

There may be tens of thousands of them, so one timer serves the patience of all.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from async_triggers.engine.errors import ConnectionChanged

if TYPE_CHECKING:
    from async_triggers.engine.errors import PermanentError
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.listener import Listener, Notice, Unchanged
    from async_triggers.engine.wire import Row


@dataclass(slots=True, eq=False)
class Waiter:
    """One who waits for the end of a job."""

    future: asyncio.Future[Job | None]
    """Takes the end of the wait; None where there is news, then another takes the end."""
    interval: float
    mark: str | None
    listener: Listener | None
    owner: object
    """The lease by which it came: it moves with it."""
    ends: float
    """The loop's time at which the patience of the waiter is over."""
    heard: tuple[str, object] | None = None
    """The last news of the job."""
    heard_at: float = -math.inf
    """When it last heard of the job, or began to wait."""
    withheld: Job | None = None
    """News that had to wait."""
    noticed_at: float | None = None
    """When it last heard of trouble that is not over yet."""
    newer: Waiter | None = None
    """Who waits for the same job and came next after this one."""
    older: Waiter | None = None
    """Who waits for the same job and came last before this one."""
    unheard: list[Job | Notice | Unchanged] | None = None
    """The news that its task has not handed over yet."""

    def give(self, news: Job | Notice | Unchanged) -> None:
        """Give news, which the waiter's own task hands over, in its own context.

        More may come before it has done so, and the end of the wait as well.
        """
        if self.unheard is not None:
            self.unheard.append(news)
            return

        self.unheard = [news]
        taken, self.future = self.future, self.future.get_loop().create_future()
        taken.set_result(None)

    def take_unheard(self) -> Sequence[Job | Notice | Unchanged]:
        """Return what is to be handed over now, in the order in which it came."""
        unheard, self.unheard = self.unheard, None
        return unheard or ()


@dataclass(slots=True, eq=False)
class Watched:
    """One job and those who wait for it."""

    newest: Waiter | None = None
    """The last to come, by which the others are found: mostly there are none.

    A container for each of ten thousand jobs is one more object for the garbage collector
    to walk over.
    """
    interval: float = math.inf
    """The shortest interval that a waiter requested."""
    joined_at: float = math.inf
    """The loop's time of its first wait."""
    began_at: float = math.inf
    """The loop's time of its start where the vendor shows it, else of its first wait."""
    asked_at: float = math.inf
    """The loop's time of the last round in which it was its turn, or of its first wait."""
    thinned: bool = False
    """A waiter has left, and perhaps the one with the shortest interval."""
    known: bool = False
    """The vendor has shown the job before, so that "gone" needs a second opinion."""
    digest: int | None = None
    """What the last row was judged by, if its job goes on."""
    has_news: bool = False
    """There was news in that row that had to wait."""
    failures: int = 0
    """How often in a row no answer came when the job was requested singly."""
    breaks: int = 0
    """How often in a row an answer about the job alone could not be taken in."""
    broken_since: float = 0.0
    """The loop's time of the first of them."""
    end: Row | None = None
    """The last row, where it showed an end that is still to be confirmed."""
    blocked_since: float | None = None
    """The loop's time since which something in between refuses to confirm that end."""

    def __iter__(self) -> Iterator[Waiter]:
        """Return the waiters, the newest first; each may leave as it is seen."""
        waiter = self.newest
        while waiter is not None:
            following = waiter.older
            yield waiter
            waiter = following

    def add(self, waiter: Waiter) -> None:
        """Let one more wait."""
        waiter.older = self.newest
        if self.newest is not None:
            self.newest.newer = waiter

        self.newest = waiter

    def remove(self, waiter: Waiter) -> None:
        """Let one wait no more, who does."""
        if waiter.newer is None:
            self.newest = waiter.older
        else:
            waiter.newer.older = waiter.older

        if waiter.older is not None:
            waiter.older.newer = waiter.newer

        waiter.newer = waiter.older = None


Claims: TypeAlias = list[tuple[Waiter, "Job"]]
"""Whose wait would end with which job, if it were confirmed."""


class Waiters:
    """All who wait for the jobs of one account."""

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}
        self.count = 0
        self.is_disbanded = False
        # Rings when the first of those who wait runs out of patience.
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    def __bool__(self) -> bool:
        """Return True while anyone waits."""
        return bool(self.watched)

    def __contains__(self, subject: str) -> bool:
        """Return True while anyone waits for this job."""
        return subject in self.watched

    def __iter__(self) -> Iterator[Waiter]:
        """Return those whose wait has not ended."""
        for watched in self.watched.values():
            for waiter in watched:
                if not waiter.future.done():
                    yield waiter

    def of(self, subject: str) -> Iterator[Waiter]:
        """Return those who wait for one job, and whose wait has not ended."""
        watched = self.watched.get(subject)
        if watched is not None:
            for waiter in watched:
                if not waiter.future.done():
                    yield waiter

    def join(self, subject: str, waiter: Waiter, now: float, *, known: bool) -> bool:
        """Let one wait; return True if it is the first for this job."""
        watched = self.watched.get(subject)
        is_new = watched is None
        if watched is None:
            watched = self.watched[subject] = Watched(
                joined_at=now, began_at=now, asked_at=now
            )

        watched.known = watched.known or known
        watched.interval = min(watched.interval, waiter.interval)
        watched.add(waiter)
        watched.digest = None
        self.count += 1
        if waiter.ends < self._alarm_at:
            self._set_alarm(waiter.ends)

        return is_new

    def leave(self, subject: str, waiter: Waiter) -> bool:
        """Let one wait no more; return True if it was the last for this job."""
        watched = self.watched[subject]
        watched.remove(waiter)
        self.count -= 1
        if watched.newest is not None:
            watched.thinned = True
            return False

        del self.watched[subject]
        if not self.watched:
            self._set_alarm(math.inf)

        return True

    def shortest_interval(self) -> float:
        """Return the shortest interval in seconds that anyone requested."""
        for watched in self.watched.values():
            if watched.thinned:
                watched.interval = min(each.interval for each in watched)
                watched.thinned = False

        return min(
            (watched.interval for watched in self.watched.values()), default=math.inf
        )

    def oldest(self, now: float) -> float:
        """Return for how many seconds the oldest job has been running, 0 without one."""
        began = min((each.began_at for each in self.watched.values()), default=now)
        return max(0.0, now - began)

    # Ends of waits without a job -----------------------------------------------------

    def fail(self, subject: str, error: PermanentError) -> None:
        """End the waits for one job."""
        for waiter in self.of(subject):
            waiter.future.set_exception(error.again())

    def fail_all(self, error: PermanentError) -> None:
        """End all waits."""
        for waiter in self:
            waiter.future.set_exception(error.again())

    def dismiss(self, owner: object) -> None:
        """End the waits of an owner: its connection leads to another account now."""
        error = ConnectionChanged("The Airflow connection leads to another account now")
        for waiter in self:
            if waiter.owner is owner:
                waiter.future.set_exception(error.again())

    def disband(self) -> None:
        """End all waits by cancellation, for good: the loop is shutting down."""
        self.is_disbanded = True
        for waiter in self:
            waiter.future.cancel()

    # One alarm for all: a timer for each of thousands is memory, and work for the loop.

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

        self._alarm_at = at
        self._alarm = None
        if at < math.inf:
            loop = asyncio.get_running_loop()
            # It belongs to no waiter, so it carries no waiter's context.
            self._alarm = loop.call_at(at, self._ring, context=contextvars.Context())

    def _ring(self) -> None:
        """End the wait of those whose patience is over."""
        # A timer may fire a hair early.
        now = max(self._alarm_at, asyncio.get_running_loop().time())
        following = math.inf
        for waiter in self:
            if waiter.ends <= now:
                waiter.future.set_exception(TimeoutError())
            else:
                following = min(following, waiter.ends)

        self._set_alarm(following)
