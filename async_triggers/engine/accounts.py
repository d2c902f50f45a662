"""One transport, limiter and poller for each event loop and account.

:func:`lease` is how anybody gets at an account. The first lease creates it, and some time
after the last one has ended it is closed. Accounts are told apart by
:attr:`~async_triggers.engine.wire.Account.identity`, never by the name of a connection.

One task belongs to each account (:meth:`LeasedAccount._keep`). It runs in an empty
context, so that it logs and traces as nobody, and is held by a registry that is weak in
the loop *object*: test loops and ``dag.test()`` reuse ids. When the loop shuts down it is
cancelled together with the waiters, in any order, and then ends them by cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
)

from async_triggers.engine import backoff
from async_triggers.engine.errors import RateLimited, TransientError
from async_triggers.engine.limiter import Limiter
from async_triggers.engine.poller import SWEEP, Poller
from async_triggers.engine.transport import Reload, Transport
from async_triggers.engine.wire import Account, Lane, Reply, Request, Vendor

T = TypeVar("T")

LINGER = 30.0
"""Seconds for which an account that nobody leases is kept open."""

_accounts: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[tuple[str, ...], LeasedAccount]
] = WeakKeyDictionary()


class LeasedAccount:
    """An account that is in use on one event loop."""

    def __init__(
        self, vendor: Vendor, account: Account, *, reload: Reload | None, sweep: float
    ) -> None:
        self.vendor = vendor
        self.limiter = Limiter(account.budget)
        self.transport = Transport(vendor, account, self.limiter, reload=reload)
        self._stirred = asyncio.Event()
        self.poller = Poller(self.transport, stir=self._stirred.set, sweep=sweep)
        self._identity = account.identity
        self._leases = 0
        self._linger = LINGER
        self._keeper: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[Any]] = set()
        # Set while leased and once closed: what a lease without linger waits for.
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        """State the state."""
        return (
            f"<LeasedAccount {self.account} [{self._leases} leases,"
            f" {len(self._errands)} errands] {self.poller!r} {self.limiter!r}>"
        )

    @property
    def account(self) -> Account:
        """The account as it was last read."""
        return self.transport.account

    async def call(
        self, request: Request, *, attempts: int = 4, patience: float = 20.0
    ) -> Reply:
        """Send one request, and again after a transient error, see :meth:`persist`.

        A start that may have taken effect already is not sent again: the caller must look
        for what it did.
        """
        return await self.persist(
            lambda: self.transport.send(request),
            attempts=attempts,
            patience=patience,
            ambiguous=request.lane is not Lane.START,
        )

    async def persist(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        attempts: int = 4,
        patience: float = 20.0,
        ambiguous: bool = True,
    ) -> T:
        """Do some work, and again after a transient error.

        At most ``attempts`` times; a wait longer than ``patience`` seconds is not waited
        for, also where an earlier answer asked for it. Without ``ambiguous`` the work is
        not repeated when it may have taken effect. See also
        :func:`.backoff.repeating_for`.
        """
        loop = asyncio.get_running_loop()
        most = backoff.repeats_for()
        ends = loop.time() + most
        patience = min(patience, most)

        def may_repeat(error: BaseException) -> bool:
            if not isinstance(error, TransientError):
                return False

            if (error.retry_after or 0.0) > patience:
                return False

            return ambiguous or not error.ambiguous

        def pause(state: RetryCallState) -> float:
            outcome = state.outcome
            error = outcome.exception() if outcome is not None else None
            asked = error.retry_after if isinstance(error, TransientError) else None
            return backoff.delay(state.attempt_number, retry_after=asked)

        def is_enough(state: RetryCallState) -> bool:
            is_last = state.attempt_number >= attempts
            return is_last or loop.time() + state.upcoming_sleep > ends

        async def once() -> T:
            left = self.limiter.paused_for
            if left > patience:
                raise RateLimited(
                    f"{self.account} limits the rate of requests: it is asked nothing for"
                    f" {left:.0f} s more",
                    retry_after=left,
                )

            return await work()

        retrying = AsyncRetrying(
            retry=retry_if_exception(may_repeat),
            wait=pause,
            stop=is_enough,
            reraise=True,
        )
        return await retrying(once)

    def run_errand(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Do something on the account's own behalf, whoever asked for it may go away.

        The task holds a lease until it is done, and inherits no context.
        """
        self._acquire()
        task = asyncio.get_running_loop().create_task(
            work, name=name, context=contextvars.Context()
        )
        self._errands.add(task)
        task.add_done_callback(self._errand_done)
        return task

    def _errand_done(self, task: asyncio.Task[Any]) -> None:
        self._errands.discard(task)
        self.release(self._linger)
        # An errand whose caller has gone has nobody to look at its error.
        if not task.cancelled():
            task.exception()

    # No await in these two: the count and the keeper change together.

    def _acquire(self) -> None:
        self._leases += 1
        self._settled.set()
        self._stirred.set()
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(
                self._keep(), name=f"keep {self.account}", context=contextvars.Context()
            )

    def release(self, linger: float = LINGER) -> None:
        """Give back what :func:`hold` gave."""
        self._leases -= 1
        self._linger = linger
        self._stirred.set()
        if not self._leases:
            self._settled.clear()

    async def _keep(self) -> None:
        """Poll while somebody waits; close when nobody has leased for a while."""
        try:
            while self._leases or not self.poller.idle or await self._wanted_again():
                await self.poller.run()
                self._stirred.clear()
                if self._leases and self.poller.idle:
                    await self._stirred.wait()
        except BaseException:
            self.poller.disband()
            raise
        finally:
            self._keeper = None
            self._forget()
            try:
                await self.transport.close()
            finally:
                self._settled.set()

    async def _wanted_again(self) -> bool:
        """Linger; True when somebody leased meanwhile."""
        self._stirred.clear()
        try:
            async with asyncio.timeout(self._linger):
                await self._stirred.wait()
        except TimeoutError:
            pass

        return self._leases > 0

    def _forget(self) -> None:
        known = _accounts.get(asyncio.get_running_loop(), {})
        if known.get(self._identity) is self:
            del known[self._identity]

    async def wait_closed(self) -> None:
        """After the last lease has ended, wait until it is closed, or leased again."""
        if self._keeper is not None:
            await self._settled.wait()


