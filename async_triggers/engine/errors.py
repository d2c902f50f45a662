"""What can go wrong between us and a vendor.

::

    EngineError
    ├─ TransientError(retry_after, ambiguous)   only a late answer: try again
    │  ├─ Unreachable        connect, DNS, TLS, timeout, reset: nothing came back
    │  ├─ RateLimited        429, or the vendor's budget is used up
    │  ├─ VendorBroken       5xx
    │  ├─ UnreadableReply    HTML, cut or oversized JSON, a field that is missing
    │  │  └─ UnreadableRow   the vendor's own row about a job, without what it must have
    │  ├─ InBetween          a 3xx or 4xx that the vendor did not write
    │  ├─ Doubted            the vendor's own refusal, not believed yet
    │  └─ ConnectionChanged  the connection leads to another account now
    └─ PermanentError(scope)                    trying again will not help
       ├─ CredentialsRejected    scope: account
       ├─ AccountMisconfigured   scope: account
       ├─ RefusedInBetween       scope: account
       ├─ JobNotFound            scope: job
       ├─ AlreadyRunning         scope: job
       └─ RequestRejected        scope: job

Retry code branches on the two classes alone. ``scope`` says who must hear of a permanent
error: every waiter of the account, or only those of one job. The verdict of a job (it
failed, it was cancelled) is not an error of the engine but a value, see
:class:`async_triggers.engine.jobs.JobState`.

A message names the vendor, the request, and the next step; it never holds a credential.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from async_triggers.engine.wording import spaced


@dataclass(frozen=True, slots=True)
class Suspect:
    """What a failure says against the connection: evidence of a wrong field.

    ``field`` is Airflow's name of the field (``host``, ``schema``,
    ``extra.ca_bundle``); ``fix`` says what is wrong with it and what to write instead.
    ``is_path`` says that a server answers, and that its path may be the wrong one.
    """

    field: str
    fix: str
    is_path: bool = False


class Scope(StrEnum):
    """Who a permanent error concerns."""

    ACCOUNT = "account"
    JOB = "job"


class EngineError(Exception):
    """Something went wrong between us and a vendor.

    ``status`` is the HTTP status where there was one, ``url`` what was requested,
    without its query; ``link`` where the vendor shows what is to be done about it. Both
    stand at the end of a message and not in it. ``suspect`` is the evidence of a wrong
    field in the connection; None where the failure may as well be an outage.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        # It may hold words of the vendor's.
        message = spaced(message)
        super().__init__(message)
        self.message = message
        self.status = status
        self.url = ""
        self.link = ""
        self.suspect: Suspect | None = None

    def again(self) -> EngineError:
        """Return a fresh error of the same content, for one more waiter.

        One exception object raised in many tasks grows a traceback with each raise.
        """
        clone = type(self).__new__(type(self))
        clone.__dict__.update(self.__dict__)
        clone.args = self.args
        return clone


class TransientError(EngineError):
    """Only a late answer: the same request may be sent again.

    ``retry_after`` is how many seconds the vendor requires us to wait, or None;
    ``is_guess`` says that it named none, and that they are the account's own.
    ``ambiguous`` says that the request may have taken effect although no proof of it
    came back, so that a start must be looked for before it is repeated.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after
        self.is_guess = False
        self.ambiguous = ambiguous


class Unreachable(TransientError):
    """The vendor could not be reached, or did not answer in time."""


class RateLimited(TransientError):
    """The vendor refused the request because there were too many."""

    @classmethod
    def in_pause(cls, account: object, seconds: float) -> RateLimited:
        """Return what becomes of a request that cannot wait so long for a pause to end."""
        return cls(
            f"No request is sent to {account} for {seconds:.0f} s more: it has had too"
            " many requests, or wants a pause",
            retry_after=seconds,
        )


class VendorBroken(TransientError):
    """The vendor answered with a server error."""


class UnreadableReply(TransientError):
    """The vendor's answer could not be read: no JSON, cut, too large, a field missing."""


class UnreadableRow(UnreadableReply):
    """The vendor answered, but its row about a job lacks an id, a status or the like.

    No outage writes such a row: where it lasts, the wait for that job ends.
    """


class InBetween(TransientError):
    """Something between us and the vendor refused the request by itself.

    A proxy, a gateway, an ingress, a router: the answer has a status of 3xx or 4xx and
    not the shape of the vendor's own refusals. ``excerpt`` is the beginning of its body.
    """

    def __init__(self, message: str, *, status: int, excerpt: str = "") -> None:
        # Nothing proves that the request did not get through.
        super().__init__(message, status=status, ambiguous=True)
        self.excerpt = excerpt


class Doubted(TransientError):
    """The vendor refused what it has allowed before, and that is not believed yet.

    ``refusal`` is what it said. Also raised for requests that are not sent meanwhile.
    """

    def __init__(
        self, message: str, *, refusal: PermanentError, retry_after: float
    ) -> None:
        super().__init__(message, status=refusal.status, retry_after=retry_after)
        self.refusal = refusal
        self.is_guess = True


class ConnectionChanged(TransientError):
    """The Airflow connection leads to another account now: wait there."""


class PermanentError(EngineError):
    """The same request would fail again.

    ``is_locked`` is True where the vendor has locked the client out, so that each further
    try may make it worse.
    """

    scope: Scope = Scope.JOB
    is_locked: bool = False


class CredentialsRejected(PermanentError):
    """The vendor does not accept the credentials of the connection."""

    scope = Scope.ACCOUNT


class AccountMisconfigured(PermanentError):
    """The connection cannot be used as it is: a field is missing or malformed."""

    scope = Scope.ACCOUNT


class RefusedInBetween(PermanentError):
    """Something between us and the vendor has refused everything for too long."""

    scope = Scope.ACCOUNT


class JobNotFound(PermanentError):
    """The vendor does not know the job, or does not show it to these credentials."""


class AlreadyRunning(PermanentError):
    """The vendor did not start a job because one is under way already."""


class RequestRejected(PermanentError):
    """The vendor rejected the request."""
