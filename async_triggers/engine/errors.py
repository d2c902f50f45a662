"""What can go wrong between us and a vendor.

::

    EngineError
    ├─ TransientError(retry_after, ambiguous)   only a late answer: ask again
    │  ├─ Unreachable        connect, DNS, TLS, timeout, reset: nothing came back
    │  ├─ RateLimited        429, or the vendor's budget is used up
    │  ├─ VendorBroken       5xx
    │  └─ UnreadableReply    HTML, cut or oversized JSON, a field that is missing
    └─ PermanentError(scope)                    asking again will not help
       ├─ CredentialsRejected    scope: account
       ├─ AccountMisconfigured   scope: account
       ├─ JobNotFound            scope: job
       ├─ AlreadyRunning         scope: job
       └─ RequestRejected        scope: job

Retry code branches on the two classes alone. ``scope`` says who must hear of a permanent
error: every waiter of the account, or only those of one job. The verdict of a job (it
failed, it was cancelled) is not an error of the engine but a value, see
:class:`async_triggers.engine.jobs.JobState`.

A message names the vendor, what was asked, and the next step; it never holds a credential.
"""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """Who a permanent error concerns."""

    ACCOUNT = "account"
    JOB = "job"


class EngineError(Exception):
    """Something went wrong between us and a vendor."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def again(self) -> EngineError:
        """Return a fresh error of the same content, for one more waiter.

        One exception object raised in many tasks grows a traceback with each raise.
        """
        clone = type(self).__new__(type(self))
        clone.__dict__.update(self.__dict__)
        clone.args = self.args
        return clone


class TransientError(EngineError):
    """Only a late answer: the same question may be asked again.

    ``retry_after`` is how many seconds the vendor asked us to wait, or None;
    ``is_guess`` tells that it named none, and that they are the account's own.
    ``ambiguous`` tells that the request may have taken effect although no proof of it
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


class VendorBroken(TransientError):
    """The vendor answered with a server error."""


class UnreadableReply(TransientError):
    """The vendor's answer could not be read: no JSON, cut, too large, a field missing."""


class PermanentError(EngineError):
    """Asking the same again will not help."""

    scope: Scope = Scope.JOB


class CredentialsRejected(PermanentError):
    """The vendor does not accept the credentials of the connection."""

    scope = Scope.ACCOUNT


class AccountMisconfigured(PermanentError):
    """The connection cannot be used as it is: a field is missing or malformed."""

    scope = Scope.ACCOUNT


class JobNotFound(PermanentError):
    """The vendor does not know the job, or does not show it to these credentials."""


class AlreadyRunning(PermanentError):
    """The vendor did not start a job because one is under way already."""


class RequestRejected(PermanentError):
    """The vendor rejected the request."""
