"""The request budget of one account in one process.

Two things are limited apart: the *rate* of all requests together, and the *number under
way* in each lane, so that slow starts never keep polls waiting. The rate is a leaky
bucket (grants in any window of ``w`` seconds <= burst + rate x w) whose burst and rate
are chosen so that the vendor's own window is never exceeded. The vendor's feedback comes
on top: a pause ("not before") and, where replies show what is left of the limit, a lower
rate, since only the vendor sees all other clients. Where several processes share a budget
(:mod:`.shared_budget`), each request is taken from that as well.

The shared request of the poller goes first, since it answers for many. The other lanes
take turns: each of the four gets a quarter of what is left as long as it wants it, so that
neither the poller's single questions nor the looks of triggers nor starts starve another.

A request made within :func:`urgent` passes a pause. A start waits for no long one: what was
read before it would be old by then, and its task may be over. Everything is synchronous but
:meth:`Limiter.admit`: a grant is taken in the same step in which the wait for it ends, so
a cancelled caller can never keep one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from async_triggers.engine.wire import Budget, Lane

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from async_triggers.engine.shared_budget import SharedBudget

BURST_SHARE = 0.1
"""The part of a window's budget that may be spent at once."""
SLOWEST = 0.05
"""The rate never falls below this part of the budget, so that no request starves."""
RESERVE = 0.02
"""The part of the vendor's limit that we leave: replies show it after the fact."""


START_PATIENCE = 20.0
"""Seconds for which a start waits at most for the end of a pause."""

_is_urgent: ContextVar[bool] = ContextVar("is_urgent", default=False)


@contextmanager
def urgent() -> Iterator[None]:
    """Let the requests made within the block pass a pause of the account.

    For a single attempt to cancel a job, which may not wait for an hour. It takes its
    place in the budget like any other.
    """
    token = _is_urgent.set(True)
    try:
        yield
    finally:
        _is_urgent.reset(token)


def is_urgent() -> bool:
    """Return True within :func:`urgent`."""
    return _is_urgent.get()


