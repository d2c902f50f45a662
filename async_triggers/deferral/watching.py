"""Watching for the ends of jobs that something else has started: Airflow's event triggers.

A watcher rides on the poller of its account, see :mod:`async_triggers.engine.watchers`.
It never ends and never raises, since Airflow would begin it again at once, and it yields
no event but the end of a job, since each starts DAG runs. Trouble is one line an hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import random
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from async_triggers.deferral.errors import explain, with_request
from async_triggers.deferral.events import STATUS_OF, Status, describe_end
from async_triggers.deferral.stored import StoredTrigger
from async_triggers.deferral.watermarks import Watermarks
from async_triggers.engine.doubt import Doubt
from async_triggers.engine.errors import (
    ConnectionChanged,
    Doubted,
    EngineError,
    JobNotFound,
    PermanentError,
    Scope,
    TransientError,
)
from async_triggers.engine.times import parse_time
from async_triggers.engine.watch import Mark
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.watch import End, Watch
    from async_triggers.engine.watchers import Heard, Subscription

log = logging.getLogger(__name__)

STATUSES = (Status.SUCCESS.value, Status.ERROR.value, Status.CANCELLED.value)
"""How a job may have ended, in the words of events."""
DEFAULT_INTERVAL = 15.0
"""Seconds between two polls where a watcher does not say."""
SETTLE = 5.0
"""Seconds after an event until its mark is written.

