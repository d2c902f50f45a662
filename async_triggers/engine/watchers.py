"""Who hears of the ends of jobs that anyone has started. Nothing here awaits the vendor.

A watcher rides on the rounds of those who wait. Where a feed or a list is read for them
it adds no request; where none is, one walk over it serves all watchers. It hears of ends
once a walk over them is complete, in the order of their times.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from async_triggers.engine.errors import ConnectionChanged, UnreadableReply
from async_triggers.engine.watch import End, Mark, Need, Place, Watch, shown_since
from async_triggers.engine.wire import SourceKind

if TYPE_CHECKING:
    from async_triggers.engine.errors import EngineError, PermanentError
    from async_triggers.engine.wire import Account, Row, Vendor

log = logging.getLogger(__name__)

REPORT_EVERY = 3600.0
"""Seconds between two lines about rows that cannot be watched."""
SAVE_EVERY = 900.0
"""Seconds of the server's time after which a watcher without news hears of its mark."""
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
        leave: Callable[[Subscription], None],
    ) -> None:
        self.watch = watch
        self.interval = interval
        self.owner = owner
        self.asked_at = -math.inf
        """The loop's time of the last round in which it was its turn."""
        # One dict, in which the mark sees each change.
        self._reported = {} if mark is None else {**mark.reported}
        self._mark = None if mark is None else replace(mark, reported=self._reported)
        self._leave = leave
        self._ends: deque[End] = deque()
        self._error: EngineError | None = None
        self._is_disbanded = False
        self._saved_at = -math.inf if mark is None else mark.at
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        """State the state."""
        return f"<Subscription {self.watch.place} [{self._mark}]>"

    @property
    def has_begun(self) -> bool:
        """True once it is known from when on ends are news."""
        return self._mark is not None

    @property
    def checked_until(self) -> float | None:
        """The server's time up to which all ends are known; None at first."""
        return None if self._mark is None else self._mark.at

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

            mark = self._mark
            if mark is not None and (
                self._ends or mark.at >= self._saved_at + SAVE_EVERY
            ):
                ends = [*self._ends]
                self._ends.clear()
                self._saved_at = mark.at
                return Heard(ends=ends, mark=replace(mark, reported={**self._reported}))

            if self._error is not None:
                raise self._error.again()

            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Hear no more."""
        self._leave(self)

    # What the rounds do -------------------------------------------------------------

    def take(self, end: End) -> None:
        """Take in an end; one that was reported before is no news."""
        if not self.has_news([end]):
            return

        self._reported[end.key] = end.at
        self._ends.append(end)
        self._changed.set()

    def settle(self, at: float, *, keeps: bool) -> None:
        """Take note that all that ended by this time was checked.

        ``keeps`` says that a key is shown for as long as it exists, so that the times of
        all keys are kept.
        """
        mark = self._mark
        if mark is None:
            self._mark = Mark(at=at, floor=at, reported=self._reported)
            self._changed.set()
            return

        at = max(at, mark.at)
        self._mark = replace(mark, at=at)
        if not keeps:
            begin = shown_since(at, self._reported)
            old = [key for key, time in self._reported.items() if time <= begin]
            for key in old:
                del self._reported[key]

        if at >= self._saved_at + SAVE_EVERY:
            self._changed.set()

    def has_news(self, ends: Sequence[End]) -> bool:
        """Return True if one of these ends was not reported yet."""
        return self._mark is not None and any(map(self._mark.is_news, ends))

    def note(self, ends: Sequence[End]) -> None:
        """Take note of a row without news: only a later end will be news, however late."""
        if self._mark is not None and not self.has_news(ends):
            last = ends[-1]
            self._reported[last.key] = max(
                last.at, self._reported.get(last.key, last.at)
            )

    def bound(self, key: str) -> float:
        """Return the time after which an end of this key is news."""
        return -math.inf if self._mark is None else self._mark.bound(key)

    def begin(self, now: float) -> None:
        """Begin with the server's time now, also where its clock was ahead before."""
        mark = self._mark
        if mark is None:
            self.settle(now, keeps=True)
        elif mark.at > now:
            self._mark = replace(mark, at=now, floor=min(mark.floor, now))

    def fail(self, error: EngineError) -> None:
        """End the subscription with an error."""
        self._error = error
        self._changed.set()

    def disband(self) -> None:
        """End the subscription by cancellation: the loop is shutting down."""
        self._is_disbanded = True
        self._changed.set()


