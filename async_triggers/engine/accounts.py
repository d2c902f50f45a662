"""One transport, limiter and poller for each event loop and account.

:func:`lease` is how everything gets at an account. The first lease creates it, and some
time after the last one has ended it is closed. Accounts differ by their
:attr:`~async_triggers.engine.wire.Account.identity`, never by the name of a connection:
two connections with the same credentials share one :class:`SharedAccount`.

What a caller holds is a :class:`LeasedAccount`, one for each Airflow connection. When the
account is refused, each connection is read again, and the lease of one that has changed
moves to the account that it leads to now, with all who wait there. The others stay: no
task is ever served with a connection that it did not name.

One task belongs to each account (:meth:`SharedAccount._keep`). It runs in an empty
context, so that it logs and traces for no task, and is held by a registry that is weak in
the loop *object*: test loops and ``dag.test()`` reuse ids. When the loop shuts down it is
cancelled together with the waiters, in any order, and then ends them by cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
)

from async_triggers.engine import backoff
from async_triggers.engine.errors import (
    AccountMisconfigured,
    CredentialsRejected,
    Doubted,
    EngineError,
    InBetween,
    RateLimited,
    TransientError,
)
from async_triggers.engine.limiter import Limiter, is_urgent
from async_triggers.engine.observer import Observer, Tally
from async_triggers.engine.poller import Poller
from async_triggers.engine.reporter import Reporter
from async_triggers.engine.shared_budget import SharedBudget, Store
from async_triggers.engine.transport import Transport
from async_triggers.engine.wire import Account, Lane, Reply, Request, Vendor

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.listener import Listener
    from async_triggers.engine.watch import Mark, Watch
    from async_triggers.engine.watchers import Subscription

log = logging.getLogger(__name__)

T = TypeVar("T")

LINGER = 30.0
"""Seconds for which an account without leases is kept open."""
LAST_ROUND = 1.0
"""Seconds for which a round without waiters may go on after the last lease."""
LAST_LEASES = 10.0
"""Seconds for which leases may outlive the account's task when the loop shuts down."""

READ_EVERY = 60.0
"""Seconds between two reads of the connections while work waits for a pause to end."""
REREAD_AGAIN = 4.0
"""Seconds for which connections that were read again are not read once more."""

Reload = Callable[[], Awaitable[Account]]
MakeStore = Callable[[], Store]

_REFUSALS = (CredentialsRejected, AccountMisconfigured, Doubted, InBetween)
"""What a connection that has changed may be the reason for."""

_accounts: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[tuple[str, ...], SharedAccount]
] = WeakKeyDictionary()


