"""What an attempt requests of the vendor on its way to a job, and what it has met so far.

Before a start a mistake is costly: a second job, or a job without a task. So what
the vendor says of an earlier job is believed only when it is sure, and until then the
attempt comes back :class:`Later`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from async_triggers.deferral.contact import SHORTEST_WAIT, FirstContact, with_fate
from async_triggers.deferral.errors import translate
from async_triggers.deferral.hook import wall_clock
from async_triggers.engine.errors import (
    Doubted,
    EngineError,
    JobNotFound,
    PermanentError,
    Scope,
    TransientError,
)
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.deferral.contact import Endpoint
    from async_triggers.deferral.record import Record
    from async_triggers.deferral.remote_job import JobRequest
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.observer import Tally
    from async_triggers.engine.wire import Account

T = TypeVar("T")

TRY_AGAIN = 60.0
"""Seconds until the next try of a start that the vendor could not take."""


class Later(Exception):
    """The start cannot be made now: come back after some seconds.

    ``is_given`` says that they are the vendor's own; otherwise they are a guess. ``error``
    is the failure behind it, where it is one.
    """

    def __init__(
        self,
        seconds: float,
        reason: str,
        *,
        is_given: bool = False,
        error: EngineError | None = None,
    ) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason
        self.is_given = is_given
        self.error = error

    @classmethod
    def than(cls, error: TransientError) -> Later:
        """Return how long to wait after an error that is no answer to a start."""
        return cls(TRY_AGAIN, error.message, error=error)

    @classmethod
    def when_taken(cls, error: TransientError) -> Later:
        """Return how long to wait after the vendor could not take a start."""
        return cls(
            error.retry_after or TRY_AGAIN,
            error.message,
            is_given=error.retry_after is not None and not error.is_guess,
            error=error,
        )

    def within(self, left: float | None) -> float:
        """Return the seconds to wait where so many are left until the deadline.

        A guess gives way to a try or two that come before it.
        """
        if left is None or self.is_given:
            return self.seconds

        return min(self.seconds, max(left / 2, SHORTEST_WAIT))


class Desk(Protocol):
    """Where an attempt reaches the vendor, and keeps its record."""

    @property
    def account(self) -> Account:
        """The account at the vendor."""
        ...

    @property
    def tally(self) -> Tally:
        """Where metrics of the account are noted."""
        ...

    async def request(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        whole: bool = False,
    ) -> T:
        """Request something of the vendor.

        ``whole`` is for what must not be cut off once it is sent.
        """
        ...

    async def read(self) -> Record | None:
        """Return the record, of this attempt or of an earlier one."""
        ...

    async def write(self, record: Record) -> None:
        """Replace the record."""
        ...

    async def announce(self) -> None:
        """Say in the owner token that the job of an earlier attempt is being ended."""
        ...

    async def forget(self) -> None:
        """Delete the record."""
        ...

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Wait for the moment to start, and hold it for the length of the block."""
        ...


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose desk never suspends, without an event loop."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result

    work.close()
    msg = "A worker's desk has suspended"
    raise RuntimeError(msg)


@dataclass(slots=True, kw_only=True)
class Inquiry:
    """How an attempt reaches the vendor; ``contact`` is what it has met so far."""

    desk: Desk
    log: Logger
    contact: FirstContact = field(default_factory=FirstContact)

    async def request(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        *,
        whole: bool = False,
    ) -> T:
        """Request something of the vendor, and take note of how that went."""
        began, account = wall_clock(), self.desk.account
        try:
            answer = await self.desk.request(question, whole=whole)
        except Doubted:
            # The caller decides what that means.
            raise
        except TransientError as error:
            self.contact = self.contact.failed(
                error, account, since=began, now=wall_clock()
            )
            raise

        self.contact = self.contact.answered(account)
        return answer

    async def check(
        self,
        question: Callable[[LeasedAccount], Awaitable[T]],
        request: JobRequest,
        fate: str,
    ) -> T:
        """Check the job of an earlier attempt, with which a mistake would be costly.

        Raise Later until there is an answer, and until a refusal by the vendor is sure.
        JobNotFound then says that there is no such job; any other refusal fails the task,
        and ``fate`` says what it leaves behind.
        """
        began = wall_clock()
        try:
            answer = await self.request(question)
        except Doubted as error:
            refusal = error.refusal
        except TransientError as error:
            raise Later.than(error) from None
        except PermanentError as error:
            refusal = error
        else:
            return answer

        self._doubt(refusal, began)
        if isinstance(refusal, JobNotFound):
            self.settle()
            raise refusal

        hook = request.make_hook()
        raise with_fate(translate(refusal, hook.conn_id, hook.conn_type), fate)

    async def find(
        self,
        question: Callable[[LeasedAccount], Awaitable[T | None]],
        request: JobRequest,
        fate: str,
    ) -> T | None:
        """Look for a job as :meth:`check` does; None also where all of its kind is gone."""
        try:
            answer = await self.check(question, request, fate)
        except JobNotFound:
            # Nothing can run of what is gone.
            return None

        self.settle()
        return answer

    def settle(self) -> None:
        """End the doubt about an earlier job: what had to be known is known."""
        self.contact = self.contact.settled()

    def _doubt(self, refusal: PermanentError, since: float) -> None:
        """Raise Later while a refusal is not sure yet."""
        if refusal.status is None:
            # Not the vendor's: nothing was sent.
            return

        self.contact = self.contact.refused(
            since=since, is_of_account=refusal.scope is Scope.ACCOUNT
        )
        if not self.contact.believes(self.desk.account, now=wall_clock()):
            raise Later(TRY_AGAIN, refusal.message, error=refusal)

    def refuse_start(self, error: EngineError, since: float) -> None:
        """Raise Later where a start that is refused may be made after all.

        The vendor's refusal of a start is final, unless it has answered this attempt
        before and that is in doubt.
        """
        if isinstance(error, Doubted):
            self._doubt(error.refusal, since)
            raise error.refusal

        if isinstance(error, TransientError):
            raise Later.when_taken(error)

        if (
            isinstance(error, PermanentError)
            and error.scope is Scope.ACCOUNT
            and self.contact.doubted_since is not None
        ):
            self._doubt(error, since)

    # Coming back later --------------------------------------------------------------

    def wait_for(
        self, later: Later, endpoint: Endpoint, *, left: float | None, fate: str
    ) -> float:
        """Return how long a start must wait; raise where that is of no use.

        ``left`` are the seconds until the deadline, ``fate`` says what a failure leaves
        behind.
        """
        error, now = later.error, wall_clock()
        failure = endpoint.verdict(self.contact, error, now=now, fate=fate)
        if failure is not None:
            # Without what led to it, all of which the message says.
            raise failure from None

        seconds = later.within(left)
        if error is not None and not later.is_given:
            seconds = self.contact.wait(seconds, endpoint.account, now=now)

        return seconds

    def report(
        self,
        later: Later,
        endpoint: Endpoint,
        *,
        wait: float,
        ends: float | None,
        insists: bool = False,
    ) -> None:
        """Log that the start must wait: at first and now and then, else for debugging.

        ``insists`` is for what the log must say each time.
        """
        error, now = later.error, wall_clock()
        words = f"{sentence(later.reason)} Trying again in {wait:.0f} s"
        if error is not None:
            words = endpoint.report(self.contact, error, wait=wait, ends=ends)

        if insists or self.contact.must_report(error, now=now):
            self.log.warning("The start cannot be made now: %s", words)
            self.contact = self.contact.reported(error, now=now)
        else:
            self.log.debug("The start cannot be made now: %s", words)
