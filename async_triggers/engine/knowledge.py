"""What is known of the vendor and of its answers. Synchronous and without I/O.

*Absence is no answer.* A list or a feed that does not mention a job says nothing about
it: every waited job is seen in its own row at least once in a sweep.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Container, Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from async_triggers.engine.clock import ServerClock
from async_triggers.engine.wire import SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.planner import Planner
    from async_triggers.engine.wire import Account, Source

log = logging.getLogger(__name__)

SWEEP = 300.0
"""Seconds within which every waited job is seen in its own row."""
DISTRUST = 600.0
"""Seconds for which a source is not used after it refused or misled us."""
MISMATCH = 60.0
"""The same after a page that does not match its request: each page shows that by itself,
so the source is soon tried again. Twice as long each time, until all of its pages match."""


class Coverage:
    """The server's clock, and up to which time the changes of which jobs are known.

    Times are the server's, in epoch seconds. ``overlap`` is by how many seconds two
    windows of a feed overlap.
    """

    def __init__(self, overlap: float) -> None:
        self._overlap = overlap
        self._clock = ServerClock()
        self.cursor: float | None = None
        """Up to when the changes of all jobs are known, but for those in ``behind``."""
        self.behind: dict[str, float | None] = {}
        # Of this round: the server time at which it began, which jobs have been seen in
        # their own rows since then, which joined after it was planned, and whose end a
        # feed has shown, so that it is only to be confirmed.
        self._round_began: float | None = None
        self.covered: set[str] = set()
        self.joined: set[str] = set()
        self.shown: set[str] = set()

    @property
    def server_now(self) -> float | None:
        """The server's time now, None before its first answer."""
        return self._clock.now(asyncio.get_running_loop().time())

    @property
    def round_began(self) -> float | None:
        """The server's time of the first answer of this round, None before it."""
        return self._round_began

    def begin_round(self) -> None:
        """Forget what the last round has shown."""
        self._round_began = None
        self.covered.clear()
        self.shown.clear()

    def join(self, subject: str, seen_at: float | None) -> None:
        """Take note that a job is waited for, which was last seen at that time."""
        look = None if seen_at is None else seen_at - self._overlap
        # Also behind when the look is newer than the cursor: pages of the walk that is
        # under way may have passed by already.
        earliest = self.behind.get(subject, look)
        self.behind[subject] = (
            None if earliest is None or look is None else min(earliest, look)
        )
        self.joined.add(subject)

    def forget(self, subject: str) -> None:
        """Forget a job without waiters."""
        self.behind.pop(subject, None)

    def behind_of(self, subjects: Iterable[str]) -> dict[str, float | None]:
        """Return those of the jobs of which less is known, with the time of the look."""
        return {key: self.behind[key] for key in subjects if key in self.behind}

    def read_date(self, date: float) -> float:
        """Take the time of an answer in; return it as the server's course has it."""
        date, step = self._clock.read(date, asyncio.get_running_loop().time())
        if step < 0.0:
            self._step_back(step)

        self._round_began = min(self._round_began or date, date)
        return date

    def _step_back(self, step: float) -> None:
        """Move all that was measured by a clock that was ahead."""
        if self.cursor is not None:
            self.cursor += step

        self.behind = {
            subject: None if look is None else look + step
            for subject, look in self.behind.items()
        }
        if self._round_began is not None:
            self._round_began += step

    def catch_up(self, subject: str, date: float | None) -> None:
        """Take note that its own row showed all about a job until the reply."""
        if date is None:
            return

        self.covered.add(subject)
        if subject in self.behind:
            covered = date - self._overlap
            if self.cursor is not None and covered >= self.cursor:
                del self.behind[subject]
            else:
                self.behind[subject] = covered

    def move_cursor(self, watched: Iterable[str]) -> None:
        """Move the cursor after a round in which all who were due were requested."""
        if self._round_began is None:
            return

        resume = self._round_began - self._overlap
        if self.cursor is not None:
            if resume <= self.cursor:
                return

            for subject in watched:
                if subject not in self.covered:
                    self.behind.setdefault(subject, self.cursor)

        self.cursor = resume

    def feed_complete(self, since: float | None, resume: float) -> None:
        """Move the cursor after a whole walk over a feed."""
        if since is not None and self.cursor is not None and since > self.cursor:
            # The server's clock has turned out to be behind: the window was too late.
            return

        self.cursor = max(self.cursor or resume, resume)
        if since is not None:
            self.behind = {
                subject: look
                for subject, look in self.behind.items()
                if look is None or look < since or subject in self.joined
            }

    def last_resume(self, first: float | None, resume: float | None) -> float | None:
        """Return where the next window of a feed may begin at the latest.

        ``first`` is the server's time of the walk's first answer: what changed while the
        pages were read may not be in them.
        """
        if resume is None or first is None:
            return resume

        # The clock of that answer may have turned out to be ahead since.
        began = first if self._round_began is None else min(first, self._round_began)
        return min(resume, began - self._overlap)

    def should_have_shown(self, subject: str, job: Job) -> bool:
        """Return True if a feed that reports such ends has missed the end of a job."""
        return (
            subject not in self.shown
            and job.ended_at is not None
            and self.cursor is not None
            and job.ended_at < self.cursor
            and subject not in self.behind
        )