class SharedAccount:
    """What all leases of an account share on one event loop."""

    def __init__(
        self,
        vendor: Vendor,
        account: Account,
        observer: Observer | None = None,
        make_store: MakeStore | None = None,
    ) -> None:
        self.vendor = vendor
        self.account = account
        self.make_store = make_store
        self._budget = SharedBudget(account, make_store()) if make_store else None
        self.limiter = Limiter(account.budget, self._budget)
        self.transport = Transport(
            vendor,
            account,
            self.limiter,
            on_refusal=self.read_again,
            tally=Tally(observer),
        )
        self.starts = asyncio.Semaphore(account.budget.starts)
        """The places for starts that are being prepared."""
        self._stirred = asyncio.Event()
        self.poller = Poller(self.transport, stir=self._stirred.set)
        self._name = ""
        self._reporter = Reporter(self.poller.state, self._named)
        self._members: dict[Hashable, LeasedAccount] = {}
        self._linger = LINGER
        self._keeper: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._read_at = -math.inf
        # Set while leased and once closed: what a lease without linger waits for.
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        """State the state."""
        leases = ", ".join(map(repr, self.leases))
        return (
            f"<SharedAccount {self.account} [{leases or 'no leases'}] {self.poller!r}"
            f" {self.transport!r} {self.limiter!r}>"
        )

    # No await in these: the members and the keeper change together.

    def member(self, connection: Hashable) -> LeasedAccount | None:
        """Return the lease of a connection, if there is one."""
        return self._members.get(connection)

    def enter(self, leased: LeasedAccount) -> None:
        """Take a lease in, and keep the account for as long as it stays."""
        key = leased.connection
        # A lease that comes from another account may find one of its connection here.
        self._members[key if key not in self._members else leased] = leased
        # A lease of a worker may be over before the first report.
        self._name = self._name or leased.name
        self._settled.set()
        self._stirred.set()
        self._reporter.start()
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(
                self._keep(), name=f"keep {self.account}", context=contextvars.Context()
            )

    def leave(self, leased: LeasedAccount, linger: float) -> None:
        """Let a lease go; close some time after the last."""
        for key in (leased, leased.connection):
            if self._members.get(key) is leased:
                del self._members[key]
                break

        self._linger = linger
        self._stirred.set()
        if not self._members:
            self._settled.clear()
            loop = asyncio.get_running_loop()
            loop.call_later(LAST_ROUND, self._leave_round)

    def _leave_round(self) -> None:
        """Break off a round that no lease wants: the vendor may pause it for hours."""
        if not self._members:
            self.poller.break_off()

    def _named(self) -> str:
        """Return what metrics call the account: by the oldest of its leases.

        It keeps the last name where it has none.
        """
        oldest = next(iter(self._members.values()), None)
        if oldest is not None:
            self._name = oldest.name

        return self._name

    @property
    def leases(self) -> list[LeasedAccount]:
        """The leases of the account, one for each Airflow connection."""
        return [*self._members.values()]

    async def read_again(self, every: float = REREAD_AGAIN) -> None:
        """Read the connections again, unless that was done within so many seconds.

        After the account was refused, or while nothing may be requested of it.
        """
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() < self._read_at + every:
                return

            for leased in self.leases:
                await leased.follow()

            self._read_at = loop.time()

    async def _keep(self) -> None:
        """Poll while there are waiters; close when there was no lease for a while."""
        try:
            while self._members or not self.poller.idle or await self._wanted_again():
                await self.poller.run()
                self._stirred.clear()
                if self._members and self.poller.idle:
                    await self._stirred.wait()
        except BaseException:
            self.poller.disband()
            await self._let_go()
            raise
        finally:
            self._keeper = None
            self._reporter.stop()
            self._forget()
            try:
                await self.transport.close()
                if self._budget is not None:
                    await self._budget.close()
            finally:
                self._settled.set()

    async def _let_go(self) -> None:
        """Wait for those who lease the account while the loop shuts down.

        They were cancelled too; a cancel that is pending makes its last attempt then, for
        which it needs the connections.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LEASES):
                while self._members:
                    self._stirred.clear()
                    await self._stirred.wait()

    async def _wanted_again(self) -> bool:
        """Linger; True when the account was leased meanwhile."""
        self._stirred.clear()
        try:
            async with asyncio.timeout(self._linger):
                await self._stirred.wait()
        except TimeoutError:
            pass

        return bool(self._members)

    def _forget(self) -> None:
        known = _accounts.get(asyncio.get_running_loop(), {})
        if known.get(self.account.identity) is self:
            del known[self.account.identity]

    async def wait_closed(self) -> None:
        """After the last lease has ended, wait until it is closed, or leased again."""
        if self._keeper is not None:
            await self._settled.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class _RetryPolicy:
    """When work is repeated, see :meth:`LeasedAccount.persist`; ``ends`` is loop time."""

    attempts: int
    patience: float
    ambiguous: bool
    ends: float

    def may_repeat(self, error: TransientError) -> bool:
        """Return whether the work may be repeated after an error."""
        if (error.retry_after or 0.0) > self.patience:
            return False

        return self.ambiguous or not error.ambiguous

    def is_enough(self, state: RetryCallState) -> bool:
        """Return whether the last try was made, or the next would come too late."""
        is_last = state.attempt_number >= self.attempts
        now = asyncio.get_running_loop().time()
        return is_last or now + state.upcoming_sleep > self.ends


def _pause(state: RetryCallState) -> float:
    """Return how many seconds to wait before the next try."""
    outcome = state.outcome
    error = outcome.exception() if outcome is not None else None
    retry_after = error.retry_after if isinstance(error, TransientError) else None
    return backoff.delay(state.attempt_number, retry_after=retry_after)


class LeasedAccount:
    """The account of one Airflow connection, in use on one event loop.

    All who came by the connection hold the same lease. It leads to another
    :class:`SharedAccount` after the connection has changed.
    """

    def __init__(
        self,
        shared: SharedAccount,
        connection: Hashable,
        reload: Reload | None,
        name: str = "",
    ) -> None:
        self.connection = connection
        self.name = name
        self._shared = shared
        self._reload = reload
        self._holds = 0
        self._linger = LINGER
        self._errands: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        """State the state."""
        return (
            f"<LeasedAccount {self.account} [{self._holds} holds,"
            f" {len(self._errands)} errands]>"
        )

    @property
    def errands(self) -> int:
        """How many errands have not ended."""
        return len(self._errands)

    @property
    def shared(self) -> SharedAccount:
        """What is shared with the leases of other connections."""
        return self._shared

    @property
    def vendor(self) -> Vendor:
        """The vendor of the account."""
        return self._shared.vendor

    @property
    def account(self) -> Account:
        """The account that the connection leads to."""
        return self._shared.account

    @property
    def transport(self) -> Transport:
        """What carries the account's requests."""
        return self._shared.transport

    @property
    def tally(self) -> Tally:
        """Where metrics of the account are noted."""
        return self._shared.transport.tally

    @property
    def limiter(self) -> Limiter:
        """The account's budget."""
        return self._shared.limiter

    @property
    def poller(self) -> Poller:
        """The account's poller."""
        return self._shared.poller

    # Not a coroutine, which would be kept for each of thousands that wait.
    def wait(
        self,
        subject: str,
        *,
        interval: float,
        mark: str | None = None,
        seen_at: float | None = None,
        known: bool = False,
        vouched: bool = False,
        listener: Listener | None = None,
        patience: float | None = None,
    ) -> Coroutine[Any, Any, Job]:
        """Wait until a job has ended, see :meth:`.poller.Poller.wait`.

        Raise :class:`~async_triggers.engine.errors.ConnectionChanged` when the lease leads
        to another account from now on: call it again.
        """
        return self._shared.poller.wait(
            subject,
            interval=interval,
            mark=mark,
            seen_at=seen_at,
            known=known,
            vouched=vouched,
            owner=self,
            listener=listener,
            patience=patience,
        )

    def subscribe(
        self,
        watch: Watch,
        *,
        interval: float,
        mark: Mark | None = None,
        vouched: bool = False,
    ) -> Subscription:
        """Hear of the ends of jobs, see :meth:`.poller.Poller.subscribe`.

        Subscribe again when it raises
        :class:`~async_triggers.engine.errors.ConnectionChanged`.
        """
        return self._shared.poller.subscribe(
            watch, interval=interval, mark=mark, vouched=vouched, owner=self
        )

    async def follow(self) -> None:
        """Read the connection again, and move where it leads to another account now.

        One that cannot be read now, or not be used any more, leads where it did: a doubt
        outlasts the one, and others that share the account have no part in either.
        """
        if self._reload is None:
            return

        try:
            account = await self._reload()
        except EngineError as failure:
            log.warning(
                "%s: one of its connections could not be read again, it is used as it"
                " was: %s",
                self.account,
                failure.message,
            )
            return

        if account.identity == self.account.identity or not self._holds:
            return

        log.info("The connection of %s has changed: continuing with it", self.account)
        before = self._shared
        self._shared = _shared_account(
            self.vendor, account, self.tally.observer, before.make_store
        )
        self._shared.enter(self)
        before.leave(self, self._linger)
        before.poller.dismiss(self)

    async def sleep(self, seconds: float) -> None:
        """Sleep until the next try of what has failed, or the connection has changed.

        The vendor may allow nothing for a day, in which no refusal shows the change.
        """
        loop, shared = asyncio.get_running_loop(), self._shared
        ends = loop.time() + seconds
        while self._shared is shared and loop.time() < ends:
            await asyncio.sleep(min(READ_EVERY, ends - loop.time()))
            await shared.read_again(READ_EVERY)

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
        for, also where an earlier answer requested it. Without ``ambiguous`` the work is
        not repeated when it may have taken effect. See also
        :func:`.backoff.repeating_for`.
        """
        most = backoff.repeats_for()
        policy = _RetryPolicy(
            attempts=attempts,
            patience=min(patience, most),
            ambiguous=ambiguous,
            ends=asyncio.get_running_loop().time() + most,
        )

        def may_repeat(error: BaseException) -> bool:
            if not isinstance(error, TransientError) or self._was_check(error):
                return False

            return policy.may_repeat(error)

        retrying = AsyncRetrying(
            retry=retry_if_exception(may_repeat),
            wait=_pause,
            stop=policy.is_enough,
            reraise=True,
        )
        return await retrying(self._attempt, work, policy)

    async def _attempt(
        self, work: Callable[[], Awaitable[T]], policy: _RetryPolicy
    ) -> T:
        """Do some work once, and once more where the connection has just changed."""
        left = self.limiter.paused_for
        if left > policy.patience and not is_urgent():
            raise RateLimited.in_pause(self.account, left)

        shared = self._shared
        try:
            return await work()
        except EngineError as error:
            is_refused = isinstance(error, _REFUSALS)
            may_have_worked = isinstance(error, InBetween) and not policy.ambiguous
            if self._shared is shared or not is_refused or may_have_worked:
                raise

        # It was refused where the connection has led until now.
        return await work()

    def _was_check(self, error: TransientError) -> bool:
        """Return whether what failed was the check of a doubt, which has no answer yet.

        The next check is not due: what is sent again now would only be held back for it.
        """
        is_doubted = self.transport.trust.doubt is not None
        return is_doubted and not isinstance(error, Doubted)

    def run_errand(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Do something on the account's own behalf, even if the caller goes away.

        The task holds a lease until it is done, and inherits no context.
        """
        self.acquire()
        task = asyncio.get_running_loop().create_task(
            work, name=name, context=contextvars.Context()
        )
        self._errands.add(task)
        task.add_done_callback(self._errand_done)
        return task

    def _errand_done(self, task: asyncio.Task[Any]) -> None:
        self._errands.discard(task)
        self.release(self._linger)
        # The caller of an errand may have gone, so its error is retrieved here.
        if not task.cancelled():
            task.exception()

    def acquire(self) -> None:
        """Hold the lease once more."""
        self._holds += 1
        if self._holds == 1:
            self._shared.enter(self)

    def release(self, linger: float = LINGER) -> None:
        """Give back what :func:`hold` gave."""
        self._holds -= 1
        self._linger = linger
        if not self._holds:
            self._shared.leave(self, linger)