@dataclass(slots=True)
class Found:
    """The ends that one row shows, and who is to hear of them.

    ``tries`` counts the requests for the rest of it that failed. Ends that are held are not
    reported yet.
    """

    ends: Sequence[End]
    subscriptions: dict[Subscription, None] = field(default_factory=dict)
    tries: int = 0
    is_held: bool = False

    @property
    def since(self) -> float:
        """The time after which an end is news for one of those."""
        return min(each.bound(self.ends[0].key) for each in self.subscriptions)


class Watchers:
    """All who hear of ends in one account."""

    def __init__(self, vendor: Vendor, account: Account) -> None:
        self._vendor = vendor
        self._account = account
        self._places: dict[Place, dict[Subscription, None]] = {}
        self._subjects: dict[str, int] = {}
        self._count = 0
        self._turn: list[Subscription] = []
        # When each kind of bad row was last logged, in the loop's time.
        self._reported: dict[str, float] = {}
        # A list shows a key for as long as it exists, a feed only when it has news.
        self._keeps = all(each.kind is not SourceKind.FEED for each in vendor.sources)
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
        self._count -= 1
        if not of_place:
            del self._places[watch.place]

        if watch.subject:
            self._subjects[watch.subject] -= 1
            if not self._subjects[watch.subject]:
                del self._subjects[watch.subject]

    def shortest_interval(self) -> float:
        """Return the shortest of their intervals in seconds."""
        return min((each.interval for each in self), default=math.inf)

    # One round ----------------------------------------------------------------------

    def begin(self, number: int, planned: float, pace: float) -> None:
        """Begin a round: whose turn is it, by the rules of those who wait."""
        self._turn = []
        for each in self:
            every = max(1, int(each.interval / pace + EPSILON))
            is_overdue = planned >= each.asked_at + each.interval - EPSILON
            if number % every == 0 or is_overdue:
                each.asked_at = planned
                self._turn.append(each)

    def need(self, *, overlap: float, now: float | None) -> Need | None:
        """Return what the round must show, None where no turn has come."""
        if not self._turn:
            return None

        if now is not None:
            for each in self._turn:
                each.begin(now)

        known = [each.checked_until for each in self._turn]
        watches = [each.watch for each in self._turn]
        return Need(
            since=min((at - overlap for at in known if at is not None), default=None),
            subjects=frozenset(each.subject for each in watches if each.subject),
            scopes=frozenset(each.scope for each in watches if each.scope),
            whole=any(not (each.subject or each.scope) for each in watches),
        )

    def take(self, row: Row, subject: str = "") -> None:
        """Take a row in, which is that of ``subject``.

        A row that breaks is skipped. Others may show the same end.
        """
        if not self._places:
            return

        try:
            self._take(row)
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

    def _take(self, row: Row) -> None:
        concerned = [
            each
            for place in self._vendor.places(row)
            for each in self._places.get(place, ())
            if each.has_begun
        ]
        ends = self._vendor.ends(self._account, row) if concerned else ()
        if not ends:
            return

        news = [each for each in concerned if each.has_news(ends)]
        if news:
            found = self.found.setdefault(ends[0].key, Found(ends))
            found.ends = ends
            found.subscriptions.update(dict.fromkeys(news))

        if self._keeps:
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
            for subscription in found.subscriptions:
                subscription.take(end)

        for key in ready:
            del self.found[key]

        if at is not None:
            for each in self._turn:
                each.settle(at, keeps=self._keeps)

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
