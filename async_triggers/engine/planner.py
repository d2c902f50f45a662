"""How a round is planned: the cheapest way to learn the state of every job that is due.

Pure: no clock, no I/O. What things cost is measured (:meth:`Planner.learn`), and only
server times come in.

The model::

    cost(plan)  = requests + bytes / 256 KiB
    fits(plan)  = requests * 3600 / interval <= share of the account's limit
    choose      = the least cost among the plans that fit; if none fits, the fewest
                  requests, and the interval is stretched until it does
    keep the current plan unless another is cheaper by 2x for 3 rounds in a row, or takes
    less than half of the requests

A plan always says how the jobs are covered that its source will not show: they are polled
for singly, or looked for in the list of what goes on where they are many (:meth:`alone`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_triggers.engine.watch import LOOKBACK
from async_triggers.engine.wire import Source, SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.watch import Need

BYTES_PER_REQUEST = 256 * 1024
"""A request weighs as much as this many bytes of body."""
CHEAPER = 2.0
ROUNDS_BEFORE_CHANGE = 3
MEMORY = 0.3
"""The weight of the newest measurement in the moving averages."""

SHORTEST_PAUSE = 2
LONGEST_PAUSE = 64
"""Rounds after which a feed that was found long is tried again while another is read."""

FEW_LOOKS = 128
"""Up to so many last looks, each is tried as the beginning of a window."""

EXTRA_PAGES = 5
"""Pages at most that a feed is read further back for ends that were shown late."""

UNKNOWN_ROW = 1024.0
"""Bytes of a row before any was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a round must achieve.

    ``due`` are the subjects to learn about. ``behind`` maps those whose news are not
    covered up to the cursor to the server time of their last look (None: unknown).
    ``cursor`` is the server time from which the next window of a feed must begin; None
    when there has been no complete round. ``now`` is the latest server time seen.
    ``sources`` are those that may be used. ``scopes`` maps subjects to their group.
    ``hourly`` is how many requests an hour are left for polling. ``need`` is what must be
    shown to those who watch, None where there are none.
    """

    due: Sequence[str]
    behind: Mapping[str, float | None]
    cursor: float | None
    now: float | None
    sources: Sequence[Source]
    scopes: Mapping[str, str] = field(default_factory=dict)
    interval: float
    hourly: float
    need: Need | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A round: what to request from a source, and what to request singly besides.

    ``requests`` and ``cost`` are what is expected. ``patience`` is the cost after which
    a walk is given up and its jobs are requested singly. ``stretch`` is the shortest
    interval in seconds at which the plan fits the budget. ``watched`` says that its rows
    are for those who watch as well.
    """

    source: Source | None
    singles: tuple[str, ...]
    batches: tuple[tuple[str, ...], ...] = ()
    since: float | None = None
    scopes: tuple[str, ...] = ()
    requests: int
    cost: float
    patience: float = math.inf
    stretch: float = 0.0
    watched: bool = False

    @property
    def name(self) -> str:
        """Name the way of polling."""
        return self.source.name if self.source is not None else "singles"


@dataclass(slots=True)
class Measures:
    """What polling a source has cost so far.

    ``rows`` is the size of a walk by scope. ``idle`` counts the rounds in which another
    feed was read, and after ``pause`` of them this one is tried again.
    """

    row_bytes: float = UNKNOWN_ROW
    rows_per_second: float | None = None
    rows: dict[str, float] = field(default_factory=dict)
    idle: int = 0
    pause: int = SHORTEST_PAUSE


