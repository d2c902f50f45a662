"""Taking rows in: what they mean for those who wait. Synchronous."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from async_triggers.engine.errors import PermanentError, UnreadableReply
from async_triggers.engine.observer import DETECTION
from async_triggers.engine.times import parse_time
from async_triggers.engine.trouble import unusable
from async_triggers.engine.wire import SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.state import PollingState
    from async_triggers.engine.waiters import Claims, Waiter, Watched
    from async_triggers.engine.wire import Row, Source

log = logging.getLogger(__name__)


class Rows:
    """Takes the vendor's rows in, and ends the waits that they end."""

    def __init__(self, state: PollingState) -> None:
        self._state = state
        self._vendor = state.vendor

    def take_safely(self, source: Source, subject: str, row: Row) -> Claims:
        """Take a row of a source in; a job whose row breaks is requested by itself.

        Raise :class:`~.errors.UnreadableReply` for a row that lacks what it must have.
        """
        try:
            return self.take(subject, row, feed=source.kind is SourceKind.FEED)
        except UnreadableReply:
            # A job in doubt is checked by itself at the times of the doubt.
            if subject not in self._state.doubts:
                self._state.odd.add(subject)

            raise
        except Exception:
            name = self._vendor.name_of(subject)
            log.exception("A row of %s about %s broke", source.name, name)
            self._state.odd.add(subject)
            self._state.sources.distrust(
                source, f"its row about {name} cannot be taken in"
            )
            return []

    def take(
        self, subject: str, row: Row, *, alone: bool = False, feed: bool = False
    ) -> Claims:
        """Take a row in, and end the waits for its job where it has ended.

        ``alone`` marks a reply to a request for this job; only such a one may end a job
        that needs confirmation. ``feed`` marks a row of a feed. Return the ends that are
        still to be confirmed. Raise :class:`~.errors.UnreadableReply` for a row that lacks
        what it must have.
        """
        self._show(subject, row)
        claims: Claims = []
        watched = self._state.waiters.watched.get(subject)
        if watched is None:
            return claims

        now = asyncio.get_running_loop().time()
        self._note(watched, subject, row, now)
        digest = self._vendor.digest(row)
        if not alone and self._is_known(watched, digest, now):
            self._state.doubts.forget(subject)
            return claims

        going_on = True
        watched.has_news = False
        for waiter in watched:
            if waiter.future.done():
                continue

            job = self._judge(waiter, subject, row, alone=alone)
            if job is None:
                going_on = False
            elif not job.state.is_terminal:
                self._date(watched, job, now)
                watched.has_news |= not self._state.news.report(waiter, job, now)
            elif not alone and self._vendor.needs_confirmation(job):
                going_on = False
                claims.append((waiter, job))
            else:
                if not feed:
                    self.check_feed(subject, job)

                self.measure(subject, job)
                waiter.future.set_result(job)

        if claims and feed:
            self._state.coverage.shown.add(subject)

        watched.digest = digest if going_on else None
        return self._wanted(claims, watched, subject, row)

    def _show(self, subject: str, row: Row) -> None:
        """Let those see a row who watch."""
        watchers = self._state.watchers
        watchers.take(row, subject)
        if watchers.watches(subject):
            self._note_scope(subject, row)

    def _wanted(
        self, claims: Claims, watched: Watched, subject: str, row: Row
    ) -> Claims:
        """Return what is to be confirmed now; a row that claims nothing ends the doubt.

        A confirmation that is refused is checked at the times of the doubt.
        """
        if not claims:
            watched.end = watched.blocked_since = None
            self._state.doubts.forget(subject)
            return claims

        watched.end = row
        return [] if subject in self._state.doubts else claims

    def take_end(self, subject: str, row: Row) -> None:
        """End the waits that a row of a list ends, which nothing has confirmed."""
        for waiter in self._state.waiters.of(subject):
            job = self._judge(waiter, subject, row, alone=True)
            if job is not None and job.state.is_terminal:
                self.measure(subject, job)
                waiter.future.set_result(job)

    def _note(self, watched: Watched, subject: str, row: Row, now: float) -> None:
        """Keep account of which jobs have been seen in their own rows."""
        watched.known = True
        self._state.owed.discard(subject)
        self._state.sweep.seen(subject, now)
        self._note_scope(subject, row)

    def _note_scope(self, subject: str, row: Row) -> None:
        scope = self._vendor.scope_of(row)
        if scope:
            self._state.sources.scopes[subject] = scope

    def _is_known(self, watched: Watched, digest: int | None, now: float) -> bool:
        """Return True if a row says nothing new, and nothing that had to wait."""
        if digest is None or digest != watched.digest:
            return False

        return not (watched.has_news and self._state.news.has_room(now))

    def _judge(
        self, waiter: Waiter, subject: str, row: Row, *, alone: bool
    ) -> Job | None:
        """Read a waiter's job from a row; None when the wait has ended instead."""
        try:
            return self._vendor.judge(self._state.account, subject, row, waiter.mark)
        except UnreadableReply:
            raise
        except PermanentError as error:
            waiter.future.set_exception(error.again())
        except Exception as error:
            if not alone:
                raise

            name = self._vendor.name_of(subject)
            log.exception("The response for %s cannot be judged", name)
            waiter.future.set_exception(unusable(name, error))

        return None

    def _date(self, watched: Watched, job: Job, now: float) -> None:
        """Learn when a job began that was running before it was waited for."""
        if watched.began_at != watched.joined_at:
            return

        server_now = self._state.coverage.server_now
        started = parse_time(job.started_at)
        if started is not None and server_now is not None:
            watched.began_at = min(watched.began_at, now - (server_now - started))

    def measure(self, subject: str, job: Job) -> None:
        """Measure how long after its end a job is known to have ended.

        Once for a job, and only for one that ended while it was waited for.
        """
        server_now = self._state.coverage.server_now
        watched = self._state.waiters.watched.get(subject)
        if watched is None or job.ended_at is None or server_now is None:
            return

        now = asyncio.get_running_loop().time()
        late = server_now - job.ended_at
        if late <= now - watched.joined_at:
            watched.joined_at = now
            self._state.transport.tally.time(DETECTION, late)

    def check_feed(self, subject: str, job: Job) -> None:
        """Distrust a feed that should have shown this end and did not."""
        state = self._state
        if not state.coverage.should_have_shown(subject, job):
            return

        for source in state.sources.trusted:
            if (
                source.kind is SourceKind.FEED
                and job.state not in source.omits
                and state.planner.current == source.name
            ):
                state.sources.distrust(
                    source,
                    f"it did not show the end of {self._vendor.name_of(job.id)}",
                )
