"""Whether a connection that does not work is wrong or only cut off: pure values.

A worker is a new process and cannot know whether the vendor has ever answered. So what a
task has met so far travels with it, through deferrals, as a :class:`FirstContact`. It
counts three things apart:

- *evidence* of a wrong field in the connection. It is believed when it has lasted for
  ``first_contact_seconds`` without a break, and never where the same address has answered
  an earlier run of the task. Any other trouble is an outage, and a break.
- refusals by something *in between*, added up over the time between one and the next.
- the vendor's own refusal of what concerns a job of an earlier attempt. It is in *doubt*
  until it has lasted for ``doubt_seconds`` over at least three checks: before that, no
  second job is started and no cancel is given up. The time before a check that the vendor
  did not answer counts for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.deadlines import earliest
from async_triggers.deferral.errors import (
    AsyncTriggersException,
    ConnectionUnusable,
    explain,
    translate,
    with_request,
)
from async_triggers.engine.errors import (
    EngineError,
    InBetween,
    RefusedInBetween,
    TransientError,
)
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from async_triggers.engine.wire import Account

CHECKS = 3
"""How often a refusal must have been seen before it is believed."""
SAY_AGAIN = 600.0
"""Seconds between two lines about one trouble in a task's log."""
HASTE = 3.0
"""Seconds for which a task repeats a request in its slot, where it can leave the slot."""
SHORTEST_WAIT = 5.0
"""Seconds between two tries, however near the deadline is."""