class Planner:
    """Plans the rounds of one account."""

    def __init__(self) -> None:
        self._measures: dict[str, Measures] = {}
        self._single_bytes = UNKNOWN_ROW
        self._current = "singles"
        self._rivals = 0

    def __repr__(self) -> str:
        """State the state."""
        return f"<Planner [{self._current} | rivals {self._rivals}]>"

    @property
    def current(self) -> str:
        """The name of the way of polling that the last round took."""
        return self._current

    # Measuring ----------------------------------------------------------------

    def learn_single(self, size: int) -> None:
        """Take note of the size in bytes of a reply about one job."""
        self._single_bytes += MEMORY * (size - self._single_bytes)

    def learn(
        self,
        source: Source,
        *,
        rows: int,
        size: int,
        scope: str = "",
        span: float = 0.0,
        whole: bool = True,
    ) -> None:
        """Take note of a walk: its rows and bytes, and the seconds it spanned.

        A walk that was cut short (not ``whole``) shows at least how much there is.
        """
        measures = self._measures.setdefault(source.name, Measures())
        if not whole and self._current == source.name:
            # It does not keep what it promised: it must win again.
            self._current = "singles"

        if rows:
            measures.row_bytes += MEMORY * (size / rows - measures.row_bytes)

        if source.kind is SourceKind.FEED:
            if span > 0:
                rate = rows / span
                old = measures.rows_per_second
                if old is None or (not whole and rate > old):
                    measures.rows_per_second = rate
                elif whole:
                    measures.rows_per_second = old + MEMORY * (rate - old)
        elif whole:
            measures.rows[scope] = float(rows)
        else:
            known = measures.rows.get(scope, 0.0)
            measures.rows[scope] = max(known, float(rows + source.page))

    def walk_cost(self, source: Source, rows: float) -> tuple[int, float]:
        """Return (requests, cost) of walking over ``rows`` rows of a source."""
        measures = self._measures.get(source.name)
        size = measures.row_bytes if measures is not None else UNKNOWN_ROW
        # The last page of each part is not full.
        requests = max(1, math.ceil(rows / source.page)) + max(0, len(source.parts) - 1)
        return requests, requests + rows * size / BYTES_PER_REQUEST

    def list_cost(
        self, source: Source, scope: str = "", *, least: int = 0
    ) -> tuple[int, float]:
        """Return the expected (requests, cost) of walking a list, of ``least`` or more."""
        measures = self._measures.get(source.name)
        known = None if measures is None else measures.rows.get(scope)
        rows = source.page if known is None else known
        return self.walk_cost(source, max(rows, least))

    def reach_back(self, source: Source) -> float:
        """Return how many seconds further back a feed is read for a few pages more."""
        measures = self._measures.get(source.name)
        rate = None if measures is None else measures.rows_per_second
        if not rate:
            return LOOKBACK

        return min(LOOKBACK, EXTRA_PAGES * source.page / rate)

    @property
    def single_cost(self) -> float:
        """What one request for one job costs."""
        return 1.0 + self._single_bytes / BYTES_PER_REQUEST

    def alone(
        self, count: int, sources: Sequence[Source]
    ) -> tuple[int, float, Source | None]:
        """Return the (requests, cost) of seeing so many jobs in their own rows.

        With the list that is read before, of all that has not ended, where that takes
        less than one request for each. It holds as many as are looked for, or more, and
        is not tried for fewer than it has on a page, nor where many can be requested by id.
        """
        best: tuple[int, float, Source | None] = (count, count * self.single_cost, None)
        if any(source.kind is SourceKind.IDS for source in sources):
            return best

        for source in sources:
            if source.kind is SourceKind.LIVE and count > source.page:
                requests, cost = self.list_cost(source, least=count)
                if cost < best[1]:
                    best = (requests, cost, source)

        return best

    # Planning -----------------------------------------------------------------

    def plan(self, situation: Situation) -> Plan:
        """Choose how to learn the state of all that is due."""
        plans = [self._singles(situation)]
        for source in situation.sources:
            plan = self._through(source, situation)
            if plan is not None:
                plans.append(plan)

        need = situation.need
        if need is not None:
            plans = [plan for plan in plans if serves(plan, need)] or plans

        room = situation.hourly * situation.interval / 3600.0
        fitting = [plan for plan in plans if plan.requests <= room]
        if fitting:
            best = min(fitting, key=lambda plan: plan.cost)
            chosen = self._settle(best, {plan.name: plan for plan in fitting})
            stretch = 0.0
        else:
            chosen = min(plans, key=lambda plan: (plan.requests, plan.cost))
            self._rivals = 0
            stretch = chosen.requests * 3600.0 / situation.hourly

        self._forget(chosen, self._current, situation)
        self._current = chosen.name
        return Plan(
            source=chosen.source,
            singles=chosen.singles,
            batches=chosen.batches,
            since=chosen.since,
            scopes=chosen.scopes,
            requests=chosen.requests,
            cost=chosen.cost,
            patience=self._patience(chosen, situation),
            stretch=stretch,
            watched=need is not None,
        )

    def _patience(self, chosen: Plan, situation: Situation) -> float:
        """Return the cost after which a walk is given up: never, if something needs it all.

        Else as much again as single requests cost: never more than twice the least.
        """
        if situation.need is not None and serves(chosen, situation.need):
            return math.inf

        return max(chosen.cost, len(situation.due) * self.single_cost)

    def _forget(self, chosen: Plan, before: str, situation: Situation) -> None:
        """Forget in time how long another feed was, so that it is tried again.

        What made it long may have been a burst. Each time that it turns out as long again
        it is not tried for twice as many rounds.
        """
        if chosen.source is None or chosen.source.kind is not SourceKind.FEED:
            return

        for source in situation.sources:
            measures = self._measures.get(source.name)
            if measures is None or measures.rows_per_second is None:
                continue

            if source is not chosen.source:
                measures.idle += 1
                if measures.idle >= measures.pause:
                    measures.rows_per_second = None
                    measures.idle = 0
                    measures.pause = min(LONGEST_PAUSE, measures.pause * 2)
            elif before == chosen.name:
                # It was read, and is worth it.
                measures.idle = 0
                measures.pause = SHORTEST_PAUSE

    def _settle(self, best: Plan, fitting: Mapping[str, Plan]) -> Plan:
        current = fitting.get(self._current)
        if current is None or current.name == best.name:
            self._rivals = 0
            return best

        if current.requests > CHEAPER * best.requests:
            self._rivals = 0
            return best

        if current.cost < CHEAPER * best.cost:
            self._rivals = 0
            return current

        self._rivals += 1
        if self._rivals < ROUNDS_BEFORE_CHANGE:
            return current

        self._rivals = 0
        return best

    def _singles(self, situation: Situation) -> Plan:
        """Request each; those that join may be found in the list of what runs.

        The others have been seen to run, and those that have ended since are not in it.
        """
        joining = sum(1 for subject in situation.due if subject in situation.behind)
        known = len(situation.due) - joining
        requests, cost, _ = self.alone(joining, situation.sources)
        return Plan(
            source=None,
            singles=tuple(situation.due),
            requests=requests + known,
            cost=cost + known * self.single_cost,
        )

    def _through(self, source: Source, situation: Situation) -> Plan | None:
        match source.kind:
            case SourceKind.FEED:
                return self._feed(source, situation)
            case SourceKind.IDS:
                return self._ids(source, situation)
            case SourceKind.LIST:
                return self._list(source, situation)
            case SourceKind.LIVE:
                return None

    def _ids(self, source: Source, situation: Situation) -> Plan | None:
        due = situation.due
        if not due:
            return None

        batches = tuple(
            tuple(due[start : start + source.page])
            for start in range(0, len(due), source.page)
        )
        _, cost = self.walk_cost(source, len(due))
        weight = cost - max(1, math.ceil(len(due) / source.page))
        return Plan(
            source=source,
            singles=(),
            batches=batches,
            requests=len(batches),
            cost=len(batches) + weight,
        )

    def _list(self, source: Source, situation: Situation) -> Plan | None:
        if not source.scoped:
            requests, cost = self.list_cost(source)
            return Plan(
                source=source, singles=(), scopes=("",), requests=requests, cost=cost
            )

        homes = {
            subject: situation.scopes[subject]
            for subject in situation.due
            if situation.scopes.get(subject)
        }
        groups = frozenset() if situation.need is None else situation.need.scopes
        if not homes and not groups:
            return None

        strangers = tuple(subject for subject in situation.due if subject not in homes)
        scopes = tuple(sorted({*homes.values(), *groups}))
        costs = [self.list_cost(source, scope) for scope in scopes]
        return Plan(
            source=source,
            singles=strangers,
            scopes=scopes,
            requests=len(strangers) + sum(requests for requests, _ in costs),
            cost=len(strangers) * self.single_cost + sum(cost for _, cost in costs),
        )

    def _feed(self, source: Source, situation: Situation) -> Plan | None:
        """Open the window where it pays, and poll singly those left before it."""
        looks = sorted(
            (look, subject)
            for subject, look in situation.behind.items()
            if look is not None
        )
        blind = [subject for subject, look in situation.behind.items() if look is None]
        starts = [look for look, _ in looks]
        if situation.cursor is not None:
            starts.append(situation.cursor)

        needed = None if situation.need is None else situation.need.since
        if needed is not None:
            starts.append(needed)

        if not starts:
            return None

        now = max([*starts, situation.now or 0.0])
        base = situation.cursor if situation.cursor is not None else max(starts)
        measures = self._measures.get(source.name)
        rate = measures.rows_per_second if measures is not None else None
        best: tuple[float, int, float] | None = None
        # Each look is a place where the window may begin; looks before it go singly.
        candidates = [(base, sum(1 for look in starts if look < base))]
        candidates += [(looks[index][0], index) for index in _places(looks, base)]
        if needed is not None:
            # No later than that, where it may show more.
            begins = {min(since, needed) for since, _ in candidates}
            candidates = [(each, bisect_left(looks, (each, ""))) for each in begins]

        for since, left_out in candidates:
            rows = (rate or 0.0) * max(0.0, now - since + situation.interval)
            if not source.ends_only:
                # A job that was polled in the window has begun there, or thereabouts.
                rows = max(rows, float(len(looks) - min(left_out, len(looks))))

            requests, cost = self.walk_cost(source, rows)
            alone, alone_cost, _ = self.alone(
                min(left_out, len(looks)) + len(blind), situation.sources
            )
            total = cost + alone_cost
            if best is None or total < best[0]:
                best = (total, requests + alone, since)

        assert best is not None  # noqa: S101 - there is always the base
        cost, requests, since = best
        early = [subject for look, subject in looks if look < since]
        return Plan(
            source=source,
            singles=tuple(blind + early),
            since=since,
            requests=requests,
            cost=cost,
        )


def serves(plan: Plan, need: Need) -> bool:
    """Return True if a plan shows all that those who watch need.

    None may, while the only feed that does is not used.
    """
    source = plan.source
    if source is None:
        return not need.whole and not need.scopes

    if source.kind is SourceKind.LIST and source.scoped:
        return not need.whole

    return source.kind in {SourceKind.FEED, SourceKind.LIST}


def _places(looks: Sequence[tuple[float, str]], base: float) -> list[int]:
    """Return which of the sorted looks before ``base`` a window may begin at.

    Of many looks those at places 0, 1, 2, 4, 8 and so on: between the best place and the
    next of these lie no more than as many again to be polled singly.
    """
    before = bisect_left(looks, (base, ""))
    places: Sequence[int] = range(before)
    if before > FEW_LOOKS:
        powers = (1 << power for power in range(before.bit_length()))
        places = [0, *(place for place in powers if place < before)]

    # The first of those that polled at the same time.
    return sorted({bisect_left(looks, (looks[place][0], "")) for place in places})