def hold(
    vendor: Vendor,
    account: Account,
    *,
    reload: Reload | None = None,
    sweep: float = SWEEP,
) -> LeasedAccount:
    """Lease an account until :meth:`LeasedAccount.release` is called, once.

    For those who wait for long, and by the thousand: a block that is entered for hours
    costs memory, and the garbage collector time. ``reload`` reads the account again after
    its credentials were rejected.
    """
    loop = asyncio.get_running_loop()
    known = _accounts.setdefault(loop, {})
    leased = known.get(account.identity)
    if leased is None:
        leased = LeasedAccount(vendor, account, reload=reload, sweep=sweep)
        known[account.identity] = leased

    leased._acquire()  # noqa: SLF001 - the two halves of one module
    return leased


@asynccontextmanager
async def lease(
    vendor: Vendor,
    account: Account,
    *,
    reload: Reload | None = None,
    sweep: float = SWEEP,
    linger: float = LINGER,
) -> AsyncIterator[LeasedAccount]:
    """Use an account for the length of the block; ``reload`` as for :func:`hold`.

    With ``linger`` 0 the connections of an account that nobody else leases are closed
    before the block is left; else they are kept for that many seconds.
    """
    leased = hold(vendor, account, reload=reload, sweep=sweep)
    try:
        yield leased
    finally:
        leased.release(linger)
        if linger == 0 and not leased._leases:  # noqa: SLF001 - the two halves of one module
            await leased.wait_closed()


def leased_accounts() -> list[LeasedAccount]:
    """Return the accounts in use on the running loop, for inspection."""
    return list(_accounts.get(asyncio.get_running_loop(), {}).values())