class TurnedAway(Exception):
    """A start is not admitted: nothing is, for so many ``seconds`` more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class LimiterStatistics:
    """A snapshot of a limiter. ``paused_for`` and ``window`` are in seconds."""

    granted: int
    waiting: int
    under_way: Mapping[Lane, int]
    paused_for: float
    rate: float
    burst: float


class Limiter:
    """Admits the requests of one account, first come, first served in each lane."""

    def __init__(self, budget: Budget, shared: SharedBudget | None = None) -> None:
        allowed = budget.requests * budget.share
        self.burst = max(1.0, allowed * BURST_SHARE)
        self.rate = max(allowed - self.burst, allowed * 0.5) / budget.per
        self._budget = budget
        self._shared = shared
        self._slow = 1.0
        self._share_left = 1.0
        """What part of its limit was left when the vendor said so last."""
        self._level = 0.0
        self._level_at = 0.0
        self._not_before = -math.inf
        self._under_way = dict.fromkeys(Lane, 0)
        self._unsent = dict.fromkeys(Lane, 0)
        """Those under way that the shared budget has not let through yet."""
        # Each is True once it is admitted, and False where it is turned away.
        self._queues: dict[Lane, deque[asyncio.Future[bool]]] = {
            lane: deque() for lane in Lane
        }
        self._urgent: dict[Lane, deque[asyncio.Future[bool]]] = {
            lane: deque() for lane in Lane
        }
        # Behind the shared request, the lane that was served longest ago stands first.
        self._turns = [lane for lane in Lane if lane is not Lane.SHARED]
        self._alarm: asyncio.TimerHandle | None = None
        self._granted = 0
        self._starts: deque[float] = deque()

    def __repr__(self) -> str:
        """State the state."""
        state = self.statistics()
        lanes = ", ".join(f"{lane} {count}" for lane, count in state.under_way.items())
        return (
            f"<Limiter [{state.granted} granted, {state.waiting} waiting |"
            f" {lanes} | paused {state.paused_for:.0f} s]>"
        )

    def statistics(self) -> LimiterStatistics:
        """Return a snapshot."""
        return LimiterStatistics(
            granted=self._granted,
            waiting=sum(
                not future.done()
                for queues in (self._queues, self._urgent)
                for queue in queues.values()
                for future in queue
            ),
            under_way=dict(self._under_way),
            paused_for=self.paused_for,
            rate=self.rate * self._slow,
            burst=self.burst,
        )

    @property
    def paused_for(self) -> float:
        """How many seconds nothing will be admitted."""
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0

        return max(0.0, self._not_before - now)

    @property
    def left(self) -> float:
        """What part of the budget is left, from 0 to 1.

        The smaller one of what the vendor has said of its limit and what may be requested
        at once. Nothing while requests wait for a budget that is shared.
        """
        if self._shared is not None and self._shared.is_spent:
            return 0.0

        now = asyncio.get_running_loop().time()
        leaked = (now - self._level_at) * self.rate * self._slow
        level = max(0.0, self._level - leaked)
        return min(self._share_left, max(0.0, 1.0 - level / self.burst))

    @property
    def hourly_share(self) -> float:
        """How many requests an hour are ours, starts included."""
        return max(1.0, self.rate * self._slow * 3600.0)

    @property
    def hourly_limit(self) -> float:
        """How many requests an hour the vendor allows, less where others spend them."""
        return self._budget.requests * self._slow * 3600.0 / self._budget.per

    @property
    def calm_for(self) -> float:
        """How many seconds ago the last pause has ended; infinity without one."""
        return asyncio.get_running_loop().time() - self._not_before

    @property
    def holds_up_others(self) -> bool:
        """True while anything but the poller's shared request waits for its turn."""
        return any(
            not future.done()
            for lane, queue in self._queues.items()
            if lane is not Lane.SHARED
            for future in queue
        )

    def starts_per_hour(self) -> int:
        """Return how many starts were admitted in the last hour."""
        now = asyncio.get_running_loop().time()
        while self._starts and self._starts[0] < now - 3600.0:
            self._starts.popleft()

        return len(self._starts)

    def pause(self, seconds: float) -> None:
        """Admit nothing for ``seconds`` from now on: the vendor requested it."""
        loop = asyncio.get_running_loop()
        self._not_before = max(self._not_before, loop.time() + seconds)
        self._turn_starts_away()
        self._serve(loop)

    def observe(self, left: float, allowed: float) -> None:
        """Take note of what the vendor says is left of its limit.

        While others leave enough, our own budget is the limit. When less is left than
        the part which is not ours, another program is spending it: slow down in proportion.
        A limit (``allowed``) smaller than the budget's takes its place. When next to
        nothing is left, wait until as much may have come back: processes that each send
        a request or two, as workers do, are held by nothing else.
        """
        budget = self._budget
        self._share_left = min(1.0, max(0.0, left / allowed)) if allowed > 0 else 0.0
        spare = allowed * (1.0 - budget.share)
        slow = 1.0 if left >= spare or spare <= 0 else max(SLOWEST, left / spare)
        # A limit below the one that we know of (a trial account) counts as well.
        known = min(1.0, allowed / budget.requests)
        if self._shared is not None:
            self._shared.resize(known)

        burst = max(1.0, known * budget.requests * budget.share * BURST_SHARE)
        if (slow * known, burst) != (self._slow, self.burst):
            loop = asyncio.get_running_loop()
            self._leak(loop.time())
            self._slow = slow * known
            self.burst = burst
            self._serve(loop)

        if left < allowed * RESERVE:
            self.pause(self._budget.per * RESERVE)

    @asynccontextmanager
    async def admit(self, lane: Lane) -> AsyncIterator[None]:
        """Wait until a request may be sent in ``lane``, and hold its room meanwhile.

        Raise :class:`TurnedAway` where a start would have to wait for a long pause.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        queues = self._urgent if is_urgent() else self._queues
        queues[lane].append(future)
        self._turn_starts_away()
        self._serve(loop)
        sent = False
        try:
            if not await future:
                raise TurnedAway(self.paused_for)

            if self._shared is not None:
                await self._take_shared(self._shared, lane)

            sent = True
            self._granted += 1
            if lane is Lane.START:
                self._starts.append(loop.time())

            yield
        finally:
            # A future that was granted holds room even if its caller was cancelled
            # before it could run, and then its token has not been spent; one that was
            # not granted is only skipped later.
            if future.done() and not future.cancelled() and future.result():
                self._under_way[lane] -= 1
                if not sent:
                    self._level = max(0.0, self._level - 1.0)
            else:
                future.cancel()

            self._serve(loop)

    async def _take_shared(self, shared: SharedBudget, lane: Lane) -> None:
        """Take a request that was granted here from the shared budget as well."""
        self._unsent[lane] += 1
        # What shares the lane's room has a part of that budget to itself.
        self._serve(asyncio.get_running_loop())
        try:
            await shared.take(lane, urgent=is_urgent())
            # The vendor may have paused the account meanwhile, and does so again.
            while self.paused_for and not is_urgent():
                if lane is Lane.START and self.paused_for > START_PATIENCE:
                    raise TurnedAway(self.paused_for)

                await asyncio.sleep(self.paused_for)
        finally:
            self._unsent[lane] -= 1

    def _turn_starts_away(self) -> None:
        """Let no start wait for a long pause."""
        if self.paused_for > START_PATIENCE:
            for future in self._queues[Lane.START]:
                if not future.done():
                    future.set_result(False)

    def _leak(self, now: float) -> None:
        """Let the bucket leak for the time that has passed."""
        passed = now - self._level_at
        self._level = max(0.0, self._level - passed * self.rate * self._slow)
        self._level_at = now

    def _serve(self, loop: AbstractEventLoop) -> None:
        """Grant what can be granted, and set the alarm for the rest."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

        now = loop.time()
        rate = self.rate * self._slow
        self._leak(now)
        wake = self._not_before
        while (found := self._next(is_paused=now < self._not_before)) is not None:
            if self._level + 1.0 > self.burst + 1e-9:
                wake = now + (self._level + 1.0 - self.burst) / rate
                break

            lane, queue = found
            future = queue.popleft()
            self._level += 1.0
            self._under_way[lane] += 1
            if lane is not Lane.SHARED:
                self._turns.remove(lane)
                self._turns.append(lane)

            future.set_result(True)
        else:
            # Nothing may go now: what waits for the pause alone goes then.
            found = self._next(is_paused=False)

        if wake > now and found is not None:
            # A timer may fire a hair early; a millisecond later costs nothing.
            self._alarm = loop.call_at(wake + 0.001, self._serve, loop)

    def _next(
        self, *, is_paused: bool
    ) -> tuple[Lane, deque[asyncio.Future[bool]]] | None:
        """Return the lane with room whose turn it is, and the queue to serve."""
        for queues in (self._urgent,) if is_paused else (self._urgent, self._queues):
            for lane in (Lane.SHARED, *self._turns):
                queue = queues[lane]
                while queue and queue[0].done():
                    queue.popleft()

                if queue and self._has_room(lane, urgently=queues is self._urgent):
                    return lane, queue

        return None

    def _has_room(self, lane: Lane, *, urgently: bool) -> bool:
        """Return True while fewer requests are under way than the lane may have.

        Single questions of the poller and looks share their room; the shared request has
        its own, so that slow looks never keep it waiting. What waits for the shared budget,
        or for a pause after that, takes no room from the other, nor from what is urgent.
        """
        budget = self._budget
        taken = self._under_way[lane] - (self._unsent[lane] if urgently else 0)
        match lane:
            case Lane.SHARED:
                return taken < budget.polls
            case Lane.POLL | Lane.LOOK:
                other = Lane.LOOK if lane is Lane.POLL else Lane.POLL
                sent = self._under_way[other] - self._unsent[other]
                return taken + sent < budget.polls
            case Lane.START:
                return taken < budget.starts
            case Lane.CANCEL:
                return taken < budget.cancels
