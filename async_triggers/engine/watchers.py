"""Who hears of the ends of jobs that anyone has started. Nothing here awaits the vendor.

A watcher rides on the rounds of those who wait. Where a feed or a list is read for them
it adds no request; where none is, one walk over it serves all watchers. It hears of ends
once a walk over them is complete, in the order of their times.

Watchers that have heard up to the same time move on together, as a :class:`Cohort`: a
round takes no step for each of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from async_triggers.engine.errors import ConnectionChanged, UnreadableReply
from async_triggers.engine.watch import (
    LOOKBACK,
    End,
    Mark,
    Need,
    Place,
    Watch,
    news_after,
    shown_since,
)
from async_triggers.engine.wire import SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.errors import EngineError, PermanentError
    from async_triggers.engine.wire import Account, Row, Vendor

log = logging.getLogger(__name__)

REPORT_EVERY = 3600.0
"""Seconds between two lines about rows that cannot be watched."""
SAVE_EVERY = 900.0
"""Seconds of the server's time after which a watcher without news hears of its mark."""
SAVE_CHECK = 60.0
"""Seconds of the server's time between two checks of a cohort for such watchers."""
EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a watcher hears: ends in the order of their times, and its mark after them."""

    ends: Sequence[End]
    mark: Mark


class Subscription:
    """One who hears of ends, until :meth:`close`."""

    def __init__(
        self,
        watch: Watch,
        *,
        interval: float,
        mark: Mark | None,
        owner: object,
        keeps: bool,
        leave: Callable[[Subscription], None],
    ) -> None:
        self.watch = watch
        self.interval = interval
        self.owner = owner
        self.asked_at = -math.inf
        """The loop's time of the last round in which it was its turn, while it is alone."""
        self.cohort: Cohort | None = None
        self.is_settled = False
        """True once a round has shown all that it needed."""
        self.is_shown = False
        """True where it may hear of what this round shows, see :meth:`Watchers.begin`."""
        # A key is shown for as long as it exists, so that the times of all are kept.
        self._keeps = keeps
        self._at = None if mark is None else mark.at
        self._floor = -math.inf if mark is None else mark.floor
        self._reported = {} if mark is None else {**mark.reported}
        # Keys of which no end was reported: what was noted of them may have been no news
        # only by a clock that was ahead.
        self._noted: set[str] = set()
        self._leave = leave
        self._ends: deque[End] = deque()
        self._error: EngineError | None = None
        self._is_disbanded = False
        self._saved_at = -math.inf if mark is None else mark.at
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        """State the state."""
        return f"<Subscription {self.watch.place} [until {self.checked_until}]>"

    @property
    def has_begun(self) -> bool:
        """True once it is known from when on ends are news."""
        return self.checked_until is not None

    @property
    def checked_until(self) -> float | None:
        """The server's time up to which all ends are known; None at first."""
        return self._at if self.cohort is None else self.cohort.at

    # What its owner does ------------------------------------------------------------

    async def hear(self) -> Heard:
        """Wait for ends, for the first mark, or until the mark has moved on by a while.

        Raise :class:`~async_triggers.engine.errors.PermanentError` when the vendor refuses
        what is watched, or the whole account, and
        :class:`~async_triggers.engine.errors.ConnectionChanged` when the connection leads
        to another account now. Subscribe again then, with the last mark.
        """
        while True:
            if self._is_disbanded:
                raise asyncio.CancelledError

            at = self.checked_until
            if at is not None and (self._ends or self.must_save(at)):
                ends = [*self._ends]
                self._ends.clear()
                self._saved_at = at
                if not self._keeps:
                    self._forget(shown_since(at, self._reported))

                mark = Mark(at=at, floor=self._floor, reported={**self._reported})
                return Heard(ends=ends, mark=mark)

            if self._error is not None:
                raise self._error.again()

            self._changed.clear()
            await self._changed.wait()

    def _forget(self, begin: float) -> None:
        """Forget the ends by this time, which are not shown again."""
        old = [key for key, time in self._reported.items() if time <= begin]
        for key in old:
            del self._reported[key]

    def close(self) -> None:
        """Hear no more."""
        self._leave(self)

    # What the rounds do -------------------------------------------------------------

    def take(self, end: End, since: float) -> None:
        """Take in an end later than that time; one that was reported is no news.

        It may have been found rounds ago, and be older than what is news by now.
        """
        if end.at <= max(since, self._reported.get(end.key, since)):
            return

        self._reported[end.key] = end.at
        self._noted.discard(end.key)
        self._ends.append(end)
        self.wake()

    def settle(self, at: float) -> None:
        """Take note that all that ended by this time was checked."""
        self.is_settled = True
        if self._at is None:
            self._floor = at
            self._at = at
            self.wake()
            return

        self._at = max(at, self._at)
        if self.must_save(self._at):
            self.wake()

    def must_save(self, at: float) -> bool:
        """Return True if its mark has moved on by a while."""
        return at >= self._saved_at + SAVE_EVERY

    def wake(self) -> None:
        """Have its owner hear what there is."""
        self._changed.set()

    def has_news(self, ends: Sequence[End]) -> bool:
        """Return True if one of these ends was not reported yet."""
        return self.has_begun and any(end.at > self.bound(end.key) for end in ends)

    def note(self, ends: Sequence[End]) -> None:
        """Take note of a row without news: only a later end will be news, however late."""
        if self.has_begun and not self.has_news(ends):
            last = ends[-1]
            if last.key not in self._reported:
                self._noted.add(last.key)

            self._reported[last.key] = max(
                last.at, self._reported.get(last.key, last.at)
            )

    def bound(self, key: str) -> float:
        """Return the time after which an end of this key is news."""
        at = self.checked_until
        if at is None:
            return -math.inf

        return news_after(key, at=at, floor=self._floor, reported=self._reported)

    def begin(self, now: float) -> None:
        """Begin with the server's time now, also where its clock was ahead before."""
        if self._at is None:
            self.settle(now)
        elif self._at > now:
            self._at = now
            self.lower(now)

    def lower(self, now: float) -> None:
        """Hear of what ends from now on, however far ahead the server's clock was."""
        self._floor = min(self._floor, now)
        since = max(self._floor, now - LOOKBACK)
        for key in [*self._noted]:
            if self._reported[key] > since:
                self._noted.discard(key)
                del self._reported[key]

    def enter(self, cohort: Cohort) -> None:
        """Move on together with others."""
        self.cohort = cohort

    def depart(self) -> None:
        """Move on alone, from where the others are."""
        self._at = self.checked_until
        self.cohort = None

    def fail(self, error: EngineError) -> None:
        """End the subscription with an error."""
        self._error = error
        self.wake()

    def disband(self) -> None:
        """End the subscription by cancellation: the loop is shutting down."""
        self._is_disbanded = True
        self.wake()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What some watchers must be shown, see :class:`~.watch.Need`."""

    subjects: frozenset[str]
    scopes: frozenset[str]
    whole: bool

    @classmethod
    def by(cls, watches: Iterable[Watch]) -> Wanted:
        """Return what these watches name."""
        watches = [*watches]
        return cls(
            frozenset(each.subject for each in watches if each.subject),
            frozenset(each.scope for each in watches if each.scope),
            any(not (each.subject or each.scope) for each in watches),
        )


class Cohort:
    """Watchers with one interval that have heard up to the same time."""

    def __init__(self, interval: float, *, at: float, asked_at: float) -> None:
        self.interval = interval
        self.at = at
        """The server's time up to which they know all ends."""
        self.asked_at = asked_at
        """The loop's time of the last round in which it was their turn."""
        self.members: dict[Subscription, None] = {}
        self._checked_at = at

    @cached_property
    def wanted(self) -> Wanted:
        """What they must be shown."""
        return Wanted.by(each.watch for each in self.members)

    def add(self, subscription: Subscription) -> None:
        """Let one that has heard up to the same time move on with them."""
        self.members[subscription] = None
        subscription.enter(self)
        self._change()

    def remove(self, subscription: Subscription) -> None:
        """Let one move on alone."""
        del self.members[subscription]
        subscription.depart()
        self._change()

    def _change(self) -> None:
        self.__dict__.pop("wanted", None)

    def settle(self, at: float) -> None:
        """Take note that all that ended by this time was checked."""
        self.at = max(at, self.at)
        if self.at < self._checked_at + SAVE_CHECK:
            return

        self._checked_at = self.at
        for each in self.members:
            if each.must_save(self.at):
                each.wake()

    def go_back(self, now: float) -> None:
        """Go back to the server's time now, since its clock was ahead before."""
        self.at = self._checked_at = now
        for each in self.members:
            each.lower(now)


