"""One round: plan, walk, confirm, poll singly, sweep."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from async_triggers.engine.ends import Ends
from async_triggers.engine.errors import PermanentError, Scope, TransientError
from async_triggers.engine.knowledge import SWEEP
from async_triggers.engine.planner import Plan, Situation, serves
from async_triggers.engine.requests import (
    GIVE_UP_AFTER,
    Confirmations,
    Misled,
    RoundGivenUp,
    Sender,
    Singles,
)
from async_triggers.engine.rows import Rows
from async_triggers.engine.walk import Walk
from async_triggers.engine.watch import LOOKBACK
from async_triggers.engine.wire import SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.state import PollingState
    from async_triggers.engine.watch import Need
    from async_triggers.engine.wire import Source

EPSILON = 1e-6
"""What sums of intervals may be off by."""
SOON = 60.0
"""Seconds after the first round in which a feed is read further back for watchers."""
LEAST_FOR_POLLS = 0.25
"""The part of the account's share that any number of starts leaves to polls."""


class Round:
    """Holds the rounds of one account."""

    def __init__(self, state: PollingState) -> None:
        self._state = state
        self._sender = Sender(state)
        self._rows = Rows(state)
        self._singles = Singles(state, self._sender, self._rows)
        self._confirmations = Confirmations(state, self._sender, self._rows)
        self._sweeping = Sweeping(
            state, self._sender, self._rows, self._singles, self._confirmations
        )
        self._watching = Watching(state, self._sender)
        self._failed_walks = 0
        """Walks that failed in a row."""

    async def check_doubtful(self) -> None:
        """Request again jobs whose refusal is not believed yet."""
        await self._singles.check_doubtful()

    async def hold(self, number: int, planned: float) -> None:
        """Hold the round with this number, planned for a time of the loop.

        Raise :class:`~.requests.RoundGivenUp` when the vendor is in trouble,
        :class:`~.errors.PermanentError` when it refuses the account for good.
        """
        state = self._state
        if state.transport.seconds_to_check > 0:
            await self._sender.read_connections()
            return

        self._sender.answers = 0
        due = self._due(number, planned)
        # They have had their turn by then, also where the round is given up.
        state.owed.update(due)
        state.coverage.begin_round()
        need = await self._watching.begin(number, planned, alone=not due)
        if not due and need is None:
            return

        watched = frozenset() if need is None else need.subjects
        walk = self._sweeping.walk([*due, *(watched - {*due})])
        plan = await self._walk(walk, need)
        # What the next round is to pay for; a confirmation is due however soon it comes.
        state.requests = max(1, plan.requests, self._sender.answers)
        left = walk.left(plan)
        await self._sweeping.confirm_rest(walk)
        await self._see_alone(left)
        if plan.source is None or plan.source.kind is SourceKind.IDS:
            self._check_ids(plan, due, left)
            if not state.trouble.is_in_round:
                state.coverage.move_cursor(state.waiters.watched)
        else:
            await self._sweeping.sweep_some()

        odd, state.odd = [*state.odd], set()
        await self._singles.poll_all(odd)
        await self._singles.weigh_refusals()
        await self._watching.end(plan, need, walk)
        self._end()

    def _end(self) -> None:
        """Take note that a round has come to its end."""
        state = self._state
        state.trouble.failures = 0
        if not state.trouble.is_in_round:
            # Those whom a sound round did not mention have no news.
            state.owed.clear()
            state.trouble.note_recovery()
        elif not state.waiters and self._sender.answers:
            # The vendor answers, and no waiter is due whose round would show it.
            state.trouble.note_recovery()

    def _due(self, number: int, planned: float) -> list[str]:
        """Return the jobs whose turn it is.

        A longer interval takes every n-th round, at the same time as others of its kind.
        Where n changes, since others come and go, its turn may be skipped, so it takes one
        as soon as it is overdue.
        """
        state, due = self._state, []
        # There may be ten thousand: what is the same for all is computed once.
        pace, owed, is_quick = state.pace, state.owed, state.is_quick
        doubts = state.doubts or ()
        for subject, watched in state.waiters.watched.items():
            if subject in doubts:
                continue

            # One quick request shows them all.
            if (
                is_quick
                or number % max(1, int(watched.interval / pace + EPSILON)) == 0
                or planned >= watched.asked_at + watched.interval - EPSILON
                or subject in owed
            ):
                watched.asked_at = planned
                due.append(subject)

        return due

    async def _walk(self, walk: Walk, need: Need | None) -> Plan:
        """Follow the best plan that can be followed; return it."""
        due = walk.due
        while True:
            plan = self._plan(due, need)
            self._state.stretch = plan.stretch
            self._state.coverage.joined.clear()
            try:
                await walk.follow(plan)
            except Misled:
                continue
            except RoundGivenUp:
                if not await self._works_singly(plan, due):
                    raise

                continue

            self._failed_walks = 0
            return plan

    def _plan(self, due: Sequence[str], need: Need | None) -> Plan:
        state = self._state
        limiter = state.transport.limiter
        return state.planner.plan(
            Situation(
                due=due,
                behind=state.coverage.behind_of(due),
                cursor=state.coverage.cursor,
                now=state.coverage.server_now,
                sources=state.sources.trusted,
                scopes=state.sources.scopes,
                interval=state.grid,
                hourly=max(
                    limiter.hourly_share * LEAST_FOR_POLLS,
                    limiter.hourly_share - limiter.starts_per_hour(),
                ),
                need=need,
            )
        )

    async def _works_singly(self, plan: Plan, due: Iterable[str]) -> bool:
        """After a walk failed, find out whether its source is to blame, not the vendor."""
        self._failed_walks += 1
        if plan.source is None or self._failed_walks < GIVE_UP_AFTER:
            return False

        if not await self._singles.poll_any(due):
            return False

        self._state.sources.distrust(
            plan.source, "it fails while single jobs can be polled"
        )
        return True

    async def _see_alone(self, subjects: Sequence[str]) -> None:
        """See jobs in their own rows: many in the list of all that has not ended.

        Those that it does not show are requested one by one.
        """
        state = self._state
        wanted = self._singles.sorted(subjects)
        _, _, live = state.planner.alone(len(wanted), state.sources.trusted)
        # A list that fails is to blame only where the vendor answers at all.
        if live is not None and (
            self._sender.answers or await self._singles.poll(wanted[0])
        ):
            await self._sweeping.walk_over(live, len(wanted))
            wanted = [each for each in wanted if each not in state.coverage.covered]

        await self._singles.poll_all(wanted)

    def _check_ids(self, plan: Plan, due: Sequence[str], left: Sequence[str]) -> None:
        """Distrust a source that left out most of the ids requested from it."""
        if plan.source is not None:
            shown = sum(subject in self._state.coverage.covered for subject in left)
            if shown * 2 > len(due):
                self._state.sources.distrust(
                    plan.source, "it does not show jobs that are there"
                )