The triggerer hands events on at its next exchange with its supervisor, about a second
later. A mark that is written before, and a triggerer that is killed, would lose the event.
"""
RETRY = 300.0
"""Seconds after which what the vendor refuses is watched again."""
RETRY_SOON = 60.0
"""Seconds after which other trouble is tried again."""
REPORT_EVERY = 3600.0
"""Seconds between two lines about trouble."""
CHECK_EVERY = 6 * 3600.0
"""Seconds without an end after which it is checked that what is watched is there."""


class WatcherUnusable(TypeError):
    """An argument of a watcher cannot be used.

    A TypeError, since any other exception of a trigger's constructor ends a triggerer.
    """


class EndWatcher(StoredTrigger, BaseEventTrigger):
    """Yields one event for each job that ends, no matter what has started it.

    Subclasses assign every argument of their constructor to an attribute of the same name.
    """

    # What the methods below read; subclasses take them as arguments.
    statuses: list[str]
    since: str | None
    own: bool | None
    poll_interval: float

    watched: ClassVar[Sequence[str]]
    """The arguments of which exactly one says what is watched."""
    knows_own: ClassVar[bool] = False
    """Whether the vendor shows which jobs this package has started."""

    # What a vendor adds -----------------------------------------------------------

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the watcher's connection. No I/O."""

    @abstractmethod
    def make_watch(self) -> Watch:
        """Return what is watched, for the poller."""

    @abstractmethod
    async def check(self, leased: LeasedAccount) -> None:
        """Raise :class:`~.engine.errors.PermanentError` where that does not exist."""

    def is_own(self, job: Job) -> bool:
        """Return whether this package has started a job."""
        raise NotImplementedError

    def target_of(self, job: Job) -> str:
        """Return the id of what a job was started of, for :meth:`belongs`."""
        return job.id

    async def belongs(self, leased: LeasedAccount, target: str) -> bool:
        """Return whether a target, of which the poller has shown a job, is watched.

        Raise :class:`~.engine.errors.PermanentError` where the vendor does not show it.
        """
        return True

    # Arguments ----------------------------------------------------------------------

    def take(
        self,
        *,
        statuses: Sequence[str],
        since: str | datetime | None,
        own: bool | None,
        poll_interval: float,
    ) -> None:
        """Take the arguments that all watchers have; at the end of a constructor."""
        given = [name for name in self.watched if getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"Give one of {', '.join(self.watched)}"
            raise WatcherUnusable(msg)

        if isinstance(statuses, str) or not statuses or set(statuses) - {*STATUSES}:
            msg = f"statuses must be some of {', '.join(STATUSES)}, not {statuses!r}"
            raise WatcherUnusable(msg)

        if own is not None and not self.knows_own:
            msg = (
                f"own has no meaning here: {self.make_hook().vendor.name} does not show"
                " who has started a job"
            )
            raise WatcherUnusable(msg)

        moment = since.isoformat() if isinstance(since, datetime) else since
        if moment is not None and parse_time(moment) is None:
            msg = (
                f"since must be a time, for example 2026-01-01T00:00:00Z, not {since!r}"
            )
            raise WatcherUnusable(msg)

        is_number = isinstance(poll_interval, int | float)
        if not is_number or isinstance(poll_interval, bool) or not poll_interval > 0:
            msg = f"poll_interval must be a number of seconds, not {poll_interval!r}"
            raise WatcherUnusable(msg)

        # A list, as the database gives it back: Airflow compares watchers by it.
        self.statuses = [*statuses]
        self.since = moment
        self.own = own
        self.poll_interval = float(poll_interval)

    @property
    def subject(self) -> str:
        """What is watched, in words."""
        name = next(each for each in self.watched if getattr(self, each) is not None)
        return f"{name} {getattr(self, name)}"

    @property
    def key(self) -> str:
        """What the marks of this watcher are stored by.

        The same where only ``statuses``, ``own`` or the interval are others.
        """
        classpath, arguments = self.serialize()
        varying = {"statuses", "own", "poll_interval", "version"}
        named = {name: arguments[name] for name in arguments.keys() - varying}
        text = json.dumps([classpath, named], sort_keys=True)
        return f"async_triggers:{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    # Watching -----------------------------------------------------------------------

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each end, for as long as Airflow wants."""
        watching = _Watching(self)
        try:
            await watching.recall()
            while True:
                for job in await watching.next_jobs():
                    # Airflow logs each event with its payload.
                    yield TriggerEvent(self.payload(job))

                watching.were_taken()
        finally:
            watching.close()

    def is_wanted(self, job: Job) -> bool:
        """Return whether an end is one of those that are watched for."""
        if STATUS_OF[job.state] not in self.statuses:
            return False

        return self.own is None or self.is_own(job) is self.own

    def payload(self, job: Job) -> dict[str, Any]:
        """Write the payload of an event: plain JSON, the same for the same job."""
        ended = None
        if job.ended_at is not None:
            ended = datetime.fromtimestamp(job.ended_at, tz=UTC).isoformat()

        return {
            "vendor": self.make_hook().vendor.name,
            "id": job.id,
            "status": STATUS_OF[job.state].value,
            "message": describe_end(job),
            "started_at": job.started_at,
            "ended_at": ended,
            "url": job.url,
            "statistics": {**job.statistics},
        }


class _Watching:
    """One run of a watcher: the lease, the subscription, and what is to be stored."""

    def __init__(self, trigger: EndWatcher) -> None:
        self._trigger = trigger
        self._marks = Watermarks(trigger, trigger.key)
        self._mark: Mark | None = None
        self._is_vouched = False
        self._leased: LeasedAccount | None = None
        self._subscription: Subscription | None = None
        # Marks with the loop's time from which each may be written.
        self._unwritten: deque[tuple[float, Mark]] = deque()
        self._heard: Heard | None = None
        # The targets that the vendor does not show, although it has shown jobs of them.
        self._doubts: dict[str, Doubt] = {}
        self._check_at = 0.0
        # When each kind of trouble was last logged, in the loop's time.
        self._reported: dict[str, float] = {}

    async def recall(self) -> None:
        """Learn where an earlier run has stopped; wait for Airflow's database for that."""
        while True:
            try:
                self._mark = await self._marks.read()
                break
            except Exception as error:  # noqa: BLE001 - Airflow's, of any kind
                self._report(
                    f"The mark of the watcher of {self._trigger.subject} could not be"
                    f" read, trying again: {type(error).__name__}",
                    "mark",
                )
                await asyncio.sleep(RETRY_SOON)

        loop = asyncio.get_running_loop()
        if self._mark is not None:
            self._is_vouched = True
            self._check_at = self._next_check(loop.time())
        elif self._trigger.since is not None:
            since = parse_time(self._trigger.since)
            assert since is not None  # noqa: S101 - checked by the constructor
            self._mark = Mark(at=since, floor=since)

    async def next_jobs(self) -> Sequence[Job]:
        """Return the next jobs that have ended and are wanted, once there are any."""
        while True:
            try:
                jobs = await self._hear()
            except ConnectionChanged:
                self._leave()
                continue
            except Exception as error:  # noqa: BLE001 - Airflow would begin again at once
                self._report_failure(error)
                # What was heard waits until it is known which of it is wanted.
                if self._heard is None:
                    self._leave()

                is_final = isinstance(error, PermanentError)
                # What was refused for good is believed at once when it comes again.
                self._is_vouched = self._is_vouched and not is_final
                await self._pause(RETRY if is_final else RETRY_SOON)
            else:
                if jobs:
                    return jobs

    def were_taken(self) -> None:
        """Take note that the jobs have been handed over."""
        assert self._heard is not None  # noqa: S101 - they were heard
        due = asyncio.get_running_loop().time() + SETTLE
        self._unwritten.append((due, self._heard.mark))
        self._mark = self._heard.mark
        self._heard = None

    def close(self) -> None:
        """Leave the poller and the account."""
        self._leave()
        if self._leased is not None:
            self._leased.release()
            self._leased = None

    # Hearing ------------------------------------------------------------------------

    async def _hear(self) -> Sequence[Job]:
        """Return the wanted jobs of what was heard; none where there are none yet."""
        leased = await self._lease()
        if self._heard is None:
            self._heard = await self._listen(leased)

        if self._heard is None:
            return ()

        self._is_vouched = True
        jobs = await self._wanted(leased, self._heard.ends)
        if not jobs:
            now = asyncio.get_running_loop().time()
            self._unwritten.append((now, self._heard.mark))
            self._mark = self._heard.mark
            self._heard = None

        return jobs

    async def _lease(self) -> LeasedAccount:
        if self._leased is None:
            hook = self._trigger.make_hook()
            account = await hook.known_account(patience=None)
            self._leased = hook.hold(account)

        return self._leased

    async def _listen(self, leased: LeasedAccount) -> Heard | None:
        """Hear of ends; None where something else was to be done first."""
        if self._subscription is None:
            self._subscription = leased.subscribe(
                self._trigger.make_watch(),
                interval=self._trigger.poll_interval,
                mark=self._mark,
                vouched=self._is_vouched,
            )

        loop = asyncio.get_running_loop()
        due = self._unwritten[0][0] if self._unwritten else math.inf
        try:
            async with asyncio.timeout_at(min(due, self._check_at)):
                heard = await self._subscription.hear()
        except TimeoutError:
            await self._write()
            if loop.time() >= self._check_at:
                self._check_at = self._next_check(loop.time())
                # An errand: a thousand of them have to wait for their turn.
                leased.run_errand(self._check(leased), f"check {self._trigger.subject}")

            return None

        if heard.ends:
            self._check_at = self._next_check(loop.time())

        return heard

    async def _wanted(self, leased: LeasedAccount, ends: Sequence[End]) -> list[Job]:
        """Return the jobs that are wanted; raise Doubted where that is not sure yet."""
        trigger = self._trigger
        jobs = [end.job for end in ends if trigger.is_wanted(end.job)]
        belongs: dict[str, bool] = {}
        doubted: Doubted | None = None
        # All of them: the doubts about several last no longer than that about one.
        for target in dict.fromkeys(trigger.target_of(job) for job in jobs):
            try:
                belongs[target] = await self._belongs(leased, target)
            except Doubted as error:
                doubted = error

        if doubted is not None:
            raise doubted

        return [job for job in jobs if belongs[trigger.target_of(job)]]

    async def _belongs(self, leased: LeasedAccount, target: str) -> bool:
        """Return whether a target is watched; not if the vendor refuses it for good."""
        loop = asyncio.get_running_loop()
        try:
            found = await self._trigger.belongs(leased, target)
        except TransientError:
            for each in self._doubts.values():
                each.missed(loop.time())

            raise
        except PermanentError as refusal:
            if refusal.scope is Scope.ACCOUNT:
                raise

            self._doubt(leased, target, refusal)
            hook = self._trigger.make_hook()
            what = explain(refusal, hook.conn_id, hook.conn_type)
            subject = self._trigger.subject
            msg = f"The watcher of {subject} ignores what {target} runs: {what}"
            self._report(with_request(msg, refusal), "ignored")
            return False

        self._doubts.pop(target, None)
        return found

    def _doubt(
        self, leased: LeasedAccount, target: str, refusal: PermanentError
    ) -> None:
        """Raise Doubted until the refusal of a target has lasted.

        The doubt is kept after that, so that the next end of the target delays no others.
        """
        if refusal.status is None:
            # Nothing was sent.
            return

        now, doubt = asyncio.get_running_loop().time(), self._doubts.get(target)
        lasts = leased.account.belief.doubt
        if doubt is None:
            self._doubts[target] = Doubt(refusal, now, lasts=lasts)
        elif doubt.refused(refusal, now):
            return

        doubted = Doubted(
            f"{refusal.message} (a job of it was shown, so this may be temporary: it is"
            f" checked again for {lasts:g} s)",
            refusal=refusal,
            retry_after=RETRY_SOON,
        )
        doubted.url = refusal.url
        raise doubted from None

    def _leave(self) -> None:
        """End the subscription; what was heard and not handed over is heard again."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
            self._heard = None

    async def _pause(self, seconds: float) -> None:
        """Wait, and write what becomes due meanwhile."""
        ends = asyncio.get_running_loop().time() + seconds
        while self._unwritten and self._unwritten[0][0] < ends:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, self._unwritten[0][0] - now))
            if not await self._write():
                break

        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, ends - now))

    # Is it there? -------------------------------------------------------------------

    @staticmethod
    def _next_check(now: float) -> float:
        # Watchers that begin together do not check together.
        return now + CHECK_EVERY * random.uniform(0.75, 1.25)

    async def _check(self, leased: LeasedAccount) -> None:
        """Warn where what is watched does not exist; it is watched all the same."""
        loop = asyncio.get_running_loop()
        try:
            await self._trigger.check(leased)
        except TransientError:
            # Those who poll say so.
            self._check_at = loop.time() + RETRY
        except PermanentError as error:
            self._check_at = loop.time() + REPORT_EVERY
            self._report_failure(error)

    # Marks --------------------------------------------------------------------------

    async def _write(self) -> bool:
        """Write the newest mark that is due; return False where that has failed."""
        loop = asyncio.get_running_loop()
        mark: Mark | None = None
        while self._unwritten and self._unwritten[0][0] <= loop.time():
            mark = self._unwritten.popleft()[1]

        if mark is None:
            return True

        try:
            await self._marks.write(mark)
        except Exception as error:  # noqa: BLE001 - Airflow's, of any kind
            self._report(
                f"The mark of the watcher of {self._trigger.subject} could not be"
                f" written, trying again: {type(error).__name__}",
                "mark",
            )
            self._unwritten.appendleft((loop.time() + RETRY_SOON, mark))
            return False

        return True

    # Logging ------------------------------------------------------------------------

    def _report_failure(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            log.debug("A watcher broke", exc_info=error)
            self._report(
                f"The watcher of {self._trigger.subject} failed, watching again:"
                f" {type(error).__name__}",
                type(error).__name__,
            )
            return

        hook = self._trigger.make_hook()
        what = explain(error, hook.conn_id, hook.conn_type)
        words = f"{self._trigger.subject} cannot be watched now: {sentence(what)}"
        words += (
            " Check the id" if isinstance(error, JobNotFound) else " Still watching"
        )

        self._report(with_request(words, error), type(error).__name__)

    def _report(self, words: str, kind: str) -> None:
        """Log a line, of each kind of trouble no more than one an hour."""
        now = asyncio.get_running_loop().time()
        if now < self._reported.get(kind, -math.inf) + REPORT_EVERY:
            return

        self._reported[kind] = now
        self._trigger.log.warning("%s", words)
