"""The looks of a sensor from its worker, and what they have met of the vendor.

A sensor that is rescheduled is a new process at each look, and one that defers may be
back for a look that the vendor did not answer. What the looks have met goes with it: in
the task state store, or in the deferral.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from async_triggers.deferral import compat
from async_triggers.deferral.contact import FirstContact, address_of
from async_triggers.deferral.errors import translate
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.kill import IDLE
from async_triggers.deferral.notes import Notes
from async_triggers.engine.backoff import repeating_for
from async_triggers.engine.errors import Doubted, PermanentError, Scope, TransientError
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

    from async_triggers.deferral.job_query import JobQuery
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Seen
    from async_triggers.engine.wire import Account

CONTACT_KEY = "async_triggers_contact"
"""Key in the task state store of what a rescheduled sensor has met of its vendor."""


class Looks:
    """The looks for what a query names; ``query`` also holds what they have found."""

    def __init__(self, query: JobQuery, log: Logger) -> None:
        self.query = query
        self.trouble = ""
        """What the last look has failed with."""
        self.began = wall_clock()
        """When the first of them was made."""
        self.has_seen = False
        """True once one has shown the job."""
        self._log = log
        self._account: Account | None = None
        self._contact: FirstContact | None = None
        self._has_answered = False
        self._kept: Mapping[str, Any] | None = None

    @property
    def contact(self) -> FirstContact:
        """What they have met of the vendor."""
        return self._contact or FirstContact()

    @contact.setter
    def contact(self, contact: FirstContact) -> None:
        """Take in what the looks before these have met."""
        self._contact = contact
        self.query = replace(self.query, address=contact.known or "")

    # Looking ------------------------------------------------------------------------

    def look(self, context: Context, *, wait: float | None, is_quiet: bool) -> Seen:
        """Look once; ``wait`` is for how many seconds a request is repeated.

        ``is_quiet`` is for a look after one that has warned of what it found.
        """

        async def look(leased: LeasedAccount) -> Seen:
            self._account = leased.account
            with repeating_for(wait):
                self.query, seen = await self.query.look(leased)
                return seen

        hook = self.query.make_hook()
        hook.is_quiet = is_quiet or self._kept is not None
        account = hook.first_account(lambda: self._earlier_address(context))
        self.query = replace(self.query, address=hook.address)
        return hook.run(look, account=account)

    def note_answer(self, context: Context) -> None:
        """Write down, once in a process, that the vendor answers there."""
        account = self._account
        if account is None:
            return

        self.has_seen = True
        self._contact = self.contact.answered(account).settled()
        if not self._has_answered:
            self._has_answered = True
            remember_address(context, address_of(account), self._log)

    @property
    def noted_address(self) -> str:
        """The address that works, empty before one is known to."""
        account = self._account
        return address_of(account) if account and self._has_answered else ""

    @property
    def address_to_note(self) -> str:
        """The address that works if the job is seen; empty where that is noted."""
        account = self._account
        return address_of(account) if account and not self._has_answered else ""

    # Trouble ------------------------------------------------------------------------

    def meet(
        self, context: Context, error: compat.AirflowException, began: float
    ) -> compat.AirflowException | None:
        """Take in that a look begun at a time has failed.

        Return what the sensor fails with where more looks are of no use.
        """
        contact, account = self.contact, self._account
        cause = getattr(error, "cause", None)
        if account is None or cause is None:
            return None

        now, hook = wall_clock(), self.query.make_hook()
        refusal = cause.refusal if isinstance(cause, Doubted) else cause
        if isinstance(refusal, PermanentError):
            contact = self._contact = contact.refused(
                since=began, is_of_account=refusal.scope is Scope.ACCOUNT
            )
            if contact.believes(account, now=now):
                return translate(refusal, hook.conn_id, hook.conn_type)

            return None

        assert isinstance(cause, TransientError)  # noqa: S101 - what is left
        contact = contact.failed(cause, account, since=began, now=now)
        if contact.known is None:
            contact = replace(contact, known=self._earlier_address(context))

        self._contact, self.trouble = contact, str(error)
        return hook.endpoint(account).verdict(contact, cause, now=now)

    def may_outlive(self, error: compat.AirflowException) -> bool:
        """Return True for a refusal of a job that the vendor has shown before."""
        cause = getattr(error, "cause", None)
        is_refusal = isinstance(cause, PermanentError) and cause.status is not None
        return is_refusal and self.has_seen

    def _earlier_address(self, context: Context) -> str | None:
        notes = Notes(context, self._log, lambda: self.query.vendor.noun)
        return notes.earlier_address()

    @property
    def is_suspect(self) -> bool:
        """True while a field of the connection looks wrong that has not worked before."""
        account, contact = self._account, self.contact
        is_known = account is not None and contact.is_known(account)
        return contact.evidence_since is not None and not is_known

    @property
    def proves_wrong(self) -> bool:
        """True where the evidence of a wrong field will be believed after a while."""
        account = self._account
        return account is not None and self.contact.wrong_at(account) is not None

    def next_wait(self, seconds: float) -> float:
        """Return how long to wait for the next look, at most so many seconds."""
        account = self._account
        if account is None or self._contact is None:
            return seconds

        return self._contact.wait(seconds, account, now=wall_clock())

    def report(
        self, error: compat.AirflowException, *, wait: float, ends: float | None
    ) -> None:
        """Log that a look has failed: at first and now and then, else for debugging."""
        contact, account = self.contact, self._account
        cause = getattr(error, "cause", None)
        words = f"{sentence(str(error))} Trying again in {wait:.0f} s"
        if account is not None and cause is not None:
            endpoint = self.query.make_hook().endpoint(account)
            words = endpoint.report(contact, cause, wait=wait, ends=ends)

        now, noun = wall_clock(), self.query.vendor.noun
        if contact.must_report(cause, now=now):
            self._log.warning("The %s cannot be checked now: %s", noun, words)
            self._contact = contact.reported(cause, now=now)
        else:
            self._log.debug("The %s cannot be checked now: %s", noun, words)

    # Between processes --------------------------------------------------------------

    def recall(self, store: Any, attempt: int) -> None:
        """Take in what the looks of an attempt before this one have met."""
        if self._contact is not None:
            return

        kept = store.get(CONTACT_KEY)
        if isinstance(kept, Mapping) and kept.get("try") == attempt:
            self._kept = kept
            self.contact = FirstContact.from_json(kept.get("contact"))
            self.has_seen = kept.get("is_seen") is True
            began = kept.get("began")
            self.began = began if isinstance(began, float) else self.began

    def keep(self, store: Any, attempt: int) -> None:
        """Write down what the next look must know, where that is news."""
        kept: dict[str, Any] = {
            "try": attempt,
            "contact": self.contact.to_json(),
            "is_seen": self.has_seen,
            "began": self.began,
        }
        if kept != self._kept:
            store.set(CONTACT_KEY, kept)


def remember_address(context: Context, address: str, log: Logger) -> None:
    """Let later runs of the task know that this address works."""
    try:
        compat.push_owner_token(context, IDLE, address=address)
    except Exception:
        log.warning("Could not record that the connection works", exc_info=True)
