"""Those who wait, as the poller keeps them. There may be tens of thousands."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from async_triggers.engine.jobs import Job


@dataclass(frozen=True, slots=True)
class Notice:
    """What a waiter should know of the polling itself.

    ``is_over`` says that polling works again.
    """

    text: str
    is_over: bool = False


class Listener(Protocol):
    """What hears of a job before its end."""

    def hear(self, job: Job) -> None:
        """Take note that the job has changed. Called by the task that waits."""

    def hear_notice(self, notice: Notice) -> None:
        """Take note of trouble with polling, or of its end. Called as :meth:`hear`."""

    def needs_attention(self, job: Job) -> bool:
        """Tell whether the wait is to end although the job goes on."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One who waits for the end of a job."""

    future: asyncio.Future[Job | Notice]
    """Takes the end of the wait, or news; then another one takes the end."""
    interval: float
    mark: str | None
    listener: Listener | None
    owner: object
    """The lease by which it came: it moves with it."""
    ends: float
    """The loop's time at which the patience of the waiter is over."""
    told: tuple[str, object] | None = None
    told_at: float = -math.inf
    noticed_at: float | None = None
    """When it last heard of trouble that is not over yet."""
    newer: Waiter | None = None
    """Who waits for the same job and came next after this one."""
    older: Waiter | None = None
    """Who waits for the same job and came last before this one."""


@dataclass(slots=True, eq=False)
class Watched:
    """One subject and those who wait for it."""

    newest: Waiter | None = None
    """The last to come, by which the others are found: mostly there are none.

    A container for each of ten thousand jobs is one more object for the garbage collector
    to walk over.
    """
    interval: float = math.inf
    """The shortest interval that a waiter asked for."""
    thinned: bool = False
    """A waiter has left, and perhaps the one with the shortest interval."""
    known: bool = False
    """The vendor has shown the job before, so that "gone" needs a second opinion."""
    digest: int | None = None
    """What the last row was judged by, if its job goes on."""
    untold: bool = False
    """There was news in that row that had to wait."""
    failures: int = 0
    """How often in a row no answer came when the job was asked for singly."""
    breaks: int = 0
    """How often in a row an answer about the job alone could not be taken in."""
    broken_since: float = 0.0
    """The loop's time of the first of them."""

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


Claims: TypeAlias = list[tuple[Waiter, Job]]
"""Who would be told what, if it were confirmed."""