def address_of(account: Account) -> str:
    """Return a short hash of where an account's requests go."""
    text = f"{account.vendor}\0{account.base_url}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstContact:
    """What an attempt of a task has met of its vendor so far. Times are epoch seconds.

    ``known`` is the address that an earlier run of the task has worked with: empty for
    none, None while that has not been looked up.
    """

    evidence_since: float | None = None
    in_between: float = 0.0
    in_between_at: float | None = None
    doubted_since: float | None = None
    checked_at: float | None = None
    checks: int = 0
    is_of_account: bool = False
    said_at: float | None = None
    said_of: str = ""
    known: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Write it as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> FirstContact:
        """Read what :meth:`to_json` wrote; a new one for anything else."""
        names = {each.name for each in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            return cls()

        return cls(**value)

    # What was met -------------------------------------------------------------------

    def answered(self, account: Account) -> FirstContact:
        """Take in a good answer: the address works, and the account is accepted.

        The doubt about a job is settled by an answer about that job alone.
        """
        if self.is_of_account:
            return FirstContact(known=address_of(account))

        return FirstContact(
            known=address_of(account),
            doubted_since=self.doubted_since,
            checked_at=self.checked_at,
            checks=self.checks,
        )

    def settled(self) -> FirstContact:
        """End the doubt about the job of an earlier attempt."""
        return replace(
            self, doubted_since=None, checked_at=None, checks=0, is_of_account=False
        )

    def failed(
        self, error: TransientError, account: Account, *, since: float, now: float
    ) -> FirstContact:
        """Take in a try that began at ``since`` and has failed."""
        evidence = None
        suspect = error.suspect
        if suspect is not None and account.is_typed(suspect.field):
            began = self.evidence_since
            evidence = since if began is None else began

        met = replace(self._unanswered(now), evidence_since=evidence)
        if not isinstance(error, InBetween):
            return replace(met, in_between_at=None)

        last = now if self.in_between_at is None else self.in_between_at
        return replace(
            met,
            in_between=self.in_between + max(0.0, now - last),
            in_between_at=now,
        )

    def _unanswered(self, now: float) -> FirstContact:
        """Take the time since the last check off the doubt: nothing was refused then."""
        began, checked = self.doubted_since, self.checked_at
        if began is None or checked is None:
            return self

        return replace(
            self, doubted_since=began + max(0.0, now - checked), checked_at=now
        )

    def refused(self, *, since: float, is_of_account: bool) -> FirstContact:
        """Take in one more refusal by the vendor itself, by a check begun at ``since``.

        ``is_of_account`` says that it concerns all that the account may request.
        """
        began = self.doubted_since
        return replace(
            self,
            evidence_since=None,
            in_between=0.0,
            in_between_at=None,
            doubted_since=since if began is None else began,
            checked_at=since,
            checks=self.checks + 1,
            is_of_account=is_of_account,
        )

    def reported(self, error: EngineError | None, *, now: float) -> FirstContact:
        """Take in that the task's log has said so."""
        return replace(self, said_at=now, said_of=_field(error))

    # What follows -------------------------------------------------------------------

    def is_known(self, account: Account) -> bool:
        """Return True if this very address has worked before."""
        return self.known == address_of(account)

    def wrong_at(self, account: Account) -> float | None:
        """Return when the evidence is believed; None where there is none."""
        if self.evidence_since is None or self.known in {None, address_of(account)}:
            return None

        return self.evidence_since + account.belief.first_contact

    def is_cut_off(self, account: Account) -> bool:
        """Return True if something in between has refused everything for too long."""
        limit = account.belief.in_between
        return self.in_between_at is not None and 0 < limit <= self.in_between

    def believes(self, account: Account, *, now: float) -> bool:
        """Return True if the vendor's own refusal is sure by now."""
        began = self.doubted_since
        if began is None or self.checks < CHECKS:
            return False

        return now >= began + account.belief.doubt

    def wait(self, seconds: float, account: Account, *, now: float) -> float:
        """Return how long to wait for the next try, at most ``seconds``.

        What is believed after a while is checked once more when that is over.
        """
        most = seconds
        wrong = self.wrong_at(account)
        if wrong is not None:
            most = min(most, wrong - now)

        began = self.doubted_since
        if began is not None:
            doubt = account.belief.doubt
            left = began + doubt - now
            most = min(most, doubt / 2, left if left > 0 else SHORTEST_WAIT)

        return min(seconds, max(most, SHORTEST_WAIT))

    def must_report(self, error: EngineError | None, *, now: float) -> bool:
        """Return True if the task's log should say so: at first, and now and then."""
        if self.said_at is None or now >= self.said_at + SAY_AGAIN:
            return True

        # An outage that turns into a wrong field, but not each turn of the two.
        return _field(error) not in {"", self.said_of}

    def believed_at(self, account: Account) -> float | None:
        """Return when the present trouble ends the task; None where it never does."""
        if self.doubted_since is not None:
            return self.doubted_since + account.belief.doubt

        return self.wrong_at(account)


def _field(error: EngineError | None) -> str:
    suspect = None if error is None else error.suspect
    return "" if suspect is None else suspect.field


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Whom a task tries to reach, in the words of its log and of its errors."""

    vendor: str
    conn_id: str
    conn_type: str
    account: Account

    def verdict(
        self,
        contact: FirstContact,
        error: EngineError | None,
        *,
        now: float,
        fate: str = "",
    ) -> AsyncTriggersException | None:
        """Return what the task fails with; None to go on.

        ``error`` is what has failed last, None for nothing. ``fate`` says what the task
        leaves behind.
        """
        if error is None:
            return None

        wrong = contact.wrong_at(self.account)
        failure: AsyncTriggersException
        if wrong is not None and now >= wrong:
            words = explain(error, self.conn_id, self.conn_type)
            msg = f"{self.vendor} is not where the connection says: {words}"
            failure = ConnectionUnusable(with_request(msg, error))
        elif isinstance(error, InBetween) and contact.is_cut_off(self.account):
            excerpt = f", {error.excerpt}" if error.excerpt else ""
            final = RefusedInBetween(
                f"Something between Airflow and {self.vendor} refuses every request:"
                f" {error.status}{excerpt}"
            )
            final.url = error.url
            failure = translate(final, self.conn_id, self.conn_type)
        else:
            return None

        failure.cause = error
        return with_fate(failure, fate)

    def report(
        self,
        contact: FirstContact,
        error: EngineError,
        *,
        wait: float,
        ends: float | None,
    ) -> str:
        """Return what the log says of a try that failed and is made again.

        ``ends`` is the deadline of the task.
        """
        words = explain(error, self.conn_id, self.conn_type)
        if contact.evidence_since is not None and contact.is_known(self.account):
            words = (
                f"{sentence(words)} This address has answered before, so it counts as an"
                " outage"
            )

        until = earliest(ends, contact.believed_at(self.account))
        when = "it answers"
        if until is not None:
            when = datetime.fromtimestamp(until, tz=UTC).isoformat(timespec="seconds")

        words = f"{sentence(words)} Trying again in {wait:.0f} s, until {when}"
        return with_request(words, error)


def with_fate(failure: AsyncTriggersException, fate: str) -> AsyncTriggersException:
    """Add what the task leaves behind, on a separate line: both may end with a URL."""
    if fate:
        failure.args = (f"{failure}\n{fate}",)

    return failure
