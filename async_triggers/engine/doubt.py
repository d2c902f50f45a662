"""When a refusal is believed: pure bookkeeping, without I/O and without a clock.

A refusal of what has worked before is in *doubt* until it has lasted: vendors restart,
roles are withdrawn and given back, keys are rotated. :class:`Doubt` keeps account of one
refusal, of an account or of a job; :class:`Trust` of all that the requests of an account
have shown. Times are those of the event loop, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

from async_triggers.engine.errors import (
    AccountMisconfigured,
    Doubted,
    RefusedInBetween,
)

if TYPE_CHECKING:
    from async_triggers.engine.errors import (
        EngineError,
        InBetween,
        PermanentError,
        TransientError,
    )
    from async_triggers.engine.wire import Belief

FIRST_CHECKS = (5.0, 15.0, 45.0)
"""Seconds after the first refusal at which it is checked again."""
CHECK_EVERY = 60.0
"""Seconds between two checks from then on."""
FEWEST_CHECKS = 3
"""Refusals that it takes at least, the first one included."""
REPEAT_FOR = 5.0
"""Seconds for which a believed refusal is repeated without a request."""


class Doubt:
    """A refusal that is not believed yet.

    Each check stands for the time since the one before it. Where the vendor did not answer
    a check, that time counts for nothing, and ``since`` moves on by as much.
    """

    __slots__ = (
        "_began",
        "_checked_at",
        "_lasts",
        "is_halted",
        "next_check",
        "refusal",
        "refusals",
        "since",
    )

    def __init__(self, refusal: PermanentError, now: float, *, lasts: float) -> None:
        self.refusal = refusal
        self.since = now
        self.refusals = 1
        self.is_halted = refusal.is_locked
        self._lasts = lasts
        self._began = self._checked_at = now
        self.next_check = self._following(now)

    def __repr__(self) -> str:
        """State the state."""
        return f"<Doubt [{self.refusals} refusals] {self.refusal.message}>"

    @property
    def ends(self) -> float:
        """When the refusal has lasted long enough to be believed."""
        return self.since + self._lasts

    def refused(self, refusal: PermanentError, now: float) -> bool:
        """Take one more refusal in; return True once it is to be believed."""
        self.refusal = refusal
        self.refusals += 1
        self._checked_at = now
        self.is_halted = self.is_halted or refusal.is_locked
        self.next_check = self._following(now)
        enough = self.is_halted or self.refusals >= FEWEST_CHECKS
        return enough and now >= self.ends

    def of_one(self, now: float, *, lasts: float) -> Doubt:
        """Return the same doubt for one job alone."""
        doubt = copy(self)
        doubt._lasts = lasts  # noqa: SLF001 - of the same class
        doubt.next_check = doubt._following(now)  # noqa: SLF001 - as above
        return doubt

    def halt(self) -> None:
        """Check no more until the doubt ends: each check would count against us."""
        self.is_halted = True
        self.next_check = max(self.next_check, self.ends)

    def missed(self, now: float) -> None:
        """Take in a check that the vendor did not answer: an outage refuses nothing."""
        self.since += now - self._checked_at
        self._checked_at = now
        regular = self._regular(now)
        self.next_check = max(self.ends, regular) if self.is_halted else regular

    def _following(self, now: float) -> float:
        """Return when to check next; one check falls on the end of the doubt."""
        if self.is_halted:
            return max(self.ends, now + CHECK_EVERY if now >= self.ends else now)

        regular = self._regular(now)
        return min(regular, self.ends) if self.ends > now else regular

    def _regular(self, now: float) -> float:
        passed = now - self._began
        return next(
            (self._began + each for each in FIRST_CHECKS if each > passed + 0.5),
            now + CHECK_EVERY,
        )


class Trust:
    """What an account's answers have shown so far, and what follows for its refusals."""

    def __init__(self, belief: Belief) -> None:
        self._belief = belief
        self.has_worked = False
        """The vendor has answered these credentials before."""
        self.doubt: Doubt | None = None
        self.on_doubt: Callable[[Doubt], None] | None = None
        """Called with a doubt when it begins."""
        self._is_checking = False
        self.between: InBetween | None = None
        """The last answer of something in between, until the vendor answers."""
        self.between_since = 0.0
        self._between_seconds = 0.0
        self._between_count = 0
        self._between_at: float | None = None
        self._suspected: tuple[float, TransientError] | None = None
        self._believed: PermanentError | None = None
        self._believed_until = -math.inf

    # Before a request ---------------------------------------------------------------

    def admit(self, now: float, *, is_start: bool) -> bool:
        """Say whether a request may be sent, and whether it is the check of a doubt.

        Raise :class:`Doubted` while the account is in doubt and this is not the moment of
        a check, and again for some seconds what has been believed just now.
        """
        if self._believed is not None and now < self._believed_until:
            raise self._believed.again()

        doubt = self.doubt
        if doubt is None:
            return False

        if is_start or self._is_checking or now < doubt.next_check - 1e-3:
            raise self._doubted(doubt, now)

        self._is_checking = True
        return True

    def check_ended(self, now: float) -> None:
        """End a check that :meth:`admit` has begun, also one without an answer."""
        self._is_checking = False
        if self.doubt is not None and self.doubt.next_check <= now:
            self.doubt.missed(now)

    # After a request ----------------------------------------------------------------

    def vouch(self) -> None:
        """Take note that these credentials have worked, elsewhere and before."""
        if not self.has_worked:
            self.has_worked = True
            self._believed = None
            self._suspected = None

    def answered(self) -> None:
        """Take note of an answer by the vendor that accepts the credentials."""
        self.has_worked = True
        self.doubt = None
        self._believed = None
        self.between = None
        self._between_seconds = 0.0
        self._between_count = 0
        self._between_at = None
        self._suspected = None

    def missed(self, error: TransientError, now: float) -> None:
        """Take note that no answer of the vendor came: an outage proves nothing else."""
        self._between_at = None
        self._suspect(error, now)

    def _suspect(self, error: TransientError, now: float) -> None:
        """Keep account of the evidence of a wrong field before the first good answer.

        It has to be without a break: all other trouble may be an outage.
        """
        if self.has_worked or error.suspect is None:
            self._suspected = None
        elif self._suspected is None:
            self._suspected = (now, error)
        else:
            self._suspected = (self._suspected[0], error)

    def wrong_field(self, now: float) -> AccountMisconfigured | None:
        """Return what is believed of an address that has never worked and looks wrong."""
        if self._suspected is None:
            return None

        since, error = self._suspected
        if now < since + self._belief.first_contact:
            return None

        final = AccountMisconfigured(error.message, status=error.status)
        final.url, final.suspect = error.url, error.suspect
        return final

    def refused(
        self, refusal: PermanentError, now: float, *, is_check: bool
    ) -> EngineError:
        """Take in that the vendor does not accept the account; return what follows.

        :class:`Doubted` while it is not believed, the refusal itself once it is.
        """
        self._between_at = None
        doubt = self.doubt
        if doubt is None:
            if not self.has_worked:
                self._believe(refusal, now)
                return refusal

            doubt = self.doubt = Doubt(refusal, now, lasts=self._belief.doubt)
            if self.on_doubt is not None:
                self.on_doubt(doubt)

        elif is_check and doubt.refused(refusal, now):
            self.doubt = None
            # From here on it has not worked: what comes next is believed at once.
            self.has_worked = False
            self._believe(refusal, now)
            return refusal

        return self._doubted(doubt, now)

    def refused_in_between(
        self, error: InBetween, now: float, name: str
    ) -> EngineError:
        """Take in that something on the way refused; return what follows.

        The error itself, or :class:`RefusedInBetween` once nothing but such answers has
        come for too long. Only the time between two of them counts, not an outage.
        """
        if self.between is None:
            self.between_since = now

        if self._between_at is not None:
            self._between_seconds += now - self._between_at

        self._between_at = now
        self._between_count += 1
        self.between = error
        self._suspect(error, now)
        limit = self._belief.in_between
        is_rare = self._between_count < FEWEST_CHECKS
        if not limit or is_rare or self._between_seconds < limit:
            return error

        excerpt = f", {error.excerpt}" if error.excerpt else ""
        final = RefusedInBetween(
            f"Something between Airflow and {name} refuses every request:"
            f" {error.status}{excerpt}",
            status=error.status,
        )
        final.url = error.url
        # An address that has answered before is not what to change.
        final.suspect = None if self.has_worked else error.suspect
        return final

    def rate_limited(self) -> None:
        """Take note of a 429: a client that is in doubt must not go on knocking.

        No matter who sent it, it ends the time without a break of all other evidence.
        """
        self._between_at = None
        self._suspected = None
        if self.doubt is not None:
            self.doubt.halt()

    # ----------------------------------------------------------------------------------

    def _believe(self, refusal: PermanentError, now: float) -> None:
        self._believed = refusal
        self._believed_until = now + REPEAT_FOR

    def _doubted(self, doubt: Doubt, now: float) -> Doubted:
        return Doubted(
            f"{doubt.refusal.message} (this has worked before and may be temporary: it is"
            f" checked again for {self._belief.doubt:g} s before tasks fail)",
            refusal=doubt.refusal,
            retry_after=max(1.0, doubt.next_check - now),
        )