class Sources:
    """The lists and feeds of a vendor, and which of them are not to be used for a while."""

    def __init__(self, account: Account, sources: Sequence[Source]) -> None:
        self._account = account
        self._sources = sources
        self._distrusted: dict[str, float] = {}
        self._mismatches: dict[str, int] = {}
        self.scopes: dict[str, str] = {}
        """The part of a scoped list in which each job was seen."""

    @property
    def trusted(self) -> list[Source]:
        """Those that may be used now."""
        now = asyncio.get_running_loop().time()
        return [
            source
            for source in self._sources
            if self._distrusted.get(source.name, 0.0) <= now
        ]

    @property
    def by_ids(self) -> Source | None:
        """The one that shows jobs by their ids, if it may be used."""
        return next(
            (each for each in self.trusted if each.kind is SourceKind.IDS), None
        )

    def distrust(self, source: Source, why: str, lasts: float = DISTRUST) -> None:
        """Do without a source for some seconds."""
        now = asyncio.get_running_loop().time()
        if self._distrusted.get(source.name, 0.0) <= now:
            log.warning(
                "%s: %s is not used for %d s: %s",
                self._account,
                source.name,
                lasts,
                why,
            )

        self._distrusted[source.name] = now + lasts

    def mismatched(self, source: Source) -> None:
        """Do without a source that has shown what was not requested."""
        times = self._mismatches.get(source.name, 0)
        self._mismatches[source.name] = times + 1
        lasts = min(DISTRUST, MISMATCH * 2.0 ** min(times, 10))
        self.distrust(source, "its rows do not match the request", lasts)

    def matched(self, source: Source) -> None:
        """Take note that all pages of a walk were as requested."""
        self._mismatches.pop(source.name, None)


class Sweep:
    """Which jobs are to be seen in their own rows, a few in each round.

    Each of them is to be seen once within :data:`SWEEP` seconds.
    """

    def __init__(self) -> None:
        # When each own row was last seen, oldest first.
        self._last_row: dict[str, float] = {}
        self._swept_at = 0.0
        self._credit = 0.0

    def __len__(self) -> int:
        """Return how many jobs are to be seen."""
        return len(self._last_row)

    def seen(self, subject: str, now: float) -> None:
        """Take note of a row of a job, or that it is waited for from now on."""
        # The one seen last stands last.
        self._last_row.pop(subject, None)
        self._last_row[subject] = now

    def forget(self, subject: str) -> None:
        """Forget a job that no task waits for."""
        self._last_row.pop(subject, None)

    def begin(self, now: float) -> None:
        """Begin the share of one round."""
        passed = now - self._swept_at
        self._swept_at = now
        # Spread evenly over the rounds, a little faster than need be.
        credit = len(self) * min(1.0, 1.25 * passed / SWEEP)
        self._credit = min(self._credit, 1.0) + credit

    def late(self, now: float, pace: float) -> float:
        """Return when a job was last seen that would be too late in the next round."""
        return now - SWEEP + pace * 1.5

    def early(self, now: float, pace: float) -> float:
        """Return when a job was last seen that may be seen again in this round."""
        return max(self.late(now, pace), now - SWEEP / 5)

    def oldest(self, default: float, without: Container[str]) -> float:
        """Return when the job was last seen for which that is longest ago."""
        # The first of thousands, in most rounds.
        return next(
            (
                seen
                for subject, seen in self._last_row.items()
                if subject not in without
            ),
            default,
        )

    def overdue(self, since: float, without: Container[str]) -> list[str]:
        """Return those not seen in their own rows since then, longest ago first."""
        long_ago = takewhile(lambda each: each[1] <= since, self._last_row.items())
        return [subject for subject, _ in long_ago if subject not in without]

    def share(self, now: float, pace: float, without: Container[str]) -> list[str]:
        """Return those to be seen in this round."""
        overdue = self.overdue(self.late(now, pace), without)
        if len(overdue) < self._credit:
            overdue = self.overdue(self.early(now, pace), without)[: int(self._credit)]

        self._credit = max(0.0, self._credit - len(overdue))
        return overdue

    def cost(self, planner: Planner, ids: Source | None, pace: float) -> float:
        """Return what it costs to see each of them once, a few in each round."""
        count = len(self)
        if ids is None:
            return float(count)

        rounds = max(1.0, SWEEP / pace)
        some = min(count, math.ceil(count * 1.25 / rounds))
        return rounds * planner.walk_cost(ids, some)[1]