class Watching:
    """What rounds do for those who watch."""

    def __init__(self, state: PollingState, sender: Sender) -> None:
        self._state = state
        self._sender = sender
        self._ends = Ends(state, sender)
        self._reach_back_at: float | None = None
        """The loop's time from which a feed is to be read further back; None at first."""
        self._reaches_back = False
        self._since = math.inf
        """The server's time from which this round must show ends."""
        self._read_once_since: float | None = None
        """The server's time since which ends may have been read in one round alone."""

    async def begin(self, number: int, planned: float, *, alone: bool) -> Need | None:
        """Return what a round must show to those whose turn it is, if there are any.

        ``alone`` says that the round polls for no waiter.
        """
        state = self._state
        state.watchers.begin(number, planned, state.pace)
        need = self._need()
        if need is not None and need.whole and need.since is None:
            if not await self._learn_time(alone=alone):
                # Those who wait for single jobs need no list that fails.
                return None

            need = self._need()

        if need is None or need.since is None:
            return need

        return replace(need, since=need.since - self._reach_back(need.since))

    def _need(self) -> Need | None:
        coverage = self._state.coverage
        return self._state.watchers.need(
            overlap=self._state.vendor.overlap, now=coverage.server_now
        )

    async def _learn_time(self, *, alone: bool) -> bool:
        """Learn the server's time: a feed cannot be read without it.

        From the list of what has not ended, or else from any page of a feed. Return False
        where that fails.
        """
        state, kinds = self._state, (SourceKind.LIVE, SourceKind.FEED)
        ways = [each for each in state.sources.trusted if each.kind in kinds]
        if not ways:
            return True

        way = min(ways, key=lambda each: kinds.index(each.kind))
        since = 0.0 if way.kind is SourceKind.FEED else None
        try:
            await self._sender.send(state.vendor.many(state.account, way, since=since))
        except TransientError as error:
            state.trouble.note(error)
            if alone:
                raise RoundGivenUp from None

            return False
        except PermanentError as error:
            if error.scope is Scope.ACCOUNT:
                raise

            state.sources.distrust(way, error.message)
            return False

        return True

    def _reach_back(self, since: float) -> float:
        """Return how many seconds further back a feed is to be read, now and then.

        So that ends are found which it has shown late, or skipped.
        """
        state, now = self._state, asyncio.get_running_loop().time()
        self._since = since
        self._reaches_back = (
            self._reach_back_at is not None and now >= self._reach_back_at
        )
        if not self._reaches_back:
            return 0.0

        feeds = [each for each in state.sources.trusted if each.kind is SourceKind.FEED]
        back = min(map(state.planner.reach_back, feeds), default=0.0)
        if self._read_once_since is None:
            return back

        # Nothing older would be news.
        return max(back, min(LOOKBACK, since - self._read_once_since))

    def _plan_to_reach_back(self, reached: float) -> None:
        """Set when the feed is to be read further back, after a round that has read it.

        A round reads again what the one before it has read last. After an outage, or
        where another triggerer has watched before, it reads more than that, once; so the
        next round reads all of it again.
        """
        now = asyncio.get_running_loop().time()
        usual = 2 * self._state.vendor.overlap + self._state.grid
        if reached - self._since > usual:
            self._read_once_since = self._since
            self._reach_back_at = now
        elif self._reaches_back:
            self._read_once_since = None
            self._reach_back_at = now + SWEEP
        elif self._reach_back_at is None:
            self._reach_back_at = now + SOON

    async def end(self, plan: Plan, need: Need | None, walk: Walk) -> None:
        """Report the ends that were found."""
        if need is None:
            return

        state, source = self._state, plan.source
        reached = walk.reached
        if not serves(plan, need):
            reached = None
        elif source is None or source.kind is SourceKind.LIST:
            is_whole = not state.trouble.is_in_round
            reached = state.coverage.round_began if is_whole else None
        elif reached is not None:
            reached += state.vendor.overlap
            self._plan_to_reach_back(reached)

        await self._ends.report(reached)


