"""One walk through the pages of a source, as a plan says, with what is found on the way."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from async_triggers.engine.errors import (
    PermanentError,
    Scope,
    TransientError,
    UnreadableReply,
)
from async_triggers.engine.planner import BYTES_PER_REQUEST
from async_triggers.engine.requests import Misled, RoundGivenUp, reason_for
from async_triggers.engine.wire import SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.planner import Plan
    from async_triggers.engine.requests import Confirmations, Sender
    from async_triggers.engine.rows import Rows
    from async_triggers.engine.state import PollingState
    from async_triggers.engine.waiters import Claims
    from async_triggers.engine.wire import Page, Request, Source

ROWS_AT_ONCE = 100
"""Rows that are taken in before other tasks of the loop get their turn."""


class Walk:
    """Follows the plan of one round through the pages of its source."""

    def __init__(
        self,
        state: PollingState,
        sender: Sender,
        rows: Rows,
        confirmations: Confirmations,
        due: Sequence[str],
    ) -> None:
        self._state = state
        self._sender = sender
        self._rows = rows
        self._confirmations = confirmations
        self.due = due
        self._seen: set[str] = set()
        self._spent = 0.0
        self._cut_short = False
        # Of a feed: what all of its parts have shown together, and the earliest of the
        # times from which the next windows of the parts may begin.
        self._count = self._size = 0
        self._resumes: list[float | None] = []
        # Ends that wait for their confirmation, the earliest first, in a heap; and how
        # many walks may find more.
        self._claims: list[tuple[float, int, str, Claims]] = []
        self._claimed = 0
        self._found = asyncio.Event()
        self._walking = 0
        self.reached: float | None = None
        """The server's time up to which a feed was read, None until one was read whole."""
        self.doubtful: list[str] = []
        """Those that must be requested singly, since their ends could not be confirmed."""

    async def follow(self, plan: Plan) -> None:
        """Send all that the plan's source is to answer.

        Raise :class:`RoundGivenUp` when the vendor is in trouble, :class:`Misled` when
        the source cannot be used.
        """
        if plan.source is None:
            return

        source = plan.source
        self._spent = 0.0
        self._cut_short = False
        self._count = self._size = 0
        self._resumes.clear()
        try:
            starts = self._first_requests(plan)
        except Exception as error:  # noqa: BLE001 - others can be polled after any
            self._state.sources.distrust(source, reason_for(error))
            raise Misled from None

        async def pages(start: tuple[str, Request]) -> None:
            try:
                await self._pages(plan, source, *start)
            finally:
                self._walking -= 1
                self._found.set()

        self._walking = len(starts)
        works: list[Callable[[], Awaitable[None]]] = [
            partial(pages, start) for start in starts
        ]
        if plan.requests > len(starts):
            # What is on one of many pages need not wait for the last one.
            works += [self.confirm] * self._sender.hands

        try:
            await self._sender.spread(works, _call)
        finally:
            self._walking = 0

        if source.kind is SourceKind.FEED:
            self._finish_feed(plan, source)

    def _finish_feed(self, plan: Plan, source: Source) -> None:
        """Take note of a feed when all of its parts have been walked over."""
        span = 0.0
        server_now = self._state.coverage.server_now
        if plan.since is not None and server_now is not None:
            span = server_now - plan.since

        whole = not self._cut_short
        self._state.planner.learn(
            source, rows=self._count, size=self._size, span=span, whole=whole
        )
        resumes = [each for each in self._resumes if each is not None]
        if whole and len(resumes) == len(self._resumes):
            self.reached = min(resumes)
            self._state.coverage.feed_complete(plan.since, self.reached)

    def _first_requests(self, plan: Plan) -> list[tuple[str, Request]]:
        """Return the (scope, first request) of each part of a plan's walk."""
        source = plan.source
        assert source is not None  # noqa: S101 - singles have no walk
        vendor = self._state.vendor
        many = partial(vendor.many, self._state.account, source)
        if source.kind is SourceKind.FEED:
            firsts = [
                (part, many(since=plan.since, scope=part))
                for part in source.parts or ("",)
            ]
            if not plan.watched:
                return firsts

            return [(part, vendor.watched(first)) for part, first in firsts]

        if source.kind is SourceKind.IDS:
            return [("", many(subjects=batch)) for batch in plan.batches]

        return [(scope, many(scope=scope)) for scope in plan.scopes]

    @property
    def unconfirmed(self) -> int:
        """How many ends still wait for their confirmation."""
        return len(self._claims)

    async def confirm(self) -> None:
        """Have the ends confirmed that are found, until no more can be.

        The earliest first: it has waited longest for its round, and what has just ended
        can wait for the confirmations of a thousand others.
        """
        while self._claims or self._walking:
            if not self._claims:
                self._found.clear()
                await self._found.wait()
                continue

            _, _, subject, claims = heapq.heappop(self._claims)
            if not await self._confirmations.confirm(subject, claims):
                self.doubtful.append(subject)

    async def _pages(
        self, plan: Plan, source: Source, scope: str, first: Request
    ) -> None:
        request: Request | None = first
        rows = size = 0
        resume: float | None = None
        opening: float | None = None
        cut_short = False
        while request is not None:
            if self._spent >= plan.patience and request is not first:
                self._cut_short = cut_short = True
                break

            try:
                reply, page, date = await self._sender.send(request)
            except TransientError as error:
                self._state.trouble.note(error)
                raise RoundGivenUp from None
            except Exception as error:
                if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
                    raise

                self._state.sources.distrust(source, reason_for(error))
                raise Misled from None

            if not page.sound:
                self._state.sources.mismatched(source)
                raise Misled

            opening = date if request is first else opening
            rows += page.count
            size += len(reply.body)
            self._spent += 1.0 + len(reply.body) / BYTES_PER_REQUEST
            if page.resume is not None:
                resume = max(resume or page.resume, page.resume)

            await self._take(source, page, date)
            request = page.next

        self._state.sources.matched(source)
        if source.kind is SourceKind.FEED:
            self._count += rows
            self._size += size
            self._resumes.append(self._state.coverage.last_resume(opening, resume))
        else:
            self._state.planner.learn(
                source, rows=rows, size=size, scope=scope, whole=not cut_short
            )

    async def _take(self, source: Source, page: Page, date: float | None) -> None:
        waited = sum(subject in self._state.waiters for subject in page.rows)
        unreadable = 0
        for number, (subject, row) in enumerate(page.rows.items(), start=1):
            if number % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)

            self._seen.add(subject)
            try:
                claims = self._rows.take_safely(source, subject, row)
            except UnreadableReply:
                unreadable += 1
                continue

            if claims:
                self._claim(subject, claims)

            # A row that shows how a job is now, and not that something has changed.
            if (
                source.kind in {SourceKind.IDS, SourceKind.LIVE}
                and subject in self._state.waiters
            ):
                self._state.coverage.catch_up(subject, date)

        if unreadable * 2 > waited:
            self._sender.withdraw_answer()

    def _claim(self, subject: str, claims: Claims) -> None:
        """Take note of ends to be confirmed; those of the same time keep their order."""
        ended = (job.ended_at for _, job in claims if job.ended_at is not None)
        self._claimed += 1
        claim = (min(ended, default=-math.inf), self._claimed, subject, claims)
        heapq.heappush(self._claims, claim)
        self._found.set()

    def left(self, plan: Plan) -> list[str]:
        """Return those that must be requested singly after the walk."""
        unseen: list[str] = []
        if self._cut_short or (
            plan.source is not None and plan.source.kind is SourceKind.IDS
        ):
            unseen = [key for key in self.due if key not in self._seen]

        return [*plan.singles, *unseen]


async def _call(work: Callable[[], Awaitable[None]]) -> None:
    await work()