def _shared_account(
    vendor: Vendor,
    account: Account,
    observer: Observer | None,
    make_store: MakeStore | None,
) -> SharedAccount:
    known = _accounts.setdefault(asyncio.get_running_loop(), {})
    shared = known.get(account.identity)
    if shared is None:
        shared = SharedAccount(vendor, account, observer, make_store)
        known[account.identity] = shared

    return shared


def hold(
    vendor: Vendor,
    account: Account,
    *,
    connection: Hashable = None,
    reload: Reload | None = None,
    name: str = "",
    observer: Observer | None = None,
    make_store: MakeStore | None = None,
) -> LeasedAccount:
    """Lease an account until :meth:`LeasedAccount.release` is called, once.

    For those who wait for long, and by the thousand: a block that is entered for hours
    costs memory, and the garbage collector time. ``connection`` keeps Airflow connections
    apart that lead to the same account, and ``reload`` reads the account of this one again
    after it was refused. ``observer`` hears of the account's metrics, in which it has the
    ``name`` of its oldest lease: no secret may be in it. ``make_store`` makes what other
    processes share the account's budget in.
    """
    shared = _shared_account(vendor, account, observer, make_store)
    leased = shared.member(connection)
    if leased is None:
        leased = LeasedAccount(shared, connection, reload, name)

    leased.acquire()
    return leased


@asynccontextmanager
async def lease(
    vendor: Vendor,
    account: Account,
    *,
    connection: Hashable = None,
    reload: Reload | None = None,
    linger: float = LINGER,
    name: str = "",
    observer: Observer | None = None,
    make_store: MakeStore | None = None,
) -> AsyncIterator[LeasedAccount]:
    """Use an account for the length of the block; the arguments as for :func:`hold`.

    With ``linger`` 0 the connections of an account that has no other lease are closed
    before the block is left; else they are kept for that many seconds.
    """
    leased = hold(
        vendor,
        account,
        connection=connection,
        reload=reload,
        name=name,
        observer=observer,
        make_store=make_store,
    )
    try:
        yield leased
    finally:
        leased.release(linger)
        shared = leased.shared
        if linger == 0 and not shared.leases:
            await shared.wait_closed()


def shared_accounts() -> list[SharedAccount]:
    """Return the accounts in use on the running loop, for inspection."""
    return list(_accounts.get(asyncio.get_running_loop(), {}).values())
