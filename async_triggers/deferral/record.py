"""What a task has written down of its job, and what the next attempt makes of it.

The record lives in Airflow's task state store, which survives retries, crashes of workers
and clears. It is written *before* the start (an intent) and completed with the id after,
so that a start whose answer was lost is looked for and never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from async_triggers.engine.times import parse_time
from async_triggers.engine.wording import begun, with_url

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Vendor

KEY = "async_triggers"
VERSION = 1
CLOCKS_AGREE = 60.0
"""Seconds by which two measures of one span may differ."""


def earlier_clock(server_now: float | None, now: float) -> float | None:
    """Return the server's time or ours, whichever is earlier; None without the server's.

    One of them may be wrong. What happened since the earlier one includes all that
    happened since the right one.
    """
    return None if server_now is None else min(server_now, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What was known right before a start: what a lost start is found again by.

    ``at`` is the server's time (epoch seconds), ``sent_at`` our own, ``baseline`` what the
    vendor showed last before it (the newest job, a time of success), ``marker`` what the
    start carries, ``retry_of`` the failed job that it retries.
    """

    at: float | None = None
    sent_at: float | None = None
    baseline: str = ""
    marker: str = ""
    retry_of: str = ""

    @property
    def name(self) -> str:
        """Name it in the owner token of an attempt that looks for what came of it."""
        return f"sought: {self.at} {self.baseline}{self.marker}"

    def age(self, *, server_now: float | None, now: float) -> float:
        """Return how many seconds ago the start was sent; infinity where that is unknown.

        ``now`` is our own time. By the server's, unless it disagrees with ours: then one
        of its answers bears a wrong time. But a clock of ours that runs back is wrong.
        """
        own = math.inf if self.sent_at is None else now - self.sent_at
        if self.at is None or server_now is None:
            return max(0.0, own)

        theirs = server_now - self.at
        trusts_theirs = own < 0 <= theirs or abs(theirs - own) <= CLOCKS_AGREE
        return theirs if trusts_theirs else max(0.0, own)

    def is_followed_by(
        self,
        began: float | None,
        *,
        within: float,
        server_now: float | None,
        now: float,
    ) -> bool:
        """Return True if a job began at most some seconds after the start was sent.

        ``began`` is by the vendor's clock, None where it is not known; the job must be one
        that was made after the intent. For the other arguments see :meth:`age`.
        """
        if self.age(server_now=server_now, now=now) <= within:
            return True

        # Whichever clock was behind: what is perhaps another's job is not ours.
        sent = [each for each in (self.at, self.sent_at) if each is not None]
        return began is not None and bool(sent) and began <= min(sent) + within


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One attempt's job.

    ``try_number`` is that of the attempt, 0 where Airflow did not show it.
    ``job_id`` is None while only the intent is known. ``owned`` is False for a job that
    the task attached to. ``killed`` says that the attempt is over although its job may
    run: a user stopped it while it ran on a worker, or a deadline passed. ``ended`` is the
    vendor's word for how the job ended, where the task failed with it. ``url`` shows the
    job. ``address`` is a hash of where the vendor answered
    (:func:`.contact.address_of`).
    """

    fingerprint: str
    max_tries: int
    try_number: int = 0
    job_id: str | None = None
    owned: bool = True
    killed: bool = False
    ended: str = ""
    url: str = ""
    address: str = ""
    intent: Intent = field(default_factory=Intent)

    def to_json(self) -> dict[str, Any]:
        """Write the record as plain JSON."""
        return {
            "v": VERSION,
            "fingerprint": self.fingerprint,
            "max_tries": self.max_tries,
            "try_number": self.try_number,
            "job_id": self.job_id,
            "owned": self.owned,
            "killed": self.killed,
            "ended": self.ended,
            "url": self.url,
            "address": self.address,
            "intent": {
                "at": self.intent.at,
                "sent_at": self.intent.sent_at,
                "baseline": self.intent.baseline,
                "marker": self.intent.marker,
                "retry_of": self.intent.retry_of,
            },
        }

    def with_job(self, job: Job, *, owned: bool) -> Record:
        """Complete an intent with the job that came of it."""
        return replace(self, job_id=job.id, owned=owned, url=job.url or self.url)

    def is_same(self, fingerprint: str, try_number: int) -> bool:
        """Return whether it is of this try, or of one that requested the same.

        Templates may render something else each time that a task comes back to a worker.
        """
        return self.try_number == try_number or self.fingerprint == fingerprint

    def fate(self, vendor: Vendor) -> str:
        """Say what a task that gives up leaves behind; empty for nothing."""
        if self.ended:
            return ""

        if self.job_id is None:
            return (
                f"A start was not answered, a {vendor.noun} may be running; a retry looks"
                " for it"
            )

        name = begun(vendor.name_of(self.job_id))
        words = f"{name} may still be running; a retry checks it again"
        return with_url(words, self.url)


def read_record(value: object) -> Record | None:
    """Read what :meth:`Record.to_json` wrote; None for anything else."""
    if not isinstance(value, Mapping) or value.get("v") != VERSION:
        return None

    intent = value.get("intent")
    try:
        return Record(
            fingerprint=str(value["fingerprint"]),
            max_tries=int(value["max_tries"]),
            # Older records are without it.
            try_number=int(value.get("try_number", 0)),
            job_id=None if value["job_id"] is None else str(value["job_id"]),
            owned=bool(value["owned"]),
            killed=bool(value["killed"]),
            ended=str(value["ended"]),
            url=str(value["url"]),
            address=str(value["address"]),
            intent=Intent(**intent) if isinstance(intent, Mapping) else Intent(),
        )
    except (KeyError, TypeError, ValueError):
        return None


UNSETTLED_KEY = "async_triggers_unsettled"
CLOCKS_DIFFER = 300.0
"""Seconds by which the clocks of a worker and a vendor may differ."""
MOST_ATTEMPTS = 10
"""How many attempts are remembered that left a start to their trigger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """Starts that were left to triggers, whose outcome was not written down.

    A trigger cannot write to the state store, and what it keeps in XComs is lost with its
    attempt. ``at`` is the worker's time of the first such attempt, ``latest`` that of the
    newest, None where it is not known. ``attempts`` holds the try number and the
    ``max_tries`` of each, the newest last. ``fingerprint`` is that of their request, empty
    where it is not the same for all.
    """

    at: float
    attempts: tuple[tuple[int, int], ...]
    latest: float | None = None
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Write it as plain JSON."""
        return {
            "v": VERSION,
            "at": self.at,
            "attempts": [*map(list, self.attempts)],
            "latest": self.latest,
            "fingerprint": self.fingerprint,
        }

    def and_then(
        self, attempt: int, max_tries: int, *, at: float, fingerprint: str
    ) -> Unsettled:
        """Add an attempt."""
        known = (*self.attempts, (attempt, max_tries))
        is_same = not self.attempts or self.fingerprint == fingerprint
        return replace(
            self,
            attempts=known[-MOST_ATTEMPTS:],
            latest=at,
            fingerprint=fingerprint if is_same else "",
        )

    def split(self, max_tries: int) -> tuple[Unsettled | None, Unsettled | None]:
        """Return those that an attempt is a retry of, and those that were cleared.

        None for no attempt. A task fails before it is retried, so a clear comes between
        two attempts of another ``max_tries``.
        """
        retried = tuple(each for each in self.attempts if each[1] == max_tries)
        cleared = tuple(each for each in self.attempts if each[1] != max_tries)
        return (
            replace(self, attempts=retried) if retried else None,
            replace(self, attempts=cleared) if cleared else None,
        )

    def may_have_started(self, job: Job) -> bool:
        """Return whether a job is none that was there before."""
        since = parse_time(job.started_at)
        return since is None or since >= self.at - CLOCKS_DIFFER

    def has_ended(
        self,
        spans: Iterable[tuple[float | None, float | None]],
        *,
        ahead: float,
        within: float,
    ) -> bool:
        """Return whether the job of the newest attempt must have ended.

        ``spans`` holds when the latest jobs began and ended, by a clock that is ``ahead``
        of ours; None stands for what is not known. The jobs do not show whose they are,
        and one runs at a time. So the attempt has started the first job since then, unless
        it had to wait for that one: then it has started its own ``within`` so many seconds
        of an end.
        """
        if self.latest is None:
            return False

        # They are shown in whole seconds.
        earliest = self.latest + max(0.0, ahead) - 1.0
        since = sorted(
            (began, math.inf if ended is None else ended)
            for began, ended in spans
            if began is not None and began > earliest
        )
        # The start may have waited for a pause or an outage, while others ran.
        if not since or since[0][0] > earliest + 1.0 + within:
            return False

        return any(after > ended + within for (_, ended), (after, _) in pairwise(since))


def read_unsettled(value: object) -> Unsettled | None:
    """Read what :meth:`Unsettled.to_json` wrote; None for anything else."""
    if not isinstance(value, Mapping) or value.get("v") != VERSION:
        return None

    latest = value.get("latest")
    try:
        return Unsettled(
            at=float(value["at"]),
            attempts=tuple((int(one), int(two)) for one, two in value["attempts"]),
            latest=None if latest is None else float(latest),
            fingerprint=str(value.get("fingerprint", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


class Next(Enum):
    """What an attempt does first."""

    START = "start a job"
    AFTER = "start a job, since that of the earlier attempt has failed"
    REATTACH = "check the job of the earlier attempt, it may be taken over"
    FIND = "look for the job of the earlier attempt, whose start was not answered"
    SUPERSEDE = "end the job of the cleared attempt, then start a new one"
    LEAVE = "leave the job of the earlier attempt alone, then start a new one"


def decide(
    record: Record | None, *, fingerprint: str, max_tries: int, try_number: int
) -> Next:
    """Return what an attempt does, given what the last one wrote down.

    A clear raises ``max_tries``, a retry never does. For a task that was cleared while it
    ran, Airflow does so once its executor has reported the end of the worker. A record
    that outlives the clear says that the task was killed.
    """
    if record is None:
        return Next.START

    cleared = record.killed or record.max_tries != max_tries
    same = record.is_same(fingerprint, try_number)
    if record.job_id is None:
        return Next.FIND if same else Next.START

    if record.ended:
        return Next.AFTER if same and not cleared else Next.START

    if cleared:
        return Next.SUPERSEDE if record.owned else Next.START

    return Next.REATTACH if same else Next.LEAVE