_RowRead: TypeAlias = tuple[list[Any], list[Subscription]]


@dataclass(slots=True)
class Found:
    """The ends that one row shows, and who is to hear of them.

    ``subscriptions`` has the time after which an end is news for each. ``tries`` counts the
    requests for the rest of it that failed. Ends that are held are not reported yet.
    """

    ends: Sequence[End] = ()
    subscriptions: dict[Subscription, float] = field(default_factory=dict)
    tries: int = 0
    is_held: bool = False

    @property
    def since(self) -> float:
        """The time after which an end is news for one of those."""
        return min(self.subscriptions.values())

    @property
    def earliest(self) -> float:
        """The time of the earliest end that is news."""
        since = self.since
        return min((each.at for each in self.ends if each.at > since), default=math.inf)

    def add(self, ends: Sequence[End], news: Iterable[Subscription]) -> None:
        """Take in what the row shows now, beside the ends that it has shown before."""
        known = {each.job.id: each for each in (*self.ends, *ends)}
        self.ends = sorted(known.values(), key=lambda each: each.at)
        for each in news:
            bound = each.bound(ends[0].key)
            self.subscriptions[each] = min(bound, self.subscriptions.get(each, bound))


class Watchers:
    """All who hear of ends in one account."""

    def __init__(self, vendor: Vendor, account: Account) -> None:
        self._vendor = vendor
        self._account = account
        self._places: dict[Place, dict[Subscription, None]] = {}
        self._subjects: dict[str, int] = {}
        self._count = 0
        self._cohorts: dict[float, Cohort] = {}
        # Those that have not heard up to where others of their interval have.
        self._alone: dict[Subscription, None] = {}
        # Whose turn it is.
        self._turn: list[Cohort] = []
        self._turn_alone: list[Subscription] = []
        # What the rows of this round and of the one before said of ends, and who was
        # concerned, by subject.
        self._read: dict[str, _RowRead] = {}
        self._read_before: dict[str, _RowRead] = {}
        # When each kind of bad row was last logged, in the loop's time.
        self._reported: dict[str, float] = {}
        self.keeps = all(each.kind is not SourceKind.FEED for each in vendor.sources)
        """Whether keys are shown for as long as they exist: feeds show them with news."""
        self.found: dict[str, Found] = {}
        """What the walks of this round have found, by key, and what is left of others."""

    def __len__(self) -> int:
        """Return how many watch."""
        return self._count

    def __iter__(self) -> Iterator[Subscription]:
        """Return all who watch; each may leave as it is seen."""
        for subscriptions in [*self._places.values()]:
            yield from [*subscriptions]

    def watches(self, subject: str) -> bool:
        """Return True while anyone watches what this id shows by itself."""
        return subject in self._subjects

    def join(self, subscription: Subscription) -> None:
        """Let one more watch."""
        watch = subscription.watch
        self._places.setdefault(watch.place, {})[subscription] = None
        self._alone[subscription] = None
        self._count += 1
        if watch.subject:
            self._subjects[watch.subject] = self._subjects.get(watch.subject, 0) + 1

    def leave(self, subscription: Subscription) -> None:
        """Let one watch no more."""
        watch = subscription.watch
        of_place = self._places.get(watch.place, {})
        if subscription not in of_place:
            return

        del of_place[subscription]
        self._part(subscription)
        self._count -= 1
        if not of_place:
            del self._places[watch.place]

        if not self._places:
            self._read.clear()
            self._read_before.clear()
            self.found.clear()

        if watch.subject:
            self._subjects[watch.subject] -= 1
            if not self._subjects[watch.subject]:
                del self._subjects[watch.subject]

    def _part(self, subscription: Subscription) -> None:
        """Take one out of those who take turns."""
        cohort = subscription.cohort
        if cohort is None:
            del self._alone[subscription]
            return

        cohort.remove(subscription)
        if not cohort.members:
            del self._cohorts[cohort.interval]

    def shortest_interval(self) -> float:
        """Return the shortest of their intervals in seconds."""
        return min(
            [*self._cohorts, *(each.interval for each in self._alone)],
            default=math.inf,
        )

    # One round ----------------------------------------------------------------------

    def begin(self, number: int, planned: float, pace: float) -> None:
        """Begin a round: whose turn is it, by the rules of those who wait."""
        self._read_before, self._read = self._read, {}

        def takes_turn(each: Cohort | Subscription) -> bool:
            every = max(1, int(each.interval / pace + EPSILON))
            is_overdue = planned >= each.asked_at + each.interval - EPSILON
            if number % every and not is_overdue:
                return False

            each.asked_at = planned
            return True

        self._turn = [each for each in self._cohorts.values() if takes_turn(each)]
        self._turn_alone = [each for each in self._alone if takes_turn(each)]
        # One that has joined in the middle of a walk, or has seen one break off, would hear
        # of what has ended last before the rest of what its mark lets it hear.
        for each in self._alone:
            each.is_shown = each.is_settled

        for each in self._turn_alone:
            each.is_shown = True

        self._drop_partly_found()

    def _drop_partly_found(self) -> None:
        """Forget what was found for those who are shown it again, all in one round."""
        for key, found in [*self.found.items()]:
            if found.is_held:
                continue

            for each in [*found.subscriptions]:
                if not each.is_shown:
                    del found.subscriptions[each]

            if not found.subscriptions:
                del self.found[key]

    def need(self, *, overlap: float, now: float | None) -> Need | None:
        """Return what the round must show, None where no turn has come."""
        if not (self._turn or self._turn_alone):
            return None

        # Who goes back in time has to read again what was no news.
        known, wanted = [], [Wanted.by(each.watch for each in self._turn_alone)]
        for cohort in self._turn:
            if now is not None and cohort.at > now:
                cohort.go_back(now)
                self._read_before.clear()

            known.append(cohort.at)
            wanted.append(cohort.wanted)

        for each in self._turn_alone:
            until = each.checked_until
            if now is not None:
                each.begin(now)
                if until is not None and until > now:
                    self._read_before.clear()

            if each.checked_until is not None:
                known.append(each.checked_until)

        return Need(
            since=min(known) - overlap if known else None,
            subjects=frozenset().union(*(each.subjects for each in wanted)),
            scopes=frozenset().union(*(each.scopes for each in wanted)),
            whole=any(each.whole for each in wanted),
        )

    def take(self, row: Row, subject: str = "") -> None:
        """Take a row in, which is that of ``subject``.

        A row that breaks is skipped. Others may show the same end.
        """
        if not self._places:
            return

        try:
            self._take(row, subject)
        except UnreadableReply as error:
            self.note_unreadable(subject, error)
        except Exception as error:
            if self._must_report(type(error).__name__):
                log.exception("%s: a row cannot be watched", self._account)

    def note_unreadable(self, subject: str, error: UnreadableReply) -> None:
        """Warn that a row cannot be read; no end is seen until it can.

        Once an hour for each that is watched by itself, and for all others together.
        """
        if self._must_report(f"row {subject if self.watches(subject) else ''}"):
            log.warning(
                "%s: a row that is watched cannot be read (still watching): %s",
                self._account,
                error.message,
            )

    def _must_report(self, kind: str) -> bool:
        """Return True if it is time for a line; lists show the same row each round."""
        now = asyncio.get_running_loop().time()
        if now < self._reported.get(kind, -math.inf) + REPORT_EVERY:
            return False

        self._reported[kind] = now
        return True

    def _take(self, row: Row, subject: str) -> None:
        concerned = [
            each
            for place in self._vendor.places(row)
            for each in self._places.get(place, ())
            if each.is_shown and each.has_begun
        ]
        if not concerned:
            return

        # Most rows are shown in several rounds, and in one of them with news.
        fields = self._vendor.end_fields if subject else ()
        read = [row.get(name) for name in fields], concerned
        before = self._read.get(subject) or self._read_before.get(subject)
        ends = (
            () if fields and read == before else self._vendor.ends(self._account, row)
        )
        self._read[subject] = read

        if not ends:
            return

        news = [each for each in concerned if each.has_news(ends)]
        if news:
            self.found.setdefault(ends[0].key, Found()).add(ends, news)

        if self.keeps:
            for each in concerned:
                each.note(ends)

    def settle(self, at: float | None) -> None:
        """Report what was found, in the order of the ends' times.

        ``at`` is the server's time up to which the round has shown all that was needed;
        None where it has not.
        """
        ready = {key: each for key, each in self.found.items() if not each.is_held}
        ends = [(end, each) for each in ready.values() for end in each.ends]
        for end, found in sorted(ends, key=lambda each: (each[0].at, each[0].key)):
            for subscription, since in found.subscriptions.items():
                subscription.take(end, since)

        for key in ready:
            del self.found[key]

        if at is None:
            return

        # A mark that is stored now must not pass an end that is still to be reported.
        known = min([at, *(each.earliest for each in self.found.values())])
        for cohort in self._turn:
            cohort.settle(known)

        for each in self._turn_alone:
            each.settle(known if each.has_begun else at)
            if each in self._alone and each.checked_until == known:
                self._unite(each, known)

    def _unite(self, subscription: Subscription, at: float) -> None:
        """Let one join those of its interval that have heard up to the same time."""
        cohort = self._cohorts.get(subscription.interval)
        if cohort is None:
            cohort = Cohort(
                subscription.interval, at=at, asked_at=subscription.asked_at
            )
            self._cohorts[cohort.interval] = cohort
        elif cohort.at != at:
            return

        del self._alone[subscription]
        cohort.add(subscription)

    # Ends of subscriptions ----------------------------------------------------------

    def refuse(self, subject: str, error: PermanentError) -> None:
        """End the subscriptions to what the vendor does not show by itself."""
        for each in self:
            if each.watch.subject == subject:
                each.fail(error)

    def fail_all(self, error: EngineError) -> None:
        """End all subscriptions with an error."""
        for each in self:
            each.fail(error)

    def dismiss(self, owner: object) -> None:
        """End the subscriptions of an owner, whose connection leads elsewhere now."""
        error = ConnectionChanged("The Airflow connection leads to another account now")
        for each in self:
            if each.owner is owner:
                each.fail(error)

    def disband(self) -> None:
        """End all subscriptions by cancellation, for good."""
        for each in self:
            each.disband()
