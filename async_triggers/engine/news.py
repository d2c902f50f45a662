"""News for those who wait: how a job goes on, and what becomes of polling itself.

A log line costs the triggerer a millisecond, so an account gives only so many a second.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

from async_triggers.engine.listener import UNCHANGED, Notice
from async_triggers.engine.trouble import NOTICE_AFTER

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.listener import Listener
    from async_triggers.engine.trouble import Trouble
    from async_triggers.engine.waiters import Waiter, Waiters

NEWS_INTERVAL = 600.0
"""Seconds between two pieces of news of one job whose state has not changed."""
REMIND_EVERY = 5.0
"""Seconds at least between two times at which those are sought who have heard nothing."""
NEWS_PER_SECOND = 10
"""Pieces of news that an account may give in a second."""

TICK = 60.0
"""Seconds after which one who watches looks for news."""
SPREAD = 10.0
"""Seconds at most until one looks again who found no room in a second."""
IT_WORKS = Notice("Polling works again", is_over=True)


class News:
    """How jobs go on."""

    def __init__(self) -> None:
        self._second = -1
        self._count = 0

    def has_room(self, now: float) -> bool:
        """Return True if another piece of news may be given in this second."""
        if int(now) != self._second:
            self._second = int(now)
            self._count = 0

        return self._count < NEWS_PER_SECOND

    def count(self) -> None:
        """Take note that a piece of news is given."""
        self._count += 1

    def report(self, waiter: Waiter, job: Job, now: float) -> bool:
        """Report how a job goes on; return False where that has to wait."""
        listener = waiter.listener
        if listener is None:
            return True

        is_given = self._give(waiter, job, now)
        waiter.withheld = None if is_given else job
        if listener.needs_attention(job):
            waiter.future.set_result(job)

        return is_given

    def _give(self, waiter: Waiter, job: Job, now: float) -> bool:
        news = (job.word, tuple(job.statistics.items()))
        if news == waiter.heard:
            return True

        same_state = waiter.heard is not None and waiter.heard[0] == job.word
        if same_state and now < waiter.heard_at + NEWS_INTERVAL:
            return False

        if not self.has_room(now):
            return False

        self._give_one(waiter, job, now)
        return True

    def _give_one(self, waiter: Waiter, job: Job, now: float) -> None:
        self.count()
        waiter.heard = (job.word, tuple(job.statistics.items()))
        waiter.heard_at = now
        waiter.give(job)

    def remind(self, waiter: Waiter, now: float) -> None:
        """Give what had to wait, or let a waiter know that nothing has changed."""
        job, waiter.withheld = waiter.withheld, None
        if job is not None:
            self._give_one(waiter, job, now)
            return

        self.count()
        waiter.heard_at = now
        waiter.give(UNCHANGED)


class Reminders:
    """Sees to it that each who waits hears something now and then.

    What does not change shows in no row, and some lists show ends alone. So there is a
    timer, one for all. It rings no more often than every :data:`REMIND_EVERY` seconds:
    each time it walks over all who wait.
    """

    def __init__(self, news: News, waiters: Waiters) -> None:
        self._news = news
        self._waiters = waiters
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Remind those who wait, from now on."""
        if self._timer is None:
            self._ring_in(NEWS_INTERVAL)

    def hush(self) -> None:
        """Remind no one, as no one waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        # It belongs to no waiter, so it carries no waiter's context.
        self._timer = loop.call_later(
            seconds, self._ring, context=contextvars.Context()
        )

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        following = now + NEWS_INTERVAL
        # Those who hear of trouble now and then need no reminder.
        silent = (
            each
            for each in self._waiters
            if each.listener is not None and each.noticed_at is None
        )
        # Those who have waited longest go first: of very many, the first would be due again
        # before the last have had their turn.
        for waiter in sorted(silent, key=attrgetter("heard_at")):
            due = waiter.heard_at + NEWS_INTERVAL
            if due > now:
                following = due
                break

            if self._news.has_room(now):
                self._news.remind(waiter, now)
            else:
                self._ring_in(1.0)
                return

        self._ring_in(max(REMIND_EVERY, following - now))


class Notices:
    """What those who wait hear of trouble: when it begins, now and then, at its end."""

    def __init__(self, news: News, waiters: Waiters) -> None:
        self._news = news
        self._waiters = waiters
        # How many have heard of trouble that is not over, and when more of them will.
        self._noticed = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def are_out(self) -> bool:
        """True while anyone has heard of trouble and not yet of its end."""
        return self._noticed > 0

    def forget(self, waiter: Waiter) -> None:
        """Forget one who has left."""
        self._noticed -= waiter.noticed_at is not None

    def give(
        self,
        of_job: Callable[[str], Notice | None],
        general: Notice | None,
    ) -> bool:
        """Give notices to those for whom one is due.

        Return False where some are left, since the account gives no more in this second.
        """
        now = asyncio.get_running_loop().time()
        due: list[tuple[Waiter, Notice | None]] = []
        for subject, watched in self._waiters.watched.items():
            notice = of_job(subject) or general
            due += [
                (waiter, notice)
                for waiter in watched
                if waiter.listener is not None
                and not waiter.future.done()
                and _is_due(waiter, notice, now)
            ]

        # Those who have heard nothing for longest go first, as with reminders.
        for waiter, notice in sorted(due, key=_noticed_at):
            if not self._news.has_room(now):
                return False

            self._give_one(waiter, notice, now)

        return True

    def _give_one(self, waiter: Waiter, notice: Notice | None, now: float) -> None:
        self._news.count()
        if notice is None:
            self._noticed -= 1
            waiter.noticed_at = None
            notice = IT_WORKS
        else:
            self._noticed += waiter.noticed_at is None
            waiter.noticed_at = now

        waiter.give(notice)

    # The next time -------------------------------------------------------------------

    def soon(self, notify: Callable[[], None], seconds: float = NOTICE_AFTER) -> None:
        """Call ``notify`` after so many seconds, unless it is to be called before."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                seconds, notify, context=contextvars.Context()
            )

    def hush(self) -> None:
        """Forget the next call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Chronicle:
    """What one hears who watches for ends: now and then how it goes on, and of trouble.

    It takes its turn with those who wait for jobs, but has to look for itself.
    """

    def __init__(self, listener: Listener, news: News, trouble: Trouble) -> None:
        self._listener = listener
        self._news = news
        self._trouble = trouble
        self._heard_at = asyncio.get_running_loop().time()
        self._noticed_at: float | None = None

    def give(self, job: Job) -> float:
        """Give what is due; return in how many seconds more may be.

        ``job`` stands for what is watched.
        """
        now = asyncio.get_running_loop().time()
        notice = self._trouble.notice(now)
        before = self._noticed_at if notice is not None else self._heard_at
        is_over = notice is None and self._noticed_at is not None
        is_due = is_over or before is None or now >= before + NEWS_INTERVAL
        if not is_due:
            return TICK

        if not self._news.has_room(now):
            # Hundreds may be due in one second.
            return random.uniform(1.0, SPREAD)

        self._news.count()
        self._heard_at = now
        self._noticed_at = None if notice is None else now
        if notice is not None or is_over:
            self._listener.hear_notice(notice or IT_WORKS)
        else:
            self._listener.hear(job)

        return TICK


def _noticed_at(due: tuple[Waiter, Notice | None]) -> float:
    return -math.inf if due[0].noticed_at is None else due[0].noticed_at


def _is_due(waiter: Waiter, notice: Notice | None, now: float) -> bool:
    if notice is None:
        return waiter.noticed_at is not None

    return waiter.noticed_at is None or now >= waiter.noticed_at + NEWS_INTERVAL