class Sweeping:
    """Sees jobs in their own rows, also where lists and feeds have shown it."""

    def __init__(
        self,
        state: PollingState,
        sender: Sender,
        rows: Rows,
        singles: Singles,
        confirmations: Confirmations,
    ) -> None:
        self._state = state
        self._sender = sender
        self._rows = rows
        self._singles = singles
        self._confirmations = confirmations

    def walk(self, due: Sequence[str]) -> Walk:
        """Return a walk that is to find these jobs."""
        return Walk(self._state, self._sender, self._rows, self._confirmations, due)

    async def confirm_rest(self, walk: Walk) -> None:
        """Have the ends confirmed that a walk has found and that still are to be."""
        await self._sender.spread(range(walk.unconfirmed), lambda _: walk.confirm())
        await self._singles.poll_all(walk.doubtful)

    async def sweep_some(self) -> None:
        """See in their own rows those whose last one is longest ago."""
        state = self._state
        sweep, pace = state.sweep, state.pace
        now = asyncio.get_running_loop().time()
        sweep.begin(now)
        oldest = sweep.oldest(now, state.doubts)
        if oldest > sweep.early(now, pace):
            return

        source = self._cheaper_walk(
            sweep.cost(state.planner, state.sources.by_ids, pace)
        )
        if source is None:
            await self._sweep_through(sweep.share(now, pace, state.doubts))
            return

        late = sweep.late(now, pace)
        if oldest <= late:
            await self.walk_over(source, len(sweep))
            await self._sweep_through(sweep.overdue(late, state.doubts))

    def _cheaper_walk(self, cost: float) -> Source | None:
        """Return a list of all that shows every job for less than this."""
        return next(
            (
                source
                for source in self._state.sources.trusted
                if source.kind in {SourceKind.LIVE, SourceKind.LIST}
                and not source.scoped
                and self._state.planner.list_cost(source)[1] < cost
            ),
            None,
        )

    async def _sweep_through(self, subjects: Sequence[str]) -> None:
        if not subjects:
            return

        ids = self._state.sources.by_ids
        if ids is None or len(subjects) == 1:
            await self._singles.poll_all(subjects)
            return

        walk = self.walk(subjects)
        batches = tuple(
            tuple(subjects[start : start + ids.page])
            for start in range(0, len(subjects), ids.page)
        )
        plan = Plan(
            source=ids, singles=(), batches=batches, requests=len(batches), cost=0.0
        )
        try:
            await walk.follow(plan)
        except Misled:
            await self._singles.poll_all(subjects)
            return
        except RoundGivenUp:
            # The source of this round has answered, and so does the vendor.
            self._state.sources.distrust(ids, "it fails while others answer")
            return

        await self._singles.poll_all(walk.left(plan))
        await self.confirm_rest(walk)

    async def walk_over(self, source: Source, count: int) -> None:
        """Walk over a list of all, at no more cost than so many single requests."""
        walk = self.walk(())
        plan = Plan(
            source=source,
            singles=(),
            scopes=("",),
            requests=0,
            cost=0.0,
            patience=count * self._state.planner.single_cost,
        )
        try:
            await walk.follow(plan)
        except Misled:
            return
        except RoundGivenUp:
            self._state.sources.distrust(source, "it fails while others answer")
            return

        await self.confirm_rest(walk)
