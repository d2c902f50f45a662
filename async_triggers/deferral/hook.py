"""From an Airflow connection to an account of the engine.

A :class:`VendorHook` knows one connection. :meth:`VendorHook.read` is pure: it turns the
fields of a connection into an :class:`~async_triggers.engine.wire.Account` or says which
field is wrong. A type that names something else than the vendor is warned of, and used all
the same: the other providers do not read it, and their connections keep working.

Calls are written once, as coroutines over a leased account; :meth:`VendorHook.run` makes
any of them callable from a worker or a script.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook

from async_triggers.deferral.alarm import Alarm
from async_triggers.deferral.budget_store import store_maker
from async_triggers.deferral.compat import AirflowNotFoundException
from async_triggers.deferral.connection import EXTRA_KEYS, read_extra
from async_triggers.deferral.contact import Endpoint
from async_triggers.deferral.errors import (
    AsyncTriggersException,
    name_fields,
    translate,
    with_request,
)
from async_triggers.deferral.forms import form_widgets
from async_triggers.deferral.metrics import observer_of
from async_triggers.deferral.thread import in_thread
from async_triggers.deferral.unknown import unknown_keys
from async_triggers.engine.address import is_loopback
from async_triggers.engine.errors import (
    EngineError,
    TransientError,
    Unreachable,
)
from async_triggers.engine.wire import (
    Account,
    CredentialKind,
    Vendor,
)
from async_triggers.engine.wording import sentence
from async_triggers.provider_info import ui_field_behaviour

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection

    from async_triggers.deferral.finding import Finding, Identity, Startable
    from async_triggers.engine.accounts import LeasedAccount

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTION_TTL = 300.0
"""Seconds for which a connection that a trigger has read is not read again."""
REREAD_LONGEST = 20.0
"""Seconds for which a connection is looked up again after the account was refused."""
CONNECTION_PATIENCE = 300.0
"""Seconds for which a trigger does not believe that its connection cannot be looked up."""


@dataclass(slots=True)
class _Known:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    account: Account | None = None
    read_at: float = 0.0
    failures: int = 0
    """How many look-ups have failed."""
    failure: EngineError | None = None
    """Why the last of them has."""

    def fresh(self, now: float) -> Account | None:
        """Return the account unless it must be read again."""
        return self.account if now < self.read_at + CONNECTION_TTL else None


_connections: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[tuple[object, ...], _Known]
] = WeakKeyDictionary()


_warned_keys: set[tuple[str, str]] = set()
"""Which keys of which connections were warned of in this process."""
_warned_types: set[tuple[str, str, str]] = set()
"""Which connections of which types were warned of, and as whose they were used."""
_UNTYPED = frozenset({"", "generic"})
"""Types that say nothing, in lower case."""


class VendorHook(BaseHook):
    """Reads a connection, and leases the account that it describes.

    :param conn_id: the Airflow connection
    """

    vendor: ClassVar[Vendor]
    conn_type: ClassVar[str]
    is_always_https: ClassVar[bool] = False
    """Whether http in a connection is read as https, unless ``insecure_http`` is set."""
    extra_keys: ClassVar[frozenset[str]] = EXTRA_KEYS
    """What the extra of a connection may hold."""
    address: str = ""
    """The hash of where the API was found, where the connection may mean more than one."""
    startables: ClassVar[str] = "jobs"
    """What the vendor calls that which a task names to start a job."""
    is_quiet: bool = False
    """Whether what is to be said of the connection has been said before."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the class of each connection type its form.

        Airflow 3.1 calls only what a class defines itself, not for what it inherits.
        """
        super().__init_subclass__(**kwargs)
        for name in ("get_ui_field_behaviour", "get_connection_form_widgets"):
            if "conn_type" in vars(cls) and name not in vars(cls):
                setattr(cls, name, vars(VendorHook)[name])

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes two hooks that would read the same connection differently."""
        return (type(self), self.conn_id)

    @property
    def alias(self) -> str:
        """What metrics call the account: the name of the connection, and no secret."""
        return self.conn_id

    @abstractmethod
    def read(self, connection: AirflowConnection) -> Account:
        """Turn a connection into an account.

        Raise :class:`~async_triggers.engine.errors.AccountMisconfigured`, naming the field
        and the next step.
        """

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form of such connections differs from Airflow's plain one."""
        return ui_field_behaviour(cls.conn_type)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the form that ``extra`` keeps."""
        return form_widgets(cls.conn_type)

    # Getting at the account -----------------------------------------------------

    def look_up(self) -> AirflowConnection:
        """Return the Airflow connection (blocking)."""
        try:
            connection: AirflowConnection = self.get_connection(self.conn_id)
        except AirflowNotFoundException as error:
            argument = getattr(self, "conn_name_attr", "the connection's id")
            words = sentence(str(error))
            msg = f"{words} Add it to Airflow's connections, or correct {argument}"
        else:
            return connection

        raise AirflowNotFoundException(msg)

    def get_conn(self) -> Account:
        """Read the connection and return the account (blocking)."""
        return self.account()

    def first_account(self, recall: Callable[[], str | None]) -> Account:
        """Read the connection now (blocking), for a task on a worker.

        ``recall`` returns the hash of the address that has worked for an earlier run of
        the task, see :func:`.contact.address_of`.
        """
        return self.account()

    def account(self) -> Account:
        """Read the connection now (blocking; for workers and scripts).

        Raise :class:`~async_triggers.deferral.errors.ConnectionUnusable` when a field is
        missing or malformed, Airflow's own error when there is no such connection.
        """
        return self.account_of(self.look_up())

    def account_of(self, connection: AirflowConnection) -> Account:
        """Read a connection that was looked up; raise as :meth:`account` does."""
        try:
            store_maker()
            return self._read_warily(connection)
        except EngineError as error:
            failure = translate(error, self.conn_id, self.conn_type)

        raise failure

    async def known_account(self, *, patience: float | None = 0.0) -> Account:
        """Return the account from a trigger, reading the connection at most rarely.

        Airflow answers a trigger's look-ups one at a time, so a thousand triggers share
        one, and its failure. For ``patience`` seconds (at most, and if None,
        :data:`CONNECTION_PATIENCE`) it is looked up again after one that need not be final.
        Raise :class:`~async_triggers.engine.errors.Unreachable` when the
        connection could not be looked up: to Airflow "there is none" is the same as "the
        database is down".
        """
        loop = asyncio.get_running_loop()
        known = self._what_is_known()
        most = CONNECTION_PATIENCE if patience is None else patience
        ends = loop.time() + min(CONNECTION_PATIENCE, most)
        attempt = 0
        while True:
            account = known.fresh(loop.time())
            if account is not None:
                return account

            failures = known.failures
            # Not "async with", which is a coroutine more for each of thousands that wait.
            await known.lock.acquire()
            try:
                account = known.fresh(loop.time())
                if account is not None:
                    return account

                if known.failure is not None and known.failures > failures:
                    raise known.failure.again()

                return await self._read_again(known)
            except TransientError as error:
                attempt += 1
                if loop.time() >= ends:
                    raise

                if attempt == 1:
                    log.warning("%s Trying again", sentence(error.message))
            finally:
                known.lock.release()

            await asyncio.sleep(min(15.0, 2.0**attempt))

    async def reread_account(self) -> Account:
        """Read the connection again, even one just read: its credentials were rejected.

        Raise :class:`~async_triggers.engine.errors.Unreachable` where that takes longer
        than :data:`REREAD_LONGEST`: all who wait for the account wait for it meanwhile.
        """
        known = self._what_is_known()
        try:
            async with asyncio.timeout(REREAD_LONGEST), known.lock:
                return await self._read_again(known)
        except TimeoutError:
            msg = (
                f"The Airflow connection {self.conn_id!r} was not looked up within"
                f" {REREAD_LONGEST:.0f} s"
            )

        raise Unreachable(msg)

    def _what_is_known(self) -> _Known:
        of_loop = _connections.setdefault(asyncio.get_running_loop(), {})
        key = self.key
        known = of_loop.get(key)
        if known is None:
            known = of_loop[key] = _Known()

        return known

    async def _read_again(self, known: _Known) -> Account:
        try:
            account = await self._look_up()
        except EngineError as error:
            known.failures += 1
            known.failure = error.again()
            raise

        known.account = account
        known.read_at = asyncio.get_running_loop().time()
        return account

    async def _look_up(self) -> Account:
        try:
            # In a thread: the look-up is a blocking exchange with Airflow's supervisor,
            # and only this way of it works in triggers, in tasks and in dag.test().
            connection = await in_thread(self._get_ready)
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001
            # Airflow turns every failure into "not found"; none of them is final here.
            # What it says is not repeated: it may hold the database's address.
            msg = (
                f"The Airflow connection {self.conn_id!r} could not be looked up:"
                f" {type(error).__name__}"
            )
        else:
            return self._read_warily(connection)

        raise Unreachable(msg)

    def _get_ready(self) -> AirflowConnection:
        """Look the connection up, and load what talks to the vendor (blocking)."""
        import async_triggers.engine.accounts  # noqa: F401, PLC0415 - not on the loop

        store_maker()
        return self.look_up()

    def _read_warily(self, connection: AirflowConnection) -> Account:
        """Read a connection, and warn of what is not as it is meant to be."""
        account = self.read(connection)
        if self.is_quiet:
            return account

        self._warn_of_type(connection)
        self._warn_of_extra(connection)
        for doubt, cure in self.doubts_of_route(connection, account):
            log.warning("%s: %s", doubt, cure)

        return account

    def doubts_of_route(
        self, connection: AirflowConnection, account: Account
    ) -> list[tuple[str, str]]:
        """Return what is unsafe about the way to the account, and what to change."""
        if account.credentials.kind is CredentialKind.NONE:
            return []

        name = f"The connection {self.conn_id!r}"
        found = []
        is_encrypted = urlsplit(account.base_url).scheme == "https"
        if self.is_always_https and is_encrypted and _says_http(connection):
            cure = "set extra.insecure_http to true if credentials may go unencrypted"
            found.append((f"{name} says http, and https is used", cure))

        urls = (account.base_url, account.credentials.token_url)
        hosts = [
            parts.hostname
            for parts in map(urlsplit, urls)
            if parts.scheme == "http" and not is_loopback(parts.hostname)
        ]
        cure = "remove extra.insecure_http" if self.is_always_https else "use https"
        found += [
            (f"{name} sends its credentials to {host} unencrypted", cure)
            for host in dict.fromkeys(hosts)
        ]
        if not account.route.verify:
            cure = "name the certificate authority's file in extra.ca_bundle instead"
            found.append(
                (
                    f"{name} does not check TLS certificates",
                    name_fields(cure, self.conn_type),
                )
            )

        return found

    def doubt_of_type(self, connection: AirflowConnection) -> tuple[str, str] | None:
        """Return what is odd about the connection's type, and what to change, if anything.

        Airflow makes lower case of a type in a URI, and "_" of a "-".
        """
        given = str(connection.conn_type or "").strip()
        plain, expected = given.lower().replace("-", "_"), self.conn_type
        if plain in _UNTYPED or plain == expected.lower():
            return None

        doubt = (
            f"The connection {self.conn_id!r} has the type {given!r}, and"
            f" {self.vendor.name}'s have {expected!r}"
        )
        cure = (
            f"check that it is the right connection, and set its type to {expected!r}"
        )
        return doubt, cure

    def _warn_of_type(self, connection: AirflowConnection) -> None:
        """Warn of a connection that looks like another vendor's; once in a process."""
        odd = self.doubt_of_type(connection)
        key = (self.conn_id, str(connection.conn_type), self.vendor.name)
        if odd is not None and key not in _warned_types:
            _warned_types.add(key)
            log.warning("%s. It is used all the same: %s", *odd)

    def _warn_of_extra(self, connection: AirflowConnection) -> None:
        """Warn of keys that are never read; once in a process."""
        unknown = unknown_keys(read_extra(connection), self.extra_keys)
        for key, advice in unknown.items():
            if (self.conn_id, key) not in _warned_keys:
                _warned_keys.add((self.conn_id, key))
                log.warning("The extra of the connection %r: %s", self.conn_id, advice)

    def endpoint(self, account: Account) -> Endpoint:
        """Return whom the hook's connection leads to, in words for logs and errors."""
        return Endpoint(
            vendor=self.vendor.name,
            conn_id=self.conn_id,
            conn_type=self.conn_type,
            account=account,
        )

    def hold(self, account: Account) -> LeasedAccount:
        """Lease an account that was read before, until it is released."""
        # What speaks HTTP takes a tenth of a second to load. A task that only takes an
        # event in sends no request, and is a separate process.
        from async_triggers.engine.accounts import hold  # noqa: PLC0415

        return hold(
            self.vendor,
            account,
            connection=self.key,
            reload=self.reread_account,
            name=self.alias,
            observer=observer_of(has_gauges=True),
            make_store=store_maker(),
        )

    @asynccontextmanager
    async def lease(
        self, *, account: Account | None = None, linger: float | None = None
    ) -> AsyncIterator[LeasedAccount]:
        """Use the account for the length of the block.

        ``account`` is one that was read before; in a worker it must be given, since
        Airflow forbids blocking look-ups on a running loop there. ``linger`` is how many
        seconds its connections are kept afterwards.
        """
        if account is None:
            account = await self.known_account()

        from async_triggers.engine.accounts import LINGER, lease  # noqa: PLC0415 - as above

        async with lease(
            self.vendor,
            account,
            connection=self.key,
            reload=self.reread_account,
            linger=LINGER if linger is None else linger,
            name=self.alias,
            # What is closed with its last lease is a worker's, one of many.
            observer=observer_of(has_gauges=linger != 0),
            make_store=store_maker(),
        ) as leased:
            yield leased

    def run(
        self,
        call: Callable[[LeasedAccount], Awaitable[T]],
        *,
        account: Account | None = None,
    ) -> T:
        """Do ``call`` with the leased account and return its result (blocking).

        ``account`` is one that was read before.
        Works with and without a running event loop in this thread. The connections to
        the vendor are closed before it returns. An alarm of the main thread, such as that
        of ``execution_timeout``, ends the call, and what its handler raises is raised here.
        """
        leads_to = self.account() if account is None else account
        alarm = Alarm()

        async def leased_call() -> T:
            async with (
                alarm.timeout(),
                self.lease(account=leads_to, linger=0) as leased,
            ):
                return await call(leased)

        try:
            with alarm:
                try:
                    asyncio.get_running_loop()
                except RuntimeError:
                    return asyncio.run(leased_call())

                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    return pool.submit(asyncio.run, leased_call()).result()
        except EngineError as error:
            raise translate(error, self.conn_id, self.conn_type) from None

    async def run_async(self, call: Callable[[LeasedAccount], Awaitable[T]]) -> T:
        """Do ``call`` with the leased account from a running loop, such as a trigger's.

        The connections to the vendor are shared and kept for a while.
        """
        try:
            async with self.lease() as leased:
                return await call(leased)
        except EngineError as error:
            raise translate(error, self.conn_id, self.conn_type) from None

    def test_connection(self) -> tuple[bool, str]:
        """Request something small, for the Test button of the connection."""
        try:
            return True, self.run(self.check)
        except AsyncTriggersException as error:
            return False, words_of_failure(error)

    async def check(self, leased: LeasedAccount) -> str:
        """Request something small; return a sentence for the user."""
        return (await self.identify(leased)).text

    @abstractmethod
    async def identify(self, leased: LeasedAccount) -> Identity:
        """Request something small that shows who the vendor takes us for."""

    async def find_rights(self, leased: LeasedAccount) -> list[Finding]:
        """Return what the account may read, start and cancel, without starting a job."""
        return []

    async def list_startables(self, leased: LeasedAccount) -> list[Startable]:
        """Return what tasks can start with this account, see :attr:`startables`."""
        return []


def words_of_failure(error: AsyncTriggersException) -> str:
    """Return what a person reads of a call that failed, with what was requested."""
    words, cause = str(error), error.cause
    is_shown = cause is not None and words.endswith(cause.url)
    return words if is_shown else with_request(words, cause)


def _says_http(connection: AirflowConnection) -> bool:
    """Return True if a connection leads to an API without encryption."""
    host = (connection.host or "").strip().lower()
    scheme = (connection.schema or "").strip().lower()
    return host.startswith("http:") or (scheme == "http" and "://" not in host)


def wall_clock() -> float:
    """Return the time of the day in epoch seconds, for deadlines between processes."""
    return time.time()
